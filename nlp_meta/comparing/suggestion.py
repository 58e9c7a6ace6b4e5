"""Which texts to label next, and whether more labels would pay.

Texts are chosen by how the last linear layer would move if each got the label that the model now
gives it: far where the model is unsure, and in different directions for texts that differ. A share
of the texts is drawn at random, so that there are labels that say how good a model is.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray

from nlp_meta.data.answers import Prediction
from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.cells import LabelMap, is_empty
from nlp_meta.data.duplicates import first_places, text_key
from nlp_meta.data.episodes import split_folds
from nlp_meta.data.inputs import check_whole
from nlp_meta.data.labels import match_labels
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.backbone import plain_modes
from nlp_meta.encoders.heads import RIDGE
from nlp_meta.errors import DataError
from nlp_meta.evaluation.judged import Judged
from nlp_meta.evaluation.learning_curve import PAYS, gain_of_doubling, scores_of_answers
from nlp_meta.evaluation.statistics import Interval
from nlp_meta.models.classification import AdaptedModel, exact, fit_start
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.views import MOST_EXAMPLES, Views, answer_views, look_at
from nlp_meta.objectives.classification import Classification, to_predictions

Array = NDArray[np.float64]

RANDOM_SHARE = 0.1
"""Of the suggestions; at least one text."""
ALIKE = 0.98
"""Cosine of the centered features of two texts from which on they count as near-identical."""
SHARES = (0.4, 0.6, 0.8, 1.0)
"""Parts of a fold's training rows that the learning curve is fitted to."""
FOLDS, REPEATS, LEAST_PER_LABEL, RESAMPLES, LEVEL = 4, 5, 4, 1000, 0.95
VAGUE = 0.1
"""Width of an interval of a gain in accuracy that says nothing."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A text to label next.

    Attributes:
        place: Among the texts that were given, from 0.
        is_random: It was drawn whatever the model says of it.
        answer: What the model says now; None where it cannot answer without labels.
    """

    place: int
    is_random: bool
    answer: Prediction | None


@dataclass(frozen=True, slots=True)
class Worth:
    """What more labels would bring.

    Attributes:
        labels: How many there are.
        gain: In accuracy, of twice as many; None where it cannot be told.
        sentence: The same in words.
    """

    labels: int
    gain: Interval | None
    sentence: str


def suggest(
    model: AdaptedModel | MetaModel,
    texts: Sequence[str],
    *,
    number: int,
    labeled: Sequence[str] = (),
    seed: int = 0,
) -> list[Suggestion]:
    """Choose the texts to label next, the most telling first, the random ones last.

    Args:
        model: An adapted model, or a start where nothing is adapted yet.
        texts: To choose among; empty ones and those that were labeled are passed over.
        number: Of the texts; fewer come where fewer are different.
        labeled: Texts that have a label.

    Raises:
        DataError: No text is left to choose.
        SettingsError: `number` or `seed` is no such number.
    """
    if not isinstance(model, AdaptedModel):
        model = MetaModel.of(model, "model")
    number, seed = check_whole(number, "number", least=1), check_whole(seed, "seed")
    known = {text_key(text) for text in labeled}
    asked = [place for place, text in enumerate(texts) if not is_empty(text)]
    firsts = first_places([texts[place] for place in asked], key=text_key)
    free = [asked[place] for place in firsts if text_key(texts[asked[place]]) not in known]
    if not free:
        raise DataError(
            f"cannot suggest texts to label: of {len(texts)} texts all are empty or labeled "
            "already, and others are needed; add texts"
        )
    pool = [texts[place] for place in free]
    features, answers = _look(model, pool)
    odds = np.ones((len(pool), 1))
    if answers is not None:
        odds = np.array([list(answer.probabilities.values()) for answer in answers])
    generator = np.random.default_rng(seed)
    drawn = min(max(1, round(RANDOM_SHARE * number)), number) if number > 1 else 0
    chosen = choose(features, odds, number=number - drawn, generator=generator)
    random = draw_apart(features, chosen, number=drawn, generator=generator)
    return [
        Suggestion(free[place], place in random, None if answers is None else answers[place])
        for place in [*chosen, *random]
    ]


def choose(
    features: Array, odds: Array, *, number: int, generator: np.random.Generator
) -> list[int]:
    """Choose by k-means++ among the gradients of the last layer; never two that are alike.

    Args:
        features: `(texts, features)`.
        odds: Probabilities, `(texts, labels)`; one column of ones leaves variety alone.
        number: Fewer come where fewer are different.

    Returns:
        Places of texts.

    Source:
        Ash et al. 2020, arXiv:1906.03671, algorithm 1.
    """
    rows = _directions(features)
    moves = odds.copy()
    if odds.shape[1] > 1:
        moves[np.arange(len(odds)), odds.argmax(1)] -= 1
    sizes = (moves**2).sum(1)
    far, chosen = sizes.copy(), list[int]()
    open_ = np.ones(len(rows), dtype=bool)
    while len(chosen) < number and open_.any():
        weight = np.where(open_, np.maximum(far, 1e-12), 0)
        place = int(weight.argmax())
        if chosen:
            place = int(generator.choice(len(rows), p=weight / weight.sum()))
        chosen.append(place)
        cosine = rows @ rows[place]
        open_ &= cosine < ALIKE
        open_[place] = False
        distance = sizes + sizes[place] - 2 * (moves @ moves[place]) * cosine
        far = np.minimum(far, np.maximum(distance, 0)) if len(chosen) > 1 else distance.clip(0)
    return chosen


