"""Character n-grams: counts by hand, fits against scikit-learn, priors by what they must do."""

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example, Task
from nlp_meta.errors import EpisodeError, SettingsError
from nlp_meta.objectives.ngrams import (
    CHARACTERS,
    NgramModel,
    count_ngrams,
    fit_ngrams,
    fit_prior,
    held_out_parts,
)
from nlp_meta.rivals.characters import ngrams

LABELS = ("negative", "neutral", "positive")
WORDS = {
    "negative": "awful hated broken",
    "neutral": "box paper tuesday",
    "positive": "great loved",
}
FILLER = "the room a phone my order we saw this agent and staff".split()
FEATURES = 2**12


def make(labels, count: int, *, seed: int = 0) -> tuple[Example, ...]:
    """So many texts a label, each with one telling word between three that tell nothing."""
    generator = np.random.default_rng(seed)
    found = []
    for label in labels:
        for _ in range(count):
            words = [*generator.choice(FILLER, 3), generator.choice(WORDS[label].split())]
            found.append(Example(" ".join(generator.permutation(words)), label))
    return tuple(found[place] for place in generator.permutation(len(found)))


def episode(labels=LABELS, count: int = 8) -> Episode:
    return Episode("made/task", LABELS, make(labels, count), make(LABELS, 6, seed=1), 0)


def task(examples, labels, name: str = "made/train") -> Task:
    return Task(name, "classification", "eng", "made", "meta-train", tuple(labels), examples, ())


def fit(support, labels=LABELS, *, parts=(), strengths=(1.0,), prior=None):
    return fit_ngrams(support, labels, parts=parts, regularization=strengths, prior=prior)


def ask(rival, one: Episode):
    """Let a method learn the support set of an episode, then answer its queries."""
    return rival(one.support_set)(one.queries)


def predictor(**changes):
    return ngrams(**{"regularization": (1.0, 10.0), "folds": 3, "seed": 0, **changes})


@pytest.fixture(scope="module")
def prior() -> NgramModel:
    return fit_prior([task(make(LABELS, 30, seed=5), LABELS)], LABELS, seed=0, features=FEATURES)


def test_counts_are_dampened_and_each_text_has_length_one():
    """By hand: `aaaa` has `aa` three times, `aaa` twice and `aaaa` once."""
    row = count_ngrams(["aaaa"], features=FEATURES)
    expected = np.array([1.0, 1 + math.log(2), 1 + math.log(3)])

    np.testing.assert_allclose(np.sort(row.data), expected / np.linalg.norm(expected))


def test_case_and_the_spelling_of_an_accent_do_not_matter():
    first, second = count_ngrams(["Caf\u00e9", "cafe\u0301"], features=FEATURES).toarray()

    np.testing.assert_array_equal(first, second)


