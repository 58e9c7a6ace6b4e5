"""Compare methods on the same support draws of the meta-test tasks.

Steps and rate of every method that has them are chosen by the same search on the
meta-validation tasks; the meta-test tasks are opened once, at the end.

python recipes/compare.py --config recipes/configs/compare_reviews.yaml
"""

import json
from dataclasses import asdict
from pathlib import Path

from nlp_meta.comparing import build_method
from nlp_meta.console import run_recipe
from nlp_meta.data.episodes import evaluation_episode
from nlp_meta.data.tasks import load_tasks
from nlp_meta.evaluation.protocol import Scores, evaluate, summarize
from nlp_meta.settings import Comparison
from nlp_meta.training import union_of_labels, validation_episodes

RESAMPLES = 2000


def main(settings: Comparison) -> int:
    data, plan = settings.data, settings.comparison
    validation, test = (
        load_tasks(
            data.cards,
            meta_split=meta_split,
            data_root=data.root,
            source=data.source,
            splits=data.splits,
            exclude=data.exclude,
        )
        for meta_split in ("meta-validation", "meta-test")
    )
    judged = validation_episodes(validation, settings.adaptation)
    labels = union_of_labels((*validation, *test))
    reserve = max(plan.labels)
    results: dict[str, object] = {"settings": asdict(settings), "methods": {}}
    scores: dict[int, list[Scores]] = {total: [] for total in plan.labels}
    facts: dict[str, object] = {}
    for name, text in plan.methods.items():
        method = build_method(text, settings, labels=labels, judged=judged)
        facts[name] = method.facts
        print(name, json.dumps(method.facts))
        for total in plan.labels:
            episodes = [
                evaluation_episode(
                    task,
                    labels_total=total,
                    seed=settings.run.seed,
                    draw=draw,
                    reserve=reserve,
                    max_query=plan.max_query,
                )
                for task in test
                for draw in range(plan.draws)
            ]
            scores[total].append(evaluate(method.predict, episodes, method=name))
    results["methods"] = facts
    results["cells"] = [
        {"method": each.method, **asdict(cell)}
        for total in plan.labels
        for each in scores[total]
        for cell in each.cells
    ]
    results["summary"] = {
        metric: {
            str(total): summarize(
                scores[total], metric=metric, over_tasks=False, resamples=RESAMPLES, seed=0
            )
            for total in plan.labels
        }
        for metric in ("accuracy", "macro_f1", "ece", "seconds")
    }
    folder = Path(settings.run.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, ensure_ascii=False)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")
    print(json.dumps(results["summary"], indent=1))
    return 0


if __name__ == "__main__":
    run_recipe(main, Comparison)
