"""`nlp-meta export`: an adapted model as files that run without this package."""

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nlp_meta.cli.files import check_output_folder, read_rows
from nlp_meta.cli.options import READING, TABLES, add_shared, positive
from nlp_meta.cli.screen import Screen, show_facts, show_table
from nlp_meta.errors import SettingsError, need_packages
from nlp_meta.progress import quiet_libraries

if TYPE_CHECKING:
    from argparse import _ActionsContainer as Group

    from nlp_meta.exporting.checkpoint import CheckpointReport
    from nlp_meta.exporting.onnx_export import ExportReport
    from nlp_meta.models.classification import AdaptedModel

EXAMPLE = "nlp-meta export adapted --format onnx --output-dir onnx"
MOST_TEXTS = 2000


def add_options(command: ArgumentParser) -> None:
    """Add the options of `export`."""
    main = command.add_argument_group("main options")
    add_shared(main, "model")
    add_shared(main, "--base")
    add_shared(
        main,
        "--output-dir",
        help="folder for the files; an earlier export as it was written is replaced at the end, "
        "and other files there stay",
    )
    add_shared(main, "--replace")
    main.add_argument(
        "--format",
        choices=("onnx", "transformers"),
        default="onnx",
        help="onnx: graphs with a runner that needs onnxruntime, tokenizers and numpy; "
        "transformers: a checkpoint that its text-classification pipeline reads "
        "(default: %(default)s)",
    )
    main.add_argument(
        "--without-ngrams",
        action="store_true",
        help="leave out the character n-grams of the model, which a checkpoint of transformers "
        "cannot hold; some answers change",
    )
    _add_graph(command.add_argument_group("format onnx"))
    check = command.add_argument_group("check of the answers")
    add_shared(
        check,
        "--data",
        required=False,
        help=f"table of texts to compare the answers on (default: built-in reviews); {TABLES}",
    )
    add_shared(check, "--text-column", *READING)


def _add_graph(graph: "Group") -> None:
    graph.add_argument(
        "--quantize",
        dest="quantization",
        choices=("int8", "none"),
        help="a second graph with weights of eight bits, which run.py opens when it is told to, or "
        "none (default: int8)",
    )
    graph.add_argument(
        "--opset",
        type=positive,
        metavar="N",
        help="version of ONNX's operators (default: the exporter's own)",
    )


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Export, and tell how the files answer beside the model; nothing is kept of a failure."""
    _check_format(options)
    texts = None
    if options.data is not None:
        texts = read_rows(options, options.data, screen, max_rows=MOST_TEXTS).texts
    export = _export_onnx if options.format == "onnx" else _export_transformers
    with quiet_libraries():
        report: Any = export(options, texts)
    show = _show_graphs if options.format == "onnx" else _show_checkpoint
    show(report, options, screen)
    return {"output_dir": str(options.output_dir), "format": options.format, **asdict(report)}


def _check_format(options: Namespace) -> None:
    """Refuse options of the other format."""
    onnx = options.format == "onnx"
    foreign = ("without_ngrams",) if onnx else ("quantization", "opset")
    name = next((name for name in foreign if getattr(options, name)), None)
    if name is not None:
        needed = "transformers" if onnx else "onnx"
        raise SettingsError(
            f"cannot export with `{name}` in the format {options.format}: the format {needed} is "
            f"needed for it; leave it out, or set `format` to {needed}"
        )


def _export_onnx(options: Namespace, texts: Sequence[str] | None) -> "ExportReport":
    from nlp_meta.exporting.onnx_export import LAYOUT, ONNX_PACKAGES, export_onnx

    need_packages("export to ONNX", *ONNX_PACKAGES, extra="onnx")
    check_output_folder(options, LAYOUT)
    return export_onnx(
        _load(options),
        options.output_dir,
        quantization=options.quantization or "int8",
        opset=options.opset,
        texts=texts,
        replace=options.replace,
    )


def _export_transformers(options: Namespace, texts: Sequence[str] | None) -> "CheckpointReport":
    from nlp_meta.exporting.checkpoint import LAYOUT, export_transformers

    check_output_folder(options, LAYOUT)
    return export_transformers(
        _load(options),
        options.output_dir,
        without_ngrams=options.without_ngrams,
        texts=texts,
        replace=options.replace,
    )


def _load(options: Namespace) -> "AdaptedModel":
    from nlp_meta.models.classification import AdaptedModel

    return AdaptedModel.from_pretrained(options.model, device="cpu", base=options.base)


def _show_checkpoint(report: "CheckpointReport", options: Namespace, screen: Screen) -> None:
    folder = repr(str(options.output_dir))
    largest = f"the largest is {report.largest_logit:.1f}"
    facts = {
        "labels": ", ".join(report.labels),
        "compared on": f"{report.texts} texts of {_name_texts(options)}",
        "logits differ by": f"{report.difference:.1g}, {largest}",
        "n-grams": "left out" if report.ngrams_left_out else "none",
        "texts": "one a pass" if report.one_by_one else "any number a pass",
        "size": f"{report.bytes / 1e6:.1f} MB",
        "written to": str(options.output_dir),
        "time": f"{report.seconds:.0f} s",
        "next": f'pipeline("text-classification", {folder}, truncation=True)',
    }
    show_facts(screen, facts)


def _name_texts(options: Namespace) -> str:
    return "built-in reviews" if options.data is None else str(options.data)


def _show_graphs(report: "ExportReport", options: Namespace, screen: Screen) -> None:
    measured = report.measured
    rows = [("PyTorch, float32", "", "", "", f"{measured.torch_milliseconds:.1f}", "1.0")]
    rows += [
        (
            name,
            f"{file.bytes / 1e6:.1f}",
            f"{file.difference:.1g}",
            f"{file.agreement:.1%}",
            f"{file.milliseconds:.1f}",
            f"{file.times_faster:.1f}",
        )
        for name, file in measured.files.items()
    ]
    columns = ("", "MB", "logits differ by", "same labels", "ms a text", "times faster")
    show_table(screen, columns, rows)
    beside = "run.py mixes them in, as `nlp-meta predict` does" if report.ngrams else "none"
    threads = "1 thread" if measured.threads == 1 else f"{measured.threads} threads"
    compared = f"{measured.texts} texts of {_name_texts(options)}"
    runner = shlex.join(["python", str(options.output_dir / "run.py"), "a text"])
    facts = {
        "compared on": f"{compared}, one at a time, {threads}",
        "n-grams": beside,
        "opset": str(report.opset),
        "written to": str(options.output_dir),
        "time": f"{report.seconds:.0f} s",
        "next": f"{runner}    # opens {report.graph}",
    }
    show_facts(screen, facts)
