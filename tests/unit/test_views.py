"""The head over views: its mode, the linear models it becomes, and how its trust is learned."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from nlp_meta.data.tasks import Example, Task
from nlp_meta.encoders.heads import kernel_head
from nlp_meta.errors import DivergedError, LabelError, MetaModelError
from nlp_meta.files.outputs import seal
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.models import classification, label_judge
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.builders import build_classifier
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.views import (
    KNOWN_LABELS,
    NEW_LABELS,
    Views,
    answer_views,
    judge_views,
    look_at,
    make_head,
    trust_at,
)
from nlp_meta.objectives.ngrams import count_ngrams, fit_prior
from nlp_meta.settings import ModelSettings
from nlp_meta.training.trust import learn_trust, look_at_tasks

LABELS = ("negative", "positive")
WORDS = {"negative": "awful", "positive": "great"}
THINGS = ("room", "agent", "phone", "staff", "food", "house", "beach", "train", "shop", "film")
EXAMPLES = tuple(Example(f"the {one} was {WORDS[n]}", n) for one in THINGS for n in LABELS)
TEXTS = [example.source for example in EXAMPLES]
TARGETS = [example.target for example in EXAMPLES]
NEW = ["a great plot", "awful", "the great beach", "42"]


def draw(*, examples=12, labels=3, columns=4):
    """A kernel, answers and offsets; and the rows that the kernel is made of."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(examples, columns, generator=generator, dtype=torch.float64)
    targets = torch.arange(examples) % labels
    offsets = torch.randn(examples, labels, generator=generator, dtype=torch.float64)
    return rows, targets, torch.nn.functional.one_hot(targets, labels).double(), offsets


def test_a_linear_kernel_is_the_logistic_regression_of_scikit_learn():
    rows, targets, answers, offsets = draw()

    weights = rows.T @ kernel_head(rows @ rows.T, answers, torch.zeros_like(offsets))

    exact = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10, max_iter=10_000)
    exact.fit(rows, targets)
    np.testing.assert_allclose(weights.T, exact.coef_, atol=1e-5)


def test_at_the_mode_the_weights_are_answers_less_shares():
    rows, _, answers, offsets = draw()
    kernel = 50 * rows @ rows.T  # a step of Newton's alone goes too far

    weights = kernel_head(kernel, answers, offsets)

    shares = (offsets + kernel @ weights).softmax(-1)
    torch.testing.assert_close(weights, answers - shares, atol=1e-8, rtol=0)


def test_its_slope_is_that_of_finite_differences():
    rows, _, answers, offsets = draw()

    def value(log_scale, offset_scale):
        kernel = log_scale.exp() * rows @ rows.T + 0.1
        weights = kernel_head(kernel, answers, offset_scale * offsets)
        return (weights**2 * torch.arange(1, 4)).sum()

    inputs = [torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)]
    assert torch.autograd.gradcheck(value, [one.requires_grad_() for one in inputs], eps=1e-6)


def test_two_opposite_examples_by_hand():
    """f = k (1 - 2 s) with s the share of the wrong label, 1 / (1 + exp(2 f)) of logits f, -f."""
    kernel = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    answers = torch.eye(2, dtype=torch.float64)

    weights = kernel_head(kernel, answers, torch.zeros_like(answers))

    wrong = -float(weights[0, 1])
    assert wrong == pytest.approx(1 / (1 + math.exp(2 * 2 * wrong)), abs=1e-9)


def test_what_is_no_number_stops():
    rows, _, answers, offsets = draw()
    with pytest.raises(DivergedError, match="not numbers"):
        kernel_head(rows @ rows.T * math.nan, answers, offsets)


def look(texts, *, seed=0, labels=2, prior=True) -> Views:
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(len(texts), 5))
    counts = count_ngrams(texts, features=2**10)
    said = generator.normal(size=(len(texts), labels)) * prior
    return Views(features, counts, np.zeros((len(texts), labels)), said * 0)


