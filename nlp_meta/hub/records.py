"""Records: what is saved beside an adapter, as JSON, and how a saved model is found.

A record tells of every file beside it and carries a hash of itself, so that a model is
loaded as it was saved or not at all. Only the place of its base may change.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.schema import read_object, read_strict
from nlp_meta.errors import MetaModelError
from nlp_meta.files.outputs import CARD_ENTRY, SEAL, seal
from nlp_meta.hub.bases import BaseWeights, place_base
from nlp_meta.hub.checks import check_adapter_config, check_files
from nlp_meta.hub.pull import (
    COMPANION_FACTS,
    COMPANION_WEIGHTS,
    HEAD,
    RECORD,
    FileFacts,
    pull,
)

START, ADAPTED = "start", "adapted"
"""Roles of a saved model: it adapts to a support set, or it is what adapting gave."""
FORMAT = 2
ADAPTATION = "what a record tells of the adaptation"
_AGAIN = "save or download the model again"
_TEXTS: tuple[tuple[str, Any, int], ...] = (
    ("model_name_or_path", str, 4096),
    ("revision", str | None, 200),
    ("prefix_text", str | None, 1000),
)
"""Keys of the base and the adapter, their types, and the most characters."""
_NEEDED = ("revision", "lora_r", "lora_alpha", "lora_layers", "lora_target_modules")
"""Keys of every model that PEFT's own file is held against."""
_CHOICES = {
    "pooling": ("native", "mean"),
    "head": ("shared", "prototype"),
    "lora_sides": ("encoder", "decoder", "both"),
    "optimizer": ("sgd", "adam"),
}
_RANGES = {
    "max_tokens": (3, 2**20),
    "lora_r": (1, 2**12),
    "lora_alpha": (1e-4, 2**16),
    "lora_layers": (1, 2**10),
    "label_smoothing": (0, 0.999),
    "num_beams": (1, 2**10),
    "steps": (0, 10**6),
    "learning_rate": (1e-12, 1e3),
    "anchor": (0, 1e9),
    "average": (0, 1 - 1e-9),
    "minibatch": (1, 10**9),
    "temperature": (1e-3, 1e3),
    "threshold": (-100, 100),
    "overlap": (0, 100),
}
"""Least and most that numbers of these names can be in a model that answers."""
_MOST_SCALE, _MOST_STEP_SIZE = 1e3, 15.0

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
        base: The base as it was when the model was saved; `model` has its place as it is now.
        files: Every file that was written beside it, but for the card, which may be edited.
    """

    role: str
    skills: tuple[str, ...]
    model: Mapping[str, Any]
    labels: tuple[str, ...]
    adaptation: Mapping[str, Any]
    step_sizes: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    base: BaseWeights | None = None
    files: Mapping[str, FileFacts] = field(default_factory=dict)

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
        MetaModelError: A key is missing or unknown, or a value is of another type.
    """
    return read_part(form, record.model, what="a model's settings")


def read_part(form: type[S], values: Mapping[str, Any], *, what: str) -> S:
    """Read a part of a record into a dataclass.

    Raises:
        MetaModelError: A key is missing or unknown, or a value is of another type.
    """
    try:
        return read_strict(form, values, where=what, error=MetaModelError)
    except MetaModelError as error:
        # Its keys are no options of a command, whatever their names.
        raise MetaModelError(str(error).replace("`", "'")) from None


def find_model(
    name_or_path: str,
    *,
    role: str | None = None,
    skill: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    base: str | Path | None = None,
) -> tuple[Path, Record]:
    """Find a saved model in a folder or on the Hub and read its record.

    Args:
        role: That it must have; its files are then checked, as what is loaded must be. None
            takes both and reads the record alone.
        skill: That must be among its skills; None takes any.
        revision, token: For the Hub; its own environment variables are honored.
        base: Where its base model is now, a folder or a name on the Hub; None takes the place
            in the record, or the folder of the same name below NLP_META_MODELS.

    Returns:
        The folder, and the record with the place of the base as it is now.

    Raises:
        MetaModelError: There is none, it has another role or lacks the skill, it was changed
            since it was saved, or its base is not there.
    """
    folder = Path(name_or_path)
    pulled = not folder.is_dir()
    if pulled:
        folder = pull(name_or_path, revision=revision, token=token)
    record = read_record(folder, name=name_or_path)
    if role not in (None, record.role) or (skill is not None and skill not in record.skills):
        wanted = Record(role or record.role, (skill,) if skill else record.skills, {}, (), {})
        raise MetaModelError(
            f"cannot use '{name_or_path}': it is the {record.title} and one that is the "
            f"{wanted.title} is needed; {_advise(record, role=role, skill=skill)}"
        )
    if role is None:
        return folder, record
    whole_head = role == ADAPTED or record.model.get("head") == "shared"
    headed = record.model.get("pooling") == "native" and whole_head
    labels = len(record.labels) if headed else 0
    check_files(folder, record.files, name=name_or_path, labels=labels)
    weights = record.base or BaseWeights(record.model["model_name_or_path"], None, "")
    place = place_base(record.model, weights, name=name_or_path, base=base, pulled=pulled)
    return folder, replace(record, model={**record.model, **place})


def _advise(record: Record, *, role: str | None, skill: str | None) -> str:
    if role == START and record.role == ADAPTED:
        return "name the start that it was adapted from"
    if role == ADAPTED and record.role == START and (skill is None or skill in record.skills):
        return "adapt it first"
    return "name another model"


