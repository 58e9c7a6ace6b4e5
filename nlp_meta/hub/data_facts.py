"""What a model's record says of the data that it was trained on, taken from the data cards.

It is written when a model is trained, since cards of one's own are not there when it is
pushed or pulled elsewhere.

What licences of data forbid, and which of several is the strictest.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nlp_meta.data.cards import DataCard, find_card, list_cards, load_card


def describe_data(cards: Sequence[str], tasks: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """One entry a card: its licence, its place on the Hub, and its tasks with their languages.

    Args:
        cards: Names of shipped cards, or paths.
        tasks: What a task was used for (`meta_train`, ...) to the names, `corpus/task`.
    """
    use = {name: word for word, names in tasks.items() for name in names}
    return [_describe(load_card(find_card(card)), use) for card in cards]


def facts_of(provenance: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of a record; of an older record, those of the shipped cards that it names."""
    stored = provenance.get("data")
    if stored is not None:
        return list(stored)
    tasks = {word: provenance.get(word) or [] for word in ("meta_train", "meta_validation")}
    used = dict.fromkeys(name.split("/")[0] for names in tasks.values() for name in names)
    return describe_data([name for name in used if name in list_cards()], tasks)


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


UNKNOWN = ("unknown", "other", "")
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


def strictest(licenses: Iterable[str]) -> str | None:
    """The strictest licence that is stated; None where none is.

    An id that the table lacks counts as stricter than what asks for attribution only.
    """
    stated = [name.lower() for name in licenses if name.lower() not in UNKNOWN]
    return max(stated, key=_place, default=None)


def is_non_commercial(license_id: str) -> bool:
    """Whether a licence forbids use for money."""
    return "-nc" in license_id.lower()


def is_unknown(license_id: str) -> bool:
    """Whether a licence grants nothing because none is stated."""
    return license_id.lower() in UNKNOWN


def _place(license_id: str) -> tuple[float, str]:
    return _PLACES.get(license_id, _PERMISSIVE + 0.5), license_id
