"""What a server takes: limits, names, and the errors of what is beyond them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nlp_meta.adapting import check_texts
from nlp_meta.errors import RequestError, SettingsError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
# JSON may write one character as two escapes of six bytes each.
_BYTES_PER_CHARACTER = 12
_BYTES_PER_TEXT = 256
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
    """

    max_batch: int = 64
    max_wait: float = 0.005
    max_texts: int = 512
    max_characters: int = 200_000

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
    """Refuse a request that has no text, a broken or empty one, or too many.

    Raises:
        RequestError: Too many texts or characters, or none.
        DataError: A text is empty.
    """
    if not texts:
        raise RequestError(
            "cannot answer 0 texts: at least one is needed; add some to `texts`", status=422
        )
    if len(texts) > limits.max_texts:
        raise RequestError(
            f"cannot take {len(texts)} texts in one request: at most {limits.max_texts} are "
            "allowed; send fewer at a time, or start the server with a higher `--max-texts`",
            status=413,
        )
    characters = sum(map(len, texts)) + sum(map(len, labels))
    if characters > limits.max_characters:
        raise RequestError(
            f"cannot take {characters} characters in one request: at most "
            f"{limits.max_characters} are allowed; send fewer at a time, or start the server with "
            "a higher `--max-characters`",
            status=413,
        )
    check_texts(texts)
    for place, text in enumerate([*texts, *labels], start=1):
        if any("\ud800" <= sign <= "\udfff" for sign in text):
            raise RequestError(
                f"cannot read string {place}: it holds half a character (a lone surrogate) and "
                "whole ones are needed; take it out",
                status=422,
            )


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


def name_domains(models: Sequence[str]) -> dict[str, str]:
    """Name domains by the last part of their folder or Hub id, or as in `name=folder`.

    Raises:
        SettingsError: Two have the same name, or one cannot be a name.
    """
    named: dict[str, str] = {}
    for given in models:
        name, equals, path = given.partition("=")
        if not equals:
            name, path = Path(given.rstrip("/")).resolve().name, given
        check_name(name)
        if name in named:
            raise SettingsError(
                f"cannot serve '{named[name]}' and '{path}' both as '{name}': one model for each "
                "name is needed; name one of them otherwise, as in `other=" + path + "`"
            )
        named[name] = path
    return named


def read_token(name: str | None, environment: Mapping[str, str]) -> str | None:
    """Read the bearer token from the environment; None where none is asked for.

    Raises:
        SettingsError: The variable is not set, is empty or has blanks in it.
    """
    if name is None:
        return None
    token = environment.get(name, "")
    if not token or token.split() != [token] or not token.isascii():
        raise SettingsError(
            f"cannot take the token from the variable '{name}': it is not set, empty, or has "
            "blanks or accents in it, and a word is needed; set it, or name another one with "
            "`--token-env`"
        )
    return token
