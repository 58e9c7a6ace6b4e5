"""Train the starts that come with the package, score them, and put them in the box.

python recipes/build_starts.py --multilingual FOLDER    # a run below --runs is not repeated
Each is trained by `recipes/configs/start_....yaml`, on corpora whose licenses allow to pass it on.
It is scored once on tasks of other corpora, or held-out ones: ten draws of labels each, two of
pairs, three where labels are new, whose names count then. In `nlp_meta/starts` go the adapter, its
record, the heaviest n-grams, its card and these scores.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from shutil import copyfile
from statistics import fmean

import numpy as np
import yaml
from measures.rungs import score_by_default
from meta_train import main as train

from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.files.outputs import CARD, CARD_ENTRY, FILES, SEAL, write_file, write_folder
from nlp_meta.hub.builtin_starts import FOLDER, SCORES
from nlp_meta.hub.model_card import CardFacts, build_card
from nlp_meta.hub.pull import ADAPTER, ADAPTER_CONFIG, HEAD, RECORD
from nlp_meta.hub.storage import StoredCompanion, layout_of, save_companion
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.settings import DataSettings, MetaTraining
from nlp_meta.training.config import read_settings
from nlp_meta.training.plan import load_splits

CONFIGS = Path(__file__).parent / "configs"
STARTS = {
    "reviews-en": ("start_reviews_en", "compare_reviews", "accuracy", (0, 16, 50, 100)),
    "sentiment-multi": ("start_sentiment_multi", "compare_languages", "macro_f1", (0, 16, 50, 100)),
    "labels-multi": ("start_labels_multi", "compare_labels", "macro_f1", (0, 16)),
    "pairs-multi": ("start_pairs_multi", "compare_retrieval", "mrr", (0, 100)),
}
DRAWS, NEW_DRAWS, PAIR_DRAWS, COLUMNS = 10, 3, 2, 2**14
HUB = "intfloat/multilingual-e5-small"


def score(model: MetaModel, config: str, metric: str, sizes: Sequence[int]) -> dict[str, str]:
    """Means over the tasks of a config's meta-test."""
    data = yaml.safe_load((CONFIGS / f"{config}.yaml").read_text(encoding="utf-8"))["data"]
    (tasks,) = load_splits(DataSettings(**data), "meta-test")
    what, draws = ("labels", DRAWS) if CLASSIFICATION in model.skills else ("pairs", PAIR_DRAWS)
    draws = draws if model.labels or what == "pairs" else NEW_DRAWS
    scores = [score_by_default(model, t, metric=metric, sizes=sizes, draws=draws) for t in tasks]
    means = [f"{fmean(by_size[n] for by_size in scores):.3f} with {n}" for n in sizes]
    corpora = dict.fromkeys(task.name.partition("/")[0] for task in tasks)
    suite = f"{metric} on {len(tasks)} tasks of {', '.join(corpora)}"
    return {suite: f"{', '.join(means)} {what}"}


def pack(run: Path, folder: Path) -> None:
    """Write what users need of a run; its tokenizer is that of its encoder."""
    whole = json.loads((run / RECORD).read_text(encoding="utf-8"))
    record = {key: whole[key] for key in whole if key not in (FILES, SEAL, CARD_ENTRY)}
    config = json.loads((run / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    if not record["model"]["model_name_or_path"].startswith("builtin:"):
        record["model"] |= {"model_name_or_path": HUB, "revision": None}
        record["base"] = {"name": HUB, "revision": None, "sha256": ""}
        config["base_model_name_or_path"] = HUB
    prior = MetaModel.from_pretrained(run).companion
    with write_folder(folder, layout_of("start", record["skills"]), replace=True) as draft:
        for name in filter(lambda name: (run / name).exists(), (ADAPTER, HEAD)):
            copyfile(run / name, draft.path / name)
        (draft.path / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        if prior is not None:
            prior.weight[:, np.argsort(-np.abs(prior.weight).max(0))[COLUMNS:]] = 0
            save_companion(draft.path, StoredCompanion(prior))
        (draft.path / CARD).write_text(build_card(CardFacts(record, prior is not None)), "utf-8")
        draft.record = record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(STARTS)} (default: all)")
    parser.add_argument("--runs", type=Path, default=Path("runs/starts"))
    parser.add_argument("--multilingual", default=HUB, help="place of its encoder")
    options = parser.parse_args()
    for name in options.names or STARTS:
        config, suite, metric, sizes = STARTS[name]
        run, words = options.runs / name, ["--config", str(CONFIGS / f"{config}.yaml")]
        base = options.multilingual if name.endswith("-multi") else "builtin:minilm"
        words += ["--model.model_name_or_path", base, "--run.output_dir", str(run)]
        if not (run / RECORD).exists():
            train(read_settings(MetaTraining, words))
        pack(run, FOLDER / name)
        scores = score(MetaModel.from_pretrained(FOLDER / name, base=base), suite, metric, sizes)
        write_file(FOLDER / name / SCORES, json.dumps(scores, indent=1) + "\n", replace=True)


if __name__ == "__main__":
    main()
