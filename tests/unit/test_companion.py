"""The companion: when it is taken, how it is mixed, and that it is stored beside its adapter."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nlp_meta.data.answers import Prediction
from nlp_meta.data.episodes import split_folds
from nlp_meta.data.tasks import Example, Task
from nlp_meta.errors import MetaModelError, SettingsError
from nlp_meta.files.outputs import seal
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.models.adaptation import FOLDS, Adaptation
from nlp_meta.models.builders import build_classifier
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.companion import Companion, find_companion
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.objectives.ngrams import NgramModel, fit_prior, held_out_parts
from nlp_meta.settings import ModelSettings

LABELS = ("negative", "positive")
WORDS = {"negative": "awful", "positive": "great"}
ROOMS = ("room", "agent", "phone", "staff", "food", "house")
TELLING = tuple(Example(f"the {room} {WORDS[name]}", name) for room in ROOMS for name in LABELS)
TEXTS = tuple(one.source for one in TELLING)
TARGETS = tuple(one.target for one in TELLING)
NEW_TEXTS = ("a great plot", "awful", "  great  ", "42")
FILES = ("companion.json", "companion.safetensors")


@pytest.fixture(scope="module")
def prior() -> NgramModel:
    task = Task("made/task", "classification", "eng", "made", "meta-train", LABELS, TELLING, ())
    return fit_prior([task], LABELS, seed=0, features=2**10)


@pytest.fixture(scope="module")
def make_model(tiny_encoder: Path) -> Callable[..., MetaModel]:
    """Build a start of a random encoder, which knows nothing of these texts."""

    def make(companion: NgramModel | None = None) -> MetaModel:
        settings = ModelSettings(
            model_name_or_path=str(tiny_encoder),
            revision=None,
            pooling="native",
            head="shared",
            prefix_text="",
            max_tokens=16,
            lora_r=2,
            lora_alpha=4.0,
            lora_layers=1,
            lora_target_modules=["query"],
        )
        objective = build_classifier(settings, labels=LABELS, device="cpu", precision="no")
        weights = objective.meta_parameters(torch.Generator().manual_seed(0))
        inner = InnerLoop(2, 0.01, "adam")
        return MetaModel(
            {"classification": objective},
            weights,
            settings,
            {"classification": Adaptation(inner, None, False)},
            {},
            companion,
        )

    return make


def encoder_says(right: float, *, support=TELLING, wrong: int = 0) -> torch.Tensor:
    """Held-out answers that give the right label this probability, and the first ones 1 less it."""
    rows = [[right if name == one.target else 1 - right for name in LABELS] for one in support]
    rows[:wrong] = [row[::-1] for row in rows[:wrong]]
    return torch.tensor(rows, dtype=torch.float64).log()


def find(found: torch.Tensor, *, support=TELLING, labels=LABELS, when="auto", prior=None):
    return find_companion(support, labels, found, prior=prior, when=when, seed=0)[:2]


def table(model: AdaptedModel | Companion, texts=NEW_TEXTS) -> np.ndarray:
    answers = model.predict(texts)
    return np.array([[answer.probabilities[name] for name in LABELS] for answer in answers])


@pytest.mark.parametrize("seed", [0, 3])
def test_both_answer_the_same_folds(seed):
    """By hand: the rarer label has 3 examples, which is fewer than the folds of an adaptation."""
    support = [*TELLING, *(Example(f"x {place}", "other") for place in range(3))]

    assert FOLDS > 3
    assert held_out_parts(support, folds=FOLDS, seed=seed) == split_folds(
        support, folds=3, seed=seed
    )


def test_n_grams_that_know_more_than_the_encoder_are_taken():
    companion, report = find(encoder_says(0.5))

    assert companion is not None
    assert report.on
    assert report.weight == 0.5  # the most there is
    assert report.mixed_loss < report.encoder_loss == pytest.approx(math.log(2))
    assert report.ngram_accuracy == report.mixed_accuracy == 1.0


def test_n_grams_that_know_nothing_are_not_taken():
    """An encoder that is right 11 times of 12 and says so is as sure as it should be."""
    support = [Example(f"{place:03d}", LABELS[place % 2]) for place in range(12)]
    found = encoder_says(11 / 12, support=support, wrong=1)

    companion, report = find(found, support=support)

    assert companion is None
    assert not report.on
    assert report.encoder_accuracy == pytest.approx(11 / 12)
    assert report.mixed_loss >= report.encoder_loss


def test_asked_for_they_are_taken_whatever_they_know():
    support = [Example(f"{place:03d}", LABELS[place % 2]) for place in range(12)]
    found = encoder_says(11 / 12, support=support, wrong=1)

    companion, report = find(found, support=support, when="ngrams")

    assert companion is not None
    assert report.on
    assert report.weight == 0.1  # the least there is
    assert companion.ngram_factor > 0


def test_not_asked_for_there_is_nothing():
    assert find(encoder_says(0.5), when="none") == (None, None)


def test_a_mixture_adds_log_odds():
    """By hand: odds of 4 to the power 0.5 times odds of 1 to 9 to the power 2: 2 to 81."""
    bias = np.log(np.array([0.1, 0.9], np.float32))
    model = NgramModel(LABELS, np.zeros((2, 8), np.float32), bias)
    answer = Prediction("negative", {"positive": 0.2, "negative": 0.8})

    (mixed,) = Companion(model, 0.5, 2.0).mix(["a text"], [answer])

    assert mixed.label == "positive"
    assert list(mixed.probabilities) == list(LABELS)
    assert mixed.probabilities["negative"] == pytest.approx(2 / 83, abs=1e-6)


def test_a_mixture_of_certainties_is_still_made_of_numbers():
    model = NgramModel(LABELS, np.zeros((2, 8), np.float32), np.array([200, 0], np.float32))
    answers = [Prediction(one, {one: 1.0, other: 0.0}) for one, other in (LABELS, LABELS[::-1])]

    mixed = Companion(model, 1.0, 1.0).mix(["a", "b"], answers)

    for answer in mixed:
        assert sum(answer.probabilities.values()) == pytest.approx(1)


def test_the_order_of_the_labels_does_not_matter(prior):
    """The same examples with the labels of the encoder's logits turned round."""
    found, turned = encoder_says(0.6), encoder_says(0.6)
    turned = turned.flip(1)
    answers = [Prediction("negative", {"negative": 0.6, "positive": 0.4})] * len(NEW_TEXTS)

    first, _ = find(found, prior=prior)
    second, _ = find(turned, labels=LABELS[::-1], prior=prior)

    for one, other in zip(
        first.mix(NEW_TEXTS, answers), second.mix(NEW_TEXTS, answers), strict=True
    ):
        assert one.label == other.label
        assert one.probabilities == pytest.approx(dict(other.probabilities), abs=1e-4)


