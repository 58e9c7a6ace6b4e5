"""What is loaded is what was saved: every file of a model is held against its record.

All of it is checked before anything large is allocated: sizes and hashes of files, the header
of safetensors, what PEFT reads in a file of its own. Where a file differs, one sentence says
which and, as far as its bytes tell, what was done to it.
"""

import struct
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from peft import LoraConfig

from nlp_meta.data.schema import parse_object, read_object
from nlp_meta.encoders.backbone import BUILTIN, resolve_name
from nlp_meta.errors import MetaModelError
from nlp_meta.hub.pull import (
    ADAPTER,
    ADAPTER_CONFIG,
    CARD,
    HEAD,
    MODEL_FILES,
    RECORD,
    FileFacts,
    describe_file,
)

_AGAIN = "save or download the model again"
_LFS = b"version https://git-lfs"
_PICKLES = (b"\x80", b"PK\x03\x04")
_LEAST_HEADER, _MOST_HEADER = 2, 2**24  # bytes

# Of no consequence to what an adapter computes, or held against the record.
_FREE = (
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "init_lora_weights",
    "layers_to_transform",
    "lora_alpha",
    "megatron_core",
    "modules_to_save",
    "peft_version",
    "r",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
)


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
    # A package lies elsewhere on each machine.
    ends = [Path(str(place)).parts[-2:] for place in (other, resolve_name(base))]
    if ends[0] != ends[1] if base.startswith(BUILTIN) else other != base:
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
    plain: dict[str, Any] = asdict(LoraConfig())
    targets, layers = model["lora_target_modules"], model["lora_layers"]
    written = values.get("layers_to_transform")
    differing = [key for key in values if key not in _FREE and values[key] != plain.get(key)]
    differing += [key for key in plain if key not in values and plain[key] and key not in _FREE]
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
