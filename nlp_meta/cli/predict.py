"""`nlp-meta predict`: a label and its probabilities for each text of a table."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_meta.cli.files import Columns, check_ending, check_output_file, read_rows, write_columns
from nlp_meta.cli.options import ANSWERING, READING, TABLES, add_shared, share
from nlp_meta.cli.screen import Screen, show_facts, show_notes, show_table
from nlp_meta.errors import DataError, NlpMetaError
from nlp_meta.progress import quiet_libraries, show_count

if TYPE_CHECKING:
    from argparse import _ActionsContainer as Group

    from nlp_meta.data.answers import Prediction
    from nlp_meta.files.tables import LabeledTable
    from nlp_meta.models.classification import AdaptedModel

EXAMPLE = "nlp-meta predict adapted --data new.csv --output predictions.csv"
ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".xlsx")

ALL, NONE = ("all",), ("none",)
"""Of the columns of a table."""

# Long enough for batches of texts of one length, short enough for the bar to move.
_BLOCK = 512


def add_options(command: ArgumentParser) -> None:
    """Add the options of `predict`."""
    main = command.add_argument_group("main options")
    add_shared(main, "model", help=ANSWERING)
    add_shared(main, "--base")
    add_shared(main, "--data", help=f"table of texts; no labels are needed; {TABLES}")
    add_shared(
        main,
        "--output",
        help="table to write, .csv, .tsv, .jsonl, .json, .parquet or .xlsx: the columns of the "
        "data, then the label and one probability per label",
    )
    add_labels(main)
    add_shared(main, "--replace", "--text-column")
    data = command.add_argument_group("data")
    add_shared(
        data,
        "--empty",
        choices=("keep", "skip", "stop"),
        default="keep",
        help="rows without a text are kept without an answer and counted, are left out and "
        "counted, or are an error (default: %(default)s)",
    )
    add_shared(data, *READING)
    output = command.add_argument_group("output")
    output.add_argument(
        "--min-confidence",
        type=share,
        metavar="SHARE",
        help="leave the label empty where its probability is below this, such as 0.8, say so in a "
        "column `answered`, and tell what held-out folds promise of the rest (default: answer all)",
    )
    output.add_argument(
        "--keep-columns",
        type=_names,
        default=ALL,
        metavar="A,B",
        help="columns of the table to carry through; all or none of them (default: all)",
    )
    add_shared(output, "--formulas")


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Predict every row, write the table whole, and tell how often each label came."""
    check_ending(options.output, ENDINGS, what="predictions")
    check_output_file(options)
    table = read_rows(options, options.data, screen)
    kept = find_kept(options.keep_columns, table)
    given, renamed = name_kept(kept, options.text_column, bound=options.min_confidence)
    with quiet_libraries():
        from nlp_meta.data.cells import is_empty
        from nlp_meta.models.texts import note_unknown

        model = load_answering(options, [text for text in table.texts if not is_empty(text)])
        tally = _Tally(options.min_confidence)
        blocks = _predict_blocks(model, table, options.text_column, given, tally, screen)
        write_columns(options, blocks)
    show_notes(screen, (*note_unknown(tally.unknown, len(table.texts)), *renamed))
    counts = {label: tally.labels[label] for label in model.labels}
    show_table(screen, ("label", "rows"), [(label, str(n)) for label, n in counts.items()])
    facts, promise = _describe_bound(model, tally)
    show_facts(screen, {**facts, "written to": str(options.output)})
    return {
        "output": str(options.output),
        "rows": len(table.texts),
        "without_answer": tally.labels[None],
        "labels": counts,
        "columns": tally.columns,
        **promise,
    }


