"""A small comparison made by hand, and records of starts, that several tests share."""

import copy
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

MEANS = {  # method: {labels: mean accuracy}; the first draw lies 0.01 below, the second above
    "reptile": {0: 0.80, 8: 0.82, 50: 0.87},
    "joint": {0: 0.80, 8: 0.81, 50: 0.86},
    "lora": {8: 0.55, 50: 0.70},
    "zero": {0: 0.79},
    "prompting": {0: 0.60, 8: 0.71},
}
TITLES = {
    "reptile": "Reptile",
    "joint": "joint training, then fine-tuning",
    "lora": "plain LoRA",
    "zero": "zero labels",
    "prompting": "prompting SmolLM2-135M",
    "setfit": "SetFit",
}
GROUPS = {"reptile": "ours", "zero": "reference"}
TASKS = {"reviews/kitchen": ("bad", "good"), "reviews/books": ("bad", "good")}
SKIPPED = "the package `setfit` is missing; install `nlp-meta[setfit]`"


def build_results() -> dict[str, Any]:
    """Give results of two tasks and two draws; every interval is 0.02 to either side."""
    places = [(m, n, mean) for m, curve in MEANS.items() for n, mean in curve.items()]
    return {
        "format": 1,
        "title": "Two shelves of reviews",
        "metric": "accuracy",
        "labels": [0, 8, 50],
        "draws": 2,
        "ours": "reptile",
        "settings": {"run": {"seed": 0}},
        "versions": {"torch": "2.13.0"},
        "hardware": "2 CPU cores",
        "made": "2026-11-23",
        "command": "nlp-meta compare",
        "tasks": [
            {
                "name": name,
                "language": "eng",
                "domain": name.partition("/")[2],
                "labels": list(labels),
                "query_rows": 4,
            }
            for name, labels in TASKS.items()
        ],
        "methods": {name: build_facts(name) for name in TITLES},
        "cells": [
            build_cell(method, task, labels, draw, mean)
            for method, labels, mean in places
            for task in TASKS
            for draw in (0, 1)
        ],
        "summary": [
            {
                "method": m,
                "labels": n,
                "metric": metric,
                "mean": x,
                "low": x - 0.02,
                "high": x + 0.02,
            }
            for m, n, mean in places
            for metric, x in (("accuracy", mean), ("macro_f1", mean - 0.05), ("ece", 1 - mean))
        ],
        "worst": [
            {"method": m, "labels": n, "metric": "accuracy", "task": "reviews/books", "mean": mean}
            for m, n, mean in places
        ],
        "by_task": [
            {"method": m, "labels": n, "metric": "accuracy", "task": task, "mean": mean}
            for m, n, mean in places
            for task in TASKS
        ],
        "paired": [
            build_pair("joint", 8, 0.01, 0.5),
            build_pair("lora", 8, 0.27, 0.001),
            build_pair("joint", 50, 0.01, 0.41),
            build_pair("lora", 50, 0.17, 0.0004),
        ],
        "break_even": [
            {"method": "reptile", "rival": rival, "metric": "accuracy", "at": 8, **needed}
            for rival, needed in {
                "joint": {"labels": 12.4, "low": 6.0, "high": None},
                "lora": {"labels": None, "low": None, "high": None},
            }.items()
        ],
        "gains": [
            {
                "method": "reptile",
                "labels": 50,
                "metric": "accuracy",
                "more": 30,
                "mean": 0.018,
                "low": 0.002,
                "high": 0.04,
            }
        ],
        "leaks": None,
        "notes": ["A note."],
    }


def build_facts(name: str) -> dict[str, Any]:
    return {
        "title": TITLES[name],
        "kind": name,
        "group": GROUPS.get(name, "rival"),
        "choice": {"learning_rate": 0.001} if name == "lora" else {},
        "examples_before": 31_040 if name == "reptile" else 0,
        "parameters": 148_226,
        "bytes": 592_904,
        "reads": "the adapted encoder",
        "skipped": SKIPPED if name == "setfit" else None,
    }


def build_cell(method: str, task: str, labels: int, draw: int, mean: float) -> dict[str, Any]:
    return {
        "method": method,
        "task": task,
        "labels": labels,
        "draw": draw,
        "rows": 4,
        "accuracy": mean + (0.01 if draw else -0.01),
        "macro_f1": mean - 0.05,
        "ece": 1 - mean,
        "seconds_adapt": labels / 10,
        "ms_per_prediction": 9.5,
        "examples_adapt": 20 * labels,
        "support_hash": "00",
    }


def build_pair(rival: str, labels: int, difference: float, p: float) -> dict[str, Any]:
    return {
        "method": "reptile",
        "rival": rival,
        "labels": labels,
        "metric": "accuracy",
        "difference": difference,
        "low": difference - 0.02,
        "high": difference + 0.02,
        "p": p / 2,
        "p_adjusted": p,
    }


