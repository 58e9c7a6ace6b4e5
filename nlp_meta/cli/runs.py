"""`nlp-meta runs`: what training runs did, side by side on a page."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path

from nlp_meta.cli.options import add_shared
from nlp_meta.cli.screen import Screen, show_facts

EXAMPLE = "nlp-meta runs runs --output runs.html"


def add_options(command: ArgumentParser) -> None:
    """Add the options of `runs`."""
    main = command.add_argument_group("main options")
    main.add_argument(
        "folder", type=Path, metavar="DIR", help="a training run, or a folder with several"
    )
    main.add_argument(
        "--output", type=Path, metavar="FILE", help="the page (default: runs.html in DIR)"
    )
    add_shared(main, "--replace")


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Write the page and tell what each run has come to."""
    from nlp_meta.report.runs import PAGE, find_runs, write_runs

    runs = find_runs(options.folder)
    page = options.output or options.folder / PAGE
    write_runs(page, runs, replace=options.replace)
    by_run = {trained.name: trained.describe() for trained in runs}
    lines = {
        name: ", ".join(f"{what} {value}" for what, value in facts.items())
        for name, facts in by_run.items()
    }
    show_facts(screen, {"page": str(page), **lines})
    return {"page": str(page), "runs": by_run}
