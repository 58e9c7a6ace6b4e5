"""Data cards on the Hub: what a model's record tells of them, their licenses, pushing one.

A record tells of its corpora when the model is trained, since a user's own cards are not there
when it is pushed or pulled elsewhere.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData

from nlp_meta.data.cards import DataCard, find_card, load_card, read_front_matter
from nlp_meta.errors import CardError, HubError
from nlp_meta.hub.destinations import (
    DATASET,
    Destination,
    Pushed,
    check_destination,
    check_portable,
    commit,
    look,
)
from nlp_meta.hub.pull import CARD

_UNSTATED = ("unknown", "other", "")
"""Nothing is granted by these: whoever uses such data answers for it."""

# From the most permissive to the strictest: what the others allow, and more, is forbidden.
_RANKS: tuple[tuple[str, ...], ...] = (
    ("cc0-1.0", "pddl", "unlicense", "wtfpl", "public-domain"),
    ("mit", "apache-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "odc-by"),
    ("cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc"),
    ("cc-by-sa-3.0", "cc-by-sa-4.0", "odbl", "gfdl", "lgpl-3.0", "cdla-sharing-1.0"),
    ("gpl", "gpl-2.0", "gpl-3.0", "agpl-3.0"),
    ("cc-by-nd-4.0",),
    ("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0"),
    ("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    ("cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"),
)  # fmt: skip
_PLACES = {name: place for place, names in enumerate(_RANKS) for name in names}
_PERMISSIVE = 2
"""Places up to here forbid nothing that sharing a model's weights could break."""

_SIZES = "n<1K 1K<n<10K 10K<n<100K 100K<n<1M 1M<n<10M 10M<n<100M 100M<n<1B n>1B other unknown"
_CREATORS = "found crowdsourced expert-generated machine-generated other"
# The values that the Hub's own class names in its description.
_CLOSED = {
    "annotations_creators": f"{_CREATORS} no-annotation",
    "language_creators": _CREATORS,
    "multilinguality": "monolingual multilingual translation other",
    "size_categories": _SIZES,
}
_CHOICES = {
    **{key: (words.replace(" ", "|"), ", ".join(words.split())) for key, words in _CLOSED.items()},
    "source_datasets": (r"original|extended(\|.+)?", "original, or extended"),
    "language": (
        r"[a-z]{2,3}(-[A-Za-z0-9-]+)?|code|multilingual",
        "ISO 639 codes of two or three letters",
    ),
}
"""What the values of a key look like, as a pattern and in words."""


def describe_data(cards: Sequence[str], tasks: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """One entry a card: its license, its place on the Hub, and its tasks with their languages.

    Args:
        cards: Names of shipped cards, or paths.
        tasks: What a task was used for (`meta_train`, ...) to the names, `corpus/task`.
    """
    use = {name: word for word, names in tasks.items() for name in names}
    return [_describe(load_card(find_card(card)), use) for card in cards]


def _describe(card: DataCard, use: Mapping[str, str]) -> dict[str, Any]:
    hub = card.hub
    return {
        "card": card.name,
        "pretty_name": card.pretty_name,
        "license": card.license,
        "hub": None if hub is None else {"id": hub.id, "revision": hub.revision},
        "tasks": [
            {
                "name": f"{card.name}/{task.name}",
                "language": task.language,
                "domain": task.domain,
                "config": None if task.hub is None else task.hub.config,
                "use": use.get(f"{card.name}/{task.name}", "unseen"),
            }
            for task in card.tasks
        ],
    }


def strictest(licenses: Iterable[str]) -> str | None:
    """The strictest license that is stated; None where none is.

    An id that the table lacks counts as stricter than what asks for attribution only.
    """
    stated = [name.lower() for name in licenses if not is_unstated(name)]
    return max(stated, key=_place, default=None)


def is_non_commercial(license_id: str) -> bool:
    """Whether a license forbids use for money."""
    return "-nc" in license_id.lower()


def is_unstated(license_id: str) -> bool:
    """Whether a license grants nothing because none is stated."""
    return license_id.lower() in _UNSTATED


def _place(license_id: str) -> tuple[float, str]:
    return _PLACES.get(license_id, _PERMISSIVE + 0.5), license_id


def check_data_card(name_or_path: str) -> Path:
    """Check a card against our block and against the Hub's `DatasetCardData`; its path.

    Raises:
        CardError: One of the two would not understand it.
    """
    path = find_card(name_or_path)
    load_card(path)
    values = read_front_matter(path)
    try:
        kept = DatasetCardData(**values).to_dict()  # type: ignore[no-untyped-call]
    except (TypeError, ValueError) as error:
        raise CardError(
            f"cannot use card '{path}': the Hub's DatasetCardData refuses a key ({error}); a card "
            "that it reads is needed; correct that key"
        ) from error
    for key, value in values.items():
        if value is not None and kept.get(key) != value:
            raise CardError(
                f"cannot use card '{path}': key `{key}` becomes {kept.get(key)!r} in the Hub's "
                "DatasetCardData; a value that it keeps is needed; write it as the Hub's "
                "documentation of dataset cards has it"
            )
    _check_values(path, values)
    return path


def push_card(name_or_path: str, to: Destination) -> Pushed:
    """Check a data card and push it as the card of a dataset repository; rows are not pushed.

    Raises:
        CardError: The card is wrong.
        HubError: The Hub refuses, or the repository has a card.
    """
    path = check_data_card(name_or_path)
    card = load_card(path)
    notes = ["The card is pushed, not the rows."]
    if is_non_commercial(card.license):
        notes.append(f"Its license, {card.license}, forbids commercial use.")
    if is_unstated(card.license):
        notes.append("It states no license, so nothing is granted: ask the owners of the data.")
    check_portable({CARD: path}, path.parent)
    to = replace(to, repo_type=DATASET)
    api = check_destination(to)
    there = look(api, to)
    if CARD in there.files and not (to.exist_ok or to.create_pr):
        raise HubError(
            f"cannot push the card '{path.name}' to '{to.repo_id}': that dataset has a card "
            "and one without is needed; change `repo_id`, or replace it with `exist_ok`"
        )
    message = f"Push the data card {path.stem} with nlp-meta"
    return commit(api, to, there, {CARD: path}, message=message, notes=notes)


def _check_values(path: Path, values: Mapping[str, Any]) -> None:
    for key, (pattern, choices) in _CHOICES.items():
        written = values.get(key)
        for value in [written] if isinstance(written, str) else written or []:
            if not isinstance(value, str) or not re.fullmatch(pattern, value):
                raise CardError(
                    f"cannot use card '{path}': key `{key}` has '{value}'; the Hub knows "
                    f"{choices}; write one of these"
                )
