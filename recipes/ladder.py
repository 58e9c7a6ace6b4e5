"""What learning the trust in the views brings, against ways that learn nothing from other tasks.

python recipes/ladder.py recipes/configs/compare_languages.yaml --start runs/joint \
  --meta-split meta-validation --labels 8 16 50 100 --draws 4 --output ladder.json
Rungs, on the same features and n-grams: numbers chosen by `folds` of each support set among a
grid, `random` ones, those learned where labels are `shuffled`, the package's `default`, and those
`learned` on other tasks, meta-validation and what the starts of `--left-out` were not trained on
(`recipes/learn_trust.py`). `adapt` takes inner steps and weighs its n-grams by folds. Macro-F1,
accuracy, calibration error; standard errors over tasks.
"""

import argparse
import json
from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import yaml
from measures.rungs import SEED, Scores, look, print_rungs, rungs, shuffle, walk

from nlp_meta.data.episodes import evaluation_episode
from nlp_meta.data.tasks import Task
from nlp_meta.evaluation.answers import episode_scorer
from nlp_meta.files.outputs import check_file, write_file
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.views import KNOWN_LABELS, NEW_LABELS
from nlp_meta.settings import DataSettings
from nlp_meta.training.plan import load_splits
from nlp_meta.training.trust import Pool, learn_trust, look_at_unseen

QUERIES, STEPS, METRICS = 200, 150, ("macro_f1", "accuracy", "ece")


def measure(
    model: MetaModel,
    tasks: Sequence[Task],
    pools: Sequence[tuple[str, Pool]],
    options: argparse.Namespace,
) -> Scores:
    """Scores by number of labels, rung, metric and task, averaged over draws."""
    scores: Scores = {str(labels): {} for labels in options.labels}

    @cache
    def learn(left_out: str | None) -> dict[str, dict[str, float]]:
        others = [pool for name, pool in pools if name != left_out]
        named = {"learned": others, "shuffled": [*map(shuffle, others)]}
        return {name: learn_trust(of, seed=0, steps=STEPS) for name, of in named.items()}

    for task in tasks:
        seen = any(name == task.name for name, _ in pools)
        trusts = {
            "default": KNOWN_LABELS if pools[0][1].knows else NEW_LABELS,
            **learn(task.name if seen else None),
        }
        episodes = [
            evaluation_episode(task, labels_total=n, seed=SEED, draw=draw, max_query=QUERIES)
            for n, draw in product(options.labels, range(options.draws))
        ]
        views, places = look(model, task, episodes)
        for e in episodes:
            targets = np.array([task.labels.index(x.target) for x in e.support], dtype=np.int64)
            answered = dict(rungs(views, places, e, targets, trusts))
            if e.index < options.walk and "folds" in answered:
                answered["adapt"] = walk(model, e)
            for (rung, answers), name in product(answered.items(), METRICS):
                at = scores[str(len(e.support))].setdefault(rung, {}).setdefault(name, {})
                at.setdefault(task.name, []).append(episode_scorer(name)(e, answers))
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="whose tasks are taken")
    parser.add_argument("--start", required=True, help="folder of a start")
    parser.add_argument("--left-out", nargs="*", default=[], help="starts that left tasks out")
    parser.add_argument("--meta-split", default="meta-validation")
    parser.add_argument("--labels", nargs="+", type=int, default=[0, 8, 16, 50, 100])
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--walk", type=int, default=0, help="draws of `adapt` by inner steps")
    parser.add_argument("--output", type=Path, required=True, help="gets the scores as JSON")
    options = parser.parse_args()
    check_file(options.output, argument="output")
    data = DataSettings(**yaml.safe_load(options.config.read_text(encoding="utf-8"))["data"])
    tasks, train, judges = load_splits(data, options.meta_split, "meta-train", "meta-validation")
    model = MetaModel.from_pretrained(options.start)
    pools = look_at_unseen(model, judges)
    for folder in options.left_out:
        pools += look_at_unseen(MetaModel.from_pretrained(folder), train)
    scores = measure(model, tasks, pools, options)
    print_rungs(scores)
    write_file(options.output, json.dumps(scores, indent=1) + "\n")


if __name__ == "__main__":
    main()