def _describe_bound(
    model: "AdaptedModel", tally: "_Tally"
) -> tuple[dict[str, str], dict[str, object]]:
    """What a bound on confidence did, and what held-out folds promise; nothing without one."""
    from nlp_meta.data.answers import cover

    if (bound := tally.min_confidence) is None:
        return {}, {}
    unsure = tally.unsure
    rows = sum(tally.labels.values()) - tally.labels[None] + unsure
    answered = (rows - unsure) / max(rows, 1)
    held_out = () if model.report is None else model.report.held_out
    promise = cover(held_out, bound) if held_out else None
    if promise is None:
        words = "cannot be told: this model keeps no held-out answers; adapt it again"
    elif promise.accuracy is None:
        words = f"cannot be told: none of {len(held_out)} held-out answers is as sure"
    else:
        words = (
            f"{promise.accuracy:.3f} [{promise.low:.3f}, {promise.high:.3f}], from the "
            f"{promise.answered:.0%} of {len(held_out)} held-out answers that are as sure"
        )
    rest = f"{rows - unsure} of {rows} rows, {answered:.1%}"
    facts = {"answered": f"{rest}, at confidence {bound:g} or more", "promised accuracy": words}
    record = {"unsure": unsure, "answered": answered, "min_confidence": bound}
    return facts, {**record, "promised": None if promise is None else asdict(promise)}


def add_labels(group: "Group") -> None:
    """Add the option that names labels of which no text has one."""
    group.add_argument(
        "--labels",
        type=read_label_set,
        metavar="A,B or FILE",
        help="answer with these labels by what they are called, where no text has one yet: names "
        "behind commas, or a file of two columns, label and description; MODEL is then a start "
        "(default: the labels that it learned)",
    )


def read_label_set(text: str) -> Mapping[str, str]:
    """Read labels, with what each means where a file tells it."""
    from nlp_meta.files.tables import LABEL_FILES, read_label_file

    path = Path(text)
    if path.suffix.removeprefix(".").lower() not in LABEL_FILES:
        return dict.fromkeys(_names(text), "")
    try:
        return read_label_file(path)
    except DataError as error:
        raise ArgumentTypeError(str(error)) from error


def load_answering(options: Namespace, texts: Sequence[str] = ()) -> "AdaptedModel":
    """Load the adapted model that was named, or a start as the model of a domain without labels.

    Args:
        texts: Some that it will be asked, for labels that are named by an option.
    """
    from nlp_meta.models.classification import AdaptedModel
    from nlp_meta.models.meta_model import MetaModel

    labels = getattr(options, "labels", None)
    if is_start(options.model):
        start = MetaModel.from_pretrained(options.model, base=options.base)
        return start.for_labels(options.labels, texts) if labels else start.without_labels()
    if labels:
        raise DataError(
            f"cannot answer with the labels {', '.join(labels)} by '{options.model}': it learned "
            "labels of its own, and a start is needed; name one, or leave out `--labels`"
        )
    return AdaptedModel.from_pretrained(options.model, base=options.base)


def is_start(model: str) -> bool:
    """Whether a name is that of a start of classification; not where there is no model."""
    from nlp_meta.data.cards import CLASSIFICATION
    from nlp_meta.hub.records import START, find_model

    try:
        _, record = find_model(model)
    except NlpMetaError:
        return False
    return record.role == START and CLASSIFICATION in record.skills


@dataclass(slots=True)
class _Tally:
    """What is counted while predictions are written, block by block.

    Attributes:
        min_confidence: Of an answer whose label is written; None writes all.
        labels: Rows by their label; None has those without an answer.
        unsure: Rows whose answer is less sure; they count as without an answer too.
        unknown: Texts of which the encoder knows nothing.
        columns: Of the output.
    """

    min_confidence: float | None = None
    labels: Counter[str | None] = field(default_factory=Counter)
    unsure: int = 0
    unknown: int = 0
    columns: list[str] = field(default_factory=list)


def _predict_blocks(
    model: "AdaptedModel",
    table: "LabeledTable",
    text_column: str,
    given: Mapping[str, str],
    tally: _Tally,
    screen: Screen,
) -> Iterator[Columns]:
    """Answer the rows of a table in blocks, so that only one has its answers in memory."""
    from nlp_meta.data.cells import answer_texts

    with show_count("predicting", console=screen.notes) as on_step:
        for first in range(0, len(table.texts), _BLOCK):
            on_step(first, len(table.texts))
            part = slice(first, first + _BLOCK)
            block = replace(table, texts=table.texts[part], rows=table.rows[part])
            answers = answer_texts(block.texts, lambda texts: model.predict(texts) if texts else [])
            columns = _arrange(
                text_column, block, answers, model.labels, given=given, bound=tally.min_confidence
            )
            tally.labels.update(columns[_predicted(text_column)])  # type: ignore[arg-type]
            tally.unsure += list(columns.get(_answered(text_column), ())).count("no")
            tally.unknown += model.count_unknown(block.texts)
            tally.columns = list(columns)
            yield columns


