"""Data cards as cards of dataset repositories: what the Hub understands of them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import DatasetCardData

from nlp_meta.data.cards import find_card, load_card
from nlp_meta.data.front_matter import Block, read_front_matter
from nlp_meta.hub.destinations import Destination
from nlp_meta.hub.licenses import is_non_commercial, is_unknown

if TYPE_CHECKING:
    from nlp_meta.hub.publish import Pushed

_SIZES = "n<1K 1K<n<10K 10K<n<100K 100K<n<1M 1M<n<10M 10M<n<100M 100M<n<1B n>1B other unknown"
_CREATORS = ("found", "crowdsourced", "expert-generated", "machine-generated", "other")
# The values that the Hub's own class names in its description.
CHOICES: Mapping[str, tuple[str, ...]] = {
    "annotations_creators": (*_CREATORS, "no-annotation"),
    "language_creators": _CREATORS,
    "multilinguality": ("monolingual", "multilingual", "translation", "other"),
    "size_categories": tuple(_SIZES.split()),
}
_SOURCES = re.compile(r"original|extended(\|.+)?")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9-]+)?|code|multilingual")


def check_data_card(name_or_path: str) -> Path:
    """Check a card against our block and against the Hub's `DatasetCardData`; its path.

    Raises:
        CardError: One of the two would not understand it.
    """
    path = find_card(name_or_path)
    load_card(path)
    top = read_front_matter(path)
    values = {str(key): value for key, value in top.values.items()}
    try:
        kept = DatasetCardData(**values).to_dict()  # type: ignore[no-untyped-call]
    except (TypeError, ValueError) as error:
        raise top.error(
            "license",
            f"or another key is refused by the Hub's DatasetCardData ({error})",
            needed="a card that it reads is needed",
            remedy="correct that key",
        ) from error
    _check_kept(top, values, kept)
    for key, choices in CHOICES.items():
        _check_values(top, key, re.compile("|".join(map(re.escape, choices))), ", ".join(choices))
    _check_values(top, "source_datasets", _SOURCES, "original, or extended")
    _check_values(top, "language", _LANGUAGE, "ISO 639 codes of two or three letters")
    return path


def push_card(name_or_path: str, to: Destination) -> "Pushed":
    """Check a data card and push it as the card of a dataset repository.

    Raises:
        CardError: The card is wrong.
        HubError: The Hub refuses, or the repository has a card.
    """
    from nlp_meta.hub.publish import push_data_card  # 3 s of torch, which a check needs not

    path = check_data_card(name_or_path)
    card = load_card(path)
    notes = ["The card is pushed, not the rows."]
    if is_non_commercial(card.license):
        notes.append(f"Its licence, {card.license}, forbids commercial use.")
    if is_unknown(card.license):
        notes.append("It states no licence, so nothing is granted: ask the owners of the data.")
    return push_data_card(path, to, notes=notes)


def _check_kept(top: Block, values: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
    """What the Hub's class reads must be what is written, key by key."""
    for key, value in values.items():
        if value is not None and kept.get(key) != value:
            raise top.error(
                key,
                f"becomes {kept.get(key)!r} in the Hub's DatasetCardData",
                needed="a value that it keeps is needed",
                remedy="write it as the Hub's documentation of dataset cards has it",
            )


def _check_values(top: Block, key: str, pattern: re.Pattern[str], shown: str) -> None:
    found = top.values.get(key)
    for value in [found] if isinstance(found, str) else found or []:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise top.error(
                key, f"has '{value}'", needed=f"the Hub knows {shown}", remedy="write one of these"
            )
