"""Running a comparison: every cell once, whatever stops it, however many share it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_type_hints

import pytest

from nlp_meta.comparing import methods as table
from nlp_meta.comparing.bench import CONTESTS, Bench, Method, draw_episodes
from nlp_meta.comparing.fingerprints import fingerprint
from nlp_meta.comparing.methods import (
    METHODS,
    Inputs,
    MethodRow,
    find_method,
    methods_of,
    no_choice,
)
from nlp_meta.comparing.run import Ran, run_comparison
from nlp_meta.data.answers import Learned
from nlp_meta.data.episodes import Episode, SupportSet
from nlp_meta.data.tasks import Example, Task, load_tasks
from nlp_meta.errors import DataError, MissingPackageError, SettingsError
from nlp_meta.evaluation.results import Analysis, analyze
from nlp_meta.settings import Comparison
from nlp_meta.training.config import read_settings
from nlp_meta.training.run import Share

CONFIG = Path(__file__).resolve().parents[2] / "recipes/configs/compare_reviews.yaml"


def settings(methods: dict[str, str], **plan: object) -> Comparison:
    words = ["--config", str(CONFIG), "--comparison.methods", json.dumps(methods)]
    read = read_settings(Comparison, words)
    small = {"ours": None, "labels": [0, 8], "draws": 2, "max_query": 6, "limits": {}, **plan}
    return replace(read, comparison=replace(read.comparison, **small))  # type: ignore[arg-type]


def bench(methods: dict[str, str], **plan: object) -> Bench:
    return Bench(settings(methods, **plan), (), ("negative", "positive"))


@pytest.fixture(scope="module")
def tasks() -> tuple[Task, ...]:
    return load_tasks(["nlp_meta_reviews"], meta_split="meta-validation")


def without_times(ran: Ran) -> dict[object, object]:
    found = {}
    for key, record in ran.records.items():
        cell = asdict(record.cell)
        del cell["seconds_adapt"], cell["ms_per_prediction"]
        found[key] = (cell, record.predictions, record.facts)
    return found


def run(one: Bench, tasks: Sequence[Task], folder: Path, share: Share | None = None) -> Ran:
    return run_comparison(one, tasks, folder=folder, share=share or Share())


def test_every_method_is_judged_on_every_episode_that_it_can_answer(tasks, tmp_path):
    """By hand: 2 tasks, 2 draws, 8 labels; with 0 labels there is nothing to count n-grams of."""
    ran = run(bench({"ngrams": "ngrams"}), tasks, tmp_path)

    assert len(ran.episodes) == 2 * 2 * 2
    assert sorted((key.labels, key.draw) for key in ran.records) == [(8, 0)] * 2 + [(8, 1)] * 2
    assert ran.facts["ngrams"]["skipped"] is None


@pytest.mark.parametrize("limited", ["ngrams", "again"])
def test_methods_with_a_part_of_the_draws_are_paired_on_those_that_both_have(
    tasks, tmp_path, limited
):
    """Two methods that are one: whoever has fewer draws, nothing lies between them."""
    methods = {"ngrams": "ngrams", "again": "ngrams"}
    one = bench(methods, ours="ngrams", labels=[8], draws=3, limits={limited: 2})
    ran = run(one, tasks, tmp_path)

    analysis = Analysis("accuracy", "ngrams", over_tasks=False, resamples=50, seed=0)
    results = analyze(ran.records, ran.episodes, analysis)

    assert sorted(key.draw for key in ran.records if key.method == limited) == [0, 0, 1, 1]
    (paired,) = results["paired"]
    assert (paired["difference"], paired["p"]) == (0.0, 1.0)
    (even,) = results["break_even"]
    assert even["labels"] == 8


def test_a_method_that_cannot_answer_a_task_is_paired_on_the_others(tasks, tmp_path):
    """Whatever is missing of it, a finished comparison still has its numbers."""
    methods = {"ngrams": "ngrams", "again": "ngrams"}
    ran = run(bench(methods, ours="ngrams", labels=[4, 8], draws=1), tasks, tmp_path)
    first = tasks[0].name
    less = {
        key: record
        for key, record in ran.records.items()
        if key.method == "ngrams" or (key.task != first and key.labels == 8)
    }
    analysis = Analysis("accuracy", "ngrams", over_tasks=False, resamples=50, seed=0)

    results = analyze(less, ran.episodes, analysis)
    nothing = analyze(
        {k: r for k, r in ran.records.items() if (k.method == "ngrams") == (k.task == first)},
        ran.episodes,
        analysis,
    )

    assert [(one["labels"], one["difference"]) for one in results["paired"]] == [(8, 0.0)]
    assert {(one["rival"], one["at"]) for one in results["break_even"]} == {
        ("again", 4),
        ("again", 8),
    }
    assert nothing["paired"] == nothing["break_even"] == []


def test_what_more_labels_should_bring_is_told_of_methods_with_a_curve(tasks, tmp_path):
    """By hand: from 16 labels as many more, and none where only two numbers were measured."""
    ran = run(bench({"ngrams": "ngrams"}, labels=[4, 8, 16]), tasks, tmp_path)
    analysis = Analysis("accuracy", None, over_tasks=False, resamples=50, seed=0)
    few = {key: record for key, record in ran.records.items() if key.labels != 4}

    (gain,) = analyze(ran.records, ran.episodes, analysis)["gains"]

    assert (gain["method"], gain["labels"], gain["more"]) == ("ngrams", 16, 16)
    assert 0 <= float(str(gain["low"])) <= float(str(gain["high"]))
    assert analyze(few, ran.episodes, analysis)["gains"] == []


def test_an_interrupted_run_goes_on_where_it_stopped(tasks, tmp_path, monkeypatch):
    """The third of four cells is interrupted; the next run makes the two that are missing."""
    whole = run(bench({"ngrams": "ngrams"}), tasks, tmp_path / "whole")
    asked: list[SupportSet] = []
    original = METHODS["ngrams"].build

    def counting(one: Bench, argument: str, choice: object) -> Method:
        method = original(one, argument, choice)  # type: ignore[arg-type]

        def learn(support_set: SupportSet) -> Learned:
            asked.append(support_set)
            if len(asked) == 3:
                raise KeyboardInterrupt
            return method.learn(support_set)

        return replace(method, learn=learn)

    counted = {**METHODS, "ngrams": replace(METHODS["ngrams"], build=counting)}
    monkeypatch.setattr(table, "METHODS", counted)
    with pytest.raises(KeyboardInterrupt):
        run(bench({"ngrams": "ngrams"}), tasks, tmp_path / "cut")
    ran = run(bench({"ngrams": "ngrams"}), tasks, tmp_path / "cut")

    assert len(asked) == 3 + 2
    assert without_times(ran) == without_times(whole)


def test_more_draws_and_methods_add_to_what_is_there(tasks, tmp_path):
    first = run(bench({"ngrams": "ngrams"}, draws=1), tasks, tmp_path)
    more = run(bench({"ngrams": "ngrams", "again": "ngrams"}), tasks, tmp_path)

    assert not list(tmp_path.glob(".*.lock"))
    both = {key: more.records[key] for key in first.records}
    assert both == dict(first.records)
    assert {key.method for key in more.records} == {"ngrams", "again"}


def test_two_processes_make_what_one_makes(tasks, tmp_path):
    one = run(bench({"ngrams": "ngrams"}), tasks, tmp_path / "one")
    lists = []
    for rank in (0, 1):
        # Without a partner to wait for, the first finds cells missing that the second makes.
        try:
            run(bench({"ngrams": "ngrams"}), tasks, tmp_path / "two", Share(rank, 2))
        except KeyError:
            assert rank == 0
        lists.append((tmp_path / f"two/cells/ngrams.{rank}.jsonl").read_text("utf-8").splitlines())
    two = run(bench({"ngrams": "ngrams"}), tasks, tmp_path / "two")

    assert [len(lines) for lines in lists] == [2, 2]
    assert without_times(two) == without_times(one)


def test_a_costly_method_may_be_judged_on_fewer_draws(tasks, tmp_path):
    plan = {"limits": {"again": 1}}
    ran = run(bench({"ngrams": "ngrams", "again": "ngrams"}, **plan), tasks, tmp_path)

    draws = {name: {key.draw for key in ran.records if key.method == name} for name in ran.facts}
    assert draws == {"ngrams": {0, 1}, "again": {0}}


def test_cells_of_other_settings_or_data_stop_the_run(tasks, tmp_path):
    run(bench({"ngrams": "ngrams"}), tasks, tmp_path)
    other = bench({"ngrams": "ngrams"}, max_query=5)
    changed = [replace(t, train=(*t.train, Example("one more", "negative"))) for t in tasks]

    with pytest.raises(SettingsError, match="other settings"):
        run(other, tasks, tmp_path)
    with pytest.raises(DataError, match="other rows"):
        run(bench({"ngrams": "ngrams"}), changed, tmp_path)


def test_a_run_with_changed_data_leaves_the_folder_as_it_was(tasks, tmp_path):
    """A third draw is asked for, of data that the first two were not drawn from."""
    run(bench({"ngrams": "ngrams"}), tasks, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json*")}
    changed = [replace(t, train=(*t.train, Example("one more", "negative"))) for t in tasks]

    with pytest.raises(DataError, match="other rows"):
        run(bench({"ngrams": "ngrams", "again": "ngrams"}, draws=3), changed, tmp_path)

    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json*")} == before
    assert len(run(bench({"ngrams": "ngrams"}, draws=3), tasks, tmp_path).records) == 2 * 3


@pytest.mark.parametrize("damage", [b"", b'{"steps": 5', b"\xff\xfe", b"[1]"])
def test_a_damaged_choice_is_made_again_and_that_is_said_once(tasks, tmp_path, caplog, damage):
    run(bench({"ngrams": "ngrams"}, draws=1), tasks, tmp_path)
    (path,) = (tmp_path / "choices").iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage)

    run(bench({"ngrams": "ngrams"}), tasks, tmp_path)

    assert path.read_bytes() == whole
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        "choosing for ngrams again: its file is damaged"
    ]


@pytest.mark.parametrize(("methods", "labels"), [(["ngrams"], [0]), (["ngrams", "again"], [0, 1])])
def test_labels_that_no_method_can_learn_from_are_refused(tasks, tmp_path, methods, labels):
    """N-grams need 2 labels."""
    own = bench(dict.fromkeys(methods, "ngrams"), labels=labels)

    with pytest.raises(
        SettingsError, match=r"cannot compare ngrams.* none of them .*comparison.methods"
    ):
        run(own, tasks, tmp_path)
    assert not (tmp_path / "cells").exists()


def test_a_method_that_cannot_be_installed_is_named_where_it_was_the_only_one(
    tasks, tmp_path, monkeypatch
):
    def missing(*_: object) -> Method:
        raise MissingPackageError("cannot compare `rival`: not installed")

    rival = MethodRow("rival", "rival", {"classification": Inputs("")}, no_choice, missing)
    monkeypatch.setattr(table, "METHODS", {**METHODS, "absent": rival})

    with pytest.raises(SettingsError, match=r"\(rival: cannot compare `rival`: not installed\)"):
        run(bench({"rival": "absent"}), tasks, tmp_path)


def test_a_method_is_not_judged_where_a_label_is_too_rare_for_it(tasks):
    """By hand: 3 and 1 of 4, then 2 and 2, then 4 and 0; without any only if it needs none."""
    method = Method(list, 4, int, {}, without_labels=True, least_a_label=2)

    def can(bad: int, good: int) -> bool:
        support = (Example("bad", "bad"),) * bad + (Example("good", "good"),) * good
        return method.can_answer(Episode("x/y", ("bad", "good"), support, (), 0))

    assert [can(3, 1), can(2, 2), can(4, 0), can(0, 0), can(1, 1)] == [
        *(False, True, False, True, False)
    ]
    assert not replace(method, without_labels=False).can_answer(Episode("x/y", (), (), (), 0))


CHANGES = {  # setting: another value, and the methods whose answers it decides
    "prompting.timeout": (5.0, ()),
    "prompting.retries": (1, ()),
    "prompting.requests_per_minute": (3.0, ()),
    "prompting.price_per_million_tokens": (9.0, ()),
    "prompting.orders": (7, ()),
    "prompting.api_key_env": ("OTHER", ()),
    "prompting.choosing_draws": (3, ("prompting",)),
    "prompting.endpoint": ("http://127.0.0.1:9", ("prompting",)),
    "prompting.templates": (["label"], ("prompting",)),
    "prompting.scorings": (["mean"], ("prompting",)),
    "adaptation.metric": ("macro_f1", ("prompting", "lora", "full")),
    "adaptation.labels": (6, ("prompting", "lora", "full")),
    "adaptation.draws": (7, ("prompting", "lora", "full")),
    "adaptation.stack": (3, ()),
    "adaptation.learning_rates": ([0.5], ("lora",)),
    "rivals.folds": (3, ("lora", "ngrams")),
    "rivals.scalings": (["plain"], ("prototypes",)),
    "rivals.temperatures": ([1.0], ("prototypes", "memory")),
}


@pytest.mark.parametrize("setting", CHANGES)
def test_a_method_is_made_again_where_a_setting_decides_its_answers_and_only_there(setting):
    names = ("prompting", "lora", "full", "ngrams", "prototypes", "memory")
    before = settings({name: name for name in names})
    value, decided = CHANGES[setting]
    section, key = setting.split(".")
    after = replace(before, **{section: replace(getattr(before, section), **{key: value})})

    changed = [name for name in names if fingerprint(before, name) != fingerprint(after, name)]
    assert changed == [name for name in names if name in decided]


@pytest.mark.parametrize("skill", CONTESTS)
def test_what_decides_a_method_are_settings_that_there_are(skill):
    sections = get_type_hints(CONTESTS[skill].settings)
    inputs = [row.skills[skill] for row in methods_of(skill).values()]
    for name in sorted({name for one in inputs for name in one.settings}):
        section, _, key = name.partition(".")
        assert not key or key in get_type_hints(sections[section]), name


def test_a_missing_package_leaves_its_method_out_and_says_so(tasks, tmp_path, monkeypatch):
    def missing(*_: object) -> Method:
        raise MissingPackageError("cannot compare `rival`: not installed")

    rival = MethodRow("rival", "rival", {"classification": Inputs("")}, no_choice, missing)
    monkeypatch.setattr(table, "METHODS", {**METHODS, "absent": rival})

    ran = run(bench({"ngrams": "ngrams", "rival": "absent"}), tasks, tmp_path)

    assert {key.method for key in ran.records} == {"ngrams"}
    assert "not installed" in str(ran.facts["rival"]["skipped"])


def test_smaller_support_sets_are_part_of_larger_ones_and_queries_stay(tasks):
    """The 4 are among the 8, which are among the 12; the query set of a draw is one."""
    episodes = draw_episodes(bench({}, labels=[4, 8, 12]), tasks)

    by_draw: dict[tuple[str, int], list[Episode]] = {}
    for one in episodes:
        by_draw.setdefault((one.task, one.index), []).append(one)
    for small, middle, large in by_draw.values():
        assert small.support == large.support[:4]
        assert middle.support == large.support[:8]
        assert small.query == middle.query == large.query
    supports = {one.support for one in episodes if len(one.support) == 12}
    assert len(supports) == len(by_draw)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "one of start"),
        ("start", "the folder of a start"),
        ("lora runs/x", "nothing behind it"),
    ],
)
def test_a_line_that_names_no_method_is_refused(text, message):
    with pytest.raises(SettingsError, match=message):
        find_method(text, "classification")


def test_a_setting_that_names_no_method_of_the_comparison_is_refused(tasks, tmp_path):
    with pytest.raises(SettingsError, match=r"'mine' of `comparison\.ours`"):
        run(bench({"ngrams": "ngrams"}, ours="mine"), tasks, tmp_path)


def test_the_models_of_a_bench_charge_its_clock(tiny_encoder):
    """Else a method that finds what an earlier one kept would look faster than it is."""
    one = bench({})
    model = replace(
        one.settings.model, model_name_or_path=str(tiny_encoder), max_tokens=24, lora_layers=2
    )

    backbone = one.objective(model, one.labels).backbone
    one.clock.begin_job()

    assert backbone.clock.job == one.clock.job == 1


def test_another_run_computes_nothing_that_its_frozen_layers_have_said(
    tasks, tmp_path, tiny_encoder, monkeypatch
):
    """Passes are counted where they begin, in the embeddings; the answers are those of before."""
    passes = []

    def run_in(folder, **places):
        one = bench({"linear_probe": "linear_probe", "memory": "memory"}, labels=[8], draws=1)
        model = replace(
            one.settings.model, model_name_or_path=str(tiny_encoder), max_tokens=24, lora_layers=2
        )
        places = replace(one.settings.run, **places)
        one = replace(one, settings=replace(one.settings, model=model, run=places))
        encoder = one.objective(replace(model, pooling="mean"), one.labels).backbone.encoder
        encoder.embeddings.register_forward_hook(lambda *_: passes.append(folder))
        return without_times(run(one, tasks[:1], tmp_path / folder))

    shared = {"states_dir": str(tmp_path / "shared")}
    first, second = run_in("first", **shared), run_in("second", **shared)

    assert set(passes) == {"first"}
    assert first == second
    assert not (tmp_path / "first/states").exists()
    run_in("third")
    assert (tmp_path / "third/states").is_dir()
