"""Masked language modeling by the adapted layers: what unlabeled texts of a domain teach LoRA.

Encoders that were trained to compare sentences have lost the head that guesses tokens, so a
`Decoder` is fitted first, while the encoder stands still; then the fast weights move against
the loss of this objective as they do against that of classification.

Source:
    Devlin et al. 2018, arXiv:1810.04805, section 3.1; on texts of the task at hand:
    Gururangan et al. 2020, arXiv:2004.10964, section 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nlp_meta.encoders.backbone import Backbone, autocasting
from nlp_meta.encoders.batches import Batch, Row, stack_batches, tokenize
from nlp_meta.encoders.lora import LoraPlan, Weights, stacked
from nlp_meta.errors import BackboneError

MASKED_SHARE = 0.15
"""Part of a text's tokens that are hidden, at least one."""


class Decoder(nn.Module):
    """From states to logits of known tokens: linear, norm, the encoder's own word embeddings.

    Args:
        ids: Tokens that are told apart, ascending; a part of the vocabulary saves most of the work.
    """

    ids: Tensor

    def __init__(self, backbone: Backbone, ids: Tensor) -> None:
        super().__init__()
        embeddings: Tensor = backbone.encoder.get_input_embeddings().weight
        self.register_buffer("ids", ids)
        self.register_buffer("embeddings", embeddings[ids].detach())
        self.transform = nn.Linear(embeddings.shape[1], embeddings.shape[1])
        self.norm = nn.LayerNorm(embeddings.shape[1])
        self.bias = nn.Parameter(torch.zeros(len(ids)))
        nn.init.eye_(self.transform.weight)
        nn.init.zeros_(self.transform.bias)
        self.to(backbone.device)

    def forward(self, states: Tensor) -> Tensor:
        """Logits `(tokens, ids)` of states `(tokens, hidden)`."""
        logits: Tensor = self.norm(self.transform(states)) @ self.get_buffer("embeddings").T
        return logits + self.bias


@dataclass(frozen=True, slots=True)
class MaskedLanguage:
    """A frozen network, the layers of it that move, and the decoder that reads their states."""

    backbone: Backbone
    plan: LoraPlan
    decoder: Decoder
    autocast: torch.dtype | None
    batch_tokens: int

    def loss(self, weights: Weights, batch: Batch) -> Tensor:
        """Cross-entropy of hidden tokens, `(tasks,)` in nats; each text counts alike."""
        read, true = batch.states.unbind(-1)
        row, place = (read != true).nonzero(as_tuple=True)
        adapted = stacked(self.backbone.model, self.plan, weights, batch.owners)
        with adapted, autocasting(self.autocast, self.backbone.device):
            out = self.backbone.encoder(input_ids=read, attention_mask=batch.mask)
            logits = self.decoder(out.last_hidden_state[row, place]).float()
        targets = torch.searchsorted(self.decoder.ids, true[row, place])
        each = nn.functional.cross_entropy(logits, targets, reduction="none")
        shares = (batch.shares / (read != true).sum(1))[row]
        losses = each.new_zeros(len(batch.owners.counts))
        return losses.index_add(0, batch.owners.index[row], each * shares)

    def batches(
        self, pools: Sequence[Sequence[str]], *, texts: int, generator: torch.Generator
    ) -> list[Batch]:
        """Draw up to `texts` of each task's texts and hide a part of their tokens.

        Returns:
            Batches whose states are `(rows, tokens, 2)`: ids as they are read, and as they are.

        Raises:
            BackboneError: The tokenizer has no token to hide others by.
        """
        hiding = _hiding_token(self.backbone)
        tasks = []
        for pool in pools:
            drawn = torch.randperm(len(pool), generator=generator)[:texts].tolist()
            ids = tokenize(self.backbone, [pool[place] for place in drawn])
            hidden = [_hide(row, hiding, generator) for row in ids]
            tasks.append([Row(row, 0, [True]) for row in hidden])
        return stack_batches(
            tasks,
            padding=int(self.backbone.tokenizer.pad_token_id),
            tokens=self.batch_tokens,
            device=self.backbone.device,
        )


def _hiding_token(backbone: Backbone) -> int:
    """The mask token; where a tokenizer has lost it, the unknown one says as much."""
    tokenizer = backbone.tokenizer
    found = tokenizer.mask_token_id
    if found is None:
        found = tokenizer.unk_token_id
    if found is None:
        raise BackboneError(
            f"cannot hide tokens from '{backbone.name}': a tokenizer with a mask token, or one for "
            "unknown words, is needed; change `model.model_name_or_path`"
        )
    return int(found)


def _hide(true: Tensor, hiding: int, generator: torch.Generator) -> Tensor:
    """Ids as they are read beside ids as they are, `(tokens, 2)`; the first and last stay."""
    inside = len(true) - 2
    hidden = torch.randperm(inside, generator=generator)[: max(1, round(MASKED_SHARE * inside))]
    return torch.stack([true.index_fill(0, 1 + hidden, hiding), true], dim=1)
