"""A run that is killed and resumed equals a run that was never killed."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from nlp_meta.data.episodes import EpisodeStream, evaluation_episode
from nlp_meta.data.tasks import Example, Task
from nlp_meta.errors import CheckpointError, DivergedError, OutputError
from nlp_meta.meta.algorithms import ALGORITHMS
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.meta.objective import Validation
from nlp_meta.meta.outer_loop import Callback, MetaTrained, OuterLoop, Training, meta_train
from nlp_meta.meta.state import MEAN, META, StepRecord, load_checkpoint
from nlp_meta.models.builders import build_classifier
from nlp_meta.settings import ModelSettings

STEPS = 6
WORDS = {
    "negative": "bad awful hated slow cold loud".split(),
    "positive": "good great loved".split(),
}
THINGS = "house agent phone battery food staff room plot brake service".split()
CASES = {
    "reptile with momentum": ("reptile", "SGD", {"momentum": 0.9}, 0.5),
    "fomaml with adam": ("fomaml", "AdamW", {"weight_decay": 0.01}, 0.01),
    "joint with adam": ("joint", "AdamW", {}, 0.01),
}


def make_task(name: str, things: list[str]) -> Task:
    examples = tuple(
        Example(f"the {thing} was {word}", label)
        for label, words in WORDS.items()
        for word in words
        for thing in things
    )
    labels = tuple(WORDS)
    return Task(name, "classification", "eng", name, "meta-train", labels, examples, ())


class KilledError(Exception):
    """Stands for a process that is gone at once."""


def die_at(step: int) -> Callable[[StepRecord], None]:
    """End without a signal handler or a checkpoint of its own, like SIGKILL."""

    def on_step(record: StepRecord) -> None:
        if record.step == step:
            raise KilledError

    return on_step


def terminate_at(step: int, kind: signal.Signals) -> Callable[[StepRecord], None]:
    def on_step(record: StepRecord) -> None:
        if record.step == step:
            os.kill(os.getpid(), kind)

    return on_step


@pytest.fixture(scope="module")
def objective(tiny_encoder):
    settings = ModelSettings(
        model_name_or_path=str(tiny_encoder),
        revision=None,
        pooling="native",
        head="shared",
        prefix_text="",
        max_tokens=16,
        lora_r=2,
        lora_alpha=4.0,
        lora_layers=2,
        lora_target_modules=["query", "value"],
    )
    return build_classifier(settings, labels=tuple(WORDS), device="cpu", precision="no")


Run = Callable[..., MetaTrained]


@pytest.fixture
def run(objective, tmp_path) -> Run:
    """One run in a folder below `tmp_path`; the start is the same every time."""
    tasks = (make_task("a", THINGS[:5]), make_task("b", THINGS[5:]))

    def start(
        folder: str,
        case: str = "fomaml with adam",
        *,
        fingerprint: str = "as configured",
        patience: int | None = None,
        learning_rate: float | None = None,
        **options,
    ) -> MetaTrained:
        algorithm, optimizer, further, rate = CASES[case]
        inner = InnerLoop(0 if algorithm == "joint" else 2, 0.005, "adam")
        meta_parameters = objective.meta_parameters(torch.Generator().manual_seed(0))
        outer = OuterLoop(
            steps=STEPS,
            meta_batch_size=2,
            stack=2,
            optimizer=optimizer,
            learning_rate=learning_rate or rate,
            options=further,
            warmup_steps=2,
            schedule="cosine",
            max_gradient_norm=1.0,
            validate_every=2,
            patience=patience,
            checkpoint_every=2,
            average_last=3,
        )
        stream = EpisodeStream(tasks, shot=2, query_shot=2, sampling="uniform", seed=0)
        judged = [evaluation_episode(t, labels_total=4, seed=1, draw=0, max_query=8) for t in tasks]
        one, metrics = {"classification": objective}, {"classification": mean_certainty}
        return meta_train(
            Training(one, {"classification": 1.0}, stream, ALGORITHMS[algorithm], inner, 2),
            meta_parameters,
            outer=outer,
            validation=Validation(judged, InnerLoop(2, 0.005, "adam"), None, 2, metrics, one),
            accelerator=Accelerator(cpu=True),
            folder=tmp_path / folder,
            fingerprint={"outer.steps": fingerprint},
            **options,
        )

    return start


def mean_certainty(episode, answers) -> float:
    """A score that no two sets of meta-parameters share, as accuracy on 8 texts would."""
    pairs = zip(episode.query, answers, strict=True)
    return sum(a.probabilities[example.target] for example, a in pairs) / len(answers)


def read_log(folder: Path) -> list[dict[str, float | None]]:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def last_state(folder: Path) -> dict[str, bytes]:
    (newest,) = sorted((folder / "checkpoints").glob("step_*"))[-1:]
    return {path.name: path.read_bytes() for path in newest.iterdir()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(v, second[n]) for n, v in first.items()
    )


def assert_equal_runs(straight: MetaTrained, resumed: MetaTrained, folder: Path) -> None:
    assert same(straight.meta_parameters, resumed.meta_parameters)
    for name in ("step", "examples", "best_step", "best_score", "interrupted"):
        assert getattr(straight, name) == getattr(resumed, name), name
    assert read_log(folder / "straight") == read_log(folder / "killed")
    assert last_state(folder / "straight") == last_state(folder / "killed")


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_was_asked_to_stop_and_resumed_equals_one_never_stopped(run, tmp_path, case):
    """The step that runs when the signal comes is finished: asked at 3, stopped behind 4."""
    straight = run("straight", case)
    stopped = run("killed", case, on_step=terminate_at(3, signal.SIGTERM))
    assert (stopped.step, stopped.interrupted) == (4, True)
    assert len(read_log(tmp_path / "killed")) == 4

    resumed = run("killed", case, resume=True)

    assert_equal_runs(straight, resumed, tmp_path)
    assert resumed.step == STEPS
    assert not same(straight.meta_parameters, stopped.meta_parameters)


def test_a_run_that_died_and_was_resumed_equals_one_that_lived(run, tmp_path):
    """It logged 5 steps and its newest checkpoint is of step 4: the fifth is taken again."""
    straight = run("straight")
    with pytest.raises(KilledError):
        run("killed", on_step=die_at(5))
    assert len(read_log(tmp_path / "killed")) == 5
    with (tmp_path / "killed" / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 6, "exam')

    resumed = run("killed", resume=True)

    assert_equal_runs(straight, resumed, tmp_path)


def test_a_run_stopped_by_ctrl_c_after_its_last_checkpoint_loses_nothing(run, tmp_path):
    """Twice, at steps that are no multiple of `checkpoint_every`."""
    straight = run("straight")
    run("killed", on_step=terminate_at(2, signal.SIGINT))
    assert run("killed", resume=True, on_step=terminate_at(4, signal.SIGINT)).step == 5

    assert_equal_runs(straight, run("killed", resume=True), tmp_path)


def test_a_finished_run_that_is_resumed_stays_as_it_is(run, tmp_path):
    straight = run("straight")
    run("killed")

    assert_equal_runs(straight, run("killed", resume=True), tmp_path)


def test_patience_counts_across_a_stop(run, tmp_path):
    """Nothing moves at a rate of 1e-30, so the judgement at 4 is no better than that at 2."""
    options = {"patience": 1, "learning_rate": 1e-30}
    straight = run("straight", **options)
    with pytest.raises(KilledError):
        run("killed", on_step=die_at(3), **options)

    resumed = run("killed", resume=True, **options)

    assert (straight.step, straight.best_step) == (4, 2)
    assert_equal_runs(straight, resumed, tmp_path)


def test_the_mean_is_that_of_the_last_outer_steps(run, tmp_path):
    """Another route: the meta-parameters behind steps 4, 5 and 6, from three runs' checkpoints."""
    run("step 4", on_step=terminate_at(3, signal.SIGTERM))
    run("step 5", on_step=terminate_at(4, signal.SIGTERM))
    run("step 6")

    names = ("step 4", "step 5", "step 6")
    behind = [load_checkpoint(tmp_path / name / "checkpoints").tensors for name in names]
    averaged = [name for name in behind[-1] if name.startswith(MEAN)]
    assert averaged
    for name in averaged:
        passed = [tensors[META + name.removeprefix(MEAN)] for tensors in behind]
        torch.testing.assert_close(behind[-1][name], torch.stack(passed).mean(0))


