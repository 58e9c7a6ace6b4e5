"""The base model of an adapter, by its name on the Hub instead of a folder of one machine.

Libraries that read an adapter fetch the base that it names. So the name must exist on the Hub,
and what it holds must be what the adapter was trained on.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.hf_api import ModelInfo
from safetensors import safe_open

from nlp_meta.encoders.backbone import BUILTIN, resolve_name
from nlp_meta.errors import HubError
from nlp_meta.files.outputs import hash_file
from nlp_meta.hub.refusals import FAILURES, explain

_WEIGHTS, _SHARDS, _CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
_BUILTIN_ON_HUB = {"builtin:minilm": "sentence-transformers/all-MiniLM-L6-v2"}
_SIZES = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "d_model",
    "num_hidden_layers",
    "encoder_layers",
    "decoder_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)


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
    wanted = hub_base_model or (_BUILTIN_ON_HUB.get(name) if local else name)
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


def hash_base(name: str, *, revision: str | None, file: str | None = None) -> str:
    """Hash of a base's weights, in one file or several; empty where none are found.

    What is then missing is said where they are loaded.

    Args:
        file: Of a GGUF model; None takes the safetensors.
    """
    if is_local(name):
        folder = Path(resolve_name(name))
        files = sorted(folder.glob("*.safetensors")) if file is None else [folder / file]
    else:
        files = _pull_weights(name, revision=revision, file=file)
    stats = [(path, path.stat()) for path in files if path.is_file()]
    return " ".join(_hash_weights(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats)


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
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        return [Path(hf_hub_download(name, shard, revision=revision)) for shard in shards]
    except FAILURES:
        return []


def is_local(name: str) -> bool:
    """Whether a base is a folder or a package of this machine."""
    path = Path(name)
    return name.startswith(BUILTIN) or path.is_absolute() or name[:1] in ".~" or path.is_dir()


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
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HubError(
            f"cannot compare the base model: '{path.name}' of '{path.parent.name}' is missing or "
            "damaged and the base that was trained on is needed; put it back in its place"
        ) from error
    return dict(config) if isinstance(config, dict) else {}


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
