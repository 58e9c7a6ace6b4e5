"""What stands beside the scores: break-even in words, leaks, tasks, choices, circumstances.

The page and its Markdown both say these sentences and tables, by name.
"""

import json
from collections.abc import Mapping
from typing import Any

from nlp_meta.report.scores import (
    MEASURES,
    NONE,
    Results,
    join_names,
    judged_on,
    measure_of,
    measured,
    rank_methods,
    score_of,
    skill_of,
    skipped,
    title_of,
    words_of,
)
from nlp_meta.report.tables import (
    Field,
    ReportRow,
    ReportTable,
    cost_table,
    domains_table,
    glance_table,
    measures_table,
    paired_table,
    scores_table,
)
from nlp_meta.report.verdict import Verdict, list_advice

_SHOWN_LEAKS = 5
_LEAKS = {
    "meta-train/query": "test texts like one that a start was trained on",
    "meta-train/support": "texts to learn from like one that a start was trained on, kept as "
    "they give no answer away",
    "support/query": "texts to learn from like a test text",
    "parallel": "test texts that translate one that a start was trained on",
}


def say_break_even(results: Results, rival: str | None) -> list[str]:
    """For each number of labels of ours a sentence: how many another needs to do as well."""
    measure, words, sentences = measure_of(results), words_of(results), []
    title_of_ours = title_of(results, results["ours"])
    for row in _break_even_rows(results):
        ours = score_of(results, results["ours"], row["at"])
        if row["rival"] == rival and ours is not None:
            need, title = _say_needed(results, row), title_of(results, row["rival"])
            sentences.append(
                f"With {words.count(row['at'])} {title_of_ours} gives {measure.name} "
                f"{ours.mean:.{measure.places}f}; {title} needs {need.text} {words.given}s"
                f"{need.detail} for that."
            )
    return sentences


def break_even_table(results: Results) -> ReportTable:
    """The number of labels that each other method needs to do as well as ours."""
    needs: dict[str, dict[int, Field]] = {}
    for row in _break_even_rows(results):
        needs.setdefault(row["rival"], {})[row["at"]] = _say_needed(results, row)
    heads = sorted({at for of_rival in needs.values() for at in of_rival})
    return ReportTable(
        f"{words_of(results).given.title()}s that each other method needs to do as well as "
        f"{title_of(results, results['ours']) if heads else 'the first'}",
        ("method", *(f"as with {at}" for at in heads)),
        tuple(
            ReportRow(
                Field(title_of(results, name)),
                tuple(needs[name].get(at, Field(NONE)) for at in heads),
            )
            for name in rank_methods(results, max(results["labels"]))
            if name in needs
        ),
    )


def say_leaks(results: Results) -> list[str]:
    """Say what the search for leaks covered and what it found, or that there was none."""
    leaks = results.get("leaks")
    if not leaks:
        return ["No search for near-duplicates between training and test texts was made."]
    checked = leaks["checked"]
    judged = checked["judged_train_rows"] + checked["judged_test_rows"]
    sentences = [
        f"Before anything was measured, the {judged:,} texts of the judged tasks were searched for "
        f"near-duplicates (similarity {leaks['threshold']:g} or more) between support and test"
    ]
    if checked["meta_train_tasks"]:
        sentences[0] += (
            f", and against the {checked['meta_train_rows']:,} texts of the "
            f"{checked['meta_train_tasks']} tasks that starts were trained on, translations too."
        )
    else:
        sentences[0] += "."
        sentences.append("What starts were trained on was not at hand and not searched.")
    counts = [f"{_LEAKS.get(kind, kind)} ({n:,})" for kind, n in leaks["found"].items() if n]
    number = sum(rows for parts in leaks["excluded"].values() for rows in parts.values())
    sentences.append(f"Found: {join_names(counts)}." if counts else "Nothing was found.")
    if counts:
        sentences.append(f"{number:,} text{' was' if number == 1 else 's were'} excluded.")
    dropped = sum((leaks.get("dropped") or {}).values())
    if dropped:
        sentences.append(
            f"{dropped:,} row{' of' if dropped == 1 else 's of'} the tasks for meta-training "
            f"{'repeats' if dropped == 1 else 'repeat'} a judged one word for word and "
            f"{'is' if dropped == 1 else 'are'} left out of them from the start."
        )
    return sentences


