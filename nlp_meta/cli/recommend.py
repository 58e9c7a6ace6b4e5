"""`nlp-meta recommend`: which method suits a user's labels, and whether more would pay."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial

from nlp_meta.cli.compare import METRICS
from nlp_meta.cli.files import read_rows
from nlp_meta.cli.options import (
    LABEL_OPTIONS,
    METHODS,
    READING,
    TABLES,
    add_shared,
    positive,
    whole,
)
from nlp_meta.cli.screen import Screen, show_facts, show_table, show_work
from nlp_meta.progress import quiet_libraries

EXAMPLE = "nlp-meta recommend --data labeled.csv"


def add_options(command: ArgumentParser) -> None:
    """Add the options of `recommend`."""
    main = command.add_argument_group("main options")
    add_shared(
        main,
        "--data",
        help=f"table of labeled texts, 30 or more; near-duplicates are left out; {TABLES}",
    )
    main.add_argument(
        "--start",
        metavar="START",
        help="start to be tried too: a folder, a name on the Hub, or builtin:NAME (default: none)",
    )
    add_shared(
        main,
        "--methods",
        help=f"of hybrid, adapt, {METHODS}; or all (default: those that take seconds)",
    )
    main.add_argument(
        "--metric", choices=METRICS, default="accuracy", help="what decides (default: %(default)s)"
    )
    add_shared(command.add_argument_group("data"), *LABEL_OPTIONS, *READING)
    _add_validation(command)


def _add_validation(command: ArgumentParser) -> None:
    validation = command.add_argument_group("cross-validation")
    validation.add_argument(
        "--encoder",
        default="builtin:minilm",
        metavar="NAME",
        help="what methods read where there is no --start (default: %(default)s)",
    )
    validation.add_argument(
        "--folds",
        type=partial(whole, least=2),
        default=5,
        metavar="N",
        help="parts of the table, each held out in turn (default: %(default)s)",
    )
    validation.add_argument(
        "--repeats",
        type=positive,
        default=3,
        metavar="N",
        help="divisions into parts (default: %(default)s)",
    )
    add_shared(validation, "--seed")


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Cross-validate every method on the table and say which to use."""
    table = read_rows(options, options.data, screen)
    with quiet_libraries(), show_work(screen, "cross-validating") as on_step:
        from nlp_meta.comparing.own_tables import (
            PROMPTING,
            QUICK,
            WITH_META,
            OwnComparison,
            recommend_for_table,
        )

        wanted = OwnComparison(
            meta=options.start,
            joint=None,
            methods=options.methods or (WITH_META if options.start else QUICK),
            labels=(0,),
            draws=1,
            metric=options.metric,
            overlap="exclude",
            seed=options.seed,
            prompting=PROMPTING,
        )
        recommendation = recommend_for_table(
            table,
            wanted=wanted,
            encoder=options.encoder,
            folds=options.folds,
            repeats=options.repeats,
            label_map=options.label_map,
            on_step=on_step,
        )
    show_table(
        screen,
        ("method", recommendation.metric.replace("_", "-")),
        [(name, f"{score:.3f}") for name, score in recommendation.scores.items()],
    )
    left_out = {f"left out: {name}": reason for name, reason in recommendation.skipped.items()}
    show_facts(screen, {"answer": recommendation.sentence(), **left_out})
    return {"answer": recommendation.sentence(), **asdict(recommendation)}
