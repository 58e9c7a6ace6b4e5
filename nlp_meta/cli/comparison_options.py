"""The options of `compare` and `recommend`."""

from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

from nlp_meta.cli.options import (
    TakePaths,
    above_zero,
    add_label_options,
    add_seed,
    add_table,
    add_table_or_pairs,
    positive,
    whole,
)
from nlp_meta.cli.translate_options import add_pairs

METRICS = ("accuracy", "macro_f1")
PAIR_METRICS = ("precision_at_1", "mrr", "chrf", "bleu", "spbleu")


def add_compare(command: ArgumentParser) -> None:
    """Give `compare` its options."""
    command.add_argument("meta", metavar="META", help="meta-model: a folder, or a name on the Hub")
    add_table_or_pairs(
        command, "labeled texts, or a translation memory; support sets are drawn from it"
    )
    command.add_argument(
        "--test-data",
        action=TakePaths,
        type=Path,
        metavar="FILE",
        help="table, or memory, that judges, 2 rows or more (default: what is left of --data)",
    )
    command.add_argument(
        "--output-dir",
        required=True,
        type=Path,
        metavar="DIR",
        help="folder for report.html, results.json and predictions.parquet; a run that was "
        "stopped goes on where it was",
    )
    command.add_argument(
        "--joint",
        metavar="START",
        help="jointly trained start, for the rivals that were trained on as many examples: "
        "fine-tuned, and adapted just as START is (default: these rivals are left out)",
    )
    _add_methods(
        command,
        default=("all",),
        what="all",
        starts="hybrid, adapt, joint, joint_hybrid, joint_adapt",
        pairs="for translations of hybrid, adapt, joint, joint_hybrid, joint_adapt, lora, "
        "frozen_retrieval, ngram_overlap, zero_pairs, copied_source, prompting; ",
    )
    _add_protocol(command)
    _add_prompting(command)
    _add_any_metric(command)
    add_label_options(command)
    add_pairs(command)
    add_seed(command)


def _add_protocol(command: ArgumentParser) -> None:
    command.add_argument(
        "--labels",
        type=_counts,
        default=(0, 8, 16, 50, 100),
        metavar="N,N",
        help="numbers of labels, or of sentence pairs, to learn from: those that the data can "
        "give (default: 0,8,16,50,100)",
    )
    command.add_argument(
        "--draws",
        type=positive,
        default=10,
        metavar="N",
        help="support sets of each number of labels (default: %(default)s)",
    )
    command.add_argument(
        "--overlap",
        choices=("exclude", "stop"),
        default="exclude",
        help="near-duplicates of texts that judge are excluded, or are an error "
        "(default: %(default)s)",
    )


def add_recommend(command: ArgumentParser) -> None:
    """Give `recommend` its options."""
    add_table(command, "table of labeled texts, 30 or more; near-duplicates are left out")
    command.add_argument(
        "--meta",
        metavar="META",
        help="meta-model, a folder or a name on the Hub, to be tried too (default: none)",
    )
    _add_methods(command, default=None, what="those that take seconds", starts="hybrid, adapt")
    command.add_argument(
        "--encoder",
        default="builtin:minilm",
        metavar="NAME",
        help="what methods read where there is no --meta (default: %(default)s)",
    )
    command.add_argument(
        "--folds",
        type=_folds,
        default=5,
        metavar="N",
        help="parts of the table, each held out in turn (default: %(default)s)",
    )
    command.add_argument(
        "--repeats",
        type=positive,
        default=3,
        metavar="N",
        help="divisions into parts (default: %(default)s)",
    )
    _add_metric(command)
    add_label_options(command)
    add_seed(command)


def _add_methods(
    command: ArgumentParser,
    *,
    default: tuple[str, ...] | None,
    what: str,
    starts: str,
    pairs: str = "",
) -> None:
    command.add_argument(
        "--methods",
        type=_names,
        default=default,
        metavar="A,B",
        help=f"of {starts}, lora, full, setfit, linear_probe, prototypes, memory, ngrams, "
        f"prompting; {pairs}or all (default: {what})",
    )


def _add_prompting(command: ArgumentParser) -> None:
    command.add_argument(
        "--prompting.model",
        dest="prompting_model",
        metavar="NAME",
        help="causal language model: a folder or a name on the Hub, or the name that the "
        "endpoint knows, which needs one (default: builtin:smollm2)",
    )
    command.add_argument(
        "--prompting.gguf-file",
        dest="prompting_gguf_file",
        metavar="FILE",
        help="name of the GGUF file in it, where it is one",
    )
    command.add_argument(
        "--prompting.endpoint",
        dest="prompting_endpoint",
        metavar="URL",
        help="OpenAI-compatible server to ask instead; its key is read from OPENAI_API_KEY, and "
        "what it will be asked is told before the first call",
    )
    command.add_argument(
        "--prompting.price-per-million-tokens",
        dest="prompting_price_per_million_tokens",
        type=above_zero,
        metavar="P",
        help="price of the endpoint, to be told too (default: unknown)",
    )
    command.add_argument(
        "--prompting.requests-per-minute",
        dest="prompting_requests_per_minute",
        type=above_zero,
        metavar="N",
        help="ask the endpoint no faster (default: no limit)",
    )


def _add_any_metric(command: ArgumentParser) -> None:
    command.add_argument(
        "--metric",
        choices=(*METRICS, *PAIR_METRICS),
        help="what decides (default: accuracy; of translations found precision_at_1, of "
        "translations written chrf)",
    )


def _add_metric(command: ArgumentParser) -> None:
    command.add_argument(
        "--metric",
        choices=METRICS,
        default="accuracy",
        help="what decides (default: %(default)s)",
    )


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ArgumentTypeError(f"{text!r} names no method, at least one is needed")
    return names


def _counts(text: str) -> tuple[int, ...]:
    return tuple(whole(part.strip(), least=0) for part in text.split(","))


def _folds(text: str) -> int:
    return whole(text, least=2)
