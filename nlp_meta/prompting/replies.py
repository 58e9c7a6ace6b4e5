"""Replies of an OpenAI-compatible endpoint, read with care: servers differ in what they send.

Text offsets count a begin token in some servers, lose blanks in others and are missing
in yet others. So the tokens of an answer are found by their text, from its end, and
offsets are taken only where that fails and the last of them is where it must be.
"""

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from nlp_meta.errors import LabelError
from nlp_meta.prompting.prompts import AnswerScore

# What a label that was written in words is taken for; the other labels share the rest.
_WRITTEN = 0.99
# Signs that tokenizers write for a blank, a line break and a tab.
_BLANKS = re.compile(r"[\s\u2581\u0120\u010a\u0109]+")
# Bytes that are no whole sign: as OpenAI, as SentencePiece and as a decoder writes them.
_SOME_BYTES = re.compile(r"bytes:(?:[ -\[\]-~]|\\x[0-9a-f]{2})+")
_ONE_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_PART = "\ufffd"
_THOUGHT, _THOUGHT_ENDS = "<think>", "</think>"


def read_likelihood(
    body: Mapping[str, Any], *, text: str, answer: str, generated: int
) -> AnswerScore | None:
    """Add up the log-likelihoods of the answer at the end of an echoed text.

    A token that holds the end of the prompt and the start of the answer counts whole.

    Args:
        text: Prompt and answer, as sent.
        generated: Tokens that the server was asked to write after the text, 0 or 1.

    Returns:
        None where the reply does not hold them: no echo, no log-likelihoods, or tokens
        that are not those of the text.
    """
    logprobs = _first_choice(body).get("logprobs")
    if not isinstance(logprobs, dict):
        return None
    tokens: Any = logprobs.get("tokens")
    values: Any = logprobs.get("token_logprobs")
    if not _all_of(tokens, str) or not isinstance(values, list) or len(values) != len(tokens):
        return None
    ends = _possible_ends(body, len(tokens), generated=generated)
    for end in ends:
        count = _count_from_end(tokens[:end], text, answer) or _count_from_end(
            [_squeeze(token) for token in tokens[:end]], _squeeze(text), _squeeze(answer)
        )
        if count:
            break
    else:
        end = ends[0]
        count = _count_by_offset(logprobs.get("text_offset"), tokens, end, text, answer)
    scored = values[end - count : end]
    if (
        not 0 < count < end
        or not _all_of(scored, float, int)
        or not all(map(math.isfinite, scored))
    ):
        return None  # an echo has at least one token before the answer
    return AnswerScore(math.fsum(scored), count)


def read_text(body: Mapping[str, Any]) -> str | None:
    """Find the generated text, of a completion or a chat; None where there is none.

    A model that ended while it still thought has written the empty text.
    """
    choice = _first_choice(body)
    text = choice.get("text")
    message = choice.get("message")
    if isinstance(message, dict):
        text = message.get("content") or ""
    return text if isinstance(text, str) else None


def read_finished(body: Mapping[str, Any]) -> bool:
    """Tell whether the generated text ended by itself, not at the longest that was allowed."""
    return _first_choice(body).get("finish_reason") != "length"


def read_first_line(text: str) -> str:
    """Take the first line of a generated text that is not empty, behind what was thought aloud.

    A text that ended while the model still thought has none.
    """
    text = text.rpartition(_THOUGHT_ENDS)[2]
    lines = [] if _THOUGHT in text else [" ".join(line.split()) for line in text.splitlines()]
    return next(filter(None, lines), "")


def check_answers(answers: Sequence[str], *, written: bool) -> None:
    """Stop at answers that no reply can tell apart.

    Args:
        written: The server writes an answer, where letter case and blanks do not count.

    Raises:
        LabelError: An empty answer, or two that are the same.
    """
    labels = [_fold(answer) if written else answer for answer in answers]
    if not all(label.strip() for label in labels) or len(set(labels)) < len(labels):
        but = " by more than letter case and blanks" if written else ""
        raise LabelError(
            f"cannot tell the answers {list(answers)} apart: answers that are not empty and differ"
            f"{but} are needed; rename the labels"
        )


