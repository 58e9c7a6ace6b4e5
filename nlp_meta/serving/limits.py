"""Limits of a server: how large requests may be, how long they may take, how domains are named.

Here stands, too, where a request may load models from.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nlp_meta.errors import RequestError, SettingsError
from nlp_meta.hub.pull import pull

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
# JSON may write one character as two escapes of six bytes each.
_BYTES_PER_CHARACTER = 12
_BYTES_PER_TEXT = 256
_BYTES_IN_ALL = 2**26
_MOST_IN_LABEL = 200
THREADS = "nlp_meta_"
"""The names of a server's threads begin so; its stop waits for them."""
TOKEN_VARIABLE = "NLP_META_SERVE_TOKEN"  # noqa: S105  its name
WAITING_BATCHES = 64
"""Full batches that may wait; more requests are turned away."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one server.

    Attributes:
        max_batch: Texts after which a batch is not filled up further.
        max_wait: Seconds that the first text of a batch waits for others.
        max_texts: Most texts of one request.
        max_characters: Most characters of one request, over all its texts and labels.
        max_domains: Most domains that are loaded at any time.
        stop_within: Seconds in which the server ends, whatever is under way.
        max_connections: Most connections; one that asks for nothing gives way to a new one.
        head_seconds, body_seconds: In which the head and the body of a request come in.
        write_seconds: In which a client takes its answer.
    """

    max_batch: int = 64
    max_wait: float = 0.005
    max_texts: int = 512
    max_characters: int = 200_000
    max_domains: int = 256
    stop_within: float = 6.0
    max_connections: int = 256
    head_seconds: float = 10.0
    body_seconds: float = 20.0
    write_seconds: float = 20.0

    @property
    def answer_within(self) -> float:
        """Seconds from the beginning of a stop in which what was accepted may be answered."""
        return 0.7 * self.stop_within

    @property
    def max_bytes_in_all(self) -> int:
        """Most bytes of the bodies of all requests under way."""
        return max(_BYTES_IN_ALL, 4 * self.max_bytes)

    @property
    def max_bytes(self) -> int:
        """Most bytes of a request's body: no request within the other limits has more."""
        return (
            _BYTES_PER_CHARACTER * self.max_characters + 2 * _BYTES_PER_TEXT * self.max_texts + 4096
        )

    @property
    def max_waiting(self) -> int:
        """Most texts that wait for a batch at any time."""
        return max(WAITING_BATCHES * self.max_batch, self.max_texts)


def check_request(texts: Sequence[str], limits: Limits, *, labels: Sequence[str] = ()) -> None:
    """Refuse a request that has no text, or too many.

    Raises:
        RequestError: Too many texts or characters, or none; a label that is as long as a text.
    """
    if not texts:
        raise RequestError(
            "cannot answer 0 texts: at least one is needed; add some to `texts`", status=422
        )
    if len(texts) > limits.max_texts:
        raise RequestError(
            f"cannot take {len(texts)} texts in one request: at most {limits.max_texts} are "
            "allowed by this server; send fewer in `texts` at a time",
            status=413,
        )
    characters = sum(map(len, texts)) + sum(map(len, labels))
    if characters > limits.max_characters:
        raise RequestError(
            f"cannot take {characters} characters in one request: at most "
            f"{limits.max_characters} are allowed by this server; send fewer in `texts` at a time",
            status=413,
        )
    for place, label in enumerate(labels, start=1):
        if len(label) > _MOST_IN_LABEL:
            raise RequestError(
                f"cannot take label {place}: it has {len(label)} characters and at most "
                f"{_MOST_IN_LABEL} are needed; shorten it in `labels`",
                status=422,
            )


