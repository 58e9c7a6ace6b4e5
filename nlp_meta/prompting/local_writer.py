"""Decoding: a language model of this process writes one line behind each query.

The prefix of a prompt is read once; queries are written on in batches of like length, a
token a step, greedily or by beam search. A line ends with a line break, with what ends a
text, or where it is as long as it may be.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nlp_meta.encoders.batches import by_length
from nlp_meta.errors import SettingsError
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
from nlp_meta.prompting.prompts import Prompt, Written, one_line

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
