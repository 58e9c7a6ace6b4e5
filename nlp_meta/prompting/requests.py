"""Requests to an OpenAI-compatible endpoint, paced and repeated where it helps, and its replies.

The key lives in the client alone: no value that leaves this file holds it, and what a
server says is cleared of it before anybody reads it.

Replies are read with care, for servers differ in what they send. Text offsets count a begin
token in some servers, lose blanks in others and are missing in yet others. So the tokens of an
answer are found by their text, from its end, and offsets are taken only where that fails and the
last of them is where it must be.
"""

import ipaddress
import json
import math
import os
import re
import ssl
import threading
import unicodedata
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2

from nlp_meta.errors import EndpointError, LabelError, SettingsError
from nlp_meta.prompting.prompts import AnswerScore

Clock = Callable[[], float]
"""Seconds since any fixed moment."""
Sleep = Callable[[float], None]

# Waits before the second, third, ... attempt double up to the longest; a server that asks for
# more than an hour's rest is better asked tomorrow.
_FIRST_WAIT, _LONGEST_WAIT, _LONGEST_ASKED = 1.0, 60.0, 3600.0
_WORTH_REPEATING = {408, 429, 500, 502, 503, 504, 529}
_DETAIL = 200  # characters of what a server said that an error repeats


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered, good or bad.

    Attributes:
        status: Of HTTP; that of an error that came as an answer of status 200.
        body: The JSON object, empty where a refusal had none.
        detail: What the server said of a refusal, on one line.
    """

    status: int
    body: Mapping[str, Any]
    detail: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server and a model of it.

    Attributes:
        address: Up to and with the version, such as `http://127.0.0.1:8000/v1`.
        api_key_env: Environment variable of the key, for the errors.
        post: Sends one JSON object to a path below the address.
    """

    address: str
    model: str
    api_key_env: str
    post: Callable[[str, Mapping[str, Any]], Reply] = field(repr=False)

    def explain(self, reply: Reply) -> EndpointError:
        """Say what a reply of a bad status means, and what to change."""
        answer = f"{reply.status}{reply.detail and f' ({reply.detail})'}"
        later = "or start again later: answers so far are kept"
        if reply.status in (401, 403):
            mend = f"a key that it accepts is needed; set the variable `{self.api_key_env}`"
        elif reply.status == 404:
            mend = (
                "a model that it serves is needed; change `prompting.model_name_or_path` or "
                "`prompting.endpoint`"
            )
        elif reply.status == 429:
            mend = (
                "a slower pace or a larger quota is needed; lower "
                f"`prompting.requests_per_minute` {later}"
            )
        elif reply.status >= 500:
            mend = f"a server in order is needed; look at its log {later}"
        else:
            mend = (
                "the OpenAI format and prompts within the model's context are needed; change "
                "`prompting.endpoint` or lower `prompting.context_tokens`"
            )
        start = f"cannot use model '{self.model}' of endpoint {self.address}"
        return EndpointError(f"{start}: it answered {answer}, {mend}")


def read_address(endpoint: str) -> str:
    """Bring an address to its form up to the version, `/v1` where it names no path.

    Raises:
        SettingsError: Not http or https, no host, or one that could hold a secret.
    """
    try:
        parts = urlsplit(endpoint.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc or parts.query:
        raise SettingsError(
            f"cannot use an endpoint of scheme '{parts.scheme}' and host '{host or ''}': an "
            "address such as http://127.0.0.1:8000/v1 is needed, http or https, without user, "
            "password and query; change `prompting.endpoint`"
        )
    path = parts.path.rstrip("/").removesuffix("/completions").removesuffix("/chat") or "/v1"
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}{'' if port is None else f':{port}'}{path}"


def read_key(api_key_env: str) -> str:
    """Read the key from the environment; empty where the variable is not set.

    Raises:
        SettingsError: A key that no header can carry; the message does not show it.
    """
    key = os.environ.get(api_key_env, "").strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError(
            f"cannot send the key in `{api_key_env}` ({len(key)} characters): printable ASCII "
            f"without blanks is needed; change the environment variable `{api_key_env}`"
        )
    return key


def make_pace(
    requests_per_minute: float | None, *, clock: Clock, sleep: Sleep
) -> Callable[[], None]:
    """Make what waits before each request, so that their starts are evenly spaced."""
    if requests_per_minute is None:
        return lambda: None
    interval = 60 / requests_per_minute
    lock = threading.Lock()
    free = float("-inf")

    def pace() -> None:
        nonlocal free
        with lock:
            now = clock()
            start = max(now, free)
            free = start + interval
        if start > now:
            sleep(start - now)

    return pace


