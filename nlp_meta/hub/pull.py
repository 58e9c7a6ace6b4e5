"""The files that make up a model, and pulling them from the Hub at one commit.

No other files are pushed or pulled. All are safetensors, JSON or text, so that none can hold code
to be run, and each is held against the hash that the Hub gives for it. HF_HOME, HF_ENDPOINT,
HF_TOKEN and HF_HUB_OFFLINE mean what they mean to every library of the Hub: its own client does
the work.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, RemoteEntryNotFoundError, RepositoryNotFoundError

from nlp_meta.data.session import bound_session
from nlp_meta.errors import HubError
from nlp_meta.files.outputs import hash_file
from nlp_meta.hub.refusals import FAILURES, explain

RECORD, ADAPTER, HEAD = "nlp_meta.json", "adapter_model.safetensors", "head.safetensors"
COMPANION_WEIGHTS, COMPANION_FACTS = "companion.safetensors", "companion.json"
ADAPTER_CONFIG, CARD = "adapter_config.json", "README.md"
TRAINING = "training.json"
"""Beside the weights of a base that this package built: what it was made of."""
_TOKENIZER = (
    "added_tokens.json bpe.codes chat_template.jinja merges.txt sentencepiece.bpe.model "
    "source.spm special_tokens_map.json spiece.model spm.model target.spm tokenizer.json "
    "tokenizer.model tokenizer_config.json vocab.json vocab.txt"
).split()
VOCABULARIES = tuple(name for name in _TOKENIZER if name != "tokenizer_config.json")
"""These hold words, some of which look like paths."""
# The adapter comes last: of a pull that was cut off it is missing.
MODEL_FILES = (
    *(RECORD, ADAPTER_CONFIG, CARD),
    *_TOKENIZER,
    *(COMPANION_FACTS, COMPANION_WEIGHTS, HEAD, ADAPTER),
)
_COMMIT, _SHA256 = re.compile("[0-9a-f]{40}"), re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a record tells of a file beside it; `sha256` in hexadecimal digits."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model was pulled from.

    Attributes:
        commit: The one that was read, whatever branch or tag was asked for.
    """

    name: str
    commit: str


def source_of(name: str, folder: Path) -> Source | None:
    """The source of a model in a folder of the Hub's cache; None for a folder of a user's."""
    pulled = not Path(name).is_dir() and _COMMIT.fullmatch(folder.name)
    return Source(name, folder.name) if pulled else None


def tell_source(provenance: Mapping[str, Any], source: Source | None) -> dict[str, Any]:
    """What an adapted model tells of its start: the training, and where it was pulled from."""
    return {**provenance, "meta_model": None if source is None else asdict(source)}


def pull(name: str, *, revision: str | None = None, token: str | None = None) -> Path:
    """Bring a model's files into the cache, and give their folder there.

    Raises:
        HubError: There is no such repository or no model in it, or the Hub, the connection
            or the disk fails.
    """
    bound_session()
    try:
        folder = Path(hf_hub_download(name, RECORD, revision=revision, token=token)).parent
        _pull_others(name, folder, token=token)
    except HubError:
        raise
    except RemoteEntryNotFoundError as error:
        raise HubError(
            f"cannot use '{name}': it is {_describe(name, revision, token)}, and a model saved by "
            "this package is needed; name a repository that one was pushed to"
        ) from error
    except FAILURES as error:
        if _is_dataset(name, error, token=token):
            raise HubError(
                f"cannot use '{name}': it is a dataset and a model saved by this package is "
                "needed; name a repository that one was pushed to"
            ) from error
        doing = f"find the model '{name}' in a folder here or pull it"
        raise explain(error, doing=doing) from error
    for path in folder.iterdir():
        _check_inside(name, path)
        _check_hash(name, path)
    return folder


def describe_file(path: Path) -> FileFacts:
    """What a record tells of a file."""
    return FileFacts(hash_file(path), path.stat().st_size)


def _pull_others(name: str, folder: Path, *, token: str | None) -> None:
    """Files beside the record, at the commit that it was found at."""
    commit = folder.name
    try:
        siblings = HfApi(token=token).model_info(name, revision=commit).siblings or []
    except FAILURES:
        if (folder / ADAPTER).exists():
            return  # what was pulled before serves where the Hub does not answer
        raise
    names = {file.rfilename for file in siblings}
    outside = _find_outside(sorted(names))
    if outside is not None:
        raise HubError(
            f"cannot pull '{name}': it names the file '{outside}', which lies outside of a model's "
            "folder, and files inside are needed; do not use this repository"
        )
    for file in MODEL_FILES:
        if file in names and file != RECORD:
            hf_hub_download(name, file, revision=commit, token=token)


def _find_outside(names: Iterable[str]) -> str | None:
    """The first name that would lie outside of the folder it is written to; None if none does."""
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not parts or ".." in parts or parts[0] == "/" or ":" in parts[0]:
            return name
    return None


def _check_inside(name: str, path: Path) -> None:
    """Refuse links out of the cache, which its client never makes."""
    repository, cache = path.parents[2].resolve(), path.parents[3].resolve()
    place = path.resolve()
    if not (place.is_relative_to(repository) or place.is_relative_to(cache)):
        raise HubError(
            f"cannot use '{name}': its file '{path.name}' in the cache is a link to a place "
            "outside of it and the file itself is needed; delete that link and pull the model again"
        )


def _check_hash(name: str, path: Path) -> None:
    """Compare a large file with the hash that the Hub gave for it, which its cache is named by."""
    blob = path.resolve()
    if not (path.is_symlink() and _SHA256.fullmatch(blob.name)):
        return
    if hash_file(blob) != blob.name:
        # Else it would be taken for whole the next time too.
        path.unlink()
        blob.unlink()
        raise HubError(
            f"cannot use '{name}': its file '{path.name}' does not have the hash that the Hub "
            "gives for it, and the file as it was pushed is needed; pull it again, and do not use "
            "the repository if that does not help"
        )


def _describe(name: str, revision: str | None, token: str | None) -> str:
    """Say what a repository is that holds no model of ours."""
    try:
        info = HfApi(token=token).model_info(name, revision=revision)
    except FAILURES:
        return f"a repository without {RECORD}"
    names = {file.rfilename for file in info.siblings or []}
    if not names - {CARD, ".gitattributes"}:
        return "an empty repository"
    if ADAPTER_CONFIG in names:
        return f"a PEFT adapter without {RECORD}"
    if "modules.json" in names:
        return "a sentence-transformers model"
    if "config.json" in names:
        library = info.library_name or "transformers"
        task = f" for {info.pipeline_tag}" if info.pipeline_tag else ""
        return f"a {library} model{task}, not an adapter"
    shown = ", ".join(sorted(names)[:3])
    return f"a repository of other things ({shown})"


def _is_dataset(name: str, error: BaseException, *, token: str | None) -> bool:
    """Whether a model that is not found is a dataset instead."""
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if not isinstance(error, RepositoryNotFoundError) and status not in (401, 404):
        return False
    try:
        HfApi(token=token).dataset_info(name)
    except FAILURES:
        return False
    return True
