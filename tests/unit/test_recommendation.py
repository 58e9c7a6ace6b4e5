"""What cross-validation of a user's table says, and how sure it may say it."""

import csv
import random
from dataclasses import replace
from pathlib import Path

import pytest

from nlp_meta.comparing.own_tables import PROMPTING, OwnComparison, recommend_for_table
from nlp_meta.comparing.recommendation import Answers, Recommendation, chance_best, shrink
from nlp_meta.data.answers import Prediction
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example, Task
from nlp_meta.evaluation.statistics import Interval
from nlp_meta.files.tables import read_table

LABELS = ("bad", "good")
ROWS = 40
TASK = Task(
    *("own/table", "classification", "", "", "meta-test", LABELS),
    tuple(Example(f"row {row}", LABELS[row % 2]) for row in range(ROWS)),
    (),
)
WANTED = OwnComparison(
    *(None, None, ("ngrams",), (0,), 1, "accuracy", "exclude", 0), prompting=PROMPTING
)


def answers(*wrong: range) -> Answers:
    """One repeat for each range of rows that are answered wrongly."""
    found = []
    for rows in wrong:
        names = [LABELS[(row % 2) ^ (row in rows)] for row in range(ROWS)]
        found.append([Prediction(n, {o: float(o == n) for o in LABELS}) for n in names])
    return found


def chance(best: str, **methods: Answers) -> float:
    return chance_best(TASK, methods, best=best, metric="accuracy", seed=0)


def test_methods_of_the_same_answers_share_the_first_place():
    same = answers(range(9), range(20, 29))

    assert chance("a", a=same, b=same) == pytest.approx(1 / 2)
    assert chance("c", a=same, b=same, c=same) == pytest.approx(1 / 3)
    assert chance("a", a=answers(range(1)), b=answers(range(30))) == pytest.approx(1, abs=1e-3)


def test_repeats_are_resampled_too():
    """Each is far ahead in one of two repeats: whichever is drawn, nobody knows who is better."""
    one, other = answers(range(5), range(30)), answers(range(30), range(5))

    found = chance("a", a=one, b=other)

    assert found == pytest.approx(1 / 2, abs=0.05)
    assert found + chance("b", a=one, b=other) == pytest.approx(1)


def test_the_sentence_says_what_was_left_out():
    scores, gain = {"a": 0.8, "b": 0.7}, Interval(0.02, 0.01, 0.03)
    found = Recommendation("a", "accuracy", 40, 32, scores, 0.5, {}, gain, {})

    assert "it comes out best in 50% of resamples" in found.sentence()
    assert "near-duplicates" not in found.sentence()
    copied = replace(found, near_duplicates=3).sentence()
    assert copied.endswith("; 3 near-duplicates were left out")


@pytest.mark.slow
def test_near_copies_of_a_text_do_not_answer_for_it(tmp_path: Path):
    """Another route: the table without the copies, which says nothing of its random labels."""
    words = "amber birch cedar delta ember flint grove hazel inlet junip".split()
    draw = random.Random(0)
    texts = [" ".join(draw.choices(words, k=12)) for _ in range(ROWS)]
    rows = [(text, LABELS[(row * row // 3) % 2]) for row, text in enumerate(texts)]
    near = [row for text, label in rows for row in ((text, label), (f"Honestly, {text}", label))]

    def recommended(name: str, some: list[tuple[str, str]]) -> Recommendation:
        path = tmp_path / name
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *some])
        table = read_table(path, text_column="text", label_column="label", max_rows=1000)
        return recommend_for_table(
            *(table,), wanted=WANTED, encoder="none", folds=2, repeats=2, label_map=None
        )

    plain, copied = recommended("plain.csv", rows), recommended("near.csv", near)

    assert copied.near_duplicates == ROWS
    assert plain.near_duplicates == 0
    assert replace(copied, near_duplicates=0) == plain


def test_a_smaller_support_set_has_the_labels_of_the_larger_one():
    """By hand: of 64 good and 16 bad rows a half is 32 and 8, a twentieth 3 and the least, 2."""
    rows = tuple(Example(f"row {row}", LABELS[row % 5 > 0]) for row in range(80))
    episode = Episode("own/table", LABELS, rows, (), 0)

    sizes = {share: shrink(episode, share, seed=0).support for share in (0.05, 0.5, 1.0)}

    counts = {s: [sum(e.target == n for e in some) for n in LABELS] for s, some in sizes.items()}
    assert counts == {0.05: [2, 3], 0.5: [8, 32], 1.0: [16, 64]}
    assert set(sizes[0.05]) < set(sizes[0.5]) < set(sizes[1.0])
    assert shrink(episode, 0.5, seed=0).support == sizes[0.5]
    assert shrink(episode, 0.5, seed=1).support != sizes[0.5]