def shorten(text: str, most: int) -> str:
    """Cut a text of a stranger's, so that no answer grows with it."""
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def check_name(name: str) -> None:
    """Refuse a name of a domain that could not stand in an address or be a folder.

    Raises:
        SettingsError: It is not made of letters, digits, `_`, `-` and `.`.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"cannot call a domain {name!r}: 1 to 100 letters, digits, '_', '-' and '.' are "
            "needed, and no '.' or '-' in front; choose another name"
        )


def name_domains(models: Sequence[str], limits: Limits) -> dict[str, str]:
    """Name domains by the last part of their folder or Hub id, or as in `name=folder`.

    Raises:
        SettingsError: Two have the same name, one cannot be a name, or they are too many.
    """
    if len(models) > limits.max_domains:
        raise SettingsError(
            f"cannot serve {len(models)} models: at most {limits.max_domains} are allowed; name "
            "fewer, or raise `max_domains`"
        )
    named: dict[str, str] = {}
    for model in models:
        name, equals, path = model.partition("=")
        if not equals:
            name, path = Path(model.rstrip("/")).resolve().name, model
        check_name(name)
        if name in named:
            raise SettingsError(
                f"cannot serve '{named[name]}' and '{path}' both as '{name}': one model for each "
                "name is needed; name one of them otherwise, as in `other=" + path + "`"
            )
        named[name] = path
    return named


def read_token(
    environment: Mapping[str, str], *, token: str | None = None, token_env: str | None = None
) -> str | None:
    """Read the bearer token; None where none is asked for.

    Args:
        token: As given; None looks in the environment.
        token_env: Variable that must hold it; None looks in the usual one, if it is there.

    Raises:
        SettingsError: It is empty, or has blanks or accents in it.
    """
    name = token_env or TOKEN_VARIABLE
    if token is None:
        if token_env is None and name not in environment:
            return None
        token = environment.get(name, "")
        place, change = f"from the variable '{name}'", f"set '{name}', or change `token_env`"
    else:
        place, change = "that was given", "change `token`"
    if not token or token.split() != [token] or not token.isascii() or not token.isprintable():
        raise SettingsError(
            f"cannot take the token {place}: it is not set, empty, or has blanks or accents in "
            f"it, and a word is needed; {change}"
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether a name or an address reaches nobody but this machine."""
    if host.rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_reach(host: str, token: str | None) -> None:
    """Refuse to let in everybody who reaches an address that others reach.

    Raises:
        SettingsError: No token, and not an address of this machine's loopback.
    """
    if token is None and not is_loopback(host):
        raise SettingsError(
            f"cannot listen on {host} without a token: everybody who reaches it could ask, load "
            f"and unload, and a secret word is needed; set the variable '{TOKEN_VARIABLE}' or "
            "`token`, or listen on `host` 127.0.0.1"
        )


_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_QUOTED = re.compile(r"'/[^']*?([^'/]*)/?'")
_BARE = re.compile(r"(?<![\w.:/'])/(?:[^/\s'`]+/)+([^/\s'`]+)")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where requests may load models from.

    Attributes:
        models_dir: Models below it; None for none.
        allow_hub: Models on the Hub too, by their ids.
    """

    models_dir: Path | None = None
    allow_hub: bool = False

    def __post_init__(self) -> None:
        if self.models_dir is not None and not self.models_dir.is_dir():
            raise SettingsError(
                f"cannot load models from '{self.models_dir}': it is no folder here and one is "
                "needed; correct `models_dir`"
            )

    def find(self, model: str, *, revision: str | None) -> tuple[Path, str]:
        """Find the folder of a model that a request names, pulled where it is on the Hub.

        Returns:
            Its folder, and what may be told of where it came from.

        Raises:
            RequestError: It may not be loaded; the answer is the same whether it exists or not.
            HubError: It cannot be pulled.
        """
        folder = None if self.models_dir is None else _find_below(self.models_dir, model)
        if folder is not None:
            return folder, folder.name
        if self.allow_hub and _HUB_ID.fullmatch(model):
            return pull(model, revision=revision), model
        allowed = [
            *(["a folder below this server's folder for models"] if self.models_dir else []),
            *(["the id of a model on the Hub, owner/name"] if self.allow_hub else []),
        ]
        need = f"{' or '.join(allowed)} is needed; correct `model`"
        if not allowed:
            need = "a server that may load models is needed; ask for one to be started that may"
        raise RequestError(f"cannot load '{shorten(model, 200)}': {need}", status=403)


def hide_folders(message: str) -> str:
    """Leave of each absolute path in a message nothing but its last part."""
    return _BARE.sub(r"\1", _QUOTED.sub(r"'\1'", message))


def _find_below(root: Path, model: str) -> Path | None:
    """The folder that a name means, links followed; None if it does not lie below."""
    try:
        root = root.resolve(strict=True)
        folder = (root / model).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):  # a null character, a circle of links
        return None
    return folder if root in folder.parents and folder.is_dir() else None
