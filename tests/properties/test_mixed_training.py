"""Sentiment and translation in one meta-batch: one gradient, the weighted sum of theirs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from nlp_meta.data.episodes import Episode, EpisodeStream, MixedStream, evaluation_episode
from nlp_meta.data.tasks import Example, Task
from nlp_meta.meta.algorithms import ALGORITHMS
from nlp_meta.meta.inner_loop import InnerLoop, repeat
from nlp_meta.meta.objective import Validation
from nlp_meta.meta.outer_loop import OuterLoop, Training, add_stack, meta_train
from nlp_meta.models.builders import build_classifier, build_retriever
from nlp_meta.objectives.retrieval import TEMPERATURE
from nlp_meta.settings import ModelSettings
from nlp_meta.training.plan import draw_meta_parameters

LABELS = ("negative", "positive")
WORDS = {"negative": "bad awful hated slow".split(), "positive": "good great loved warm".split()}
THINGS = "house agent phone battery food staff room plot brake service".split()
WEIGHTS = {"classification": 0.7, "retrieval": 2.0}
OUTER = OuterLoop(
    steps=6,
    meta_batch_size=4,
    stack=2,
    optimizer="SGD",
    learning_rate=0.5,
    options={"momentum": 0.9},
    warmup_steps=0,
    schedule="constant",
    max_gradient_norm=None,
    validate_every=2,
    patience=None,
    checkpoint_every=2,
    average_last=0,
)


def make_task() -> Task:
    examples = tuple(
        Example(f"the {thing} was {word}", label)
        for label, words in WORDS.items()
        for word in words
        for thing in THINGS
    )
    return Task(
        "made/sentiment", "classification", "eng", "made", "meta-train", LABELS, examples, ()
    )


class Pairs:
    """Pairs whose sides share their words in another order, drawn by the episode's number."""

    def at(self, index: int, kept: int = 4) -> Episode:
        generator = torch.Generator().manual_seed(index)

        def pairs(first: int) -> tuple[Example, ...]:
            order = torch.randperm(len(THINGS), generator=generator).tolist()
            return tuple(
                Example(
                    f"{THINGS[a]} {WORDS['positive'][i]}", f"{WORDS['positive'][i]} {THINGS[a]}"
                )
                for i, a in enumerate(order[first : first + kept])
            )

        query = pairs(4)
        pool = tuple(e.target for e in query)
        return Episode("made/pairs", (), pairs(0), query, index, "retrieval", "a-b", pool)


@pytest.fixture(scope="module")
def objectives(tiny_encoder):
    settings = ModelSettings(
        model_name_or_path=str(tiny_encoder),
        revision=None,
        pooling="mean",
        head="shared",
        prefix_text="",
        max_tokens=16,
        lora_r=2,
        lora_alpha=4.0,
        lora_layers=2,
        lora_target_modules=["query", "value"],
    )
    sentiment = build_classifier(settings, labels=LABELS, device="cpu", precision="no")
    return {"classification": sentiment, "retrieval": build_retriever(settings, beside=sentiment)}


def begin(objectives) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = draw_meta_parameters(objectives, generator)
    moved = {n: v + 0.1 * torch.randn(v.shape, generator=generator) for n, v in drawn.items()}
    return {**moved, TEMPERATURE: torch.tensor(2.0)}


def build_training(objectives, algorithm="fomaml") -> Training:
    streams = {
        "classification": EpisodeStream((make_task(),), 2, 2, "uniform", 0),
        "retrieval": Pairs(),
    }
    stream = MixedStream(streams, {"classification": 0.5, "retrieval": 0.5})
    return Training(
        objectives, WEIGHTS, stream, ALGORITHMS[algorithm], InnerLoop(2, 0.05, "sgd"), 2
    )


def run(objectives, folder: Path, *, outer=OUTER, training=None, **options):
    judged = (
        *(
            evaluation_episode(make_task(), labels_total=4, seed=1, draw=d, max_query=8)
            for d in (0, 1)
        ),
        Pairs().at(1000),
    )
    metrics = {"classification": certainty, "retrieval": first_place}
    return meta_train(
        training or build_training(objectives),
        begin(objectives),
        outer=outer,
        validation=Validation(judged, InnerLoop(1, 0.05, "sgd"), None, 2, metrics, objectives),
        accelerator=Accelerator(cpu=True),
        folder=folder,
        fingerprint={},
        **options,
    )


def certainty(episode, answers) -> float:
    pairs = zip(episode.query, answers, strict=True)
    return sum(a.probabilities[example.target] for example, a in pairs) / len(answers)


def first_place(episode, answers) -> float:
    return sum(a.order[0] == place for place, a in enumerate(answers)) / len(answers)


