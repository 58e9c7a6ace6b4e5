"""`nlp-meta export`: an adapted model as files that run without this package."""

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from nlp_meta.cli.files import check_output_folder, read_rows
from nlp_meta.cli.options import READING, TABLES, add_shared, positive
from nlp_meta.cli.screen import Screen, show_facts, show_table
from nlp_meta.progress import quiet_libraries

if TYPE_CHECKING:
    from nlp_meta.exporting.onnx_export import ExportReport

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
        help="folder for model.onnx, tokenizer.json, labels.json and run.py; an earlier export as "
        "it was written is replaced at the end, and other files there stay",
    )
    add_shared(main, "--replace")
    main.add_argument(
        "--quantize",
        dest="quantization",
        choices=("int8", "none"),
        default="int8",
        help="a second graph with weights of eight bits, which run.py opens when it is told to, or "
        "none (default: %(default)s)",
    )
    graph = command.add_argument_group("graph")
    graph.add_argument(
        "--format",
        choices=("onnx",),
        default="onnx",
        help="format of the files (default: %(default)s)",
    )
    graph.add_argument(
        "--opset",
        type=positive,
        metavar="N",
        help="version of ONNX's operators (default: the exporter's own)",
    )
    check = command.add_argument_group("check of the answers")
    add_shared(
        check,
        "--data",
        required=False,
        help=f"table of texts to compare the answers on (default: built-in reviews); {TABLES}",
    )
    add_shared(check, "--text-column", *READING)


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Export, and tell how the files answer beside the model; nothing is kept of a failure."""
    texts = None
    if options.data is not None:
        texts = read_rows(options, options.data, screen, max_rows=MOST_TEXTS).texts
    with quiet_libraries():
        from nlp_meta.exporting.graph import check_packages
        from nlp_meta.exporting.onnx_export import LAYOUT, export_onnx
        from nlp_meta.models.classification import AdaptedModel

        check_packages()
        check_output_folder(options, LAYOUT)
        model = AdaptedModel.from_pretrained(options.model, device="cpu", base=options.base)
        report = export_onnx(
            model,
            options.output_dir,
            quantization=options.quantization,
            opset=options.opset,
            texts=texts,
            replace=options.replace,
        )
    _show(report, options, screen)
    return {"output_dir": str(options.output_dir), "format": options.format, **asdict(report)}


def _show(report: "ExportReport", options: Namespace, screen: Screen) -> None:
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
    source = "built-in reviews" if options.data is None else str(options.data)
    runner = shlex.join(["python", str(options.output_dir / "run.py"), "a text"])
    show_facts(
        screen,
        {
            "compared on": f"{measured.texts} texts of {source}, one at a time, {threads}",
            "n-grams": beside,
            "opset": str(report.opset),
            "written to": str(options.output_dir),
            "time": f"{report.seconds:.0f} s",
            "next": f"{runner}    # opens {report.graph}",
        },
    )
