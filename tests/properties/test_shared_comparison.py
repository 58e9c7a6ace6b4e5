"""Two processes that share a comparison make the cells that one makes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def compare(launch: list[str], folder: Path) -> dict[tuple[object, ...], object]:
    config = REPOSITORY / "recipes" / "configs" / "compare_builtin.yaml"
    words = ["--config", str(config), "--run.output_dir", str(folder)]
    words += ["--comparison.methods", json.dumps({"ngrams": "ngrams"}), "--comparison.ours", "null"]
    words += ["--comparison.draws", "2", "--comparison.labels", "[8, 16]"]
    words += ["--comparison.limits", "{}", "--comparison.resamples", "50"]
    run = subprocess.run(
        [*launch, str(REPOSITORY / "recipes" / "compare.py"), *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "ACCELERATE_USE_CPU": "true"},
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return {
        (cell["draw"], cell["labels"]): (cell["accuracy"], cell["ece"], cell["support_hash"])
        for cell in results["cells"]
    }


@pytest.mark.long
@pytest.mark.slow
def test_two_processes_make_the_cells_that_one_makes(tmp_path):
    """Another route: one process alone. Each of the two has written a file of its own."""
    both = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]

    alone = compare([sys.executable], tmp_path / "alone")
    shared = compare(both, tmp_path / "shared")

    assert len(alone) == 4
    assert shared == alone
    assert len(list((tmp_path / "shared" / "cells").glob("ngrams.*.jsonl"))) == 2