def test_signals_act_as_before_when_a_run_has_ended(run):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    run("killed", on_step=terminate_at(1, signal.SIGTERM))

    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_checkpoint_of_other_settings_is_refused(run, tmp_path):
    run("killed", on_step=terminate_at(2, signal.SIGTERM))
    before = last_state(tmp_path / "killed"), read_log(tmp_path / "killed")

    with pytest.raises(
        CheckpointError, match=r"was as configured and is changed.*`run\.output_dir`"
    ):
        run("killed", fingerprint="changed", resume=True)

    assert (last_state(tmp_path / "killed"), read_log(tmp_path / "killed")) == before


def test_there_must_be_something_to_resume(run, tmp_path):
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        run("never began", resume=True)

    assert not (tmp_path / "never began").exists()


def test_a_run_that_starts_anew_forgets_the_old_one(run, tmp_path):
    """Other settings in the folder of a finished run: stopped early, it can be resumed."""
    run("killed", fingerprint="old")
    with pytest.raises(OutputError, match=r"a run of 6 steps is there.*`run\.replace`"):
        run("killed", fingerprint="new")
    stopped = run(
        "killed", fingerprint="new", replace=True, on_step=terminate_at(1, signal.SIGTERM)
    )
    assert stopped.step == 2

    resumed = run("killed", fingerprint="new", resume=True)

    assert resumed.step == STEPS
    assert [line["step"] for line in read_log(tmp_path / "killed")] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_diverges_stops_and_keeps_its_checkpoints(run, tmp_path):
    run("killed")
    before = last_state(tmp_path / "killed")

    with pytest.raises(DivergedError, match="learning_rate`"):
        run("killed", "joint with adam", learning_rate=1e30, replace=True)

    assert last_state(tmp_path / "killed") == before


def test_callbacks_are_told_of_steps_judgements_and_checkpoints(run, tmp_path):
    """Six steps, judged and kept behind every second one; what is not written is not called."""

    class Told(Callback):
        def __init__(self) -> None:
            self.words: list[str] = []

        def on_outer_step(self, record: StepRecord) -> None:
            self.words.append(str(record.step))

        def on_checkpoint(self, record: StepRecord, folder: Path) -> None:
            assert load_checkpoint(folder.parent).step == record.step
            self.words.append(folder.name)

    class Scores(Callback):
        def __init__(self) -> None:
            self.steps: list[int] = []

        def on_validation(self, record: StepRecord) -> None:
            assert record.score is not None
            self.steps.append(record.step)

    told, scores = Told(), Scores()
    run("told", callbacks=[told, scores])

    kept = ["step_00000002", "step_00000004", "step_00000006"]
    assert told.words == ["1", "2", kept[0], "3", "4", kept[1], "5", "6", kept[2]]
    assert scores.steps == [2, 4, 6]