def test_without_a_companion_the_encoder_answers_as_ever(make_model):
    """The same seed adapts the same encoder; `none` is what a mixture of it leaves out."""
    plain, mixed = (make_model().adapt(TEXTS, TARGETS, companion=w) for w in ("none", "ngrams"))

    assert plain.companion is None and plain.report.companion is None
    assert plain.weights.keys() == mixed.weights.keys()
    assert all(torch.equal(value, mixed.weights[name]) for name, value in plain.weights.items())
    told = mixed.report.companion.encoder_accuracy
    assert told == pytest.approx(plain.report.held_out_accuracy)
    assert mixed.report.companion.on
    assert np.abs(table(plain) - table(mixed)).max() > 0.01


def test_blanks_around_a_text_do_not_matter(make_model):
    model = make_model().adapt(TEXTS, TARGETS, companion="ngrams")

    np.testing.assert_array_equal(table(model, ["great"]), table(model, ["  great\n"]))
    assert model.predict([]) == []


@pytest.mark.parametrize(
    "labels", [TARGETS, ["refund" if t == "positive" else "x" for t in TARGETS]]
)
def test_a_saved_model_mixes_the_same(make_model, prior, tmp_path, labels):
    model = make_model(prior).adapt(TEXTS, labels, companion="ngrams")
    model.save_pretrained(tmp_path / "model")

    loaded = AdaptedModel.from_pretrained(tmp_path / "model")

    for one, other in zip(model.predict(NEW_TEXTS), loaded.predict(NEW_TEXTS), strict=True):
        assert one.probabilities == pytest.approx(dict(other.probabilities), abs=1e-6)
    text = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "encoder alone: the character n-grams in `companion.safetensors`" in text


