"""Records: what is finished stays finished, and nothing else is taken for it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nlp_meta.data.answers import Prediction
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.errors import DataError, SettingsError
from nlp_meta.evaluation.protocol import (
    CellKey,
    FinishedCell,
    append_record,
    check_record,
    columns_of,
    hash_query,
    judge,
    key_of_episode,
    read_records,
    row_key,
)

LABELS = ("bad", "good")


def episode(draw: int = 0, *, rows: int = 3, word: str = "support", mark: str = "") -> Episode:
    support = tuple(Example(f"{word} {draw} {i}", LABELS[i % 2]) for i in range(4))
    query = tuple(Example(f"query {i}{mark}\u2028", LABELS[i % 2]) for i in range(rows))
    return Episode("reviews/kitchen", LABELS, support, query, draw)


def record(method: str = "probe", draw: int = 0) -> FinishedCell:
    given = episode(draw)
    answers = [Prediction("good", {"bad": 0.1 + draw / 7, "good": 0.9 - draw / 7})] * 3
    judgment = judge(lambda _: lambda _: answers, given, method=method)
    return FinishedCell(method, judgment.cell, judgment.answers, {"steps": 5}, hash_query(given))


def test_what_was_written_is_read_as_it_was(tmp_path: Path):
    kept = [record(draw=0), record(draw=1)]
    for one in kept:
        append_record(tmp_path, one, fingerprint="f", rank=0)

    found = read_records(tmp_path, fingerprints={"probe": "f"})

    assert found == {one.key: one for one in kept}


def test_a_torn_line_is_no_cell_and_does_not_damage_the_next(tmp_path: Path):
    append_record(tmp_path, record(draw=0), fingerprint="f", rank=0)
    path = tmp_path / "cells" / "probe.0.jsonl"
    with path.open("a", encoding="utf-8") as file:
        file.write('{"fingerprint": "f", "meth')

    first = read_records(tmp_path, fingerprints={"probe": "f"})
    append_record(tmp_path, record(draw=1), fingerprint="f", rank=0)
    second = read_records(tmp_path, fingerprints={"probe": "f"})

    assert [key.draw for key in first] == [0]
    assert [key.draw for key in second] == [0, 1]


def test_cells_of_all_processes_are_read_and_those_of_other_methods_left(tmp_path: Path):
    append_record(tmp_path, record(draw=0), fingerprint="f", rank=0)
    append_record(tmp_path, record(draw=1), fingerprint="f", rank=1)
    append_record(tmp_path, record("lora"), fingerprint="g", rank=0)

    found = read_records(tmp_path, fingerprints={"probe": "f"})

    assert sorted(found) == [CellKey("probe", "reviews/kitchen", 4, draw) for draw in (0, 1)]


def test_cells_of_other_settings_stop_the_run(tmp_path: Path):
    append_record(tmp_path, record(), fingerprint="old", rank=0)

    with pytest.raises(SettingsError, match=r"'probe'.*other settings.*run\.output_dir"):
        read_records(tmp_path, fingerprints={"probe": "new"})


def test_a_damaged_line_is_named(tmp_path: Path):
    append_record(tmp_path, record(), fingerprint="f", rank=0)
    path = tmp_path / "cells" / "probe.0.jsonl"
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["cell"]["accuracy"]
    path.write_text(json.dumps(values) + "\n", encoding="utf-8")

    with pytest.raises(DataError, match=r"line 1 of .*probe\.0\.jsonl"):
        read_records(tmp_path, fingerprints={"probe": "f"})


def test_a_cell_of_other_data_is_refused():
    with pytest.raises(DataError, match="other rows"):
        check_record(record(), episode(word="other"))
    with pytest.raises(DataError, match="other rows"):
        check_record(record(), episode(rows=2))
    check_record(record(), episode())
    with pytest.raises(DataError, match="other rows"):
        check_record(record(), episode(mark="!"))
    with pytest.raises(DataError, match="other rows or languages"):
        check_record(record(), replace(episode(), language="ind"))


def test_a_cell_whose_labels_were_altered_is_refused(tmp_path: Path):
    """Names changed, then names swapped, which turns every answer round."""
    append_record(tmp_path, record(), fingerprint="f", rank=0)
    path = tmp_path / "cells" / "probe.0.jsonl"
    values = json.loads(path.read_text(encoding="utf-8"))
    for names in (["bad", "odd"], ["good", "bad"]):
        path.write_text(json.dumps({**values, "labels": names}) + "\n", encoding="utf-8")
        (found,) = read_records(tmp_path, fingerprints={"probe": "f"}).values()
        with pytest.raises(DataError, match=r"at 4 labels are damaged.*delete its line"):
            check_record(found, episode())


def test_a_line_that_is_no_text_is_named(tmp_path: Path):
    append_record(tmp_path, record(), fingerprint="f", rank=0)
    path = tmp_path / "cells" / "probe.0.jsonl"
    path.write_bytes(path.read_bytes() + b"\xff\xfe\n")

    with pytest.raises(DataError, match=r"line 2 of .*probe\.0\.jsonl"):
        read_records(tmp_path, fingerprints={"probe": "f"})


def test_answers_become_rows_of_a_table():
    """By hand: three queries of one cell; the predicted label is good at 0.9."""
    one, given = record(), episode()

    columns = columns_of([one], {("reviews/kitchen", 4, 0): given})

    assert columns["method"] == ["probe"] * 3
    assert columns["row"] == [row_key(example.source) for example in given.query]
    assert len(set(columns["row"])) == 3
    assert columns["true"] == ["bad", "good", "bad"]
    assert (columns["predicted"], columns["probability"]) == (["good"] * 3, [0.9] * 3)
    assert key_of_episode("probe", given) == one.key
