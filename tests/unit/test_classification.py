"""Classification on a tiny random encoder: masked labels, both heads, minibatches."""

import math
from dataclasses import replace

import pytest
import torch

from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.heads import prototype_head
from nlp_meta.errors import SettingsError
from nlp_meta.meta.inner_loop import mean_gradient, repeat
from nlp_meta.models.builders import build_classifier
from nlp_meta.objectives.classification import to_predictions
from nlp_meta.settings import ModelSettings

LABELS = ("negative", "neutral", "positive")
TEXTS = {
    "negative": ("bad food", "the staff was awful, never again", "hated it", "slow and cold"),
    "neutral": ("the house", "it is a phone", "a room or a plot", "we had service"),
    "positive": ("great food", "we loved the quiet room", "very good staff!", "warm and fast"),
}


@pytest.fixture
def build(tiny_encoder):
    def build(*, head="shared", labels=LABELS, pooling="native", batch_tokens=200):
        settings = ModelSettings(str(tiny_encoder), None, pooling, head, "", 32, 2, 4, 2, None)
        return build_classifier(
            settings, labels=labels, device="cpu", precision="no", batch_tokens=batch_tokens
        )

    return build


def episode(*labels: str, shot: int = 3) -> Episode:
    """`shot` support examples a label; the rest is the query set."""
    examples = [(label, [Example(text, label) for text in TEXTS[label]]) for label in labels]
    return Episode(
        "made/task",
        labels,
        tuple(e for _, some in examples for e in some[:shot]),
        tuple(e for _, some in examples for e in some[shot:]),
        0,
    )


def moved(objective, *, tasks=1):
    """Stacked meta-parameters away from their beginning, where nothing is zero."""
    generator = torch.Generator().manual_seed(0)
    meta = objective.meta_parameters(generator)
    some = {n: v + 0.1 * torch.randn(v.shape, generator=generator) for n, v in meta.items()}
    return repeat(some, tasks=tasks)


def test_beginning_is_undecided_among_the_labels_that_a_task_has(build):
    """By hand: equal logits for n labels cost log n nats; a masked label is not among them."""
    objective = build()
    episodes = [episode(*LABELS), episode("negative", "positive")]
    meta = repeat(objective.meta_parameters(torch.Generator().manual_seed(0)), tasks=2)

    (minibatch,) = objective.support_batches(episodes, minibatch=None)
    losses, _ = mean_gradient(objective.loss, meta, minibatch)

    torch.testing.assert_close(losses, torch.tensor([math.log(3), math.log(2)]))


def test_masked_label_has_probability_0_and_gets_no_gradient(build):
    """By hand: e to the power of -10000 is 0 in float32."""
    objective, one = build(), episode("negative", "positive")
    weights = moved(objective)
    (minibatch,) = objective.support_batches([one], minibatch=None)

    (logs,) = objective.predict(weights, objective.query_batches([one]))
    _, gradient = mean_gradient(objective.loss, weights, minibatch)

    assert not logs.exp()[:, 1].any()
    head = gradient["classifier.weight"][0], gradient["classifier.bias"][0]
    assert not head[0][1].any() and not head[1][1].any()
    assert head[0][0].any() and head[0][2].any()


def test_masking_a_label_is_leaving_its_row_out(build):
    """Another route: an objective of the two labels alone, with their rows of the head."""
    objective, one = build(), episode("negative", "positive")
    weights = moved(objective)
    kept = {"classifier.weight", "classifier.bias"}
    narrow = {n: v[:, [0, 2]] if n in kept else v for n, v in weights.items()}
    smaller = replace(objective, labels=one.labels)

    (masked,) = objective.predict(weights, objective.query_batches([one]))
    (alone,) = smaller.predict(narrow, smaller.query_batches([one]))

    torch.testing.assert_close(masked[:, [0, 2]], alone)


def test_answers_are_among_the_tasks_labels_and_add_up_to_one(build):
    objective = build()
    episodes = [episode("negative", "positive"), episode(*LABELS), episode("positive", "neutral")]

    answers = objective.answer(
        moved(objective, tasks=3), objective.query_batches(episodes), episodes
    )

    for one, some in zip(episodes, answers, strict=True):
        assert len(some) == len(one.query)
        for answer in some:
            assert set(answer.probabilities) == set(one.labels)
            assert sum(answer.probabilities.values()) == pytest.approx(1)
            assert answer.label == max(answer.probabilities, key=answer.probabilities.get)


