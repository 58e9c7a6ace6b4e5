"""`nlp-meta recommend`: which method suits a user's labels, and whether more would pay."""

import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict

from nlp_meta.cli.screen import Screen, show_facts, show_progress, show_table
from nlp_meta.data.labels import parse_label_map
from nlp_meta.files.tables import read_table
from nlp_meta.progress import quiet_libraries


def run_recommend(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Cross-validate every method on the table and say which to use."""
    table = read_table(
        options.data,
        text_column=options.text_column,
        label_column=options.label_column,
        max_rows=sys.maxsize,
    )
    label_map = None if options.label_map is None else parse_label_map(options.label_map)
    with quiet_libraries(), show_progress(screen, "cross-validating") as on_step:
        from nlp_meta.comparing.own_settings import PROMPTING, QUICK, WITH_META, OwnComparison
        from nlp_meta.comparing.own_tables import recommend_for_table

        wanted = OwnComparison(
            meta=options.meta,
            joint=None,
            methods=options.methods or (WITH_META if options.meta else QUICK),
            labels=(0,),
            draws=1,
            metric=options.metric,
            overlap="exclude",
            seed=options.seed,
            prompting=PROMPTING,
        )
        found = recommend_for_table(
            table,
            wanted=wanted,
            encoder=options.encoder,
            folds=options.folds,
            repeats=options.repeats,
            label_map=label_map,
            on_step=on_step,
        )
    show_table(
        screen,
        ("method", found.metric.replace("_", "-")),
        [(name, f"{score:.3f}") for name, score in found.scores.items()],
    )
    left_out = {f"left out: {name}": reason for name, reason in found.skipped.items()}
    show_facts(screen, {"answer": found.sentence(), **left_out})
    return {"answer": found.sentence(), **asdict(found)}
