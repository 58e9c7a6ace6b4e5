"""`nlp-meta adapt`: from a start and labels, or sentence pairs, to an adapted model."""

import shlex
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nlp_meta.cli.files import (
    check_languages,
    check_output_folder,
    describe_near,
    paths_of,
    read_pairs,
    read_rows,
)
from nlp_meta.cli.options import (
    LABEL_OPTIONS,
    LANGUAGES,
    PAIR_COLUMNS,
    READING,
    TABLES_OR_PAIRS,
    TakePaths,
    above_zero,
    add_shared,
    positive,
)
from nlp_meta.cli.predict import read_label_set
from nlp_meta.cli.push import add_push_after, check_push_after, push_saved
from nlp_meta.cli.screen import Screen, show_facts, show_notes, show_sentence
from nlp_meta.errors import DataError
from nlp_meta.progress import quiet_libraries, show_count

if TYPE_CHECKING:
    from nlp_meta.models.classification import AdaptationReport, AdaptedModel
    from nlp_meta.models.companion import CompanionReport
    from nlp_meta.models.generation import GenerationModel
    from nlp_meta.models.retrieval import RetrievalModel, RetrievalReport

EXAMPLE = """\
nlp-meta adapt --data labeled.csv --output-dir adapted
  nlp-meta adapt runs/mixed --data memory.tmx --source-lang ind \\
    --target-lang jav --output-dir ind-jav"""

Facts = dict[str, str]
Record = dict[str, object]


def add_options(command: ArgumentParser) -> None:
    """Add the options of `adapt`."""
    main = command.add_argument_group("main options")
    add_shared(
        main,
        "start",
        nargs="?",
        help="start: a folder, a name on the Hub, or builtin:NAME (default: the one that comes "
        "with the package and suits the texts, or pairs; see `nlp-meta starts`)",
    )
    add_shared(main, "--base")
    add_shared(
        main,
        "--data",
        action=TakePaths,
        help="table of labeled texts, 50 to 100 of them, at least 2 of each label; "
        f"{TABLES_OR_PAIRS}",
    )
    add_shared(
        main,
        "--output-dir",
        help="folder for the adapted model; one of the same kind that is there already, as it was "
        "saved, is replaced at the end, and other files there stay",
    )
    add_shared(main, "--replace", *LANGUAGES)
    data = command.add_argument_group("data")
    add_shared(data, *LABEL_OPTIONS, *PAIR_COLUMNS, *READING, "--long-texts")
    data.add_argument(
        "--max-rows",
        type=positive,
        default=2000,
        metavar="N",
        help="a longer table is an error (default: %(default)s)",
    )
    _add_adaptation(command)
    add_push_after(command.add_argument_group("Hub"))


