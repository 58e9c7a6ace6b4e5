"""How fast the package is beside what a user would write without it, on this machine.

python recipes/benchmark.py --quick
python recipes/benchmark.py --multilingual intfloat/multilingual-e5-small --output benchmark.json
python recipes/benchmark.py --parts loops --cases 'top 2' --rounds 3

Ways of doing the same thing take turns, once a round each. A row is the median of the rounds'
ratios, with the least and the largest. `--quick` takes three rounds of the main rows.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from measures import curves, wholes
from measures.loops import compare_algorithms, compare_loops, contests
from measures.rounds import Rates, Row, keep_rows, print_rows, read_results

from nlp_meta.errors import OutputError
from nlp_meta.files.outputs import check_file
from nlp_meta.progress import quiet_libraries

QUICK_PARTS = ("loops", "algorithms", "adapting", "prediction")
PARTS = (*QUICK_PARTS, *"memory growth streams prompting processes quickstart quality".split())
QUICK_CASES = ("top 2 of 6", "query and value", "tiny")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three rounds of the main rows")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="default: all")
    parser.add_argument("--cases", nargs="+", help="parts of the names of cases")
    parser.add_argument("--rounds", type=int, help="default: 5, and 3 with --quick")
    parser.add_argument("--model", default="builtin:minilm")
    parser.add_argument("--multilingual", help="the second model; none leaves its rows out")
    parser.add_argument("--device", help="default: the GPU where there is one")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON; other rows that are in it stay")
    parser.add_argument("--plot", type=Path, help="picture of throughput against sizes, alone")
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.parts = options.parts or (QUICK_PARTS if options.quick else PARTS)
    options.cases = options.cases or (QUICK_CASES if options.quick else [""])
    torch.set_num_threads(options.threads)
    try:
        if options.output:
            read_results(options.output)
        if options.plot:
            check_file(options.plot, argument="plot")
    except OutputError as error:
        parser.error(str(error))
    with quiet_libraries():
        if options.plot:
            drawn = {"rounds": options.rounds, "device": options.device, "rivals": True}
            lines = {n: curves.measure_curve(options.model, n, **drawn) for n in curves.SIZES}
            curves.draw_curves(lines, options.plot)
            return
        for rows, rates in measure(options):
            print_rows(rows, rates)
            if options.output:
                keep_rows(options.output, rows, rates)


def measure(options: argparse.Namespace) -> Iterator[tuple[list[Row], Rates]]:
    rounds, place = {"rounds": options.rounds}, {"device": options.device}
    common: dict[str, Any] = rounds | place
    small, quick = options.model, options.quick
    for contest in contests(small, options.multilingual) if "loops" in options.parts else ():
        if any(case in contest.name for case in options.cases):
            yield compare_loops(contest, quick=quick, **common)
    parts: dict[str, Callable[[], tuple[list[Row], Rates]]] = {
        "algorithms": lambda: compare_algorithms(small, quick=quick, **common),
        "adapting": lambda: wholes.compare_adapting(small, quick=quick, **common),
        "prediction": lambda: wholes.compare_prediction(small, **common),
        "memory": lambda: wholes.measure_memory(small, **common),
        "growth": lambda: curves.measure_growth(small, **common),
        "streams": lambda: wholes.measure_streams(small, **rounds),
        "prompting": lambda: wholes.compare_prompting(**common),
        "processes": lambda: wholes.compare_processes(small, **rounds),
        "quickstart": lambda: wholes.measure_quickstart(**rounds),
        "quality": lambda: wholes.measure_quality(small, **common),
    }
    yield from (part() for name, part in parts.items() if name in options.parts)


if __name__ == "__main__":
    main()
