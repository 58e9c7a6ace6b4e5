"""The page of a training run, and of several side by side."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from nlp_meta.cli import main
from nlp_meta.errors import DataError, OutputError
from nlp_meta.hub.storage import layout_of
from nlp_meta.meta.state import StepRecord, write_log
from nlp_meta.report.runs import Run, find_runs, read_run, say_time, write_runs
from nlp_meta.settings import RunSettings
from nlp_meta.training.run import _Page, check_run_output


def line(step, *, before, after, score=None, moved=1.0):
    skills = {"classification": {"loss_before": before, "loss_after": after, "episodes": 4.0}}
    return {
        "step": step,
        "examples": 10 * step,
        "adaptation_size": moved,
        "skills": skills,
        "score": score,
        "best_score": score,
        "seconds": 2.0,
    }


LINES = [
    line(1, before=1.0, after=0.8),
    line(2, before=0.9, after=0.6, score=0.5),
    line(3, before=0.8, after=0.4),
]


@pytest.fixture
def runs(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        text = "".join(json.dumps(each) + "\n" for each in LINES)
        (tmp_path / name / "log.jsonl").write_text(text, encoding="utf-8")
    return tmp_path


def test_tells_score_losses_and_time_left():
    run = Run("mine", LINES, steps=10, facts={"tasks": "5 seen, 2 unseen"})

    assert run.scores == [(2, 0.5)]
    assert run.seconds_left == 14.0
    losses = run.losses()["classification"]
    assert losses["after"][-1] == (3, pytest.approx(0.6))  # a mean of those so far
    assert losses["before"][-1] == (3, pytest.approx(0.9))
    assert run.describe() == {
        "outer steps": "3 of 10",
        "examples": "30",
        "time": "6 s",
        "time left": "about 14 s",
        "tasks": "5 seen, 2 unseen",
    }


def test_joint_training_has_no_loss_before_an_adaptation():
    run = Run("joint", [line(1, before=0.7, after=0.7, moved=0.0)])

    assert list(run.losses()["classification"]) == ["after"]


def test_a_run_without_a_step_has_a_page(tmp_path):
    write_runs(tmp_path / "run.html", [Run("new", [], steps=5)], live=True)

    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "No outer step is done yet" in page
    assert 'http-equiv="refresh"' in page


def test_curves_lie_where_their_values_are(tmp_path):
    write_runs(tmp_path / "run.html", [Run("mine", LINES)])

    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    dashed = re.search(r'class="dashed" points="([^"]+)"', page)[1].split()
    upright = [float(point.split(",")[1]) for point in dashed]
    assert upright == sorted(upright)  # the loss before falls, so the line goes down
    assert 'http-equiv="refresh"' not in page
    assert "before adaptation 0.900 at step 3" in page


def test_several_runs_stand_side_by_side(runs, capsys):
    assert main(["runs", str(runs), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert main(["runs", str(runs)]) == 0  # its own page it writes anew

    page = (runs / "runs.html").read_text(encoding="utf-8")
    assert list(told["runs"]) == ["first", "second"]
    assert "first, after adaptation" in page and "second, after adaptation" in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_name_cannot_write_into_the_page(tmp_path):
    write_runs(tmp_path / "run.html", [Run("<script>\u202e", LINES)])

    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "<script>" not in page and "\u202e" not in page


def test_another_file_is_not_lost(runs):
    (runs / "runs.html").write_text("mine", encoding="utf-8")

    with pytest.raises(OutputError, match=r"runs\.html"):
        write_runs(runs / "runs.html", find_runs(runs))
    assert (runs / "runs.html").read_text(encoding="utf-8") == "mine"


def test_a_run_does_not_begin_where_its_page_would_replace_a_file(tmp_path):
    (tmp_path / "run.html").write_text("mine", encoding="utf-8")
    run = RunSettings(0, str(tmp_path), None, "no", 2048, None, [], resume=False)

    with pytest.raises(OutputError, match=r"run\.html"):
        check_run_output(run, layout_of("start", ["classification"]))
    check_run_output(replace(run, replace=True), layout_of("start", ["classification"]))


def test_what_is_no_run_is_told(tmp_path, runs):
    (runs / "first" / "log.jsonl").write_text("[]\n", encoding="utf-8")

    with pytest.raises(DataError, match="is not that of an outer step"):
        read_run(runs / "first")
    with pytest.raises(DataError, match=r"no log\.jsonl is in it"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(DataError, match="or right below it"):
        find_runs(tmp_path / "nowhere")


@pytest.mark.parametrize(("seconds", "words"), [(5, "5 s"), (600, "10 min"), (7200, "2.0 h")])
def test_times_are_said(seconds, words):
    assert say_time(seconds) == words


def test_the_page_of_a_run_that_goes_on_has_what_came_before(tmp_path):
    """As if its whole log were read again."""
    run, outer = SimpleNamespace(output_dir=tmp_path), SimpleNamespace(steps=3)
    settings, process = SimpleNamespace(run=run, outer=outer), SimpleNamespace(is_main_process=True)
    records = [
        StepRecord(**each, learning_rate=0.1, loss_before=1, loss_after=1, gradient_norm=1)
        for each in LINES
    ]
    write_log(tmp_path, records[0])
    page = _Page(settings, process, 5, 2)

    for record in records[1:]:
        write_log(tmp_path, record)
        page.on_outer_step(record)

    again = replace(read_run(tmp_path), steps=3, facts={"tasks": "5 seen, 2 unseen"})
    write_runs(tmp_path / "again.html", [again])
    written = [(tmp_path / name).read_text(encoding="utf-8") for name in ("run.html", "again.html")]
    assert written[0] == written[1]
