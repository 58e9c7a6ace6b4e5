"""`nlp-meta adapt` with languages: from a meta-model and a translation memory to a model."""

import shlex
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from nlp_meta.cli.adapt import push_adapted, save_adapted
from nlp_meta.cli.files import check_output_folder, paths_of
from nlp_meta.cli.push import check_push_after
from nlp_meta.cli.screen import Screen, show_facts, show_progress
from nlp_meta.data.languages import check_pair
from nlp_meta.errors import DataError, MetaModelError, SettingsError
from nlp_meta.files.memories import Memory, describe_memory, read_memory, record_memory
from nlp_meta.progress import quiet_libraries

if TYPE_CHECKING:
    from nlp_meta.models.generation import TranslationReport


Adapt = Callable[[Memory, Namespace, Screen], tuple[dict[str, str], dict[str, object]]]
"""A memory to a saved model: facts for people, and the same for machines."""


def run_adapt_pairs(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Adapt to pairs, save, and tell what was done; nothing is saved unless all went well."""
    check_languages(options)
    memory = read_memory(
        options.data,
        source_column=options.source_column,
        target_column=options.target_column,
        source_lang=options.source_lang,
        target_lang=options.target_lang,
    )
    if len(memory.pairs) > options.max_rows:
        shown = " and ".join(f"'{path}'" for path in paths_of(options.data))
        raise DataError(
            f"cannot adapt to {shown}: {len(memory.pairs)} pairs are there and at most "
            f"{options.max_rows} are taken; give a part of them, or raise `--max-rows`"
        )
    check_output_folder(options.output_dir)
    to = check_push_after(options)
    with quiet_libraries():
        facts, record = _find_adapt(options.meta)(memory, options, screen)
    show_facts(screen, {"saved to": str(options.output_dir), **describe_memory(memory), **facts})
    told: dict[str, object] = {
        "output_dir": str(options.output_dir),
        "languages": [options.source_lang, options.target_lang],
        **record_memory(memory),
        **record,
    }
    if to is not None:
        told["pushed"] = push_adapted(options, to, screen)
    return told


def check_languages(options: Namespace) -> None:
    """Refuse one language without the other, and one for both sides."""
    for option, value in (
        ("--source-lang", options.source_lang),
        ("--target-lang", options.target_lang),
    ):
        if not value:
            raise DataError(
                f"cannot use sentence pairs without `{option}`: the languages translated from "
                "and into are both needed; give their codes, such as ind and jav"
            )
    check_pair(options.source_lang, options.target_lang)


def _find_adapt(meta: str) -> Adapt:
    """What adapts a meta-model of this kind."""
    from nlp_meta.hub.records import (
        ALIGNMENT_META_MODEL,
        META_MODEL,
        TRANSLATION_META_MODEL,
        find_any_model,
    )

    adapters: Mapping[str, Adapt] = {
        META_MODEL: _adapt_alignment,
        ALIGNMENT_META_MODEL: _adapt_alignment,
        TRANSLATION_META_MODEL: _adapt_translation,
    }
    _, record = find_any_model(meta)
    if record.kind not in adapters:
        raise MetaModelError(
            f"cannot adapt '{meta}' to translations: it is of the kind '{record.kind}' and one of "
            f"{', '.join(adapters)} is needed; name its meta-model"
        )
    return adapters[record.kind]


def _adapt_alignment(
    memory: Memory, options: Namespace, screen: Screen
) -> tuple[dict[str, str], dict[str, object]]:
    from nlp_meta.models.retrieval import AlignmentMetaModel, adapt_alignment

    start = AlignmentMetaModel.from_pretrained(options.meta)
    with show_progress(screen, "adapting") as on_step:
        adapted = adapt_alignment(
            start,
            [pair.source for pair in memory.pairs],
            [pair.target for pair in memory.pairs],
            languages=(options.source_lang, options.target_lang),
            steps=options.steps,
            learning_rate=options.learning_rate,
            seed=options.seed,
            long_texts=options.long_texts,
            lines=[pair.line for pair in memory.pairs],
            companion=options.companion,
            on_step=on_step,
        )
    save_adapted(adapted, options.output_dir)
    if (report := adapted.report) is None:
        return {}, {}
    words = ["nlp-meta", "align", str(options.output_dir), "--source", "a.txt"]
    facts = {
        "steps": f"{report.steps} at learning rate {report.learning_rate:g}",
        "sentences cut": f"{report.texts_cut} to the length that the encoder takes",
        "temperature": f"{report.temperature:.4f}",
        "n-grams": f"their overlap counts for {report.overlap:g} beside the encoder's cosine"
        if report.overlap
        else "take no part",
        "held-out pairs": f"{report.held_out_first:.3f} come first; mined from margin "
        f"{report.threshold:.3f} on, precision {report.held_out_precision:.3f} and recall "
        f"{report.held_out_recall:.3f}, beside as many sentences without a translation",
        "time": f"{report.seconds:.1f} s",
        "next": shlex.join([*words, "--target", "b.txt", "--output", "pairs.tsv"]),
    }
    told = {name: value for name, value in asdict(report).items() if name != "pairs"}
    return facts, told


def _refuse_ngrams(options: Namespace) -> None:
    if options.companion == "ngrams":
        raise SettingsError(
            f"cannot let n-grams count beside '{options.meta}': it writes translations and a "
            "meta-model that finds them is needed; leave `--companion` out"
        )


def _adapt_translation(
    memory: Memory, options: Namespace, screen: Screen
) -> tuple[dict[str, str], dict[str, object]]:
    from nlp_meta.encoders.language_codes import near_codes
    from nlp_meta.models.generation import TranslationMetaModel

    _refuse_ngrams(options)
    start = TranslationMetaModel.from_pretrained(options.meta)
    with show_progress(screen, "adapting") as on_step:
        adapted = start.adapt(
            [pair.source for pair in memory.pairs],
            [pair.target for pair in memory.pairs],
            source_lang=options.source_lang,
            target_lang=options.target_lang,
            steps=options.steps,
            learning_rate=options.learning_rate,
            seed=options.seed,
            long_texts=options.long_texts,
            lines=[pair.line for pair in memory.pairs],
            on_step=on_step,
        )
    save_adapted(adapted, options.output_dir)
    if (report := adapted.report) is None:
        return {}, {}
    facts = _describe_writing(report, options)
    if report.is_new:
        near = ", ".join(near_codes(start.objective.backbone.languages, options.target_lang))
        note = f"{options.target_lang} is new to the model; of its own the most alike are {near}"
        facts = {"language": note, **facts}
    told = {name: value for name, value in asdict(report).items() if name != "pairs"}
    return facts, told


def _describe_writing(report: "TranslationReport", options: Namespace) -> dict[str, str]:
    held = report.held_out
    words = ["nlp-meta", "translate", str(options.output_dir), "--data", "new.txt"]
    return {
        "steps": f"{report.steps} at learning rate {report.learning_rate:g}",
        "sentences cut": f"{report.texts_cut} to the length that the model takes",
        "held-out pairs": f"{held.pairs}: chrF++ {held.chrf:.1f}, {held.chrf_before:.1f} before; "
        f"loss {held.loss:.3f}, {held.loss_before:.3f} before",
        "mining": f"{report.mined.first:.3f} of them come first; from margin "
        f"{report.mined.threshold:.3f} on, precision {report.mined.precision:.3f} and recall "
        f"{report.mined.recall:.3f}",
        "time": f"{report.seconds:.1f} s",
        "next": shlex.join([*words, "--output", "out.txt"]),
    }
