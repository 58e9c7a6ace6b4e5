"""What a config of a comparison enters its methods in: labels, translations found or written."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nlp_meta.comparing.bench import AnyBench, Bench
from nlp_meta.comparing.retrieving import RetrievalBench, retrieval_contest
from nlp_meta.comparing.running import Contest
from nlp_meta.data.tasks import Task
from nlp_meta.evaluation.protocol import Stopwatch
from nlp_meta.mixed_training import validation_episodes
from nlp_meta.settings import Comparison, RetrievalComparison
from nlp_meta.training import union_of_labels

AnyComparison = Comparison | RetrievalComparison
Tasks = Sequence[Task]

SECTIONS: Mapping[str, type[AnyComparison]] = {
    "rivals": Comparison,
    "retrieval": RetrievalComparison,
}
"""Settings by the section that no other comparison has."""


def enter(
    settings: AnyComparison, *, train: Tasks, validation: Tasks, test: Tasks
) -> tuple[AnyBench, Contest]:
    """Set up the bench that methods are built on, and what they compete in.

    Args:
        test: Without what leaks.
    """
    return _ENTER[type(settings)](settings, train, validation, test)


def _enter_labels(
    settings: Comparison, _train: Tasks, validation: Tasks, test: Tasks
) -> tuple[AnyBench, Contest]:
    judged = validation_episodes(validation, settings.adaptation)
    labels = union_of_labels((*validation, *test))
    return Bench(settings, labels, judged, Stopwatch()), Contest()


def _enter_retrieval(
    settings: RetrievalComparison, train: Tasks, validation: Tasks, test: Tasks
) -> tuple[AnyBench, Contest]:
    judged = validation_episodes(validation, settings.adaptation)
    bench = RetrievalBench(settings, judged, Stopwatch())
    return bench, retrieval_contest(settings, (*test, *validation, *train))


_ENTER: Mapping[type, Callable[[Any, Tasks, Tasks, Tasks], tuple[AnyBench, Contest]]] = {
    Comparison: _enter_labels,
    RetrievalComparison: _enter_retrieval,
}
