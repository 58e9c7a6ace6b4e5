"""Local scoring: how likely a language model of this process finds each answer.

The prefix of a prompt is read once and its keys and values are kept; queries are read
behind it in right-padded batches of like length. Answers of one token need nothing more:
the distribution behind the query has them all. Longer ones are read behind the keys and
values of their query, so that many labels do not mean that it is read many times.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from nlp_meta.encoders.batches import by_length
from nlp_meta.errors import LabelError
from nlp_meta.prompting.language_model import (
    Ids,
    LanguageModel,
    Past,
    SharedPrefix,
    extend_past,
    group_rows,
    piece_ids,
    read_rows,
)
from nlp_meta.prompting.prompts import AnswerScore, Prompt


@dataclass(slots=True)
class LocalScorer:
    """Scores answers by a language model of this process; keeps what it read of the last prefix.

    Attributes:
        batch_tokens: Most tokens of one padded batch, the prefix counted for each row: it
            bounds the memory of keys and values. A single row may hold more.
    """

    language_model: LanguageModel
    batch_tokens: int
    graded: ClassVar[bool] = True
    _shared: SharedPrefix = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._shared = SharedPrefix(self.language_model)

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
        past, rows = self._shared.open(prompt, queries, answer_tokens=max(map(len, answers)))
        heads = _longest_heads(answers)
        columns = sorted({token for answer in answers for token in answer})
        if past is None or len(heads) == 1:
            read = self._read_together(rows, heads, columns, past)
        else:
            read = self._read_apart(rows, heads, columns, past)
        return [
            tuple(_add_up(answer, heads, columns, tables) for answer in answers) for tables in read
        ]

    def _read_together(
        self, rows: Sequence[Ids], heads: Sequence[Ids], columns: Sequence[int], past: Past | None
    ) -> list[list[Tensor]]:
        """For each row and head their table: the row is read once for each head."""
        whole = [row + head for row in rows for head in heads]
        places = [len(row) - 1 for row in rows for _ in heads]
        before = 0 if past is None else past.mask.shape[1]
        tables: dict[int, Tensor] = {}
        for group in by_length([before + len(ids) for ids in whole], tokens=self.batch_tokens):
            behind = None if past is None else past.repeat(len(group))
            ids, first = [whole[row] for row in group], [places[row] for row in group]
            read, _ = _read(self.language_model, ids, first, columns, past=behind)
            tables.update(zip(group, read, strict=True))
        width = len(heads)
        return [[tables[row * width + head] for head in range(width)] for row in range(len(rows))]

    def _read_apart(
        self, rows: Sequence[Ids], heads: Sequence[Ids], columns: Sequence[int], past: Past
    ) -> list[list[Tensor]]:
        """The same tables, each row read once and the heads behind it: for many long labels."""
        tables: dict[int, list[Tensor]] = {}
        longest = max(map(len, heads))
        lengths = [past.mask.shape[1] + len(row) for row in rows]
        for group in group_rows(self.language_model, lengths, past, tokens=self.batch_tokens):
            batch = [rows[row] for row in group]
            last = [len(row) - 1 for row in batch]
            behind = past.repeat(len(batch))
            first, cache = _read(self.language_model, batch, last, columns, past=behind, keep=True)
            behind = extend_past(behind, batch, cache)
            width = behind.mask.shape[1]
            read: list[list[Tensor]] = [[] for _ in batch]
            step = max(1, self.batch_tokens // (len(batch) * (width + longest)))
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
                    read[row].append(torch.cat([first[row], table]))
            tables.update(zip(group, read, strict=True))
        return [tables[row] for row in range(len(rows))]


def _read(
    language_model: LanguageModel,
    rows: Sequence[Ids],
    places: Sequence[int],
    columns: Sequence[int],
    *,
    past: Past | None = None,
    keep: bool = False,
) -> tuple[list[Tensor], Any]:
    """For each row the log-probabilities of the tokens `columns` behind its tokens from place
    `places[row]` on, `(tokens, columns)`; and the model's state if `keep`."""
    spans = [range(first, len(row)) for first, row in zip(places, rows, strict=True)]
    logits, cache = read_rows(language_model, rows, spans, past=past, keep=keep)
    return [row.log_softmax(-1)[:, columns].cpu() for row in logits], cache


def _answer_ids(language_model: LanguageModel, answers: Sequence[str]) -> list[Ids]:
    pieces = [tuple(ids) for ids in piece_ids(language_model, answers)]
    for text, ids in zip(answers, pieces, strict=True):
        if not ids:
            raise LabelError(
                f"cannot score the answer {text!r}: the tokenizer of '{language_model.name}' makes "
                "no token of it, at least one is needed; rename the label, or name "
                "`prompting.templates` with a word for it"
            )
    return pieces


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
    head = next(n for n, ids in enumerate(heads) if ids[: len(answer) - 1] == answer[:-1])
    terms = [tables[head][place, columns.index(token)] for place, token in enumerate(answer)]
    return AnswerScore(float(torch.stack(terms).double().sum()), len(answer))
