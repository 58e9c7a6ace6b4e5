"""What a config of a comparison enters its methods in: labels, translations found or written."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nlp_meta.comparing.bench import AnyBench, Bench
from nlp_meta.comparing.generation import CONTEST, GenerationBench
from nlp_meta.comparing.retrieval import RetrievalBench, retrieval_contest
from nlp_meta.comparing.run import Contest
from nlp_meta.data.cards import CLASSIFICATION, TRANSLATION
from nlp_meta.data.tasks import Task
from nlp_meta.errors import SettingsError
from nlp_meta.settings import Comparison, GenerationComparison, RetrievalComparison
from nlp_meta.training.generation import judged_pairs
from nlp_meta.training.plan import validation_episodes
from nlp_meta.training.run import union_of_labels

AnyComparison = Comparison | RetrievalComparison | GenerationComparison
Tasks = Sequence[Task]

SECTIONS: Mapping[str, type[AnyComparison]] = {
    "rivals": Comparison,
    "retrieval": RetrievalComparison,
    "generation": GenerationComparison,
}
"""Settings by the section that no other comparison has."""


def fitting_tasks(settings: AnyComparison, tasks: Tasks) -> tuple[Task, ...]:
    """Leave out the tasks of the other kind, which cards of mixed training bring along.

    Raises:
        SettingsError: None is left.
    """
    kind = _TASKS[type(settings)]
    found = tuple(task for task in tasks if task.kind == kind)
    if not found:
        raise SettingsError(
            f"cannot compare methods of {kind} on {len(tasks)} tasks of which none is of that "
            "kind: at least one for meta-validation and one for meta-test are needed; add a card "
            "to `data.cards`"
        )
    return found


def enter(
    settings: AnyComparison, *, train: Tasks, validation: Tasks, test: Tasks
) -> tuple[AnyBench, Contest]:
    """Set up the bench that methods are built on, and what they compete in.

    Args:
        test: Without what leaks.
    """
    judged = fitting_tasks(settings, validation)
    return _ENTER[type(settings)](settings, train, judged, test)


def _enter_labels(
    settings: Comparison, _train: Tasks, validation: Tasks, test: Tasks
) -> tuple[AnyBench, Contest]:
    judged = validation_episodes(validation, settings.adaptation)
    labels = union_of_labels((*validation, *test))
    return Bench(settings, labels, judged), Contest()


def _enter_retrieval(
    settings: RetrievalComparison, train: Tasks, validation: Tasks, test: Tasks
) -> tuple[AnyBench, Contest]:
    judged = validation_episodes(validation, settings.adaptation)
    bench = RetrievalBench(settings, judged)
    return bench, retrieval_contest(settings, (*test, *validation, *train))


_TASKS: Mapping[type, str] = {
    Comparison: CLASSIFICATION,
    RetrievalComparison: TRANSLATION,
    GenerationComparison: TRANSLATION,
}


def _enter_generation(
    settings: GenerationComparison, _train: Tasks, validation: Tasks, _test: Tasks
) -> tuple[AnyBench, Contest]:
    judged = judged_pairs(validation, settings.adaptation)
    return GenerationBench(settings, judged), CONTEST


_ENTER: Mapping[type, Callable[[Any, Tasks, Tasks, Tasks], tuple[AnyBench, Contest]]] = {
    Comparison: _enter_labels,
    RetrievalComparison: _enter_retrieval,
    GenerationComparison: _enter_generation,
}