def draw_apart(
    features: Array, chosen: Sequence[int], *, number: int, generator: np.random.Generator
) -> list[int]:
    """Draw texts at random; never two that are alike, nor one that is like a chosen one.

    Returns:
        Places of texts; fewer come where fewer are different.
    """
    rows, drawn = _directions(features), list[int]()
    for place in generator.permutation(len(rows)).tolist():
        if len(drawn) == number:
            break
        taken = [*chosen, *drawn]
        if not len(taken) or ((rows[taken] @ rows[place]).max() < ALIKE and place not in taken):
            drawn.append(place)
    return drawn


def _directions(features: Array) -> Array:
    """Features less their mean, each of length 1."""
    rows: Array = features - features.mean(0)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return rows


@plain_modes()
def _look(
    model: AdaptedModel | MetaModel, texts: Sequence[str]
) -> tuple[Array, list[Prediction] | None]:
    """Features of the encoder, and answers where there are some."""
    if isinstance(model, AdaptedModel):
        objective, weights = model.objective, dict(model.weights)
    else:
        objective = model.objective_of(CLASSIFICATION, Classification)
        weights = model.start_of(CLASSIFICATION)
    knows = isinstance(model, AdaptedModel) or objective.head == "shared"
    with torch.no_grad():
        features = exact(objective).features(weights, [text.strip() for text in texts])
    return features.double().numpy(), model.predict(texts) if knows else None


@plain_modes()
def value_more(
    start: MetaModel,
    texts: Sequence[str],
    labels: Sequence[str],
    *,
    label_map: LabelMap | None = None,
    seed: int = 0,
) -> Worth:
    """Tell what twice as many labels would bring, from folds of those that there are.

    A head over views learns parts of the labels and answers the rows that it has not seen; a power
    law is fitted to its accuracy by the number of labels, over resamples of rows and folds.

    Args:
        start: One that adapts by a head over views; of others it cannot be told.
    """
    start = MetaModel.of(start, "start")
    how = start.adaptation[CLASSIFICATION]
    objective = start.objective_of(CLASSIFICATION, Classification)
    match = match_labels(labels, objective.labels, label_map=label_map)
    fewest = min(Counter(match.labels).values())
    reason = ""
    if how.trust is None or len(texts) > MOST_EXAMPLES:
        reason = "it takes inner steps, which `nlp-meta recommend` follows in minutes"
    elif fewest < LEAST_PER_LABEL:
        reason = f"{LEAST_PER_LABEL} of each label are needed and one has {fewest}"
    if reason:
        return Worth(len(texts), None, f"how many more would pay cannot be told: {reason}")
    objective, weights, _, how = fit_start(
        objective, start.start_of(CLASSIFICATION), match, settings=start.encoder_settings, how=how
    )
    plain = {n: v for n, v in weights.items() if not n.startswith(RIDGE)}
    rows = [text.strip() for text in texts]
    views = look_at(exact(objective), plain, rows, prior=start.companion)
    support = [Example(*pair) for pair in zip(rows, match.labels, strict=True)]
    judged = judge_sizes(how.trust or {}, views, support, objective.labels, seed=seed)
    scored = scores_of_answers(judged, "accuracy", resamples=RESAMPLES, seed=seed)
    gain = gain_of_doubling(scored, len(texts), level=LEVEL)
    return Worth(len(texts), gain, _describe_gain(len(texts), gain))


def judge_sizes(
    trust: Mapping[str, float],
    views: Views,
    support: Sequence[Example],
    labels: Sequence[str],
    *,
    seed: int,
) -> dict[int, list[Judged]]:
    """Answers to held-out rows by the mean number of labels that they were learned from.

    Smaller parts of a fold's rows are the beginnings of larger ones, which are in random order.
    """
    targets = np.array([labels.index(example.target) for example in support])
    truth = tuple(example.target for example in support)
    keys = tuple(map(str, range(len(support))))
    judged: dict[int, list[Judged]] = {}
    for share in SHARES:
        draws, sizes = [], []
        for repeat in range(REPEATS):
            generator = np.random.default_rng([seed, repeat])
            logits = torch.zeros(len(support), len(labels), dtype=torch.float64)
            for part in split_folds(support, folds=FOLDS, seed=seed + repeat):
                order = generator.permutation(np.setdiff1d(np.arange(len(support)), part))
                kept = order[: round(share * len(order))]
                logits[part] = answer_views(trust, views[kept], targets[kept], views[part])
                sizes.append(len(kept))
            answers = to_predictions(logits.log_softmax(-1), labels, labels)
            draws.append(Judged("labels", repeat, tuple(labels), keys, truth, tuple(answers)))
        judged[round(fmean(sizes))] = draws
    return judged


def _describe_gain(labels: int, gain: Interval) -> str:
    told = f"{2 * labels} labels are expected to add {gain.mean:+.3f} to the accuracy of {labels}"
    if gain.low <= PAYS and gain.high - gain.low > VAGUE:
        verdict = "whether more would pay cannot be told from so few"
    else:
        verdict = f"more {'should pay' if gain.low > PAYS else 'may not pay'}"
    return f"{verdict}: {told} [{gain.low:+.3f}, {gain.high:+.3f}]"
