"""`nlp-meta explain`: the words that decided an answer, labeled texts like it, moved layers."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from nlp_meta.cli.files import check_output_file, read_rows, write_record
from nlp_meta.cli.options import ANSWERING, READING, TABLES, add_shared, positive, read_path
from nlp_meta.cli.predict import load_answering
from nlp_meta.cli.screen import Screen, show_facts, show_notes, show_sentence, show_table, show_work
from nlp_meta.errors import DataError
from nlp_meta.progress import quiet_libraries

if TYPE_CHECKING:
    from nlp_meta.comparing.explanation import Explanation

EXAMPLE = 'nlp-meta explain adapted "The agent never called back." --support labeled.csv'

_SHOWN = 12
"""Words of a text that a person sees, the heaviest."""


def add_options(command: ArgumentParser) -> None:
    """Add the options of `explain`."""
    main = command.add_argument_group("main options")
    add_shared(main, "model", help=ANSWERING)
    main.add_argument("texts", nargs="*", metavar="TEXT", help="texts to explain the answers to")
    add_shared(main, "--base")
    add_shared(main, "--data", required=False, help=f"table of texts in their place; {TABLES}")
    main.add_argument(
        "--rows",
        type=positive,
        default=10,
        metavar="N",
        help="rows of the table, the first ones (default: %(default)s); one takes a second or more",
    )
    main.add_argument(
        "--support",
        type=read_path,
        metavar="FILE",
        help="table of labeled texts, of which the nearest are named: a model keeps none",
    )
    main.add_argument(
        "--start",
        metavar="START",
        help="start that the model was adapted from: layers are measured from there (default: from "
        "the pretrained encoder)",
    )
    main.add_argument("--label", metavar="LABEL", help="to explain (default: the predicted one)")
    main.add_argument(
        "--against",
        metavar="LABEL",
        help="to hold it against (default: the most likely of the others)",
    )
    add_shared(main, "--output", required=False, help="JSON file to write (default: none)")
    add_shared(main, "--replace")
    data = command.add_argument_group("data")
    add_shared(data, "--text-column", "--label-column", *READING)


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Explain the answers to the texts, and write all that was found."""
    if options.output is not None:
        check_output_file(options)
    texts = _read_texts(options, screen)
    support = []
    if options.support is not None:
        labeled = read_rows(options, options.support, screen)
        support = list(zip(labeled.texts, labeled.labels or (), strict=True))
    with quiet_libraries(), show_work(screen, "explaining"):
        from nlp_meta.comparing.explanation import explain, measure_layers
        from nlp_meta.models.meta_model import MetaModel

        model = load_answering(options)
        named = options.start
        start = MetaModel.from_pretrained(named, base=options.base) if named else None
        explanations = explain(
            model, texts, label=options.label, against=options.against, support=support
        )
        layers = measure_layers(model, start)
    for explanation in explanations:
        _show(screen, explanation)
    moved = ", ".join(f"{layer} {share:.2%}" for layer, share in layers.items())
    since = "the start" if start else "the pretrained encoder"
    show_facts(screen, {f"moved from {since}": f"{moved} of the length of its frozen weights"})
    if any(explanation.is_cut for explanation in explanations):
        show_notes(screen, ["texts are cut to the length that the encoder takes; n-grams go on"])
    record = {"explanations": [asdict(one) for one in explanations], "layers": layers}
    if options.output is not None:
        write_record(options, record)
        show_facts(screen, {"written to": str(options.output)})
    return record


def _read_texts(options: Namespace, screen: Screen) -> list[str]:
    if bool(options.texts) == (options.data is not None):
        raise DataError(
            "cannot explain answers: texts behind the model, or a table of them, are needed and "
            "not both; give texts or `data`"
        )
    if options.texts:
        return list(options.texts)
    texts_only = Namespace(**{**vars(options), "label_column": None})
    return list(read_rows(texts_only, options.data, screen).texts[: options.rows])


def _show(screen: Screen, explanation: "Explanation") -> None:
    """Show one text: the score, the heaviest words in their order, n-grams and neighbors."""
    label, against = explanation.label, explanation.against
    odds = explanation.answer.probabilities
    show_sentence(screen, explanation.text)
    show_sentence(
        screen,
        f"{label} {odds[label]:.3f} against {against} {odds[against]:.3f}: "
        f"{explanation.score:+.2f} nats, {explanation.without_words:+.2f} of them without any word",
    )
    heaviest = sorted(explanation.words, key=lambda word: -abs(word.weight))[:_SHOWN]
    rows = [
        (word.text, *(f"{part:+.2f}" for part in (word.weight, word.encoder, word.ngrams)))
        for word in explanation.words
        if word in heaviest
    ]
    show_table(screen, ("word", f"for {label}", "encoder", "n-grams"), rows)
    facts = {}
    if explanation.ngrams:
        parts = (f"{gram!r} {weight:+.2f}" for gram, weight in explanation.ngrams)
        facts["strongest n-grams"] = ", ".join(parts)
    for neighbor in explanation.neighbors:
        name = f"like it, row {neighbor.place + 1}"
        facts[name] = f"{neighbor.label}, cosine {neighbor.cosine:.2f}: {neighbor.text}"
    show_facts(screen, {**facts, "not told by words": f"{explanation.gap:+.3f} nats"})
