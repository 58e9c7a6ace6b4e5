"""Pushing a saved model: its files, freed of everything that is of one machine, and its card.

Everything that can be checked is checked before anything is sent.
"""

import csv
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from nlp_meta.data.schema import read_object
from nlp_meta.errors import HubError
from nlp_meta.files.outputs import CARD_ENTRY, FILES, describe_files, hash_file, seal
from nlp_meta.hub.bases import BaseFacts, find_base
from nlp_meta.hub.destinations import (
    Destination,
    Pushed,
    check_destination,
    check_portable,
    check_replaceable,
    commit,
    look,
)
from nlp_meta.hub.model_card import (
    CardFacts,
    Results,
    build_card,
    check_card,
    is_own,
    license_sentences,
    read_results,
    write_eval_results,
)
from nlp_meta.hub.pull import (
    ADAPTER,
    ADAPTER_CONFIG,
    CARD,
    COMPANION_WEIGHTS,
    HEAD,
    MODEL_FILES,
    RECORD,
)
from nlp_meta.hub.records import ADAPTED, Record, read_record

_EMISSIONS = "emissions.csv"
"""What CodeCarbon leaves in the folder of a run."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A folder ready to be pushed.

    Attributes:
        files: By their paths in the repository.
        left_out: What the user's folder holds besides, which stays here.
        own_card: The card is edited by hand and goes as it is.
    """

    facts: CardFacts
    files: Mapping[str, Path]
    left_out: tuple[str, ...]
    own_card: bool


def push_folder(
    folder: Path,
    to: Destination,
    *,
    hub_base_model: str | None = None,
    results: Path | None = None,
    beside: Mapping[str, Path] | None = None,
) -> Pushed:
    """Push a saved model.

    Args:
        hub_base_model: Name on the Hub, maybe with `@revision`, of a base that is a folder here.
        results: `results.json` of a comparison that judged this model.
        beside: Further files, such as a checkpoint's, by their path in the repository.

    Raises:
        HubError: The model or the destination is refused; nothing was sent then, or the Hub
            kept nothing of it that anybody sees.
        MetaModelError: The folder holds no model.
    """
    record = read_record(folder, name=str(folder))
    scores = None if results is None else _read_scores(folder, record, results)
    api = check_destination(to)
    base = _find_base(folder, record, hub_base_model=hub_base_model, token=to.token)
    with tempfile.TemporaryDirectory(prefix="nlp_meta_push_") as place:
        staged = stage(folder, Path(place), repo_id=to.repo_id, base=base, results=scores)
        there = look(api, to)
        check_replaceable(to, there, staged.facts.record)
        notes = list(license_sentences(staged.facts))
        if staged.own_card:
            notes.append(f"{CARD} was edited by hand and is pushed as it is.")
        sent = {**staged.files, **(beside or {})}
        return commit(
            api,
            to,
            there,
            sent,
            message=f"Push {record.title} with nlp-meta",
            gone=sorted(there.files.intersection(MODEL_FILES) - sent.keys()),
            left_out=staged.left_out,
            notes=notes,
        )


def stage(
    folder: Path, to: Path, *, repo_id: str, base: BaseFacts, results: Results | None
) -> Staged:
    """Copy a saved model, name its base as the Hub does, write its card, and check it all.

    Raises:
        HubError: A file is missing or damaged, names a folder of this machine, or the card
            was edited into something that the Hub does not understand.
    """
    for name in MODEL_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, to / name)
    for name in (RECORD, ADAPTER_CONFIG, ADAPTER):
        if not (to / name).is_file():
            raise HubError(
                f"cannot push '{folder}': its {name} is missing and a whole model is needed; save "
                "it again"
            )
    _check_tensors(folder, to)
    facts = CardFacts(
        _name_base(to, base),
        (to / COMPANION_WEIGHTS).is_file(),
        repo_id=repo_id,
        base=base,
        results=results,
        carbon_grams=_read_emissions(folder / _EMISSIONS),
    )
    own_card = _place_card(to / CARD, facts)
    scores = write_eval_results(to, facts)
    files = {name: to / name for name in (*MODEL_FILES, *scores) if (to / name).is_file()}
    check_portable(files, to, folder)
    left_out = sorted(path.name for path in folder.iterdir() if path.name not in MODEL_FILES)
    return Staged(facts, files, tuple(left_out), own_card)


def _find_base(
    folder: Path, record: Record, *, hub_base_model: str | None, token: str | None
) -> BaseFacts:
    name, revision = (record.model.get(key) for key in ("model_name_or_path", "revision"))
    if not isinstance(name, str):
        raise HubError(
            f"cannot push '{folder}': its record names no base model and one is needed; save the "
            "model again"
        )
    return find_base(name, revision=revision, hub_base_model=hub_base_model, token=token)


def _read_scores(folder: Path, record: Record, results: Path) -> Results:
    if record.role == ADAPTED:
        return read_results(results, adapter_sha256=record.provenance.get("adapter_sha256"))
    return read_results(results, adapter_sha256=hash_file(folder / ADAPTER))


def _check_tensors(folder: Path, to: Path) -> None:
    for name in (ADAPTER, HEAD, COMPANION_WEIGHTS):
        path = to / name
        try:
            if path.is_file():
                with safe_open(path, framework="np") as file:
                    if not list(file.keys()):
                        raise ValueError("it holds no tensor")
        except (OSError, SafetensorError, ValueError) as error:
            raise HubError(
                f"cannot push '{folder}': its {name} is damaged ({error}) and the file as it was "
                "saved is needed; save the model again"
            ) from error


def _name_base(to: Path, base: BaseFacts) -> dict[str, Any]:
    """Write the base's name and commit into both files that name it; the record."""
    try:
        record, config = read_object(to / RECORD), read_object(to / ADAPTER_CONFIG)
    except ValueError as error:
        raise HubError(
            f"cannot push: {RECORD} or {ADAPTER_CONFIG} is damaged and the files as they were "
            "saved are needed; save the model again"
        ) from error
    record.get("adaptation", {}).pop("text_hashes", None)  # by which texts could be guessed
    record["model"] |= {"model_name_or_path": base.id, "revision": base.revision}
    record["base"] |= {"name": base.id, "revision": base.revision}
    config |= {"base_model_name_or_path": base.id, "revision": base.revision}
    _write_json(to / ADAPTER_CONFIG, config, indent=2)
    if FILES in record:
        record[FILES] |= describe_files(to, [ADAPTER_CONFIG])
        # The card that is pushed is another one.
        record = seal({name: value for name, value in record.items() if name != CARD_ENTRY})
    _write_json(to / RECORD, record, indent=1)
    return record


def _write_json(path: Path, values: Mapping[str, Any], *, indent: int) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _place_card(path: Path, facts: CardFacts) -> bool:
    """Write the card, unless somebody made it theirs; whether it is theirs."""
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else None
    except UnicodeDecodeError:
        text = ""
    if text is None or is_own(text):
        path.write_text(build_card(facts), encoding="utf-8")
        return False
    check_card(path)
    return True


def _read_emissions(path: Path) -> float | None:
    """Grams of CO2 equivalent over all rows of CodeCarbon's file, which gives kilograms."""
    if not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return 1000 * sum(float(row["emissions"]) for row in csv.DictReader(file))
    except (KeyError, ValueError) as error:
        raise HubError(
            f"cannot read the carbon emissions in '{path}': a column `emissions` of numbers, as "
            "CodeCarbon writes it, is needed; mend the file or take it away"
        ) from error
