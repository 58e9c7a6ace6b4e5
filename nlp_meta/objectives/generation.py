"""Translations that are written: what moves, its loss, its decoding.

LoRA terms on the encoder, the decoder or both move, and nothing else. The loss is the
cross-entropy of the target's tokens with label smoothing, averaged over all target
tokens of a task. A minibatch is worked through in pieces of like length, whose gradients
add up to that of the whole, so its size is bounded by time and not by memory.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from nlp_meta.data.answers import Translation
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.backbone import autocasting
from nlp_meta.encoders.batches import (
    IGNORED,
    Owners,
    PairBatch,
    PairRow,
    count_minibatches,
    select_rows,
    split_by_task,
    stack_pairs,
)
from nlp_meta.encoders.cache import Storage
from nlp_meta.encoders.lora import (
    LoraPlan,
    Weights,
    lowest_adapted_source_layer,
    plan_seq2seq_lora,
    stacked,
    start_weights,
)
from nlp_meta.encoders.prefix import SourceNetwork, build_source_network, warn_of_whole_passes
from nlp_meta.encoders.seq2seq import Seq2Seq, direct, tokenize_targets
from nlp_meta.errors import SettingsError

LONGEST_FACTOR, LONGEST_STEP = 2, 32
"""A translation has at most so many times its source's tokens, rounded up to such steps."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A frozen encoder-decoder and the layers of it that move.

    Attributes:
        network: Its encoder, which may keep what its frozen layers give.
        label_smoothing: Share of the probability that is spread over the vocabulary.
        num_beams: Of the search that answers; 1 is greedy.
        autocast: Dtype of the matrix products; None computes as the backbone is stored.
        batch_tokens: Most tokens of one padded batch, sources and targets together.
    """

    backbone: Seq2Seq
    network: SourceNetwork
    plan: LoraPlan
    label_smoothing: float
    num_beams: int
    autocast: torch.dtype | None
    batch_tokens: int

    def over(self, backbone: Seq2Seq) -> "Generation":
        """The same over a copy of its encoder-decoder, or over itself, with no text kept."""
        layers = lowest_adapted_source_layer(backbone, self.plan)
        network = build_source_network(backbone, frozen_layers=layers)
        return replace(self, backbone=backbone, network=network)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Generation":
        return self.over(copy.deepcopy(self.backbone, memo))

    def meta_parameters(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw the tensors that the outer loop moves, at their beginning."""
        return start_weights(self.backbone, self.plan, num_labels=0, generator=generator)

    def loss(self, weights: Weights, batch: PairBatch) -> Tensor:
        """Cross-entropy of each task, `(tasks,)` in nats: this batch's share of the mean."""
        with self._adapted(weights, batch.owners):
            pair_losses = token_losses(
                self.backbone.model,
                batch,
                states=self.network.run(batch.sources, batch.mask),
                padding=self.backbone.padding,
                label_smoothing=self.label_smoothing,
            )
        losses = pair_losses.new_zeros(len(batch.owners.counts))
        return losses.index_add(0, batch.owners.index, pair_losses.sum(1) * batch.shares)

    def start(self, weights: Weights, support: Sequence[Sequence[PairBatch]]) -> Weights:
        """Adaptation starts from the meta-parameters alone."""
        return weights

    @torch.no_grad()
    def answer(
        self, weights: Weights, query: Sequence[PairBatch], episodes: Sequence[Episode]
    ) -> list[list[Translation]]:
        """Translations of the query sets of W episodes, each with its own weights."""
        translations = [[Translation("")] * len(episode.query) for episode in episodes]
        for batch in query:
            places = zip(batch.owners.index.tolist(), batch.positions.tolist(), strict=True)
            for (task, place), text in zip(places, self._decode(weights, batch), strict=True):
                translations[task][place] = Translation(text)
        return translations

    @torch.no_grad()
    def embed(self, weights: Weights, batches: Sequence[PairBatch]) -> list[Tensor]:
        """Means of the encoder's states over each source's tokens, in order, for each task.

        Returns:
            One tensor `(examples, hidden)` for each task, float32, on the CPU.
        """
        means = []
        for batch in batches:
            with self._adapted(weights, batch.owners):
                states = self.network.run(batch.sources, batch.mask)
            mask = batch.mask.unsqueeze(-1).float()
            means.append((states.float() * mask).sum(1) / mask.sum(1))
        return split_by_task([mean.cpu() for mean in means], batches)

    def support_batches(
        self, episodes: Sequence[Episode], *, minibatch: int | None
    ) -> list[list[PairBatch]]:
        """Support sets of W episodes as minibatches of about `minibatch` pairs a task."""
        tasks = self._rows(episodes, [episode.support for episode in episodes])
        count = count_minibatches([len(rows) for rows in tasks], minibatch=minibatch)
        return [self._stack([rows[i::count] for rows in tasks]) for i in range(count)]

    def query_batches(self, episodes: Sequence[Episode]) -> list[PairBatch]:
        """Query sets of W episodes."""
        return self._stack(self._rows(episodes, [episode.query for episode in episodes]))

    def _rows(
        self, episodes: Sequence[Episode], sides: Sequence[Sequence[Example]]
    ) -> list[list[PairRow]]:
        tasks = []
        for episode, side in zip(episodes, sides, strict=True):
            direction = direct(self.backbone, episode.language)
            sources = self.network.encode([e.source for e in side], direction)
            targets = tokenize_targets(self.backbone, [e.target for e in side], direction)
            pairs = zip(sources, targets, strict=True)
            tasks.append([PairRow(source, target, direction.start) for source, target in pairs])
        return tasks

    def _stack(self, tasks: Sequence[Sequence[PairRow]]) -> list[PairBatch]:
        return stack_pairs(
            tasks,
            padding=self.network.padding,
            tokens=self.batch_tokens,
            device=self.backbone.device,
        )

    @contextmanager
    def _adapted(self, weights: Weights, owners: Owners) -> Iterator[None]:
        """Let the encoder-decoder compute with the weights of W tasks, in the chosen dtype."""
        adapted = stacked(self.backbone, self.plan, weights, owners)
        with adapted, autocasting(self.autocast, self.backbone.device):
            yield

    def _decode(self, weights: Weights, batch: PairBatch) -> list[str]:
        """Write each row; rows of one bound together, so that none depends on its neighbors."""
        translations = [""] * len(batch.sources)
        bounds = [_bound(int(length)) for length in batch.mask.sum(1)]
        for bound in sorted(set(bounds)):
            rows = [row for row, row_bound in enumerate(bounds) if row_bound == bound]
            texts = self._search(weights, select_rows(batch, rows), longest=bound)
            for row, text in zip(rows, texts, strict=True):
                translations[row] = text
        return translations

    def _search(self, weights: Weights, batch: PairBatch, *, longest: int) -> list[str]:
        with self._adapted(weights, batch.owners):
            states = self.network.run(batch.sources, batch.mask)
            written = self.backbone.model.generate(  # type: ignore[operator]  # a mixin's method
                encoder_outputs=BaseModelOutput(last_hidden_state=states),
                attention_mask=batch.mask,
                decoder_input_ids=batch.starts,
                decoder_start_token_id=batch.starts[:, 0].tolist(),
                num_beams=self.num_beams,
                do_sample=False,
                max_new_tokens=min(longest, self.backbone.max_tokens),
            )
        new = written[:, batch.starts.shape[1] :]
        with self.backbone.reading():
            texts = self.backbone.tokenizer.batch_decode(new, skip_special_tokens=True)
        return [text.strip() for text in texts]