def open_endpoint(
    address: str,
    *,
    model: str,
    api_key_env: str,
    timeout: float,
    retries: int,
    pace: Callable[[], None],
    sleep: Sleep,
) -> Endpoint:
    """Make a client of an endpoint; nothing is sent yet.

    Timeouts, broken connections and states that pass are tried again, each time after
    twice the wait, or after what `Retry-After` asks for where that is longer. Proxies are
    those of the environment, none for a loopback address. Threads may share it.

    Args:
        timeout: Seconds without a byte of an answer.
        retries: Attempts after the first.

    Returns:
        An endpoint whose `post` raises EndpointError for one that is down or slow, asks
        for a rest of more than an hour, or answers with what is no JSON object.
    """
    key = read_key(api_key_env)
    client = _make_client(address, key=key, timeout=timeout)

    def post(path: str, payload: Mapping[str, Any]) -> Reply:
        content = json.dumps(payload).encode()
        attempt = 0
        while True:
            pace()
            wait = min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT)
            try:
                response = client.post(path, content=content)
            except httpx2.RequestError as error:
                if attempt == retries:
                    raise _explain(error, address, timeout=timeout, retries=retries) from error
            else:
                reply = _read(response, key=key, address=address)
                if attempt == retries or not _may_pass(reply):
                    return reply
                wait = max(wait, _read_rest(response, address=address))
            sleep(wait)
            attempt += 1

    weakref.finalize(post, client.close)
    return Endpoint(address, model, api_key_env, post)


def _make_client(address: str, *, key: str, timeout: float) -> httpx2.Client:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx2.Client(
        base_url=address,
        headers={"Content-Type": "application/json", **headers},
        timeout=timeout,
        limits=httpx2.Limits(),  # none but the caller's threads
        trust_env=not _is_loopback(address),
        # Without TLS no certificates are read: an empty context, which would trust nobody.
        verify=address.startswith("https:") or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    )


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _read(response: httpx2.Response, *, key: str, address: str) -> Reply:
    status, body = response.status_code, None
    try:
        body = response.json()
    except ValueError:
        if status < 300:
            start = _clear(response.text, key)[:60]
            raise EndpointError(
                f"cannot read the answer of endpoint {address} (it begins '{start}'): JSON is "
                "needed; change `prompting.endpoint`"
            ) from None
    if isinstance(body, dict):
        error = body.get("error")
        if status < 300 and not (error and "choices" not in body):
            return Reply(status, body, "")
        if status < 300:  # some gateways answer 200 and put what happened into the body
            code = error.get("code") if isinstance(error, dict) else None
            status = code if isinstance(code, int) and 400 <= code < 600 else 400
        detail = error.get("message") if isinstance(error, dict) else error
        detail = detail or body.get("message") or body.get("detail") or ""
        return Reply(status, body, _clear(str(detail), key)[:_DETAIL])
    if status < 300:
        raise EndpointError(
            f"cannot read the answer of endpoint {address} (a JSON {type(body).__name__}): a JSON "
            "object is needed; change `prompting.endpoint`"
        )
    return Reply(status, {}, _clear(response.text, key)[:_DETAIL])


def _clear(text: str, key: str) -> str:
    """One line without the key."""
    return " ".join((text.replace(key, "***") if key else text).split())


def _may_pass(reply: Reply) -> bool:
    error = reply.body.get("error")
    spent = isinstance(error, dict) and "insufficient_quota" in (
        error.get("code"),
        error.get("type"),
    )
    return reply.status in _WORTH_REPEATING and not spent


def _read_rest(response: httpx2.Response, *, address: str) -> float:
    """Seconds that `Retry-After` asks for, a number or a date; 0 where it is missing."""
    wanted = response.headers.get("Retry-After", "")
    try:
        rest = float(wanted)
    except ValueError:
        try:
            until = parsedate_to_datetime(wanted)
            rest = (until - parsedate_to_datetime(response.headers["Date"])).total_seconds()
        except (KeyError, TypeError, ValueError):
            return 0.0
    if rest > _LONGEST_ASKED:
        raise EndpointError(
            f"cannot go on at endpoint {address}: it asks to wait {rest:.0f} seconds, at most "
            f"{_LONGEST_ASKED:.0f} are waited; start again later: answers so far are kept"
        )
    return rest if rest > 0 else 0.0


def _explain(
    error: httpx2.RequestError, address: str, *, timeout: float, retries: int
) -> EndpointError:
    attempts = f"{retries + 1} attempt{'s' if retries else ''}"
    if isinstance(error, httpx2.TimeoutException):
        return EndpointError(
            f"cannot wait for endpoint {address}: no answer within {timeout:g} seconds in "
            f"{attempts}, a faster server or more time is needed; raise `prompting.timeout`"
        )
    why = " ".join(str(error).split()) or type(error).__name__
    return EndpointError(
        f"cannot reach endpoint {address} in {attempts} ({why}): a server that listens there is "
        "needed; start it or change `prompting.endpoint`"
    )


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
