"""`nlp-meta compare`: every method on draws of a user's own labels, and a page about it."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nlp_meta.cli.comparison_options import METRICS
from nlp_meta.cli.files import Data, one_table
from nlp_meta.cli.screen import Screen, show_facts, show_progress, show_remarks, show_table
from nlp_meta.data.labels import parse_label_map
from nlp_meta.errors import SettingsError
from nlp_meta.files.tables import Table, read_table
from nlp_meta.progress import quiet_libraries

if TYPE_CHECKING:
    from nlp_meta.comparing.own_settings import OwnComparison


def run_compare(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Compare, write the report, and show the scores."""
    metric = options.metric or METRICS[0]
    if metric not in METRICS:
        raise SettingsError(
            f"cannot compare labels by '{metric}': one of {', '.join(METRICS)} is needed; change "
            "`--metric`, or give `--source-lang` and `--target-lang` for translations"
        )
    table = _read(options, options.data)
    test = None if options.test_data is None else _read(options, options.test_data)
    label_map = None if options.label_map is None else parse_label_map(options.label_map)
    with quiet_libraries(), show_comparing(screen) as on_cell:
        from nlp_meta.comparing.own_tables import compare_table

        answer = compare_table(
            wanted_of(options, metric=metric),
            table,
            test,
            folder=options.output_dir,
            label_map=label_map,
            on_cell=on_cell,
        )
    return show_compared(answer, options, screen, word="labels")


@contextmanager
def show_comparing(screen: Screen) -> Iterator[Callable[[int, int], None]]:
    """Show how far a comparison is, and what an endpoint will be asked before it is."""
    with (
        show_progress(screen, "comparing") as on_cell,
        show_remarks(screen, "nlp_meta.comparing.prompted"),
    ):
        yield on_cell


def show_compared(
    answer: str,
    options: Namespace,
    screen: Screen,
    *,
    word: str,
    facts: Mapping[str, str] | None = None,
) -> Mapping[str, object]:
    """Show the scores of a finished comparison, for people, and give them for machines.

    Args:
        word: What support sets are counted in.
        facts: What else people are told, of the data.
    """
    results = json.loads((options.output_dir / "results.json").read_text(encoding="utf-8"))
    _show(results, screen, word=word)
    left_out = {f"left out: {name}": reason for name, reason in _skipped(results).items()}
    report = str(options.output_dir / "report.html")
    show_facts(screen, {"answer": answer, **(facts or {}), **left_out, "report": report})
    return {
        "answer": answer,
        "report": report,
        "results": str(options.output_dir / "results.json"),
        "summary": results["summary"],
        "skipped": _skipped(results),
    }


def wanted_of(options: Namespace, *, metric: str) -> "OwnComparison":
    """What the options ask for."""
    from nlp_meta.comparing.own_settings import PROMPTING, OwnComparison

    prompting = replace(
        PROMPTING,
        model_name_or_path=options.prompting_model or PROMPTING.model_name_or_path,
        gguf_file=options.prompting_gguf_file,
        endpoint=options.prompting_endpoint,
        requests_per_minute=options.prompting_requests_per_minute,
        price_per_million_tokens=options.prompting_price_per_million_tokens,
    )
    return OwnComparison(
        meta=options.meta,
        joint=options.joint,
        methods=options.methods,
        labels=options.labels,
        draws=options.draws,
        metric=metric,
        overlap=options.overlap,
        seed=options.seed,
        prompting=prompting,
    )


def _read(options: Namespace, data: Data) -> Table:
    return read_table(
        one_table(data),
        text_column=options.text_column,
        label_column=options.label_column,
        max_rows=sys.maxsize,
    )


def _skipped(results: Mapping[str, Any]) -> dict[str, str]:
    methods = results["methods"].items()
    return {name: facts["skipped"] for name, facts in methods if facts["skipped"]}


def _show(results: Mapping[str, Any], screen: Screen, *, word: str) -> None:
    metric = str(results["metric"])
    summary = [one for one in results["summary"] if one["metric"] == metric]
    budgets = sorted({one["labels"] for one in summary})
    cells = {(one["method"], one["labels"]): f"{one['mean']:.3f}" for one in summary}
    names = list(dict.fromkeys(one["method"] for one in summary))
    show_table(
        screen,
        (metric.replace("_", "-"), *(f"{count} {word}" for count in budgets)),
        [(name, *(cells.get((name, count), "-") for count in budgets)) for name in names],
    )
