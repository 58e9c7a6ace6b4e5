"""The options of every command, with an example and the defaults in each help text."""

from argparse import SUPPRESS, ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import NoReturn

from nlp_meta import __version__
from nlp_meta.cli.comparison_options import add_compare, add_recommend
from nlp_meta.cli.export_options import add_export
from nlp_meta.cli.hub_options import add_destination, add_push, add_push_after
from nlp_meta.cli.options import (
    above_zero,
    add_label_options,
    add_seed,
    add_table,
    add_table_or_pairs,
    add_text_column,
    positive,
)
from nlp_meta.cli.serving_options import add_serve
from nlp_meta.cli.translate_options import add_columns, add_pairs, add_translate
from nlp_meta.cli.update_options import add_update

_ABOUT = """\
Adapt a meta-trained model to a new domain or language from 50 to 100 labeled texts.

see it work, on built-in reviews, in five minutes:
  nlp-meta quickstart
learn from your labels, then label new texts, and score the answers:
  nlp-meta adapt runs/quickstart/meta --data labeled.csv --output-dir adapted
  nlp-meta predict adapted --data new.csv --output predictions.csv
  nlp-meta evaluate adapted --data test.csv --output scores.json
know which method to use, and compare them all:
  nlp-meta recommend --data labeled.csv
  nlp-meta compare runs/quickstart/meta --data labeled.csv --output-dir report
answer over HTTP for many domains at once:
  nlp-meta serve adapted --port 8000"""

_EXAMPLES = {
    "adapt": "nlp-meta adapt runs/quickstart/meta --data real_estate.csv --output-dir real_estate\n"
    "  nlp-meta adapt runs/mixed --data memory.tmx --source-lang ind --target-lang jav "
    "--output-dir ind-jav",
    "predict": "nlp-meta predict real_estate --data new.csv --output predictions.csv",
    "evaluate": "nlp-meta evaluate real_estate --data test.csv --output scores.json",
    "compare": "nlp-meta compare runs/quickstart/meta --data real_estate.csv --output-dir report\n"
    "  nlp-meta compare runs/mixed --data memory.tmx --source-lang ind --target-lang jav "
    "--output-dir report",
    "recommend": "nlp-meta recommend --data my_labels.csv",
    "quickstart": "nlp-meta quickstart --output-dir runs/quickstart",
    "export": "nlp-meta export real_estate --format onnx --output-dir onnx",
    "update": "nlp-meta update runs/quickstart/meta --add-domain fashion=fashion.csv "
    "--output-dir runs/with_fashion",
    "translate": "nlp-meta translate ind-jav --data new.txt --output out.txt",
    "align": "nlp-meta align ind-jav --source a.txt --target b.txt --output pairs.tsv",
    "push": "nlp-meta push real_estate --repo-id me/real-estate-sentiment --private",
    "cards": "nlp-meta cards\n  nlp-meta cards check my_corpus.md\n"
    "  nlp-meta cards push my_corpus.md --repo-id me/my-corpus",
    "serve": "nlp-meta serve real_estate fashion me/travel-sentiment --port 8000",
}