def predict_all(model: "AdaptedModel", texts: Sequence[str], screen: Screen) -> "list[Prediction]":
    """Predict in the order of the texts, with a progress bar."""
    predictions: list[Prediction] = []
    with show_count("predicting", console=screen.notes) as on_step:
        for first in range(0, len(texts), _BLOCK):
            on_step(first, len(texts))
            predictions += model.predict(texts[first : first + _BLOCK])
    return predictions


def find_kept(names: Sequence[str], table: "LabeledTable") -> tuple[str, ...]:
    """Columns of a table that are carried through, in its order.

    Raises:
        DataError: A name is none of its columns.
    """
    if names in (ALL, NONE):
        return tuple(dict.fromkeys(table.columns)) if names == ALL else ()
    strange = [name for name in names if name not in table.columns]
    if strange:
        raise DataError(
            f"cannot keep the columns {', '.join(map(repr, strange))} of table {table.path}: its "
            f"columns are {', '.join(map(repr, table.columns))}; correct `--keep-columns`"
        )
    return tuple(name for name in dict.fromkeys(table.columns) if name in names)


def name_kept(
    kept: Sequence[str], text_column: str, *, bound: float | None = None
) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Name the columns that are carried through.

    The label that is predicted keeps its column's name: whoever reads it must not take labels
    of the table for predictions. So does the column that says whether a row was answered.

    Args:
        bound: On confidence; None has no such column.

    Returns:
        Column of the table -> its name in the output, and a sentence on each that differs.
    """
    given: dict[str, str] = {}
    for column in kept:
        name = column
        reserved = (_predicted(text_column), *(() if bound is None else (_answered(text_column),)))
        while name in reserved or name in given.values():
            name = f"given_{name}"
        given[column] = name
    return given, tuple(
        f"column {column!r} of the table is written as {name!r}"
        for column, name in given.items()
        if column != name
    )


def name_columns(
    text_column: str, labels: Sequence[str], kept: Collection[str] = ()
) -> tuple[str, ...]:
    """Name the columns: the text's, the label's, then one probability column per label.

    A label gives its own name to its column, and `probability_NAME` where another column
    has that name; the column of the predicted label gives way to the text's.

    Args:
        kept: Names of columns that are carried through.
    """
    names = [text_column, _predicted(text_column)]
    for label in labels:
        name = label
        while name in names or name in kept or (name != label and name in labels):
            name = f"probability_{name}"
        names.append(name)
    return tuple(names)


def _arrange(
    text_column: str,
    table: "LabeledTable",
    answers: "Sequence[Prediction | None]",
    labels: Sequence[str],
    *,
    given: Mapping[str, str],
    bound: float | None,
) -> Columns:
    """The table's own columns, then the answers to its rows."""
    columns: dict[str, Sequence[Any]] = {
        name: table.texts if column == text_column else [row.get(column) for row in table.rows]
        for column, name in given.items()
    }
    if text_column not in given:
        columns = {text_column: table.texts, **columns}
    taken = [*given.values(), *(() if bound is None else (_answered(text_column),))]
    _, predicted, *names = name_columns(text_column, labels, taken)
    sure = [a is not None and a.probabilities[a.label] >= (bound or 0.0) for a in answers]
    columns[predicted] = [
        a.label if a and yes else None for a, yes in zip(answers, sure, strict=True)
    ]
    if bound is not None:
        words = [
            None if a is None else ("no", "yes")[s] for a, s in zip(answers, sure, strict=True)
        ]
        columns[_answered(text_column)] = words
    for name, label in zip(names, labels, strict=True):
        columns[name] = [
            None if answer is None else float(answer.probabilities[label]) for answer in answers
        ]
    return columns


def _predicted(text_column: str) -> str:
    return "predicted_label" if text_column == "label" else "label"


def _answered(text_column: str) -> str:
    """The column that says whether an answer was sure enough; empty without a text."""
    return "is_answered" if text_column == "answered" else "answered"


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ArgumentTypeError(f"{text!r} names no column, all, none or names are needed")
    return names
