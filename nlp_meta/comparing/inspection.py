"""What is doubtful about a labeled table: labels that may be wrong, and rows that stand out.

Labels are held against the answers of heads that have not seen them (`models/views.py`). All else
is counted: the same text with two labels, near duplicates, labels of few texts, texts that the
encoder cannot read, very short or long ones and those unlike all others.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.cells import STOP, LabelMap
from nlp_meta.data.duplicates import text_key
from nlp_meta.data.episodes import count_texts
from nlp_meta.data.inputs import Labels, Texts
from nlp_meta.data.labels import check_columns, match_labels
from nlp_meta.data.leaks import find_repeats
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.backbone import plain_modes
from nlp_meta.errors import DataError
from nlp_meta.hub.builtin_starts import choose_start
from nlp_meta.models.adaptation import FOLDS
from nlp_meta.models.classification import check_start, fit_start, see_texts
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.texts import check_labeled, share_unknown
from nlp_meta.models.views import (
    KNOWN_LABELS,
    MOST_EXAMPLES,
    NEW_LABELS,
    PARTS,
    Array,
    question_labels,
)
from nlp_meta.objectives.classification import Classification
from nlp_meta.objectives.ngrams import held_out_parts

WRONG, CONTRADICTION, DUPLICATE, RARE = (
    "likely wrong label",
    "contradiction",
    "near duplicate",
    "rare label",
)
UNKNOWN, LENGTH, FAR = "unknown script", "unusual length", "unlike all others"
FINDINGS = (WRONG, CONTRADICTION, DUPLICATE, RARE, UNKNOWN, LENGTH, FAR)
"""Kinds of findings, the gravest first."""
ALIKE = 0.7
"""Least share of character 5-grams that near duplicates have in common."""
UNREAD = 0.25
"""Least share of unknown tokens of a text that the encoder cannot read."""
APART = 3.5
"""What stands out is so many robust deviations from the median."""
_LEAST_SPREAD = 0.05
"""Of logarithms of lengths and of cosines: where most are equal, not every other stands out."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something doubtful about one row.

    Attributes:
        place: Of the row among those that were read, from 0.
        what: One of `FINDINGS`.
        detail: Why, in half a sentence.
        label: That the row has.
        suggestion: A label to put there, where there is one.
    """

    place: int
    what: str
    detail: str
    label: str
    suggestion: str | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is doubtful about a labeled table.

    Attributes:
        examples: Rows that were read.
        findings: The gravest kind first; likely wrong labels by how unlikely they are.
        chances: By row, how likely its label is the true one; 1 where no answer could be held
            against it.
        notes: What was taken for granted, a sentence each.
    """

    examples: int
    findings: tuple[Finding, ...]
    chances: tuple[float, ...]
    notes: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Findings by kind, those that none is of too."""
        counts = Counter(finding.what for finding in self.findings)
        return {what: counts[what] for what in FINDINGS}


@plain_modes()
def inspect_labels(
    texts: Texts,
    labels: Labels,
    *,
    start: MetaModel | str | None = None,
    label_map: LabelMap | None = None,
    drop_labels: Labels = (),
    empty: str = STOP,
    seed: int = 0,
) -> Inspection:
    """Look for what is doubtful about labeled texts, before anything learns from them.

    Args:
        texts, labels, label_map, drop_labels, empty: See `MetaModel.adapt`.
        start: Reads the texts, or its name; where it learned these labels, its own answers count
            too. None takes the one in the box that suits texts and labels.
        seed: Of the parts that are held out.

    Raises:
        DataError: Texts and labels differ in number, a text is empty, or there are too many.
        LabelError: Names are ambiguous, or assumed meanings clearly wrong.
        MetaModelError: The start did not learn classification.
    """
    texts, labels, notes = check_labeled(texts, labels, drop_labels=drop_labels, empty=empty)
    _check_few(texts)
    check_columns(texts, labels)
    start = choose_start(texts, labels, label_map) if start is None else start
    start = MetaModel.of(start, "start")
    objective = start.objective_of(CLASSIFICATION, Classification)
    weights, how = start.start_of(CLASSIFICATION), start.adaptation[CLASSIFICATION]
    match = match_labels(labels, objective.labels, label_map=label_map)
    notes += (*match.notes, *check_start(objective, weights, texts, match))
    trust = how.trust or (KNOWN_LABELS if match.shared else NEW_LABELS)
    how, settings = replace(how, trust=trust), start.encoder_settings
    objective, weights, _, how = fit_start(objective, weights, match, settings=settings, how=how)
    examples = [Example(t.strip(), label) for t, label in zip(texts, match.labels, strict=True)]
    sources = [example.source for example in examples]
    _, views = see_texts(objective, weights, sources, prior=start.companion)
    targets = np.array([objective.labels.index(label) for label in match.labels], dtype=np.int64)
    parts = held_out_parts(examples, folds=PARTS, seed=seed)
    shares = question_labels(how.trust or trust, views, targets, parts)
    findings = [
        *_find_wrong(shares, targets, objective.labels),
        *_find_repeated(sources, match.labels),
        *_find_rare(examples),
        *_find_unread(share_unknown(objective.backbone, sources), match.labels),
        *_find_unusual(sources, views.features, match.labels),
    ]
    findings.sort(key=lambda finding: FINDINGS.index(finding.what))
    chances = shares[np.arange(len(targets)), targets]
    return Inspection(len(texts), tuple(findings), tuple(chances.tolist()), notes)


def _check_few(texts: Sequence[str]) -> None:
    if len(texts) > MOST_EXAMPLES:
        raise DataError(
            f"cannot question the labels of {len(texts)} texts: each is compared with all others "
            f"and at most {MOST_EXAMPLES} are needed; give parts of `data`"
        )


def _find_wrong(
    shares: Array, targets: NDArray[np.int64], labels: Sequence[str]
) -> Iterator[Finding]:
    chances = shares[np.arange(len(targets)), targets]
    for place in np.argsort(chances, kind="stable").tolist():
        best = int(shares[place].argmax())
        if best != targets[place]:
            detail = (
                f"answers that have not seen it make it {chances[place]:.2f} likely, and "
                f"{labels[best]!r} {shares[place, best]:.2f}"
            )
            yield Finding(place, WRONG, detail, labels[targets[place]], labels[best])


def _find_repeated(texts: Sequence[str], labels: Sequence[str]) -> Iterator[Finding]:
    rows_of: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        rows_of.setdefault(text_key(text), []).append(place)
    for rows in rows_of.values():
        for place in rows:
            other = next((row for row in rows if labels[row] != labels[place]), None)
            if other is not None:
                detail = f"row {other + 1} has the same text and the label {labels[other]!r}"
                yield Finding(place, CONTRADICTION, detail, labels[place])
    for match in find_repeats(texts, threshold=ALIKE):
        left, right = match.left, match.right
        same = "the same" if labels[left] == labels[right] else f"the label {labels[right]!r}"
        detail = f"of row {right + 1}, {match.similarity:.2f} of all 5-grams; that has {same}"
        yield Finding(left, DUPLICATE, detail, labels[left])


def _find_rare(examples: Sequence[Example]) -> Iterator[Finding]:
    """Labels of fewer texts than there are folds, of which each should hold one."""
    counts = count_texts(examples)
    for place, example in enumerate(examples):
        if counts[example.target] < FOLDS:
            detail = f"{counts[example.target]} texts have it, {FOLDS} are needed to judge it"
            yield Finding(place, RARE, detail, example.target)


def _find_unread(shares: Iterable[float], labels: Sequence[str]) -> Iterator[Finding]:
    for place, share in enumerate(shares):
        if share >= UNREAD:
            detail = f"{share:.0%} of its tokens are unknown to the encoder"
            yield Finding(place, UNKNOWN, detail, labels[place])


def _find_unusual(
    texts: Sequence[str], features: Array, labels: Sequence[str]
) -> Iterator[Finding]:
    lengths = np.array([len(text) for text in texts], dtype=np.float64)
    for place in np.flatnonzero(np.abs(_stand_out(np.log(lengths))) > APART).tolist():
        detail = f"{lengths[place]:.0f} characters, where the median is {np.median(lengths):.0f}"
        yield Finding(place, LENGTH, detail, labels[place])
    directions = features - features.mean(0)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-9)
    likeness = directions @ directions.T
    np.fill_diagonal(likeness, -1)
    nearest = likeness.max(1)
    for place in np.flatnonzero(_stand_out(nearest) < -APART).tolist():
        detail = (
            f"the nearest text has a cosine of {nearest[place]:.2f} to it, where the median is "
            f"{np.median(nearest):.2f}"
        )
        yield Finding(place, FAR, detail, labels[place])


def _stand_out(values: Array) -> Array:
    """Deviations from the median, in a unit made of their own median.

    Source:
        Iglewicz and Hoaglin 1993, How to Detect and Handle Outliers, section 3.3.
    """
    away = values - np.median(values)
    spread = float(np.median(np.abs(away)))
    scores: Array = 0.6745 * away / max(spread, _LEAST_SPREAD)
    return scores
