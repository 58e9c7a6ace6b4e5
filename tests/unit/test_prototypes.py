"""Prototypes: hand-made features, class means by hand, leave-one-out by plain loops."""

import math

import numpy as np
import pytest
import torch

from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.errors import EpisodeError, SettingsError
from nlp_meta.rivals.prototypes import SCALINGS, choose_scale, prototypes

LABELS = ("negative", "neutral", "positive")
TEMPERATURES = (0.01, 0.1, 1.0, 3.0)


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


def random_support(*counts: int, seed: int = 0, noise: float = 1.0):
    """Features `(examples, 4)` around a corner for each label, and targets."""
    generator = np.random.default_rng(seed)
    targets = np.repeat(np.arange(len(counts)), counts)
    corners = generator.normal(size=(len(counts), 4))
    features = corners[targets] + noise * generator.normal(size=(len(targets), 4))
    return torch.from_numpy(features), torch.from_numpy(targets)


def test_probabilities_are_those_of_distances_to_class_means():
    """By hand: means 1 and 5, spread 1; from 3.5 the squares are 6.25 and 2.25, 4 apart."""
    one = episode({"negative": ["0", "2"], "positive": ["4", "6"]}, ["3.5", "1"])

    first, second = ask(prototypes(embed, scalings=["plain"], temperatures=[2.0]), one)

    assert first.label == "positive"
    assert first.probabilities["positive"] == pytest.approx(1 / (1 + math.exp(-4 / 2)))
    assert second.label == "negative"
    assert second.probabilities["negative"] == pytest.approx(1 / (1 + math.exp(-16 / 2)))


def test_a_label_without_support_has_probability_zero():
    one = episode({"negative": ["0", "2"], "positive": ["4", "6"]}, ["3.5", "1"])

    for answer in ask(prototypes(embed, scalings=list(SCALINGS), temperatures=TEMPERATURES), one):
        assert list(answer.probabilities) == list(LABELS)
        assert answer.probabilities["neutral"] == 0
        assert sum(answer.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize("counts", [(5, 5, 5), (2, 7, 1), (3, 0, 4)])
@pytest.mark.parametrize("noise", [0.05, 1.0, 5.0])
def test_temperature_is_that_of_the_smallest_leave_one_out_loss(counts, noise):
    """Another route: each example left out in turn, class means and spread in plain loops."""
    features, targets = random_support(*counts, noise=noise)
    x, y = features.numpy(), targets.numpy()
    losses = np.zeros(len(TEMPERATURES))
    for i in range(len(y)):
        others = np.arange(len(y)) != i
        if y[i] not in y[others]:
            continue
        names = sorted(set(y[others]))
        means = np.stack([x[others & (y == name)].mean(0) for name in names])
        own = means[[names.index(name) for name in y[others]]]
        spread = max(
            ((x[others] - own) ** 2).sum(1).mean(),
            0.1 * ((x[others] - x[others].mean(0)) ** 2).sum(1).mean(),
        )
        squares = ((x[i] - means) ** 2).sum(1) / spread
        for place, temperature in enumerate(TEMPERATURES):
            weights = -squares / temperature
            losses[place] -= weights[names.index(y[i])] - np.logaddexp.reduce(weights)
    expected = TEMPERATURES[int(losses.argmin())]

    chosen = choose_scale(
        features, targets, labels=3, scalings=["plain"], temperatures=TEMPERATURES
    )

    assert chosen == ("plain", expected)


def test_a_loud_feature_without_bearing_on_the_label_is_quieted_by_standardizing():
    features, targets = random_support(8, 8, noise=0.3)
    loud = 1000 * torch.from_numpy(np.random.default_rng(1).normal(size=(16, 1)))
    features = torch.cat([features, loud], dim=1)

    scaling, _ = choose_scale(
        features,
        targets,
        labels=2,
        scalings=["plain", "standard"],
        temperatures=TEMPERATURES,
    )

    assert scaling == "standard"


def test_unit_features_tell_directions_from_the_center_and_not_distances():
    """By hand: center 0, so a text ten times as far out has the same answer."""
    support = {"negative": ["-1 0", "0 -1"], "positive": ["1 0", "0 1"]}
    one = episode(support, ["0.2 0.1", "2 1"])

    near, far = ask(prototypes(embed, scalings=["unit"], temperatures=[1.0]), one)

    assert near.probabilities == pytest.approx(far.probabilities)
    assert near.label == "positive"


def test_a_feature_that_never_changes_is_harmless():
    one = episode({"negative": ["0 7", "2 7"], "positive": ["4 7", "6 7"]}, ["3.5 7"])

    answer = ask(prototypes(embed, scalings=["standard"], temperatures=[1.0]), one)[0]

    assert answer.label == "positive"


def test_with_one_example_a_label_the_first_scaling_and_the_largest_temperature_are_taken():
    features, targets = random_support(1, 1, 1)

    chosen = choose_scale(
        features, targets, labels=3, scalings=["unit", "plain"], temperatures=[3.0, 1.0]
    )

    assert chosen == ("unit", 3.0)


def test_the_order_of_temperatures_does_not_matter():
    one = episode({"negative": ["0", "2", "3"], "positive": ["4", "6"]}, ["3.5"])

    up, down = (
        ask(prototypes(embed, scalings=["plain"], temperatures=order), one)
        for order in (TEMPERATURES, TEMPERATURES[::-1])
    )

    assert up == down


def test_the_support_set_is_learned_before_the_query_set_is_read():
    happened: list[str] = []

    def watched(texts):
        happened.append("query" if "3.5" in texts else "support")
        return embed(texts)

    one = episode({"negative": ["0", "2"], "positive": ["4", "6"]}, ["3.5"])
    rival = prototypes(watched, scalings=["plain"], temperatures=[1.0, 2.0])
    learned = rival(one.support_set)
    happened.append("learned")
    learned(one.queries)

    assert happened == ["support", "learned", "query"]


@pytest.mark.parametrize("support", [{}, {"neutral": ["1", "2"]}])
def test_a_support_set_of_fewer_than_two_labels_is_refused(support):
    with pytest.raises(EpisodeError, match=r"task 'made/task'.*at least 2 are needed"):
        ask(prototypes(embed, scalings=["plain"], temperatures=[1.0]), episode(support, ["1"]))


@pytest.mark.parametrize(
    ("scalings", "temperatures"),
    [([], [1.0]), (["plain"], []), (["plain"], [0.0]), (["cosine"], [1.0])],
)
def test_choices_that_cannot_be_made_are_refused(scalings, temperatures):
    with pytest.raises(SettingsError, match="change `scalings` or `temperatures`"):
        prototypes(embed, scalings=scalings, temperatures=temperatures)
