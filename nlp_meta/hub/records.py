"""Records: what is saved beside an adapter, as JSON, and how a saved model is found."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from nlp_meta.errors import MetaModelError
from nlp_meta.hub.pull import RECORD, check_base, pull

START, ADAPTED = "start", "adapted"
"""Roles of a saved model: it adapts to a support set, or it is what adapting gave."""

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Record:
    """What is saved beside an adapter.

    Attributes:
        role: `start` or `adapted`.
        skills: What it does with a text; an adapted model has one skill.
        model: The backbone and its adapter: the keys of the config's section `model`.
        labels: Names in the order of the logits; none without classification.
        adaptation: Of a start, by skill, the defaults found on meta-validation, with the
            temperature of retrieval. Of an adapted model, what its adaptation did.
        step_sizes: Learned factors on the inner rate, by tensor.
        provenance: Settings and results of the training, free of machine paths.
    """

    role: str
    skills: tuple[str, ...]
    model: Mapping[str, Any]
    labels: tuple[str, ...]
    adaptation: Mapping[str, Any]
    step_sizes: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Its role and skills in words, such as `start of classification and retrieval`."""
        words = {START: "start", ADAPTED: "adapted model"}
        return f"{words.get(self.role, self.role)} of {' and '.join(self.skills)}"


def read_settings(record: Record, form: type[S]) -> S:
    """Read the backbone and its adapter as a record names them.

    Args:
        form: `ModelSettings`, or `Seq2SeqSettings` of an encoder-decoder.

    Raises:
        MetaModelError: The record is of another version.
    """
    try:
        return form(**record.model)
    except TypeError as error:
        raise MetaModelError(
            f"cannot load a model of the keys {', '.join(record.model)}: those of this version's "
            f"{form.__name__} are needed; save it again, or install the version that saved it"
        ) from error


def find_model(
    name_or_path: str,
    *,
    role: str | None = None,
    skill: str | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> tuple[Path, Record]:
    """Find a saved model in a folder or on the Hub and read its record.

    Args:
        role: That it must have; None takes both.
        skill: That must be among its skills; None takes any.
        revision, token: For the Hub; its own environment variables are honored.

    Raises:
        MetaModelError: There is none, or it has another role or lacks the skill.
    """
    folder = Path(name_or_path)
    if not folder.is_dir():
        folder = pull(name_or_path, revision=revision, token=token)
    record = read_record(folder, name=name_or_path)
    if role not in (None, record.role) or (skill is not None and skill not in record.skills):
        wanted = Record(role or record.role, (skill,) if skill else record.skills, {}, (), {})
        raise MetaModelError(
            f"cannot use '{name_or_path}': it is the {record.title} and one that is the "
            f"{wanted.title} is needed; {_advise(record, role=role, skill=skill)}"
        )
    if role is not None:
        check_base(folder, str(record.model.get("model_name_or_path")), name=name_or_path)
    return folder, record


def _advise(record: Record, *, role: str | None, skill: str | None) -> str:
    if role == START and record.role == ADAPTED:
        return "name the start that it was adapted from"
    if role == ADAPTED and record.role == START and (skill is None or skill in record.skills):
        return "adapt it first"
    return "name another model"


def read_record(folder: Path, *, name: str) -> Record:
    """Read the record of a saved model.

    Args:
        name: What the user typed for the folder.

    Raises:
        MetaModelError: There is none, or it is damaged.
    """
    try:
        values = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        values = {name: values[name] for name in Record.__dataclass_fields__}
        record = Record(**{**values, "skills": tuple(values["skills"])})
        for block in (record.model, record.adaptation, record.step_sizes, record.provenance):
            block.items()
    except FileNotFoundError as error:
        raise MetaModelError(
            f"cannot load '{name}': it holds no {RECORD} and a model saved by this "
            "package is needed; check the path"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise MetaModelError(
            f"cannot load '{name}': its {RECORD} is damaged and the file as it was saved "
            "is needed; save or download the model again"
        ) from error
    return record
