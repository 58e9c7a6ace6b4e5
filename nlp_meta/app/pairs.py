"""What learns while a person checks pairs of sentences: which translate each other, and how surely.

A pair stands out by its margin over other pairs of its sentences. How much a margin says is learned
from what a person accepts and rejects, and the encoder adapts to what was accepted.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nlp_meta.app.tables import SURE, read_sentences
from nlp_meta.data.answers import share_interval
from nlp_meta.data.cards import TRANSLATION
from nlp_meta.data.episodes import RETRIEVAL, join_units
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.backbone import plain_modes
from nlp_meta.encoders.similarity import (
    NEIGHBORS,
    SMALLEST,
    More,
    Overlap,
    embed_in_blocks,
    find_copies,
    mine_pairs,
    nearest,
)
from nlp_meta.errors import NlpMetaError
from nlp_meta.files.projects import (
    ACCEPTED,
    LABELED,
    LEAST_RANDOM,
    MODEL,
    OPEN,
    REJECTED,
    Project,
    Row,
)
from nlp_meta.hub.builtin_starts import BUILTIN, ENGLISH, PAIRS, choose_start
from nlp_meta.meta.inner_loop import InnerLoop, Weights, repeat
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.builders import build_retriever
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.retrieval import FEWEST_PAIRS, learn_matches
from nlp_meta.objectives.ngrams import fit_softmax, log_softmax
from nlp_meta.objectives.retrieval import Retrieval
from nlp_meta.progress import Ticker

_STANDS_OUT = 1.0
"""Margin of a pair that is no more alike than others of its sentences."""
_EVERY, _SUGGESTED, _AT_ONCE = 8, 20, 64
_STRENGTH = 10.0
"""Of the prior of how much a margin says."""
_PLAIN, _LAYERS = Adaptation(InnerLoop(6, 1e-3, "adam"), minibatch=16, early_stop=True), 2
"""How an encoder adapts that learned no start for pairs: held-out pairs stop it early."""

Array = NDArray[np.float64]


class PairLearner:
    """An encoder, the sentences of a project, and what the answers to pairs teach it."""

    curve_is_old = False

    def __init__(self, project: Project, *, start: MetaModel | str | None = None) -> None:
        """Take a project of pairs.

        Args:
            start: A name or a folder; of one that learned no pairs the encoder is taken. None
                takes that of a start in the box that suits the languages.
        """
        self.project, self._start = project, start
        self._sides: tuple[list[str], list[str]] = ([], [])
        self._vectors: tuple[Tensor, Tensor] | None = None
        self._alike: Overlap | None = None
        self._means: tuple[Tensor, ...] = ()
        self._overlap, self._learned, self._adapted, self._stuck = 0.0, -1, -1, -1
        self._told_at = 0.0

    @property
    def has_work(self) -> bool:
        """There is something to do, though nobody asks."""
        return self.project.changes not in (self._learned, self._stuck)

    def work(self) -> None:
        """Pair the sentences, or learn from the answers."""
        changes = self.project.changes
        try:
            accepted = [row for row in self.project.list_accepted() if not row.is_random]
            is_due = changes - max(self._adapted, 0) >= _EVERY
            units = join_units(take_examples(accepted), TRANSLATION)
            if self._vectors is None:
                self._pair(self.start.start_of(RETRIEVAL))
            elif is_due and len(units) >= FEWEST_PAIRS:
                self._adapt(accepted)
                self._adapted = changes
            self._judge(changes)
            self._learned = changes
        except NlpMetaError as error:
            self._stuck = changes
            self.project.write_fact("problem", str(error))

    @property
    def start(self) -> MetaModel:
        """The start, loaded when it is first needed."""
        if not isinstance(self._start, MetaModel):
            name = self._start or choose_pair_start(self._read_sides())
            self._start = MetaModel.from_pretrained(name)
            self.project.write_fact("start", name)
        if RETRIEVAL not in self._start.skills:
            self._start = begin_pairs(self._start)
        return self._start

    def _read_sides(self) -> tuple[list[str], list[str]]:
        """Different sentences of both sides."""
        if not self._sides[0]:
            rows = self.project.list_rows()
            left, right = [row.text for row in rows], [row.target or "" for row in rows]
            if not self.project.read_fact("setup")["fixed"]:
                names = self.project.read_fact("dropped")["paths"]
                left, right = (read_sentences(self.project.folder / name) for name in names)
            self._sides = list(dict.fromkeys(left)), list(dict.fromkeys(right))
        return self._sides

    def _embed(self, weights: Weights, texts: Sequence[str], tick: Ticker) -> Tensor:
        objective = self.start.objective_of(RETRIEVAL, Retrieval)
        stacked = repeat(weights, tasks=1)
        width = int(objective.backbone.config.hidden_size)
        return embed_in_blocks(
            lambda block: objective.embed(stacked, [block])[0],
            texts,
            width=width,
            at_once=_AT_ONCE,
            on_step=tick,
        )

    @plain_modes()
    def _pair(self, weights: Weights) -> None:
        """Embed both sides; of two texts find the pairs that stand out."""
        left, right = self._read_sides()
        tick = Ticker(self._tell_progress, total=len(left) + len(right))
        vectors = self._vectors = (
            self._embed(weights, left, tick),
            self._embed(weights, right, tick),
        )
        overlap, alike = self._overlap, Overlap.of(left, right) if self._overlap else None
        more: More | None = None
        if alike is not None:
            known = alike
            more = lambda rows, columns: overlap * known.cosines(rows, columns)  # noqa: E731
        self._alike = alike
        if not self.project.read_fact("setup")["fixed"]:
            never = {source: set(targets) for source, targets in find_copies(left, right).items()}
            decided = self.project.list_rows(LABELED)
            for source, target in zip(*self._places(decided), strict=True):
                never.setdefault(source, set()).add(target)
            taken = list(zip(*self._places(self.project.list_accepted()), strict=True))
            sources, targets = {source for source, _ in taken}, {target for _, target in taken}
            self.project.place_pairs(
                [
                    (left[source], right[target])
                    for source, target, margin in mine_pairs(*vectors, never=never, more=more)
                    if margin > _STANDS_OUT and source not in sources and target not in targets
                ]
            )
        near = nearest(*vectors, neighbors=NEIGHBORS, more=more)
        self._means = tuple(side.cosines.mean(1) for side in near)

    def _places(self, rows: Sequence[Row]) -> tuple[list[int], list[int]]:
        """Of the sentences of pairs, each on its side."""
        sources, targets = (
            {text: place for place, text in enumerate(side)} for side in self._read_sides()
        )
        return [sources[row.text] for row in rows], [targets[row.target or ""] for row in rows]

    def _measure(self, rows: Sequence[Row]) -> tuple[Array, Array]:
        """Cosines of pairs, and their margins."""
        sources, targets = self._places(rows)
        if self._vectors is None or not rows:
            return np.zeros(0), np.zeros(0)
        cosines = (self._vectors[0][sources] * self._vectors[1][targets]).sum(1)
        added = torch.zeros(len(rows))
        if self._alike is not None:
            parts = self._alike.sources[sources].multiply(self._alike.targets[targets])
            added = torch.from_numpy(np.asarray(parts.sum(1)).ravel())
        raised = cosines + self._overlap * added
        means = (self._means[0][sources] + self._means[1][targets]) / 2
        margins = raised / means.clamp(min=SMALLEST)
        return cosines.double().numpy(), margins.double().numpy()

    @plain_modes()
    def _adapt(self, accepted: Sequence[Row]) -> None:
        """Adapt to accepted pairs that do not judge, and pair the sentences anew."""
        adapted = learn_matches(
            self.start.objective_of(RETRIEVAL, Retrieval),
            self.start.start_of(RETRIEVAL),
            take_examples(accepted),
            how=self.start.adaptation[RETRIEVAL],
            companion="auto",
            seed=0,
        )
        self._overlap = adapted.judgement.share
        self._pair(adapted.weights)

    def _judge(self, changes: int) -> None:
        """Write how surely each pair is right, and how often those that are taken over are."""
        rows = self.project.list_rows()
        cosines, margins = self._measure(rows)
        is_accepted = np.array([row.label == ACCEPTED for row in rows], dtype=bool)
        # The encoder has learned accepted pairs that are not random: these say nothing.
        judging = [
            place
            for place, row in enumerate(rows)
            if row.state == LABELED and (row.is_random or self._adapted < 0)
        ]
        chances = fit_chances(margins, margins[judging], is_accepted[judging])
        ids = [str(row.id) for row in rows]
        odds = np.round(np.stack([chances, 1 - chances], 1), 4).tolist()
        answers = {"labels": [ACCEPTED, REJECTED], "answers": dict(zip(ids, odds, strict=True))}
        alike = dict(zip(ids, np.round(cosines, 3).tolist(), strict=True))
        self.project.write_fact("answers", {**answers, "alike": alike})
        is_open = [place for place, row in enumerate(rows) if row.state == OPEN]
        doubtful = sorted(is_open, key=lambda place: abs(chances[place] - 0.5))[:_SUGGESTED]
        self.project.write_fact("suggested", [rows[place].id for place in doubtful])
        judged = [place for place in judging if rows[place].is_random]
        right = []
        for place in judged:
            others = [other for other in judging if other != place]
            held_out = fit_chances(margins, margins[others], is_accepted[others])
            if held_out[place] >= SURE:
                right.append(bool(is_accepted[place]))
        taken = int(((chances >= SURE)[is_open]).sum() + is_accepted.sum())
        figures: dict[str, Any] = {"random": len(right), "changes": changes, "taken": taken}
        if len(right) >= LEAST_RANDOM:
            share = sum(right) / len(right)
            low, high = share_interval(share, len(right))
            figures |= {"accuracy": share, "low": low, "high": high}
        self.project.write_fact("figures", figures)
        if self.project.read_fact("problem"):
            self.project.write_fact("problem", None)

    def obey(self, _order: str) -> None:
        """Adapt to all accepted pairs, and save the model into the project's folder."""
        changes, rows = self.project.changes, self.project.list_accepted()
        try:
            languages = self.project.read_fact("setup")["languages"]
            adapted = self.start.adapt_to_pairs(
                [row.text for row in rows],
                [row.target or "" for row in rows],
                source_lang=languages[0],
                target_lang=languages[1],
            )
            adapted.save_pretrained(self.project.folder / MODEL)
            self.project.write_fact("saved", {"labels": len(rows), "changes": changes})
            self.project.write_fact("problem", None)
        except NlpMetaError as error:
            self.project.write_fact("problem", str(error))
        self.project.write_fact("saving", False)

    def draw_curve(self) -> None:
        """There is none: what is told of pairs needs no more labels than `_judge` has."""

    def _tell_progress(self, done: int, total: int) -> None:
        if done == total or time.monotonic() - self._told_at > 1:
            self._told_at = time.monotonic()
            self.project.write_fact("progress", {"seen": done, "of": total})


