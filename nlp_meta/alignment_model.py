"""A model of one language pair: it embeds sentences, and finds those that translate each other."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from nlp_meta.adapting import PREDICTION_TOKENS, check_texts
from nlp_meta.alignment_start import build_recorded, save_lora
from nlp_meta.data.answers import Ranking
from nlp_meta.encoders.neighbors import NEIGHBORS
from nlp_meta.encoders.overlap import Overlap
from nlp_meta.encoders.prefix import whole_network
from nlp_meta.hub.packaging import load_weights
from nlp_meta.hub.pulling import Source, source_of
from nlp_meta.hub.pushable import Pushable
from nlp_meta.hub.records import ALIGNMENT_MODEL, Record, find_model
from nlp_meta.meta.adaptation import repeat
from nlp_meta.mining import Mined, embed_in_blocks, mine_texts
from nlp_meta.objectives.retrieval import TEMPERATURE, Retrieval, rank_candidates
from nlp_meta.pair_adapting import AdaptedPairs
from nlp_meta.settings import ModelSettings
from nlp_meta.ticker import Ticker


@dataclass(frozen=True, slots=True)
class AlignmentReport:
    """What one adaptation to pairs did; the held-out figures are those of `MinedPairs`.

    Attributes:
        temperature: Of the loss, as adaptation left it.
        overlap: What the overlap of n-grams counts for beside a cosine.
        texts_cut: Sentences longer than the encoder takes.
    """

    pairs: int
    steps: int
    learning_rate: float
    temperature: float
    overlap: float
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
            overlap=found.overlap,
            threshold=found.held_out.threshold,
            held_out_first=found.held_out.first,
            held_out_precision=found.held_out.precision,
            held_out_recall=found.held_out.recall,
            texts_cut=texts_cut,
            seconds=seconds,
        )


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
        # Models that were saved before n-grams counted have no word of them.
        done = {"overlap": 0.0, **record.adaptation}
        first, second = done.pop("languages")
        report = AlignmentReport(**done) if "pairs" in done else None
        return cls(
            replace(objective, overlap=done["overlap"]),
            weights,
            settings,
            done["threshold"],
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
        width = int(exact.backbone.config.hidden_size)
        return embed_in_blocks(
            lambda some: exact.embed(stacked, [some])[0], texts, width=width, on_step=on_step
        )

    def rank(
        self,
        sources: Sequence[str],
        candidates: Sequence[str],
        *,
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[Ranking]:
        """Order all candidates for each source, the likeliest translation first.

        Memory grows with the product of both numbers; `align` is for whole texts.

        Args:
            on_step: Called with the sentences embedded and their number.

        Raises:
            DataError: A text is empty.
        """
        tick = Ticker(on_step, total=len(sources) + len(candidates))
        left, right = (self.embed(texts, on_step=tick) for texts in (sources, candidates))
        cosines, share = left @ right.T, self.objective.overlap
        if share:
            cosines += share * Overlap.of(sources, candidates).cosines().to(cosines.device)
        return rank_candidates(cosines, neighbors=self.objective.neighbors)

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

        Of sentences that are equal up to case, blanks and the stop at their end the first
        stands for all, and a sentence is no translation of its own copy, whatever its
        punctuation. Memory holds the embeddings and one
        block of cosines: a hundred thousand sentences a side need less than 1 GB beside the
        model, and about twice as much again while n-grams are counted, where they take part.

        Args:
            threshold: Least margin of a pair; None takes what the held-out pairs advised. The
                more sentences there are, the smaller margins become.
            on_step: Called with the sentences embedded and their number.

        Returns:
            Pairs by falling margin.

        Raises:
            DataError: A side has no sentence, or an empty one.
        """
        return mine_texts(
            self.embed,
            self.embed,
            sources,
            targets,
            threshold=self.threshold if threshold is None else threshold,
            neighbors=neighbors,
            overlap=self.objective.overlap,
            on_step=on_step,
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write an ordinary PEFT adapter, the tokenizer and a record."""
        told = asdict(self.report) if self.report else {}
        own = {"threshold": self.threshold, "overlap": self.objective.overlap}
        done = {**told, **own, "languages": list(self.languages)}
        record = Record(
            ALIGNMENT_MODEL, asdict(self.settings), (), done, provenance=self.provenance
        )
        save_lora(Path(folder), record, self.objective, self.weights)
