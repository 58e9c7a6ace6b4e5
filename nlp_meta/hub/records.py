"""Records: what is saved beside an adapter, as JSON, and how a saved model is found.

A record tells of every file beside it and carries a hash of itself, so that a model is loaded
as it was saved or not at all. Only the place of its base may change. Files are held against
the record before anything large is allocated: sizes and hashes, the header of safetensors, what
PEFT reads in a file of its own. Where a file differs, one sentence says which and, as far as its
bytes tell, what was done to it.
"""

import struct
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple, TypeVar

from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.schema import parse_object, read_object, read_strict
from nlp_meta.encoders.backbone import resolve_name
from nlp_meta.errors import MetaModelError
from nlp_meta.files.outputs import CARD_ENTRY, SEAL, seal
from nlp_meta.hub.bases import BaseWeights, is_local, place_base, public_name
from nlp_meta.hub.builtin_starts import BUILTIN, place_start
from nlp_meta.hub.pull import (
    ADAPTER,
    ADAPTER_CONFIG,
    CARD,
    COMPANION_FACTS,
    COMPANION_WEIGHTS,
    HEAD,
    MODEL_FILES,
    RECORD,
    FileFacts,
    describe_file,
    pull,
)

_AGAIN = "save or download the model again"
_LFS = b"version https://git-lfs"
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")
_LEAST_HEADER, _MOST_HEADER = 2, 2**24  # bytes

# Of no consequence to what an adapter computes, or held against the record.
_FREE = (
    "auto_mapping base_model_name_or_path inference_mode init_lora_weights layers_to_transform "
    "lora_alpha megatron_core modules_to_save peft_version r revision runtime_config "
    "target_modules task_type"
).split()


class Promised(NamedTuple):
    """A tensor as a safetensors header promises it; `dtype` such as F32."""

    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path) -> dict[str, Promised]:
    """Read what a safetensors file promises, by name; none of its tensors is touched.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no safetensors file, or is cut off; says what, in half a sentence.
    """
    with path.open("rb") as file:
        begin = file.read(8)
        length = struct.unpack("<Q", begin)[0] if len(begin) == 8 else 0
        if not _LEAST_HEADER <= length <= _MOST_HEADER:
            raise ValueError("it does not begin as safetensors do")
        values = parse_object(file.read(length), most_bytes=_MOST_HEADER)
    values.pop("__metadata__", None)
    promised: dict[str, Promised] = {}
    end = 0
    try:
        places = sorted(values.items(), key=lambda item: tuple(item[1]["data_offsets"]))
        for name, facts in places:
            first, last = facts["data_offsets"]
            promised[name] = Promised(str(facts["dtype"]), tuple(facts["shape"]))
            if first != end or last < first or any(size < 0 for size in promised[name].shape):
                raise ValueError(f"the bytes of '{name[:100]}' overlap others or leave a gap")
            end = last
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("its header is none of safetensors") from error
    if path.stat().st_size != 8 + length + end:
        raise ValueError(f"it has {path.stat().st_size:,} bytes, {8 + length + end:,} are told")
    return promised


def check_files(folder: Path, files: Mapping[str, FileFacts], *, name: str, labels: int) -> None:
    """Hold every file of a model against its record; files that the record lacks are not ours.

    Args:
        name: What the user typed for the folder.
        labels: Rows of the head in the adapter; 0 where it has none.

    Raises:
        MetaModelError: A file is missing, cut off or changed; says which, and what was done.
    """
    needed = (ADAPTER, ADAPTER_CONFIG)
    absent = [file for file in needed if file not in files]
    if absent:
        raise MetaModelError(
            f"cannot load '{name}': its {RECORD} does not tell of {absent[0]} and every file of a "
            f"model is needed in it; {_AGAIN}"
        )
    for file, facts in files.items():
        # By its meaning, and not at all: what PEFT reads is checked with the record.
        if file in (ADAPTER_CONFIG, CARD) or file not in MODEL_FILES:
            continue
        path = folder / file
        if not path.is_file():
            raise MetaModelError(
                f"cannot load '{name}': its {file} is missing and every file as it was saved is "
                f"needed; copy the whole folder, or {_AGAIN}"
            )
        try:
            same = path.stat().st_size == facts.bytes and describe_file(path) == facts
        except OSError as error:
            raise MetaModelError(
                f"cannot load '{name}': its {file} cannot be read ({error.strerror}) and every "
                "file of a model is needed; mend that"
            ) from error
        if not same:
            reason, remedy = _describe_change(path, facts, labels=labels)
            raise MetaModelError(
                f"cannot load '{name}': its {file} {reason} and the file as it was saved is "
                f"needed; {remedy}"
            )


