"""Language models behind an OpenAI-compatible endpoint: they score answers, or write them.

Where the server echoes a prompt with the log-likelihoods of its tokens, each answer is
sent once and read from the echo. Elsewhere the model writes an answer and the label is
looked for in it: then a score tells which label was written, not how sure the model is.
Where there is no label, as in a translation, the first line of the answer is all. No
question is asked twice.
"""

import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp_meta.errors import EndpointError, SettingsError
from nlp_meta.prompting.prompts import AnswerScore, Prompt, Written
from nlp_meta.prompting.questions import (
    AnswerCache,
    Question,
    Way,
    count_at_most,
    hash_question,
    make_questions,
    ways_of,
)
from nlp_meta.prompting.requests import (
    Clock,
    Endpoint,
    Reply,
    Sleep,
    check_answers,
    find_label,
    make_pace,
    open_endpoint,
    read_address,
    read_finished,
    read_first_line,
    read_likelihood,
    read_text,
    score_written,
)

logger = logging.getLogger(__name__)

Record = Mapping[str, Any]
"""What is kept of a reply: `log_likelihood` and `tokens` of an echo, else `text` and `finished`."""
# Unlikely words, for a server that gives all tokens of a prompt the log-likelihood 0.
_PROBE = Prompt("", "The capital of ", " is", (" purple",))
_PROBE_QUERY = "France"
# A share of fewer written answers than this says little.
_FEWEST_WRITTEN = 10
# Arguments that settings hold; the others are for those who write Python.
_SETTINGS = {
    "context_tokens": "prompting.context_tokens",
    "answer_tokens": "translation_prompting.max_new_tokens",
    "timeout": "prompting.timeout",
    "retries": "prompting.retries",
    "requests_per_minute": "prompting.requests_per_minute",
}
# Which numbers can be used, and how an error says so.
_NEEDS: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "context_tokens": (lambda number: number >= 1, "at least 1"),
    "answer_tokens": (lambda number: number >= 1, "at least 1"),
    "most_nonsense": (lambda number: 0 <= number <= 1, "a share from 0 to 1"),
    "timeout": (lambda number: number > 0, "more than 0 seconds"),
    "retries": (lambda number: number >= 0, "at least 0"),
    "concurrency": (lambda number: number >= 1, "at least 1"),
    "requests_per_minute": (lambda number: number > 0, "more than 0, or none,"),
}


def _ask(endpoint: Endpoint, cache: AnswerCache, question: Question) -> Record:
    """Answer a question from the cache, else by asking, and keep the answer."""
    known = cache.get(question.key)
    if known is not None:
        return known
    reply = endpoint.post(question.way.path, question.payload)
    if reply.status >= 300:
        raise endpoint.explain(reply)
    record = _read_reply(reply, question)
    if record is None:
        raise _name_unreadable(endpoint, question.way)
    cache.keep(question.key, record)
    return record


def _spread(
    work: Callable[[str], list[Record]], queries: Sequence[str], *, threads: int
) -> Generator[list[Record]]:
    """Ask for all queries, in their order; an error leaves the others unasked."""
    if threads == 1:
        yield from map(work, queries)
        return
    pool = ThreadPoolExecutor(threads)
    try:
        yield from pool.map(work, queries)
    finally:
        pool.shutdown(cancel_futures=True)


def _find_way(endpoint: Endpoint, cache: AnswerCache, *, mode: str, answer_tokens: int) -> Way:
    """Find the first way of a mode that the endpoint takes, and remember it.

    A server may fail at an echo with any status; only a key or a quota that it does not
    accept, and a server that cannot be reached, end the search.

    Raises:
        EndpointError: None is taken; says why the last, or a failing one, was not.
    """
    ways = {way.name: way for way in ways_of(mode)}
    key = hash_question("way", endpoint.address, endpoint.model, mode)
    known = (cache.get(key) or {}).get("way")
    if known in ways:
        return ways[known]
    replies = []
    for way in ways.values():
        (question,) = _make_questions(endpoint, way, _PROBE, _PROBE_QUERY, answer_tokens)
        reply = endpoint.post(way.path, question.payload)
        if reply.status in (401, 403, 429):
            raise endpoint.explain(reply)
        record = _read_reply(reply, question) if reply.status < 300 else None
        if record is not None and record.get("log_likelihood", -1.0) < 0:
            logger.info("endpoint %s answers by %s", endpoint.address, way.name)
            cache.keep(key, {"way": way.name})
            return way
        replies.append(reply)
    if any(reply.status < 300 for reply in replies):
        raise _name_unreadable(endpoint, list(ways.values())[-1])
    raise endpoint.explain(max(reversed(replies), key=lambda reply: reply.status >= 500))


