"""A comparison's `results.json` as a model card tells it: scores, rivals, calibration, leaks."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, EvalResultEntry

from nlp_meta.errors import HubError

FORMAT = 1
HUB_METRICS = {"macro_f1": "f1", "f1": "f1", "bleu": "bleu", "chrf": "chrf"}
"""Names on the Hub of metrics that are called otherwise here."""
_KEYS = ("metric", "labels", "draws", "ours", "methods", "summary", "by_task", "leaks", "made")

Results = Mapping[str, Any]


def read_results(
    path: Path, *, adapter_sha256: str | None, examples: int | None, folder: str
) -> Results:
    """Read the results of a comparison that judged this model; what is called ours is then it.

    Args:
        adapter_sha256: Hash of its adapter; of an adapted model, of that of its start. Results
            of an earlier version have none: those are told by the two others.
        examples: It was trained on so many.
        folder: Name of its folder.

    Raises:
        HubError: It is no comparison, or one of other models.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        whole = found["format"] == FORMAT and all(key in found for key in _KEYS)
        methods: Mapping[str, Mapping[str, Any]] = found["methods"]
        hashed = any(facts.get("start_sha256") for facts in methods.values())
        own = [
            name
            for name, facts in methods.items()
            if not facts.get("skipped")
            and (
                facts.get("start_sha256") == adapter_sha256
                if hashed
                else (facts.get("start"), facts.get("examples_before")) == (folder, examples)
            )
        ]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _no_results(path) from error
    if not whole:
        raise _no_results(path)
    if not own or adapter_sha256 is None:
        shown = ", ".join(str(facts["start"]) for facts in methods.values() if facts.get("start"))
        raise HubError(
            f"cannot put the scores of '{path}' into the card: they are of the starts "
            f"{shown or 'none'} and not of this one, and a comparison of this model is needed; "
            "correct `--results`"
        )
    return {**found, "ours": found["ours"] if found["ours"] in own else own[0]}


def scores_table(results: Results) -> str:
    """Every method at every number of labels, ours first, as a Markdown table."""
    ours, metric = results["ours"], results["metric"]
    budgets: Sequence[int] = results["labels"]
    names = sorted(results["methods"], key=lambda name: name != ours)
    cells = {
        (one["method"], one["labels"]): f"{one['mean']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
        for one in results["summary"]
        if one["metric"] == metric
    }
    head = ["method", *(f"{count} labels" for count in budgets)]
    rows = []
    for name in names:
        title = results["methods"][name].get("title", name)
        title = f"**{title}** (this model)" if name == ours else title
        rows.append([title, *(cells.get((name, count), "-") for count in budgets)])
    return markdown_table([head, ["---"] * len(head), *rows])


def calibration_sentence(results: Results) -> str | None:
    """The calibration error of ours at each number of labels; None where none was measured."""
    found = [
        f"{one['mean']:.3f} [{one['low']:.3f}, {one['high']:.3f}] at {one['labels']} labels"
        for one in results["summary"]
        if one["method"] == results["ours"] and one["metric"] == "ece"
    ]
    return f"Expected calibration error: {', '.join(found)}." if found else None


def leaks_sentence(results: Results) -> str:
    """What the search for near-duplicates looked at, and what it found and left out."""
    leaks = results["leaks"]
    checked = leaks["checked"]
    found = ", ".join(f"{kind} {count}" for kind, count in leaks["found"].items())
    excluded = sum(n for parts in leaks["excluded"].values() for n in parts.values())
    return (
        f"Texts at least {leaks['threshold']} similar were searched for between "
        f"{checked['meta_train_rows']:,} meta-train rows, {checked['judged_train_rows']:,} rows "
        f"that support sets are drawn from and {checked['judged_test_rows']:,} test rows. Found: "
        f"{found}. Rows left out for it: {excluded}."
    )


def eval_results(
    results: Results, data: Sequence[Mapping[str, Any]], *, task: str
) -> list[EvalResult]:
    """Entries of `model-index`: ours on each task, at the most labels.

    Args:
        task: The Hub's word for what the model does.
    """
    places = _places(data)
    return [
        EvalResult(
            task_type=task,
            dataset_type=place["hub"]["id"] if place["hub"] else place["card"],
            dataset_name=f"{place['pretty_name']}, task {one['task']}",
            dataset_config=place["config"] or one["task"].split("/", 1)[-1],
            dataset_split="test",
            dataset_revision=place["hub"]["revision"] if place["hub"] else None,
            metric_type=HUB_METRICS.get(one["metric"], one["metric"]),
            metric_name=f"{one['metric']} at {one['labels']} labels",
            metric_value=one["mean"],
        )
        for one, place in _own_scores(results, places)
        if one["metric"] in ("accuracy", results["metric"])
    ]


def eval_entries(
    results: Results, data: Sequence[Mapping[str, Any]]
) -> dict[str, list[EvalResultEntry]]:
    """Entries of `.eval_results/*.yaml` by card: the main metric, for corpora on the Hub."""
    entries: dict[str, list[EvalResultEntry]] = {}
    for one, place in _own_scores(results, _places(data)):
        if place["hub"] is None or one["metric"] != results["metric"]:
            continue
        entries.setdefault(place["card"], []).append(
            EvalResultEntry(
                dataset_id=place["hub"]["id"],
                task_id=place["config"] or "default",
                value=one["mean"],
                dataset_revision=place["hub"]["revision"],
                date=results["made"],
                notes=f"{one['metric']} of {one['task']} at {one['labels']} labels, mean of "
                f"{results['draws']} support draws",
            )
        )
    return entries


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Lines of a table; bars inside cells are escaped."""
    lines = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows)
    return "\n".join(f"| {line} |" for line in lines)


def _own_scores(
    results: Results, places: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Mean scores of ours at the most labels, each with what is known of its task."""
    most = max(results["labels"])
    for one in results["by_task"]:
        if one["method"] == results["ours"] and one["labels"] == most:
            corpus = one["task"].split("/")[0]
            unknown = {"card": corpus, "pretty_name": corpus, "hub": None, "config": None}
            yield one, places.get(one["task"], unknown)


def _places(data: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        task["name"]: {
            "card": card["card"],
            "pretty_name": card["pretty_name"],
            "hub": card["hub"],
            "config": task["config"],
        }
        for card in data
        for task in card["tasks"]
    }


def _no_results(path: Path) -> HubError:
    return HubError(
        f"cannot put the scores of '{path}' into the card: it is not the results.json of a "
        "comparison, and such a file is needed; give the one that `nlp-meta compare` or "
        "recipes/compare.py left, or leave out `--results`"
    )
