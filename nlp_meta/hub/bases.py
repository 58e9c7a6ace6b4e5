"""The base model of an adapter: where it is now, and by which name others find it on the Hub.

An adapter means nothing on another base. So whatever place a base is read from, its weights
are held against the hash in the record, and libraries that read a pushed adapter find the same
base by its name on the Hub.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.hf_api import ModelInfo
from safetensors import safe_open

from nlp_meta.data.schema import read_object
from nlp_meta.encoders.backbone import MINILM, resolve_name
from nlp_meta.errors import BackboneError, HubError, MetaModelError
from nlp_meta.files.outputs import hash_file
from nlp_meta.hub.builtin_starts import BUILTIN
from nlp_meta.hub.refusals import FAILURES, explain

_WEIGHTS, _SHARDS, _CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
_BUILTIN_ON_HUB = {"builtin:minilm": MINILM}
MODELS = "NLP_META_MODELS"
"""Environment variable: a folder with base models, each by its name."""
_MOST_HASHED = 2**29
"""Bytes of a base that is hashed whenever it is loaded; a larger one where its place is new."""
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_CACHED = re.compile(r"models--(?P<name>.+)/snapshots/(?P<commit>[0-9a-f]{40})/?$")
_SIZES = (
    "model_type vocab_size hidden_size d_model num_hidden_layers encoder_layers decoder_layers "
    "num_attention_heads intermediate_size max_position_embeddings"
).split()


@dataclass(frozen=True, slots=True)
class BaseWeights:
    """The base of a model when it was saved.

    Attributes:
        name, revision: As its settings had them then; a base may move afterwards.
        sha256: Of its weights, in one file or several; empty where that was not known.
    """

    name: str
    revision: str | None
    sha256: str


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """The base model on the Hub.

    Attributes:
        revision: The commit that the adapter is for.
        license: As its own card says; None where it says none.
    """

    id: str
    revision: str
    license: str | None


def find_base(
    name: str, *, revision: str | None, hub_base_model: str | None, token: str | None
) -> BaseFacts:
    """Find the base on the Hub, and compare it with the one that the adapter was trained on.

    Args:
        name: What the record of the model names: a name on the Hub, a folder, or `builtin:...`.
        revision: The commit that was trained on, where the base came from the Hub.
        hub_base_model: Its name on the Hub, maybe with `@revision`.

    Raises:
        HubError: It has no name on the Hub, is not there, or another model is.
    """
    local = is_local(name)
    wanted = hub_base_model or hub_name(name)
    if wanted is None:
        raise HubError(
            f"cannot push: the base model is the folder '{Path(name).name}' of this machine and a "
            "name on the Hub is needed, which others can load; give it with `hub_base_model`"
        )
    hub_id, _, asked = wanted.partition("@")
    if not local and hub_id != name:
        raise HubError(
            f"cannot push with the base model '{hub_id}': the adapter was trained on '{name}' from "
            "the Hub and that base is needed; leave out `hub_base_model`"
        )
    try:
        info = HfApi(token=token).model_info(
            hub_id, revision=asked or (None if local else revision), files_metadata=True
        )
        if local:
            _compare(Path(resolve_name(name)), hub_id, info, token=token)
    except FAILURES as error:
        raise explain(error, doing=f"find the base model '{hub_id}' on the Hub") from error
    card: Mapping[str, Any] = vars(info.card_data) if info.card_data else {}
    license_id = card.get("license")
    return BaseFacts(hub_id, str(info.sha), license_id if isinstance(license_id, str) else None)


def place_base(
    model: Mapping[str, Any],
    weights: BaseWeights,
    *,
    name: str,
    base: str | Path | None,
    pulled: bool,
) -> dict[str, str | None]:
    """Find the base of a saved model where it is now, and hold its weights against the record.

    Args:
        model: The record's settings of the backbone.
        weights: Those that it was saved with.
        name: What the user typed for the model.
        base: Where the base is, as the user says; None where the record says it.
        pulled: The model comes from the Hub, so it may not name a folder here.

    Returns:
        What to change of `model`.

    Raises:
        MetaModelError: The base is not there, or may not be named.
        BackboneError: It is another model.
    """
    saved = str(model["model_name_or_path"])
    if base is None and pulled:
        _check_public(saved, name=name)
    place = saved if base is None else str(base)
    is_folder = Path(place).is_dir() or place.startswith(BUILTIN)
    if base is None and not is_folder:
        place = str(Path(os.environ.get(MODELS, "")) / PureWindowsPath(saved).name)
        here = MODELS in os.environ and Path(place).is_dir()
        if _HUB_NAME.fullmatch(saved) and not weights.sha256:
            return {"model_name_or_path": place} if here and not pulled else {}
        if _HUB_NAME.fullmatch(saved) and model["revision"]:
            return {}
        if not here:
            raise MetaModelError(
                f"cannot load '{name}': it was adapted from the base in the folder "
                f"'{saved[:500]}', that folder is not here and the base is needed; give its new "
                f"place with `base`, or set {MODELS} to the folder that holds "
                f"'{PureWindowsPath(saved).name[:200]}'"
            )
    moved = place != saved
    if moved and not is_folder and not Path(place).is_dir() and is_local(place):
        raise MetaModelError(
            f"cannot load '{name}' with the base '{place}': that folder is not here and one with "
            "config.json, a tokenizer and model.safetensors is needed; correct `base`"
        )
    if weights.sha256 and (moved or (is_folder and _is_small(place))):
        _check_same(place, weights, name=name)
    return {"model_name_or_path": place, "revision": None} if moved else {}


def _check_public(saved: str, *, name: str) -> None:
    """Refuse what a stranger's model may not name as its base."""
    if saved.startswith(BUILTIN):
        return
    reason = None
    if not _HUB_NAME.fullmatch(saved) or ".." in saved:
        reason = "which is no name on the Hub"
    elif Path(saved).is_dir():
        reason = "which is a folder here too"
    if reason:
        raise MetaModelError(
            f"cannot use '{name}': it is from the Hub and names the base '{saved[:200]}', "
            f"{reason}, and a base that can only be read from the Hub is needed; give the place of "
            "its base with `base` if you trust it"
        )


