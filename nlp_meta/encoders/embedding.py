"""Embeddings: what the frozen encoder says of a text, as one vector."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nlp_meta.data.reuse import Kept
from nlp_meta.encoders.backbone import Backbone
from nlp_meta.encoders.batching import by_length, pad_rows, tokenize

Embed = Callable[[Sequence[str]], NDArray[Any]]
"""Texts to features, `(texts, features)`."""


def mean_pooled_embedder(backbone: Backbone, *, batch_tokens: int) -> Embed:
    """Make features of texts: the mean of the encoder's last states over real tokens.

    Features are float32 and kept by text, so that many draws of a task cost one pass.

    Args:
        batch_tokens: Most tokens of one padded batch.
    """

    def compute(texts: Sequence[str]) -> list[NDArray[np.float32]]:
        ids = tokenize(backbone, texts)
        found = [np.zeros(0, dtype=np.float32)] * len(texts)
        for group in by_length([len(row) for row in ids], tokens=batch_tokens):
            means = _mean_states(backbone, [ids[row] for row in group])
            for row, mean in zip(group, means, strict=True):
                found[row] = mean
        return found

    kept = Kept(compute)

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, int(backbone.config.hidden_size)), dtype=np.float32)
        return np.stack(kept.take(texts))

    return embed


@torch.no_grad()
def _mean_states(backbone: Backbone, ids: Sequence[Tensor]) -> NDArray[np.float32]:
    padded, mask = pad_rows(ids, padding=backbone.tokenizer.pad_token_id or 0)
    padded, mask = padded.to(backbone.device), mask.to(backbone.device)
    states = backbone.encoder(input_ids=padded, attention_mask=mask).last_hidden_state.float()
    real = mask.unsqueeze(-1).float()
    means: NDArray[np.float32] = ((states * real).sum(1) / real.sum(1)).cpu().numpy()
    return means
