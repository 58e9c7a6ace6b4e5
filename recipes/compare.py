"""Compare methods on the same support draws of the meta-test tasks.

Every choice is made on the meta-validation tasks or inside a support set; near-duplicates
of what was trained on are removed first. Finished cells are kept: run it again to go on.
The config says what methods compete in: labels, translations found, translations written.

accelerate launch recipes/compare.py --config recipes/configs/compare_reviews.yaml
accelerate launch recipes/compare.py --config recipes/configs/compare_retrieval.yaml
accelerate launch recipes/compare.py --config recipes/configs/compare_generation.yaml
ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 recipes/compare.py --config ...
"""

from pathlib import Path

from nlp_meta.comparing.bench import FORMS, AnyComparison, fitting_tasks, open_bench
from nlp_meta.comparing.run import run_comparison, save_comparison
from nlp_meta.data.leaks import check_leaks
from nlp_meta.progress import show_count
from nlp_meta.training.config import run_recipe
from nlp_meta.training.plan import load_splits
from nlp_meta.training.run import share_cells


def main(settings: AnyComparison) -> int:
    share = share_cells()
    train, validation, test = load_splits(
        settings.data, "meta-train", "meta-validation", "meta-test"
    )
    plan, seen = settings.comparison, (*train, *validation)
    test, leaks = check_leaks(
        seen,
        fitting_tasks(settings, test),
        overlap=plan.overlap,
        threshold=plan.overlap_threshold,
    )
    bench = open_bench(settings, train=train, validation=validation, test=test)
    folder = Path(settings.run.output_dir)
    with show_count("cell", enabled=share.rank == 0) as on_cell:
        ran = run_comparison(bench, test, folder=folder, share=share, on_cell=on_cell)
    if share.rank == 0:
        answer = save_comparison(ran, bench, test, leaks, folder=folder)
        print(answer)
        print(f"report: {folder / 'report.html'}")
    return 0


if __name__ == "__main__":
    run_recipe(main, FORMS)
