"""Rows of whole jobs: adapting, predicting, prompting, two processes, the quickstart, memory."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import pipeline

from measures.children import RECIPES, run_child, run_settings, run_words
from measures.episodes import LABELS, Case, Problem, pose, read_reviews
from measures.rivals import build_rival
from measures.rounds import Rates, Row, growth, make_row, ratios, take_turns, timed
from nlp_meta.data.episodes import evaluation_episode
from nlp_meta.data.tasks import Example, load_tasks
from nlp_meta.encoders.backbone import resolve_name
from nlp_meta.encoders.prefix import whole_network
from nlp_meta.evaluation.protocol import evaluate
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.views import KNOWN_LABELS
from nlp_meta.objectives.ngrams import fit_prior
from nlp_meta.prompting.language_model import load_language_model
from nlp_meta.prompting.local_answers import LocalScorer
from nlp_meta.prompting.prompts import TEMPLATES, Prompt, build_prompt
from nlp_meta.rivals.fine_tune import fine_tune

Measured = tuple[list[Row], Rates]

CORES = os.cpu_count() or 1
"""Threads of commands as users run them; all else takes those of `--threads`."""


def measure_memory(small: str, *, rounds: int, device: str | None) -> Measured:
    """Peak memory of a process that takes 20 inner steps, over one that takes 5."""
    place = ["--device", device] if device else []
    peaks: dict[int, list[float]] = {5: [], 10: [], 20: []}
    for _ in range(rounds):
        for steps, values in peaks.items():
            words = ["memory", "--model", small, "--steps", str(steps), *place]
            values.append(run_child(*words)[1]["after"])
    over = [many / few for many, few in zip(peaks[20], peaks[5], strict=True)]
    grown = [growth([5, 10, 20], at) for at in zip(*peaks.values(), strict=True)]
    return [
        make_row("peak memory, 20 inner steps over 5", over, at_most=1.05, unit="times the memory"),
        make_row("memory grows with steps to the power", grown, at_most=0.05, unit="exponent"),
    ], {}


def compare_adapting(small: str, *, rounds: int, device: str | None, quick: bool) -> Measured:
    """Seconds from the start of a process to a saved model, for 64 labels, on all cores.

    SetFit trains once.

    A quick look leaves the rivals out.
    """
    place = ["--device", device] if device else []
    with TemporaryDirectory() as name:
        folder = Path(name)
        start, table = folder / "start", folder / "labels.jsonl"
        save_start(small, start, device=device)
        save_labels(table, 64)
        adapt = [sys.executable, "-m", "nlp_meta", "adapt", str(start), "--data", str(table)]
        data = ["--data", str(table), "--model", resolve_name(small)]
        seconds: dict[str, list[float]] = {"ours": [], "probe": []}
        for turn in range(rounds):
            output = ["--output-dir", str(folder / str(turn)), *place]
            seconds["ours"].append(run_words([*adapt, *output], threads=CORES)[0])
            if not quick:
                seconds["probe"].append(run_child("probe", *data, threads=CORES)[0])
        setfit = run_child("setfit", *data, threads=CORES)[0] if not quick else 0.0
    ours = seconds["ours"]
    rows = [make_row("adapt to 64 labels, process start to saved model", ours, at_most=5, unit="s")]
    if not quick:
        probes = [theirs / mine for theirs, mine in zip(seconds["probe"], ours, strict=True)]
        rows += [
            make_row(
                "adapt, against SetFit with its defaults",
                [setfit / mine for mine in ours],
                at_least=25,
                unit="times as fast",
            ),
            make_row(
                "adapt, against sentence-transformers and logistic regression",
                probes,
                unit="times as fast",
            ),
        ]
    return rows, {}


def save_start(small: str, folder: Path, *, device: str | None) -> None:
    """Save a start of the quickstart's shape; how long it adapts does not hang on what it knows."""
    problem = pose(Case(model=small, layers=4, tokens=(36, 96)), device=device)
    tasks = load_tasks(["nlp_meta_reviews"], meta_split="meta-train")
    how = Adaptation(InnerLoop(10, 3e-4, "adam"), 16, early_stop=True, trust=KNOWN_LABELS)
    MetaModel(
        {"classification": problem.objective},
        problem.weights,
        problem.case.settings,
        {"classification": how},
        companion=fit_prior(tasks, LABELS, seed=0),
    ).save_pretrained(folder)


def held_out() -> list[Example]:
    """Labeled reviews of the industry that no start has seen, labels in turn."""
    (task,) = load_tasks(["nlp_meta_reviews"], meta_split="meta-test")
    rows = [[e for e in task.train if e.target == label] for label in LABELS]
    return [example for pair in zip(*rows, strict=False) for example in pair]


def save_labels(table: Path, number: int) -> None:
    """Save a table of labeled texts."""
    lines = [json.dumps({"text": e.source, "label": e.target}) for e in held_out()[:number]]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")


def compare_prediction(small: str, *, rounds: int, device: str | None) -> Measured:
    """Texts a second of an adapted model and of a pipeline over the same weights, merged."""
    problem = pose(Case(model=small, layers=2, tasks=8, examples=32), device=device)
    texts = [e.source for episode in problem.episodes for e in episode.support]
    model = AdaptedModel(problem.objective, problem.weights, problem.case.settings)
    rates = take_turns(
        {
            "predict: ours": timed(len(texts), lambda: model.predict(texts)),
            "predict: pipeline": timed(len(texts), _pipeline(problem, texts)),
        },
        rounds=rounds,
    )
    row = make_row(
        "prediction, against a transformers pipeline at batch 32, float32",
        ratios(rates, *rates),
        at_least=3,
        unit="times texts a second",
    )
    return [row], rates


