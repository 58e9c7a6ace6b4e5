"""Beginning a run under Accelerate: as many processes as were asked for, and its trackers."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator, InitProcessGroupKwargs

from nlp_meta.errors import SettingsError
from nlp_meta.hub.storage import check_replaceable
from nlp_meta.meta.state import StepRecord
from nlp_meta.settings import RunSettings


@dataclass(frozen=True, slots=True)
class Share:
    """This process among those that share a comparison's cells.

    Attributes:
        wait: Returns when every process has come so far.
    """

    rank: int = 0
    processes: int = 1
    wait: Callable[[], None] = lambda: None


def share_cells() -> Share:
    """Begin as one of the processes that were launched to share a comparison."""
    # The slowest share may take hours longer than the quickest.
    patient = InitProcessGroupKwargs(timeout=timedelta(days=1))
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[patient])
    return Share(
        accelerator.process_index, accelerator.num_processes, accelerator.wait_for_everyone
    )


def start_accelerator(run: RunSettings) -> Accelerator:
    """Begin as one of the processes that were launched.

    Raises:
        SettingsError: Fewer processes run than were asked for.
        MetaModelError: `run.output_dir` holds something that the meta-model would replace.
    """
    check_replaceable(Path(run.output_dir))
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        log_with=run.report_to or None,
        project_dir=run.output_dir,
    )
    # `accelerate launch --cpu --num_processes 2` names a master port and starts one process.
    alone = "MASTER_PORT" in os.environ and "WORLD_SIZE" not in os.environ
    wanted = run.num_processes or accelerator.num_processes
    if alone or accelerator.num_processes != wanted:
        asked = "several" if alone else str(wanted)
        raise SettingsError(
            f"cannot train: {asked} processes were asked for and {accelerator.num_processes} "
            "started; as many as asked for are needed; on CPUs launch with "
            "`ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 recipes/meta_train.py ...` or "
            "change `run.num_processes`"
        )
    return accelerator


def with_trackers(
    accelerator: Accelerator, on_step: Callable[[StepRecord], None] | None
) -> Callable[[StepRecord], None]:
    """Give each outer step to the trackers of `run.report_to`, then to `on_step`."""

    def report(record: StepRecord) -> None:
        # Not before the first step: a run that fails earlier must leave nothing behind.
        if accelerator.log_with and not accelerator.trackers:
            accelerator.init_trackers("nlp_meta")
        values = asdict(record)
        skills = values.pop("skills")
        values |= {f"{skill}.{name}": v for skill, its in skills.items() for name, v in its.items()}
        told = {name: value for name, value in values.items() if value is not None}
        accelerator.log(told, step=record.step)
        if on_step:
            on_step(record)

    return report
