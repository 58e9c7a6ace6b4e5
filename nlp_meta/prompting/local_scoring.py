"""Local scoring: how likely a language model of this process finds each answer.

The prefix of a prompt is read once and its keys and values are kept; queries are read
behind it in right-padded batches of like length. Answers of one token need nothing more:
the distribution behind the query has them all. Longer ones are read behind the keys and
values of their query, so that many labels do not mean that it is read many times.
"""

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from nlp_meta.encoders.batching import by_length, pad_rows
from nlp_meta.errors import EpisodeError, LabelError
from nlp_meta.prompting.language_model import LanguageModel, piece_ids, start_ids
from nlp_meta.prompting.prompts import AnswerScore, Prompt

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Past:
    """What has been read: the cached keys and values of `mask`, `(rows, tokens)`."""

    cache: Any
    mask: Tensor

    def repeat(self, times: int) -> "_Past":
        """Copy each row so many times, side by side: a model writes into what it is given."""
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(times)
        return _Past(cache, self.mask.repeat_interleave(times, dim=0))


@dataclass(slots=True)
class LocalScorer:
    """Scores answers by a language model of this process; keeps what it read of the last prefix.

    Attributes:
        batch_tokens: Most tokens of one padded batch, the prefix counted for each row: it
            bounds the memory of keys and values. A single row may hold more.
        share_prefix: False reads every text whole, the very same ids; for comparison. A
            model whose state is not keys and values is read so in any case.
    """

    language_model: LanguageModel
    batch_tokens: int
    share_prefix: bool = True
    _last: tuple[Ids, _Past | None] | None = field(default=None, init=False, repr=False)

    @property
    def name(self) -> str:
        return self.language_model.name

    @property
    def context_tokens(self) -> int:
        return self.language_model.context_tokens

    def count_tokens(self, text: str) -> int:
        return len(piece_ids(self.language_model, [text])[0])

    @torch.inference_mode()
    def score(self, prompt: Prompt, queries: Sequence[str]) -> list[tuple[AnswerScore, ...]]:
        """Score all answers after each query; see `Scorer`.

        Raises:
            LabelError: An answer without a token.
            EpisodeError: A text without a token, or longer than the context.
        """
        answers = _answer_ids(self.language_model, prompt.answers)
        prefix, rows = _text_ids(self.language_model, prompt, queries)
        _check_lengths(self.language_model, prefix, rows, answers)
        past = self._read_prefix(prefix) if self.share_prefix and prefix else None
        if past is None:
            rows = [prefix + row for row in rows]
        heads = _longest_heads(answers)
        columns = sorted({token for answer in answers for token in answer})
        if past is None or len(heads) == 1:
            read = self._read_together(rows, heads, columns, past)
        else:
            read = self._read_apart(rows, heads, columns, past)
        return [
            tuple(_add_up(answer, heads, columns, tables) for answer in answers) for tables in read
        ]

    def _read_prefix(self, prefix: Ids) -> _Past | None:
        """Read a prefix unless it is the last one; None where its state cannot be shared."""
        if self._last is None or self._last[0] != prefix:
            self._last = None  # before the next one is read: memory may not hold two
            _, cache = _read(self.language_model, [prefix], [len(prefix) - 1], [], keep=True)
            shared = isinstance(cache, DynamicCache) and all(
                type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers
            )
            mask = torch.ones(1, len(prefix), dtype=torch.long, device=self.language_model.device)
            self._last = prefix, _Past(cache, mask) if shared else None
        return self._last[1]

    def _read_together(
        self, rows: Sequence[Ids], heads: Sequence[Ids], columns: Sequence[int], past: _Past | None
    ) -> list[list[Tensor]]:
        """For each row and head their table: the row is read once for each head."""
        whole = [row + head for row in rows for head in heads]
        places = [len(row) - 1 for row in rows for _ in heads]
        before = 0 if past is None else past.mask.shape[1]
        tables: dict[int, Tensor] = {}
        for group in by_length([before + len(ids) for ids in whole], tokens=self.batch_tokens):
            behind = None if past is None else past.repeat(len(group))
            ids, first = [whole[one] for one in group], [places[one] for one in group]
            found, _ = _read(self.language_model, ids, first, columns, past=behind)
            tables.update(zip(group, found, strict=True))
        width = len(heads)
        return [[tables[row * width + head] for head in range(width)] for row in range(len(rows))]

    def _read_apart(
        self, rows: Sequence[Ids], heads: Sequence[Ids], columns: Sequence[int], past: _Past
    ) -> list[list[Tensor]]:
        """The same tables, each row read once and the heads behind it: for many long labels."""
        tables: dict[int, list[Tensor]] = {}
        longest = max(map(len, heads))
        for group in self._groups(rows, past):
            batch = [rows[one] for one in group]
            last = [len(row) - 1 for row in batch]
            behind = past.repeat(len(batch))
            first, cache = _read(self.language_model, batch, last, columns, past=behind, keep=True)
            real = pad_rows([torch.ones(len(row)) for row in batch], padding=0)[1]
            mask = torch.cat([behind.mask, real.to(behind.mask)], dim=1)
            behind = _Past(cache, mask)
            found: list[list[Tensor]] = [[] for _ in batch]
            step = max(1, self.batch_tokens // (len(batch) * (mask.shape[1] + longest)))
            for begin in range(0, len(heads), step):
                part = list(heads[begin : begin + step])
                more, _ = _read(
                    self.language_model,
                    part * len(batch),
                    [0] * len(part) * len(batch),
                    columns,
                    past=behind.repeat(len(part)),
                )
                for number, table in enumerate(more):
                    row = number // len(part)
                    found[row].append(torch.cat([first[row], table]))
            tables.update(zip(group, found, strict=True))
        return [tables[row] for row in range(len(rows))]

    def _groups(self, rows: Sequence[Ids], past: _Past) -> Iterator[list[int]]:
        """Rows of a batch; of one length where the model would count padding between tokens."""
        lengths = [past.mask.shape[1] + len(row) for row in rows]
        plain = all(type(layer) is DynamicLayer for layer in past.cache.layers)
        if plain and "position_ids" in _parameters(self.language_model):
            yield from by_length(lengths, tokens=self.batch_tokens)
            return
        for length in sorted(set(lengths)):
            alike = [row for row, found in enumerate(lengths) if found == length]
            for group in by_length([length] * len(alike), tokens=self.batch_tokens):
                yield [alike[one] for one in group]


def _read(
    language_model: LanguageModel,
    rows: Sequence[Ids],
    places: Sequence[int],
    columns: Sequence[int],
    *,
    past: _Past | None = None,
    keep: bool = False,
) -> tuple[list[Tensor], Any]:
    """Read rows of ids, behind what has been read where `past` is given, and write into it.

    Returns:
        For each row the log-probabilities of the tokens `columns` behind its tokens from
        place `places[row]` on, `(tokens, columns)`; and the model's state if `keep`.
    """
    device = language_model.device
    padding = language_model.tokenizer.pad_token_id or 0
    ids, mask = pad_rows([torch.tensor(row) for row in rows], padding=padding)
    ids, mask = ids.to(device), mask.to(device)
    options: dict[str, Any] = {"use_cache": keep or past is not None}
    if past is not None:
        options["past_key_values"] = past.cache
        read = past.mask.sum(1, keepdim=True)
        if int(read.min()) < past.mask.shape[1]:
            options["position_ids"] = read + torch.arange(ids.shape[1], device=device)
        mask = torch.cat([past.mask, mask], dim=1)
    spans = [range(first, len(row)) for first, row in zip(places, rows, strict=True)]
    wanted = sorted(set().union(*spans))
    if "logits_to_keep" in _parameters(language_model):
        # The vocabulary is the widest layer: it is applied only where its answer is wanted.
        options["logits_to_keep"] = torch.tensor(wanted, device=device)
    output = language_model.model(input_ids=ids, attention_mask=mask, **options)
    logits = output.logits
    if "logits_to_keep" not in options:
        logits = logits[:, wanted]
    index = {place: number for number, place in enumerate(wanted)}
    tables = [
        logits[row, index[span[0]] : index[span[-1]] + 1].float().log_softmax(-1)[:, columns]
        for row, span in enumerate(spans)
    ]
    return [table.cpu() for table in tables], getattr(output, "past_key_values", None)


def _parameters(language_model: LanguageModel) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(language_model.model.forward).parameters


def _answer_ids(language_model: LanguageModel, answers: Sequence[str]) -> list[Ids]:
    found = [tuple(ids) for ids in piece_ids(language_model, answers)]
    for text, ids in zip(answers, found, strict=True):
        if not ids:
            raise LabelError(
                f"cannot score the answer {text!r}: the tokenizer of '{language_model.name}' makes "
                "no token of it, at least one is needed; rename the label, or change "
                "`prompting.template` to one with a word for it"
            )
    return found


def _text_ids(
    language_model: LanguageModel, prompt: Prompt, queries: Sequence[str]
) -> tuple[Ids, list[Ids]]:
    """Ids of the prefix, and of each query with what stands around it."""
    texts = [prompt.before + query + prompt.after for query in queries]
    if not prompt.prefix:
        return (), [tuple(start_ids(language_model, text)) for text in texts]
    prefix = tuple(start_ids(language_model, prompt.prefix))
    return prefix, [tuple(ids) for ids in piece_ids(language_model, texts)]


def _check_lengths(
    language_model: LanguageModel, prefix: Ids, rows: Sequence[Ids], answers: Sequence[Ids]
) -> None:
    longest = len(prefix) + max(map(len, rows), default=0) + max(map(len, answers))
    if longest > language_model.context_tokens:
        raise EpisodeError(
            f"cannot score a prompt of {longest} tokens: '{language_model.name}' holds "
            f"{language_model.context_tokens}; lower `prompting.demonstrations` or "
            "`prompting.query_tokens`"
        )
    if not all(rows):
        raise EpisodeError(
            f"cannot score query {rows.index(())}: the tokenizer of '{language_model.name}' makes "
            "no token of it and of what stands around it, at least one is needed; change "
            "`prompting.template`"
        )


def _longest_heads(answers: Sequence[Ids]) -> list[Ids]:
    """What has to be read of the answers: all but their last tokens.

    A head that begins another is left out, as the longer one serves both; so answers of
    one token, alone or beside one longer answer, cost no reading of their own.
    """
    heads: list[Ids] = []
    for head in sorted({answer[:-1] for answer in answers}, key=lambda head: (-len(head), head)):
        if not any(longer[: len(head)] == head for longer in heads):
            heads.append(head)
    return heads


def _add_up(
    answer: Ids, heads: Sequence[Ids], columns: Sequence[int], tables: Sequence[Tensor]
) -> AnswerScore:
    head = next(n for n, one in enumerate(heads) if one[: len(answer) - 1] == answer[:-1])
    terms = [tables[head][place, columns.index(token)] for place, token in enumerate(answer)]
    return AnswerScore(float(torch.stack(terms).double().sum()), len(answer))