def test_of_equal_probabilities_the_first_label_is_answered():
    """By hand: equal logarithms of the two that are kept."""
    answers = to_predictions(torch.zeros(1, 3), LABELS, ("neutral", "positive"))

    assert answers[0].label == "neutral"
    assert answers[0].probabilities == {"neutral": 0.5, "positive": 0.5}


def test_predictions_keep_the_order_of_the_examples(build):
    """Another route: each example in a query set of its own."""
    objective, one = build(batch_tokens=24), episode(*LABELS, shot=1)
    weights = moved(objective)

    (together,) = objective.predict(weights, objective.query_batches([one]))

    for example, row in zip(one.query, together, strict=True):
        alone = objective.query_batches([replace(one, query=(example,))])
        torch.testing.assert_close(objective.predict(weights, alone)[0][0], row)


def test_size_of_the_padded_batches_does_not_matter(build):
    """Another route: everything in one batch."""
    one = episode(*LABELS)
    found = []
    for batch_tokens in (1, 10_000):
        objective = build(batch_tokens=batch_tokens)
        (minibatch,) = objective.support_batches([one], minibatch=None)
        found.append((len(minibatch), mean_gradient(objective.loss, moved(objective), minibatch)))

    (pieces, small), (whole, large) = found
    assert (pieces, whole) == (9, 1)
    torch.testing.assert_close(small[0], large[0])
    torch.testing.assert_close(small[1], large[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("minibatch", "sizes"), [(None, [9]), (9, [9]), (4, [5, 4]), (3, [3, 3, 3]), (1, [1] * 9)]
)
def test_support_set_is_cut_into_minibatches(build, minibatch, sizes):
    """By hand: nine examples in parts of about so many; each part's shares add up to 1."""
    parts = build().support_batches([episode(*LABELS)], minibatch=minibatch)

    assert [sum(len(batch.targets) for batch in part) for part in parts] == sizes
    for part in parts:
        assert float(sum(batch.shares.sum() for batch in part)) == pytest.approx(1)


def test_no_minibatch_is_empty_for_the_smallest_task(build):
    """By hand: 2 examples beside 9 cannot be cut into more than 2 parts."""
    small = replace(episode("negative"), support=episode("negative").support[:2])

    parts = build().support_batches([episode(*LABELS), small], minibatch=2)

    assert len(parts) == 2
    for part in parts:
        shares = torch.zeros(2)
        for batch in part:
            shares.index_add_(0, batch.owners.index, batch.shares)
        torch.testing.assert_close(shares, torch.ones(2))


def test_prototype_head_answers_with_the_nearest_class_mean():
    """Another route: distances to means, one example after another, for tasks in a jumble."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20, 5, generator=generator, dtype=torch.float64) + 40.0
    targets = torch.tensor([0, 1, 2, 2] * 5)
    owners = torch.tensor([1, 0, 0, 1, 0] * 4)
    query = torch.randn(20, 5, generator=generator, dtype=torch.float64) + 40.0

    weight, bias = prototype_head(features, targets, owners, tasks=2, num_labels=3)

    for task in range(2):
        some, its = features[owners == task], targets[owners == task]
        means = [some[its == label].mean(0) for label in range(3)]
        gaps = [float((x - means[t]).square().sum()) for x, t in zip(some, its, strict=True)]
        spread = sum(gaps) / len(gaps)
        distances = torch.stack([(query - mean).square().sum(1) for mean in means], dim=1)
        logits = query @ weight[task].T + bias[task]
        assert torch.equal(logits.argmax(1), distances.argmin(1))
        torch.testing.assert_close(logits.log_softmax(1), (-distances / spread).log_softmax(1))


def prototypes_of(*targets: int, num_labels: int):
    features = torch.randn(len(targets), 3, generator=torch.Generator().manual_seed(0))
    owners = torch.zeros(len(targets)).long()
    return prototype_head(features, torch.tensor(targets), owners, tasks=1, num_labels=num_labels)


def test_label_without_examples_has_no_prototype():
    """By hand: rows of zeros; the loss masks them."""
    weight, bias = prototypes_of(0, 1, 0, 1, num_labels=4)

    assert not weight[0, 2:].any() and not bias[0, 2:].any()
    assert weight[0, :2].any()


def test_single_examples_do_not_make_the_prototype_head_infinite():
    """By hand: each is its own mean, so the mean distance is 0 and its floor is used."""
    weight, bias = prototypes_of(0, 1, num_labels=2)

    assert bool(weight.isfinite().all()) and bool(bias.isfinite().all())


@pytest.mark.parametrize("pooling", ["native", "mean"])
def test_prototype_objective_answers_with_the_nearest_mean_of_the_encoders_features(build, pooling):
    """Another route: transformers' own states, one text at a time, and means in a loop.

    The adapter that changes nothing leaves the encoder as it was, and BERT's pooler begins
    as the identity before its tanh. The prefix is kept in bfloat16: hence the tolerance.
    """
    objective = build(head="prototype", pooling=pooling)
    one = episode("positive", "negative")
    backbone = objective.backbone

    def feature(text):
        ids = backbone.tokenizer([text], return_tensors="pt")
        out = backbone.encoder(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"])
        states = out.last_hidden_state[0]
        return states.mean(0) if pooling == "mean" else states[0].tanh()

    features = torch.stack([feature(example.source) for example in one.support])
    truths = [example.target for example in one.support]
    means = [features[[t == label for t in truths]].mean(0) for label in one.labels]
    own = torch.stack([means[one.labels.index(truth)] for truth in truths])
    spread = (features - own).square().sum(1).mean()

    meta = repeat(objective.meta_parameters(torch.Generator().manual_seed(0)), tasks=1)
    start = objective.start(meta, objective.support_batches([one], minibatch=2))
    (answers,) = objective.answer(start, objective.query_batches([one]), [one])

    assert not any(name.startswith("classifier") for name in meta)
    for example, answer in zip(one.query, answers, strict=True):
        distances = torch.stack([(feature(example.source) - c).square().sum() for c in means])
        expected = (-distances / spread).softmax(0).tolist()
        assert [answer.probabilities[label] for label in one.labels] == pytest.approx(
            expected, abs=0.02
        )


def test_prototype_tasks_of_other_names_and_numbers_of_labels_share_a_stack(build):
    """Another route: each task on its own."""
    objective = build(head="prototype")
    renamed = replace(episode("negative", "positive"), labels=("complaint", "praise"))
    names = dict(zip(("negative", "positive"), renamed.labels, strict=True))
    renamed = replace(
        renamed,
        support=tuple(Example(e.source, names[e.target]) for e in renamed.support),
        query=tuple(Example(e.source, names[e.target]) for e in renamed.query),
    )
    episodes = [episode(*LABELS), renamed]

    def answer(some):
        weights = moved(objective, tasks=len(some))
        start = objective.start(weights, objective.support_batches(some, minibatch=None))
        return objective.answer(start, objective.query_batches(some), some)

    together, alone = answer(episodes), [answer([one])[0] for one in episodes]

    for some, others in zip(together, alone, strict=True):
        for one, other in zip(some, others, strict=True):
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_a_label_has_no_place_of_its_own_under_the_prototype_head(build):
    """The same episode with its labels in another order: answers go by name."""
    objective = build(head="prototype")
    one = episode("negative", "positive")
    other = replace(one, labels=one.labels[::-1])
    weights = moved(objective, tasks=2)
    start = objective.start(weights, objective.support_batches([one, other], minibatch=None))
    queries = objective.query_batches([one, other])

    first, second = objective.answer(start, queries, [one, other])

    for here, there in zip(first, second, strict=True):
        assert here.probabilities == pytest.approx(there.probabilities, abs=1e-5)


def test_shared_start_is_the_meta_parameters_themselves(build):
    objective = build()
    weights = moved(objective)

    assert objective.start(weights, []) is weights


def test_unknown_head_is_refused(build):
    with pytest.raises(SettingsError, match=r"'matching'.*shared, prototype.*`model\.head`"):
        build(head="matching")
