"""Learn how far a start's views are to be trusted from more tasks than those of meta-validation.

python recipes/learn_trust.py recipes/configs/multitask_languages.yaml --start runs/joint \
  --left-out runs/without_a runs/without_b runs/without_c --output runs/joint_trusted
Tasks are those of meta-train and meta-validation that a start was not trained on, at most eight of
a corpus. Each start of `--left-out` was trained as the first one but for some meta-train tasks
(`--data.exclude`): these are as new to it as a user's domain is. The first start gets the numbers;
nothing else of it changes. Without `--start` it is the encoder as it is, mean-pooled, to which all
tasks are new. The numbers of `nlp_meta/models/views.py` were learned with `--anew`, those of
`nlp_meta/models/label_names.py` with `--names` too.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from measures.rungs import plain_start

from nlp_meta.files.outputs import check_folder
from nlp_meta.hub.records import START
from nlp_meta.hub.storage import layout_of
from nlp_meta.models.label_names import NAMED_LABELS
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.views import NEW_LABELS
from nlp_meta.settings import DataSettings, ModelSettings
from nlp_meta.training.plan import load_splits
from nlp_meta.training.trust import Pool, learn_trust, look_at_unseen

SPLITS = ("meta-train", "meta-validation")
SEED, STEPS, LONG, LIGHT, MOST = 0, 150, 300, 0.003, 8


def few_of_each(pools: Sequence[tuple[str, Pool]]) -> list[tuple[str, Pool]]:
    """At most `MOST` tasks of a corpus, drawn at random, so that none outweighs the others."""
    by_corpus: dict[str, list[tuple[str, Pool]]] = {}
    for name, pool in pools:
        by_corpus.setdefault(name.partition("/")[0], []).append((name, pool))
    draw = np.random.default_rng
    orders = [draw(SEED).permutation(len(of))[:MOST] for of in by_corpus.values()]
    return [of[i] for of, order in zip(by_corpus.values(), orders, strict=True) for i in order]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", type=Path, nargs="+", help="whose tasks and encoder are taken")
    parser.add_argument("--start", help="folder of the start")
    parser.add_argument("--left-out", nargs="*", default=[], help="starts that left tasks out")
    parser.add_argument(
        "--exclude", nargs="*", default=[], help="patterns of tasks that are left out"
    )
    parser.add_argument(
        "--anew", action="store_true", help="hold the numbers lightly to where they begin"
    )
    parser.add_argument(
        "--names", action="store_true", help="let names of labels answer; for no start at all"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the start with trust")
    options = parser.parse_args()
    check_folder(options.output, layout_of(START, ["classification"]), argument="output")
    configs = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in options.configs]
    splits = [load_splits(DataSettings(**c["data"]), *SPLITS) for c in configs]
    tasks = {task.name: task for of_config in splits for split in of_config for task in split}
    for pattern in options.exclude:
        tasks = {name: task for name, task in tasks.items() if not fnmatchcase(name, pattern)}
    if options.start is None:
        settings = {**configs[0]["model"], "pooling": "mean", "head": "ridge"}
        model = plain_start(ModelSettings(**settings))
    else:
        model = MetaModel.from_pretrained(options.start)
    new = look_at_unseen(model, list(tasks.values()), names=options.names)
    pools = few_of_each(new)
    for folder in options.left_out:
        rest = [task for name, task in tasks.items() if name not in dict(new)]
        left = look_at_unseen(MetaModel.from_pretrained(folder), rest)
        new, pools = new + left, pools + few_of_each(left)
    way: dict[str, Any] = {"stiffness": LIGHT, "steps": LONG} if options.anew else {"steps": STEPS}
    if options.start is None:
        way["begin"] = NAMED_LABELS if options.names else dict.fromkeys(NEW_LABELS, 0.0)
    trust = learn_trust([pool for _, pool in pools], seed=SEED, **way)
    print(f"learned from {len(pools)} tasks: {trust}")
    how = replace(model.adaptation["classification"], trust=trust)
    adaptation = {**model.adaptation, "classification": how}
    replace(model, adaptation=adaptation).save_pretrained(options.output)


if __name__ == "__main__":
    main()