def _pipeline(problem: Problem, texts: Sequence[str]) -> Callable[[], object]:
    rival = build_rival(problem)
    classify: Any = pipeline(
        "text-classification",
        model=rival.model.merge_and_unload(),
        tokenizer=rival.tokenizer,
        batch_size=32,
        device=rival.device,
    )
    cut = {"truncation": True, "max_length": problem.case.tokens[1]}
    return partial(classify, list(texts), **cut)


def compare_prompting(*, rounds: int, device: str | None) -> Measured:
    """Queries a second behind 16 demonstrations: 100 at once, and one after another in whole.

    Among more queries the prefix, which is read once, would count for less.
    """
    model = load_language_model("builtin:smollm2", device=device)
    examples = held_out()[:16]
    prompt = build_prompt(TEMPLATES["review"], examples, LABELS, chat=None)
    queries = read_reviews()[:100]

    def ask_together() -> None:
        LocalScorer(model, 2048).score(prompt, queries)

    def ask_one_by_one(some: Sequence[str]) -> None:
        for query in some:
            _score_whole(model, prompt, query)

    # Each query takes as long as another: a few of them tell the rate.
    few = queries[:4]
    rates = take_turns(
        {
            "prompting: ours": timed(len(queries), ask_together),
            "prompting: whole prompts": timed(len(few), lambda: ask_one_by_one(few)),
        },
        rounds=rounds,
    )
    row = make_row(
        "prompting 100 queries, 16 demonstrations, shared prefix against none",
        ratios(rates, *rates),
        at_least=5,
        unit="times queries a second",
    )
    return [row], rates


@torch.inference_mode()
def _score_whole(model: Any, prompt: Prompt, query: str) -> list[float]:
    """Likelihood of the first token of each answer behind one whole prompt."""
    text = prompt.prefix + prompt.before + query + prompt.after
    ids = model.tokenizer(text, return_tensors="pt").to(model.device)
    logits = model.model(**ids, logits_to_keep=1).logits[0, -1].log_softmax(-1)
    first = [model.tokenizer(answer)["input_ids"][0] for answer in prompt.answers]
    return [float(logits[place]) for place in first]


def compare_processes(small: str, *, rounds: int) -> Measured:
    """Examples a second of a run by two processes of one thread, over one of one thread."""
    recipe, steps = str(RECIPES / "meta_train.py"), 10
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    commands = {"two processes": [*torchrun, recipe], "one process": [sys.executable, recipe]}
    rates: Rates = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            with TemporaryDirectory() as folder:
                run_words(
                    [*command, *run_settings(small, folder=Path(folder) / "run", steps=steps)]
                )
                rates[name].append(_rate_of(Path(folder) / "run" / "log.jsonl"))
    row = make_row(
        "two processes of one thread over one",
        ratios(rates, *commands),
        at_least=1.8,
        unit="times examples a second",
    )
    return [row], rates


def _rate_of(log: Path) -> float:
    """Examples a second of the outer steps between the first two and the judged last one."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    first, *between = lines[1:-1]
    seconds = sum(float(line["seconds"]) for line in between)
    return float(between[-1]["examples"] - first["examples"]) / seconds


def measure_quickstart(*, rounds: int) -> Measured:
    """Seconds of `nlp-meta quickstart` by its own clock, on all cores."""
    seconds = []
    for _ in range(min(rounds, 3)):
        with TemporaryDirectory() as folder:
            output = Path(folder) / "quickstart"
            words = ["-m", "nlp_meta", "quickstart", "--output-dir", str(output)]
            run_words([sys.executable, *words], threads=CORES)
            results = json.loads((output / "results.json").read_text(encoding="utf-8"))
            seconds.append(results["seconds"])
    return [make_row("quickstart by its own clock", seconds, at_most=60, unit="s")], {}


def measure_streams(small: str, *, rounds: int) -> Measured:
    """Peak memory of a run on a million rows on disk, over one on ten thousand."""
    peaks: dict[int, list[float]] = {10_000: [], 1_000_000: []}
    for _ in range(min(rounds, 3)):
        for rows, values in peaks.items():
            words = ["streamed", "--model", small, "--rows", str(rows), "--steps", "5"]
            measured = run_child(*words)[1]
            values.append(measured["megabytes"])
            print({name: round(value, 1) for name, value in measured.items()}, flush=True)
    over = [many / few for few, many in zip(*peaks.values(), strict=True)]
    return [make_row("peak memory, a million rows over ten thousand", over, unit="times")], {}


def measure_quality(small: str, *, rounds: int, device: str | None) -> Measured:
    """Accuracy on held-out reviews with every lever, less that without: a support draw a round.

    Without them the whole model runs as transformers wrote it, in float32, and keeps nothing.
    """
    problem = pose(Case(model=small, layers=4, tokens=(36, 96)), precision="no", device=device)
    leveled = pose(problem.case, device=device).objective
    plain = replace(problem.objective, network=whole_network(problem.objective.backbone))
    (task,) = load_tasks(["nlp_meta_reviews"], meta_split="meta-test")
    episodes = [evaluation_episode(task, labels_total=60, seed=0, draw=i) for i in range(rounds)]
    start, inner = (
        plain.meta_parameters(torch.Generator().manual_seed(0)),
        InnerLoop(20, 1e-3, "adam"),
    )
    cells = [
        evaluate(fine_tune(way, start, inner=inner, minibatch=16), episodes, method=name).cells
        for name, way in {"with": leveled, "without": plain}.items()
    ]
    less = [
        (on.scores["accuracy"] or 0.0) - (off.scores["accuracy"] or 0.0)
        for on, off in zip(*cells, strict=True)
    ]
    return [make_row("accuracy with all levers, less without", less, unit="of 1")], {}