def fit_chances(margins: Array, judged: Array, is_right: NDArray[np.bool_]) -> Array:
    """How surely each pair is right, by its margin.

    Two made-up pairs stand beside those that were judged, a clear one and its opposite, so that
    there is an opinion before the first answer and never too sure a one.
    """
    if not len(margins):
        return margins
    center, scale = margins.mean(), max(float(margins.std()), 1e-6)
    rows = np.concatenate([(judged - center) / scale, [2.0, -2.0]])[:, None]
    targets = np.concatenate([~is_right, [False, True]]).astype(np.int64)
    fitted = fit_softmax(rows, targets, np.zeros((len(rows), 2)), strength=_STRENGTH)
    logits = ((margins - center) / scale)[:, None] @ fitted[:-1] + fitted[-1]
    chances: Array = np.exp(log_softmax(logits))[:, 0]
    return chances


def take_examples(rows: Sequence[Row]) -> list[Example]:
    """Pairs as they are learned from."""
    return [Example(row.text.strip(), (row.target or "").strip()) for row in rows]


def begin_pairs(start: MetaModel) -> MetaModel:
    """The encoder of a start that learned no pairs, as it was before."""
    settings = replace(start.encoder_settings, pooling="mean", lora_layers=_LAYERS)
    objective = build_retriever(settings)
    weights = objective.meta_parameters(torch.Generator().manual_seed(0))
    return MetaModel({RETRIEVAL: objective}, weights, settings, {RETRIEVAL: _PLAIN})


def choose_pair_start(sides: Sequence[Sequence[str]]) -> str:
    """The start of pairs, or where both sides are English the one of English."""
    names = {choose_start(side[:500]) for side in sides}
    return BUILTIN + ENGLISH if names == {BUILTIN + ENGLISH} else PAIRS
