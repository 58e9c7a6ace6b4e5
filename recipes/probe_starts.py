"""Which start gives the better features: logistic regression on those of each, nothing adapted.

python recipes/probe_starts.py recipes/configs/compare_labels_english.yaml \
  --starts joint=runs/joint ridge=runs/ridge --output probe.json    # `frozen`: as pretrained
With `--adapt`: which start `nlp-meta adapt` makes the most of, from 0 labels on; several folders,
`NAME=FOLDER,FOLDER`, answer by the mean of their probabilities.
"""

import argparse
import json
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import yaml
from measures.rungs import answer_by_default, average, embedder

from nlp_meta.data.episodes import Episode, Queries, evaluation_episode
from nlp_meta.data.tasks import Task
from nlp_meta.encoders.prefix import Embed
from nlp_meta.evaluation.answers import episode_scorer
from nlp_meta.files.outputs import write_file
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.rivals.linear_probe import linear_probe
from nlp_meta.settings import DataSettings
from nlp_meta.training.plan import load_splits

SEED, QUERIES, FOLDS, STRENGTHS = 7, 200, 4, (0.001, 0.01, 0.1, 1.0, 10.0)


def draw_episodes(task: Task, *, labels: int, draws: int) -> list[Episode]:
    take = partial(evaluation_episode, task, labels_total=labels, seed=SEED, max_query=QUERIES)
    return [take(draw=draw) for draw in range(draws)]


def score(embed: Embed, task: Task, *, metric: str, labels: int, draws: int) -> list[float]:
    learn = linear_probe(embed, regularization=STRENGTHS, folds=FOLDS, seed=0)
    episodes = draw_episodes(task, labels=labels, draws=draws)
    answers = [learn(e.support_set)(Queries(tuple(x.source for x in e.query))) for e in episodes]
    return list(map(episode_scorer(metric), episodes, answers))


def adapt_score(
    models: Sequence[MetaModel], task: Task, *, metric: str, labels: int, draws: int
) -> list[float]:
    """The same by what `nlp-meta adapt` makes of starts, the mean of their probabilities."""
    episodes = draw_episodes(task, labels=labels, draws=draws)
    answers = zip(*(answer_by_default(model, task, episodes) for model in models), strict=True)
    return list(map(episode_scorer(metric), episodes, map(average, answers)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="whose tasks are taken")
    parser.add_argument("--starts", nargs="+", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--meta-split", default="meta-test")
    parser.add_argument("--labels", nargs="+", type=int, default=[16, 100])
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--metric", default="macro_f1")
    parser.add_argument("--adapt", action="store_true", help="judge what `adapt` makes of each")
    parser.add_argument("--output", type=Path, required=True, help="gets the scores as JSON")
    options = parser.parse_args()
    data = yaml.safe_load(options.config.read_text(encoding="utf-8"))["data"]
    (tasks,) = load_splits(DataSettings(**data), options.meta_split)
    named = [start.split("=", 1) for start in options.starts]
    if options.adapt:
        load = MetaModel.from_pretrained
        judges = {n: partial(adapt_score, [*map(load, f.split(","))]) for n, f in named}
    else:
        judges = {"frozen": partial(score, embedder(named[0][1], frozen=True))}
        judges |= {n: partial(score, embedder(folder, frozen=False)) for n, folder in named}
    scores = {}
    for labels in options.labels:
        take: Any = {"labels": labels, "draws": options.draws, "metric": options.metric}
        at = {name: {t.name: judge(t, **take) for t in tasks} for name, judge in judges.items()}
        scores[str(labels)] = at
        means = {name: {t: fmean(v) for t, v in of.items()} for name, of in at.items()}
        for name, of in means.items():
            print(f"{labels} labels, {name}: {fmean(of.values()):.3f}, {len(of)} tasks")
        for first, second in combinations(means, 2):
            gains = [means[second][task] - means[first][task] for task in means[first]]
            error, ahead = stdev(gains) / len(gains) ** 0.5, sum(gain > 0 for gain in gains)
            print(f"  {second} - {first}: {fmean(gains):+.3f}, se {error:.3f}, ahead on {ahead}")
    write_file(options.output, json.dumps(scores, indent=1) + "\n")


if __name__ == "__main__":
    main()
