"""A user's own table: what of it is compared, what judges it, and what counts as ours."""

from dataclasses import replace

import pytest

from nlp_meta.comparing.bench import Bench
from nlp_meta.comparing.methods import build_full, choose_full
from nlp_meta.comparing.own_tables import (
    PROMPTING,
    OwnComparison,
    build_settings,
    check_budgets,
    compare_table,
    doubt_judges,
    read_start,
)
from nlp_meta.data.answers import Prediction
from nlp_meta.data.leaks import check_leaks
from nlp_meta.data.tasks import Example, Task
from nlp_meta.errors import DataError, LabelError, SettingsError
from nlp_meta.files.tables import LabeledTable
from nlp_meta.settings import Comparison

WANTED = OwnComparison("meta", None, ("all",), (8,), 2, "accuracy", "exclude", 0, PROMPTING)


def own_settings(*methods: str, encoder: str = "none") -> Comparison:
    _, model, how = read_start(None, encoder=encoder)
    return build_settings(replace(WANTED, methods=methods), model, how, [8], folder="")


def table(rows: int, test: int = 0) -> Task:
    def examples(mark: str, count: int) -> tuple[Example, ...]:
        return tuple(Example(f"{mark} {i}", ("bad", "good")[i % 2]) for i in range(count))

    labels, parts = ("bad", "good"), (examples("row", rows), examples("test", test))
    return Task("own/table", "classification", "", "", "meta-test", labels, *parts)


@pytest.mark.parametrize(
    ("methods", "ours"),
    [
        (("ngrams", "hybrid"), "hybrid"),
        (("lora", "adapt"), "adapt"),
        (("all",), "hybrid"),
        (("ngrams", "memory"), None),
    ],
)
def test_no_rival_counts_as_ours(methods, ours):
    assert own_settings(*methods).comparison.ours == ours


def test_draws_are_as_many_as_a_difference_needs_and_slow_methods_are_named():
    """By hand: 9 comparisons need 8 draws, so 10 are enough; 2 draws show nothing."""
    own = own_settings("all").comparison
    assert own.draws == 2 and "setfit_paper" not in own.methods and "setfit" in own.methods
    assert list(own_settings("setfit_paper").comparison.methods) == ["setfit_paper"]

    _, model, how = read_start(None, encoder="none")
    wanted = replace(WANTED, methods=("all",), draws=None, title="labeled.csv, 80 rows")
    settings = build_settings(wanted, model, how, [8], folder="")
    assert (settings.comparison.draws, settings.comparison.title) == (10, "labeled.csv, 80 rows")


def test_what_rows_that_judge_cannot_tell_is_told():
    """By hand: 2 of the 40 rows to learn from are among those that judge."""
    task = table(40, test=40)
    few = replace(task, test=tuple(e for e in table(0, test=6).test if e.target == "bad"))
    leaking = replace(task, test=(*task.test, *task.train[:2]))
    told = {}
    for name, given in {"whole": task, "few": few, "leaking": leaking}.items():
        (kept,), leaks = check_leaks((), (given,), overlap="exclude", threshold=1.0)
        told[name] = doubt_judges(kept, leaks)

    assert told["whole"] == []
    assert "Only 3 rows judge" in told["few"][0] and "labeled 'bad'" in told["few"][1]
    assert told["leaking"][0].startswith("2 rows to learn from nearly repeat a row that judges")


def test_a_single_row_judges_nothing():
    """By hand: a third of 3 rows is one, so 2 are kept and 1 label is left to learn from."""
    with pytest.raises(DataError, match="cannot judge by 1 row: at least 2"):
        check_budgets([8], table(60, test=1))
    assert check_budgets([8], table(60, test=2)) == [8]
    assert check_budgets([0, 1, 2], table(3)) == [0, 1]
    with pytest.raises(SettingsError, match="at most 1 leave"):
        check_budgets([2], table(3))


def test_full_fine_tuning_counts_its_search_inside_each_support_set(tiny_encoder):
    """By hand: 40 steps at 8 labels, in one batch; 2 rates on 2 folds, each of half the labels."""
    own = own_settings("full", encoder=str(tiny_encoder))
    bench = Bench(own, (), ("bad", "good"))
    inside = build_full(bench, "", choose_full(bench, ""))
    chosen = build_full(bench, "", {"steps": 40, "learning_rate": 1e-4})

    assert chosen.examples(8) == 40 * 8
    assert inside.examples(8) == 40 * 8 + 2 * 2 * 40 * 4


def test_numbers_that_the_start_contradicts_stop_a_comparison(tiny_start, tmp_path, monkeypatch):
    """As `adapt` does it: by chance 20 and 20 texts are all answered the other way hardly ever."""
    tiny_start.save_pretrained(tmp_path / "meta")
    numbers = ("0", "1") * 20
    texts = tuple(f"row {place} of the table" for place in range(40))
    data = LabeledTable(texts, numbers, ("text", "label"), tmp_path / "own.csv")
    answers = [Prediction(name, {name: 1.0}) for name in ("positive", "negative") * 20]
    monkeypatch.setattr("nlp_meta.models.classification.predict_texts", lambda *_given: answers)
    wanted = replace(WANTED, meta=str(tmp_path / "meta"))

    with pytest.raises(LabelError, match='as if they meant the opposite; give `label_map="0=posit'):
        compare_table(wanted, data, None, folder=tmp_path / "new", label_map=None)
    assert not (tmp_path / "new").exists()
