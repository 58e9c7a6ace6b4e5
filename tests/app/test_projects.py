"""A project keeps every label, whoever writes, and is read as a table is."""

import sqlite3

import pytest

from nlp_meta.errors import DataError
from nlp_meta.files.projects import DATABASE, LABELED, OPEN, SKIPPED, UNSURE, Project
from nlp_meta.files.tables import read_table


def label(project, row, name, **settings):
    return project.answer(row.id, row.version, state=LABELED, label=name, **settings)


def test_a_label_is_there_for_another_connection(project):
    row, is_random = project.next_row()

    assert label(project, row, "good", is_random=is_random)
    again = Project(project.folder).find_row(row.id)
    assert (again.state, again.label, again.is_random) == (LABELED, "good", True)


def test_every_write_waits_for_the_disk(project):
    """2 is FULL: SQLite waits for the disk at each commit of a write-ahead log."""
    read = project._base.execute

    assert read("PRAGMA synchronous").fetchone() == (2,)
    assert read("PRAGMA journal_mode").fetchone() == ("wal",)


def test_an_old_window_overwrites_nothing(project):
    row, _ = project.next_row()
    label(project, row, "good")

    assert not label(project, row, "bad")
    assert project.find_row(row.id).label == "good"


def test_two_windows_that_agree_do_not_quarrel(project):
    row, _ = project.next_row()

    assert label(project, row, "good") and label(project, row, "good")


def test_undo_walks_back_through_all_changes(project):
    """Two changes of one row, then one of another, taken back one by one."""
    first, _ = project.next_row()
    label(project, first, "good")
    second, _ = project.next_row()
    label(project, second, "bad")
    label(project, project.find_row(first.id), "bad")

    states = []
    while project.undo():
        states.append([project.find_row(row.id).label for row in (first, second)])
    assert states == [["good", "bad"], ["good", None], [None, None]]


def test_every_other_text_is_random_once_there_are_suggestions(project):
    project.write_fact("suggested", [9, 10, 1, 2, 3])

    kinds = []
    for _ in range(6):
        row, is_random = project.next_row()
        label(project, row, "good", is_random=is_random)
        kinds.append(is_random)
    assert kinds == [True, False] * 3
    assert sum(row.is_random for row in project.list_rows(LABELED)) == 3


def test_skipped_texts_come_again_at_the_end_and_unsure_ones_do_not(project):
    first, _ = project.next_row()
    project.answer(first.id, first.version, state=SKIPPED)
    second, _ = project.next_row()
    project.answer(second.id, second.version, state=UNSURE)
    seen = []
    while project.count_states()[OPEN]:
        row, _ = project.next_row()
        seen.append(row.id)
        label(project, row, "good")

    assert len(seen) == 8 and not {first.id, second.id} & set(seen)
    assert project.next_row()[0].id == first.id


def test_a_table_is_taken_once(project):
    with pytest.raises(DataError, match="has texts already"):
        project.set_up([], [], text_column="a", columns=["a"], labels=["x", "y"], given=[])


def test_the_command_line_reads_labels_and_texts_of_the_folder(project):
    row, _ = project.next_row()
    label(project, row, "good")

    labeled = read_table(project.folder, max_rows=100)
    assert (labeled.texts, labeled.labels) == ((row.text,), ("good",))
    everything = read_table(project.folder, label_column=None, max_rows=100)
    assert len(everything.texts) == 10 and everything.columns == ("id", "text")


def test_a_project_without_labels_says_so(project):
    with pytest.raises(DataError, match="has no label yet"):
        read_table(project.folder, max_rows=100)


def test_a_project_of_a_later_release_is_left_alone(project):
    with sqlite3.connect(project.folder / DATABASE) as base:
        base.execute("PRAGMA user_version = 99")

    with pytest.raises(DataError, match="a later release"):
        Project(project.folder)
