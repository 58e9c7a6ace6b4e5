"""Episodes of rows that stay on disk: the properties of those in memory."""

from pathlib import Path
from typing import Any

import pytest

from nlp_meta.data.duplicates import text_key
from nlp_meta.data.mapped_tasks import MappedStream, map_task
from nlp_meta.errors import DataError, EpisodeError


@pytest.fixture
def rows(tmp_path: Path) -> Any:
    import datasets

    def write() -> Any:
        for i in range(40):
            yield {"review": f"review number {i}", "stars": ["bad", "good"][i % 2]}
        yield {"review": "Review  number 0!", "stars": "good"}
        yield {"review": " ", "stars": "good"}
        yield {"review": "nobody named this one", "stars": None}

    return datasets.Dataset.from_generator(write, cache_dir=str(tmp_path))


def test_episodes_are_drawn_by_number_and_no_text_stands_on_both_sides(rows: Any) -> None:
    task = map_task(rows, name="mapped/reviews", text="review", label="stars")
    stream = MappedStream((task,), shot=4, query_shot=6, sampling="uniform", seed=3)

    for index in (0, 1, 7):
        episode = stream.at(index)
        texts = [text_key(e.source) for e in (*episode.support, *episode.query)]
        assert episode == stream.at(index)
        assert sorted(e.target for e in episode.support) == ["bad"] * 4 + ["good"] * 4
        assert len(episode.query) == 12 and len(set(texts)) == 20
    assert stream.at(0) != stream.at(1)


def test_a_pool_holds_the_first_of_equal_texts_and_no_row_without_text_or_label(rows: Any) -> None:
    """Of 43 rows 40 are left: row 40 repeats row 0, the two behind it lack a text or a label."""
    task = map_task(rows, name="mapped/reviews", text="review", label="stars")

    assert {label: pool.tolist() for label, pool in task.pools.items()} == {
        "bad": list(range(0, 40, 2)),
        "good": list(range(1, 40, 2)),
    }
    assert [e.source for e in task.sample(2).train] == [f"review number {i}" for i in range(4)]


def test_columns_and_pools_that_are_too_small_are_refused(rows: Any) -> None:
    task = map_task(rows, name="mapped/reviews", text="review", label="stars")

    with pytest.raises(DataError, match=r"no column label, text.*`text` or `label`"):
        map_task(rows, name="mapped/reviews")
    with pytest.raises(EpisodeError, match="'bad' has 20 different texts, 10 support"):
        MappedStream((task,), shot=10, query_shot=11, sampling="uniform", seed=0)
