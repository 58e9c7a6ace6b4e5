"""`nlp-meta compare`: every method on draws of a user's labels or pairs, and a page about it."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nlp_meta.cli.files import Data, check_languages, check_output_folder, read_pairs, read_rows
from nlp_meta.cli.options import (
    LABEL_OPTIONS,
    LANGUAGES,
    METHODS,
    PAIR_COLUMNS,
    READING,
    TABLES_OR_PAIRS,
    TakePaths,
    above_zero,
    add_shared,
    positive,
    read_path,
    whole,
)
from nlp_meta.cli.screen import Screen, show_facts, show_remarks, show_table, show_work
from nlp_meta.errors import SettingsError
from nlp_meta.progress import quiet_libraries

if TYPE_CHECKING:
    from nlp_meta.comparing.own_tables import OwnComparison
    from nlp_meta.files.memories import Memory
    from nlp_meta.files.tables import LabeledTable

EXAMPLE = """\
nlp-meta compare runs/quickstart/meta --data labeled.csv --output-dir report
  nlp-meta compare runs/mixed --data memory.tmx --source-lang ind \\
    --target-lang jav --output-dir report"""
_STARTS = "hybrid, adapt, joint, joint_hybrid, joint_adapt"
METRICS = ("accuracy", "macro_f1")
PAIR_METRICS = ("precision_at_1", "mrr", "chrf", "bleu", "spbleu")


def add_options(command: ArgumentParser) -> None:
    """Add the options of `compare`."""
    main = command.add_argument_group("main options")
    add_shared(main, "start")
    add_shared(
        main,
        "--data",
        action=TakePaths,
        help="labeled texts, or a translation memory; support sets are drawn from it; "
        f"{TABLES_OR_PAIRS}",
    )
    add_shared(
        main,
        "--output-dir",
        help="folder for report.html, results.json and predictions.parquet; a run that was "
        "stopped goes on where it was",
    )
    add_shared(main, "--replace")
    add_shared(
        main,
        "--methods",
        default=("all",),
        help=f"of {_STARTS}, {METHODS}, setfit_paper (slow), ready:NAME (a model from the Hub or "
        f"a folder that tells these labels, as it is); for translations of {_STARTS}, lora, "
        "frozen_retrieval, ngram_overlap, zero_pairs, copied_source, prompting; or all but slow "
        "and ready ones (default: all)",
    )
    main.add_argument(
        "--labels",
        type=_counts,
        default=(0, 8, 16, 50, 100),
        metavar="N,N",
        help="numbers of labels, or of sentence pairs, to learn from: those that the data can "
        "give (default: 0,8,16,50,100)",
    )
    _add_protocol(command)
    _add_prompting(command)


def _add_protocol(command: ArgumentParser) -> None:
    data = command.add_argument_group("data")
    data.add_argument(
        "--test-data",
        action=TakePaths,
        type=read_path,
        metavar="FILE",
        help="table, or memory, that judges, 2 rows or more (default: what is left of --data)",
    )
    add_shared(data, *LABEL_OPTIONS, *LANGUAGES, *PAIR_COLUMNS, *READING)
    data.add_argument(
        "--overlap",
        choices=("exclude", "stop"),
        default="exclude",
        help="near-duplicates of texts that judge are excluded, or are an error "
        "(default: %(default)s)",
    )
    comparison = command.add_argument_group("comparison")
    comparison.add_argument(
        "--metric",
        choices=(*METRICS, *PAIR_METRICS),
        help="what decides (default: accuracy; of translations found precision_at_1, of "
        "translations written chrf)",
    )
    comparison.add_argument(
        "--draws",
        type=positive,
        metavar="N",
        help="support sets of each number of labels (default: 10, or as many as a difference "
        "between so many methods needs to be shown)",
    )
    comparison.add_argument(
        "--joint",
        metavar="START",
        help="jointly trained start, for the rivals that were trained on as many examples: "
        "fine-tuned, and adapted just as START is (default: these rivals are left out)",
    )
    add_shared(comparison, "--seed")


def _add_prompting(command: ArgumentParser) -> None:
    prompting = command.add_argument_group("prompting")
    prompting.add_argument(
        "--prompting.model",
        dest="prompting_model_name_or_path",
        metavar="NAME",
        help="causal language model: a folder or a name on the Hub, or the name that the "
        "endpoint knows, which needs one (default: builtin:smollm2)",
    )
    prompting.add_argument(
        "--prompting.gguf-file",
        dest="prompting_gguf_file",
        metavar="FILE",
        help="name of the GGUF file in it, where it is one",
    )
    prompting.add_argument(
        "--prompting.endpoint",
        dest="prompting_endpoint",
        metavar="URL",
        help="OpenAI-compatible server to ask instead; its key is read from OPENAI_API_KEY, and "
        "what it will be asked is told before the first call",
    )
    prompting.add_argument(
        "--prompting.price-per-million-tokens",
        dest="prompting_price_per_million_tokens",
        type=above_zero,
        metavar="P",
        help="price of the endpoint, to be told too (default: unknown)",
    )
    prompting.add_argument(
        "--prompting.requests-per-minute",
        dest="prompting_requests_per_minute",
        type=above_zero,
        metavar="N",
        help="ask the endpoint no faster (default: no limit)",
    )


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Compare, write the report, and show the scores."""
    if options.source_lang or options.target_lang:
        return _compare_pairs(options, screen)
    metric = options.metric or METRICS[0]
    if metric not in METRICS:
        raise SettingsError(
            f"cannot compare labels by '{metric}': one of {', '.join(METRICS)} is needed; change "
            "`--metric`, or give `--source-lang` and `--target-lang` for translations"
        )
    table = read_rows(options, options.data, screen)
    test = None if options.test_data is None else read_rows(options, options.test_data, screen)
    with quiet_libraries(), _show_comparing(screen) as on_cell:
        from nlp_meta.comparing.own_tables import compare_table

        _check_folder(options)
        answer = compare_table(
            _wanted(options, metric=metric, title=_name_data(options, table, test)),
            table,
            test,
            folder=options.output_dir,
            label_map=options.label_map,
            on_cell=on_cell,
        )
    return _show(answer, options, screen, counted="labels", facts={})