def _is_small(place: str) -> bool:
    files = _weight_files(Path(resolve_name(place)))
    return sum(path.stat().st_size for path in files) <= _MOST_HASHED


def _check_same(place: str, weights: BaseWeights, *, name: str) -> None:
    present = hash_base(place, revision=None)
    if present and present == weights.sha256:
        return
    if place == weights.name:
        raise BackboneError(
            f"cannot load '{name}': the weights of its base '{place}' were changed since it was "
            "saved and the base as it was is needed; give the place of that one with `base`, or "
            "make the model again"
        )
    reason = "its weights are not those of" if present else "it holds no safetensors, unlike"
    raise BackboneError(
        f"cannot load '{name}' with the base '{place}': {reason} the base that the model was made "
        f"with, '{weights.name[:200]}', and that base is needed; correct `base`"
    )


def name_on_hub(name: str) -> tuple[str, str] | None:
    """The name and the commit of a base in a folder of the Hub's cache; None elsewhere."""
    match = _CACHED.search(Path(name).as_posix())
    return (match["name"].replace("--", "/"), match["commit"]) if match else None


def hub_name(name: str) -> str | None:
    """The name of a base on the Hub; None of a folder that it is not known of.

    A folder's own config does not help: it may name the model that this one was trained from.
    """
    cached = name_on_hub(name)
    if cached is not None:
        return cached[0]
    return _BUILTIN_ON_HUB.get(name, None if is_local(name) else name)


def public_name(name: str) -> str:
    """The name of a base that others may read: on the Hub, or its folder's without the place."""
    return hub_name(name) or PureWindowsPath(name).name


def hash_base(name: str, *, revision: str | None, file: str | None = None) -> str:
    """Hash of a base's weights, in one file or several; empty where none are found.

    What is then missing is said where they are loaded.

    Args:
        file: Of a GGUF model; None takes the safetensors.
    """
    if is_local(name):
        folder = Path(resolve_name(name))
        files = _weight_files(folder) if file is None else [folder / file]
    else:
        files = _pull_weights(name, revision=revision, file=file)
    stats = [(path, path.stat()) for path in files if path.is_file()]
    return " ".join(_hash_weights(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats)


def _weight_files(folder: Path) -> list[Path]:
    whole = folder / _WEIGHTS
    return [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))


@cache
def _hash_weights(path: Path, _size: int, _modified: int) -> str:
    """Large files are read once, and again where they were written anew."""
    return hash_file(path)


def _pull_weights(name: str, *, revision: str | None, file: str | None) -> list[Path]:
    try:
        return [Path(hf_hub_download(name, file or _WEIGHTS, revision=revision))]
    except EntryNotFoundError:  # in several files, or not here and no Hub to ask
        if file is not None:
            return []
    except FAILURES:
        return []
    try:
        index = Path(hf_hub_download(name, _SHARDS, revision=revision))
        shards = sorted(set(read_object(index)["weight_map"].values()))
        return [Path(hf_hub_download(name, shard, revision=revision)) for shard in shards]
    except FAILURES:
        return []


def is_local(name: str) -> bool:
    """Whether a base is a folder or a package of this machine."""
    return not _HUB_NAME.fullmatch(name) or Path(name).is_dir()


def _compare(folder: Path, hub_id: str, info: ModelInfo, *, token: str | None) -> None:
    """Hold a folder's sizes and weights against those on the Hub."""
    here = _read_config(folder / _CONFIG)
    there = _read_config(Path(hf_hub_download(hub_id, _CONFIG, revision=info.sha, token=token)))
    for key in _SIZES:
        if here.get(key) != there.get(key):
            raise HubError(
                f"cannot push with the base model '{hub_id}': its {key} is {there.get(key)} and "
                f"{here.get(key)}, that of the base trained on, is needed: it is another model; "
                "correct `hub_base_model`"
            )
    hashes = {file.rfilename: file.lfs.sha256 if file.lfs else None for file in info.siblings or []}
    local = folder / _WEIGHTS
    # Weights in several files have sizes to be compared by, and no more.
    if not local.is_file() or _WEIGHTS not in hashes or hashes[_WEIGHTS] == hash_file(local):
        return
    remote = Path(hf_hub_download(hub_id, _WEIGHTS, revision=info.sha, token=token))
    if not _same_tensors(local, remote):
        raise HubError(
            f"cannot push with the base model '{hub_id}': its weights differ from those of the "
            "base trained on, which are needed: it is another model; correct `hub_base_model`, "
            "or push the base too and name that"
        )


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        return read_object(path)
    except (OSError, ValueError) as error:
        raise HubError(
            f"cannot compare the base model: '{path.name}' of '{path.parent.name}' is missing or "
            "damaged and the base that was trained on is needed; put it back in its place"
        ) from error


def _same_tensors(local: Path, remote: Path) -> bool:
    """Whether every tensor that both files have is the same; a prefix may stand before names."""
    with safe_open(local, framework="pt") as here, safe_open(remote, framework="pt") as there:
        pairs = [
            (name, other)
            for name in list(here.keys())
            for other in list(there.keys())
            if name == other or name.endswith(f".{other}") or other.endswith(f".{name}")
        ]
        return bool(pairs) and all(
            torch.equal(here.get_tensor(name), there.get_tensor(other)) for name, other in pairs
        )