def test_the_linear_models_answer_as_the_kernel_does():
    targets = np.array([LABELS.index(name) for name in TARGETS])
    support, query = look(TEXTS), look(NEW, seed=1)

    head = make_head(KNOWN_LABELS, support, targets, labels=LABELS, head=None, prior=None)
    logits = answer_views(KNOWN_LABELS, support, targets, query)

    linear = torch.from_numpy(query.features).float() @ head.weight.T + head.bias
    linear = linear.numpy() + head.ngrams.scores(query.counts)
    np.testing.assert_allclose(linear, logits, atol=1e-5)


def test_the_order_of_the_labels_does_not_matter():
    targets = np.array([LABELS.index(name) for name in TARGETS])
    support, query = look(TEXTS), look(NEW, seed=1)

    logits = answer_views(KNOWN_LABELS, support, targets, query)
    turned = answer_views(KNOWN_LABELS, support, 1 - targets, query)

    torch.testing.assert_close(logits, turned.flip(1), atol=1e-8, rtol=0)


def test_trust_grows_by_the_numbers():
    numbers = {**KNOWN_LABELS, "encoder": 0.5, "encoder_growth": 2.0, "encoder_labels": -1.0}
    trust = trust_at(numbers, examples=99, labels=5)
    expected = 0.5 + 2 * (math.log(100) - 3) - (math.log(5) - 1)
    assert float(trust["encoder"].log()) == pytest.approx(expected)


def test_held_out_parts_have_no_say_in_themselves():
    """Each text in a fold of its own class alone: other labels there change nothing elsewhere."""
    targets = np.array([LABELS.index(name) for name in TARGETS])
    support = look(TEXTS)
    head = make_head(KNOWN_LABELS, support, targets, labels=LABELS, head=None, prior=None)
    parts = [[0, 1, 2, 3], [4, 5, 6, 7]]

    right, report, pairs = judge_views(KNOWN_LABELS, support, targets, parts, head=head)

    assert 0 <= right <= 1 and report.mixed_accuracy == right
    assert len(pairs) == 8 and sum(good for _, good in pairs) == 8 * right
    assert report.ngram_accuracy == 1.0  # the words of the texts tell


@pytest.fixture(scope="module")
def make_model(tiny_encoder: Path) -> Callable[..., MetaModel]:
    def make(*, prior=False, trust=KNOWN_LABELS, head="shared") -> MetaModel:
        settings = ModelSettings(
            model_name_or_path=str(tiny_encoder),
            revision=None,
            pooling="native",
            head=head,
            prefix_text="",
            max_tokens=16,
            lora_r=2,
            lora_alpha=4.0,
            lora_layers=1,
            lora_target_modules=["query"],
        )
        labels = LABELS if head == "shared" else ()
        objective = build_classifier(settings, labels=labels, device="cpu", precision="no")
        weights = objective.meta_parameters(torch.Generator().manual_seed(0))
        how = Adaptation(InnerLoop(2, 0.01, "adam"), None, False, trust)
        task = make_task()
        known = fit_prior([task], LABELS, seed=0, features=2**10) if prior else None
        return MetaModel(
            {"classification": objective}, weights, settings, {"classification": how}, {}, known
        )

    return make


def make_task(examples=EXAMPLES, labels=LABELS, name="made/task") -> Task:
    return Task(name, "classification", "eng", "made", "meta-validation", labels, examples, ())


def table(answers):
    return np.array([list(answer.probabilities.values()) for answer in answers])


@pytest.mark.parametrize("companion", ["auto", "none"])
def test_an_adapted_model_answers_as_its_views_do(make_model, companion):
    start = make_model(prior=True)
    model = start.adapt(TEXTS, TARGETS, companion=companion)

    objective, weights = start.objectives["classification"], start.start_of("classification")
    ngrams = companion != "none"
    look_on = [
        look_at(objective, weights, texts, prior=start.companion, ngrams=ngrams)
        for texts in (TEXTS, NEW)
    ]
    targets = np.array([LABELS.index(name) for name in TARGETS])
    logits = answer_views(KNOWN_LABELS, look_on[0], targets, look_on[1])
    # Features of a random encoder hardly differ, so float32 leaves them fewer digits.
    np.testing.assert_allclose(table(model.predict(NEW)), logits.softmax(-1), atol=1e-3)
    assert model.report.by_views and model.report.steps == 0
    told = model.report.held_out
    assert len(told) == len(TEXTS)
    assert sum(good for _, good in told) / len(told) == model.report.held_out_accuracy
    assert (model.companion is not None) == ngrams