def build_predictions() -> pa.Table:
    """Give the answers at 50 labels: ours is wrong on row 3, the others on row 0 of draw 0."""
    rows = [
        {
            "method": method,
            "task": task,
            "labels": 50,
            "draw": draw,
            "row": f"key{row}",
            "text": f"text {row} of {task}",
            "true": labels[row % 2],
            "predicted": labels[(row + wrong) % 2],
            "probability": 0.95 if row else 0.65,
        }
        for method in ("reptile", "joint", "lora")
        for task, labels in TASKS.items()
        for draw in (0, 1)
        for row in range(4)
        for wrong in [int(row == 3 if method == "reptile" else (row, draw) == (0, 0))]
    ]
    return pa.Table.from_pylist(rows)


@pytest.fixture
def results() -> dict[str, Any]:
    return build_results()


@pytest.fixture
def predictions() -> pa.Table:
    return build_predictions()


@pytest.fixture
def without(results: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """Leave methods, and everything said of them, out of the results."""

    def leave_out(*names: str) -> dict[str, Any]:
        less = copy.deepcopy(results)
        less["methods"] = {k: v for k, v in less["methods"].items() if k not in names}
        for part in ("cells", "summary", "worst", "by_task", "paired", "break_even", "gains"):
            less[part] = [
                row for row in less[part] if not {row["method"], row.get("rival")} & set(names)
            ]
        return less

    return leave_out


@pytest.fixture(scope="session")
def translated_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page of a comparison of written translations, with words that do not break."""
    from nlp_meta.report.page import write_report

    results = build_results() | {"metric": "chrf"}
    for row in (*results["summary"], *results["paired"], *results["by_task"], *results["worst"]):
        row["metric"] = {"accuracy": "chrf", "macro_f1": "bleu"}.get(row["metric"], row["metric"])
    for cell in results["cells"]:
        cell |= {"chrf": 100 * cell["accuracy"], "bleu": 50.0}
    table = build_predictions()
    texts = [f"{key} {'w' * 300} end" for key in table["row"].to_pylist()]
    right = [
        one == other
        for one, other in zip(*(table[n].to_pylist() for n in ("true", "predicted")), strict=True)
    ]
    columns = {
        "text": texts,
        "true": texts,
        "predicted": [
            text if good else text.replace("w", "v", 200)
            for text, good in zip(texts, right, strict=True)
        ],
        "chrf": [100.0 if good else 20.0 for good in right],
    }
    for name, values in columns.items():
        if name in table.column_names:
            table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
        else:
            table = table.append_column(name, pa.array(values))
    return write_report(tmp_path_factory.mktemp("translated"), results, table)[0]


@pytest.fixture(scope="session")
def careless_page(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """Write one page whose title and texts would break a careless one."""
    from nlp_meta.report.page import write_report

    table = build_predictions()
    arabic = "\u0637\u0639\u0627\u0645"
    texts = [
        f"<script>alert('{key}')</script> & \x00 \u202e{arabic}\u202c {'long ' * 80}{'w' * 300}"
        for key in table["row"].to_pylist()
    ]
    place = table.schema.get_field_index("text")
    table = table.set_column(place, "text", pa.array(texts))
    results = build_results()
    results["title"] = 'Shelves <b> & "more"'
    results["settings"]["path"] = "x" * 500
    return results, write_report(tmp_path_factory.mktemp("report"), results, table)


@pytest.fixture
def save_start() -> Callable[..., Path]:
    """Save a start as far as files go: a sealed record that names its base, and an adapter."""
    import torch
    from peft import LoraConfig
    from safetensors.torch import save_file

    from nlp_meta.files.outputs import write_folder
    from nlp_meta.hub.bases import BaseWeights
    from nlp_meta.hub.pull import ADAPTER
    from nlp_meta.hub.records import FORMAT, START, Record
    from nlp_meta.hub.storage import layout_of
    from nlp_meta.settings import ModelSettings

    def save(folder: Path, base: Path | str = "none", **provenance: object) -> Path:
        model = ModelSettings(str(base), None, "native", "shared", "", 16, 2, 4.0, 2, None)
        skills = ("classification",)
        how: dict[str, Any] = {"classification": {}}
        weights = BaseWeights(str(base), None, "")
        record = Record(START, skills, asdict(model), ("bad", "good"), how, provenance, weights)
        with write_folder(folder, layout_of(START, skills)) as draft:
            save_file({"lora": torch.zeros(2)}, draft.path / ADAPTER)
            config = LoraConfig(r=2, lora_alpha=4, base_model_name_or_path=str(base))
            config.save_pretrained(str(draft.path))
            draft.record = {"format": FORMAT, **asdict(record)}
        return folder

    return save