def read_record(folder: Path, *, name: str) -> Record:
    """Read the record of a saved model, and hold PEFT's own file against it.

    Args:
        name: What the user typed for the folder.

    Raises:
        MetaModelError: There is none, or it is damaged, was changed since it was saved, or
            is of a format that this version does not know.
    """
    try:
        values = read_object(folder / RECORD)
    except FileNotFoundError as error:
        raise MetaModelError(
            f"cannot load '{name}': it holds no {RECORD} and a model saved by this "
            "package is needed; check the path"
        ) from error
    except (ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MetaModelError(
            f"cannot load '{name}': its {RECORD} is damaged ({reason}) and the file as it was "
            f"saved is needed; {_AGAIN}"
        ) from error
    _check_format(values.get("format"), name=name)
    parts = {key: value for key, value in values.items() if key not in ("format", SEAL, CARD_ENTRY)}
    record = read_part(Record, parts, what=f"the record of '{name}'")
    fault = _find_fault(record)
    if fault:
        raise MetaModelError(f"cannot load '{name}': in its {RECORD} {fault}; {_AGAIN}")
    check_adapter_config(folder, record.model, record.files, name=name)
    if not _is_sealed(values, record):
        raise MetaModelError(
            f"cannot load '{name}': its {RECORD} was changed since it was saved and the record "
            f"as it was saved is needed; {_AGAIN}"
        )
    return record


def _is_sealed(values: Mapping[str, Any], record: Record) -> bool:
    """Whether a record is as it was written, but for the place of the base, which may move."""
    moved = record.base
    place = {} if moved is None else {"model_name_or_path": moved.name, "revision": moved.revision}
    whole = {**values, "model": {**values["model"], **place}}
    return bool(seal(whole)[SEAL] == values.get(SEAL))


def _check_format(version: object, *, name: str) -> None:
    if version == FORMAT:
        return
    if isinstance(version, int) and 0 < version < FORMAT:
        remedy = "make it again with this version, or install the version that saved it"
    else:
        remedy = "install a newer nlp-meta, or save or download the model again"
    shown = version if isinstance(version, int) else "no number"
    raise MetaModelError(
        f"cannot load '{name}': the format of its {RECORD} is {str(shown)[:20]} and {FORMAT}, "
        f"which this version knows, is needed; {remedy}"
    )


def _find_fault(record: Record) -> str | None:
    """What a record says that cannot be so, in words; None if nothing is."""
    skills, labels = record.skills, record.labels
    if record.role not in (START, ADAPTED):
        return f"the role is {_show(record.role)}, start or adapted is needed"
    if not skills or len(set(skills)) < len(skills) or (record.role == ADAPTED and len(skills) > 1):
        return f"the skills are {_show(skills)}, which no {record.role} model has"
    if any(not label.strip() for label in labels) or len(set(labels)) < len(labels):
        return f"the labels are {_show(labels)}, different ones that are not empty are needed"
    if CLASSIFICATION in skills and len(labels) < 2:
        return f"the number of labels is {len(labels)}, at least 2 are needed"
    for key, kinds, most in _TEXTS:
        value = record.model.get(key)
        if not isinstance(value, kinds) or len(str(value)) > most:
            return f"'{key}' is {_show(value)}, a text of up to {most} characters is needed"
    missing = [key for key in _NEEDED if key not in record.model]
    if missing:
        return f"'{missing[0]}' is missing, its value as it was saved is needed"
    return _find_missing_file(record) or _find_faulty_number(record)


def _find_missing_file(record: Record) -> str | None:
    """What a record tells of that is not among its files, or the other way round."""
    ngrams = [name in record.files for name in (COMPANION_FACTS, COMPANION_WEIGHTS)]
    mixture = record.adaptation.get("companion")
    mixed = isinstance(mixture, Mapping) and mixture.get("on") is True
    if len(set(ngrams)) > 1 or (mixed and not all(ngrams)):
        return "the files are not those that a model with n-grams has"
    headed = record.model.get("pooling") == "mean" and bool(record.labels)
    if (HEAD in record.files) != headed:
        return f"the files are not those of this pooling, which {HEAD} belongs to or not"
    return None


def _find_faulty_number(record: Record) -> str | None:
    blocks = [record.model]
    if record.role == START:
        if record.adaptation.keys() != set(record.skills):
            return "the adaptation is not that of its skills"
        blocks += record.adaptation.values()
    else:
        blocks.append(record.adaptation)
    for block in blocks:
        if not isinstance(block, Mapping):
            return "the adaptation of a skill is no mapping"
        for key, value in block.items():
            choices, (least, most) = _CHOICES.get(key), _RANGES.get(key, (0, 0))
            if choices and value not in choices:
                return f"'{key}' is {_show(value)}, one of {', '.join(choices)} is needed"
            optional = value is None and key in ("minibatch", "lora_layers")
            if key in _RANGES and not optional and not _within(value, least, most):
                return f"'{key}' is {_show(value)}, a number from {least:g} to {most:g} is needed"
    if record.model["lora_alpha"] / record.model["lora_r"] > _MOST_SCALE:
        return f"'lora_alpha' is over {_MOST_SCALE:g} times 'lora_r', a smaller scale is needed"
    for key, value in record.step_sizes.items():
        if not _within(value, -_MOST_STEP_SIZE, _MOST_STEP_SIZE):
            return f"the step size of '{key[:100]}' is {_show(value)}, a number near 0 is needed"
    return None


def _within(value: object, least: float, most: float) -> bool:
    """Whether a value is a number in a range; no range holds what is not a number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _show(value: object) -> str:
    words = ", ".join(map(str, value)) if isinstance(value, tuple) else repr(value)
    return words if len(words) <= 100 else f"{words[:100]}..."
