"""A model of one language pair: it embeds sentences, and finds those that translate each other."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nlp_meta.adapting import PREDICTION_TOKENS, check_texts
from nlp_meta.alignment_start import build_recorded, save_lora
from nlp_meta.data.overlap import text_key
from nlp_meta.encoders.neighbors import NEIGHBORS, mine_pairs
from nlp_meta.encoders.prefix import whole_network
from nlp_meta.errors import DataError
from nlp_meta.hub.packaging import load_weights
from nlp_meta.hub.pulling import Source, source_of
from nlp_meta.hub.pushable import Pushable
from nlp_meta.hub.records import ALIGNMENT_MODEL, Record, find_model
from nlp_meta.meta.adaptation import repeat
from nlp_meta.objectives.retrieval import TEMPERATURE, Retrieval
from nlp_meta.pair_adapting import AdaptedPairs
from nlp_meta.settings import ModelSettings

EMBEDDED_AT_ONCE = 2048
"""Texts that are embedded between two calls of a progress bar."""


@dataclass(frozen=True, slots=True)
class AlignmentReport:
    """What one adaptation to pairs did; the held-out figures are those of `HeldOut`.

    Attributes:
        temperature: Of the loss, as adaptation left it.
        texts_cut: Sentences longer than the encoder takes.
    """

    pairs: int
    steps: int
    learning_rate: float
    temperature: float
    threshold: float
    held_out_first: float
    held_out_precision: float
    held_out_recall: float
    texts_cut: int
    seconds: float

    @classmethod
    def of(
        cls, found: AdaptedPairs, pairs: int, learning_rate: float, texts_cut: int, seconds: float
    ) -> "AlignmentReport":
        """Tell what an adaptation found."""
        return cls(
            pairs=pairs,
            steps=found.steps,
            learning_rate=learning_rate,
            temperature=math.exp(-float(found.weights[TEMPERATURE])),
            threshold=found.held_out.threshold,
            held_out_first=found.held_out.first,
            held_out_precision=found.held_out.precision,
            held_out_recall=found.held_out.recall,
            texts_cut=texts_cut,
            seconds=seconds,
        )


@dataclass(frozen=True, slots=True)
class Mined:
    """A source and its translation, by their places, and the margin that they stand out by."""

    source: int
    target: int
    margin: float


@dataclass(frozen=True, slots=True)
class AlignmentModel(Pushable):
    """A backbone with the adapter of one language pair.

    Attributes:
        threshold: Margin from which on a pair is mined, unless another is asked for.
        languages: Of the sources and the targets, as the user named them; may be empty.
        provenance: That of its meta-model, and where that was pulled from.
        source: Where on the Hub it was pulled from, and at which commit.
    """

    objective: Retrieval
    weights: Mapping[str, Tensor]
    settings: ModelSettings
    threshold: float
    languages: tuple[str, str] = ("", "")
    report: AlignmentReport | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    source: Source | None = None

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        device: str | None = None,
    ) -> "AlignmentModel":
        """Load from a folder or the Hub, at a branch, tag or commit of it.

        Raises:
            MetaModelError: There is no model that was adapted to sentence pairs.
        """
        name = str(name_or_path)
        folder, record = find_model(name, kind=ALIGNMENT_MODEL, revision=revision, token=token)
        settings, objective = build_recorded(record, device=device, token=token)
        weights = load_weights(
            folder, backbone=objective.backbone, plan=objective.plan, with_head=False
        )
        done = dict(record.adaptation)
        first, second = done.pop("languages")
        report = AlignmentReport(**done) if len(done) > 1 else None
        return cls(
            objective,
            weights,
            settings,
            record.adaptation["threshold"],
            (first, second),
            report,
            record.provenance,
            source_of(name, folder),
        )

    def embed(
        self, texts: Sequence[str], *, on_step: Callable[[int], None] | None = None
    ) -> Tensor:
        """Embed texts as rows of length 1, in float32, through the whole model.

        Args:
            on_step: Called with the number of texts just embedded.

        Raises:
            DataError: A text is empty.
        """
        check_texts(texts)
        exact = replace(
            self.objective,
            network=whole_network(self.objective.backbone),
            autocast=None,
            batch_tokens=PREDICTION_TOKENS,
        )
        stacked = repeat(self.weights, tasks=1)
        # Of like length side by side: a block of mixed ones would be cut into many batches.
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        rows = torch.zeros(
            len(texts), int(exact.backbone.config.hidden_size), device=exact.backbone.device
        )
        for first in range(0, len(order), EMBEDDED_AT_ONCE):
            places = order[first : first + EMBEDDED_AT_ONCE]
            rows[places] = exact.embed(stacked, [[texts[p].strip() for p in places]])[0]
            if on_step:
                on_step(len(places))
        return rows

    def align(
        self,
        sources: Sequence[str],
        targets: Sequence[str],
        *,
        threshold: float | None = None,
        neighbors: int = NEIGHBORS,
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[Mined]:
        """Find the sentences of two texts that translate each other, each in one pair at most.

        Of sentences that are equal up to case and punctuation the first stands for all, and
        a sentence is no translation of its own copy. Memory holds the embeddings and one
        block of cosines: a hundred thousand sentences a side need less than 1 GB beside the
        model.

        Args:
            threshold: Least margin of a pair; None takes what the held-out pairs advised. The
                more sentences there are, the smaller margins become.
            on_step: Called with the sentences embedded and their number.

        Returns:
            Pairs by falling margin.

        Raises:
            DataError: A side has no sentence, or an empty one.
        """
        if not sources or not targets:
            raise DataError(
                f"cannot align {len(sources)} sentences with {len(targets)}: at least one on each "
                "side is needed; give `--source` and `--target` that have some"
            )
        check_texts(sources)
        check_texts(targets)
        least = self.threshold if threshold is None else threshold
        firsts, seconds = _first_places(sources), _first_places(targets)
        left, right = [sources[p] for p in firsts], [targets[p] for p in seconds]
        tick = Ticker(on_step, total=len(left) + len(right))
        mined = mine_pairs(
            self.embed(left, on_step=tick),
            self.embed(right, on_step=tick),
            neighbors=neighbors,
            never=_find_copies(left, right),
        )
        return [
            Mined(firsts[source], seconds[target], margin)
            for source, target, margin in mined
            if margin >= least
        ]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write an ordinary PEFT adapter, the tokenizer and a record."""
        told = asdict(self.report) if self.report else {}
        done = {**told, "threshold": self.threshold, "languages": list(self.languages)}
        record = Record(
            ALIGNMENT_MODEL, asdict(self.settings), (), done, provenance=self.provenance
        )
        save_lora(Path(folder), record, self.objective, self.weights)


def _first_places(texts: Sequence[str]) -> list[int]:
    """Places of texts that no earlier one equals up to case and punctuation."""
    firsts: dict[str, int] = {}
    for place, text in enumerate(texts):
        firsts.setdefault(text_key(text), place)
    return list(firsts.values())


def _find_copies(sources: Sequence[str], targets: Sequence[str]) -> dict[int, int]:
    """The target that is each source's own copy; neither side has two equal texts."""
    places = {text_key(text): place for place, text in enumerate(targets)}
    keys = [text_key(text) for text in sources]
    return {place: places[key] for place, key in enumerate(keys) if key in places}


class Ticker:
    """Counts what is done for a progress bar."""

    def __init__(self, on_step: Callable[[int, int], None] | None, *, total: int) -> None:
        self.on_step, self.total, self.done = on_step, total, 0

    def __call__(self, done: int) -> None:
        self.done += done
        if self.on_step:
            self.on_step(min(self.done, self.total), self.total)
