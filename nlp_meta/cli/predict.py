"""`nlp-meta predict`: a label and its probabilities for each text of a table."""

from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nlp_meta.cli.files import Columns, check_ending, check_output_file, read_rows, write_columns
from nlp_meta.cli.options import READING, TABLES, add_shared
from nlp_meta.cli.screen import Screen, show_facts, show_progress, show_table
from nlp_meta.progress import quiet_libraries

if TYPE_CHECKING:
    from nlp_meta.data.answers import Prediction
    from nlp_meta.models.classification import AdaptedModel

EXAMPLE = "nlp-meta predict adapted --data new.csv --output predictions.csv"
ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".xlsx")

# Long enough for batches of texts of one length, short enough for the bar to move.
_BLOCK = 512


def add_options(command: ArgumentParser) -> None:
    """Add the options of `predict`."""
    main = command.add_argument_group("main options")
    add_shared(main, "model")
    add_shared(main, "--data", help=f"table of texts; no labels are needed; {TABLES}")
    add_shared(
        main,
        "--output",
        help="table to write, .csv, .tsv, .jsonl, .json, .parquet or .xlsx: the text, its label, "
        "then one probability per label",
    )
    add_shared(main, "--replace", "--text-column")
    add_shared(command.add_argument_group("data"), *READING)


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Predict every row, write the table whole, and tell how often each label came."""
    check_ending(options.output, ENDINGS, what="predictions")
    check_output_file(options)
    table = read_rows(options, options.data, screen)
    with quiet_libraries():
        from nlp_meta.models.classification import AdaptedModel

        model = AdaptedModel.from_pretrained(options.model)
        predictions = predict_all(model, table.texts, screen)
    columns = _arrange(options.text_column, table.texts, predictions, model.labels)
    write_columns(options, columns)
    predicted = Counter(prediction.label for prediction in predictions)
    counts = {label: predicted[label] for label in model.labels}
    show_table(screen, ("label", "rows"), [(label, str(n)) for label, n in counts.items()])
    show_facts(screen, {"written to": str(options.output)})
    return {
        "output": str(options.output),
        "rows": len(predictions),
        "labels": counts,
        "columns": list(columns),
    }


def predict_all(model: "AdaptedModel", texts: Sequence[str], screen: Screen) -> "list[Prediction]":
    """Predict in the order of the texts, with a progress bar."""
    predictions: list[Prediction] = []
    with show_progress(screen, "predicting") as on_step:
        for first in range(0, len(texts), _BLOCK):
            on_step(first, len(texts))
            predictions += model.predict(texts[first : first + _BLOCK])
    return predictions


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
    predictions: "Sequence[Prediction]",
    labels: Sequence[str],
) -> Columns:
    cells: list[Sequence[str | float]] = [texts, [answer.label for answer in predictions]]
    cells += [[float(answer.probabilities[label]) for answer in predictions] for label in labels]
    return dict(zip(name_columns(text_column, labels), cells, strict=True))
