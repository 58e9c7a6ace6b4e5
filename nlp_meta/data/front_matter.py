"""The YAML front matter of a data card, read with every key and type checked.

A `Block` knows where it stands in the file, so each error names the card, the
key in full and what to write instead.
"""

from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from nlp_meta.errors import CardError

# Keys of the Hub's dataset cards. Their values are the Hub's business, apart from
# those that `cards.py` reads.
HUB_KEYS = (
    "annotations_creators",
    "config_names",
    "configs",
    "dataset_info",
    "language",
    "language_creators",
    "language_details",
    "license",
    "license_details",
    "license_link",
    "license_name",
    "multilinguality",
    "paperswithcode_id",
    "pretty_name",
    "size_categories",
    "source_datasets",
    "tags",
    "task_categories",
    "task_ids",
    "train-eval-index",
    "viewer",
)


@dataclass(frozen=True, slots=True)
class Block:
    """One mapping of a card's front matter and the place it stands at.

    Attributes:
        card: The card's path, as errors name it.
        key: Full key of this mapping; empty for the front matter itself.
        values: What YAML read, untyped until one of the methods took it.
    """

    card: Path
    key: str
    values: dict[Any, Any]

    def full_key(self, key: str) -> str:
        """Name `key` as a reader of the file would find it."""
        return f"{self.key}.{key}" if self.key else key

    def error(self, key: str, found: str, *, needed: str, remedy: str) -> CardError:
        """Build the error about one key: what is there, what was needed, what to change."""
        return CardError(
            f"cannot use card '{self.card}': key `{self.full_key(key)}` {found}; {needed}; {remedy}"
        )

    def check_keys(self, known: Collection[str]) -> None:
        """Refuse the first key that nobody would read."""
        for key in self.values:
            if key in known:
                continue
            nearest = get_close_matches(str(key), known, n=1)
            remedy = f"write `{nearest[0]}` for it" if nearest else "take it out"
            names = ", ".join(sorted(known))
            raise self.error(
                str(key), "is unknown", needed=f"the keys here are {names}", remedy=remedy
            )

    def text(self, key: str) -> str:
        """Take a text that is not empty."""
        value = self._need(key, "a text")
        if not isinstance(value, str) or not value.strip():
            raise self._wrong(key, value, "a text")
        return value.strip()

    def optional_text(self, key: str) -> str | None:
        """Take a text, or None where the key is absent or null."""
        return None if self.values.get(key) is None else self.text(key)

    def texts(self, key: str) -> tuple[str, ...]:
        """Take one text or a list of them, at least one."""
        value = self._need(key, "a text or a list of texts")
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not found or not all(_is_text(one) for one in found):
            raise self._wrong(key, value, "a text or a list of texts")
        return tuple(found)

    def flag(self, key: str) -> bool:
        """Take true or false."""
        value = self._need(key, "true or false")
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def choice(self, key: str, choices: Collection[str]) -> str:
        """Take one of a few words."""
        value = self.text(key)
        if value not in choices:
            nearest = get_close_matches(value, choices, n=1)
            raise self.error(
                key,
                f"is '{value}'",
                needed=f"it must be one of {', '.join(choices)}",
                remedy=f"write '{nearest[0]}'" if nearest else "write one of these",
            )
        return value

    def block(self, key: str) -> "Block":
        """Step into a mapping."""
        value = self._need(key, "a mapping")
        if not isinstance(value, dict):
            raise self._wrong(key, value, "a mapping")
        return Block(self.card, self.full_key(key), value)

    def optional_block(self, key: str) -> "Block | None":
        """Step into a mapping, or None where the key is absent or null."""
        return None if self.values.get(key) is None else self.block(key)

    def blocks(self, key: str) -> "tuple[Block, ...]":
        """Step into each mapping of a list, at least one."""
        value = self._need(key, "a list of mappings")
        if not isinstance(value, list) or not value:
            raise self._wrong(key, value, "a list of mappings")
        for one in value:
            if not isinstance(one, dict):
                raise self._wrong(key, one, "a list of mappings")
        name = self.full_key(key)
        return tuple(Block(self.card, f"{name}[{place}]", one) for place, one in enumerate(value))

    def text_mapping(self, key: str) -> dict[str, str]:
        """Take a mapping to texts; keys that YAML read as numbers or booleans become text."""
        block = self.block(key)
        if not block.values:
            raise self._wrong(key, {}, "a mapping with at least one entry")
        for one, value in block.values.items():
            if not _is_text(value):
                raise block._wrong(str(one), value, "a text")
        return {str(one): value for one, value in block.values.items()}

    def _need(self, key: str, kind: str) -> Any:
        if self.values.get(key) is None:
            raise self.error(
                key, "is missing", needed=f"every card needs {kind} there", remedy="add the key"
            )
        return self.values[key]

    def _wrong(self, key: str, value: object, kind: str) -> CardError:
        return self.error(
            key,
            f"is {value!r}",
            needed=f"{kind} is needed",
            remedy="correct it, with quotes where YAML reads a number or a boolean",
        )


def read_front_matter(path: Path) -> Block:
    """Read the YAML between the first two `---` lines of a card.

    Raises:
        CardError: The file cannot be read, has no front matter, or it is not YAML.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(
            f"cannot read card '{path}': {error}; a Markdown file in UTF-8 is needed; "
            "check the path and the file"
        ) from error
    if not lines or lines[0].strip() != "---" or "---" not in lines[1:]:
        raise CardError(
            f"cannot read card '{path}': there is no front matter; YAML between two lines "
            "`---` at the top of the file is needed; add it, as the other cards have it"
        )
    try:
        values = yaml.safe_load("\n".join(lines[1 : lines.index("---", 1)]))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise CardError(
            f"cannot read card '{path}': the front matter is not YAML ({reason}); "
            "a mapping of keys is needed; correct that line"
        ) from error
    if not isinstance(values, dict):
        raise CardError(
            f"cannot read card '{path}': the front matter is {type(values).__name__}; "
            "a mapping of keys is needed; write `key: value` lines"
        )
    return Block(path, "", values)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