def alone(objectives, training, meta, kind, episodes) -> dict[str, torch.Tensor]:
    """The sum of one kind's meta-gradients, one episode at a time, without weights."""
    objective = objectives[kind]
    total = {name: torch.zeros_like(value) for name, value in meta.items()}
    for episode in episodes:
        support = objective.support_batches([episode], minibatch=training.minibatch)
        found = training.algorithm(
            objective.loss,
            repeat(meta, tasks=1),
            support,
            objective.query_batches([episode]),
            inner=training.inner,
            start=lambda weights, o=objective, s=support: o.start(weights, s),
        )
        for name, value in found.gradient.items():
            total[name] += value[0]
    return total


@pytest.mark.parametrize("algorithm", ["fomaml", "reptile", "maml"])
def test_the_mixed_gradient_is_the_weighted_sum_of_the_two_kinds(objectives, tmp_path, algorithm):
    """Another route: each kind by itself; one step of SGD at rate 1 shows the gradient."""
    training, meta = build_training(objectives, algorithm), begin(objectives)
    outer = replace(OUTER, steps=1, learning_rate=1.0, options={}, validate_every=9)
    ended = meta_train(
        training,
        {name: value.clone() for name, value in meta.items()},
        outer=outer,
        validation=None,
        accelerator=Accelerator(cpu=True),
        folder=tmp_path,
        fingerprint={},
    )

    episodes = [training.stream.at(i) for i in range(outer.meta_batch_size)]
    sums = {
        kind: alone(objectives, training, meta, kind, [e for e in episodes if e.skill == kind])
        for kind in objectives
    }
    for name, value in meta.items():
        mixed = sum(WEIGHTS[kind] * sums[kind][name] for kind in objectives) / len(episodes)
        torch.testing.assert_close(
            value - ended.meta_parameters[name], mixed, rtol=1e-3, atol=1e-5, msg=name
        )
    lora = next(name for name in meta if name.endswith("lora_A"))
    assert all(sums[kind][lora].any() for kind in objectives)
    assert not sums["classification"][TEMPERATURE].any() and sums["retrieval"][TEMPERATURE].any()
    assert sums["classification"]["classifier.weight"].any()
    assert not sums["retrieval"]["classifier.weight"].any()


def test_losses_of_each_kind_are_logged_apart(objectives, tmp_path):
    """Another route: each kind's two episodes of the first meta-batch, added to nothing."""
    run(objectives, tmp_path, outer=replace(OUTER, steps=2))
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    first, second = map(json.loads, lines)

    training, meta = build_training(objectives), begin(objectives)
    for kind in objectives:
        episodes = [e for e in map(training.stream.at, range(4)) if e.skill == kind]
        before, after, _, count, _ = add_stack(
            training, kind, meta, episodes, {}, compare=True
        ).tolist()
        assert first["skills"][kind]["episodes"] == count == 2
        assert first["skills"][kind]["loss_before"] == pytest.approx(before / 2, rel=1e-5)
        assert first["skills"][kind]["loss_after"] == pytest.approx(after / 2, rel=1e-5)
        assert "score" not in first["skills"][kind]
    both = [first["skills"][kind]["loss_after"] for kind in objectives]
    assert first["loss_after"] == pytest.approx(sum(both) / 2)
    scores = [second["skills"][kind]["score"] for kind in objectives]
    assert second["score"] == pytest.approx(sum(scores) / 2)


@pytest.mark.slow
def test_a_mixed_run_that_died_and_was_resumed_equals_one_that_lived(objectives, tmp_path):
    def die(record):
        if record.step == 5:
            raise KeyError

    straight = run(objectives, tmp_path / "straight")
    with pytest.raises(KeyError):
        run(objectives, tmp_path / "killed", on_step=die)
    resumed = run(objectives, tmp_path / "killed", resume=True)

    assert straight.best_score == resumed.best_score
    for name, value in straight.meta_parameters.items():
        assert torch.equal(value, resumed.meta_parameters[name])
    last = "checkpoints/step_00000006/state.safetensors"
    assert (tmp_path / "straight" / last).read_bytes() == (tmp_path / "killed" / last).read_bytes()


def test_sentiment_alone_is_what_it_was_before_there_were_kinds(objectives, tmp_path):
    """Another route: the sum of the episodes' gradients over their number, by hand."""
    kinds = {"classification": objectives["classification"]}
    stream = EpisodeStream((make_task(),), 2, 2, "uniform", 0)
    training = replace(
        build_training(objectives),
        objectives=kinds,
        weights={"classification": 1.0},
        stream=MixedStream({"classification": stream}, {"classification": 1.0}),
    )
    meta = {n: v for n, v in begin(objectives).items() if n != TEMPERATURE}
    outer = replace(OUTER, steps=1, learning_rate=1.0, options={}, validate_every=9)
    ended = meta_train(
        training,
        {name: value.clone() for name, value in meta.items()},
        outer=outer,
        validation=None,
        accelerator=Accelerator(cpu=True),
        folder=tmp_path,
        fingerprint={},
    )

    total = alone(kinds, training, meta, "classification", [stream.at(i) for i in range(4)])
    for name, value in meta.items():
        torch.testing.assert_close(
            ended.meta_parameters[name], value - total[name] / 4, rtol=1e-4, atol=1e-6
        )
