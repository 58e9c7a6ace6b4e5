"""Shared prefix: what a language model has read of a prompt, kept for all that stands behind it.

The prefix of a prompt is read once and its keys and values are copied for each row of a
batch. Rows are right-padded; where one is read on, its tokens are given their places, so
that padding between them counts for nothing.
"""

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from nlp_meta.encoders.batches import by_length, pad_rows
from nlp_meta.errors import EpisodeError
from nlp_meta.prompting.language_model import LanguageModel, piece_ids, start_ids
from nlp_meta.prompting.prompts import Prompt

Ids = tuple[int, ...]

# The state of a model, as transformers has named it since 5.24 and before.
_STATE, _OLD_STATE = "cache", "past_key_values"


@dataclass(frozen=True, slots=True)
class Past:
    """What has been read: the cached keys and values of `mask`, `(rows, tokens)`."""

    cache: Any
    mask: Tensor

    def repeat(self, times: int) -> "Past":
        """Copy each row so many times, side by side: a model writes into what it is given."""
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(times)
        return Past(cache, self.mask.repeat_interleave(times, dim=0))

    def select(self, rows: Tensor) -> "Past":
        """Take rows, some more than once; the cache is cut where it is, and not copied."""
        self.cache.batch_select_indices(rows)
        return Past(self.cache, self.mask[rows])


@dataclass(slots=True)
class SharedPrefix:
    """Reads prefixes, and keeps what it read of the last one."""

    language_model: LanguageModel
    _last: tuple[Ids, Past | None] | None = field(default=None, init=False, repr=False)

    def read(self, prefix: Ids) -> Past | None:
        """Read a prefix unless it is the last one; None where its state cannot be shared."""
        if self._last is None or self._last[0] != prefix:
            self._last = None  # before the next one is read: memory may not hold two
            last = [range(len(prefix) - 1, len(prefix))]
            _, cache = read_rows(self.language_model, [prefix], last, keep=True)
            past = extend_past(None, [prefix], cache) if can_keep(cache) else None
            self._last = prefix, past
        return self._last[1]


def can_keep(cache: Any) -> bool:
    """Tell whether a model's state is keys and values, which rows can be read on from."""
    return isinstance(cache, DynamicCache) and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers
    )


def extend_past(past: Past | None, rows: Sequence[Ids], cache: Any) -> Past:
    """Note what has been read when rows stood behind `past`.

    Args:
        cache: The state that `read_rows` gave.
    """
    mask = pad_rows([torch.ones(len(row)) for row in rows], padding=0)[1]
    if past is not None:
        mask = torch.cat([past.mask, mask.to(past.mask)], dim=1)
    return Past(cache, mask)


def group_rows(
    language_model: LanguageModel, lengths: Sequence[int], past: Past | None, *, tokens: int
) -> Iterator[list[int]]:
    """Group rows that will be read on, for batches of `tokens` tokens, padding counted.

    They are of one length where the model would count padding between tokens, or may.
    """
    plain = past is not None and all(type(layer) is DynamicLayer for layer in past.cache.layers)
    if plain and "position_ids" in _parameters(language_model):
        yield from by_length(lengths, tokens=tokens)
        return
    for length in sorted(set(lengths)):
        alike = [row for row, found in enumerate(lengths) if found == length]
        for group in by_length([length] * len(alike), tokens=tokens):
            yield [alike[one] for one in group]


def read_rows(
    language_model: LanguageModel,
    rows: Sequence[Ids],
    spans: Sequence[range],
    *,
    past: Past | None = None,
    keep: bool = False,
) -> tuple[list[Tensor], Any]:
    """Read rows of ids, behind what has been read where `past` is given, and write into it.

    Args:
        spans: For each row the places of the tokens whose successors are asked for.
        keep: Whether the state is wanted.

    Returns:
        For each row the logits behind the tokens of its span, `(tokens, vocabulary)`; and
        the model's state if `keep`.
    """
    device = language_model.device
    padding = language_model.tokenizer.pad_token_id or 0
    ids, mask = pad_rows([torch.tensor(row) for row in rows], padding=padding)
    ids, mask = ids.to(device), mask.to(device)
    options: dict[str, Any] = {"use_cache": keep or past is not None}
    if past is not None:
        state = _STATE if _STATE in _parameters(language_model) else _OLD_STATE
        options[state] = past.cache
        read = past.mask.sum(1, keepdim=True).to(device)
        if int(read.min()) < past.mask.shape[1]:
            options["position_ids"] = read + torch.arange(ids.shape[1], device=device)
        mask = torch.cat([past.mask.to(device), mask], dim=1)
    wanted = sorted(set().union(*spans))
    if "logits_to_keep" in _parameters(language_model):
        # The vocabulary is the widest layer: it is applied only where its answer is wanted.
        options["logits_to_keep"] = torch.tensor(wanted, device=device)
    output = language_model.read(input_ids=ids, attention_mask=mask, **options)
    logits = output.logits
    if "logits_to_keep" not in options:
        logits = logits[:, wanted]
    index = {place: number for number, place in enumerate(wanted)}
    found = [
        logits[row, index[span[0]] : index[span[-1]] + 1].float() for row, span in enumerate(spans)
    ]
    return found, output.get(_STATE, output.get(_OLD_STATE))


def text_ids(
    language_model: LanguageModel, prompt: Prompt, queries: Sequence[str]
) -> tuple[Ids, list[Ids]]:
    """Ids of the prefix, and of each query with what stands around it."""
    texts = [prompt.before + query + prompt.after for query in queries]
    if not prompt.prefix:
        return (), [tuple(start_ids(language_model, text)) for text in texts]
    prefix = tuple(start_ids(language_model, prompt.prefix))
    return prefix, [tuple(ids) for ids in piece_ids(language_model, texts)]


def check_lengths(
    language_model: LanguageModel, prefix: Ids, rows: Sequence[Ids], *, answer_tokens: int
) -> None:
    """Stop at texts that cannot be read.

    Args:
        answer_tokens: Of the longest answer behind a query.

    Raises:
        EpisodeError: A text without a token, or longer than the context.
    """
    longest = len(prefix) + max(map(len, rows), default=0) + answer_tokens
    if longest > language_model.context_tokens:
        raise EpisodeError(
            f"cannot read a prompt of {longest} tokens: '{language_model.name}' holds "
            f"{language_model.context_tokens}; lower `prompting.demonstrations`, or name a model "
            "with a longer context as `prompting.model_name_or_path`"
        )
    if not all(rows):
        raise EpisodeError(
            f"cannot read query {rows.index(())}: the tokenizer of '{language_model.name}' makes "
            "no token of it and of what stands around it, at least one is needed; name other "
            "`prompting.templates` or `translation_prompting.translation_templates`"
        )


def _parameters(language_model: LanguageModel) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(language_model.model.forward).parameters
