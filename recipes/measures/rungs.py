"""Answers to one episode by every way of trusting the views of its texts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nlp_meta.data.answers import Answer, Prediction
from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.episodes import RETRIEVAL, Episode, evaluation_episode, split_folds
from nlp_meta.data.pairs import evaluation_pairs
from nlp_meta.data.tasks import Task
from nlp_meta.encoders.batches import Row, split_by_task, stack_batches
from nlp_meta.encoders.lora import BIAS, WEIGHT
from nlp_meta.encoders.prefix import Embed
from nlp_meta.evaluation.answers import episode_scorer
from nlp_meta.meta.inner_loop import InnerLoop, repeat
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.builders import build_classifier
from nlp_meta.models.classification import exact, narrow_labels
from nlp_meta.models.label_names import (
    NAMED_LABELS,
    answer_by_names,
    believe_names,
    gather_texts,
    name_head,
)
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.retrieval import learn_matches
from nlp_meta.models.views import NEW_LABELS, Views, answer_each, answer_views, look_at
from nlp_meta.objectives.classification import Classification, to_predictions
from nlp_meta.rivals.fine_tune import answer_by
from nlp_meta.settings import ModelSettings
from nlp_meta.training.trust import Pool

SEED, QUERIES = 7, 200
Scores = dict[str, dict[str, dict[str, dict[str, list[float]]]]]
"""By number of labels, rung, metric and task: a score for each draw."""
GRID = {"encoder": (-1, 0, 1), "ngrams": (-30, 0, 1), "start": (-0.8, 0, 0.8)}
"""What folds may add to the default numbers."""


def choose(
    base: Mapping[str, float],
    views: Views,
    targets: NDArray[np.int64],
    parts: Sequence[Sequence[int]],
) -> Mapping[str, float]:
    """The numbers of the grid whose answers to held-out parts lose least."""

    grid = [
        {**base, **{name: base[name] + more for name, more in zip(GRID, added, strict=True)}}
        for added in product(*GRID.values())
    ]
    losses = np.zeros(len(grid))
    for part in parts:
        kept = np.setdiff1d(np.arange(len(targets)), part)
        truth = torch.from_numpy(targets[part])
        each = answer_each(grid, views[kept], targets[kept], views[part])
        losses += [
            float(torch.nn.functional.cross_entropy(logits, truth, reduction="sum"))
            for logits in each
        ]
    return grid[int(losses.argmin())]


def plain_start(settings: ModelSettings) -> MetaModel:
    """An encoder as it is, with a head made from each support set."""
    objective = build_classifier(settings, labels=())
    weights = objective.meta_parameters(torch.Generator().manual_seed(0))
    how = Adaptation(InnerLoop(0, 1e-3, "adam"), None, early_stop=True)
    return MetaModel({CLASSIFICATION: objective}, weights, settings, {CLASSIFICATION: how})


def split_views(views: Views, places: Mapping[str, int], episode: Episode) -> list[Views]:
    """Those of an episode's support set, and of its queries."""
    parts = (episode.support, episode.query)
    return [views[np.array([places[e.source] for e in part], dtype=np.int64)] for part in parts]


def answer_by_default(
    model: MetaModel, task: Task, episodes: Sequence[Episode]
) -> Iterator[Sequence[Prediction]]:
    """Answers of `adapt` to the queries of each episode, from one look at the task's texts."""
    views, places = look(model, task, episodes)
    trust = model.adaptation["classification"].trust or {}
    for episode in episodes:
        support, query = split_views(views, places, episode)
        targets = [task.labels.index(example.target) for example in episode.support]
        if model.labels:
            logits = answer_views(trust, support, np.array(targets, dtype=np.int64), query)
        else:
            by_way = dict(name_rungs(model, task, episode, (support, query)))
            logits = by_way["named" if targets else "names"]
        yield to_predictions(logits.log_softmax(-1), episode.labels, episode.labels)


def average(answers: Sequence[Sequence[Prediction]]) -> list[Prediction]:
    """The mean of what several models answer to the same texts."""
    means = [
        {
            label: fmean(p.probabilities[label] for p in of_text)
            for label in of_text[0].probabilities
        }
        for of_text in zip(*answers, strict=True)
    ]
    return [Prediction(max(mean, key=lambda label: mean[label]), mean) for mean in means]


def answer_pairs(
    model: MetaModel, _: Task, episodes: Sequence[Episode]
) -> Iterator[Sequence[Answer]]:
    """The same of translations found."""
    objective: Any = model.objectives[RETRIEVAL]
    start, how = model.start_of(RETRIEVAL), model.adaptation[RETRIEVAL]
    for e in episodes:
        ready, weights = objective, start
        if e.support:
            learned = learn_matches(
                objective, start, e.support, how=how, companion="auto", seed=SEED
            )
            ready = replace(objective, overlap=learned.judgement.share)
            weights = learned.weights
        yield answer_by(ready, weights, e.support_set)(e.queries)


def score_by_default(
    model: MetaModel, task: Task, *, metric: str, sizes: Sequence[int], draws: int
) -> dict[int, float]:
    """By number of labels, or of sentence pairs, what `adapt` scores on average."""
    finds, take = RETRIEVAL in model.skills, dict[str, Any](seed=SEED, max_query=QUERIES)
    episodes = [
        evaluation_pairs(task, pairs=size, draw=draw, candidates=QUERIES, **take)
        if finds
        else evaluation_episode(task, labels_total=size, draw=draw, **take)
        for size, draw in product(sizes, range(draws))
    ]
    answer: Any = answer_pairs if finds else answer_by_default
    scores: dict[int, list[float]] = {size: [] for size in sizes}
    for e, given in zip(episodes, answer(model, task, episodes), strict=True):
        scores[len(e.support)].append(episode_scorer(metric)(e, given))
    return {size: fmean(values) for size, values in scores.items()}


