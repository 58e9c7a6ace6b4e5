"""Requests to an OpenAI-compatible endpoint: paced, and repeated where that can help.

The key lives in the client alone: no value that leaves this file holds it, and what a
server says is cleared of it before anybody reads it.
"""

import ipaddress
import json
import os
import ssl
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2

from nlp_meta.errors import EndpointError, SettingsError

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
