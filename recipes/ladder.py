"""What learning the trust in the views brings, against ways that learn nothing from other tasks.

python recipes/ladder.py recipes/configs/compare_languages.yaml --start runs/joint \
  --meta-split meta-validation --labels 8 16 50 100 --draws 4 --output ladder.json
Rungs, on the same features and n-grams: numbers chosen by `folds` of each support set among a
grid, `random` ones, those learned where labels are `shuffled`, the package's `default`, and those
`learned` on other tasks: of meta-validation, on the others of it. `adapt` takes inner steps and
weighs its n-grams by folds. Macro-F1, accuracy, calibration error; standard errors over tasks.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import torch
import yaml

from nlp_meta.data.episodes import Episode, evaluation_episode, split_folds
from nlp_meta.data.tasks import Task
from nlp_meta.evaluation.answers import episode_scorer
from nlp_meta.files.outputs import write_file
from nlp_meta.meta.inner_loop import drop_step_sizes
from nlp_meta.models.classification import narrow_labels
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.views import DEFAULT_TRUST, answer_views, look_at
from nlp_meta.objectives.classification import Classification, to_predictions
from nlp_meta.settings import DataSettings
from nlp_meta.training.plan import load_splits
from nlp_meta.training.trust import learn_trust

SEED, QUERIES, METRICS = 7, 300, ("macro_f1", "accuracy", "ece")
GRID = [
    {**DEFAULT_TRUST, "encoder": e, "ngrams": n, "start": a, "prior": c}
    for e, n, a, c in product((-1, 1), (-4, 0, 2), (0, -1.2), (-1.2,))
]


def choose(views, targets, parts) -> Mapping[str, float]:
    """The numbers of the grid whose answers to held-out parts lose least."""

    def loss(numbers: Mapping[str, float]) -> float:
        total = 0.0
        for part in parts:
            kept = np.setdiff1d(np.arange(len(targets)), part)
            logits = answer_views(numbers, views[kept], targets[kept], views[part])
            truth = torch.from_numpy(targets[part])
            total += float(torch.nn.functional.cross_entropy(logits, truth, reduction="sum"))
        return total

    return min(GRID, key=loss)


def rungs(views, places, episode: Episode, targets, trusts: Mapping[str, Mapping[str, float]]):
    """Answers to an episode's queries, by rung; `places` are those of texts among the views."""
    support, query = (
        views[np.array([places[e.source] for e in part], dtype=np.int64)]
        for part in (episode.support, episode.query)
    )
    rng = np.random.default_rng([SEED, episode.index])
    numbers = {**trusts, "random": {n: v + rng.normal() for n, v in DEFAULT_TRUST.items()}}
    counts = [sum(targets == label) for label in np.unique(targets)]
    folds = min(4, min(counts, default=0))
    if folds > 1:
        parts = split_folds(episode.support, folds=folds, seed=0)
        numbers["folds"] = choose(support, targets, parts)
    for name, trust in numbers.items():
        logs = answer_views(trust, support, targets, query).log_softmax(-1)
        yield name, to_predictions(logs, episode.labels, episode.labels)


def walk(model: MetaModel, episode: Episode):
    """Answers of `adapt` by inner steps."""
    how = {"classification": replace(model.adaptation["classification"], trust=None)}
    texts, names = ([getattr(e, n) for e in episode.support] for n in ("source", "target"))
    adapted = replace(model, adaptation=how).adapt(texts, names)
    return adapted.predict([e.source for e in episode.query])


def look(model: MetaModel, task: Task, episodes):
    """Views of all texts of a task's episodes, and the place of each text."""
    objective = model.objective_of("classification", Classification)
    start = drop_step_sizes(model.start_of("classification"))
    shared = objective.head == "shared"
    narrowed, weights = narrow_labels(objective, start, task.labels, shared=shared)
    texts = list(dict.fromkeys(x.source for e in episodes for x in (*e.support, *e.query)))
    views = look_at(narrowed, weights, texts, prior=model.companion)
    order = [narrowed.labels.index(name) for name in task.labels]
    views = replace(views, start=views.start[:, order], prior=views.prior[:, order])
    return views, {text: place for place, text in enumerate(texts)}


def shuffle(task: Task) -> Task:
    """The same task with its labels dealt out anew."""
    order = np.random.default_rng(SEED).permutation(len(task.train))
    pairs = zip(task.train, order, strict=True)
    return replace(task, train=tuple(replace(e, target=task.train[p].target) for e, p in pairs))


def learn(model: MetaModel, tasks) -> Mapping[str, float]:
    objective = model.objective_of("classification", Classification)
    start = model.start_of("classification")
    return learn_trust(objective, start, tasks, prior=model.companion, seed=SEED)


def measure(model: MetaModel, tasks, judges, options: argparse.Namespace):
    """Scores by number of labels, rung, metric and task, averaged over draws."""
    scores: dict = {str(labels): {} for labels in options.labels}
    for task in tasks:
        others = [judge for judge in judges if judge.name != task.name]
        trusts = {"default": DEFAULT_TRUST, "learned": learn(model, others)}
        trusts["shuffled"] = learn(model, [shuffle(judge) for judge in others])
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
    for labels, by_rung in scores.items():
        for rung, by_metric in by_rung.items():
            means = {n: {t: fmean(v) for t, v in by.items()} for n, by in by_metric.items()}
            ours = {t: fmean(v) for t, v in by_rung["learned"]["macro_f1"].items()}
            gains = [ours[t] - value for t, value in means["macro_f1"].items()]
            error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
            shown = "  ".join(f"{n} {fmean(v.values()):.3f}" for n, v in means.items())
            less = f"learned less it {fmean(gains):+.3f}, se {error:.3f}"
            print(f"{labels:>4} {rung:9}{shown}  {less}", flush=True)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="whose tasks are taken")
    parser.add_argument("--start", required=True, help="folder of a start")
    parser.add_argument("--meta-split", default="meta-validation")
    parser.add_argument("--labels", nargs="+", type=int, default=[0, 8, 16, 50, 100])
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--walk", type=int, default=0, help="draws of `adapt` by inner steps")
    parser.add_argument("--output", type=Path, required=True, help="gets the scores as JSON")
    options = parser.parse_args()
    data = DataSettings(**yaml.safe_load(options.config.read_text(encoding="utf-8"))["data"])
    tasks, judges = load_splits(data, options.meta_split, "meta-validation")
    model = MetaModel.from_pretrained(options.start)
    scores = measure(model, tasks, judges, options)
    write_file(options.output, json.dumps(scores, indent=1) + "\n")


if __name__ == "__main__":
    main()