def rungs(
    views: Views,
    places: Mapping[str, int],
    episode: Episode,
    targets: NDArray[np.int64],
    trusts: Mapping[str, Mapping[str, float]],
) -> Iterator[tuple[str, Sequence[Prediction]]]:
    """Answers to an episode's queries, by rung; `places` are those of texts among the views."""
    support, query = split_views(views, places, episode)
    rng = np.random.default_rng([SEED, episode.index])
    numbers = {**trusts, "random": {n: v + rng.normal() for n, v in trusts["default"].items()}}
    counts = [sum(targets == label) for label in np.unique(targets)]
    folds = min(4, min(counts, default=0))
    if folds > 1:
        parts = split_folds(episode.support, folds=folds, seed=0)
        numbers["folds"] = choose(trusts["default"], support, targets, parts)
    each = answer_each(numbers.values(), support, targets, query)
    for name, logits in zip(numbers, each, strict=True):
        yield name, to_predictions(logits.log_softmax(-1), episode.labels, episode.labels)


def walk(model: MetaModel, episode: Episode) -> Sequence[Prediction]:
    """Answers of `adapt` by inner steps."""
    how = {"classification": replace(model.adaptation["classification"], trust=None)}
    texts, names = ([getattr(e, n) for e in episode.support] for n in ("source", "target"))
    adapted = replace(model, adaptation=how).adapt(texts, names)
    return adapted.predict([e.source for e in episode.query])


def look(model: MetaModel, task: Task, episodes: Sequence[Episode]) -> tuple[Views, dict[str, int]]:
    """Views of all texts of a task's episodes, and the place of each text."""
    objective = model.objective_of("classification", Classification)
    start = model.start_of("classification")
    shared = objective.head == "shared"
    narrowed, weights = narrow_labels(objective, start, task.labels, shared=shared)
    texts = list(dict.fromkeys(x.source for e in episodes for x in (*e.support, *e.query)))
    views = look_at(narrowed, weights, texts, prior=model.companion)
    order = [narrowed.labels.index(name) for name in task.labels]
    views = replace(views, start=views.start[:, order], prior=views.prior[:, order])
    return views, {text: place for place, text in enumerate(texts)}


def name_rungs(
    model: MetaModel, task: Task, episode: Episode, views: Sequence[Views]
) -> Iterator[tuple[str, Tensor]]:
    """Logits of the queries, `(queries, labels)`, by each way of `recipes/label_names.py`."""
    support, query = views
    generator, width = np.random.default_rng([SEED, episode.index]), len(task.labels)
    targets = np.array([task.labels.index(e.target) for e in episode.support], dtype=np.int64)
    plain, weights = narrow_labels(
        model.objective_of("classification", Classification),
        model.start_of("classification"),
        task.labels,
        shared=False,
    )
    seen = support.features if len(targets) else query.features
    weights = {name: value for name, value in weights.items() if not name.startswith("ridge.")}
    head = name_head(replace(exact(plain), labels=task.labels), weights, seen, {})
    if not len(targets):
        for name, made in {"names": gather_texts(head, seen), "names_alone": head}.items():
            weight, bias = (part.double() for part in answer_by_names(made))
            yield name, torch.from_numpy(query.features) @ weight.T + bias
        yield "chance", torch.from_numpy(generator.random((len(query.features), width)))
        often = np.bincount([task.labels.index(e.target) for e in task.train], minlength=width)
        yield "majority", torch.from_numpy(often).double().expand(len(query.features), width)
        return
    yield "adapt", answer_views(NEW_LABELS, support, targets, query)
    order = np.roll(np.arange(width), 1)
    for name, (weight, bias) in {"named": head, "mixed_up": tuple(p[order] for p in head)}.items():
        believed = believe_names(support, (weight, bias), targets)
        logits = torch.from_numpy(query.features) @ weight.T + bias
        told = replace(query, start=(logits - logits.mean(1, keepdim=True)).numpy())
        if believed is None:
            yield name, answer_views(NEW_LABELS, support, targets, query)
        else:
            yield name, answer_views(NAMED_LABELS, believed, targets, told)


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


def shuffle(pool: Pool) -> Pool:
    """The same with its labels dealt out anew."""
    return replace(pool, targets=np.random.default_rng(SEED).permutation(pool.targets))


def print_rungs(scores: Scores) -> None:
    """Print the mean of each rung over tasks, and what the learned numbers have over it."""
    for labels, by_rung in scores.items():
        for rung, by_metric in by_rung.items():
            means = {n: {t: fmean(v) for t, v in by.items()} for n, by in by_metric.items()}
            ours = {t: fmean(v) for t, v in by_rung["learned"]["macro_f1"].items()}
            gains = [ours[t] - value for t, value in means["macro_f1"].items()]
            error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
            shown = "  ".join(f"{n} {fmean(v.values()):.3f}" for n, v in means.items())
            less = f"learned less it {fmean(gains):+.3f}, se {error:.3f}"
            print(f"{labels:>4} {rung:9}{shown}  {less}", flush=True)
