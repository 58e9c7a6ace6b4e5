"""Questions to an OpenAI-compatible endpoint: their forms, their cost, and answers kept on disk.

Nothing here sends anything. An interrupted run asks no question twice: a file holds hashes
of what was asked and the little that was read from each answer, no prompt and no key.
"""

import hashlib
import json
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nlp_meta.errors import DataError, SettingsError
from nlp_meta.files.outputs import append_text, check_file
from nlp_meta.prompting.prompts import Prompt

_FILE, _PLACE = "endpoint_answers.jsonl", "run.output_dir"
MODES = ("auto", "likelihood", "written", "completion", "chat")
Batches = Sequence[tuple[Prompt, Sequence[str]]]
"""Prompts, each with its queries."""

# Part of every hash: to be raised when what is read from a reply changes.
_READING = 1


def hash_question(*parts: object) -> str:
    """Hash what an answer depends on, the same in every process."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class AnswerCache:
    """Answers by the hash of their question, in memory and, given a folder, on disk.

    Each answer is one line, appended in a single write as soon as it is there; a line
    that was torn by a crash is not read, and costs one question. Threads may share it.
    """

    def __init__(self, folder: Path | None) -> None:
        """Read what earlier runs left in a folder, which is made where it is missing.

        Raises:
            OutputError: The folder cannot be made or written to.
            DataError: Its file cannot be read.
        """
        self._path = None if folder is None else folder / _FILE
        self._lock = threading.Lock()
        self._answers: dict[str, Mapping[str, Any]] = {}
        self._torn = False
        if self._path is None:
            return
        check_file(self._path, replace=True, argument=_PLACE)
        try:
            content = self._path.read_bytes() if self._path.exists() else b""
        except OSError as error:
            raise DataError(
                f"cannot read the answers in {self._path} ({error.strerror}): a file that can be "
                f"read is needed; change `{_PLACE}`"
            ) from error
        self._torn = bool(content) and not content.endswith(b"\n")
        for line in content.splitlines():
            self._answers.update(_read_line(line))

    def get(self, key: str) -> Mapping[str, Any] | None:
        """Look an answer up."""
        return self._answers.get(key)

    def keep(self, key: str, answer: Mapping[str, Any]) -> None:
        """Write an answer down.

        Raises:
            OutputError: The disk does not take it.
        """
        line = json.dumps({"key": key, "answer": answer}) + "\n"
        with self._lock:
            self._answers[key] = answer
            if self._path is None:
                return
            append_text(self._path, "\n" + line if self._torn else line, argument=_PLACE)
            self._torn = False


def _read_line(line: bytes) -> dict[str, Mapping[str, Any]]:
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    if not isinstance(row, dict) or not isinstance(row.get("answer"), dict):
        return {}
    return {str(row.get("key")): row["answer"]}


@dataclass(frozen=True, slots=True)
class Way:
    """One form of request, of those that servers take.

    Attributes:
        mode: One of MODES, never `auto` or `written`.
        limit: The field for the longest written answer, in tokens; empty for an echo.
        generated: Tokens that an echo is asked to add, since some servers demand one.
    """

    name: str
    mode: str
    path: str
    fields: Mapping[str, Any]
    limit: str = ""
    generated: int = 0


def _echo(generated: int) -> Mapping[str, Any]:
    return MappingProxyType(
        {"echo": True, "logprobs": 1, "max_tokens": generated, "temperature": 0}
    )


_COLD = MappingProxyType({"temperature": 0})
WAYS = (
    Way("echo", "likelihood", "/completions", _echo(0)),
    Way("echo and a token", "likelihood", "/completions", _echo(1), generated=1),
    Way("completion", "completion", "/completions", _COLD, "max_tokens"),
    Way("chat", "chat", "/chat/completions", _COLD, "max_tokens"),
    # Models that think before they answer know neither a temperature nor the older limit.
    Way(
        "chat after thought",
        "chat",
        "/chat/completions",
        MappingProxyType({}),
        "max_completion_tokens",
    ),
)
"""In the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class Question:
    """One request.

    Attributes:
        text: The whole prompt, in an echo with the answer at its end.
        answer: Empty where the server shall write one.
        key: Hash of all that the reply depends on, and of how it is read.
        tokens: Sent and generated, at most.
    """

    way: Way
    payload: Mapping[str, Any]
    text: str
    answer: str
    key: str
    tokens: int


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What a run will ask of an endpoint, at most, repeated attempts aside; `str` is one line.

    Attributes:
        tokens: Sent and generated.
        price: In the currency of the price a million tokens; None where that is unknown.
        minutes: At least, by the limit of requests; None without a limit.
    """

    requests: int
    tokens: int
    price: float | None
    minutes: float | None

    def __str__(self) -> str:
        """Say it in one line."""
        parts = [f"{self.requests} requests", f"{self.tokens} tokens"]
        parts += [] if self.price is None else [f"a price of {self.price:.4f}"]
        pace = "" if self.minutes is None else f", over at least {self.minutes:.1f} minutes"
        return f"at most {', '.join(parts[:-1])} and {parts[-1]}{pace}"


def ways_of(mode: str) -> tuple[Way, ...]:
    """List the ways of a mode; all for `auto`, all that write an answer for `written`.

    Raises:
        SettingsError: There is no such mode.
    """
    if mode not in MODES:
        raise SettingsError(
            f"cannot ask an endpoint with mode {mode}: one of {', '.join(MODES)} is needed; change "
            "`mode` of `connect_endpoint`"
        )
    return tuple(
        way
        for way in WAYS
        if mode in ("auto", way.mode) or (mode == "written" and way.mode != "likelihood")
    )


def count_at_most(text: str) -> int:
    """Estimate the tokens of a text from above: half its ASCII characters, all other bytes.

    Byte-level tokenizers never need more tokens than bytes, and come close to that in
    scripts that they saw little of. English has some 4 characters a token, languages of
    few resources in Latin letters some 2 to 2.5 (SmolLM2 on AfriSenti and NusaX), so that
    the usual third of the characters would be too few.
    """
    latin = len(text.encode("ascii", "ignore"))
    return math.ceil(latin / 2) + len(text.encode("utf-8", "surrogatepass")) - latin


def make_questions(
    way: Way, prompt: Prompt, query: str, *, address: str, model: str, answer_tokens: int
) -> Iterator[Question]:
    """Make the requests for one query: one an answer in an echo, else one for all.

    A completion without answers to choose from ends with its line.
    """
    whole = prompt.prefix + prompt.before + query + prompt.after
    for answer in prompt.answers if way.mode == "likelihood" else ("",):
        text = whole + answer
        payload: dict[str, Any] = {"model": model, **way.fields}
        if way.limit:
            payload[way.limit] = answer_tokens
        if way.mode == "chat":
            payload["messages"] = [{"role": "user", "content": text}]
        else:
            payload["prompt"] = text
        if way.mode == "completion" and not prompt.answers:
            payload["stop"] = ["\n"]
        key = hash_question(_READING, address, way.path, payload, answer)
        generated = answer_tokens if way.limit else way.generated
        yield Question(way, payload, text, answer, key, count_at_most(text) + generated)


def estimate_cost(
    batches: Batches,
    *,
    mode: str,
    answer_tokens: int,
    price_per_million_tokens: float | None,
    requests_per_minute: float | None,
) -> CostEstimate:
    """Estimate what scoring prompts will cost, before anything is sent: the dearest way.

    Args:
        mode: As for `connect_endpoint`.
        answer_tokens: Longest written answer.
        price_per_million_tokens: The dearer one, where sent and generated tokens differ.
    """
    estimates = []
    for way in ways_of(mode):
        tokens = [
            question.tokens
            for prompt, queries in batches
            for query in queries
            for question in make_questions(
                way, prompt, query, address="", model="", answer_tokens=answer_tokens
            )
        ]
        estimates.append((sum(tokens), len(tokens)))
    most, requests = max(estimates)
    per_million, rate = price_per_million_tokens, requests_per_minute
    price = None if per_million is None else most * per_million / 1e6
    return CostEstimate(requests, most, price, None if rate is None else requests / rate)
