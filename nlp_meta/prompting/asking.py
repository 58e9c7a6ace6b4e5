"""Asking an OpenAI-compatible endpoint: each question once, in the form that it takes."""

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from nlp_meta.errors import EndpointError
from nlp_meta.prompting.answer_cache import AnswerCache, hash_question
from nlp_meta.prompting.prompts import Prompt
from nlp_meta.prompting.questions import Question, Way, make_questions, ways_of
from nlp_meta.prompting.replies import read_finished, read_likelihood, read_text
from nlp_meta.prompting.requesting import Endpoint, Reply

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