def test_the_adapter_is_stored_as_if_there_were_no_companion(make_model, tmp_path):
    for when in ("none", "ngrams"):
        model = make_model().adapt(TEXTS, TARGETS, companion=when)
        model.save_pretrained(tmp_path / when)
    names = {
        when: {path.name for path in (tmp_path / when).iterdir()} for when in ("none", "ngrams")
    }

    assert names["ngrams"] - names["none"] == set(FILES)
    plain, mixed = ((tmp_path / when / "adapter_model.safetensors").read_bytes() for when in names)
    assert plain == mixed
    assert "companion" not in (tmp_path / "none" / "README.md").read_text(encoding="utf-8")


def test_a_meta_model_keeps_what_companions_start_from(make_model, prior, tmp_path):
    model = make_model(prior)
    model.save_pretrained(tmp_path / "meta")

    loaded = MetaModel.from_pretrained(tmp_path / "meta")

    np.testing.assert_array_equal(loaded.companion.weight, prior.weight)
    # In float32, as the saved one: where the processor has bfloat16 a loaded model would use it.
    objective = loaded.objectives["classification"]
    exact = replace(objective, network=replace(objective.network, dtype=None))
    exact = exact.over(exact.backbone)
    loaded = replace(loaded, objectives={"classification": exact})
    first, second = (m.adapt(TEXTS, TARGETS, companion="ngrams") for m in (model, loaded))
    assert first.report.companion.prior_scale == 1.0
    np.testing.assert_allclose(table(first), table(second), atol=1e-6)


def test_a_meta_model_without_one_loads_and_its_companions_start_at_zero(make_model, tmp_path):
    make_model().save_pretrained(tmp_path / "meta")

    loaded = MetaModel.from_pretrained(tmp_path / "meta")

    assert loaded.companion is None
    report = loaded.adapt(TEXTS, TARGETS, companion="ngrams").report.companion
    assert report.prior_scale == 0.0


def test_an_adapted_model_without_a_word_of_one_loads(make_model, tmp_path):
    """Neither the two files nor a word of them in the record, which is sealed as such."""
    make_model().adapt(TEXTS, TARGETS, companion="none").save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "nlp_meta.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["adaptation"]["companion"]
    path.write_text(json.dumps(seal(record)), encoding="utf-8")

    assert AdaptedModel.from_pretrained(tmp_path / "model").companion is None


@pytest.mark.parametrize("gone", [FILES[:1], FILES[1:], FILES])
def test_a_companion_that_was_lost_stops(make_model, tmp_path, gone):
    """As any file that the record tells of: the first that is gone is named."""
    make_model().adapt(TEXTS, TARGETS, companion="ngrams").save_pretrained(tmp_path / "model")
    for name in gone:
        (tmp_path / "model" / name).unlink()

    with pytest.raises(MetaModelError, match=f"its {gone[0]} is missing"):
        AdaptedModel.from_pretrained(tmp_path / "model")


def test_a_word_that_means_nothing_stops_at_once(make_model):
    with pytest.raises(SettingsError, match=r"'yes' as `companion`: one of auto, ngrams, none is"):
        make_model().adapt(["a"], ["b"], companion="yes")
