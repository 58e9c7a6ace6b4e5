"""Which start gives the better features: logistic regression on those of each, nothing adapted.

python recipes/probe_starts.py recipes/configs/compare_labels_english.yaml \
  --starts joint=runs/joint ridge=runs/ridge --output probe.json    # `frozen`: as pretrained
"""

import argparse
import json
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from nlp_meta.data.episodes import Queries, evaluation_episode
from nlp_meta.data.tasks import Task
from nlp_meta.encoders.batches import Row, split_by_task, stack_batches
from nlp_meta.encoders.lora import BIAS, WEIGHT
from nlp_meta.encoders.prefix import Embed
from nlp_meta.evaluation.answers import episode_scorer
from nlp_meta.files.outputs import write_file
from nlp_meta.meta.inner_loop import repeat
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.objectives.classification import Classification
from nlp_meta.rivals.linear_probe import linear_probe
from nlp_meta.settings import DataSettings
from nlp_meta.training.plan import load_splits

SEED, QUERIES, FOLDS, STRENGTHS = 7, 200, 4, (0.001, 0.01, 0.1, 1.0, 10.0)


def embedder(folder: str, *, frozen: bool) -> Embed:
    """Features of a start; `frozen` leaves its low-rank terms out."""
    model = MetaModel.from_pretrained(folder)
    objective = model.objective_of("classification", Classification)
    last = {objective.plan.head[-1] + suffix for suffix in (WEIGHT, BIAS)}
    kept = {n: v * 0 if frozen else v for n, v in model.weights.items() if n not in last}
    network, device = objective.network, objective.backbone.device
    features: dict[str, NDArray[np.float32]] = {}

    @torch.no_grad()
    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        new = [text for text in dict.fromkeys(texts) if text not in features]
        rows = [Row(states, 0, [True]) for states in network.encode(new)]
        if new:
            batches = stack_batches([rows], padding=network.padding, tokens=4096, device=device)
            parts = [objective.run(repeat(kept, tasks=1), batch).cpu() for batch in batches]
            features.update(zip(new, split_by_task(parts, batches)[0].numpy(), strict=True))
        return np.stack([features[text] for text in texts])

    return embed


def score(embed: Embed, task: Task, *, labels: int, draws: int) -> list[float]:
    learn = linear_probe(embed, regularization=STRENGTHS, folds=FOLDS, seed=0)
    metric, scores = episode_scorer("macro_f1"), []
    for draw in range(draws):
        e = evaluation_episode(task, labels_total=labels, seed=SEED, draw=draw, max_query=QUERIES)
        answers = learn(e.support_set)(Queries(tuple(row.source for row in e.query)))
        scores.append(metric(e, answers))
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="whose tasks are taken")
    parser.add_argument("--starts", nargs="+", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--meta-split", default="meta-test")
    parser.add_argument("--labels", nargs="+", type=int, default=[16, 100])
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True, help="gets the scores as JSON")
    options = parser.parse_args()
    data = yaml.safe_load(options.config.read_text(encoding="utf-8"))["data"]
    (tasks,) = load_splits(DataSettings(**data), options.meta_split)
    named = [start.split("=", 1) for start in options.starts]
    embeds = {"frozen": embedder(named[0][1], frozen=True)}
    embeds |= {name: embedder(folder, frozen=False) for name, folder in named}
    scores = {}
    for labels in options.labels:
        judge = partial(score, labels=labels, draws=options.draws)
        at = {name: {t.name: judge(embed, t) for t in tasks} for name, embed in embeds.items()}
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