def test_what_stands_beyond_the_limit_is_not_read():
    rows = count_ngrams(["ab" * CHARACTERS, "ab" * (CHARACTERS // 2)], features=FEATURES)

    np.testing.assert_array_equal(*rows.toarray())


def test_a_text_too_short_for_an_n_gram_gets_the_bias_alone():
    model = fit(make(LABELS, 4)).model
    bias = model.bias.astype(float)

    np.testing.assert_allclose(
        model.log_probabilities(["!"])[0], bias - math.log(np.exp(bias).sum()), atol=1e-6
    )


@pytest.mark.parametrize("strength", [0.5, 20.0])
def test_fitting_in_the_span_is_logistic_regression_on_tfidf(strength):
    """Another route: all features, weighted by rarity, in scikit-learn."""
    support, query = make(LABELS, 6), [e.source for e in make(LABELS, 4, seed=1)]
    features = 2**16
    rows = count_ngrams([e.source for e in support], features=features).toarray()
    rarity = np.log((1 + len(rows)) / (1 + (rows > 0).sum(0))) + 1
    reference = LogisticRegression(C=strength, max_iter=5000, tol=1e-8)
    reference.fit(rows * rarity, [e.target for e in support])
    expected = reference.predict_proba(count_ngrams(query, features=features).toarray() * rarity)

    found = np.exp(fit(support, strengths=(strength,)).model.log_probabilities(query))

    assert tuple(reference.classes_) == LABELS
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_held_out_answers_are_those_of_a_model_without_the_fold():
    """Another route: fit the kept examples alone, with the strength that was chosen."""
    support = make(LABELS, 6)
    parts = held_out_parts(support, folds=3, seed=0)

    fitted = fit(support, parts=parts, strengths=(1.0, 10.0))

    for part in parts:
        kept = [one for place, one in enumerate(support) if place not in part]
        other = fit(kept, strengths=(fitted.strength,)).model
        expected = other.log_probabilities([support[place].source for place in part])
        np.testing.assert_allclose(fitted.held_out[part], expected, atol=1e-3)


def test_the_only_example_of_a_label_is_never_held_out():
    support = (*make(("negative", "positive"), 4), Example("tuesday", "neutral"))

    parts = held_out_parts(support, folds=3, seed=0)
    fitted = fit(support, parts=parts)

    assert sorted(place for part in parts for place in part) == list(range(8))
    assert np.isnan(fitted.held_out[8]).all()
    assert np.isfinite(fitted.held_out[:8]).all()


def test_without_folds_the_strongest_regularization_and_the_whole_prior_are_taken(prior):
    fitted = fit(make(LABELS, 1), strengths=(3.0, 1.0), prior=prior)

    assert (fitted.strength, fitted.prior_scale) == (1.0, 1.0)


def test_strong_regularization_leaves_the_prior_as_it_is(prior):
    fitted = fit(make(LABELS, 3), strengths=(1e-9,), prior=prior)

    np.testing.assert_allclose(fitted.model.weight, prior.weight, atol=1e-6)


def test_a_prior_that_knows_better_is_used_and_one_that_misleads_is_not(prior):
    """Turned round, negative for positive, it is worth less than nothing."""
    support = make(LABELS, 3)
    parts = held_out_parts(support, folds=3, seed=0)
    turned = replace(prior, labels=LABELS[::-1])
    used, refused = (fit(support, parts=parts, prior=one) for one in (prior, turned))

    assert used.prior_scale == 1.0
    assert refused.prior_scale == 0.0


def test_a_prior_is_matched_by_the_names_of_its_labels(prior):
    """The same prior in another order, and a support set whose labels are in another order."""
    order = [2, 0, 1]
    other = NgramModel(
        tuple(LABELS[place] for place in order), prior.weight[order], prior.bias[order]
    )
    support, query = make(LABELS, 3), [e.source for e in make(LABELS, 3, seed=1)]
    expected = fit(support, prior=prior).model.log_probabilities(query)

    same = fit(support, prior=other).model.log_probabilities(query)
    turned = fit(support, LABELS[::-1], prior=prior).model.log_probabilities(query)

    np.testing.assert_allclose(same, expected, atol=1e-4)
    np.testing.assert_allclose(turned[:, ::-1], expected, atol=1e-4)


def test_a_prior_of_more_labels_is_narrowed(prior):
    """By hand: without a step of its own, the odds of two labels are the prior's."""
    labels = ("positive", "negative")
    model = fit(make(labels, 3), labels, strengths=(1e-9,), prior=prior).model

    np.testing.assert_allclose(model.weight, prior.weight[[2, 0]], atol=1e-6)


def test_a_label_that_the_prior_does_not_know_starts_at_zero(prior):
    known = replace(prior, labels=("negative", "other", "positive"))
    model = fit(make(LABELS, 3), strengths=(1e-9,), prior=known).model

    np.testing.assert_allclose(model.weight[1], 0, atol=1e-6)
    np.testing.assert_allclose(model.weight[2], prior.weight[2], atol=1e-6)


def test_a_prior_with_fewer_than_two_of_the_labels_is_left_out(prior):
    support = make(LABELS, 3)
    strange = replace(prior, labels=("negative", "x", "y"))
    without = NgramModel(("x", "y", "z"), np.zeros_like(prior.weight), prior.bias)

    found = [fit(support, prior=one).model.weight for one in (strange, without)]

    assert fit(support, prior=strange).prior_scale == 0.0
    np.testing.assert_array_equal(*found)


def test_each_task_of_a_prior_weighs_the_same():
    """One task calls good what the other, ten times as large, calls bad: neither wins."""
    large = [Example("great", "positive")] * 50 + [Example("awful", "negative")] * 50
    small = [Example("great", "negative")] * 5 + [Example("awful", "positive")] * 5
    labels = ("negative", "positive")
    tasks = [task(tuple(large), labels), task(tuple(small), labels)]

    model = fit_prior(tasks, labels, seed=0, features=FEATURES)

    np.testing.assert_allclose(np.exp(model.log_probabilities(["great", "awful"])), 0.5, atol=0.02)


def test_a_task_that_lacks_a_label_says_nothing_of_it():
    pair = make(("negative", "positive"), 10)

    model = fit_prior([task(pair, ("negative", "positive"))], LABELS, seed=0, features=FEATURES)

    np.testing.assert_allclose(model.weight[1], 0, atol=1e-9)
    assert np.abs(model.weight[[0, 2]]).max() > 0.1


def test_a_prior_depends_on_its_seed_alone(prior):
    again = fit_prior([task(make(LABELS, 30, seed=5), LABELS)], LABELS, seed=0, features=FEATURES)

    np.testing.assert_array_equal(again.weight, prior.weight)
    np.testing.assert_array_equal(again.bias, prior.bias)


@pytest.mark.parametrize("with_prior", [False, True])
def test_words_that_tell_the_labels_apart_are_found(prior, with_prior):
    one = episode()

    answers = ask(predictor(prior=prior if with_prior else None), one)

    right = [answer.label == e.target for answer, e in zip(answers, one.query, strict=True)]
    assert np.mean(right) > 0.9
    for answer in answers:
        assert list(answer.probabilities) == list(LABELS)
        assert sum(answer.probabilities.values()) == pytest.approx(1)
        assert answer.label == max(answer.probabilities, key=answer.probabilities.__getitem__)


def test_a_label_without_support_has_probability_zero():
    answers = ask(predictor(), episode(("negative", "positive")))

    assert {answer.probabilities["neutral"] for answer in answers} == {0.0}
    assert all(sum(answer.probabilities.values()) == pytest.approx(1) for answer in answers)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_examples_lower_the_number_of_folds_and_warn_of_nothing(count):
    one = episode(count=count)

    assert len(ask(predictor(folds=5), one)) == len(one.query)


def test_no_query_texts_have_no_answers():
    assert ask(predictor(), replace(episode(), query=())) == []


def test_texts_without_any_n_gram_have_the_odds_of_their_labels():
    """By hand: the bias alone learns that two of three are positive."""
    support = [Example(sign, "positive") for sign in "ab"] + [Example("c", "negative")]
    model = fit(support, ("negative", "positive")).model

    np.testing.assert_allclose(np.exp(model.log_probabilities(["x"])), [[1 / 3, 2 / 3]], atol=1e-4)


def test_the_order_of_the_values_does_not_matter():
    one = episode()

    assert ask(predictor(regularization=(10.0, 1.0)), one) == ask(predictor(), one)


def test_the_support_set_is_learned_before_the_query_set_is_read(monkeypatch):
    one, happened = episode(), []

    def watched(texts, *, features):
        happened.append("query" if one.query[0].source in texts else "support")
        return count_ngrams(texts, features=features)

    monkeypatch.setattr("nlp_meta.objectives.ngrams.count_ngrams", watched)
    learned = predictor()(one.support_set)
    happened.append("learned")
    learned(one.queries)

    assert happened == ["support", "learned", "query"]


@pytest.mark.parametrize("labels", [(), ("positive",)])
def test_a_support_set_of_fewer_than_two_labels_is_refused(labels):
    with pytest.raises(EpisodeError, match=r"task 'made/task'.*at least 2 are needed"):
        ask(predictor(), episode(labels))


@pytest.mark.parametrize("bad", [{"regularization": ()}, {"regularization": (0.0,)}, {"folds": 1}])
def test_choices_that_cannot_be_made_are_refused(bad):
    with pytest.raises(SettingsError, match="`regularization` or `folds`"):
        predictor(**bad)
