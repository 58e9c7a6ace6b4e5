"""What learns while a person labels: a process of its own, so that the page never waits for it.

It reads the project's labels and writes what comes out into the same file. Each text goes through
the encoder once; learning from some labels is then a matter of milliseconds.
"""

import importlib.util
import os
import queue
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import vstack

from nlp_meta.app.pairs import PairLearner
from nlp_meta.comparing.explanation import Explanation, explain
from nlp_meta.comparing.suggestion import LEAST_PER_LABEL, LEVEL, RESAMPLES, choose, judge_sizes
from nlp_meta.data.answers import share_interval
from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.duplicates import first_places, text_key
from nlp_meta.data.labels import match_labels
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.backbone import plain_modes
from nlp_meta.errors import NlpMetaError, need_packages
from nlp_meta.evaluation.judged import Judged
from nlp_meta.evaluation.learning_curve import curve_of, gain_of, scores_of_answers
from nlp_meta.files.projects import LABELED, LEAST_RANDOM, MODEL, OPEN, Project, Row
from nlp_meta.hub.builtin_starts import choose_start
from nlp_meta.models.adaptation import FOLDS
from nlp_meta.models.classification import AdaptedModel, exact, fit_start, see_texts
from nlp_meta.models.label_names import NAMED_LABELS, answer_names, begin_at_names
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.views import (
    KNOWN_LABELS,
    MOST_EXAMPLES,
    NEW_LABELS,
    Views,
    answer_views,
    make_head,
    question_labels,
)
from nlp_meta.objectives.classification import Classification
from nlp_meta.objectives.ngrams import count_ngrams, held_out_parts
from nlp_meta.progress import quiet_libraries

MORE = 20
"""Labels more, whose gain is told."""
EXPORTED = "exported"
"""Folder of a project with files of its model that run without this package."""
SAVE, EXPORT, WHY, WORK, END = "save", "export", "why", "work", "end"
_EVERY = 5
"""Labels after which it learns anew while it still sees texts."""
_AT_ONCE, _THREADS, _SUGGESTED, _POOL = 64, 2, 20, 4000
_DOUBTS, _WORDS, _COMPARED = 12, 8, 50
_DECIDING, _LEAST_SHARE = 8, 0.2
"""Words that are marked in a text, and how much of the strongest one's weight they have."""
_SMALL = 150_000_000
"""Parameters of an encoder whose part of an answer is told while a person waits."""
_PAUSE = 1.5
"""Seconds without a label after which the learning curve is drawn."""
_WORD = re.compile(r"[^\W\d_]{2,}")

Targets = NDArray[np.int64]


