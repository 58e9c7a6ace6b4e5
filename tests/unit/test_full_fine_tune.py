"""Full fine-tuning on a tiny random encoder; the recipe once more by plain PyTorch."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.backbone import load_backbone
from nlp_meta.errors import DivergedError, EpisodeError, SettingsError
from nlp_meta.rivals import full_fine_tune as module
from nlp_meta.rivals.full_fine_tune import FullFineTuning, choose_full_fine_tuning, full_fine_tune

LABELS = ("bad", "fine", "good")
GOOD = ("good phone", "great food and loved it", "loved the room", "great service")
BAD = ("bad phone", "awful food", "hated it and hated the room", "awful slow service")
TUNING = FullFineTuning(1e-3, 1e-2, steps=6, decay_steps=6, batch_size=4, seed=0)


@pytest.fixture(scope="module")
def backbone(tiny_encoder):
    return load_backbone(str(tiny_encoder), pooling="mean", max_tokens=24)


def episode(*, good=GOOD, bad=BAD, query=GOOD + BAD) -> Episode:
    support = [Example(text, "good") for text in good] + [Example(text, "bad") for text in bad]
    hidden = tuple(Example(text, "") for text in query)
    return Episode("made/task", LABELS, tuple(support), hidden, 0)


def ask(rival, one: Episode):
    """Let a method learn the support set of an episode, then answer its queries."""
    return rival(one.support_set)(one.queries)


def tune(backbone, tuning=TUNING, *, batch_tokens=512):
    return full_fine_tune(backbone, tuning=tuning, batch_tokens=batch_tokens, autocast=None)


def choose(backbone, *, steps, rates, metric, episodes=None):
    return choose_full_fine_tuning(
        backbone,
        episodes or [episode()],
        tuning=TUNING,
        steps=steps,
        learning_rates=rates,
        metric=metric,
        batch_tokens=512,
        autocast=None,
    )


def surest(one: Episode, answers) -> float:
    """A score: the mean probability of good."""
    return sum(answer.probabilities["good"] for answer in answers) / len(answers)


def rows(answers) -> torch.Tensor:
    return torch.tensor([list(answer.probabilities.values()) for answer in answers])


def test_support_examples_are_learned(backbone):
    answers = ask(tune(backbone, replace(TUNING, steps=30, decay_steps=30)), episode())

    assert [answer.label for answer in answers] == ["good"] * 4 + ["bad"] * 4
    for answer in answers:
        assert list(answer.probabilities) == list(LABELS)
        assert answer.probabilities["fine"] == 0
        assert sum(answer.probabilities.values()) == pytest.approx(1)


def test_no_episode_leaves_a_trace(backbone):
    """The same episode has the same answers, whatever was answered between; nothing moved."""
    before = copy.deepcopy(backbone.model.state_dict())
    random_state = torch.get_rng_state()
    rival = tune(backbone)

    first = ask(rival, episode())
    ask(rival, episode(good=BAD, bad=GOOD))
    again = ask(rival, episode())

    assert first == again
    assert torch.equal(random_state, torch.get_rng_state())
    for name, value in backbone.model.state_dict().items():
        assert torch.equal(value, before[name])
    for parameter in backbone.model.parameters():
        assert (parameter.requires_grad, parameter.grad) == (False, None)
    assert not backbone.model.training


def test_every_parameter_of_the_encoder_moves(backbone, monkeypatch):
    copies, deepcopy = [], copy.deepcopy

    def remember(value):
        copies.append(deepcopy(value))
        return copies[-1]

    monkeypatch.setattr(module, "copy", SimpleNamespace(deepcopy=remember))
    ask(tune(backbone), episode())

    (moved,) = copies
    assert not moved.training
    was = dict(backbone.encoder.named_parameters())
    still = [name for name, value in moved.named_parameters() if torch.equal(value, was[name])]
    assert still == []


def test_training_is_that_of_adamw_under_a_schedule(backbone):
    """Another route: the loop once more, on the whole support set, rates written by hand."""
    one = episode(good=GOOD[:3], bad=BAD[:2])
    encoder = copy.deepcopy(backbone.encoder).requires_grad_(True)
    head = torch.nn.Linear(32, 2)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    optimizer = torch.optim.AdamW([{"params": encoder.parameters()}, {"params": head.parameters()}])

    def logits(examples):
        found = []
        for example in examples:
            ids = backbone.tokenizer(example.source, return_tensors="pt")["input_ids"]
            found.append(head(encoder(input_ids=ids).last_hidden_state[0].mean(0)))
        return torch.stack(found)

    targets = torch.tensor([1, 1, 1, 0, 0])
    for share in (0.5, 1.0):  # the first two of twenty steps: the rates still rise
        optimizer.param_groups[0]["lr"] = 1e-3 * share
        optimizer.param_groups[1]["lr"] = 1e-2 * share
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits(one.support), targets).backward()
        torch.nn.utils.clip_grad_norm_([*encoder.parameters(), *head.parameters()], 1.0)
        optimizer.step()
    expected = logits(one.query).softmax(-1)

    tuning = replace(TUNING, steps=2, decay_steps=20, batch_size=5)
    found = rows(ask(tune(backbone, tuning), one))

    torch.testing.assert_close(found[:, [0, 2]], expected, atol=1e-4, rtol=0)
    assert (found[:, 0] - 0.5).abs().max() > 1e-3


def test_rates_rise_for_a_tenth_and_fall_to_the_end():
    """By hand, for 20 steps: halves of the rise, then eighteen equal parts of the fall."""
    tuning = replace(TUNING, steps=20, decay_steps=20)

    found = [tuning.rate_at(step) for step in (1, 2, 3, 4, 11, 20)]

    assert found == pytest.approx([1 / 2, 1, 1, 17 / 18, 10 / 18, 1 / 18])


def test_a_minibatch_may_be_cut_into_any_pieces(backbone):
    whole, pieces = (rows(ask(tune(backbone, batch_tokens=size), episode())) for size in (4096, 1))

    torch.testing.assert_close(whole, pieces, atol=1e-4, rtol=0)


def test_the_seed_decides_the_order_of_the_examples(backbone):
    tuning = replace(TUNING, batch_size=2)

    one, other = (ask(tune(backbone, replace(tuning, seed=seed)), episode()) for seed in (0, 1))

    assert one != other


def test_native_backbones_are_read_by_their_mean_states_too(backbone, tiny_encoder):
    native = load_backbone(str(tiny_encoder), pooling="native", max_tokens=24)

    found, expected = (rows(ask(tune(one), episode())) for one in (native, backbone))

    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_the_support_set_is_learned_before_the_query_set_is_read(backbone, monkeypatch):
    happened: list[str] = []
    tokenize = module.tokenize

    def watched(one, texts):
        happened.append(texts[0])
        return tokenize(one, texts)

    monkeypatch.setattr(module, "tokenize", watched)
    one = episode(query=("quiet house",))
    learned = tune(backbone)(one.support_set)
    happened.append("learned")
    learned(one.queries)

    assert happened == [GOOD[0], "learned", "quiet house"]


def test_no_query_has_no_answer(backbone):
    assert ask(tune(backbone), episode(query=())) == []


def test_what_was_judged_is_what_the_chosen_tuning_does(backbone):
    """The head's rate stays ten times the encoder's, as in `TUNING`."""
    chosen, trials = choose(backbone, steps=[2, 5], rates=[1e-3, 1e-4], metric=surest)

    assert [(trial.steps, trial.learning_rate) for trial in trials] == [
        (2, 1e-3),
        (5, 1e-3),
        (2, 1e-4),
        (5, 1e-4),
    ]
    for trial in trials:
        tuning = replace(
            TUNING,
            steps=trial.steps,
            decay_steps=5,
            learning_rate=trial.learning_rate,
            head_learning_rate=10 * trial.learning_rate,
        )
        judged = surest(episode(), ask(tune(backbone, tuning), episode()))
        assert trial.score == pytest.approx(judged, abs=1e-6)
    best = max(trials, key=lambda trial: trial.score)
    assert (chosen.steps, chosen.decay_steps) == (best.steps, 5)
    assert chosen.learning_rate == best.learning_rate
    assert chosen.head_learning_rate == pytest.approx(10 * best.learning_rate)


def test_scores_are_averaged_and_of_equal_ones_the_shortest_is_chosen(backbone):
    """By hand: the two episodes score 1 and 3 at every step."""
    two = [replace(episode(), index=1), replace(episode(), index=3)]

    chosen, trials = choose(
        backbone, steps=[3, 1], rates=[1e-3], metric=lambda one, _: float(one.index), episodes=two
    )

    assert [trial.score for trial in trials] == [2.0, 2.0]
    assert (chosen.steps, chosen.decay_steps) == (1, 3)


def test_a_rate_that_diverges_scores_nothing(backbone):
    chosen, trials = choose(backbone, steps=[1, 3], rates=[1e30, 1e-3], metric=surest)

    assert chosen.learning_rate == 1e-3
    assert [trial.score for trial in trials[:2]] == [float("-inf")] * 2


def test_a_loss_that_is_not_finite_is_refused(backbone):
    with pytest.raises(DivergedError, match=r"task 'made/task'.*lower `rivals\.full_"):
        ask(tune(backbone, replace(TUNING, learning_rate=1e30)), episode())
    with pytest.raises(DivergedError, match=r"add lower ones to `rivals\.full_learning_rates`"):
        choose(backbone, steps=[3], rates=[1e30], metric=surest)


@pytest.mark.parametrize("support", [{"good": (), "bad": ()}, {"good": (), "bad": BAD}])
def test_a_support_set_of_fewer_than_two_labels_is_refused(backbone, support):
    with pytest.raises(EpisodeError, match=r"task 'made/task'.*at least 2 are needed"):
        ask(tune(backbone), episode(**support))


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 0.0},
        {"head_learning_rate": -1.0},
        {"steps": 0},
        {"steps": 7},
        {"batch_size": 0},
    ],
)
def test_tuning_that_cannot_be_done_is_refused(change):
    with pytest.raises(SettingsError, match=r"change `rivals\.full_learning_rates`"):
        replace(TUNING, **change)


@pytest.mark.parametrize(("steps", "rates"), [([], [1e-3]), ([1], [])])
def test_nothing_to_choose_from_is_refused(backbone, steps, rates):
    with pytest.raises(SettingsError, match=r"change `rivals\.full_steps`"):
        choose(backbone, steps=steps, rates=rates, metric=surest)
