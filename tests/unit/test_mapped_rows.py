"""Tasks whose rows stay on disk give the episodes of tasks in memory."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from nlp_meta.data.episodes import EpisodeStream
from nlp_meta.data.mapped_rows import map_task
from nlp_meta.data.tasks import Task
from nlp_meta.errors import DataError, EpisodeError


def write_rows() -> Iterator[dict[str, str | None]]:
    for i in range(40):
        yield {"review": f"review number {i}", "stars": ["bad", "good"][i % 2]}
    yield {"review": "Review  number 0!", "stars": "good"}
    yield {"review": " ", "stars": "good"}
    yield {"review": "nobody named this one", "stars": None}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import datasets

    return datasets.Dataset.from_generator(write_rows, cache_dir=str(tmp_path_factory.mktemp("r")))


@pytest.fixture
def task(rows: Any) -> Task:
    return map_task(rows, name="mapped/reviews", text="review", label="stars")


def test_a_task_has_the_first_of_equal_texts_and_no_row_without_text_or_label(task: Task) -> None:
    """Of 43 rows 40 are left: row 40 repeats row 0, the two behind it lack a text or a label."""
    assert task.labels == ("bad", "good")
    assert [example.source for example in task.train] == [
        *(f"review number {i}" for i in range(0, 40, 2)),
        *(f"review number {i}" for i in range(1, 40, 2)),
    ]
    assert [example.target for example in task.train] == ["bad"] * 20 + ["good"] * 20
    assert task.train[:2] == [task.train[0], task.train[1]] and task.train[-1] == task.train[39]


def test_episodes_are_those_of_the_same_rows_in_memory(task: Task) -> None:
    in_memory = replace(task, train=tuple(task.train))
    streams = [
        EpisodeStream((one,), shot=4, query_shot=6, sampling="size", seed=3)
        for one in (task, in_memory)
    ]

    for index in (0, 1, 7):
        assert streams[0].at(index) == streams[1].at(index)


def test_columns_and_labels_that_are_too_few_are_refused(rows: Any, task: Task) -> None:
    with pytest.raises(DataError, match=r"no column label, text.*`text` or `label`"):
        map_task(rows, name="mapped/reviews")
    with pytest.raises(EpisodeError, match="'bad' has 20 examples, 10 support"):
        EpisodeStream((task,), shot=10, query_shot=11, sampling="uniform", seed=0)
