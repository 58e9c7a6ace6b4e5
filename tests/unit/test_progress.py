"""Progress where there is no terminal: a line now and then, and how long a work will take."""

import logging
from io import StringIO
from types import SimpleNamespace

import pytest
from rich.console import Console

from nlp_meta import progress
from nlp_meta.progress import Outlook, say_duration, show_count, show_steps


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time, which the test moves."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_file_gets_a_line_every_half_minute(clock):
    """10 of 100 in 35 seconds leave 315; what comes within 30 seconds of a line is none."""
    file = StringIO()
    with show_count("cell", console=Console(file=file)) as on_step:
        for done, seconds in ((1, 5.0), (10, 35.0), (11, 40.0), (18, 66.0)):
            clock[0] = seconds
            on_step(done, 100)

    assert file.getvalue().splitlines() == [
        "cell 10 of 100, about 5 min left",
        "cell 18 of 100, about 5 min left",
    ]


def test_a_line_tells_the_loss_of_its_own_step(clock, capsys):
    """The loss before adaptation is measured now and then; a step without it shows no older one."""
    with show_steps(9) as on_step:
        for step, before in ((1, 0.7), (2, None)):
            clock[0] += 40.0
            on_step(SimpleNamespace(step=step, loss_before=before, loss_after=0.5, best_score=None))

    lines = capsys.readouterr().err.splitlines()
    assert [line.split(", ")[1] for line in lines] == ["loss 0.700 > 0.500", "loss 0.500"]


def test_a_terminal_gets_a_bar_and_no_lines(clock):
    file = StringIO()
    console = Console(file=file, force_terminal=True, width=80)
    with show_count("cell", console=console) as on_step:
        clock[0] = 100.0
        on_step(10, 100)

    assert "10/100" in file.getvalue() and "of 100" not in file.getvalue()


def test_the_first_round_tells_how_long_all_rounds_take(clock, caplog):
    """Nine more of 10 and of 20 seconds are 270."""
    with caplog.at_level(logging.INFO):
        outlook = Outlook({("quick", 8): 10, ("slow", 8): 10}, expected=290.0)
        for method, seconds in (("quick", 10.0), ("slow", 30.0), ("quick", 40.0)):
            clock[0] = seconds
            outlook(method, 8)

    assert caplog.messages[0] == "2 methods, about 5 min by a first look"
    assert caplog.messages[1:] == [
        "20 trainings of 2 methods, about 4 min more, most of it for slow"
    ]


def test_a_single_round_is_not_foretold(clock, caplog):
    with caplog.at_level(logging.INFO):
        outlook = Outlook({("quick", 8): 1})
        clock[0] = 10.0
        outlook("quick", 8)

    assert caplog.messages == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (60, "60 s"), (125, "2 min"), (3600, "1 h 0 min"), (9000, "2 h 30 min")],
)
def test_a_time_is_told_in_units_that_matter(seconds, words):
    assert say_duration(seconds) == words
