"""Metrics: against hand arithmetic, scikit-learn, and as `evaluate` calls them."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from nlp_meta.data.answers import Prediction
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.errors import DataError, SettingsError
from nlp_meta.evaluation.answers import score_episode
from nlp_meta.evaluation.metrics import (
    LABEL_METRICS,
    accuracy,
    expected_calibration_error,
    load_metric,
    macro_f1,
    score,
)

LABELS = ("bad", "fair", "good")


def sure(*names: str, probability: float = 1.0) -> list[Prediction]:
    return [Prediction(name, {name: probability}) for name in names]


def random_rows(rows: int = 200, seed: int = 0) -> tuple[list[str], list[Prediction]]:
    generator = np.random.default_rng(seed)
    true = [LABELS[i] for i in generator.choice(3, size=rows, p=[0.5, 0.1, 0.4])]
    probabilities = generator.dirichlet([1, 1, 1], size=rows)
    answers = [
        Prediction(LABELS[int(row.argmax())], dict(zip(LABELS, row.tolist(), strict=True)))
        for row in probabilities
    ]
    return true, answers


def test_accuracy_and_macro_f1_of_four_rows():
    """By hand: 3 of 4 right; bad 2*2/(3+2) = 0.8, good 2*1/(1+2) = 2/3."""
    true, answers = ["bad", "bad", "good", "good"], sure("bad", "bad", "bad", "good")

    assert accuracy(true, answers, ("bad", "good")) == 0.75
    assert macro_f1(true, answers, ("bad", "good")) == pytest.approx((0.8 + 2 / 3) / 2)


def test_a_label_that_the_task_has_but_no_row_shows_counts_zero_in_macro_f1():
    """By hand: F1 of 1, 0 and 1 for the labels bad, fair, good."""
    assert macro_f1(["bad", "good"], sure("bad", "good"), LABELS) == pytest.approx(2 / 3)


@pytest.mark.parametrize("labels", [LABELS, (*LABELS, "mixed"), LABELS[:2]])
def test_accuracy_and_macro_f1_agree_with_scikit_learn(labels):
    true, answers = random_rows()
    names = [one.label for one in answers]

    expected = f1_score(true, names, average="macro", labels=list(labels), zero_division=0)

    assert macro_f1(true, answers, labels) == pytest.approx(expected)
    assert accuracy(true, answers, labels) == pytest.approx(accuracy_score(true, names))


def test_calibration_error_weighs_the_gap_of_each_bin_by_its_rows():
    """By hand: three rows at 0.9, two right: 3/4 * |2/3 - 0.9|; one at 0.5, wrong: 1/4 * 0.5."""
    true = ["good", "good", "bad", "bad"]
    answers = [*sure("good", "good", "good", probability=0.9), *sure("good", probability=0.5)]

    expected = 0.75 * (0.9 - 2 / 3) + 0.25 * 0.5
    assert expected_calibration_error(true, answers, LABELS) == pytest.approx(expected)


def test_calibration_error_is_zero_where_probability_is_how_often_it_is_right():
    """By hand: four rows at 0.75 with three right."""
    answers = sure("a", "a", "a", "a", probability=0.75)

    assert expected_calibration_error(["a", "a", "a", "b"], answers, ("a", "b")) == 0


def test_a_bin_holds_its_upper_edge():
    """By hand: 3/15 and 2.5/15 share bin 3, where gaps 0.8 and -2.5/15 offset each other."""
    answers = [*sure("a", probability=3 / 15), *sure("a", probability=2.5 / 15)]

    expected = abs((1 - 3 / 15) + (0 - 2.5 / 15)) / 2
    assert expected_calibration_error(["a", "b"], answers, ("a", "b")) == pytest.approx(expected)


def test_calibration_error_agrees_with_a_loop_over_the_bins():
    """Another route: the formula of Guo et al., bin by bin."""
    true, answers = random_rows(500, seed=1)
    sureness = np.array([one.probabilities[one.label] for one in answers])
    right = np.array([one.label == name for one, name in zip(answers, true, strict=True)])
    total = 0.0
    for m in range(1, 16):
        inside = (sureness > (m - 1) / 15) & (sureness <= m / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - sureness[inside].mean())

    assert expected_calibration_error(true, answers, LABELS) == pytest.approx(total)


def test_an_episode_is_scored_by_every_metric_of_its_skill():
    query = tuple(Example(f"text {i}", name) for i, name in enumerate(["bad", "good"]))
    episode = Episode("reviews/kitchen", ("bad", "good"), (), query, 0)

    scores = score_episode(episode, sure("bad", "bad"))

    assert list(scores) == list(LABEL_METRICS)
    assert scores == pytest.approx({"accuracy": 0.5, "macro_f1": (2 / 3 + 0) / 2, "ece": 0.5})


@pytest.mark.parametrize("metric", LABEL_METRICS.values())
@pytest.mark.parametrize(("true", "answers"), [([], []), (["bad"], []), ([], sure("bad"))])
def test_no_rows_or_not_one_prediction_each_cannot_be_scored(metric, true, answers):
    with pytest.raises(DataError, match=r"cannot score .* is needed; give"):
        metric(true, answers, LABELS)


def test_macro_f1_over_no_labels_is_refused():
    with pytest.raises(DataError, match="over 0 labels"):
        macro_f1(["bad"], sure("bad"), ())


def test_evaluate_calls_the_metrics_that_we_score_by():
    """Without network; another route: the metric without `evaluate` around it."""
    import evaluate

    true, answers = random_rows(50)
    rows = {"predictions": [one.label for one in answers], "references": true}
    certainty = [one.probabilities[one.label] for one in answers]
    ece = load_metric("ece")

    assert isinstance(ece, evaluate.Metric) and ece.name == "ece"
    assert ece.compute(**rows, confidences=certainty) == {
        "ece": expected_calibration_error(true, answers, LABELS)
    }
    four = (*LABELS, "mixed")
    for one in (load_metric("macro_f1", labels=four), load_metric("macro_f1")):
        assert one.compute(**rows, labels=LABELS) == {"macro_f1": macro_f1(true, answers, LABELS)}
    fixed = load_metric("macro_f1", labels=four).compute(**rows)
    assert fixed == {"macro_f1": macro_f1(true, answers, four)}


def test_metrics_are_combined_by_evaluate():
    """Macro-F1 takes the labels that occur where none are named, as scikit-learn does."""
    import evaluate

    true, answers = random_rows(50)
    combined = evaluate.combine([load_metric(name) for name in ("accuracy", "macro_f1", "ece")])

    scores = combined.compute(
        predictions=[one.label for one in answers],
        references=true,
        confidences=[one.probabilities[one.label] for one in answers],
    )

    assert scores == {m.name: m(true, answers, LABELS) for m in LABEL_METRICS.values()}


@pytest.mark.parametrize("metric", LABEL_METRICS.values())
def test_a_score_through_evaluate_is_the_same_number(metric):
    true, answers = random_rows(70, seed=3)

    assert score(metric.name, true, answers, LABELS) == metric(true, answers, LABELS)


def test_scoring_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", tmp_path / "cache")

    load_metric("accuracy").compute(predictions=["a"], references=["a"])

    assert list(tmp_path.iterdir()) == []


def test_an_unknown_metric_is_refused():
    with pytest.raises(SettingsError, match="'recall': one of accuracy, macro_f1, ece, chrf"):
        load_metric("recall")