def leaks_table(results: Results) -> ReportTable:
    """The first leaks of each kind."""
    examples = (results.get("leaks") or {}).get("examples") or ()
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for leak in examples:
        by_kind.setdefault(leak["kind"], []).append(leak)
    names = ("text", "other_task", "other_text", "similarity", "action")
    rows = tuple(
        ReportRow(
            Field(f"{leak['task']}, {leak['part']}"), tuple(Field(_text(leak[n])) for n in names)
        )
        for leaks in by_kind.values()
        for leak in leaks[:_SHOWN_LEAKS]
    )
    columns = ("task and part", "text", "repeats one of", "its text", "similarity", "what was done")
    return ReportTable(f"Leaks, at most {_SHOWN_LEAKS} of a kind", columns, rows, words=True)


def tasks_table(results: Results) -> ReportTable:
    """The tasks that every method was judged on."""
    labeled = skill_of(results) == "classification"
    columns = {"domain": "domain", "language": "language" if labeled else "languages"}
    if labeled:
        columns["labels"] = "labels"
    columns["query_rows"] = f"test {words_of(results).text}s"
    if any(task.get("candidates") for task in results["tasks"]):
        columns["candidates"] = "candidates"
    rows = tuple(
        ReportRow(
            Field(task["name"]), tuple(Field(_text(task.get(field) or None)) for field in columns)
        )
        for task in results["tasks"]
    )
    caption = "The tasks that every method was adapted to"
    return ReportTable(caption, ("task", *columns.values()), rows, words=True)


def choices_table(results: Results) -> ReportTable:
    """What each method reads and what was chosen for it."""
    rows = tuple(
        ReportRow(
            Field(title_of(results, name)),
            (Field(_text(facts.get("reads"))), Field(_text(_choice(results, facts)))),
        )
        for name, facts in results["methods"].items()
        if name in measured(results)
    )
    columns = ("method", "reads", "chosen")
    caption = "What each method reads, and what was chosen for it without looking at test texts"
    return ReportTable(caption, columns, rows, words=True)


