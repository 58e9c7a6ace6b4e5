"""What a push sends: a model's files, copied and freed of everything that is of one machine."""

import csv
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from nlp_meta.errors import HubError
from nlp_meta.hub.card_sections import BaseFacts, CardFacts
from nlp_meta.hub.data_facts import facts_of
from nlp_meta.hub.model_card import build_card, check_card, is_own, write_eval_results
from nlp_meta.hub.pulling import (
    ADAPTER,
    ADAPTER_CONFIG,
    CARD,
    MODEL_FILES,
    RECORD,
    TENSORS,
    TOKENIZER,
)
from nlp_meta.hub.storage import WEIGHTS

EMISSIONS = "emissions.csv"
"""What CodeCarbon leaves in the folder of a run."""
_PATH = re.compile(r"(/[^/\s]+/|~/|[A-Za-z]:\\|\\\\|file:).*")
_REQUIRED = (RECORD, ADAPTER_CONFIG, ADAPTER)
# These hold words of a vocabulary, some of which look like paths.
_VOCABULARIES = tuple(name for name in TOKENIZER if name != "tokenizer_config.json")


@dataclass(frozen=True, slots=True)
class Staged:
    """A folder ready to be pushed.

    Attributes:
        files: Paths in the repository.
        left_out: What the user's folder holds besides, which stays here.
        own_card: The card is edited by hand and goes as it is.
    """

    facts: CardFacts
    files: tuple[str, ...]
    left_out: tuple[str, ...]
    own_card: bool


def stage(
    folder: Path,
    to: Path,
    *,
    repo_id: str,
    base: BaseFacts,
    results: Mapping[str, Any] | None,
) -> Staged:
    """Copy a saved model, name its base as the Hub does, write its card, and check it all.

    Raises:
        HubError: A file is missing or damaged, names a folder of this machine, or the card
            was edited into something that the Hub does not understand.
    """
    for name in MODEL_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, to / name)
    for name in _REQUIRED:
        if not (to / name).is_file():
            raise HubError(
                f"cannot push '{folder}': its {name} is missing and a whole model is needed; save "
                "it again"
            )
    _check_tensors(folder, to)
    record = _name_base(to, base)
    facts = CardFacts(
        record,
        facts_of(record.get("provenance") or {}),
        (to / WEIGHTS).is_file(),
        repo_id=repo_id,
        base=base,
        results=results,
        carbon_grams=_read_emissions(folder / EMISSIONS),
    )
    own_card = _place_card(to / CARD, facts)
    scores = write_eval_results(to, facts)
    check_portable(to, folder)
    files = (*(name for name in MODEL_FILES if (to / name).is_file()), *scores)
    left_out = sorted(path.name for path in folder.iterdir() if path.name not in MODEL_FILES)
    return Staged(facts, files, tuple(left_out), own_card)


def check_portable(folder: Path, *places: Path) -> None:
    """Refuse files that name a folder of this machine.

    Args:
        places: Folders that must not be named anywhere, not even in a vocabulary.
    """
    known = [str(place.resolve()) for place in places if len(place.resolve().parts) > 2]
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix == ".safetensors":
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found = next((place for place in known if place in text), None)
        if found is None and path.suffix == ".json" and path.name not in _VOCABULARIES:
            found = next(_paths_in(json.loads(text)), None)
        if found is not None:
            raise HubError(
                f"cannot push: '{path.name}' names '{found}', a place on this machine, and names "
                "that others can use are needed; take it out of that file"
            )


def _paths_in(value: object) -> Iterator[str]:
    if isinstance(value, str) and _PATH.fullmatch(value):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _paths_in(one)
    elif isinstance(value, list):
        for one in value:
            yield from _paths_in(one)


def _check_tensors(folder: Path, to: Path) -> None:
    for name in TENSORS:
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
        record: dict[str, Any] = json.loads((to / RECORD).read_text(encoding="utf-8"))
        config: dict[str, Any] = json.loads((to / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise HubError(
            f"cannot push: {RECORD} or {ADAPTER_CONFIG} is damaged and the files as they were "
            "saved are needed; save the model again"
        ) from error
    record["model"] |= {"model_name_or_path": base.id, "revision": base.revision}
    config |= {"base_model_name_or_path": base.id, "revision": base.revision}
    for name, values, indent in ((RECORD, record, 1), (ADAPTER_CONFIG, config, 2)):
        text = json.dumps(values, indent=indent, ensure_ascii=False)
        (to / name).write_text(text + "\n", encoding="utf-8")
    return record


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
