"""Labels that `nlp-meta suggest` needs for the score of 100 random ones; a corpus plays labeler.

python recipes/suggest.py recipes/configs/compare_languages.yaml --start runs/joint_languages \
  --meta-split meta-test --output suggest.json
Rounds of 10, one of them random; each text is looked at once. Labels are counted to where the mean
curve over draws reaches the score of 100 random ones and stays; `random` is counted alike.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import yaml
from measures.rungs import look, split_views
from numpy.typing import NDArray

from nlp_meta.comparing.suggestion import choose
from nlp_meta.data.episodes import evaluation_episode
from nlp_meta.evaluation.answers import episode_scorer
from nlp_meta.files.outputs import check_file, write_file
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.views import KNOWN_LABELS, Views, answer_views
from nlp_meta.objectives.classification import to_predictions
from nlp_meta.settings import DataSettings
from nlp_meta.training.plan import load_splits

POOL, QUERIES, ROUND, MOST, DRAWS = 400, 200, 10, 100, 4
Odds = NDArray[np.float64]


def next_labels(way: str, views: Views, odds: Odds, generator: np.random.Generator) -> list[int]:
    """Places of a round: chosen ones, then random ones."""
    number = ROUND - 1 if way == "suggest" else 0
    chosen = choose(views.features, odds, number=number, generator=generator) if number else []
    rest = np.setdiff1d(np.arange(len(odds)), chosen)
    return [*chosen, *generator.permutation(rest)[: ROUND - len(chosen)].tolist()]


def labels_needed(scores: Sequence[float], target: float) -> float:
    """Labels from which on a curve stays at a score; as many as there are where it never does."""
    lasting = np.minimum.accumulate(np.asarray(scores)[::-1])[::-1]
    reached = np.flatnonzero(lasting >= target)
    if not len(reached) or not reached[0]:
        return ROUND * (1 if len(reached) else len(scores))
    last = reached[0] - 1
    return float(ROUND * np.interp(target, lasting[last : last + 2], [last + 1, last + 2]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="whose tasks are taken")
    parser.add_argument("--start", required=True, help="folder of a start")
    parser.add_argument("--meta-split", default="meta-validation")
    parser.add_argument("--output", type=Path, required=True, help="gets the scores as JSON")
    options = parser.parse_args()
    check_file(options.output, argument="output")
    config = yaml.safe_load(options.config.read_text(encoding="utf-8"))
    (tasks,) = load_splits(DataSettings(**config["data"]), options.meta_split)
    model, metric = MetaModel.from_pretrained(options.start), config["comparison"]["metric"]
    saved: dict[str, dict[str, float]] = {"random": {}, "suggest": {}}
    curves: dict[str, dict[str, list[float]]] = {}
    for task in tasks:
        # Without test rows a part of the train rows is asked.
        pool = min(POOL, len(task.train) if task.test else len(task.train) * 2 // 3)
        episode = evaluation_episode(task, labels_total=pool, seed=7, draw=0, max_query=QUERIES)
        seen, places = look(model, task, [episode])
        pool_views, query = split_views(seen, places, episode)
        targets = np.array([task.labels.index(e.target) for e in episode.support])
        by_way: dict[str, list[list[float]]] = {way: [] for way in saved}
        for way, draw in [(way, draw) for way in saved for draw in range(DRAWS)]:
            generator, known = np.random.default_rng(draw), list[int]()
            by_way[way].append([])
            while len(known) < min(MOST, len(targets)):
                free = np.setdiff1d(np.arange(len(targets)), known)
                rest = pool_views[free]
                logits = answer_views(KNOWN_LABELS, pool_views[known], targets[known], rest)
                odds = logits.softmax(-1).numpy()
                known += free[next_labels(way, rest, odds, generator)].tolist()
                logits = answer_views(KNOWN_LABELS, pool_views[known], targets[known], query)
                answers = to_predictions(logits.log_softmax(-1), episode.labels, task.labels)
                by_way[way][-1].append(episode_scorer(metric)(episode, answers))
        curves[task.name] = {way: np.mean(rows, 0).tolist() for way, rows in by_way.items()}
        for way, curve in curves[task.name].items():
            needed = labels_needed(curve, curves[task.name]["random"][-1])
            saved[way][task.name] = 1 - needed / (ROUND * len(curve))
        print(task.name, {way: round(saved[way][task.name], 3) for way in saved}, flush=True)
    for way, shares in ((way, list(by_task.values())) for way, by_task in saved.items()):
        print(f"{way}: {fmean(shares):.3f} saved, se {stdev(shares) / len(shares) ** 0.5:.3f}")
    write_file(options.output, json.dumps({"saved": saved, "curves": curves}, indent=1) + "\n")


if __name__ == "__main__":
    main()
