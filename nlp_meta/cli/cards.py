"""`nlp-meta cards`: list the data cards, check them, or push one to the Hub."""

import sys
from argparse import Namespace
from collections.abc import Mapping

from nlp_meta.cli.hub_options import read_destination
from nlp_meta.cli.push import record_of, show_pushed
from nlp_meta.cli.screen import Screen, show_facts, show_table
from nlp_meta.data.cards import META_SPLITS, DataCard, find_card, list_cards, load_card
from nlp_meta.errors import CardError


def run_cards(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """List the shipped cards, check those that were named, or push one."""
    if options.action == "push":
        return _push(options, screen)
    if options.action == "check":
        return _check(options.paths or list_cards(), screen)
    cards = [load_card(find_card(name)) for name in list_cards()]
    show_table(
        screen,
        ("card", "kind", "license", *(split.removeprefix("meta-") for split in META_SPLITS)),
        [
            (
                card.name,
                card.kind,
                card.license,
                *(str(len(t)) for t in _split_tasks(card).values()),
            )
            for card in cards
        ],
        title="data cards, with the number of tasks in each meta-split",
    )
    return {
        "cards": [
            {
                "name": card.name,
                "kind": card.kind,
                "license": card.license,
                "tasks": _split_tasks(card),
            }
            for card in cards
        ]
    }


def _split_tasks(card: DataCard) -> dict[str, list[str]]:
    return {
        meta_split: [task.name for task in card.tasks if task.meta_split == meta_split]
        for meta_split in META_SPLITS
    }


def _check(names: list[str] | tuple[str, ...], screen: Screen) -> Mapping[str, object]:
    """Look at every card before stopping, so that one run shows all that is to mend."""
    from nlp_meta.hub.data_cards import check_data_card

    errors: dict[str, CardError] = {}
    for name in names:
        try:
            check_data_card(name)
        except CardError as error:
            errors[name] = error
    if len(errors) == 1:
        raise next(iter(errors.values()))
    if errors:
        for message in map(str, errors.values()):
            print(f"error: {' '.join(message.split())}", file=sys.stderr)
        raise CardError(
            f"cannot use {len(errors)} of {len(names)} cards: {', '.join(errors)}; each must be a "
            "valid card; mend what the lines above name"
        )
    show_facts(screen, {"valid cards": str(len(names))})
    return {"valid": list(names)}


def _push(options: Namespace, screen: Screen) -> Mapping[str, object]:
    from nlp_meta.hub.data_cards import push_card
    from nlp_meta.hub.refusals import quiet_hub

    with quiet_hub():
        pushed = push_card(options.card, read_destination(options))
    show_pushed(pushed, screen)
    return {"pushed": record_of(pushed)}
