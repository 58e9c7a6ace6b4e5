"""A run's checkpoints beside its meta-model on the Hub, for another machine to resume from."""

import shutil
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

from nlp_meta.errors import HubError
from nlp_meta.hub.destinations import Destination
from nlp_meta.hub.refusals import FAILURES, explain
from nlp_meta.meta.checkpoints import RECORD, TENSORS, load_checkpoint

NEWEST, ALL = "last-checkpoint", "checkpoints"


def checkpoint_files(checkpoint: Path, *, place: str) -> dict[str, Path]:
    """The two files of a checkpoint by their path in the repository."""
    return {f"{place}/{name}": checkpoint / name for name in (TENSORS, RECORD)}


def pull_checkpoint(to: Destination, folder: Path) -> Path | None:
    """Bring the newest checkpoint of a repository into a folder of checkpoints.

    Returns:
        Where it is now; None where the repository, or a checkpoint in it, is missing.

    Raises:
        HubError: The Hub, the connection or the disk fails.
        CheckpointError: What came is damaged.
    """
    beside = folder / ".pulled.part"
    try:
        info = HfApi(token=to.token).model_info(to.repo_id, revision=to.revision)
        place = _newest([one.rfilename for one in info.siblings or []])
        if place is None:
            return None
        target = beside / "step_00000000"
        target.mkdir(parents=True, exist_ok=True)
        for name in (TENSORS, RECORD):
            file = f"{place}/{name}"
            path = hf_hub_download(to.repo_id, file, revision=info.sha, token=to.token)
            shutil.copyfile(path, target / name)
        step = load_checkpoint(beside).step
        final = folder / f"step_{step:08d}"
        target.replace(final)
    except (RepositoryNotFoundError, EntryNotFoundError):
        return None
    except FAILURES as error:
        raise explain(error, doing=f"resume from '{to.repo_id}'") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return final


def _newest(names: list[str]) -> str | None:
    """The folder of the newest checkpoint among the paths of a repository."""
    if f"{NEWEST}/{RECORD}" in names:
        return NEWEST
    found = [name.rpartition("/")[0] for name in names if name.startswith(f"{ALL}/step_")]
    if any(".." in name for name in found):
        raise HubError(
            "cannot resume: the repository names files outside of its folders and files inside "
            "are needed; do not use it"
        )
    return max(found, default=None)