class Learner:
    """A start, what it has seen of a project's texts, and what the labels teach it."""

    def __init__(self, project: Project, *, start: MetaModel | str | None = None) -> None:
        """Take a project.

        Args:
            start: A name or a folder; None takes the one in the box that suits the language.
        """
        self.project = project
        self._start = start
        self._labels: list[str] = []
        self._seen: list[int] = []
        self._parts: list[Views] = []
        self._unseen: list[int] = []
        self._learned, self._learned_of, self._drawn, self._stuck = 0, 0, -1, -1
        self._told_at = 0.0
        self._adapted: tuple[int, AdaptedModel] | None = None

    @property
    def has_work(self) -> bool:
        """There is something to do, though nobody asks."""
        if not self.project.labels or self._stuck == self.project.changes:
            return False
        return bool(self._unseen) or not self._seen or self._should_learn()

    def work(self) -> None:
        """Do one thing: learn from the labels, or look at some texts more."""
        try:
            self._work()
        except NlpMetaError as error:
            self._stuck = self.project.changes
            self.project.write_fact("problem", str(error))

    def _work(self) -> None:
        if not self.project.labels:
            return
        if self.project.labels != self._labels:
            self._prepare()
        if self._should_learn():
            self.learn()
        elif self._unseen:
            self.see(self._unseen[:_AT_ONCE])
            self._tell_progress()

    def _should_learn(self) -> bool:
        counts = self.project.count_labels()
        if sum(count > 1 for count in counts.values()) < 2:
            return False
        new = self.project.changes - self._learned
        if self._unseen and self._learned:
            return new >= _EVERY
        return new > 0 or self._learned_of < len(self._seen) or not self._learned

    @property
    def start(self) -> MetaModel:
        """The start, loaded when it is first needed."""
        if not isinstance(self._start, MetaModel):
            texts = [row.text for row in self.project.list_rows()[:500]]
            name = self._start or choose_start(texts, self.project.labels)
            self._start = MetaModel.from_pretrained(name)
            self.project.write_fact("start", name)
        how = self._start.adaptation[CLASSIFICATION]
        if how.trust is None:  # it would take steps, and a person would wait for them
            shared = self._start.objective_of(CLASSIFICATION, Classification).head == "shared"
            how = replace(how, trust=KNOWN_LABELS if shared else NEW_LABELS)
            self._start = replace(self._start, adaptation={CLASSIFICATION: how})
        return self._start

    def _prepare(self) -> None:
        """Fit the start to the names of the labels; texts are then seen anew."""
        self._labels = self.project.labels
        start = self.start
        objective = start.objective_of(CLASSIFICATION, Classification)
        match = match_labels(self._labels, objective.labels, label_map=None)
        objective, self._weights, _, how = fit_start(
            objective,
            start.start_of(CLASSIFICATION),
            match,
            settings=start.encoder_settings,
            how=start.adaptation[CLASSIFICATION],
        )
        self._objective, self._start_trust = exact(objective), how.trust or NEW_LABELS
        self._names = match.spellings
        self._seen, self._parts, self._unseen = [], [], self.project.list_turns()
        self._learned = 0

    @plain_modes()
    def see(self, rows: Sequence[int]) -> None:
        """Look at texts by the start and by n-grams."""
        texts = {row.id: row.text.strip() for row in self.project.find_rows(rows)}
        # Two threads that share no product wait for each other nowhere, whatever else runs.
        each = -(-len(texts) // _THREADS)
        shares = [list(texts.values())[at : at + each] for at in range(0, len(texts), each)]
        with ThreadPoolExecutor(_THREADS) as pool:
            self._parts += pool.map(self._see, shares)
        self._seen += texts
        self._unseen = [row for row in self._unseen if row not in texts]

    @plain_modes()
    def _see(self, texts: Sequence[str]) -> Views:
        prior = self.start.companion
        return see_texts(self._objective, self._weights, list(texts), prior=prior)[1]

    @plain_modes()
    def learn(self) -> None:
        """Learn from the labels, answer all texts that were seen, and write how good it is."""
        changes = self.project.changes
        if self.project.labels != self._labels:
            self._prepare()
        rows = self.labeled_rows()
        new = [row.id for row in rows if row.id in set(self._unseen)]
        if new:
            self.see(new)
        labels, views, support, targets = self._take(rows)
        logits = answer_views(self._trust, support, targets, views)
        odds = logits.softmax(-1).numpy()
        names = [self._written(label) for label in labels]
        answers = {
            row: np.round(odd, 4).tolist() for row, odd in zip(self._seen, odds, strict=True)
        }
        self.project.write_fact("answers", {"labels": names, "answers": answers})
        self._suggest(views, odds)
        figures = self._judge(rows, labels, support, targets)
        figures |= {"words": self._find_words(rows, labels, support, targets)}
        self.project.write_fact("figures", {"labels": len(rows), "changes": changes, **figures})
        if self.project.read_fact("problem"):
            self.project.write_fact("problem", None)
        self._learned, self._learned_of = changes, len(self._seen)
        self._tell_progress(at_once=True)

    def labeled_rows(self) -> list[Row]:
        """What is learned from: no more than a head over views compares with each other."""
        rows = self.project.list_rows(LABELED)
        turns = {row: place for place, row in enumerate(self.project.list_turns())}
        return sorted(rows, key=lambda row: turns[row.id])[:MOST_EXAMPLES]

    def _take(self, rows: Sequence[Row]) -> tuple[list[str], Views, Views, Targets]:
        """Labels that have examples, views of all texts by these, and the support set.

        What they are called answers as well, where the start says nothing of them.
        """
        self._parts = [_join(self._parts)]
        given = {self._names[row.label or ""] for row in rows}
        used = [place for place, label in enumerate(self._objective.labels) if label in given]
        labels = [self._objective.labels[place] for place in used]
        logits = [part[:, used] for part in (self._parts[0].start, self._parts[0].prior)]
        start, prior = (part - part.mean(1, keepdims=True) for part in logits)
        views = replace(self._parts[0], start=start, prior=prior)
        places = {row: place for place, row in enumerate(self._seen)}
        targets = np.array([labels.index(self._names[row.label or ""]) for row in rows])
        support = views[[places[row.id] for row in rows]]
        fitted = replace(self._objective, labels=tuple(labels))
        self._trust, self._head = self._start_trust, None
        if named := begin_at_names(fitted, self._weights, support, targets, {}):
            self._trust, (support, self._head) = NAMED_LABELS, named
            views = answer_names(views, self._head)
        elif len(labels) == len(self._objective.labels):
            self._head = self._objective.own_head(self._weights)
        return labels, views, support, targets

    def _written(self, label: str) -> str:
        return next(written for written in self._labels if self._names[written] == label)

    def _suggest(self, views: Views, odds: NDArray[np.float64]) -> None:
        """Order what is open by what it would teach."""
        is_open = {row.id for row in self.project.list_rows(OPEN)}
        pool = [place for place, row in enumerate(self._seen) if row in is_open][:_POOL]
        if not pool:
            return
        generator = np.random.default_rng(len(self._seen))
        features = views.features[pool]
        chosen = choose(features, odds[pool], number=_SUGGESTED, generator=generator)
        self.project.write_fact("suggested", [self._seen[pool[place]] for place in chosen])

    def _judge(
        self, rows: Sequence[Row], labels: Sequence[str], support: Views, targets: Targets
    ) -> dict[str, Any]:
        """How often a head is right on random rows that it has not seen, and doubtful labels."""
        examples = _examples(rows, labels, targets)
        parts = held_out_parts(examples, folds=FOLDS, seed=0)
        right = np.full(len(rows), np.nan)
        for part in parts:
            kept = np.setdiff1d(np.arange(len(rows)), part)
            answers = answer_views(self._trust, support[kept], targets[kept], support[part])
            right[part] = answers.argmax(-1).numpy() == targets[part]
        judged = [place for place, row in enumerate(rows) if row.is_random and right[place] >= 0]
        judged = [judged[p] for p in first_places([rows[p].text for p in judged], key=text_key)]
        figures: dict[str, Any] = {"random": len(judged)}
        if len(judged) >= LEAST_RANDOM:
            accuracy = float(right[judged].mean())
            low, high = share_interval(accuracy, len(judged))
            figures |= {"accuracy": accuracy, "low": low, "high": high}
        shares = question_labels(self._trust, support, targets, parts)
        chances = shares[np.arange(len(rows)), targets]
        figures["doubts"] = [
            {
                "row": rows[place].id,
                "suggestion": self._written(labels[int(shares[place].argmax())]),
                "chance": round(float(shares[place].max()), 3),
            }
            for place in np.argsort(chances, kind="stable").tolist()
            if shares[place].argmax() != targets[place]
        ][:_DOUBTS]
        return figures

    def _find_words(
        self, rows: Sequence[Row], labels: Sequence[str], support: Views, targets: Targets
    ) -> dict[str, list[str]]:
        """Words that speak for a label most, by the n-grams of the model alone."""
        head = make_head(
            self._trust,
            support,
            targets,
            labels=labels,
            head=self._head,
            prior=self.start.companion,
        )
        having = Counter(word for row in rows for word in set(_WORD.findall(row.text.lower())))
        words = [word for word, count in having.items() if count > 1]
        if head.ngrams is None or not words:
            return {}
        counts = count_ngrams(words, features=head.ngrams.weight.shape[1])
        scores = head.ngrams.scores(counts) - head.ngrams.bias
        scores -= scores.mean(1, keepdims=True)
        # A word of many texts says more than one of two.
        weighed = scores * np.log1p([[having[word]] for word in words])
        return {
            self._written(label): [
                words[place]
                for place in np.argsort(-weighed[:, column])[:_WORDS]
                if weighed[place, column] > 0
            ]
            for column, label in enumerate(labels)
        }

    @property
    def curve_is_old(self) -> bool:
        """There are labels that the learning curve does not know."""
        return self._learned > 0 and self._drawn != self._learned

    @plain_modes()
    def draw_curve(self) -> None:
        """Follow the accuracy on random rows by the number of labels, and some labels further."""
        self._drawn = self._learned
        rows = self.labeled_rows()
        if any(row.id in set(self._unseen) for row in rows):
            return
        labels, _, support, targets = self._take(rows)
        drawn = [place for place, row in enumerate(rows) if row.is_random]
        fewest = min(Counter(targets.tolist()).values())
        if fewest < LEAST_PER_LABEL or len(drawn) < LEAST_RANDOM:
            self.project.write_fact("curve", None)
            return
        judged = judge_sizes(self._trust, support, _examples(rows, labels, targets), labels, seed=0)
        chosen = {size: [_only(draw, drawn) for draw in draws] for size, draws in judged.items()}
        scored = scores_of_answers(chosen, "accuracy", resamples=RESAMPLES, seed=0)
        gain = gain_of(scored, len(rows), more=MORE, level=LEVEL)
        sizes = [*scored.sizes, len(rows), len(rows) + MORE]
        self.project.write_fact(
            "curve",
            {
                "labels": len(rows),
                "points": list(zip(scored.sizes, map(float, scored.scores), strict=True)),
                "line": list(zip(sizes, map(float, curve_of(scored, sizes)), strict=True)),
                "gain": [gain.mean, gain.low, gain.high],
            },
        )

    def obey(self, order: str) -> None:
        """Save or export the model, or tell why a text has its label."""
        try:
            {SAVE: self.save, EXPORT: self.export, WHY: self.explain}[order]()
            self.project.write_fact("problem", None)
        except NlpMetaError as error:
            self.project.write_fact("problem", str(error))
        if order != WHY:  # a save may wait behind it
            self.project.write_fact("saving", False)

    def _adapt(self) -> AdaptedModel:
        """The model of all labels, as `nlp-meta adapt` makes it."""
        changes, rows = self.project.changes, self.labeled_rows()
        if self._adapted is None or self._adapted[0] != changes:
            texts, labels = [row.text for row in rows], [row.label or "" for row in rows]
            self._adapted = changes, self.start.adapt(texts, labels)
        return self._adapted[1]

    def save(self) -> None:
        """Save the model into the project's folder."""
        changes, labels = self.project.changes, len(self.labeled_rows())
        self._adapt().save_pretrained(self.project.folder / MODEL)
        self.project.write_fact("saved", {"labels": labels, "changes": changes})

    def export(self) -> None:
        """Save the model, and write it as ONNX beside that, as `nlp-meta export` does."""
        need_packages("export to ONNX", "onnx", "onnxruntime", "onnxscript", extra="onnx")
        from nlp_meta.exporting.onnx_export import export_onnx

        self.save()
        texts = [row.text for row in self.project.list_rows()[:_COMPARED]]
        folder = self.project.folder / EXPORTED
        export_onnx(self._adapt(), folder, quantization="none", texts=texts)
        self.project.write_fact("exported", self.project.read_fact("saved"))

    def explain(self) -> None:
        """Tell which words of the text that is asked for speak for its label, and against it."""
        ticket, asked = self.project.fact_version("asked"), self.project.read_fact("asked")
        row, model = self.project.find_row(asked), self._adapt()
        if row is None:
            return
        size = sum(part.numel() for part in model.objective.backbone.model.parameters())
        plain = size > _SMALL or importlib.util.find_spec("captum") is None
        answer = explain(model, [row.text], ngrams_only=plain)[0]
        pieces = _mark(answer)
        by = "groups of letters alone" if plain else "the whole model"
        why = {"ticket": ticket, "label": answer.label, "pieces": pieces, "by": by}
        self.project.write_fact("why", why)

    def _tell_progress(self, *, at_once: bool = False) -> None:
        """Say how many texts were seen, once in a second: each write waits for the disk."""
        if at_once or not self._unseen or time.monotonic() - self._told_at > 1:
            self._told_at = time.monotonic()
            total = len(self._seen) + len(self._unseen)
            self.project.write_fact("progress", {"seen": len(self._seen), "of": total})


def _join(parts: Sequence[Views]) -> Views:
    counts = [part.counts for part in parts if part.counts is not None]
    names = ("features", "start", "prior")
    dense = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
    features, start, prior = dense
    return Views(features, vstack(counts, format="csr") if counts else None, start, prior)


def _examples(rows: Sequence[Row], labels: Sequence[str], targets: Targets) -> list[Example]:
    return [
        Example(row.text.strip(), labels[target]) for row, target in zip(rows, targets, strict=True)
    ]


def _mark(answer: Explanation) -> list[tuple[str, str]]:
    """A text in pieces: words `for` its label, words `against` it, and what is between them."""
    strong = sorted(answer.words, key=lambda word: -abs(word.weight))[:_DECIDING]
    least = _LEAST_SHARE * abs(strong[0].weight) if strong else 0.0
    marked = [word for word in strong if abs(word.weight) >= least and word.weight]
    pieces, end = [], 0
    for word in sorted(marked, key=lambda word: word.start):
        side = "for" if word.weight > 0 else "against"
        pieces += [(answer.text[end : word.start], ""), (word.text, side)]
        end = word.end
    return [*pieces, (answer.text[end:], "")]


def _only(judged: Judged, places: Sequence[int]) -> Judged:
    """The same of some rows."""
    parts = ((getattr(judged, name)) for name in ("rows", "true", "predictions"))
    rows, true, predictions = (tuple(part[place] for place in places) for part in parts)
    return replace(judged, rows=rows, true=true, predictions=predictions)


def follow(learner: Learner | PairLearner, orders: "queue.Queue[str]") -> None:
    """Work until the end is ordered, and rest while there is nothing to do."""
    while True:
        wait = 0.0 if learner.has_work else _PAUSE if learner.curve_is_old else None
        try:
            order = orders.get(timeout=wait) if wait != 0 else orders.get_nowait()
        except queue.Empty:
            order = WORK if wait == 0 else ""
        if order == END:
            return
        if order in (SAVE, EXPORT, WHY):
            learner.obey(order)
        elif order == WORK:
            learner.work()
        elif learner.curve_is_old:
            learner.draw_curve()


def main(folder: str, start: str = "") -> None:
    """Follow a project; orders come by standard input, and its end is the end."""
    orders: queue.Queue[str] = queue.Queue()

    def read_orders() -> None:
        for line in sys.stdin:
            orders.put(line.strip())
        orders.put(END)

    threading.Thread(target=read_orders, daemon=True).start()
    os.nice(10)  # the page comes first
    torch.set_grad_enabled(False)
    project = Project(Path(folder))
    while not project.labels:
        if orders.get() == END:
            return
    orders.put(WORK)
    kind = PairLearner if project.has_pairs else Learner
    with quiet_libraries():
        follow(kind(project, start=start or None), orders)


if __name__ == "__main__":
    main(*sys.argv[1:])
