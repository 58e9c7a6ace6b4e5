"""What a model's record says of the data that it was trained on, taken from the data cards.

It is written when a model is trained, since cards of one's own are not there when it is
pushed or pulled elsewhere.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nlp_meta.data.card_parts import DataCard
from nlp_meta.data.cards import find_card, list_cards, load_card


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