def _add_adaptation(command: ArgumentParser) -> None:
    adaptation = command.add_argument_group("adaptation")
    adaptation.add_argument(
        "--label-descriptions",
        type=read_label_set,
        metavar="FILE",
        help="what labels mean: .json, .yaml, or a table of the columns label and description; for "
        "labels that the start never saw, whose names it reads (default: the names alone)",
    )
    adaptation.add_argument(
        "--steps",
        type=positive,
        metavar="N",
        help="gradient steps (default: none where the start makes a head over views, else as many "
        "as it found best)",
    )
    adaptation.add_argument(
        "--learning-rate",
        type=above_zero,
        metavar="RATE",
        help="size of a step, which asks for steps (default: what the start found best)",
    )
    adaptation.add_argument(
        "--companion",
        choices=("auto", "ngrams", "none"),
        default="auto",
        help="let character n-grams count beside the encoder, in predictions or in finding "
        "translations: where the start or held-out answers to your texts say that it pays, always, "
        "or never (default: %(default)s)",
    )
    add_shared(adaptation, "--seed")


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Adapt, save, and tell what was done; nothing is saved unless all of it went well."""
    check_push_after(options)
    run_on = _run_on_pairs if options.source_lang or options.target_lang else _run_on_labels
    facts, record = run_on(options, screen)
    show_facts(screen, {"saved to": str(options.output_dir), **facts})
    record = {"output_dir": str(options.output_dir), **record}
    if options.push_to_hub:
        record["pushed"] = push_saved(options.output_dir, options, screen)
    return record


def _run_on_labels(options: Namespace, screen: Screen) -> tuple[Facts, Record]:
    from nlp_meta.cli.evaluate import doubt_accuracy, doubt_count
    from nlp_meta.data.labels import describe_match

    table = read_rows(options, options.data, screen, max_rows=options.max_rows, near=False)
    _check_outputs(options, "classification")
    with quiet_libraries():
        from nlp_meta.hub.builtin_starts import choose_start
        from nlp_meta.models.meta_model import MetaModel
        from nlp_meta.models.texts import note_unknown

        meta = options.start or choose_start(table.texts, table.labels or (), options.label_map)
        start = MetaModel.from_pretrained(meta, base=options.base)
        with show_count("adapting", console=screen.notes) as on_step:
            adapted = start.adapt(
                table.texts,
                table.labels or (),
                label_map=options.label_map,
                label_descriptions=options.label_descriptions,
                on_step=on_step,
                **_how(options),
            )
        adapted.save_pretrained(options.output_dir, replace=options.replace)
    if adapted.match is not None:
        show_sentence(screen, describe_match(adapted.match))
        show_notes(screen, adapted.match.notes)
    if adapted.report is not None:
        unknown, examples = adapted.report.examples_unknown, adapted.report.examples
        show_notes(screen, note_unknown(unknown, examples))
        if adapted.match is not None:
            counts = Counter(adapted.match.labels)
            few = doubt_count(adapted.report.different_texts, "texts")
            doubts = few + doubt_accuracy(counts, adapted.report.held_out_accuracy)
            show_notes(screen, [*describe_near(table), *doubts])
    facts, record = _describe_labels(adapted, options)
    chosen = {} if options.start else {"start": meta}
    return {**chosen, **facts}, {**chosen, **record}


def _run_on_pairs(options: Namespace, screen: Screen) -> tuple[Facts, Record]:
    from nlp_meta.files.memories import describe_memory, record_memory
    from nlp_meta.hub.builtin_starts import PAIRS

    check_languages(options)
    meta = options.start or PAIRS
    languages = {"source_lang": options.source_lang, "target_lang": options.target_lang}
    memory = read_pairs(options, options.data, screen, **languages)
    if len(memory.pairs) > options.max_rows:
        shown = " and ".join(f"'{path}'" for path in paths_of(options.data))
        raise DataError(
            f"cannot adapt to {shown}: {len(memory.pairs)} pairs are there and at most "
            f"{options.max_rows} are taken; give a part of them, or raise `--max-rows`"
        )
    _check_outputs(options, _find_pair_skill(meta, options.base))
    with quiet_libraries():
        from nlp_meta.models.meta_model import MetaModel

        start = MetaModel.from_pretrained(meta, base=options.base)
        with show_count("adapting", console=screen.notes) as on_step:
            adapted = start.adapt_to_pairs(
                [pair.source for pair in memory.pairs],
                [pair.target for pair in memory.pairs],
                **languages,
                lines=[pair.line for pair in memory.pairs],
                on_step=on_step,
                **_how(options),
            )
        adapted.save_pretrained(options.output_dir, replace=options.replace)
    record = {"languages": list(languages.values()), **record_memory(memory)}
    if (report := adapted.report) is not None:
        record |= {n: v for n, v in asdict(report).items() if n not in ("pairs", "text_hashes")}
    chosen = {} if options.start else {"start": meta}
    facts = {**chosen, **describe_memory(memory), **_describe_pairs(adapted, options)}
    return facts, {**chosen, **record}


def _check_outputs(options: Namespace, skill: str) -> None:
    from nlp_meta.hub.records import ADAPTED
    from nlp_meta.hub.storage import layout_of

    check_output_folder(options, layout_of(ADAPTED, [skill]))


def _find_pair_skill(meta: str, base: str | None) -> str:
    """What adapting a start to sentence pairs gives."""
    from nlp_meta.hub.records import START, find_model

    _, record = find_model(meta, role=START, base=base)
    return "generation" if "generation" in record.skills else "retrieval"


def _how(options: Namespace) -> dict[str, Any]:
    names = ("steps", "learning_rate", "seed", "long_texts", "companion")
    return {name: getattr(options, name) for name in names}


def _describe_pairs(adapted: "RetrievalModel | GenerationModel", options: Namespace) -> Facts:
    from nlp_meta.models.generation import GenerationModel

    if adapted.report is None:
        return {}
    if isinstance(adapted, GenerationModel):
        return _describe_generation(adapted, options)
    return _describe_retrieval(adapted.report, options)


def _describe_retrieval(report: "RetrievalReport", options: Namespace) -> Facts:
    files = ("--source", "a.txt", "--target", "b.txt", "--output", "pairs.tsv")
    return {
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
        "next": _next("align", options, *files),
    }


def _describe_generation(adapted: "GenerationModel", options: Namespace) -> Facts:
    from nlp_meta.encoders.seq2seq import near_codes

    if (report := adapted.report) is None:
        return {}
    held, mined, facts = report.held_out, report.mined, {}
    if report.is_new:
        near = ", ".join(near_codes(adapted.objective.backbone.languages, options.target_lang))
        note = f"{options.target_lang} is new to the model; of its own the most alike are {near}"
        facts = {"language": note}
    return facts | {
        "steps": f"{report.steps} at learning rate {report.learning_rate:g}",
        "sentences cut": f"{report.texts_cut} to the length that the model takes",
        "held-out pairs": f"{held.pairs}: chrF++ {held.chrf:.1f}, {held.chrf_before:.1f} before; "
        f"loss {held.loss:.3f}, {held.loss_before:.3f} before",
        "mining": f"{mined.first:.3f} of them come first; from margin {mined.threshold:.3f} on, "
        f"precision {mined.precision:.3f} and recall {mined.recall:.3f}",
        "time": f"{report.seconds:.1f} s",
        "next": _next("translate", options, "--data", "new.txt", "--output", "out.txt"),
    }


def _describe_labels(adapted: "AdaptedModel", options: Namespace) -> tuple[Facts, Record]:
    facts: Facts = {}
    record: Record = {"labels": list(adapted.labels)}
    if adapted.match is not None:
        record["match"] = {
            "shared": adapted.match.shared,
            "matched": dict(adapted.match.matched),
            "counts": dict(adapted.match.counts),
        }
    if (report := adapted.report) is not None:
        facts = {
            "examples": f"{report.examples}, of which {report.examples_cut} cut to the length "
            "that the encoder takes",
            "steps": _describe_steps(report),
            "temperature": "learned on other tasks"
            if report.by_views and not report.steps
            else f"{report.temperature:.3f}",
            "held-out accuracy": f"{report.held_out_accuracy:.3f} "
            f"[{report.held_out_low:.3f}, {report.held_out_high:.3f}]",
            "n-grams": _describe_companion(report.companion),
            "time": f"{report.seconds:.1f} s",
        }
        record |= {name: value for name, value in asdict(report).items() if name != "text_hashes"}
    words = ["--data", "new.csv"]
    if options.text_column != "text":
        words += ["--text-column", options.text_column]
    facts["next"] = _next("predict", options, *words, "--output", "predictions.csv")
    return facts, record


def _describe_steps(report: "AdaptationReport") -> str:
    taken = f"{report.steps} at learning rate {report.learning_rate:g}"
    if not report.by_views:
        return taken
    head = "a head over features and n-grams"
    return f"{taken}, behind {head}" if report.steps else f"none: {head} was made"


def _describe_companion(report: "CompanionReport | None") -> str:
    if report is None:
        return "not asked for"
    mixed = f"weight {report.weight:.2g}"
    accuracies = (
        f"held-out accuracy {report.encoder_accuracy:.3f} without them, "
        f"{report.ngram_accuracy:.3f} alone, {report.mixed_accuracy:.3f} mixed"
    )
    losses = f"loss {report.encoder_loss:.3f} without them, {report.mixed_loss:.3f} mixed"
    return f"{'on' if report.on else 'off'}, {mixed}: {accuracies}; {losses}"


def _next(command: str, options: Namespace, *words: str) -> str:
    return shlex.join(["nlp-meta", command, str(options.output_dir), *words])
