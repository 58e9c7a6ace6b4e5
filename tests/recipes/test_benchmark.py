"""The benchmark is honest: its rivals compute our meta-gradient, and it runs."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nlp_meta.encoders.prefix import whole_network
from nlp_meta.errors import OutputError

pytestmark = pytest.mark.slow

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.fixture
def tiny_problem(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(RECIPES)
    from measures.episodes import Case, pose

    case = Case(
        model=str(tiny_encoder), layers=2, tasks=2, examples=4, tokens=(8, 20), steps=2, rank=2
    )
    problem = pose(case, precision="no", device="cpu")
    # Kept states are rounded to bfloat16: equal gradients are asked for without them.
    exact = replace(problem.objective, network=whole_network(problem.objective.backbone))
    return replace(problem, objective=exact)


@pytest.mark.parametrize("loop", ["plain_loop", "vmapped_loop", "learn2learn_loop"])
def test_rivals_compute_our_meta_gradient(tiny_problem: Any, loop: str) -> None:
    """Libraries that share no line of the inner loop with ours agree with it."""
    from measures import rivals
    from measures.episodes import meta_gradient

    if loop == "learn2learn_loop" and find_spec("learn2learn") is None:
        pytest.skip("learn2learn is not installed; `make benchmark` installs it")
    attention = "eager" if loop == "vmapped_loop" else "sdpa"
    rival = rivals.build_rival(tiny_problem, attention=attention)

    ours, theirs = meta_gradient(tiny_problem), getattr(rivals, loop)(rival)

    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(theirs[name], gradient, rtol=1e-3, atol=1e-5)


def test_products_are_those_that_torch_counts(tiny_problem: Any) -> None:
    from measures.episodes import meta_gradient
    from measures.products import operations, record_products

    shapes = record_products(tiny_problem)
    with FlopCounterMode(display=False) as counter:
        meta_gradient(tiny_problem)

    assert operations(shapes) == counter.get_total_flops() > 0


def test_the_benchmark_runs_and_keeps_rows_of_earlier_runs(
    tiny_encoder: Path, tmp_path: Path, run_here: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    output = tmp_path / "benchmark.json"
    words = ["--model", str(tiny_encoder), "--rounds", "1", "--output", str(output)]

    done = run_here(tmp_path, "benchmark", *words, "--parts", "loops", "--cases", "tiny")

    assert done.returncode == 0, done.stderr
    rows = json.loads(output.read_text(encoding="utf-8"))["rows"]
    # In the precision that the processor multiplies fastest; beside another the row has no target.
    plain = next(row for row in rows if "plain loop, " in row["name"] and row["target"])
    assert plain["low"] == plain["ratio"] == plain["high"]
    assert plain["met"] == (plain["ratio"] >= plain["target"])


def test_rows_join_those_of_this_machine_and_replace_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(RECIPES)
    from measures.rounds import keep_rows, make_row, read_results

    output = tmp_path / "benchmark.json"
    for name in ("first", "second", "first"):
        keep_rows(output, [make_row(name, [2.0], at_least=1, unit="times")], {name: [1.0]})
    assert [row["name"] for row in read_results(output)["rows"]] == ["second", "first"]

    for content in ("notes of mine", json.dumps({**read_results(output), "hardware": "other"})):
        output.write_text(content, encoding="utf-8")
        with pytest.raises(OutputError, match="on this machine"):
            keep_rows(output, [], {})
        assert output.read_text(encoding="utf-8") == content