def _compare_pairs(options: Namespace, screen: Screen) -> Mapping[str, object]:
    from nlp_meta.files.memories import describe_memory, record_memory

    check_languages(options)
    given = {"data": options.data, "test data": options.test_data}
    languages = {"source_lang": options.source_lang, "target_lang": options.target_lang}
    memories = {
        name: read_pairs(options, data, screen, **languages)
        for name, data in given.items()
        if data is not None
    }
    with quiet_libraries(), _show_comparing(screen) as on_cell:
        from nlp_meta.comparing.own_tables import compare_pairs

        _check_folder(options)
        answer = compare_pairs(
            _wanted(
                options,
                metric=options.metric or "",
                title=_name_data(options, memories["data"], memories.get("test data")),
            ),
            memories["data"],
            memories.get("test data"),
            languages=(options.source_lang, options.target_lang),
            folder=options.output_dir,
            on_cell=on_cell,
        )
    facts = {
        f"{name}: {word}": description
        for name, memory in memories.items()
        for word, description in describe_memory(memory).items()
    }
    records = {name.replace(" ", "_"): record_memory(each) for name, each in memories.items()}
    return {**_show(answer, options, screen, counted="pairs", facts=facts), **records}


def _check_folder(options: Namespace) -> None:
    from nlp_meta.comparing.run import RESULTS

    check_output_folder(options, RESULTS)


@contextmanager
def _show_comparing(screen: Screen) -> Iterator[Callable[[int, int], None]]:
    """Show how far a comparison is, and what an endpoint will be asked before it is."""
    with (
        show_work(screen, "comparing") as on_cell,
        show_remarks(screen, "nlp_meta.comparing.prompted"),
        show_remarks(screen, "nlp_meta.comparing.own_tables"),
    ):
        yield on_cell


def _name_data(
    options: Namespace, data: "LabeledTable | Memory", test: "LabeledTable | Memory | None"
) -> str:
    """Name the files with the rows that they have."""
    named = _name_file(options.data, data)
    return named if test is None else f"{named}, judged by {_name_file(options.test_data, test)}"


def _name_file(given: Data, table: "LabeledTable | Memory") -> str:
    names = " and ".join(path.name for path in (given if isinstance(given, tuple) else (given,)))
    pairs = getattr(table, "pairs", None)
    count = len(getattr(table, "texts", ()) if pairs is None else pairs)
    return f"{names}, {count:,} {'rows' if pairs is None else 'pairs'}"


def _wanted(options: Namespace, *, metric: str, title: str) -> "OwnComparison":
    from nlp_meta.comparing.own_tables import PROMPTING, OwnComparison

    prompting = {
        name.removeprefix("prompting_"): value
        for name, value in vars(options).items()
        if name.startswith("prompting_") and value is not None
    }
    return OwnComparison(
        meta=options.start,
        joint=options.joint,
        methods=options.methods,
        labels=options.labels,
        draws=options.draws,
        metric=metric,
        overlap=options.overlap,
        seed=options.seed,
        replace=options.replace,
        title=title,
        prompting=replace(PROMPTING, **prompting),
    )


def _show(
    answer: str, options: Namespace, screen: Screen, *, counted: str, facts: Mapping[str, str]
) -> Mapping[str, object]:
    """Show scores for people, counted in labels or pairs beside facts, and give them as data."""
    path = options.output_dir / "results.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    _show_scores(results, screen, counted=counted)
    skipped = {
        name: method["skipped"] for name, method in results["methods"].items() if method["skipped"]
    }
    left_out = {f"left out: {name}": reason for name, reason in skipped.items()}
    report = str(options.output_dir / "report.html")
    show_facts(screen, {"answer": answer, **facts, **left_out, "report": report})
    return {
        "answer": answer,
        "report": report,
        "results": str(path),
        "summary": results["summary"],
        "skipped": skipped,
    }


def _show_scores(results: Mapping[str, Any], screen: Screen, *, counted: str) -> None:
    metric = str(results["metric"])
    summary = [cell for cell in results["summary"] if cell["metric"] == metric]
    budgets = sorted({cell["labels"] for cell in summary})
    means = {(cell["method"], cell["labels"]): f"{cell['mean']:.3f}" for cell in summary}
    names = list(dict.fromkeys(cell["method"] for cell in summary))
    show_table(
        screen,
        (metric.replace("_", "-"), *(f"{count} {counted}" for count in budgets)),
        [(name, *(means.get((name, count), "-") for count in budgets)) for name in names],
    )


def _counts(text: str) -> tuple[int, ...]:
    return tuple(whole(part.strip(), least=0) for part in text.split(","))