def test_a_saved_start_and_a_saved_model_answer_the_same(make_model, tmp_path):
    start = make_model(prior=True)
    model = start.adapt(TEXTS, TARGETS)
    start.save_pretrained(tmp_path / "start")
    model.save_pretrained(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "by a head over its features and n-grams" in card
    assert "How sure its answers are was learned on other tasks." in card

    again = MetaModel.from_pretrained(tmp_path / "start")
    loaded = AdaptedModel.from_pretrained(tmp_path / "model")

    assert dict(again.adaptation["classification"].trust) == KNOWN_LABELS
    assert loaded.report == model.report and loaded.report.held_out
    np.testing.assert_allclose(table(again.predict(NEW)), table(start.predict(NEW)), atol=1e-6)
    np.testing.assert_allclose(table(loaded.predict(NEW)), table(model.predict(NEW)), atol=1e-6)


def test_steps_that_are_given_are_taken(make_model):
    model = make_model().adapt(TEXTS, TARGETS, steps=3)
    assert model.report.steps == 3 and not model.report.by_views
    mixed = [good for _, good in model.report.held_out]
    alone = model.report.companion
    right = alone.mixed_accuracy if alone.on else alone.encoder_accuracy
    assert sum(mixed) / len(mixed) == pytest.approx(right)


def test_one_text_of_a_label_is_enough_where_another_has_two(make_model):
    """Nothing of the inner loop's folds is needed; what is left can still be held out."""
    texts, labels = [*TEXTS[:6], "it is a tie"], [*TARGETS[:6], "neither"]
    model = make_model(head="ridge").adapt(texts, labels)
    assert set(model.labels) == {*LABELS, "neither"}
    assert model.report.examples == 7

    with pytest.raises(LabelError, match="at least one label"):
        make_model(head="ridge").adapt(["good", "bad"], ["yes", "no"])
    with pytest.raises(LabelError, match="at least 2 of each label"):
        make_model(trust=None).adapt(texts, labels)
    with pytest.raises(LabelError, match="'neither' from 1 example"):  # beside many it is a slip
        make_model(head="ridge").adapt(
            [*(f"{t} again" for t in TEXTS), *TEXTS, texts[-1]], TARGETS * 2 + labels[-1:]
        )
    with pytest.raises(LabelError, match="a slip of 'positive'"):
        make_model(head="ridge").adapt([*TEXTS[:12], "it is a tie"], [*TARGETS[:12], "postive"])


def test_labels_that_a_start_never_saw_are_read_from_the_encoder_as_it_was(make_model, tmp_path):
    """The start's own low-rank terms and numbers play no part."""
    names = ["refund" if name == "negative" else "thanks" for name in TARGETS]
    start = make_model()
    moved = {name: value + 0.1 for name, value in start.weights.items()}
    other = replace(start, weights=moved).adapt(TEXTS, names)

    model = start.adapt(TEXTS, names)

    np.testing.assert_allclose(table(model.predict(NEW)), table(other.predict(NEW)), atol=1e-6)
    assert model.settings.pooling == "mean"
    model.save_pretrained(tmp_path / "model")
    loaded = AdaptedModel.from_pretrained(tmp_path / "model")
    np.testing.assert_allclose(table(loaded.predict(NEW)), table(model.predict(NEW)), atol=1e-6)


MANY = [*TEXTS, *(f"{text} again" for text in TEXTS)]
NAMES = [{"negative": "refund", "positive": "thanks"}[name] for name in TARGETS * 2]


def test_steps_follow_behind_the_head_of_labels_that_a_start_never_saw(make_model, tmp_path):
    done = []
    start = make_model()
    model = start.adapt(MANY, NAMES, on_step=lambda *at: done.append(at))

    report = model.report
    assert (report.by_views, report.steps, report.learning_rate) == (True, 10, 1e-3)
    assert done[-1] == (11, 11)
    assert len(report.held_out) == len(MANY)
    right = [good for _, good in report.held_out]
    assert sum(right) / len(right) == pytest.approx(report.held_out_accuracy)
    assert report.companion.mixed_accuracy == report.held_out_accuracy
    model.save_pretrained(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "and behind it in 10 steps at learning rate 0.001" in card
    assert f"Temperature {report.temperature:.3f}, fitted on held-out folds" in card
    loaded = AdaptedModel.from_pretrained(tmp_path / "model")
    np.testing.assert_allclose(table(loaded.predict(NEW)), table(model.predict(NEW)), atol=1e-6)
    assert start.adapt(MANY[:31], NAMES[:31]).report.steps == 0
    assert start.adapt(MANY, TARGETS * 2).report.steps == 0


@pytest.mark.parametrize("companion", ["auto", "none"])
def test_without_a_step_the_head_and_what_is_held_out_stay(make_model, monkeypatch, companion):
    """Another route: parts are judged by `judge_views`; only the temperature is new."""
    monkeypatch.setattr(label_judge, "BEHIND", InnerLoop(0, 1e-3, "adam"))
    stepped = make_model(head="ridge").adapt(MANY, NAMES, companion=companion)
    monkeypatch.setattr(classification, "LEAST", 1000)
    plain = make_model(head="ridge").adapt(MANY, NAMES, companion=companion)

    assert stepped.report.held_out_accuracy == pytest.approx(plain.report.held_out_accuracy)
    first, second = (np.diff(np.log(table(model.predict(NEW)))) for model in (stepped, plain))
    np.testing.assert_allclose(first * stepped.report.temperature, second, atol=1e-4)


def test_numbers_of_another_version_are_refused(make_model, tmp_path):
    trust = {name: value for name, value in KNOWN_LABELS.items() if name != "bias"}
    start = replace(make_model(), adaptation={
        "classification": Adaptation(InnerLoop(2, 0.01, "adam"), None, False, trust)
    })  # fmt: skip
    start.save_pretrained(tmp_path / "start")
    with pytest.raises(MetaModelError, match="install the version that saved it"):
        MetaModel.from_pretrained(tmp_path / "start")


def test_a_start_of_before_loads_where_it_learned_no_rates(make_model, tmp_path):
    make_model().save_pretrained(tmp_path / "start")
    record = tmp_path / "start" / "nlp_meta.json"
    values = json.loads(record.read_text(encoding="utf-8"))

    record.write_text(json.dumps(seal({**values, "step_sizes": {}})), encoding="utf-8")
    assert MetaModel.from_pretrained(tmp_path / "start").labels == LABELS
    record.write_text(json.dumps(seal({**values, "step_sizes": {"a": 0.5}})), encoding="utf-8")
    with pytest.raises(MetaModelError, match="step_sizes"):
        MetaModel.from_pretrained(tmp_path / "start")


def look_on(start: MetaModel, *tasks: Task):
    objective, weights = start.objectives["classification"], start.start_of("classification")
    return look_at_tasks(objective, weights, tasks, prior=start.companion, seed=0)


def test_trust_is_learned_from_tasks(make_model):
    """Of a random encoder and telling words the n-grams gain; the same seed gives the same."""
    pools = look_on(make_model(), make_task(), make_task(name="made/other"))

    first, second = (learn_trust(pools, seed=0, steps=12, stiffness=0.0) for _ in range(2))

    assert first == second
    gained = first["ngrams"] - KNOWN_LABELS["ngrams"]
    assert gained > 0.3 > first["encoder"] - KNOWN_LABELS["encoder"]


def test_stiffness_holds_numbers_that_no_task_speaks_for(make_model):
    learned = learn_trust(look_on(make_model(head="ridge"), make_task()), seed=0, steps=2)
    assert learned["start"] == NEW_LABELS["start"]  # there is no head that it could trust


def test_a_support_set_is_drawn_in_turns(make_model):
    (pool,) = look_on(make_model(), make_task())
    support, query = pool.draw(np.random.default_rng(0), 7)
    assert sorted(np.bincount(pool.targets[support])) == [3, 4]
    assert not set(support) & set(query) and len(query) == len(EXAMPLES) - 7
