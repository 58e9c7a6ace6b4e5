"""Choices on objectives made by hand: parabolas, and copies that remember what they saw."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from nlp_meta.data.answers import Prediction
from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.episodes import Episode, split_folds
from nlp_meta.data.tasks import Example
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.meta.objective import Trial, adapt_episodes, choose_adaptation, in_stacks, score_path
from nlp_meta.rivals.fine_tune import held_out_path
from nlp_meta.settings import MetaTraining
from nlp_meta.training.config import read_settings
from nlp_meta.training.plan import find_adaptation, load_splits, validation_episodes
from nlp_meta.training.run import train_meta_model

CONFIG = Path(__file__).resolve().parents[2] / "recipes" / "configs" / "fomaml_reviews.yaml"
SGD = InnerLoop(1, 0.1, "sgd")


@dataclass
class Parabola:
    """Half the squared distance of `w` to the number in the support text; answers with `w`."""

    stacks: list[int] = field(default_factory=list)

    def loss(self, weights, targets):
        return 0.5 * (weights["w"] - targets).square()

    def start(self, weights, support):
        return weights

    def support_batches(self, episodes, *, minibatch):
        self.stacks.append(len(episodes))
        return [[torch.tensor([float(episode.support[0].source) for episode in episodes])]]

    def query_batches(self, episodes):
        return []

    def answer(self, weights, query, episodes):
        return [[Prediction("w", {"w": value})] for value in weights["w"].tolist()]


def towards(*targets: float) -> list[Episode]:
    return [
        Episode("made/task", ("w",), (Example(str(target), "w"),), (), index)
        for index, target in enumerate(targets)
    ]


def near(goal: float):
    """A score that is best where `w` is at the goal."""
    return lambda episode, answers: -abs(answers[0].probabilities["w"] - goal)


def choose(*, goal, steps=(1, 2, 4), rates=(0.1, 0.5), episodes=(1.0,), stack=8):
    return choose_adaptation(
        Parabola(),
        {"w": torch.tensor(0.0)},
        towards(*episodes),
        inner=InnerLoop(9, 9.0, "sgd", anchor=0.0),
        minibatch=None,
        steps=steps,
        learning_rates=rates,
        stack=stack,
        metric=near(goal),
    )


@pytest.mark.parametrize(
    ("goal", "steps", "rate"),
    [(0.1, 1, 0.1), (0.19, 2, 0.1), (0.3439, 4, 0.1), (0.5, 1, 0.5), (0.75, 2, 0.5), (1.0, 4, 0.5)],
)
def test_steps_and_rate_that_score_best_are_chosen(goal, steps, rate):
    """By hand: n steps of a towards 1 from 0 lead to 1 - (1 - a) ** n."""
    chosen, _ = choose(goal=goal)

    assert (chosen.steps, chosen.learning_rate) == (steps, rate)
    assert chosen.optimizer == "sgd"


def test_every_trial_is_reported_with_its_mean_score():
    """By hand: one step of 0.1 towards 1 and 3 leads to 0.1 and 0.3, 0.2 from 0 on average."""
    _, trials = choose(goal=0.0, steps=(0, 1), rates=(0.1,), episodes=(1.0, 3.0))

    assert [(trial.steps, trial.learning_rate) for trial in trials] == [(0, 0.1), (1, 0.1)]
    assert [trial.score for trial in trials] == pytest.approx([0.0, -0.2])


def test_of_equal_scores_the_shortest_adaptation_is_chosen():
    """By hand: an episode towards the start stays there at every rate."""
    chosen, _ = choose(goal=5.0, episodes=(0.0,), steps=(4, 1, 2))

    assert (chosen.steps, chosen.learning_rate) == (1, 0.1)


def test_a_rate_that_diverges_scores_nothing():
    """By hand: 1e30 squared is beyond float32; at 0.1 all is well."""
    chosen, trials = choose(goal=1e30, steps=(1, 3), rates=(1e30, 0.1))

    assert chosen.learning_rate == 0.1
    worst = [trial for trial in trials if trial.learning_rate == 1e30]
    assert worst == [Trial(1, 1e30, float("-inf")), Trial(3, 1e30, float("-inf"))]


def test_stacks_do_not_change_the_choice():
    """Another route: one episode at a time."""
    many, one = (
        choose(goal=0.6, episodes=(1.0, 2.0, -1.0, 0.5, 4.0), stack=stack) for stack in (2, 1)
    )

    assert many[0] == one[0]
    for trial, other in zip(many[1], one[1], strict=True):
        assert trial.score == pytest.approx(other.score)


def test_episodes_are_cut_into_stacks():
    assert list(in_stacks([1, 2, 3, 4, 5], size=2)) == [[1, 2], [3, 4], [5]]


def test_one_path_scores_all_its_steps():
    """By hand: 0, 0.1 and 0.19 towards 1; twice that towards 2."""
    scores = score_path(
        Parabola(),
        {"w": torch.tensor(0.0)},
        towards(1.0, 2.0),
        inner=InnerLoop(2, 0.1, "sgd"),
        minibatch=None,
        at_steps=[0, 1, 2],
        metric=near(0.0),
    )

    expected = {0: [0.0, 0.0], 1: [-0.1, -0.2], 2: [-0.19, -0.38]}
    assert scores == {step: pytest.approx(values) for step, values in expected.items()}


def test_adapted_episodes_are_stacked():
    fast = adapt_episodes(
        Parabola(), {"w": torch.tensor(0.0)}, towards(1.0, 2.0), inner=SGD, minibatch=None
    )

    torch.testing.assert_close(fast["w"], torch.tensor([0.1, 0.2]))


class Memory:
    """Weight `i` grows whenever the text `i` is adapted to; answers tell what was seen."""

    def __init__(self, size: int) -> None:
        self.size = size

    def loss(self, weights, seen):
        return -(weights["w"] * seen).sum(1)

    def start(self, weights, support):
        return weights

    def support_batches(self, episodes, *, minibatch):
        seen = torch.zeros(len(episodes), self.size)
        for task, episode in enumerate(episodes):
            seen[task, [int(example.source) for example in episode.support]] = 1.0
        return [[seen]]

    def query_batches(self, episodes):
        return []

    def answer(self, weights, query, episodes):
        return [
            [
                Prediction(example.source, {str(i): v for i, v in enumerate(row.tolist())})
                for example in episode.query
            ]
            for row, episode in zip(weights["w"], episodes, strict=True)
        ]


def support_of(*counts: int) -> tuple[Example, ...]:
    """So many examples of each label, in turn; each text is its place."""
    labels = [str(label) for label, count in enumerate(counts) for _ in range(count)]
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).tolist()
    return tuple(Example(str(place), labels[index]) for place, index in enumerate(order))


@pytest.mark.parametrize("folds", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_each_example_is_answered_by_a_copy_that_has_not_seen_it(folds, seed):
    """By hand: s steps of 0.1 up a slope of 1 move what was seen by 0.1 * s, nothing else."""
    support = support_of(5, 6)
    episode = Episode("made/task", ("0", "1"), support, (), 0)
    ticks: list[None] = []

    found = held_out_path(
        Memory(len(support)),
        {"w": torch.zeros(len(support))},
        episode,
        inner=InnerLoop(2, 0.1, "sgd"),
        minibatch=None,
        at_steps=[0, 2],
        folds=folds,
        seed=seed,
        on_step=lambda: ticks.append(None),
    )

    assert set(found) == {0, 2} and len(ticks) == 3
    parts = split_folds(support, folds=folds, seed=seed)
    for place, answer in enumerate(found[2]):
        (own,) = (part for part in parts if place in part)
        assert answer.label == str(place)
        unseen = {int(name) for name, value in answer.probabilities.items() if value == 0.0}
        assert place in unseen and unseen == set(own)
        rest = [v for name, v in answer.probabilities.items() if int(name) not in own]
        assert rest == pytest.approx([0.2] * len(rest))
    assert [answer.label for answer in found[0]] == [example.source for example in support]


@pytest.mark.parametrize("counts", [(8, 8), (4, 9, 5), (2, 2)])
def test_folds_hold_every_example_once_and_each_label_alike(counts):
    """By hand: n examples dealt to k folds give each n // k of them or one more."""
    support, folds = support_of(*counts), min(4, *counts)

    parts = split_folds(support, folds=folds, seed=1)

    assert sorted(place for part in parts for place in part) == list(range(len(support)))
    for part in parts:
        labels = Counter(support[place].target for place in part)
        for label, count in enumerate(counts):
            assert labels[str(label)] in (count // folds, count // folds + 1)


def test_folds_depend_on_the_seed_alone():
    support = support_of(8, 8)

    one, two, other = (split_folds(support, folds=4, seed=seed) for seed in (0, 0, 1))

    assert one == two != other


def test_a_single_choice_has_the_score_that_a_search_would_give_it(tiny_encoder, tmp_path):
    """Two routes: the judgement behind the last outer step, and a search on the same episodes."""
    words = (
        f"--data.cards [nlp_meta_reviews] --model.model_name_or_path {tiny_encoder} "
        f"--model.max_tokens 24 --episode.shot 2 --episode.query_shot 2 --outer.steps 1 "
        f"--outer.meta_batch_size 2 --outer.warmup_steps 0 --adaptation.labels 8 "
        f"--adaptation.max_query 8 --adaptation.steps [2] --adaptation.learning_rates [0.01] "
        f"--run.init_from null --run.output_dir {tmp_path / 'run'}"
    ).split()
    settings = read_settings(MetaTraining, ["--config", str(CONFIG), *words])
    train, judged = load_splits(settings.data, "meta-train", "meta-validation")

    model, _ = train_meta_model(settings, train, judged, accelerator=Accelerator(cpu=True))

    episodes = validation_episodes(judged, settings.adaptation, settings.skills)
    start, objective = model.start_of(CLASSIFICATION), model.objectives[CLASSIFICATION]
    inner, (trial,) = find_adaptation(objective, start, episodes, settings.adaptation)
    assert model.provenance["trials"] == [asdict(trial)]
    assert model.adaptation[CLASSIFICATION].inner == inner
