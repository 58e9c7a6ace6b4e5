"""`nlp-meta translate`: what is to be translated in a file, and the file translated."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nlp_meta.cli.files import check_output_file
from nlp_meta.cli.screen import Screen, show_facts, show_progress
from nlp_meta.files.documents import (
    Sources,
    check_translations_path,
    read_sources,
    write_translations,
)
from nlp_meta.files.placeholders import PlaceholderLoss, describe_losses, find_losses, record_losses
from nlp_meta.progress import quiet_libraries

if TYPE_CHECKING:
    from nlp_meta.models.generation import TranslationModel


# Long enough for batches of texts of one length, short enough for the bar to move.
BLOCK = 128


def run_translate(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Translate a file, write it whole, and tell what was cut and which placeholders are lost."""
    check_output_file(options.output, data=options.data, given="the file given as `--data`")
    columns = (options.source_column, options.target_column)
    with quiet_libraries():
        from nlp_meta.models.generation import TranslationModel

        model = TranslationModel.from_pretrained(options.model)
        languages = {"source_lang": model.source_lang, "target_lang": model.target_lang}
        check_translations_path(options.output, **languages)
        sources = read_sources(
            options.data, source_column=columns[0], target_column=columns[1], **languages
        )
        cut = model.count_cut(sources.texts, long_texts=options.long_texts, lines=sources.lines)
        texts = translate_all(model, sources.texts, screen, num_beams=options.num_beams)
    write_translations(options.output, sources, texts, **languages)
    losses = find_losses(zip(sources.lines, sources.texts, texts, strict=True))
    _show(options, screen, sources, losses, cut)
    return {
        "output": str(options.output),
        "languages": list(languages.values()),
        "translated": len(texts),
        "left_out": dict(sources.left_out),
        "texts_cut": cut,
        "placeholders": record_losses(losses),
    }


def translate_all(
    model: "TranslationModel", texts: Sequence[str], screen: Screen, *, num_beams: int | None
) -> list[str]:
    """Translate in the order of the texts, with a progress bar."""
    # Neighbors of like length share batches, whatever their order in the file is.
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    found: dict[int, str] = {}
    with show_progress(screen, "translating") as on_step:
        for first in range(0, len(order), BLOCK):
            on_step(first, len(order))
            places = order[first : first + BLOCK]
            block = model.translate([texts[place] for place in places], num_beams=num_beams)
            found.update(zip(places, block, strict=True))
    return [found[place] for place in range(len(texts))]


def _show(
    options: Namespace,
    screen: Screen,
    sources: Sources,
    losses: Sequence[PlaceholderLoss],
    cut: int,
) -> None:
    facts = {"translated": f"{len(sources.texts)} texts"}
    if sources.left_out:
        told = (f"{count} {reason}" for reason, count in sources.left_out.items())
        facts["left alone"] = ", ".join(told)
    if cut:
        facts["cut"] = f"{cut} texts to the length that the model takes"
    facts["placeholders"] = describe_losses(losses) if losses else "all kept"
    show_facts(screen, {**facts, "written to": str(options.output)})