def _make_questions(
    endpoint: Endpoint, way: Way, prompt: Prompt, query: str, answer_tokens: int
) -> Iterator[Question]:
    return make_questions(
        way,
        prompt,
        query,
        address=endpoint.address,
        model=endpoint.model,
        answer_tokens=answer_tokens,
    )


def _read_reply(reply: Reply, question: Question) -> Record | None:
    """Take what is kept of a reply; None where it is not there."""
    if question.way.mode != "likelihood":
        text = read_text(reply.body)
        return None if text is None else {"text": text, "finished": read_finished(reply.body)}
    score = read_likelihood(
        reply.body, text=question.text, answer=question.answer, generated=question.way.generated
    )
    if score is None:
        return None
    return {"log_likelihood": score.log_likelihood, "tokens": score.tokens}


def _name_unreadable(endpoint: Endpoint, way: Way) -> EndpointError:
    content, other = "text in `choices`", "chat"
    if way.mode == "likelihood":
        content, other = "the log-likelihoods of the echoed answer in `logprobs`", "completion"
    return EndpointError(
        f"cannot read the reply of endpoint {endpoint.address} to '{way.path}': {content} is "
        f"needed; change `prompting.endpoint`, or in Python `mode` of `connect_endpoint` to {other}"
    )


@dataclass(slots=True)
class EndpointScorer:
    """A language model behind an endpoint; `connect_endpoint` makes it.

    Attributes:
        way: The form of request that the server takes.
        answer_tokens: Longest written answer.
        written: Labels asked for in words so far.
        nonsense: Those of them whose answer names no label, or several.
    """

    name: str
    context_tokens: int
    way: Way
    answer_tokens: int
    _endpoint: Endpoint = field(repr=False)
    _cache: AnswerCache = field(repr=False)
    _most_nonsense: float
    _concurrency: int
    written: int = 0
    nonsense: int = 0

    @property
    def graded(self) -> bool:
        """Tell whether scores are the model's own log-likelihoods.

        Else they only say which label it wrote: no rule that subtracts one score from
        another has anything to work on, and a text without content earns nonsense.
        """
        return self.way.mode == "likelihood"

    def count_tokens(self, text: str) -> int:
        """Estimate the tokens of a text from above: half its ASCII characters, all other bytes."""
        return count_at_most(text)

    def score(self, prompt: Prompt, queries: Sequence[str]) -> list[tuple[AnswerScore, ...]]:
        """Score all answers after each query, from the cache or by asking.

        A written answer that names no label, or several, gets equal scores. What was answered
        before an error or an interruption is kept.

        Raises:
            EndpointError: The endpoint does not answer as it must, or too many written
                answers are nonsense.
            LabelError: An answer that is empty, or two that are the same.
        """
        check_answers(prompt.answers, written=not self.graded)
        with closing(self._ask(prompt, queries)) as rows:
            return [self._read_scores(records, prompt.answers) for records in rows]

    def write(self, prompt: Prompt, queries: Sequence[str]) -> list[Written]:
        """Have a line written behind each query, from the cache or by asking.

        Raises:
            EndpointError: The endpoint does not answer as it must.
            SettingsError: It was connected to score.
        """
        if self.graded:
            raise SettingsError(
                f"cannot have '{self.name}' write by {self.way.name}: a completion or a chat is "
                "needed; set `mode` of `connect_endpoint` to written"
            )
        with closing(self._ask(prompt, queries)) as rows:
            return [
                Written(read_first_line(record["text"]), record.get("finished", True))
                for (record,) in rows
            ]

    def _ask(self, prompt: Prompt, queries: Sequence[str]) -> Generator[list[Record]]:
        def ask_all(query: str) -> list[Record]:
            questions = _make_questions(self._endpoint, self.way, prompt, query, self.answer_tokens)
            return [_ask(self._endpoint, self._cache, question) for question in questions]

        return _spread(ask_all, queries, threads=self._concurrency)

    def _read_scores(
        self, records: Sequence[Record], answers: Sequence[str]
    ) -> tuple[AnswerScore, ...]:
        if self.graded:
            return tuple(
                AnswerScore(record["log_likelihood"], record["tokens"]) for record in records
            )
        (record,) = records
        place = find_label(record["text"], answers)
        self.written += 1
        if place is None:
            self.nonsense += 1
            self._check_nonsense(record["text"])
        return score_written(place, answers=len(answers))

    def _check_nonsense(self, last: str) -> None:
        if self.nonsense > self._most_nonsense * max(self.written, _FEWEST_WRITTEN):
            raise EndpointError(
                f"cannot use the answers of model '{self.name}': {self.nonsense} of "
                f"{self.written} name no label or several, the last is "
                f"'{' '.join(last.split())[:60]}', a share of at most {self._most_nonsense:g} is "
                "allowed; change `prompting.templates` or `prompting.model_name_or_path`"
            )


