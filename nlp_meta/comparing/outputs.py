"""What a comparison leaves behind: `results.json`, `predictions.parquet`, `report.html`."""

import datetime
import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path

import pyarrow
import pyarrow.parquet

from nlp_meta import __version__
from nlp_meta.comparing.bench import AnyComparison, Bench, skill_of
from nlp_meta.comparing.run import Ran
from nlp_meta.data.leaks import LeakReport
from nlp_meta.data.tasks import Task
from nlp_meta.evaluation.answers import ANSWERS, missing_for
from nlp_meta.evaluation.protocol import columns_of
from nlp_meta.evaluation.results import Analysis, analyze
from nlp_meta.report.page import write_report
from nlp_meta.report.verdict import answer_sentence
from nlp_meta.training.run import describe_hardware

FORMAT = 1
PACKAGES = ("torch", "transformers", "peft", "datasets", "scikit-learn", "numpy")
UNEQUAL = 0.02
"""Share by which examples before may differ between starts that are called equal."""


def save_comparison(
    ran: Ran, bench: Bench, tasks: Sequence[Task], leaks: LeakReport, *, folder: Path
) -> str:
    """Write the results, every answer, and the page; give the sentence with the answer."""
    settings = bench.settings
    plan = settings.comparison
    analysis = Analysis(plan.metric, plan.ours, plan.over_tasks, plan.resamples, settings.run.seed)
    results: dict[str, object] = {
        "format": FORMAT,
        "title": plan.title,
        "metric": plan.metric,
        "labels": plan.labels,
        "draws": plan.draws,
        "ours": plan.ours,
        "settings": _portable(settings),
        "versions": _versions(),
        "hardware": describe_hardware(),
        "made": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "tasks": [_describe(task, ran) for task in tasks],
        "methods": {name: {**facts, **_prompts(name, ran)} for name, facts in ran.facts.items()},
        **analyze(ran.records, ran.episodes, analysis),
        "leaks": asdict(leaks),
        "notes": _notes(settings, ran),
    }
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")
    by_place = {(one.task, len(one.support), one.index): one for one in ran.episodes}
    table = pyarrow.table(columns_of(list(ran.records.values()), by_place))
    pyarrow.parquet.write_table(table, folder / "predictions.parquet")
    write_report(folder, results, table)
    return answer_sentence(results)


def _portable(settings: AnyComparison) -> dict[str, object]:
    """Settings without the folders of this machine."""
    return {**asdict(settings), "data": asdict(replace(settings.data, root=None))}


def _versions() -> dict[str, str]:
    packages = {name: metadata.version(name) for name in PACKAGES}
    return {"nlp_meta": __version__, "python": platform.python_version(), **packages}


def _describe(task: Task, ran: Ran) -> dict[str, object]:
    episodes = [one for one in ran.episodes if one.task == task.name]
    pool = max(len(one.candidates) for one in episodes)
    return {
        "name": task.name,
        "language": task.language,
        "domain": task.domain,
        "labels": list(task.labels),
        "query_rows": max(len(one.query) for one in episodes),
        "test_rows": len(task.test or task.train),
        **({"candidates": pool} if pool else {}),
    }


def _prompts(name: str, ran: Ran) -> dict[str, object]:
    """What a method's prompts were, in how many cells, and the demonstrations that they showed."""
    cells = [
        (key.labels, record.facts)
        for key, record in ran.records.items()
        if key.method == name and "demonstrations" in record.facts
    ]
    if not cells:
        return {}
    shown: dict[str, list[int]] = {}
    for labels, facts in sorted(cells, key=lambda cell: cell[0]):
        shown.setdefault(str(labels), []).append(int(str(facts["demonstrations"])))
    named: dict[str, object] = {
        f"{part}s": Counter(str(facts[part]) for _, facts in cells if part in facts)
        for part in ("template", "scoring")
    }
    ranges = {labels: [min(numbers), max(numbers)] for labels, numbers in shown.items()}
    return {"prompts": {**named, "demonstrations": ranges}}


def _notes(settings: AnyComparison, ran: Ran) -> list[str]:
    notes = [*ran.notes]
    before: Mapping[str, int] = {
        name: int(str(facts["examples_before"]))
        for name, facts in ran.facts.items()
        if facts.get("examples_before")
    }
    if before and max(before.values()) > (1 + UNEQUAL) * min(before.values()):
        shown = ", ".join(f"{name} {count:,}" for name, count in before.items())
        notes.append(f"The starts were not trained on equally many examples: {shown}.")
    if settings.comparison.max_query is not None:
        notes.append(
            f"Each draw judges at most {settings.comparison.max_query} rows of a test set, others "
            "in each draw."
        )
    metrics = ANSWERS[skill_of(settings)].metrics
    notes += [f"Left out: {missing}." for name in metrics if (missing := missing_for(name))]
    for name, most in settings.comparison.limits.items():
        notes.append(f"{name} was judged on {most} of {settings.comparison.draws} draws.")
    return notes
