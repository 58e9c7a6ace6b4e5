"""Rows of the inner loop: ours beside rivals, algorithms beside each other, what is attainable."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from measures.episodes import ALL_LINEAR, Case, Problem, Weights, meta_gradient, pose
from measures.products import attainable_seconds, operations, record_products
from measures.rivals import (
    PeftRival,
    build_rival,
    learn2learn_loop,
    load_learn2learn,
    plain_loop,
    vmapped_loop,
)
from measures.rounds import Rates, Row, Way, make_row, ratios, take_turns, timed

Loop = Callable[[PeftRival], Weights]
OURS, PRODUCTS = "ours", "bare products"
PLAIN, MAML, VMAP = "plain loop", "learn2learn", "functional_call and vmap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """A case, its name in rows, and how much faster than its rivals we mean to be.

    Attributes:
        targets: Ratios to learn2learn and to the plain loop in the same precision.
        float32_targets: The same where the processor multiplies no bfloat16.
    """

    name: str
    case: Case
    targets: tuple[float, float]
    float32_targets: tuple[float, float]


def contests(small: str, multilingual: str | None) -> Iterator[Contest]:
    """The cases of the benchmark; those of the second model only where one is named."""
    top = Case(model=small, layers=2)
    yield Contest(name="MiniLM, top 2 of 6", case=top, targets=(16, 6), float32_targets=(4, 4))
    every = replace(top, layers=6)
    yield Contest(
        name="MiniLM, all layers, query and value",
        case=every,
        targets=(6, 4),
        float32_targets=(6, 4),
    )
    tiny = replace(top, tasks=2, examples=4, tokens=(20, 40))
    yield Contest(name="tiny episodes", case=tiny, targets=(12, 8), float32_targets=(12, 8))
    linear = replace(every, targets=ALL_LINEAR)
    yield Contest(
        name="MiniLM, all linear layers", case=linear, targets=(6, 4), float32_targets=(6, 4)
    )
    if multilingual:
        yield Contest(
            name="multilingual-e5-small, top 2 of 12",
            case=replace(top, model=multilingual),
            targets=(24, 10),
            float32_targets=(24, 10),
        )


def shorten(case: Case) -> Case:
    """Fewer tasks and inner steps, for a quick look."""
    return replace(case, tasks=min(case.tasks, 4), steps=2)


def compare_loops(
    contest: Contest, *, rounds: int, device: str | None, quick: bool
) -> tuple[list[Row], Rates]:
    """Examples a second of ours and of rivals, in turns.

    Rivals go task by task, so two tasks tell their rate; a quick look takes one, and leaves
    `vmap` out.
    """
    problem = pose(shorten(contest.case) if quick else contest.case, device=device)
    few = problem.first(1 if quick and contest.case.examples > 4 else 2)
    ways = {OURS: time_ours(problem), PRODUCTS: time_products(problem)}
    autocast = problem.objective.network.dtype
    for name, loop, attention, dtype in _rivals(autocast, quick=quick):
        rival = build_rival(few, attention=attention, autocast=dtype)
        ways[name] = time_rival(loop, rival)
    rates = take_turns(ways, rounds=rounds)
    same = f"{PLAIN}, {_word(autocast)}"
    to_maml, to_plain = contest.float32_targets if autocast is None else contest.targets
    wanted = {f"{MAML}, float32": to_maml, same: to_plain}
    rows = [
        make_row(
            f"FOMAML, {contest.name}, against {name}",
            ratios(rates, OURS, name),
            at_least=wanted.get(name),
            unit="times examples a second",
        )
        for name in ways
        if name not in (OURS, PRODUCTS)
    ]
    rows.append(
        make_row(
            f"achieved over attainable, {contest.name}",
            ratios(rates, OURS, PRODUCTS),
            at_least=0.5 if contest.name.startswith("MiniLM, top 2") else None,
            unit="share of bare products",
        )
    )
    return rows, {f"{contest.name}: {name}": rate for name, rate in rates.items()}


def _rivals(
    autocast: torch.dtype | None, *, quick: bool
) -> Iterator[tuple[str, Loop, str, torch.dtype | None]]:
    """By name, a rival's loop, its attention and its precision; learn2learn where it is."""
    for dtype in dict.fromkeys([None, autocast]):
        yield f"{PLAIN}, {_word(dtype)}", plain_loop, "sdpa", dtype
    if not quick:
        yield f"{VMAP}, float32", vmapped_loop, "eager", None
    try:
        load_learn2learn()
    except ModuleNotFoundError as error:
        print(f"skipped: {error}")
    else:
        yield f"{MAML}, float32", learn2learn_loop, "sdpa", None


def _word(dtype: torch.dtype | None) -> str:
    return "float32" if dtype is None else "bfloat16 autocast"


def time_ours(problem: Problem, algorithm: str = "fomaml") -> Way:
    """Examples a second of one outer step."""
    return timed(problem.case.passes, lambda: _finish(meta_gradient(problem, algorithm)))


def time_rival(loop: Loop, rival: PeftRival) -> Way:
    """The same of a rival."""
    return timed(rival.problem.case.passes, lambda: _finish(loop(rival)))


def time_products(problem: Problem) -> Way:
    """Examples a second if an outer step were nothing but its products."""
    objective, shapes = problem.objective, record_products(problem)
    dtype, device = objective.network.dtype or torch.float32, objective.backbone.device
    print(f"an outer step multiplies {operations(shapes) / 1e9:.0f} GFLOP")
    return lambda: problem.case.passes / attainable_seconds(shapes, dtype=dtype, device=device)


def _finish(gradient: Weights) -> None:
    """Wait for the device: reading one number of the result does."""
    next(iter(gradient.values())).flatten()[0].item()


def compare_algorithms(
    small: str, *, rounds: int, device: str | None, quick: bool
) -> tuple[list[Row], Rates]:
    """Reptile and, but for a quick look, exact MAML beside FOMAML, on the same episodes."""
    case = Case(model=small, layers=2)
    problem = pose(shorten(case) if quick else case, device=device)
    names = ("fomaml", "reptile") if quick else ("fomaml", "reptile", "maml")
    rates = take_turns({name: time_ours(problem, name) for name in names}, rounds=rounds)
    rows = [
        make_row(
            "Reptile against FOMAML",
            ratios(rates, "reptile", "fomaml"),
            at_least=1.0,
            unit="times examples a second",
        )
    ]
    if not quick:
        times = ratios(rates, "fomaml", "maml")
        rows.append(make_row("exact MAML over FOMAML", times, at_most=2.5, unit="times the time"))
    return rows, {f"MiniLM, top 2 of 6: {name}": rate for name, rate in rates.items()}
