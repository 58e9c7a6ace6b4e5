"""`nlp-meta suggest`: which texts to label next, and whether more labels would pay."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nlp_meta.cli.files import check_ending, check_output_file, read_rows, write_columns
from nlp_meta.cli.options import LABEL_OPTIONS, READING, TABLES, add_shared, positive, read_path
from nlp_meta.cli.predict import ENDINGS
from nlp_meta.cli.screen import Screen, show_facts, show_notes, show_work
from nlp_meta.progress import quiet_libraries

if TYPE_CHECKING:
    from nlp_meta.comparing.suggestion import Suggestion, Worth
    from nlp_meta.files.tables import LabeledTable
    from nlp_meta.models.classification import AdaptedModel
    from nlp_meta.models.meta_model import MetaModel

EXAMPLE = """\
nlp-meta suggest --data texts.csv --labeled labeled.csv --number 20 \\
    --output next.csv"""


def add_options(command: ArgumentParser) -> None:
    """Add the options of `suggest`."""
    main = command.add_argument_group("main options")
    add_shared(
        main,
        "model",
        nargs="?",
        metavar="MODEL",
        help="adapted model, or a start, which adapts to the labels of --labeled: a folder, a name "
        "on the Hub, or builtin:NAME (default: the start that comes with the package and suits "
        "texts and labels)",
    )
    add_shared(main, "--base")
    add_shared(main, "--data", help=f"table of texts to choose among; {TABLES}")
    main.add_argument(
        "--number",
        type=positive,
        default=20,
        metavar="N",
        help="texts to suggest (default: %(default)s); a tenth of them, one at least, is random",
    )
    add_shared(
        main,
        "--output",
        help="table to write: `row`, its number in the data, `random` (yes or no), the columns of "
        "the data, and `predicted_label` and `confidence` of what the model says now",
    )
    main.add_argument(
        "--labeled",
        type=read_path,
        metavar="FILE",
        help="table of labels that are there: its texts are not suggested, a start adapts to "
        "them, and their folds tell whether more would pay",
    )
    add_shared(main, "--replace")
    data = command.add_argument_group("data")
    add_shared(data, *(name for name in LABEL_OPTIONS if name != "--empty"), *READING)
    add_shared(command.add_argument_group("output"), "--formulas", "--seed")


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Choose texts, write them with the other columns of their rows, and tell what labels bring."""
    check_ending(options.output, ENDINGS, what="suggestions")
    check_output_file(options)
    texts_only = Namespace(**{**vars(options), "label_column": None, "empty": "keep"})
    table = read_rows(texts_only, options.data, screen)
    labeled = read_rows(options, options.labeled, screen) if options.labeled else None
    with quiet_libraries(), show_work(screen, "choosing"):
        from nlp_meta.comparing.suggestion import suggest
        from nlp_meta.hub.builtin_starts import choose_start

        texts, labels = list(filter(None, table.texts)), labeled.labels if labeled else None
        named = options.model or choose_start(texts, labels, options.label_map)
        model, worth = _load(options, named, labeled)
        suggestions = suggest(
            model,
            table.texts,
            number=options.number,
            labeled=() if labeled is None else labeled.texts,
            seed=options.seed,
        )
    write_columns(options, [_arrange(table, suggestions)])
    drawn = sum(suggestion.is_random for suggestion in suggestions)
    if len(suggestions) < options.number:
        show_notes(screen, [f"{len(suggestions)} different texts without a label are there"])
    chosen = {} if options.model else {"start": named}
    facts = {"suggested": f"{len(suggestions)} of {len(table.texts)} rows, {drawn} of them random"}
    if worth is not None:
        facts["more labels"] = worth.sentence
    show_facts(screen, {**chosen, **facts, "written to": str(options.output)})
    return {
        "output": str(options.output),
        **chosen,
        "rows": [suggestion.place + 1 for suggestion in suggestions],
        "random": drawn,
        "worth": None if worth is None else asdict(worth),
    }


def _load(
    options: Namespace, named: str, labeled: "LabeledTable | None"
) -> "tuple[AdaptedModel | MetaModel, Worth | None]":
    """The model that chooses, and what more labels would bring, where there are labels."""
    from nlp_meta.comparing.suggestion import Worth, value_more
    from nlp_meta.hub.records import START, find_model
    from nlp_meta.models.classification import AdaptedModel
    from nlp_meta.models.meta_model import MetaModel

    if find_model(named)[1].role != START:
        model = AdaptedModel.from_pretrained(named, base=options.base)
        if labeled is None:
            return model, None
        reason = "this model has learned from labels already; name its start in its place"
        sentence = f"how many more would pay cannot be told: {reason}"
        return model, Worth(len(labeled.texts), None, sentence)
    start = MetaModel.from_pretrained(named, base=options.base)
    if labeled is None:
        return start, None
    given: dict[str, Any] = {"label_map": options.label_map, "seed": options.seed}
    labels = labeled.labels or ()
    adapted = start.adapt(labeled.texts, labels, **given)
    return adapted, value_more(start, labeled.texts, labels, **given)


def _arrange(
    table: "LabeledTable", suggestions: "list[Suggestion]"
) -> Mapping[str, list[str | int | float]]:
    """The suggested rows of a table, with what is said of them before and behind."""
    places = [suggestion.place for suggestion in suggestions]
    added: dict[str, list[Any]] = {
        "row": [place + 1 for place in places],
        "random": ["yes" if suggestion.is_random else "no" for suggestion in suggestions],
    }
    answers = [suggestion.answer for suggestion in suggestions]
    behind: dict[str, list[Any]] = {
        "predicted_label": [a and a.label for a in answers],
        "confidence": [a and a.probabilities[a.label] for a in answers],
    }
    columns = dict(added)
    for column in dict.fromkeys(table.columns):
        name = column
        while name in columns or name in behind:
            name = f"given_{name}"
        columns[name] = [table.rows[place].get(column) for place in places]
    return {**columns, **behind}
