"""Several processes equal one, also where a run is stopped on one and resumed on two."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from nlp_meta.data.episodes import Episode
from nlp_meta.meta.outer_loop import own_stacks

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPE = str(REPOSITORY / "recipes" / "meta_train.py")
# Stops itself at outer step 3, through the functions that the recipe calls.
STOPPED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent))
import meta_train
from nlp_meta.training.config import run_recipe
from nlp_meta.settings import MetaTraining
whole = meta_train.train_meta_model

def stopped(*args, on_step, **options):
    def and_stop(record):
        on_step(record)
        if record.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
    return whole(*args, on_step=and_stop, **options)

meta_train.train_meta_model = stopped
sys.argv[1:2] = []
run_recipe(meta_train.main, MetaTraining)
"""

Launch = Callable[..., subprocess.CompletedProcess[str]]


def python(*words: str) -> list[str]:
    return [sys.executable, *words]


def torchrun(*words: str, processes: int = 2) -> list[str]:
    options = ["--standalone", "--nproc_per_node", str(processes)]
    return python("-m", "torch.distributed.run", *options, *words)


@pytest.fixture(scope="module")
def launch(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """Start a command line with the config of these tests, an output folder and overrides."""
    root = tmp_path_factory.mktemp("processes")
    config = root / "config.yaml"
    config.write_text(yaml.safe_dump(make_config(tiny_encoder)), encoding="utf-8")

    def start(command: list[str], folder: str, *words: str) -> subprocess.CompletedProcess[str]:
        output_dir = str(root / folder)
        return subprocess.run(
            [*command, "--config", str(config), "--run.output_dir", output_dir, *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "ACCELERATE_USE_CPU": "true"},
            timeout=240,
        )

    start.root = root
    return start


def make_config(encoder: Path) -> dict[str, Any]:
    """The shipped config on the built-in corpus, with little of everything.

    Four episodes for each outer step, in stacks of 1, so that four processes have one each.
    The outer optimizer is AdamW, whose second moments make much of rounding errors.
    """
    path = REPOSITORY / "recipes" / "configs" / "multitask_reviews.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["data"] |= {"cards": ["nlp_meta_reviews"]}
    config["episode"] |= {"shot": 2, "query_shot": 2}
    config["model"] |= {"model_name_or_path": str(encoder), "max_tokens": 24}
    config["model"] |= {"lora_r": 2, "lora_alpha": 4.0, "lora_layers": 2}
    config["inner"] |= {"steps": 2, "learning_rate": 0.1, "optimizer": "sgd"}
    config["outer"] |= {"algorithm": "fomaml", "steps": 6, "meta_batch_size": 4, "stack": 1}
    config["outer"] |= {"optimizer": "AdamW", "learning_rate": 0.01, "options": {}}
    config["outer"] |= {"warmup_steps": 2, "validate_every": 6, "checkpoint_every": 6}
    config["adaptation"] |= {"labels": 8, "draws": 1, "max_query": 8, "batch_size": None}
    config["adaptation"] |= {"steps": [1, 2], "learning_rates": [0.001]}
    config["run"] |= {"mixed_precision": "no"}
    return config


@pytest.fixture(scope="module")
def one(launch: Launch) -> dict[str, torch.Tensor]:
    return state_of(launch, launch(python(RECIPE), "one"), "one")


def state_of(
    launch: Launch, run: subprocess.CompletedProcess[str], folder: str
) -> dict[str, torch.Tensor]:
    """Meta-parameters, the best of them and the optimizer's state behind the last outer step."""
    assert run.returncode == 0, run.stderr
    checkpoint = launch.root / folder / "checkpoints" / "step_00000006" / "state.safetensors"
    return load_file(checkpoint)


def assert_close(found: dict[str, torch.Tensor], one: dict[str, torch.Tensor]) -> None:
    assert found.keys() == one.keys()
    for name, value in one.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6, msg=name)


def test_a_run_moves_the_meta_parameters(one):
    """Otherwise the comparisons below would say nothing."""
    moved = [value.abs().max() for name, value in one.items() if name.endswith("lora_B")]

    assert min(moved) > 1e-4


@pytest.mark.long
def test_four_processes_equal_one(launch, one):
    run = launch(torchrun(RECIPE, processes=4), "four", "--run.num_processes", "4")

    assert_close(state_of(launch, run, "four"), one)
    assert run.stdout.count("start:") == 1
    assert len((launch.root / "four" / "log.jsonl").read_text("utf-8").splitlines()) == 6


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 2])
def test_the_command_trains_under_a_launcher_as_the_recipe_does(launch, one, processes):
    """One process by `accelerate launch`, which starts no more on a CPU; two by torchrun."""
    accelerate = python("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "-m")
    command = torchrun("-m") if processes == 2 else accelerate
    folder = f"command_{processes}"
    run = launch([*command, "nlp_meta.train"], folder)

    assert_close(state_of(launch, run, folder), one)
    assert run.stdout.count("best judged") == 1


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_stacks_are_the_same_for_any_number_of_processes_up_to_theirs(processes):
    """Six episodes of one skill and four of another, in stacks of 2."""
    episodes = [Episode(str(n), (), (), (), n, skill="ab"[n % 3 == 0]) for n in range(10)]

    shared = [
        own_stacks(episodes, size=2, accelerator=SimpleNamespace(num_processes=n, process_index=p))
        for n in (1, processes)
        for p in range(n)
    ]

    whole, *parts = shared
    assert [(skill, len(stacked)) for skill, stacked in whole] == [
        *[("a", 2)] * 3,
        *[("b", 2)] * 2,
    ]
    assert sorted(map(str, whole)) == sorted(str(stack) for part in parts for stack in part)


def test_every_process_has_a_stack_where_there_are_few():
    episodes = [Episode(str(n), (), (), (), n, skill="a") for n in range(4)]
    processes = [SimpleNamespace(num_processes=2, process_index=place) for place in (0, 1)]

    stacks = [own_stacks(episodes, size=4, accelerator=process) for process in processes]

    assert [len(stacked) for ((_, stacked),) in stacks] == [2, 2]


def test_a_run_stopped_on_one_process_and_resumed_on_two_equals_one_never_stopped(launch, one):
    stopped = launch(python("-c", STOPPED, RECIPE), "moved")
    assert stopped.returncode == 130, stopped.stderr
    assert "stopped after outer step 4; go on with --resume" in stopped.stdout

    resumed = launch(torchrun(RECIPE), "moved", "--resume")

    assert_close(state_of(launch, resumed, "moved"), one)


@pytest.mark.long
def test_a_launch_that_starts_fewer_processes_than_asked_for_says_so(launch):
    """`accelerate launch --cpu` starts one; its own exit code is 1, it tells that of the recipe."""
    command = python("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", RECIPE)
    run = launch(command, "fewer")

    (line,) = (line for line in run.stderr.splitlines() if line.startswith("error: "))
    assert "several processes were asked for and 1 started" in line
    assert "torchrun --nproc_per_node 2" in line
    assert "returned non-zero exit status 2" in run.stderr
    assert not (launch.root / "fewer").exists()
