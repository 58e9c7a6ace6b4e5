"""Answers of a language model of this process: how likely it finds each, and what it writes.

The prefix of a prompt is read once and its keys and values are kept; queries are read behind it
in right-padded batches of like length. Answers of one token need nothing more: the distribution
behind the query has them all. Longer ones are read behind the keys and values of their query, so
that many labels do not mean that it is read many times.

What is written is one line, a token a step, greedily or by beam search. It ends with a line
break, with what ends a text, or where it is as long as it may be.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from nlp_meta.encoders.batches import by_length
from nlp_meta.errors import LabelError, SettingsError
from nlp_meta.prompting.language_model import (
    Ids,
    LanguageModel,
    Past,
    SharedPrefix,
    can_keep,
    extend_past,
    group_rows,
    piece_ids,
    read_rows,
)
from nlp_meta.prompting.prompts import AnswerScore, Prompt, Written, one_line


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


_BREAK = "\n"


@dataclass(frozen=True, slots=True)
class Line:
    """A line while it is written.

    Attributes:
        ids: Of its tokens, with the one that ended it.
        log_likelihood: Of these tokens, in nats.
    """

    ids: Ids = ()
    log_likelihood: float = 0.0
    ended: bool = False

    @property
    def score(self) -> float:
        """Nats a token, so that long lines do not lose for their length."""
        return self.log_likelihood / len(self.ids)


@dataclass(slots=True)
class LocalWriter:
    """Writes by a language model of this process; keeps what it read of the last prefix.

    Attributes:
        batch_tokens: Most tokens of one padded batch, prefix and longest line counted for
            each row and beam: it bounds the memory of keys and values. A single query may
            hold more.
        max_new_tokens: Longest line.
        num_beams: 1 is greedy.

    Raises:
        SettingsError: A number below 1.
    """

    language_model: LanguageModel
    batch_tokens: int
    max_new_tokens: int
    num_beams: int
    _shared: SharedPrefix = field(init=False, repr=False)
    _stops: Tensor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "num_beams"):
            if getattr(self, name) < 1:
                raise SettingsError(
                    f"cannot write with {name} {getattr(self, name)}: at least 1 is needed; raise "
                    f"`translation_prompting.{name}`"
                )
        self._shared = SharedPrefix(self.language_model)

    @property
    def name(self) -> str:
        return self.language_model.name

    @property
    def context_tokens(self) -> int:
        return self.language_model.context_tokens

    @property
    def answer_tokens(self) -> int:
        return self.max_new_tokens

    def count_tokens(self, text: str) -> int:
        return len(piece_ids(self.language_model, [text])[0])

    def write(self, prompt: Prompt, queries: Sequence[str]) -> list[Written]:
        """Write a line behind each query; see `Writer`, errors are those of `decode`."""
        return [
            Written(read_line(self.language_model, line.ids), line.ended)
            for line in self.decode(prompt, queries)
        ]

    @torch.inference_mode()
    def decode(self, prompt: Prompt, queries: Sequence[str]) -> list[Line]:
        """Find the best line behind each query.

        Raises:
            EpisodeError: A text without a token, or longer than the context with its line.
        """
        past, rows = self._shared.open(prompt, queries, answer_tokens=self.max_new_tokens)
        # Without a prefix it is seen at the first step whether a state can be kept.
        keep = past is not None or not prompt.prefix
        written: dict[int, Line] = {}
        for group in self._groups(rows, past, keep=keep):
            behind = None if past is None else past.repeat(len(group))
            texts = _Texts(self.language_model, [rows[row] for row in group], behind, keep)
            lines = _search(texts, self._ends(), beams=self.num_beams, longest=self.max_new_tokens)
            written.update(zip(group, lines, strict=True))
        return [written[row] for row in range(len(rows))]

    def _groups(self, rows: Sequence[Ids], past: Past | None, *, keep: bool) -> Iterator[list[int]]:
        before = self.max_new_tokens + (0 if past is None else past.mask.shape[1])
        lengths = [before + len(row) for row in rows]
        tokens = self.batch_tokens // self.num_beams
        if keep:
            yield from group_rows(self.language_model, lengths, past, tokens=tokens)
        else:
            yield from by_length(lengths, tokens=tokens)

    def _ends(self) -> Tensor:
        if self._stops is None:
            self._stops = find_ends(self.language_model)
        return self._stops


def find_ends(language_model: LanguageModel) -> Tensor:
    """Tell for each token whether a line ends with it, `(vocabulary,)`.

    A line ends with a token that holds a line break, with a special one, as those that end
    a text or a turn of a chat, and with one that the tokenizer does not know.
    """
    tokenizer, model = language_model.tokenizer, language_model.model
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    added = tokenizer.added_tokens_decoder.items()
    stated = model.generation_config.eos_token_id if model.generation_config else None
    special = {
        *tokenizer.all_special_ids,
        *(place for place, token in added if token.special),
        *(stated if isinstance(stated, list) else [stated]),
    }
    ends = [_BREAK in text or token in special for token, text in enumerate(texts)]
    ends += [True] * (int(model.config.get_text_config().vocab_size) - len(ends))
    return torch.tensor(ends, device=language_model.device)


def read_line(language_model: LanguageModel, ids: Ids) -> str:
    """Spell a line out, up to its line break."""
    text = language_model.tokenizer.decode(
        list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return one_line(str(text).partition(_BREAK)[0])


@dataclass(slots=True)
class _Texts:
    """Texts of a batch that grow by a token a step.

    Attributes:
        rows: Ids that have not been read: at first the texts, then their last tokens or,
            where no state is kept, the texts again.
        keep: Whether what was read is kept.
    """

    language_model: LanguageModel
    rows: list[Ids]
    past: Past | None
    keep: bool

    def read(self) -> Tensor:
        """Log-probabilities of the token behind each text, `(rows, vocabulary)`."""
        last = [range(len(row) - 1, len(row)) for row in self.rows]
        logits, cache = read_rows(
            self.language_model, self.rows, last, past=self.past, keep=self.keep
        )
        self.keep = self.keep and can_keep(cache)
        if self.keep:
            self.past = extend_past(self.past, self.rows, cache)
            self.rows = [()] * len(self.rows)
        return torch.cat(logits).log_softmax(-1)

    def grow(self, parents: Sequence[int], tokens: Sequence[int]) -> None:
        """Replace the texts by some of them, each with a token more.

        What was read is copied only where a text ended or changed its place, which in greedy
        writing is seldom.
        """
        self.rows = [(*self.rows[row], token) for row, token in zip(parents, tokens, strict=True)]
        if self.past is not None and [*parents] != [*range(len(self.past.mask))]:
            self.past = self.past.select(torch.tensor(parents, device=self.past.mask.device))


def _search(texts: _Texts, ends: Tensor, *, beams: int, longest: int) -> list[Line]:
    """Beam search for all texts at once: for each the line of most nats a token.

    Of the lines that are one token longer the best `beams` are looked at, and those of them
    that have ended are put aside; the best `beams` that have not are written on. A text is
    done with so many put aside: so one beam is greedy.
    """
    writing = list(range(len(texts.rows)))
    live = {text: [Line()] for text in writing}
    done: dict[int, list[Line]] = {text: [] for text in writing}
    for length in range(1, longest + 1):
        before = [line.log_likelihood for text in writing for line in live[text]]
        scores = texts.read()
        scores = scores + scores.new_tensor(before)[:, None]
        width = len(before) // len(writing)
        best = _take(scores, width, beams)
        open_ = _take(scores.masked_fill(ends[: scores.shape[1]], -torch.inf), width, beams)
        going, parents, tokens = [], [], []
        for place, text in enumerate(writing):
            lines = _lengthen(live[text], best[place], ends)
            done[text] += lines if length == longest else [line for line in lines if line.ended]
            if len(done[text]) >= beams:
                continue
            live[text] = _lengthen(live[text], open_[place], ends)
            going.append(text)
            parents += [place * width + row for _, row, _ in open_[place]]
            tokens += [token for _, _, token in open_[place]]
        writing = going
        if not writing:
            break
        texts.grow(parents, tokens)
    return [max(done[text], key=lambda line: line.score) for text in range(len(done))]


_Step = tuple[float, int, int]
"""Nats of a lengthened line, its place among the lines before, and its new token."""


def _take(scores: Tensor, width: int, beams: int) -> list[list[_Step]]:
    """The best steps of each text, whose rows stand side by side."""
    vocabulary = scores.shape[1]
    nats, places = scores.view(-1, width * vocabulary).topk(min(beams, width * vocabulary), dim=1)
    return [
        [(value, *divmod(place, vocabulary)) for value, place in zip(values, columns, strict=True)]
        for values, columns in zip(nats.tolist(), places.tolist(), strict=True)
    ]


def _lengthen(lines: Sequence[Line], steps: Sequence[_Step], ends: Tensor) -> list[Line]:
    return [Line((*lines[row].ids, token), nats, bool(ends[token])) for nats, row, token in steps]