def _choice(results: Results, facts: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What was chosen; of a language model the prompts that this came to."""
    choice, prompts = facts.get("choice") or {}, facts.get("prompts")
    if not prompts:
        return choice or None
    shown = [
        f"{low if low == high else f'{low} to {high}'} with {words_of(results).count(int(labels))}"
        for labels, (low, high) in prompts["demonstrations"].items()
    ]
    counts = {part: _say_counts(prompts[f"{part}s"]) for part in ("template", "scoring")}
    named = {part: names for part, names in counts.items() if names}
    return {**choice, **named, "demonstrations": join_names(shown)}


def _say_counts(counts: Mapping[str, int]) -> str:
    """Write names, the most frequent first, with the cells of each where there are several."""
    names = sorted(counts, key=lambda name: -counts[name])
    if len(names) == 1:
        return names[0]
    cells = {name: "1 cell" if counts[name] == 1 else f"{counts[name]} cells" for name in names}
    return join_names([f"{name} in {cells[name]}" for name in names])


def say_interval_meaning(results: Results) -> str:
    """Say what the intervals allow for, as the settings tell it."""
    plan = (results.get("settings") or {}).get("comparison") or {}
    drawn = f"support sets and test {words_of(results).text}s"
    drawn = f"tasks, {drawn}" if plan.get("over_tasks") else drawn
    return f"how far another choice of {drawn} might move the mean"


def list_circumstances(results: Results) -> list[tuple[str, str]]:
    """How it was measured, as pairs of a word and its value."""
    versions = results.get("versions") or {}
    counts = join_names([str(labels) for labels in results["labels"]])
    pairs = [
        ("Made", results.get("made")),
        (f"{words_of(results).given.title()}s of each task", counts),
        ("Support draws", _say_draws(results)),
        ("Main measure", measure_of(results).name),
        *_list_signatures(results),
        ("Hardware", results.get("hardware")),
        ("Versions", ", ".join(f"{name} {value}" for name, value in versions.items())),
        ("Command", results.get("command")),
    ]
    return [(name, str(value)) for name, value in pairs if value]


def _say_draws(results: Results) -> str:
    """How many there were; `limits` let costly methods meet the first of them alone."""
    counts = [judged_on(results, name) for name in measured(results)]
    fewer = any(0 < count < results["draws"] for count in counts)
    all_of_them = f"{results['draws']}, nested and the same for all methods"
    return f"{all_of_them}, of which costly ones meet the first" if fewer else all_of_them


def _list_signatures(results: Results) -> list[tuple[str, str]]:
    """Give sacrebleu's signatures, with the tasks of each where they differ."""
    pairs = []
    for row in results.get("signatures") or ():
        same_metric = [r for r in results["signatures"] if r["metric"] == row["metric"]]
        tasks = f" ({join_names(row['tasks'])})" if len(same_metric) > 1 else ""
        pairs.append((f"{MEASURES[row['metric']].name} by sacrebleu", f"{row['signature']}{tasks}"))
    return pairs


def list_settings(results: Results) -> str:
    """Write the settings, one key a line."""
    return "\n".join(_lines(results.get("settings") or {}, ""))


def _break_even_rows(results: Results) -> list[Mapping[str, Any]]:
    rows = results.get("break_even") or ()
    return sorted((r for r in rows if r["metric"] == results["metric"]), key=lambda r: r["at"])


def _say_needed(results: Results, row: Mapping[str, Any]) -> Field:
    """Write a number of labels; none is more than the rival was given."""
    most = max((n for n in results["labels"] if score_of(results, row["rival"], n)), default=0)
    text = {
        name: f"over {most}" if row.get(name) is None else f"{row[name]:.0f}"
        for name in ("labels", "low", "high")
    }
    known = "low" in row and (row["low"], row["high"]) != (None, None)
    return Field(text["labels"], f" [{text['low']}, {text['high']}]" if known else "")


def _lines(value: object, name: str) -> list[str]:
    if isinstance(value, Mapping) and value:
        inner = {f"{name}.{key}" if name else str(key): item for key, item in value.items()}
        return [line for key, item in inner.items() for line in _lines(item, key)]
    return [f"{name}: {json.dumps(value, ensure_ascii=False, default=str)}"] if name else []


def _text(value: object) -> str:
    """Write a value for people: `steps 20, learning rate 0.001`."""
    if value is None or value == "":
        return NONE
    if isinstance(value, Mapping):
        return ", ".join(
            f"{str(key).replace('_', ' ')} {_text(item)}" for key, item in value.items()
        )
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or NONE
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def contents_of(results: Results, verdict: Verdict) -> dict[str, Any]:
    """Sentences and tables of the page by name: all that needs neither texts nor pictures."""
    labels, ours = verdict.labels, results["ours"]
    words = words_of(results)
    advice = list_advice(results, verdict)
    held = verdict.other if verdict.best == ours else verdict.best
    return {
        "title": results["title"],
        "counts": _say_counts_of_rows(results),
        "made": results.get("made") or "",
        "sentence": " ".join(advice),
        "advice": advice,
        "verdict": verdict,
        "best_title": title_of(results, verdict.best) if verdict.best else "",
        "other_title": title_of(results, verdict.other) if verdict.other else "",
        "ours_title": title_of(results, ours) if ours else "",
        "several": len(results["tasks"]) > 1,
        "intervals": say_interval_meaning(results),
        "skill": skill_of(results),
        "words": words,
        "given": words.count(labels),
        "measure": measure_of(results),
        "glance": glance_table(results),
        "scores": scores_table(results, labels),
        "measures": measures_table(results, labels),
        "domains": domains_table(results, labels),
        "cost": cost_table(results, labels),
        "paired": paired_table(results),
        "break_even": say_break_even(results, held),
        "break_even_table": break_even_table(results),
        "leaks": say_leaks(results),
        "leaks_table": leaks_table(results),
        "tasks": tasks_table(results),
        "choices": choices_table(results),
        "circumstances": list_circumstances(results),
        "settings": list_settings(results),
        "skipped": skipped(results),
        "notes": [str(note) for note in results.get("notes") or ()],
        "remarks": _remark(results, verdict),
    }


def _say_counts_of_rows(results: Results) -> str:
    """How many texts there are to judge by, and what is learned from; of one task, all of it."""
    words, tasks = words_of(results), results["tasks"]
    judged = sum(task.get("query_rows") or 0 for task in tasks)
    most = words.count(max(results["labels"]))
    draws = f"{results['draws']} draw{'' if results['draws'] == 1 else 's'}"
    where = f"of {len(tasks)} tasks " if len(tasks) > 1 else ""
    each = f"{len(measured(results))} methods, each judged by {judged:,} {words.text}s {where}"
    return f"{each}after learning from up to {most}, in {draws}."


def _remark(results: Results, verdict: Verdict) -> list[str]:
    """What a reader must know before trusting a number."""
    if results["draws"] > 1:
        return []
    return [
        "One support draw was judged: intervals and tests, where there are any, speak of other "
        "test texts and not of other support sets; another draw may turn the order round."
    ]
