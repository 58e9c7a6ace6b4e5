"""`nlp-meta cards`: list the data cards, get their rows, check them, or push one to the Hub."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nlp_meta.cli.options import add_common_options, add_shared, read_path
from nlp_meta.cli.push import add_destination, read_destination, show_pushed
from nlp_meta.cli.screen import Screen, show_facts, show_table
from nlp_meta.errors import CardError
from nlp_meta.escapes import one_line
from nlp_meta.progress import show_count

if TYPE_CHECKING:
    from nlp_meta.data.cards import DataCard

EXAMPLE = """\
nlp-meta cards
  nlp-meta cards get nusax --root corpora
  nlp-meta cards check my_corpus.md
  nlp-meta cards push my_corpus.md --repo-id me/my-corpus"""


def add_options(command: ArgumentParser) -> None:
    """Add the actions of `cards` and their options."""
    actions = command.add_subparsers(
        dest="action", metavar="ACTION", title="actions", prog=command.prog
    )
    get = _add_get(actions)
    check = actions.add_parser(
        "check",
        help="check cards: all that are shipped, or those named",
        description="Check data cards; the first thing wrong with each is named.",
        example="nlp-meta cards check my_corpus.md",
    )
    main = check.add_argument_group("main options")
    main.add_argument(
        "paths", nargs="*", metavar="CARD", help="card, by path or name (default: all shipped)"
    )
    push = actions.add_parser(
        "push",
        help="push a card as the card of a dataset repository",
        description="Push a data card as the card of a dataset repository; no rows are pushed.",
        example="nlp-meta cards push my_corpus.md --repo-id me/my-corpus",
    )
    main = push.add_argument_group("main options")
    main.add_argument("card", metavar="CARD", help="card, by path or name")
    add_destination(main, push.add_argument_group("Hub"))
    for action in (get, check, push):
        add_common_options(action, nested=True)


def _add_get(actions: Any) -> ArgumentParser:
    get: ArgumentParser = actions.add_parser(
        "get",
        help="fetch the rows of cards from where their authors publish them",
        description="Fetch the files that cards name, at a pinned commit, check their hashes and "
        "write rows as the cards are read.",
        example="nlp-meta cards get nusax afrisenti --root corpora",
    )
    main = get.add_argument_group("main options")
    main.add_argument(
        "names",
        nargs="+",
        metavar="CARD",
        help="card, by path or name, that `nlp-meta cards` says yes to",
    )
    main.add_argument(
        "--root",
        type=read_path,
        required=True,
        metavar="DIR",
        help="data root, which `data.root` of a config or NLP_META_DATA then names",
    )
    main.add_argument(
        "--accept-unknown-license",
        action="store_true",
        help="get rows although nobody says what may be done with them",
    )
    add_shared(main, "--replace")
    return get


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """List the shipped cards, get or check those that were named, or push one."""
    from nlp_meta.data.cards import META_SPLITS, find_card, list_cards, load_card

    if options.action == "get":
        return _get(options, screen)
    if options.action == "push":
        return _push(options, screen)
    if options.action == "check":
        return _check(options.paths or list_cards(), screen)
    cards = [load_card(find_card(name)) for name in list_cards()]
    rows, records = [], []
    for card in cards:
        facts, tasks = (card.name, card.kind, card.license), _split_tasks(card)
        rows.append((*facts, "yes" if card.origin else "", *map(str, map(len, tasks.values()))))
        record = dict(zip(("name", "kind", "license"), facts, strict=True))
        records.append({**record, "get": card.origin is not None, "tasks": tasks})
    splits = (split.removeprefix("meta-") for split in META_SPLITS)
    title = "data cards: whether `cards get` fetches them, and the tasks of each meta-split"
    show_table(screen, ("card", "kind", "license", "get", *splits), rows, title=title)
    return {"cards": records}


def _split_tasks(card: "DataCard") -> dict[str, list[str]]:
    from nlp_meta.data.cards import META_SPLITS

    return {
        meta_split: [task.name for task in card.tasks if task.meta_split == meta_split]
        for meta_split in META_SPLITS
    }


def _get(options: Namespace, screen: Screen) -> Mapping[str, object]:
    from nlp_meta.data.cards import find_card, load_card
    from nlp_meta.files.corpora import fetch_corpus

    records = []
    for card in [load_card(find_card(name)) for name in options.names]:
        with show_count(f"getting {card.name}", console=screen.notes) as on_step:
            fetched = fetch_corpus(
                card,
                options.root,
                accept_unknown_license=options.accept_unknown_license,
                replace=options.replace,
                on_step=on_step,
            )
        words = f"its words: section Licence of {card.path.name}"
        facts = {
            "card": f"{card.name}: {card.pretty_name}",
            "license accepted": f"{fetched.license} ({words})",
            "from": fetched.origin,
            "rows": f"{sum(fetched.rows.values())} in {len(fetched.rows)} files",
        }
        show_facts(screen, facts)
        records.append(asdict(fetched))
    show_facts(screen, {"next": f"NLP_META_DATA={options.root}"})
    return {"fetched": records}


def _check(names: Sequence[str], screen: Screen) -> Mapping[str, object]:
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
            print(f"error: {one_line(message)}", file=sys.stderr)
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
    return {"pushed": show_pushed(pushed, screen)}
