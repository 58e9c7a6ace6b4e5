"""`nlp-meta translate`: what is to be translated in a file, and the file translated."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nlp_meta.cli.files import check_output_file, reading_of
from nlp_meta.cli.options import PAIR_COLUMNS, READING, add_shared, positive
from nlp_meta.cli.screen import Screen, show_facts, show_notes
from nlp_meta.progress import quiet_libraries, show_count

if TYPE_CHECKING:
    from nlp_meta.models.generation import GenerationModel

EXAMPLE = "nlp-meta translate ind-jav --data new.txt --output out.txt"

# Long enough for batches of texts of one length, short enough for the bar to move.
_BLOCK = 128


def add_options(command: ArgumentParser) -> None:
    """Add the options of `translate`."""
    main = command.add_argument_group("main options")
    add_shared(main, "model", "--base")
    add_shared(
        main,
        "--data",
        help="what to translate: .txt with one sentence a line, .csv, .tsv, .jsonl, .xlsx, .po, "
        ".pot, .xliff or .ts; what is translated already is left alone",
    )
    add_shared(
        main,
        "--output",
        help="file to write: of the same ending, the same file with its gaps filled; or .txt, "
        ".csv, .tsv, .jsonl, .xlsx, .po, .tmx or .xliff of the pairs",
    )
    add_shared(main, "--replace")
    main.add_argument(
        "--num-beams",
        type=positive,
        metavar="N",
        help="beams of the search, 1 is greedy and fastest (default: the model's own setting)",
    )
    data = command.add_argument_group("data")
    add_shared(data, "--long-texts", *PAIR_COLUMNS, *READING)


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Translate a file, write it whole, and tell what was cut and which placeholders are lost."""
    from nlp_meta.files.documents import check_translations_path, read_sources, write_translations
    from nlp_meta.files.placeholders import describe_losses, find_losses, record_losses

    check_output_file(options)
    with quiet_libraries():
        from nlp_meta.models.generation import GenerationModel

        model = GenerationModel.from_pretrained(options.model, base=options.base)
        languages = {"source_lang": model.source_lang, "target_lang": model.target_lang}
        sources = read_sources(
            options.data,
            source_column=options.source_column,
            target_column=options.target_column,
            **languages,
            **reading_of(options),
        )
        check_translations_path(options.output, sources, **languages)
        show_notes(screen, sources.notes)
        cut = model.count_cut(sources.texts, long_texts=options.long_texts, lines=sources.lines)
        texts = translate_all(model, sources.texts, screen, num_beams=options.num_beams)
    write_translations(options.output, sources, texts, replace=options.replace, **languages)
    losses = find_losses(zip(sources.lines, sources.texts, texts, strict=True))
    facts = {"translated": f"{len(texts)} texts"}
    if sources.left_out:
        counts = (f"{count} {reason}" for reason, count in sources.left_out.items())
        facts["left alone"] = ", ".join(counts)
    if cut:
        facts["cut"] = f"{cut} texts to the length that the model takes"
    facts["placeholders"] = describe_losses(losses) if losses else "all kept"
    show_facts(screen, {**facts, "written to": str(options.output)})
    return {
        "output": str(options.output),
        "languages": list(languages.values()),
        "translated": len(texts),
        "left_out": dict(sources.left_out),
        "texts_cut": cut,
        "placeholders": record_losses(losses),
    }


def translate_all(
    model: "GenerationModel", texts: Sequence[str], screen: Screen, *, num_beams: int | None
) -> list[str]:
    """Translate in the order of the texts, with a progress bar."""
    # Neighbors of like length share batches, whatever their order in the file is.
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    translations: dict[int, str] = {}
    with show_count("translating", console=screen.notes) as on_step:
        for first in range(0, len(order), _BLOCK):
            on_step(first, len(order))
            places = order[first : first + _BLOCK]
            block = model.translate([texts[place] for place in places], num_beams=num_beams)
            translations.update(zip(places, block, strict=True))
    return [translations[place] for place in range(len(texts))]
