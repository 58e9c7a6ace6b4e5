"""`nlp-meta predict`: a label and its probabilities for each text of a table."""

import csv
import json
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nlp_meta.cli.answering import predict_all
from nlp_meta.cli.files import check_output_file, replace_file
from nlp_meta.cli.screen import Screen, show_facts, show_table
from nlp_meta.data.answers import Prediction
from nlp_meta.errors import DataError
from nlp_meta.files.tables import read_table
from nlp_meta.progress import quiet_libraries

Columns = Mapping[str, Sequence[str | float]]


def run_predict(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Predict every row, write the table whole, and tell how often each label came."""
    write = _find_writer(options.output)
    check_output_file(options.output, data=options.data)
    table = read_table(
        options.data, text_column=options.text_column, label_column=None, max_rows=sys.maxsize
    )
    with quiet_libraries():
        from nlp_meta.models.meta_model import AdaptedModel

        model = AdaptedModel.from_pretrained(options.model)
        predictions = predict_all(model, table.texts, screen)
    columns = _arrange(options.text_column, table.texts, predictions, model.labels)
    with replace_file(options.output) as path:
        write(path, columns)
    found = Counter(prediction.label for prediction in predictions)
    counts = {label: found[label] for label in model.labels}
    show_table(screen, ("label", "rows"), [(label, str(n)) for label, n in counts.items()])
    show_facts(screen, {"written to": str(options.output)})
    return {
        "output": str(options.output),
        "rows": len(predictions),
        "labels": counts,
        "columns": list(columns),
    }


def name_columns(text_column: str, labels: Sequence[str]) -> tuple[str, ...]:
    """Name the columns: the text's, the label's, then one probability column per label.

    A label gives its own name to its column, and `probability_NAME` where another column
    has that name; the column of the predicted label gives way to the text's.
    """
    names = [text_column, "predicted_label" if text_column == "label" else "label"]
    for label in labels:
        name = label
        while name in names or (name != label and name in labels):
            name = f"probability_{name}"
        names.append(name)
    return tuple(names)


def _arrange(
    text_column: str,
    texts: Sequence[str],
    predictions: Sequence[Prediction],
    labels: Sequence[str],
) -> Columns:
    cells: list[Sequence[str | float]] = [texts, [one.label for one in predictions]]
    cells += [[float(one.probabilities[label]) for one in predictions] for label in labels]
    return dict(zip(name_columns(text_column, labels), cells, strict=True))


def _find_writer(path: Path) -> Callable[[Path, Columns], None]:
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise DataError(
            f"cannot write predictions to '{path}': its ending {path.suffix!r} is unknown, one of "
            f"{', '.join(_WRITERS)} is needed; name such a file with `--output`"
        )
    return writer


def _write_delimited(path: Path, columns: Columns, *, separator: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _write_json_lines(path: Path, columns: Columns) -> None:
    with path.open("w", encoding="utf-8") as file:
        for cells in zip(*columns.values(), strict=True):
            row = dict(zip(columns, cells, strict=True))
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_parquet(path: Path, columns: Columns) -> None:
    pq.write_table(pa.table({name: list(cells) for name, cells in columns.items()}), path)


_WRITERS: Mapping[str, Callable[[Path, Columns], None]] = {
    ".csv": partial(_write_delimited, separator=","),
    ".tsv": partial(_write_delimited, separator="\t"),
    ".jsonl": _write_json_lines,
    ".parquet": _write_parquet,
}