def connect_endpoint(
    endpoint: str,
    *,
    model: str,
    context_tokens: int,
    mode: str,
    answer_tokens: int,
    most_nonsense: float,
    timeout: float,
    retries: int,
    concurrency: int,
    requests_per_minute: float | None,
    cache_dir: Path | None,
    api_key_env: str = "OPENAI_API_KEY",
    clock: Clock = time.monotonic,
    sleep: Sleep = time.sleep,
) -> EndpointScorer:
    """Find out by short probes how an endpoint answers, and make a scorer of it.

    Probes and answers are kept in `cache_dir`: a run that was interrupted asks only what
    is missing, a run that was finished asks nothing. To probe again, take a new folder.

    Args:
        endpoint: Address, with or without `/v1`; http or https.
        context_tokens: Of the model: endpoints do not tell.
        mode: `likelihood`, `completion`, `chat`; `auto`, the first of these that the
            server has; or `written`, the first of the last two.
        answer_tokens: Longest written answer; a model that thinks first needs many.
        most_nonsense: Share of written answers that may name no label before the run stops.
        timeout: Seconds without a byte of an answer.
        retries: Attempts after the first, with doubled waits between them.
        concurrency: Queries that are asked at once.
        requests_per_minute: None for no limit.
        cache_dir: None keeps answers in memory alone.
        api_key_env: Environment variable that holds the key; no key is sent where it is
            not set.

    Raises:
        SettingsError: An argument out of range, or an address or a key that cannot be sent.
        EndpointError: Nothing answers, or nothing that holds scores or text.
        DataError: The cache cannot be read or written.
    """
    _check_numbers(
        context_tokens=context_tokens,
        answer_tokens=answer_tokens,
        most_nonsense=most_nonsense,
        timeout=timeout,
        retries=retries,
        concurrency=concurrency,
        requests_per_minute=requests_per_minute,
    )
    opened = open_endpoint(
        read_address(endpoint),
        model=model,
        api_key_env=api_key_env,
        timeout=timeout,
        retries=retries,
        pace=make_pace(requests_per_minute, clock=clock, sleep=sleep),
        sleep=sleep,
    )
    cache = AnswerCache(cache_dir)
    way = _find_way(opened, cache, mode=mode, answer_tokens=answer_tokens)
    return EndpointScorer(
        model, context_tokens, way, answer_tokens, opened, cache, most_nonsense, concurrency
    )


def _check_numbers(**numbers: float | None) -> None:
    for argument, number in numbers.items():
        is_fine, need = _NEEDS[argument]
        if number is not None and not is_fine(number):
            change = _SETTINGS.get(argument, f"{argument}` of `connect_endpoint")
            raise SettingsError(
                f"cannot ask an endpoint with {argument} {number}: {need} is needed; change "
                f"`{change}`"
            )
