"""Pushing what a run makes, as the section `hub` of its config says.

A run's checkpoints lie beside its start on the Hub, for another machine to resume from.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from accelerate import Accelerator
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

from nlp_meta.errors import HubError, SettingsError
from nlp_meta.hub.bases import find_base
from nlp_meta.hub.destinations import (
    Destination,
    Pushed,
    check_destination,
    check_replaceable,
    look,
)
from nlp_meta.hub.push import push_folder
from nlp_meta.hub.refusals import FAILURES, explain
from nlp_meta.meta.state import (
    CHECKPOINTS,
    RECORD,
    TENSORS,
    Checkpoint,
    StepRecord,
    load_checkpoint,
    save_checkpoint,
)
from nlp_meta.settings import HubSettings, MetaTraining

logger = logging.getLogger(__name__)

_NEWEST, _ALL = "last-checkpoint", "checkpoints"
_END, _EVERY_SAVE = "end", "every_save"
_PLACES = {"checkpoint": _NEWEST, "all_checkpoints": f"{_ALL}/{{name}}"}
"""Where a checkpoint goes in the repository, by the strategies that push any."""
_STRATEGIES = (_END, _EVERY_SAVE, *_PLACES)
OnStep = Callable[[StepRecord], None]
SaveDraft = Callable[[Checkpoint, Path], None]


def destination_of(hub: HubSettings) -> Destination | None:
    """Where a run pushes to; None where it does not push.

    Raises:
        SettingsError: No repository is named, an unknown strategy, or an environment
            variable that is not set.
    """
    if not hub.push_to_hub:
        return None
    if hub.hub_model_id is None:
        raise SettingsError(
            "cannot push the start: `hub.push_to_hub` is set and a name on the Hub is needed; "
            "give it as `hub.hub_model_id`"
        )
    if hub.hub_strategy not in _STRATEGIES:
        raise SettingsError(
            f"cannot push by the strategy '{hub.hub_strategy}': one of {', '.join(_STRATEGIES)} is "
            "needed; change `hub.hub_strategy`"
        )
    token = os.environ.get(hub.hub_token_env) if hub.hub_token_env else None
    if hub.hub_token_env and not token:
        raise SettingsError(
            f"cannot push the start: the environment variable '{hub.hub_token_env}' is not "
            "set and one with a token is needed; set it, or change `hub.hub_token_env`"
        )
    return Destination(
        hub.hub_model_id, token=token, private=hub.hub_private_repo, revision=hub.hub_revision
    )


def check_push(settings: MetaTraining) -> None:
    """Stop before the training if the Hub would refuse what comes of it.

    Raises:
        HubError: The destination or the base model is refused.
        SettingsError: The section `hub` contradicts itself.
    """
    to = destination_of(settings.hub)
    if to is None:
        return
    check_replaceable(to, look(check_destination(to), to), None)
    find_base(
        settings.model.model_name_or_path,
        revision=settings.model.revision,
        hub_base_model=settings.hub.hub_base_model,
        token=to.token,
    )


def push_finished(settings: MetaTraining) -> Pushed | None:
    """Push the start that a run has saved; None where the run does not push.

    Raises:
        HubError: The Hub refuses; the model stays where it is saved.
    """
    to = destination_of(settings.hub)
    if to is None:
        return None
    folder = Path(settings.run.output_dir)
    return push_folder(folder, to, hub_base_model=settings.hub.hub_base_model)


def with_pushes(
    settings: MetaTraining, accelerator: Accelerator, save_draft: SaveDraft, on_step: OnStep | None
) -> OnStep | None:
    """Push each checkpoint that a run saves, if its strategy says so, then call `on_step`.

    A push that fails is told and does not end the run: the next one brings everything. A run
    that resumes where no checkpoint is gets the newest one from the Hub first.

    Args:
        save_draft: Writes what a checkpoint holds as a start into a folder.

    Raises:
        HubError: A checkpoint is needed, and the Hub, the connection or the disk fails.
        CheckpointError: The one that came is damaged.
    """
    hub, folder = settings.hub, Path(settings.run.output_dir) / CHECKPOINTS
    to = destination_of(hub)
    if to is None or hub.hub_strategy == _END:
        return on_step
    if settings.run.resume and accelerator.is_main_process and hub.hub_strategy in _PLACES:
        _fetch(to, folder)
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return on_step
    destination = to

    def push(record: StepRecord) -> None:
        path = folder / f"step_{record.step:08d}"
        if path.is_dir():
            try:
                _push_checkpoint(hub, destination, path, save_draft)
            except HubError as error:
                logger.warning("step %d is not on the Hub: %s", record.step, error)
        if on_step:
            on_step(record)

    return push


def checkpoint_files(checkpoint: Path, *, place: str) -> dict[str, Path]:
    """The two files of a checkpoint by their path in the repository."""
    return {f"{place}/{name}": checkpoint / name for name in (TENSORS, RECORD)}


def _fetch(to: Destination, folder: Path) -> None:
    """Bring the newest checkpoint of a repository, where it has one, into an empty folder."""
    if list(folder.glob("step_*")):
        return
    try:
        info = HfApi(token=to.token).model_info(to.repo_id, revision=to.revision)
        place = _newest([file.rfilename for file in info.siblings or []])
        if place is None:
            return
        with tempfile.TemporaryDirectory(prefix="nlp_meta_pulled_") as root:
            pulled = Path(root) / "step_00000000"
            pulled.mkdir()
            for name in (TENSORS, RECORD):
                file = f"{place}/{name}"
                path = hf_hub_download(to.repo_id, file, revision=info.sha, token=to.token)
                shutil.copyfile(path, pulled / name)
            step = save_checkpoint(folder, load_checkpoint(Path(root))).name
        logger.info("going on from %s of %s", step, to.repo_id)
    except (RepositoryNotFoundError, EntryNotFoundError):
        return
    except FAILURES as error:
        raise explain(error, doing=f"resume from '{to.repo_id}'") from error


def _newest(names: list[str]) -> str | None:
    """The folder of the newest checkpoint among the paths of a repository."""
    if f"{_NEWEST}/{RECORD}" in names:
        return _NEWEST
    folders = [name.rpartition("/")[0] for name in names if name.startswith(f"{_ALL}/step_")]
    if any(".." in folder for folder in folders):
        raise HubError(
            "cannot resume: the repository names files outside of its folders and files inside "
            "are needed; do not use it"
        )
    return max(folders, default=None)


def _push_checkpoint(hub: HubSettings, to: Destination, path: Path, save_draft: SaveDraft) -> None:
    place = _PLACES.get(hub.hub_strategy, "").format(name=path.name)
    with tempfile.TemporaryDirectory(prefix="nlp_meta_draft_") as root:
        draft = Path(root) / "model"
        save_draft(load_checkpoint(path.parent), draft)
        push_folder(
            draft,
            to,
            hub_base_model=hub.hub_base_model,
            beside=checkpoint_files(path, place=place) if place else None,
        )