class _Parser(ArgumentParser):
    """Says what is wrong in one line, as every other error of this package does."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {' '.join(message.split())}; see `{self.prog} --help`\n")


def build_parser() -> ArgumentParser:
    """Build the parser; what it returns has `command` and `json` whatever the command is."""
    parser = _Parser(
        prog="nlp-meta",
        description=_ABOUT,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"nlp-meta {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, about, add_options in (
        ("adapt", "Adapt a meta-model to the labels of one table, or to translations.", _add_adapt),
        ("predict", "Label the texts of a table with an adapted model.", _add_predict),
        ("evaluate", "Score an adapted model on labels, or on sentence pairs.", _add_evaluate),
        ("translate", "Translate a file with a model adapted to sentence pairs.", add_translate),
        ("align", "Find sentences of two files that translate each other.", _add_align),
        ("quickstart", "Meta-train, adapt and compare on built-in reviews.", _add_quickstart),
        ("compare", "Compare methods on draws of your labels or pairs.", add_compare),
        ("recommend", "Say which method suits your labels, and how sure.", add_recommend),
        ("export", "Export an adapted model to ONNX, and check its answers.", add_export),
        ("update", "Go on meta-training with new domains, old ones replayed.", add_update),
        ("push", "Push a saved model to the Hub, with its card.", add_push),
        ("serve", "Answer over HTTP for adapted models of many domains.", add_serve),
        ("cards", "List the data cards, check or push them.", _add_cards),
    ):
        command = commands.add_parser(
            name,
            help=about,
            description=about,
            epilog=f"example:\n  {_EXAMPLES[name]}",
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_argument(
            "--json",
            action="store_true",
            help="print the result as one JSON object on standard output, notes on standard error",
        )
        add_options(command)
    return parser


def _add_adapt(command: ArgumentParser) -> None:
    command.add_argument("meta", metavar="META", help="meta-model: a folder, or a name on the Hub")
    add_table_or_pairs(
        command, "table of labeled texts, 50 to 100 of them, at least 2 of each label"
    )
    command.add_argument(
        "--output-dir",
        required=True,
        type=Path,
        metavar="DIR",
        help="folder for the adapted model; one that is there already is replaced at the end",
    )
    add_label_options(command)
    command.add_argument(
        "--max-rows",
        type=positive,
        default=2000,
        metavar="N",
        help="a longer table is an error (default: %(default)s)",
    )
    command.add_argument(
        "--long-texts",
        choices=("cut", "stop"),
        default="cut",
        help="texts longer than the encoder takes are cut and counted, or are an error "
        "(default: %(default)s)",
    )
    _add_adaptation(command)
    add_pairs(command)
    add_seed(command)
    add_push_after(command)


def _add_align(command: ArgumentParser) -> None:
    command.add_argument(
        "model", metavar="MODEL", help="model adapted to sentence pairs: a folder, or a Hub name"
    )
    for side in ("source", "target"):
        command.add_argument(
            f"--{side}",
            required=True,
            type=Path,
            metavar="FILE",
            help=f"plain text of {side} sentences, one a line, in any order; may be packed as .gz; "
            "of equal sentences the first one counts",
        )
    command.add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="FILE",
        help="table to write, .tsv, .csv or .jsonl: source, target, margin and both line numbers",
    )
    command.add_argument(
        "--threshold",
        type=above_zero,
        metavar="MARGIN",
        help="least margin of a pair, about 1; higher means fewer and surer pairs (default: what "
        "the held-out pairs of the adaptation advised)",
    )


def _add_adaptation(command: ArgumentParser) -> None:
    command.add_argument(
        "--steps",
        type=positive,
        metavar="N",
        help="gradient steps (default: what the meta-model found best)",
    )
    command.add_argument(
        "--learning-rate",
        type=above_zero,
        metavar="RATE",
        help="size of a step (default: what the meta-model found best)",
    )
    command.add_argument(
        "--companion",
        choices=("auto", "ngrams", "none"),
        default="auto",
        help="let character n-grams count beside the encoder, in predictions or in finding "
        "translations: where held-out answers to your texts say that it pays, always, or never "
        "(default: %(default)s)",
    )


def _add_predict(command: ArgumentParser) -> None:
    command.add_argument(
        "model", metavar="MODEL", help="adapted model: a folder, or a name on the Hub"
    )
    add_table(command, "table of texts; no labels are needed")
    command.add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="FILE",
        help="table to write, .csv, .tsv, .jsonl or .parquet: the text, its label, then one "
        "probability per label",
    )
    add_text_column(command)


def _add_evaluate(command: ArgumentParser) -> None:
    command.add_argument(
        "model", metavar="MODEL", help="adapted model: a folder, or a name on the Hub"
    )
    add_table_or_pairs(
        command,
        "table of labeled texts, or translation memory, that the model has not learned from",
    )
    command.add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="FILE",
        help="JSON file to write: accuracy, macro_f1 and ece (calibration error); chrf (chrF++) "
        "and bleu of a model that writes translations; precision_at_1, mrr and xsim (error of "
        "mining) of one that finds them; each with a 95%% interval",
    )
    add_label_options(command)
    add_columns(command)


def _add_quickstart(command: ArgumentParser) -> None:
    command.add_argument(
        "--output-dir",
        type=Path,
        default=Path("runs/quickstart"),
        metavar="DIR",
        help="folder for meta/, real_estate/ and results.json (default: %(default)s)",
    )
    add_seed(command)


def _add_cards(command: ArgumentParser) -> None:
    actions = command.add_subparsers(dest="action", metavar="check | push")
    check = actions.add_parser(
        "check",
        help="check cards: all that are shipped, or those named",
        description="Check data cards; the first thing wrong with each is named.",
        epilog="example:\n  nlp-meta cards check my_corpus.md",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    check.add_argument(
        "paths", nargs="*", metavar="PATH", help="card, by path or name (default: all shipped)"
    )
    # A default of its own would overwrite a `--json` that stands before `check`.
    check.add_argument("--json", action="store_true", default=SUPPRESS, help="as for `cards`")
    push = actions.add_parser(
        "push",
        help="push a card as the card of a dataset repository",
        description="Push a data card as the card of a dataset repository; no rows are pushed.",
        epilog="example:\n  nlp-meta cards push my_corpus.md --repo-id me/my-corpus",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    push.add_argument("card", metavar="CARD", help="card, by path or name")
    add_destination(push)
    push.add_argument("--json", action="store_true", default=SUPPRESS, help="as for `cards`")
