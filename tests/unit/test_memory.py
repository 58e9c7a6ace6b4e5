"""Memory: hand-made features, attention by hand, leave-one-out by plain loops."""

import math

import numpy as np
import pytest
import torch

from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.errors import EpisodeError, SettingsError
from nlp_meta.rivals.memory import choose_temperature, memory

LABELS = ("negative", "neutral", "positive")
TEMPERATURES = (1.0, 0.5, 0.1, 0.02)


def embed(texts) -> np.ndarray:
    """Features written into the text: numbers between blanks."""
    rows = [list(map(float, text.split())) for text in texts]
    return np.array(rows, dtype=np.float32).reshape(len(rows), -1)


def episode(support: dict[str, list[str]], query: list[str]) -> Episode:
    examples = tuple(Example(text, label) for label, texts in support.items() for text in texts)
    return Episode("made/task", LABELS, examples, tuple(Example(text, "") for text in query), 0)


def ask(rival, one: Episode):
    """Let a method learn the support set of an episode, then answer its queries."""
    return rival(one.support_set)(one.queries)


def test_attention_is_the_softmax_of_cosines_over_the_temperature():
    """By hand: cosines 1 and -1 with center 0; at 0.5 the odds are exp(2 / 0.5)."""
    one = episode({"negative": ["-1 0"], "positive": ["1 0"]}, ["3 0", "0 2"])

    first, second = ask(memory(embed, temperatures=[0.5]), one)

    assert first.label == "positive"
    assert first.probabilities["positive"] == pytest.approx(1 / (1 + math.exp(-4)))
    assert second.probabilities == pytest.approx({"negative": 0.5, "neutral": 0, "positive": 0.5})


def test_a_label_does_not_gain_by_having_more_examples():
    """By hand: negative is there twice, on the same side of center 0; the odds stay exp(2)."""
    one = episode({"negative": ["-1 0", "-1 0"], "positive": ["2 0"]}, ["5 0"])

    answer = ask(memory(embed, temperatures=[1.0]), one)[0]

    assert answer.probabilities["positive"] == pytest.approx(1 / (1 + math.exp(-2)))


def test_a_low_temperature_reads_the_nearest_example_alone():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(12, 3)).round(4)
    query = generator.normal(size=(20, 3)).round(4)
    write = [" ".join(map(str, row)) for row in rows]
    one = episode(
        dict(zip(LABELS, (write[:2], write[2:7], write[7:]), strict=True)),
        [" ".join(map(str, row)) for row in query],
    )
    center = rows.mean(0)
    keys = (rows - center) / np.linalg.norm(rows - center, axis=1, keepdims=True)
    nearest = ((query - center) @ keys.T).argmax(1)
    expected = [one.support[place].target for place in nearest]

    answers = ask(memory(embed, temperatures=[1e-4]), one)

    assert [answer.label for answer in answers] == expected


@pytest.mark.parametrize("counts", [(4, 4, 4), (6, 1, 3), (5, 0, 2)])
@pytest.mark.parametrize("signal", [0.0, 1.0, 4.0])
def test_temperature_is_that_of_the_smallest_leave_one_out_loss(counts, signal):
    """Another route: each example left out of the memory in turn, in plain loops."""
    generator = np.random.default_rng(0)
    targets = np.repeat(np.arange(3), counts)
    features = generator.normal(size=(len(targets), 5)) + signal * np.eye(3, 5)[targets]
    keys = features / np.linalg.norm(features, axis=1, keepdims=True)
    losses = []
    for temperature in TEMPERATURES:
        total = 0.0
        for i, target in enumerate(targets):
            weights: dict[int, list[float]] = {}
            for j, other in enumerate(targets):
                if i != j:
                    cosine = float(keys[i] @ keys[j])
                    weights.setdefault(int(other), []).append(math.exp(cosine / temperature))
            means = {name: sum(found) / len(found) for name, found in weights.items()}
            if int(target) in means:
                total -= math.log(means[int(target)] / sum(means.values()))
        losses.append(total)
    expected = TEMPERATURES[int(np.argmin(losses))]

    chosen = choose_temperature(
        torch.from_numpy(keys @ keys.T),
        torch.from_numpy(targets),
        labels=3,
        temperatures=TEMPERATURES,
    )

    assert chosen == expected


def test_with_one_example_a_label_the_highest_temperature_is_taken():
    one = episode({"negative": ["-1 0"], "positive": ["1 0"]}, ["3 1"])

    assert ask(memory(embed, temperatures=[0.1, 1.0]), one) == ask(
        memory(embed, temperatures=[1.0]), one
    )


def test_a_label_without_support_has_probability_zero():
    one = episode({"negative": ["-1 0", "-1 1"], "positive": ["1 0", "2 1"]}, ["3 1", "-2 0"])

    for answer in ask(memory(embed, temperatures=TEMPERATURES), one):
        assert list(answer.probabilities) == list(LABELS)
        assert answer.probabilities["neutral"] == 0
        assert sum(answer.probabilities.values()) == pytest.approx(1)


def test_the_support_set_is_learned_before_the_query_set_is_read():
    happened: list[str] = []

    def watched(texts):
        happened.append("query" if "3 1" in texts else "support")
        return embed(texts)

    one = episode({"negative": ["-1 0", "-1 1"], "positive": ["1 0"]}, ["3 1"])
    learned = memory(watched, temperatures=[0.1, 1.0])(one.support_set)
    happened.append("learned")
    learned(one.queries)

    assert happened == ["support", "learned", "query"]


@pytest.mark.parametrize("support", [{}, {"neutral": ["1", "2"]}])
def test_a_support_set_of_fewer_than_two_labels_is_refused(support):
    with pytest.raises(EpisodeError, match=r"task 'made/task'.*at least 2 are needed"):
        ask(memory(embed, temperatures=[1.0]), episode(support, ["1"]))


@pytest.mark.parametrize("temperatures", [[], [0.0, 1.0]])
def test_temperatures_that_cannot_be_chosen_from_are_refused(temperatures):
    with pytest.raises(SettingsError, match="change `temperatures`"):
        memory(embed, temperatures=temperatures)
