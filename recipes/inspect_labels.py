"""Flip labels of support sets: how many are found, and what they cost with and without help.

python recipes/inspect_labels.py recipes/configs/compare_reviews.yaml --start runs/joint \
  --meta-split meta-validation --output inspect_reviews.json
Labels of a support set become others at random. `found`: the share of flipped labels among as many
rows as were flipped, the least likely first; `flagged`: rows that `nlp-meta inspect` calls likely
wrong; `right`: the share of flipped ones among these.
Scores: adapted to `clean` labels, to `flipped` ones, to these `mended` if flagged, and `robust` to
what answers that have not seen a label say where they clearly contradict it.
"""

import argparse
import json
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import yaml
from measures.rungs import SEED, look, split_views
from numpy.typing import NDArray

from nlp_meta.data.episodes import Episode, evaluation_episode
from nlp_meta.evaluation.answers import episode_scorer
from nlp_meta.files.outputs import check_file, write_file
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.views import KNOWN_LABELS, PARTS, Views, answer_views, question_labels
from nlp_meta.objectives.classification import to_predictions
from nlp_meta.objectives.ngrams import held_out_parts
from nlp_meta.settings import DataSettings
from nlp_meta.training.plan import load_splits

LABELS, QUERIES, DRAWS, SHARES = 100, 200, 4, (0.0, 0.1, 0.2)
NAMES = ("found", "flagged", "right", "clean", "flipped", "robust", "mended")
Measures = dict[str, float]
Places = NDArray[np.int64]


def flip(targets: Places, share: float, labels: int, seed: list[int]) -> Places:
    """Targets of which a share became another label."""
    generator = np.random.default_rng(seed)
    places = generator.permutation(len(targets))[: round(share * len(targets))]
    moved = targets.copy()
    moved[places] = (moved[places] + generator.integers(1, labels, len(places))) % labels
    return moved


def measure(e: Episode, support: Views, query: Views, given: Places, metric: str) -> Measures:
    """What is found among given labels, and scores of heads made of them."""
    true = np.array([e.labels.index(example.target) for example in e.support], dtype=np.int64)
    parts = held_out_parts(e.support, folds=PARTS, seed=0)
    shares = question_labels(KNOWN_LABELS, support, given, parts)
    flipped, flagged = given != true, shares.argmax(1) != given
    doubted = shares[np.arange(len(given)), given].argsort(kind="stable")[: flipped.sum()]
    chosen = {"found": flipped[doubted], "right": flipped[flagged]}
    measures = {name: float(rows.mean()) for name, rows in chosen.items() if len(rows)}
    measures["flagged"] = float(flagged.sum())
    mended = np.where(flipped & flagged, true, given)
    made_of = {"clean": true, "flipped": given, "robust": shares.argmax(1), "mended": mended}
    for name, targets in made_of.items():
        logits = answer_views(KNOWN_LABELS, support, targets, query)
        answers = to_predictions(logits.log_softmax(-1), e.labels, e.labels)
        measures[name] = episode_scorer(metric)(e, answers)
    return measures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="whose tasks and metric are taken")
    parser.add_argument("--start", required=True, help="folder of a start that learned the labels")
    parser.add_argument("--meta-split", default="meta-validation")
    parser.add_argument("--output", type=Path, required=True, help="gets all measures as JSON")
    options = parser.parse_args()
    check_file(options.output, argument="output")
    config = yaml.safe_load(options.config.read_text(encoding="utf-8"))
    (tasks,) = load_splits(DataSettings(**config["data"]), options.meta_split)
    model, metric = MetaModel.from_pretrained(options.start), config["comparison"]["metric"]
    record: dict[str, dict[str, list[Measures]]] = {str(share): {} for share in SHARES}
    for task in tasks:
        take = partial(evaluation_episode, task, labels_total=LABELS, max_query=QUERIES)
        episodes = [take(seed=SEED, draw=draw) for draw in range(DRAWS)]
        views, places = look(model, task, episodes)
        for episode, share in product(episodes, SHARES):
            support, query = split_views(views, places, episode)
            true = np.array([task.labels.index(x.target) for x in episode.support])
            given = flip(true, share, len(task.labels), [SEED, episode.index, round(100 * share)])
            at = record[str(share)].setdefault(task.name, [])
            at.append(measure(episode, support, query, given, metric))
    for (at_share, by_task), name in product(record.items(), NAMES):
        kept = [[m[name] for m in draws if name in m] for draws in by_task.values()]
        if len(means := [fmean(values) for values in kept if values]) > 1:
            error = stdev(means) / len(means) ** 0.5
            print(f"{at_share:>4} {name:8} {fmean(means):.3f}, se {error:.3f}")
    write_file(options.output, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
