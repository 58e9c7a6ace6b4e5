"""`nlp-meta evaluate`: how good an adapted model is on a labeled table."""

import json
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence

from nlp_meta.cli.answering import predict_all
from nlp_meta.cli.files import check_output_file, one_table, replace_file
from nlp_meta.cli.screen import Screen, show_facts, show_table
from nlp_meta.data.answers import Prediction
from nlp_meta.data.labels import match_labels, parse_label_map
from nlp_meta.errors import LabelError
from nlp_meta.evaluation.metrics import METRICS
from nlp_meta.evaluation.statistics import interval_of_metric
from nlp_meta.files.tables import read_table
from nlp_meta.progress import quiet_libraries

RESAMPLES = 1000


def run_evaluate(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Predict every row, score the answers, and write the scores whole."""
    label_map = None if options.label_map is None else parse_label_map(options.label_map)
    check_output_file(options.output, data=options.data)
    table = read_table(
        one_table(options.data),
        text_column=options.text_column,
        label_column=options.label_column,
        max_rows=sys.maxsize,
    )
    with quiet_libraries():
        from nlp_meta.models.meta_model import AdaptedModel

        model = AdaptedModel.from_pretrained(options.model)
        true = name_labels(table.labels or (), model.labels, label_map=label_map)
        predictions = predict_all(model, table.texts, screen)
    record = score_rows(true, predictions, model.labels)
    with replace_file(options.output) as path:
        path.write_text(json.dumps(record, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    _show(record, options, screen)
    return record


def name_labels(
    labels: Sequence[str], known: Sequence[str], *, label_map: Mapping[str, str] | None
) -> tuple[str, ...]:
    """Give the labels of a test table the names that the model has for them.

    Raises:
        LabelError: A label means none of the model's.
    """
    match = match_labels(labels, known, label_map=label_map)
    if match.shared:
        return match.labels
    strange = [
        label
        for label in match.counts
        if match.matched.get(label, label) not in known
        and not match_labels([label], known, label_map=None).shared
    ]
    shown = ", ".join(map(repr, strange[:10])) + (" ..." if len(strange) > 10 else "")
    raise LabelError(
        f"cannot score label {shown}: it is none of the model's, which are "
        f"{', '.join(map(repr, known))}; correct the table, say what it means with "
        "`--label-map` or name another column with `--label-column`"
    )


def score_rows(
    true: Sequence[str], predictions: Sequence[Prediction], labels: Sequence[str]
) -> dict[str, object]:
    """Give each metric with its 95% interval over rows.

    Macro-F1 is a mean over the labels that are true or predicted somewhere, as
    scikit-learn has it.
    """
    counts = Counter(true)
    seen = counts.keys() | {one.label for one in predictions}
    present = [label for label in labels if label in seen]
    record: dict[str, object] = {}
    for metric in METRICS:
        interval = interval_of_metric(
            true, predictions, metric, labels=present, resamples=RESAMPLES, seed=0
        )
        record[metric] = {"value": interval.mean, "low": interval.low, "high": interval.high}
    return record | {"rows": len(true), "labels": {label: counts[label] for label in labels}}


def _show(record: Mapping[str, object], options: Namespace, screen: Screen) -> None:
    scores = [(name, record[name]) for name in METRICS]
    show_table(
        screen,
        ("metric", "value", "low", "high"),
        [
            (name, *(f"{score[key]:.3f}" for key in ("value", "low", "high")))
            for name, score in scores
            if isinstance(score, Mapping)
        ],
    )
    labels = record["labels"]
    counts = labels if isinstance(labels, Mapping) else {}
    rows = ", ".join(f"{label} {count}" for label, count in counts.items())
    show_facts(
        screen,
        {
            "rows": f"{record['rows']} ({rows}); 95% intervals over rows",
            "written to": str(options.output),
        },
    )
