"""What one diagnosis scores above another: paired by episode, with an interval over draws.

python recipes/diagnose.py ... > plain.json
python recipes/diagnose.py ... --adaptation.anchor 1 > anchored.json
python recipes/levers/difference.py anchored.json plain.json

Both must have judged the same draws of the same tasks. The interval is a bootstrap of the draws
within each of these tasks, of n draws n - 1; query rows are not drawn again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nlp_meta.evaluation.statistics import Interval, percentile_interval

RESAMPLES, LEVEL = 10_000, 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("diagnosis", type=Path)
    parser.add_argument("against", type=Path)
    parser.add_argument(
        "--steps", type=int, nargs=2, default=(20, 20), help="steps of each; 20 and 20 unless given"
    )
    options = parser.parse_args()
    one, other = (json.loads(p.read_text("utf-8")) for p in (options.diagnosis, options.against))
    if one["tasks"] != other["tasks"]:
        parser.error("cannot pair these: the same tasks and draws are needed; diagnose both alike")
    print(tell(one, other, *(str(steps) for steps in options.steps)))


def tell(one: dict[str, Any], other: dict[str, Any], step: str, against: str) -> str:
    """The difference of two diagnoses, each after its number of steps."""
    scores, others = (np.array(d["scores"][n]) for d, n in ((one, step), (other, against)))
    found = interval(scores - others, np.array(one["tasks"]))
    return (
        f"{scores.mean():.3f} minus {others.mean():.3f}: {found.mean:+.3f} "
        f"[{found.low:+.3f}, {found.high:+.3f}], {len(scores)} episodes; query loss "
        f"{other['query_loss'][against]:.3f} to {one['query_loss'][step]:.3f}"
    )


def interval(differences: NDArray[np.float64], tasks: NDArray[np.str_]) -> Interval:
    """95 per cent of the means when the draws within each task are drawn again."""
    generator = np.random.default_rng(0)
    means = []
    for task in np.unique(tasks):
        own = differences[tasks == task]
        drawn = generator.integers(len(own), size=(RESAMPLES, max(1, len(own) - 1)))
        means.append(own[drawn].mean(1))
    return percentile_interval(float(differences.mean()), np.mean(means, axis=0), LEVEL)


if __name__ == "__main__":
    main()
