"""Adaptations in the background: labels in, a new domain out, while others are answered.

One thread adapts, one job after the other, over the tensors of the pack's encoder but
with modules and a tokenizer of its own.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.labels import LabelMatch, check_labels, match_labels
from nlp_meta.encoders.backbone import Backbone
from nlp_meta.errors import NlpMetaError, RequestError
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.texts import check_labeled
from nlp_meta.objectives.classification import Classification
from nlp_meta.serving.limits import THREADS, hide_folders
from nlp_meta.serving.pack import DomainPack, check_base

logger = logging.getLogger(__name__)

MOST_WAITING = 16
MOST_KEPT = 100
"""Jobs that are remembered; the oldest finished ones are forgotten first."""
OPEN = ("waiting", "running")


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be adapted.

    Attributes:
        folder: Where the result is saved; None leaves it in memory.
        options: Of `MetaModel.adapt`.
    """

    domain: str
    texts: Sequence[str]
    labels: Sequence[str]
    folder: Path | None
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: `waiting`, `running`, `done`, `failed` or `stopped`.

    Attributes:
        saved_to: Folder in the one for adapted models.
        notes: Sentences on what was taken for granted and what was left out.
    """

    job: str
    domain: str
    status: str
    steps_done: int = 0
    steps: int | None = None
    saved_to: str | None = None
    labels: Sequence[str] | None = None
    report: Mapping[str, object] | None = None
    notes: Sequence[str] = ()
    error: str | None = None


class Stopped(Exception):  # noqa: N818  it is no error
    """Nobody would have the result: the server stops, or the job was canceled."""


class Jobs:
    """Adapts in one thread; any thread may ask."""

    def __init__(
        self, pack: DomainPack, meta: MetaModel, *, name: str, on_end: Callable[[str], None]
    ) -> None:
        """Share the pack's encoder with a start.

        Args:
            name: Of the start, as the user typed it.
            on_end: Called with the last status of each job.

        Raises:
            BackboneError: It was trained on another encoder or pooling.
        """
        check_base(meta.encoder_settings, pack.base, name=name)
        self.pack, self.on_end = pack, on_end
        settings = meta.encoder_settings
        twin = replace(
            pack.twin(), prefix_text=settings.prefix_text, max_tokens=settings.max_tokens
        )
        self.meta = _over(meta, twin)
        self._progress: dict[str, Progress] = {}
        self._waiting: dict[str, Order] = {}
        self._canceled: set[str] = set()
        self._until: float | None = None
        self._is_working = False
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, f"{THREADS}adapter")

    def begin(self, order: Order) -> Progress:
        """Put an adaptation in the queue.

        Raises:
            LabelError, DataError: Nothing can be learned from these texts and labels.
            RequestError: Too many jobs wait, or one of this domain does.
        """
        check_labels(self._match(order).labels)
        with self._lock:
            self._check_room(order.domain)
            progress = Progress(secrets.token_hex(8), order.domain, "waiting")
            self._progress[progress.job] = progress
            self._waiting[progress.job] = order
            self._forget()
            if not self._is_working:
                self._thread.submit(self._work_all)
                self._is_working = True
        return progress

    def find(self, job: str) -> Progress:
        """Say how far a job is.

        Raises:
            RequestError: There is none of that name.
        """
        with self._lock:
            if job in self._progress:
                return self._progress[job]
        raise RequestError(
            f"cannot find the job '{job}': the name that POST /adapt gave is needed; correct it, "
            "or adapt again",
            status=404,
        )

    @property
    def domains(self) -> set[str]:
        """Domains of the jobs that wait or run."""
        with self._lock:
            return {p.domain for p in self._progress.values() if p.status in OPEN}

    def cancel(self, job: str) -> Progress:
        """Cancel a job: at once if it waits, before its next inner step if it runs.

        Raises:
            RequestError: There is none of that name, or it has ended.
        """
        progress = self.find(job)
        with self._lock:
            progress = self._progress.get(job, progress)
            if progress.status not in OPEN:
                raise RequestError(
                    f"cannot cancel the job '{job}': it is {progress.status} and one that waits or "
                    "runs is needed; unload its domain if you do not want it",
                    status=409,
                )
            self._canceled.add(job)
            if self._waiting.pop(job, None) is None:
                return progress
        self._end(job, "stopped", error=_canceled(progress.domain))
        return self.find(job)

    def stop(self, *, within: float) -> None:
        """Stop what would be lost with the process, and in some seconds what will be saved."""
        self._until = time.monotonic() + within

    def close(self) -> None:
        """Let the thread end after the job that it works at."""
        self._thread.shutdown(wait=False)

    def _check_room(self, domain: str) -> None:
        unfinished = [p.domain for p in self._progress.values() if p.status in OPEN]
        if domain in unfinished:
            raise RequestError(
                f"cannot adapt '{domain}' twice at once: a job for it is under way and one is "
                "needed; wait for its end, or choose another `domain`",
                status=409,
            )
        if len(unfinished) >= MOST_WAITING:
            raise RequestError(
                f"cannot take one more adaptation: {len(unfinished)} wait already and at most "
                f"{MOST_WAITING} may; try again when one has ended",
                status=503,
            )

    def _forget(self) -> None:
        ended = [job for job, progress in self._progress.items() if progress.status not in OPEN]
        for job in ended[: max(0, len(self._progress) - MOST_KEPT)]:
            del self._progress[job]

    def _set(self, job: str, **changes: Any) -> None:
        with self._lock:
            self._progress[job] = replace(self._progress[job], **changes)

    def _work_all(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_working = False
                    return
                job = next(iter(self._waiting))
                order = self._waiting.pop(job)
                self._progress[job] = replace(self._progress[job], status="running")
            self._work(job, order)

    def _work(self, job: str, order: Order) -> None:
        try:
            adapted = self._adapt(job, order)
            if order.folder is not None:
                adapted.save_pretrained(order.folder)
            self.pack.add(order.domain, adapted, source=order.folder.name if order.folder else "")
            self._end(job, "done", **_describe(adapted, order))
        except Stopped as stopped:
            self._end(job, "stopped", error=str(stopped))
        except (NlpMetaError, OSError) as error:
            self._end(job, "failed", error=hide_folders(" ".join(str(error).split())))
        except Exception:
            logger.exception("adapting '%s' failed", order.domain)
            self._end(job, "failed", error=_unexpected(order.domain))

    def _end(self, job: str, status: str, **changes: Any) -> None:
        self._set(job, status=status, **changes)
        self._canceled.discard(job)
        self.on_end(status)

    def _check_wanted(self, job: str, order: Order) -> None:
        if job in self._canceled:
            raise Stopped(_canceled(order.domain))
        until = self._until
        if until is not None and (order.folder is None or time.monotonic() > until):
            raise Stopped(f"cannot adapt '{order.domain}': the server stops")

    def _adapt(self, job: str, order: Order) -> AdaptedModel:
        def on_step(done: int, total: int) -> None:
            self._check_wanted(job, order)
            self._set(job, steps_done=done, steps=total)

        self._check_wanted(job, order)
        adapted = self._start_for(order).adapt(
            order.texts, order.labels, on_step=on_step, **order.options
        )
        self._check_wanted(job, order)
        return adapted

    def _match(self, order: Order) -> LabelMatch:
        options = order.options
        left_out = {name: options[name] for name in ("drop_labels", "empty") if name in options}
        _, labels, _ = check_labeled(order.texts, order.labels, **left_out)
        return match_labels(labels, self.meta.labels, label_map=options.get("label_map"))

    def _start_for(self, order: Order) -> MetaModel:
        """The start; for labels that are new to it one that takes inner steps.

        Its head over views would be made on the encoder mean-pooled, which is not the one of the
        other domains.
        """
        if self._match(order).shared or self.pack.base.pooling == "mean":
            return self.meta
        how = replace(self.meta.adaptation[CLASSIFICATION], trust=None)
        return replace(self.meta, adaptation={CLASSIFICATION: how})


def _over(meta: MetaModel, backbone: Backbone) -> MetaModel:
    objective = meta.objective_of(CLASSIFICATION, Classification).over(backbone)
    return replace(meta, objectives={CLASSIFICATION: objective})


def _describe(adapted: AdaptedModel, order: Order) -> dict[str, Any]:
    return {
        "labels": adapted.labels,
        "report": asdict(replace(adapted.report, text_hashes=())) if adapted.report else None,
        "notes": adapted.match.notes if adapted.match else (),
        "saved_to": None if order.folder is None else order.folder.name,
    }


def _canceled(domain: str) -> str:
    return f"cannot adapt '{domain}': the job was canceled"


def _unexpected(domain: str) -> str:
    return (
        f"cannot adapt '{domain}': something unexpected went wrong and the server's log says "
        "what; report it with that log"
    )
