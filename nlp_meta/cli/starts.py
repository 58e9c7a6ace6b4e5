"""`nlp-meta starts`: the starts that come with the package."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import asdict

from nlp_meta.cli.screen import Screen, show_facts

EXAMPLE = "nlp-meta starts builtin:reviews-en"


def add_options(command: ArgumentParser) -> None:
    """Add the options of `starts`."""
    main = command.add_argument_group("main options")
    main.add_argument(
        "names", nargs="*", metavar="NAME", help="builtin:NAME of those to tell of (default: all)"
    )


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Tell of each start what it learned from, how well it does, and what it needs."""
    from nlp_meta.hub.builtin_starts import list_starts, place_start

    places = [place_start(name).name for name in options.names]
    starts = [s for s in list_starts() if not places or s.name.partition(":")[2] in places]
    for start in starts:
        learned = [f"{corpus} ({license_id})" for corpus, license_id in start.corpora.items()]
        facts = {
            "start": start.name,
            "skills": ", ".join(start.skills),
            **({"labels": ", ".join(start.labels)} if start.labels else {}),
            "encoder": start.base,
            "learned from": ", ".join(learned),
            **start.scores,
            "size": f"{start.bytes / 1e6:.1f} MB",
        }
        show_facts(screen, facts)
    return {"starts": [asdict(start) for start in starts]}
