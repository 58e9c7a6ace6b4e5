"""`nlp-meta adapt`: from a meta-model and one labeled table to an adapted model."""

import shlex
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nlp_meta.cli.files import check_output_folder, one_table
from nlp_meta.cli.push import check_push_after, record_of, show_pushed
from nlp_meta.cli.screen import Screen, show_facts, show_progress
from nlp_meta.data.labels import describe_match, parse_label_map
from nlp_meta.errors import MetaModelError
from nlp_meta.files.tables import Table, read_table
from nlp_meta.progress import quiet_libraries

if TYPE_CHECKING:
    from nlp_meta.hub.destinations import Destination
    from nlp_meta.models.companion import CompanionReport
    from nlp_meta.models.meta_model import AdaptedModel


def run_adapt(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Adapt, save, and tell what was done; nothing is saved unless all of it went well."""
    label_map = None if options.label_map is None else parse_label_map(options.label_map)
    table = read_table(
        one_table(options.data),
        text_column=options.text_column,
        label_column=options.label_column,
        max_rows=options.max_rows,
    )
    check_output_folder(options.output_dir)
    to = check_push_after(options)
    with quiet_libraries():
        adapted = _adapt(table, label_map, options, screen)
        save_adapted(adapted, options.output_dir)
    _show(adapted, options, screen)
    record = _record(adapted, options.output_dir)
    if to is not None:
        record["pushed"] = push_adapted(options, to, screen)
    return record


def _adapt(
    table: Table, label_map: Mapping[str, str] | None, options: Namespace, screen: Screen
) -> "AdaptedModel":
    from nlp_meta.models.meta_model import MetaModel

    model = MetaModel.from_pretrained(options.meta)
    with show_progress(screen, "adapting") as on_step:
        return model.adapt(
            table.texts,
            table.labels or (),
            label_map=label_map,
            steps=options.steps,
            learning_rate=options.learning_rate,
            seed=options.seed,
            long_texts=options.long_texts,
            companion=options.companion,
            on_step=on_step,
        )


class Saves(Protocol):
    """A model that can be saved."""

    def save_pretrained(self, folder: Path) -> None: ...


def save_adapted(adapted: Saves, folder: Path) -> None:
    """Save a model, or say in one sentence why the disk did not take it."""
    from safetensors import SafetensorError

    try:
        adapted.save_pretrained(folder.resolve())
    except SafetensorError as error:
        # A full disk, say: this library does not raise `OSError` then.
        raise MetaModelError(
            f"cannot save the adapted model to '{folder}': {error}; a folder on a disk with room "
            "for it is needed; free some or name another folder with `--output-dir`"
        ) from error


def push_adapted(options: Namespace, to: "Destination", screen: Screen) -> dict[str, object]:
    """Push what was just saved, and tell where it is."""
    from nlp_meta.hub.push import push_folder
    from nlp_meta.hub.refusals import quiet_hub

    with quiet_libraries(), quiet_hub():
        pushed = push_folder(options.output_dir, to, hub_base_model=options.hub_base_model)
    show_pushed(pushed, screen)
    return record_of(pushed)


def _show(adapted: "AdaptedModel", options: Namespace, screen: Screen) -> None:
    if adapted.match is not None:
        screen.results.print(describe_match(adapted.match), soft_wrap=True)
    facts = {"saved to": str(options.output_dir)}
    report = adapted.report
    if report is not None:
        facts |= {
            "examples": f"{report.examples}, of which {report.examples_cut} cut to the length "
            "that the encoder takes",
            "steps": f"{report.steps} at learning rate {report.learning_rate:g}",
            "temperature": _number(report.temperature),
            "held-out accuracy": _number(report.held_out_accuracy),
            "n-grams": _describe_companion(report.companion),
            "time": f"{report.seconds:.1f} s",
        }
    facts["next"] = _next_command(options)
    show_facts(screen, facts)


def _describe_companion(report: "CompanionReport | None") -> str:
    if report is None:
        return "not asked for"
    mixed = f"weight {report.weight:g}"
    accuracies = (
        f"held-out accuracy {report.encoder_accuracy:.3f} without them, "
        f"{report.ngram_accuracy:.3f} alone, {report.mixed_accuracy:.3f} mixed"
    )
    losses = f"loss {report.encoder_loss:.3f} without them, {report.mixed_loss:.3f} mixed"
    return f"{'on' if report.on else 'off'}, {mixed}: {accuracies}; {losses}"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _next_command(options: Namespace) -> str:
    words = ["nlp-meta", "predict", str(options.output_dir), "--data", "new.csv"]
    if options.text_column != "text":
        words += ["--text-column", options.text_column]
    return shlex.join([*words, "--output", "predictions.csv"])


def _record(adapted: "AdaptedModel", folder: Path) -> dict[str, object]:
    record: dict[str, object] = {"output_dir": str(folder), "labels": list(adapted.labels)}
    if adapted.match is not None:
        record["match"] = {
            "shared": adapted.match.shared,
            "matched": dict(adapted.match.matched),
            "counts": dict(adapted.match.counts),
        }
    report = adapted.report
    if report is not None:
        record |= {
            "examples": report.examples,
            "examples_cut": report.examples_cut,
            "steps": report.steps,
            "learning_rate": report.learning_rate,
            "temperature": report.temperature,
            "held_out_accuracy": report.held_out_accuracy,
            "companion": None if report.companion is None else asdict(report.companion),
            "seconds": report.seconds,
        }
    return record