def find_label(text: str, answers: Sequence[str]) -> int | None:
    """Find the answer that a generated text gives, as its place; None where it gives none.

    Letter case, blanks and forms of the same sign do not count. It is the label that the
    text starts with; else the only one in its first line; else the only one in it. A label
    is a whole word, but in scripts without letter case, many of which write no blanks. Of
    labels within each other ('very good', 'good') the longest is meant.
    """
    labels = [_fold(answer) for answer in answers]
    text = text.rpartition(_THOUGHT_ENDS)[2]
    if _THOUGHT in text:
        return None
    pattern = re.compile("|".join(map(_bound, sorted(labels, key=len, reverse=True))))
    lines = [folded for line in text.splitlines() if (folded := _fold(line))]
    if not lines:
        return None
    first = pattern.search(lines[0])
    if first and not any(map(str.isalnum, lines[0][: first.start()])):
        return labels.index(first.group())
    for part in (lines[0], " ".join(lines)):
        named = set(pattern.findall(part))
        if len(named) == 1:
            return labels.index(named.pop())
    return None


def score_written(place: int | None, *, answers: int) -> tuple[AnswerScore, ...]:
    """Score a label that was written: 0.99 for it, the rest shared; all equal for none."""
    if answers == 1:
        return (AnswerScore(0.0, 1),)
    low = math.log(1 / answers if place is None else (1 - _WRITTEN) / (answers - 1))
    return tuple(
        AnswerScore(math.log(_WRITTEN) if index == place else low, 1) for index in range(answers)
    )


def _first_choice(body: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return {}
    return choices[0]


def _all_of(values: object, *kinds: type) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, kinds) and not isinstance(value, bool) for value in values
    )


def _possible_ends(body: Mapping[str, Any], tokens: int, *, generated: int) -> list[int]:
    """Where the echoed text may end among the tokens, the likeliest first.

    Some servers count a generated token and do not send it, some leave the begin token
    out of their count, some do not count.
    """
    usage = body.get("usage")
    prompt = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    counted = [prompt] if isinstance(prompt, int) and tokens - prompt in (0, 1) else []
    return list(dict.fromkeys([*counted, tokens - generated, tokens, tokens - 1]))


def _count_from_end(tokens: Sequence[str], text: str, answer: str) -> int:
    """Tokens at the end that hold the answer; 0 where they are not those of the text.

    All places where a token may start are kept, since one that is a part of a sign comes
    as a replacement character, which may stand for one to three bytes.
    """
    whole = text.encode("utf-8", "surrogatepass")
    begin = len(whole) - len(answer.encode("utf-8", "surrogatepass"))
    starts, exact = {len(whole)}, 0
    for count, token in enumerate(reversed(tokens), start=1):
        for unit in reversed(_units(token)):
            starts = {at for start in starts for at in _step_back(whole, start, unit)}
        if begin in starts:
            exact = count  # and go on: tokens without text may belong to it
        elif not starts or max(starts) < begin:
            return exact or (count if starts else 0)
    return exact


def _units(token: str) -> list[bytes | None]:
    """What a token stands for, sign by sign; None is a part of one that was not spelled out."""
    if _ONE_BYTE.fullmatch(token):
        return [bytes.fromhex(token[3:5])]
    if _SOME_BYTES.fullmatch(token):
        spelled = token.removeprefix("bytes:").encode("ascii").decode("unicode_escape")
        return [spelled.encode("latin-1")]
    return [None if sign == _PART else sign.encode("utf-8", "surrogatepass") for sign in token]


def _step_back(whole: bytes, start: int, unit: bytes | None) -> list[int]:
    if unit is not None:
        return [start - len(unit)] if whole.endswith(unit, 0, start) else []
    sizes = (size for size in (1, 2, 3) if size <= start)
    return [start - size for size in sizes if min(whole[start - size : start]) >= 0x80]


def _count_by_offset(
    offsets: object, tokens: Sequence[str], end: int, text: str, answer: str
) -> int:
    """Tokens from the answer's first character on, where the offsets are those of the text."""
    if not isinstance(offsets, list) or not _all_of(offsets, int) or len(offsets) != len(tokens):
        return 0
    last = offsets[end] if end < len(offsets) else offsets[-1] + len(tokens[-1])
    if offsets[0] != 0 or last != len(text):
        return 0
    stops = [*offsets[1:end], last]
    return sum(stop > len(text) - len(answer) for stop in stops)


def _squeeze(text: str) -> str:
    return _BLANKS.sub("", text)


def _fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _bound(label: str) -> str:
    whole = label.upper() != label.lower() or not any(map(str.isalpha, label))
    return rf"(?<!\w){re.escape(label)}(?!\w)" if whole else re.escape(label)
