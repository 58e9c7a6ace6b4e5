"""`nlp-meta quickstart`: the whole path on the built-in corpus."""

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from nlp_meta.cli.options import add_shared
from nlp_meta.cli.screen import Screen, show_facts, show_table
from nlp_meta.progress import quiet_libraries

EXAMPLE = "nlp-meta quickstart --output-dir runs/quickstart"


def add_options(command: ArgumentParser) -> None:
    """Add the options of `quickstart`."""
    main = command.add_argument_group("main options")
    add_shared(
        main,
        "--output-dir",
        required=False,
        default=Path("runs/quickstart"),
        help="folder for meta/, real_estate/ and results.json (default: %(default)s)",
    )
    add_shared(main, "--replace", "--seed")


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Run it and compare the methods."""
    with quiet_libraries():
        from nlp_meta.training.quickstart import run_quickstart

        result = run_quickstart(
            output_dir=options.output_dir, seed=options.seed, progress=True, replace=options.replace
        )
    methods = {name: asdict(score) for name, score in result.methods.items()}
    rows = [
        (name, *(f"{value:.3f}" for value in score.values())) for name, score in methods.items()
    ]
    show_table(screen, ("method", "mean", "low", "high"), rows)
    meta = shlex.quote(str(result.meta_dir))
    facts = {
        "start": str(result.meta_dir),
        "adapted model": str(result.adapted_dir),
        "time": f"{result.seconds:.0f} s",
        "next": f"nlp-meta adapt {meta} --data labeled.csv --output-dir adapted",
    }
    show_facts(screen, facts)
    return {
        "output_dir": str(options.output_dir),
        "meta_dir": str(result.meta_dir),
        "adapted_dir": str(result.adapted_dir),
        "seconds": result.seconds,
        "methods": methods,
    }
