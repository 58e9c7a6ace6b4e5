"""`nlp-meta inspect`: what is doubtful about a table of labeled texts."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nlp_meta.cli.files import Columns, check_ending, check_output_file, read_rows, write_columns
from nlp_meta.cli.options import LABEL_OPTIONS, READING, TABLES, add_shared
from nlp_meta.cli.predict import ENDINGS
from nlp_meta.cli.screen import Screen, show_facts, show_notes, show_sentence
from nlp_meta.progress import quiet_libraries

if TYPE_CHECKING:
    from nlp_meta.comparing.inspection import Inspection
    from nlp_meta.files.tables import LabeledTable

EXAMPLE = "nlp-meta inspect --data labeled.csv --output doubtful.csv"

_SHOWN, _TEXT = 20, 60
"""Findings that a person sees, and signs of each text."""


def add_options(command: ArgumentParser) -> None:
    """Add the options of `inspect`."""
    main = command.add_argument_group("main options")
    add_shared(main, "--data", help=f"table of labeled texts, 1000 rows at most; {TABLES}")
    main.add_argument(
        "--start",
        metavar="START",
        help="start that reads the texts: a folder, a name on the Hub, or builtin:NAME; one that "
        "learned these labels finds more (default: the one that comes with the package and "
        "suits texts and labels)",
    )
    add_shared(main, "--base")
    add_shared(
        main,
        "--output",
        required=False,
        help="table to write, .csv, .tsv, .jsonl, .json, .parquet or .xlsx: one row for each "
        "finding, with the line of the data, what it is and a label to put there (default: none)",
    )
    add_shared(main, "--replace")
    add_shared(command.add_argument_group("data"), *LABEL_OPTIONS, *READING)
    add_shared(command.add_argument_group("output"), "--formulas")
    add_shared(command.add_argument_group("cross-validation"), "--seed")


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Inspect the table, show the gravest findings and write all."""
    if options.output is not None:
        check_ending(options.output, ENDINGS, what="findings")
        check_output_file(options)
    table = read_rows(options, options.data, screen)
    with quiet_libraries():
        from nlp_meta.comparing.inspection import inspect_labels
        from nlp_meta.hub.builtin_starts import choose_start
        from nlp_meta.models.meta_model import MetaModel

        named = options.start or choose_start(table.texts, table.labels or (), options.label_map)
        start = MetaModel.from_pretrained(named, base=options.base)
        inspection = inspect_labels(
            table.texts,
            table.labels or (),
            start=start,
            label_map=options.label_map,
            seed=options.seed,
        )
    show_notes(screen, inspection.notes)
    columns = _arrange(inspection, table)
    chosen = {} if options.start else {"start": named}
    _show(inspection, columns, screen, chosen)
    if options.output is not None:
        write_columns(options, [columns])
        show_facts(screen, {"written to": str(options.output)})
    names = list(columns)
    return {
        "output": None if options.output is None else str(options.output),
        **chosen,
        "rows": inspection.examples,
        "counts": inspection.counts,
        "findings": [
            dict(zip(names, cells, strict=True)) for cells in zip(*columns.values(), strict=True)
        ],
    }


def _arrange(inspection: "Inspection", table: "LabeledTable") -> Columns:
    found = inspection.findings
    return {
        "row": [finding.place + 1 for finding in found],
        "line": [table.lines[finding.place] for finding in found],
        "what": [finding.what for finding in found],
        "label": [finding.label for finding in found],
        "suggested_label": [finding.suggestion or "" for finding in found],
        "detail": [finding.detail for finding in found],
        "text": [table.texts[finding.place] for finding in found],
    }


def _show(
    inspection: "Inspection", columns: Columns, screen: Screen, chosen: Mapping[str, str]
) -> None:
    shown = ("what", "line", "label", "suggested_label", "text")
    cells = list(zip(*(columns[name] for name in shown), strict=True))[:_SHOWN]
    for what, line, label, suggestion, text in cells:
        change = f"{label!r} -> {suggestion!r}" if suggestion else repr(label)
        sentence = f"line {line}: {what}, {change}: {str(text)[:_TEXT]}"
        show_sentence(screen, sentence)
    left = len(inspection.findings) - len(cells)
    facts = {what: str(count) for what, count in inspection.counts.items() if count}
    if left:
        facts["not shown"] = f"{left} more; `--output FILE` writes all"
    show_facts(screen, {**chosen, "rows": str(inspection.examples), **facts})
