"""Which texts to label next: never one twice, some at random, and what more labels would bring."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nlp_meta.cli import main
from nlp_meta.comparing.suggestion import choose, draw_apart, judge_sizes, suggest, value_more
from nlp_meta.data.tasks import Example
from nlp_meta.errors import DataError
from nlp_meta.models.views import KNOWN_LABELS, Views

THINGS = ("room", "agent", "phone", "staff", "food", "house", "beach", "train", "shop", "film")
PAIRS = [
    (f"the {thing} was {word}", label)
    for thing in THINGS
    for word, label in (("awful", "negative"), ("great", "positive"))
]
TEXTS, LABELS = [text for text, _ in PAIRS], [label for _, label in PAIRS]


@pytest.fixture(scope="module")
def start(tiny_start):
    how = replace(tiny_start.adaptation["classification"], trust=KNOWN_LABELS)
    return replace(tiny_start, adaptation={**tiny_start.adaptation, "classification": how})


def test_the_unsure_come_first_and_copies_never():
    """By hand: sure answers move nothing; of two equal rows only one is taken."""
    features = np.array([[1.0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]])
    odds = np.array([[0.5, 0.5], [0.5, 0.5], [1, 0], [0.6, 0.4], [1, 0]])

    chosen = choose(features, odds, number=5, generator=np.random.default_rng(0))

    assert chosen[0] == 0 and 1 not in chosen and len(chosen) == 4
    assert chosen[1] == 3  # all others are sure


def test_random_texts_are_unlike_the_chosen_and_each_other():
    """Five texts in three directions: one is chosen, so one of each other direction is left."""
    features = np.array([[2.0, 0], [2, 0], [0, 1], [0, 1], [-4, -2]])

    for seed in range(5):
        drawn = draw_apart(features, [0], number=5, generator=np.random.default_rng(seed))
        assert sorted(drawn) in ([2, 4], [3, 4])


def test_no_text_comes_twice_and_some_are_random(start):
    texts = [*TEXTS, "The agent was GREAT!", "", "a plot", "the sea", "a car", "it broke", "fine"]
    labeled = TEXTS[:4]

    found = suggest(start, texts, number=12, labeled=labeled, seed=1)

    places = [one.place for one in found]
    assert len(set(places)) == len(places) <= 12 and 21 not in places
    assert not set(places) & {0, 1, 2, 3, 20}  # labeled; 20 is the text of 3
    assert [one.is_random for one in found] == [False] * (len(found) - 1) + [True]
    assert found == suggest(start, texts, number=12, labeled=labeled, seed=1)
    with pytest.raises(DataError, match="all are empty or labeled"):
        suggest(start, labeled, number=1, labeled=texts)


def test_the_gain_of_more_labels_is_told_where_folds_can_tell_it(start, tiny_start):
    worth = value_more(start, TEXTS, LABELS)
    assert worth.labels == 20 and worth.gain.low <= worth.gain.mean <= worth.gain.high
    assert "40 labels are expected to add" in worth.sentence

    few = value_more(start, TEXTS[:6], LABELS[:6])
    assert few.gain is None and "cannot be told" in few.sentence
    assert value_more(tiny_start, TEXTS, LABELS).gain is None


def test_held_out_rows_are_answered_from_other_rows():
    """Features that are the label: every part of the rows answers all of the others."""
    features = np.array([[1.0, 0.0] if name == "positive" else [0.0, 1.0] for name in LABELS])
    nothing = np.zeros((20, 2))
    support = [Example(*pair) for pair in PAIRS]
    views = Views(features, None, nothing, nothing)

    judged = judge_sizes(KNOWN_LABELS, views, support, ("negative", "positive"), seed=0)

    assert sorted(judged) == [6, 9, 12, 15]
    for one in judged[15]:
        assert one.true == tuple(answer.label for answer in one.predictions)


def test_the_command_keeps_columns_and_names_rows(start, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    start.save_pretrained("start")
    with Path("texts.csv").open("w", newline="") as file:
        rows = [(place, text) for place, text in enumerate(TEXTS)]
        csv.writer(file).writerows([("row", "text"), *rows])
    with Path("labeled.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *PAIRS[:8]])
    command = ["suggest", "start", "--data", "texts.csv", "--number", "5", "--output", "next.csv"]

    assert main([*command, "--labeled", "labeled.csv", "--json"]) == 0

    record = json.loads(capsys.readouterr().out)
    with Path("next.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert list(written[0]) == [
        "row", "random", "given_row", "text", "predicted_label", "confidence"
    ]  # fmt: skip
    assert [int(row["row"]) for row in written] == record["rows"]
    assert all(row["text"] == TEXTS[int(row["row"]) - 1] for row in written)
    assert min(record["rows"]) > 8 and [row["random"] for row in written][-1] == "yes"
    assert record["worth"]["labels"] == 8
