"""Answers of an OpenAI-compatible endpoint: scored, or written.

Where the server echoes a prompt with the log-likelihoods of its tokens, each answer is
sent once and read from the echo. Elsewhere the model writes an answer and the label is
looked for in it: then a score tells which label was written, not how sure the model is.
Where there is no label, as in a translation, the first line of the answer is all.

Asking an OpenAI-compatible endpoint: each question once, in the form that it takes.
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
    MODES,
    AnswerCache,
    Batches,
    CostEstimate,
    Question,
    Way,
    add_up,
    count_at_most,
    hash_question,
    make_questions,
    ways_of,
)
from nlp_meta.prompting.replies import (
    check_answers,
    find_label,
    read_finished,
    read_first_line,
    read_likelihood,
    read_text,
    read_usage,
    score_written,
)
from nlp_meta.prompting.requests import (
    Clock,
    Endpoint,
    Reply,
    Sleep,
    make_pace,
    open_endpoint,
    read_address,
)

logger = logging.getLogger(__name__)

Record = Mapping[str, Any]
"""What is kept of a reply: `log_likelihood` and `tokens` of an echo, else `text` and `finished`."""
Answered = tuple[Record, Reply | None]
"""A record, and the reply that it was read from; None where it was known already."""

# Unlikely words, for a server that gives all tokens of a prompt the log-likelihood 0.
_PROBE = Prompt("", "The capital of ", " is", (" purple",))
_PROBE_QUERY = "France"


def ask(endpoint: Endpoint, cache: AnswerCache, question: Question) -> Answered:
    """Answer a question from the cache, else by asking, and keep the answer.

    Raises:
        EndpointError: A refusal, or a reply that does not hold what was asked for.
    """
    known = cache.get(question.key)
    if known is not None:
        return known, None
    reply = endpoint.post(question.way.path, question.payload)
    if reply.status >= 300:
        raise endpoint.explain(reply)
    record = _read_reply(reply, question)
    if record is None:
        raise _name_unreadable(endpoint, question.way)
    cache.keep(question.key, record)
    return record, reply


def spread(
    work: Callable[[str], list[Answered]], queries: Sequence[str], *, threads: int
) -> Generator[list[Answered]]:
    """Ask for all queries, in their order; an error leaves the others unasked."""
    if threads == 1:
        yield from map(work, queries)
        return
    pool = ThreadPoolExecutor(threads)
    try:
        yield from pool.map(work, queries)
    finally:
        pool.shutdown(cancel_futures=True)


def find_way(endpoint: Endpoint, cache: AnswerCache, *, mode: str, answer_tokens: int) -> Way:
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
        (question,) = make_questions(
            way,
            _PROBE,
            _PROBE_QUERY,
            address=endpoint.address,
            model=endpoint.model,
            answer_tokens=answer_tokens,
        )
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


def _read_reply(reply: Reply, question: Question) -> Record | None:
    """Take what is kept of a reply; None where it is not there."""
    if question.way.mode != "likelihood":
        text = read_text(reply.body)
        return None if text is None else {"text": text, "finished": read_finished(reply.body)}
    score = read_likelihood(
        reply.body,
        text=question.text,
        answer=question.answer,
        generated=question.way.generated,
    )
    if score is None:
        return None
    return {"log_likelihood": score.log_likelihood, "tokens": score.tokens}


def _name_unreadable(endpoint: Endpoint, way: Way) -> EndpointError:
    what, other = "text in `choices`", "chat"
    if way.mode == "likelihood":
        what, other = "the log-likelihoods of the echoed answer in `logprobs`", "completion"
    return EndpointError(
        f"cannot read the reply of endpoint {endpoint.address} to '{way.path}': {what} is needed; "
        f"change `prompting.endpoint`, or in Python `mode` of `connect_endpoint` to {other}"
    )


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


@dataclass(slots=True)
class EndpointTally:
    """What an endpoint has answered so far, beside the probes.

    Attributes:
        cached: Answers that needed no request.
        prompt_tokens: Of the requests, as the server counts them; 0 where it does not.
        written: Answers in words, cached ones too.
        nonsense: Those of them that name no label, or several.
        empty: Lines without a word.
    """

    requests: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    written: int = 0
    nonsense: int = 0
    empty: int = 0


@dataclass(slots=True)
class EndpointScorer:
    """A language model behind an endpoint; `connect_endpoint` makes it.

    Attributes:
        way: The form of request that the server takes.
    """

    name: str
    context_tokens: int
    way: Way
    tally: EndpointTally
    _endpoint: Endpoint = field(repr=False)
    _cache: AnswerCache = field(repr=False)
    _answer_tokens: int
    _most_nonsense: float
    _concurrency: int

    @property
    def graded(self) -> bool:
        """Tell whether scores are the model's own log-likelihoods.

        Else they only say which label it wrote: no rule that subtracts one score from
        another has anything to work on, and a text without content earns nonsense.
        """
        return self.way.mode == "likelihood"

    @property
    def answer_tokens(self) -> int:
        return self._answer_tokens

    def count_tokens(self, text: str) -> int:
        """Estimate the tokens of a text from above: half its ASCII characters, all other bytes."""
        return count_at_most(text)

    def score(self, prompt: Prompt, queries: Sequence[str]) -> list[tuple[AnswerScore, ...]]:
        """Score all answers after each query, from the cache or by asking.

        A written answer that names no label, or several, gets equal scores and is counted.
        What was answered before an error or an interruption is kept.

        Raises:
            EndpointError: The endpoint does not answer as it must, or too many written
                answers are nonsense.
            LabelError: An answer that is empty, or two that are the same.
        """
        check_answers(prompt.answers, written=not self.graded)
        with closing(self._ask(prompt, queries)) as rows:
            return [self._read_row(row, prompt.answers) for row in rows]

    def write(self, prompt: Prompt, queries: Sequence[str]) -> list[Written]:
        """Have a line written behind each query, from the cache or by asking.

        An answer without a word is empty, and counted.

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
            return [self._read_line(row) for row in rows]

    def estimate_cost(
        self,
        batches: Batches,
        *,
        price_per_million_tokens: float | None,
        requests_per_minute: float | None,
    ) -> CostEstimate:
        """Estimate what scoring these prompts will cost; what is cached costs nothing."""
        return add_up(
            (
                question
                for prompt, queries in batches
                for query in queries
                for question in self._make_questions(prompt, query)
                if self._cache.get(question.key) is None
            ),
            price_per_million_tokens=price_per_million_tokens,
            requests_per_minute=requests_per_minute,
        )

    def _ask(self, prompt: Prompt, queries: Sequence[str]) -> Generator[list[Answered]]:
        def ask_all(query: str) -> list[Answered]:
            questions = self._make_questions(prompt, query)
            return [ask(self._endpoint, self._cache, question) for question in questions]

        return spread(ask_all, queries, threads=self._concurrency)

    def _make_questions(self, prompt: Prompt, query: str) -> Iterator[Question]:
        return make_questions(
            self.way,
            prompt,
            query,
            address=self._endpoint.address,
            model=self._endpoint.model,
            answer_tokens=self._answer_tokens,
        )

    def _count(self, row: Sequence[Answered]) -> None:
        for _, reply in row:
            if reply is None:
                self.tally.cached += 1
                continue
            prompt, generated = read_usage(reply.body)
            self.tally.requests += 1
            self.tally.prompt_tokens += prompt
            self.tally.generated_tokens += generated

    def _read_line(self, row: Sequence[Answered]) -> Written:
        self._count(row)
        ((record, _),) = row
        line = read_first_line(record["text"])
        self.tally.written += 1
        self.tally.empty += not line
        return Written(line, record.get("finished", True))

    def _read_row(self, row: Sequence[Answered], answers: Sequence[str]) -> tuple[AnswerScore, ...]:
        self._count(row)
        if self.graded:
            return tuple(AnswerScore(one["log_likelihood"], one["tokens"]) for one, _ in row)
        ((record, _),) = row
        place = find_label(record["text"], answers)
        self.tally.written += 1
        if place is None:
            self.tally.nonsense += 1
            self._check_nonsense(record["text"])
        return score_written(place, answers=len(answers))

    def _check_nonsense(self, last: str) -> None:
        written, nonsense = self.tally.written, self.tally.nonsense
        if nonsense > self._most_nonsense * max(written, _FEWEST_WRITTEN):
            raise EndpointError(
                f"cannot use the answers of model '{self.name}': {nonsense} of {written} name no "
                f"label or several, the last is '{' '.join(last.split())[:60]}', a share of at "
                f"most {self._most_nonsense:g} is allowed; change `prompting.templates` or "
                "`prompting.model_name_or_path`"
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
    address = read_address(endpoint)
    least = {"context_tokens": 1, "answer_tokens": 1, "retries": 0, "concurrency": 1}
    given = (context_tokens, answer_tokens, retries, concurrency)
    for (argument, lowest), value in zip(least.items(), given, strict=True):
        _check_range(argument, value, value >= lowest, f"at least {lowest}")
    _check_range("timeout", timeout, timeout > 0, "more than 0 seconds")
    rate = requests_per_minute
    _check_range("requests_per_minute", rate, rate is None or rate > 0, "more than 0, or none,")
    _check_range("most_nonsense", most_nonsense, 0 <= most_nonsense <= 1, "a share from 0 to 1")
    _check_range("mode", mode, mode in MODES, f"one of {', '.join(MODES)}")
    opened = open_endpoint(
        address,
        model=model,
        api_key_env=api_key_env,
        timeout=timeout,
        retries=retries,
        pace=make_pace(rate, clock=clock, sleep=sleep),
        sleep=sleep,
    )
    cache = AnswerCache(cache_dir)
    way = find_way(opened, cache, mode=mode, answer_tokens=answer_tokens)
    limits = (answer_tokens, most_nonsense, concurrency)
    return EndpointScorer(model, context_tokens, way, EndpointTally(), opened, cache, *limits)


def _check_range(argument: str, value: object, holds: bool, need: str) -> None:
    if not holds:
        setting = _SETTINGS.get(argument)
        change = f"`{setting}`" if setting else f"`{argument}` of `connect_endpoint`"
        raise SettingsError(
            f"cannot ask an endpoint with {argument} {value}: {need} is needed; change {change}"
        )
