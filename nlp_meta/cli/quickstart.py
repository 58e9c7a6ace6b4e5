"""`nlp-meta quickstart`: the whole path on the built-in corpus."""

import shlex
from argparse import Namespace
from collections.abc import Mapping

from nlp_meta.cli.screen import Screen, show_facts, show_table
from nlp_meta.progress import quiet_libraries


def run_quickstart_command(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Run it and compare the methods."""
    with quiet_libraries():
        from nlp_meta.training.quickstart import run_quickstart

        result = run_quickstart(output_dir=options.output_dir, seed=options.seed, progress=True)
    show_table(
        screen,
        ("method", "mean", "low", "high"),
        [
            (name, *(f"{value:.3f}" for value in (score.mean, score.low, score.high)))
            for name, score in result.methods.items()
        ],
    )
    show_facts(
        screen,
        {
            "meta-model": str(result.meta_dir),
            "adapted model": str(result.adapted_dir),
            "time": f"{result.seconds:.0f} s",
            "next": f"nlp-meta adapt {shlex.quote(str(result.meta_dir))} --data labeled.csv "
            "--output-dir adapted",
        },
    )
    return {
        "output_dir": str(options.output_dir),
        "meta_dir": str(result.meta_dir),
        "adapted_dir": str(result.adapted_dir),
        "seconds": result.seconds,
        "methods": {
            name: {"mean": score.mean, "low": score.low, "high": score.high}
            for name, score in result.methods.items()
        },
    }