def token_losses(
    model: PreTrainedModel,
    batch: PairBatch,
    *,
    padding: int,
    label_smoothing: float,
    states: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of each target token, `(rows, target tokens)` in nats; 0 where padded.

    Args:
        states: The encoder's last ones, `(rows, tokens, hidden)`; None lets it read the sources.
    """
    encoded = None if states is None else BaseModelOutput(last_hidden_state=states)
    # What the decoder has written so far: its first id, then the labels but the last.
    written = torch.cat([batch.starts[:, :1], batch.labels[:, :-1]], dim=1)
    logits = model(
        input_ids=batch.sources if encoded is None else None,
        encoder_outputs=encoded,
        attention_mask=batch.mask,
        decoder_input_ids=written.masked_fill(written == IGNORED, padding),
        use_cache=False,
    ).logits
    losses = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1),
        batch.labels.flatten(),
        ignore_index=IGNORED,
        label_smoothing=label_smoothing,
        reduction="none",
    )
    return losses.view(batch.labels.shape)


def build_generation(
    backbone: Seq2Seq,
    *,
    lora_r: int,
    lora_alpha: float,
    lora_sides: str,
    lora_layers: int | None,
    lora_target_modules: Sequence[str] | None,
    label_smoothing: float,
    num_beams: int,
    autocast: torch.dtype | None,
    batch_tokens: int,
    storage: Storage | None = None,
) -> Generation:
    """Let PEFT choose the adapted layers.

    Args:
        storage: Where states of sources are kept; None keeps them for this process alone.

    Raises:
        SettingsError: Label smoothing or beams are out of range.
        BackboneError: The layers cannot be adapted.
    """
    if not 0 <= label_smoothing < 1:
        raise SettingsError(
            f"cannot smooth labels by {label_smoothing}: 0 or more and less than 1 is needed; "
            "change `model.label_smoothing`"
        )
    if num_beams < 1:
        raise SettingsError(
            f"cannot search with {num_beams} beams: 1 or more are needed; change `num_beams`"
        )
    plan = plan_seq2seq_lora(
        backbone,
        lora_r=lora_r,
        lora_alpha=lora_alpha,
        lora_sides=lora_sides,
        lora_layers=lora_layers,
        lora_target_modules=lora_target_modules,
    )
    layers = lowest_adapted_source_layer(backbone, plan)
    warn_of_whole_passes(backbone.config, frozen_layers=layers)
    network = build_source_network(backbone, frozen_layers=layers, storage=storage)
    return Generation(backbone, network, plan, label_smoothing, num_beams, autocast, batch_tokens)


def _bound(length: int) -> int:
    """Most tokens of the translation of a source of so many."""
    return LONGEST_STEP * math.ceil(LONGEST_FACTOR * length / LONGEST_STEP)