def check_tensors(
    path: Path, wanted: Mapping[str, tuple[int, ...]], *, head: Collection[str], base: str
) -> None:
    """Hold the header of a file of weights against the tensors that a model needs.

    Args:
        wanted: Shapes by their names in the file; all are float32.
        head: Those of the head.
        base: The base's name, for the error.

    Raises:
        MetaModelError: A tensor is missing, too much, or of another shape or dtype.
    """
    lead = f"cannot load the weights in '{path.parent}'"
    try:
        promised = read_header(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MetaModelError(
            f"{lead}: {path.name} is missing or damaged ({reason}) and the file as it was saved "
            f"is needed; {_AGAIN}"
        ) from error
    for name, shape in wanted.items():
        if name not in promised:
            part = "the head is missing: " if name in head else ""
            raise MetaModelError(
                f"{lead}: {part}'{name}' is not in {path.name} and an adapter as it was saved for "
                f"this base is needed; {_AGAIN}"
            )
        if promised[name].shape != shape:
            other = "" if name in head else f": they are of another base than '{base}'"
            raise MetaModelError(
                f"{lead}: '{name[:200]}' is {promised[name].shape} and {shape} is needed{other}; "
                "save or download the model again"
            )
        if promised[name].dtype != "F32":
            raise MetaModelError(
                f"{lead}: '{name[:200]}' holds {promised[name].dtype[:20]} and F32 is needed: it "
                f"was converted; {_AGAIN}"
            )
    extra = sorted(promised.keys() - wanted.keys())
    if extra:
        raise MetaModelError(
            f"{lead}: '{extra[0][:200]}' in {path.name} is no tensor of this model and the file as "
            f"it was saved is needed; {_AGAIN}"
        )


def check_adapter_config(
    folder: Path, model: Mapping[str, Any], files: Mapping[str, FileFacts], *, name: str
) -> None:
    """Hold what PEFT reads in a file of its own against the record: both are one adapter.

    Args:
        model: The record's settings of the backbone and its adapter.
        name: What the user typed for the folder.

    Raises:
        MetaModelError: The file is missing or damaged, or says something else.
    """
    path = folder / ADAPTER_CONFIG
    try:
        values = read_object(path)
        edited = ADAPTER_CONFIG not in files or describe_file(path) != files[ADAPTER_CONFIG]
    except FileNotFoundError as error:
        raise MetaModelError(
            f"cannot load '{name}': its {path.name} is missing and every file as it was saved is "
            f"needed; copy the whole folder, or {_AGAIN}"
        ) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MetaModelError(
            f"cannot load '{name}': its {path.name} is damaged ({reason}) and the file as it was "
            f"saved is needed; {_AGAIN}"
        ) from error
    base, other = model["model_name_or_path"], values.get("base_model_name_or_path")
    # Earlier versions wrote the place of a package, which is another one on each machine.
    ends = [Path(str(place)).parts[-2:] for place in (other, resolve_name(base))]
    names = (base, public_name(base), PureWindowsPath(base).name)
    if other not in names and not (base.startswith(BUILTIN) and ends[0] == ends[1]):
        raise MetaModelError(
            f"cannot load '{name}': its adapter is for the base '{str(other)[:200]}' and its "
            f"{RECORD} names '{base[:200]}', and one base is needed; {_AGAIN}"
        )
    for ours, theirs in (("lora_r", "r"), ("lora_alpha", "lora_alpha"), ("revision", "revision")):
        if values.get(theirs) != model[ours]:
            raise MetaModelError(
                f"cannot load '{name}': '{theirs}' in {path.name} is "
                f"{str(values.get(theirs))[:50]} and '{ours}' in its {RECORD} is "
                f"{str(model[ours])[:50]}, and one value is needed; {_AGAIN}"
            )
    if edited:
        _check_edited(values, model, name=name)


def _check_edited(values: Mapping[str, Any], model: Mapping[str, Any], *, name: str) -> None:
    """Of an edited file only the place of the base may differ, and what changes no answer."""
    from peft import LoraConfig  # it takes seconds, and few files are edited

    plain: dict[str, Any] = asdict(LoraConfig())
    targets, layers = model["lora_target_modules"], model["lora_layers"]
    written = values.get("layers_to_transform")
    differing = [key for key in values if key not in _FREE and values[key] != plain.get(key)]
    differing += [] if "peft_type" in values else ["peft_type"]
    if isinstance(values.get("target_modules"), list) and isinstance(targets, list):
        named = [set(map(str, names)) for names in (values["target_modules"], targets)]
        differing += ["target_modules"] * (named[0] != named[1])
    if "pooling" in model:
        whole = isinstance(written, list) and len(written) == layers
        differing += [] if whole else ["layers_to_transform"]
    if differing:
        raise MetaModelError(
            f"cannot load '{name}': '{differing[0][:100]}' in its {ADAPTER_CONFIG} was changed "
            f"since it was saved and the value as it was saved is needed; {_AGAIN}"
        )


def _describe_change(path: Path, facts: FileFacts, *, labels: int) -> tuple[str, str]:
    """What was done to a file since it was saved, as far as its bytes tell, and what to do."""
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(64)
    if begin.startswith(_LFS):
        return "is a pointer of git-lfs", "fetch the files themselves with `git lfs pull`"
    if begin.lstrip()[:1] == b"<" and path.suffix != ".txt":
        return "is a web page", "download the model again, with a token if it is private"
    if begin.startswith(_PICKLES):
        return "is a pickle or an archive, which is never read", _AGAIN
    changed = "was changed since it was saved"
    if path.name not in (ADAPTER, HEAD):
        return changed, _AGAIN
    try:
        promised = read_header(path)
    except ValueError as error:
        if size < facts.bytes:
            return f"is cut off, it has {size:,} bytes of {facts.bytes:,},", _AGAIN
        return f"{changed} and is damaged, {error},", _AGAIN
    plain = [tensor for name, tensor in promised.items() if ".lora_" not in name]
    rows = [tensor.shape[0] for tensor in plain if len(tensor.shape) == 2]
    if labels and path.name == ADAPTER and labels not in rows:
        return f"{changed}, the head is missing from it,", _AGAIN
    if any(tensor.dtype != "F32" for tensor in promised.values()):
        return "was converted to other numbers since it was saved", _AGAIN
    if len(plain) == len(promised) and path.name == ADAPTER:
        return "holds no adapter: it was merged or replaced since it was saved", _AGAIN
    return changed, _AGAIN


START, ADAPTED = "start", "adapted"
"""Roles of a saved model: it adapts to a support set, or it is what adapting gave."""
FORMAT = 2
ADAPTATION = "what a record tells of the adaptation"
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
    "head": ("shared", "prototype", "ridge"),
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
    "ridge_lambda": (1e-9, 1e9),
    "ridge_scale": (1e-9, 1e9),
    "ridge_bias": (1e-9, 1e9),
    "threshold": (-100, 100),
    "overlap": (0, 100),
}
"""Least and most that numbers of these names can be in a model that answers."""
_MOST_SCALE, _MOST_TRUST = 1e3, 30.0

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
        provenance: Settings and results of the training, free of machine paths.
        base: The base as it was when the model was saved; `model` has its place as it is now.
        files: Every file that was written beside it, but for the card, which may be edited.
    """

    role: str
    skills: tuple[str, ...]
    model: Mapping[str, Any]
    labels: tuple[str, ...]
    adaptation: Mapping[str, Any]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    base: BaseWeights | None = None
    files: Mapping[str, FileFacts] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Its role and skills in words, such as `a start of classification and retrieval`."""
        words = {START: "a start", ADAPTED: "an adapted model"}
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
    shipped = name_or_path.startswith(BUILTIN)
    folder = place_start(name_or_path) if shipped else Path(name_or_path)
    pulled = not folder.is_dir()
    if pulled and (is_local(name_or_path) or folder.exists()):
        there = "it is a file" if folder.exists() else "there is no such folder here"
        raise MetaModelError(
            f"cannot load '{name_or_path}': {there} and the folder of a saved "
            "model, or its name on the Hub such as me/real-estate-sentiment, is needed; correct "
            "the path"
        )
    if pulled:
        folder = pull(name_or_path, revision=revision, token=token)
    record = read_record(folder, name=name_or_path)
    if role not in (None, record.role) or (skill is not None and skill not in record.skills):
        wanted = Record(role or record.role, (skill,) if skill else record.skills, {}, (), {})
        raise MetaModelError(
            f"cannot use '{name_or_path}': it is {record.title} and {wanted.title} is "
            f"needed; {_advise(record, role=role, skill=skill)}"
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
    beside = {"format", SEAL, CARD_ENTRY}
    if not values.get("step_sizes"):  # starts of before had them, mostly none
        beside.add("step_sizes")
    parts = {key: value for key, value in values.items() if key not in beside}
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
    any_labels = record.role == START and record.model.get("head") == "ridge"
    if CLASSIFICATION in skills and len(labels) < 2 and not any_labels:
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
        trust = block.get("trust") or {}
        if not isinstance(trust, Mapping) or not all(
            _within(value, -_MOST_TRUST, _MOST_TRUST) for value in trust.values()
        ):
            return f"'trust' is {_show(trust)}, numbers near 0 are needed"
    if record.model["lora_alpha"] / record.model["lora_r"] > _MOST_SCALE:
        return f"'lora_alpha' is over {_MOST_SCALE:g} times 'lora_r', a smaller scale is needed"
    return None


def _within(value: object, least: float, most: float) -> bool:
    """Whether a value is a number in a range; no range holds what is not a number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _show(value: object) -> str:
    words = ", ".join(map(str, value)) if isinstance(value, tuple) else repr(value)
    return words if len(words) <= 100 else f"{words[:100]}..."
