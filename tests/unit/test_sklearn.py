"""A start as a classifier of scikit-learn: it is used as any other, and gives the same answers."""

from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator

from nlp_meta import MetaModel
from nlp_meta.errors import DataError, LabelError, PickleError, SettingsError
from nlp_meta.sklearn import FewShotClassifier

GOOD = ["a great phone", "i loved it", "good food", "a good plot", "great staff", "cheap and good"]
BAD = ["awful food", "a bad plot", "never again", "slow staff", "a loud room", "bad brakes"]
TEXTS = np.array([*GOOD, *BAD])
LABELS = np.array([1] * 6 + [0] * 6)


@pytest.fixture
def classifier(tiny_start: MetaModel) -> FewShotClassifier:
    return FewShotClassifier(tiny_start, steps=2, companion="none")


def test_it_answers_as_the_model_that_the_start_adapts(classifier, tiny_start):
    """By the other route, whose labels 1 and 0 are named positive and negative."""
    fitted = classifier.fit(TEXTS, LABELS)
    model = tiny_start.adapt(TEXTS, LABELS, steps=2, companion="none")
    answers = model.predict(TEXTS)

    assert fitted.classes_.tolist() == [0, 1] and model.labels == ("negative", "positive")
    names = {"negative": 0, "positive": 1}
    assert fitted.predict(TEXTS).tolist() == [names[answer.label] for answer in answers]
    expected = [[a.probabilities[name] for name in model.labels] for a in answers]
    assert np.allclose(fitted.predict_proba(TEXTS), expected)
    assert fitted.score(TEXTS, LABELS) == np.mean(fitted.predict(TEXTS) == LABELS)


def test_a_label_map_turns_what_zero_and_one_mean(classifier):
    plain = classifier.fit(TEXTS, LABELS).predict_proba(TEXTS)
    turned = clone(classifier).set_params(label_map={0: "positive", 1: "negative"})

    np.testing.assert_allclose(turned.fit(TEXTS, 1 - LABELS).predict_proba(TEXTS), plain[:, ::-1])
    assert turned.classes_.tolist() == [0, 1]


def test_without_a_start_it_takes_that_of_the_language(tiny_start, monkeypatch):
    asked = []
    found = lambda name, **_: asked.append(name) or tiny_start  # noqa: E731
    monkeypatch.setattr(MetaModel, "from_pretrained", found)

    for words in ("the {} of it", "das {} ging"):
        texts = [words.format(text) for text in TEXTS]
        FewShotClassifier(steps=2, companion="none").fit(iter(texts), LABELS)

    assert asked == ["builtin:reviews-en", "builtin:labels-multi"]  # 0 and 1 beside "neutral"


def test_classes_are_the_labels_as_they_were_given(classifier):
    """Named anew or not: sorted, of their own type, one column each."""
    stars = classifier.fit(TEXTS, np.array(["5 stars", "1 star", "3 stars"] * 4))

    assert stars.classes_.tolist() == ["1 star", "3 stars", "5 stars"]
    assert stars.predict_proba(TEXTS).sum(axis=1) == pytest.approx(1)
    assert set(stars.predict(TEXTS)) <= set(stars.classes_)
    with pytest.raises(LabelError, match=r"the labels in `y` .*write them all as text"):
        classifier.fit(TEXTS, np.array(["5 stars", 1] * 6, dtype=object))
    with pytest.raises(SettingsError, match="None as `random_state`"):
        classifier.set_params(random_state=None).fit(TEXTS, LABELS)


def test_it_serves_where_classifiers_do(classifier):
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])

    scores = cross_val_score(make_pipeline(lower, classifier), TEXTS, LABELS, cv=2)
    calibrated = CalibratedClassifierCV(classifier, cv=2).fit(TEXTS, LABELS)

    assert scores.shape == (2,) and ((scores >= 0) & (scores <= 1)).all()
    assert calibrated.predict_proba(list(TEXTS)).shape == (12, 2)


@pytest.mark.slow
def test_a_fitted_one_comes_out_of_a_file_as_it_was(tiny_start, tmp_path: Path):
    tiny_start.save_pretrained(tmp_path / "start")
    start = str(tmp_path / "start")
    fitted = FewShotClassifier(start, steps=2, companion="ngrams").fit(TEXTS, LABELS)

    joblib.dump(fitted, tmp_path / "fitted.joblib")
    loaded = joblib.load(tmp_path / "fitted.joblib")

    assert loaded.get_params() == fitted.get_params()
    assert np.allclose(loaded.predict_proba(TEXTS), fitted.predict_proba(TEXTS), atol=1e-6)
    with pytest.raises(PickleError, match="cannot pickle this MetaModel"):
        joblib.dump(FewShotClassifier(tiny_start), tmp_path / "start.joblib")


def test_clones_share_a_loaded_start_and_no_fit(classifier, tiny_start):
    copy = clone(classifier.fit(TEXTS, LABELS))

    assert copy.start is tiny_start and copy.get_params() == classifier.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(TEXTS)
    with pytest.raises(DataError, match="text 1 of 12"):
        copy.fit(np.arange(12.0), LABELS)


WITHOUT_DATA = (
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
)


def test_scikit_learn_checks_what_takes_texts_as_far_as_it_can(classifier):
    """Its checks with data draw matrices of numbers, so it warns and leaves all of them out."""
    with pytest.warns(SkipTestWarning, match="Can't test estimator FewShotClassifier"):
        results = check_estimator(classifier, on_fail=None)

    assert [(r["check_name"], r["status"]) for r in results] == [
        ("check_estimator_cloneable", "passed")
    ]


@pytest.mark.parametrize("name", WITHOUT_DATA)
def test_checks_of_scikit_learn_that_need_no_data_pass(classifier, name):
    getattr(estimator_checks, name)("FewShotClassifier", classifier)
