"""What the page and its Markdown both say: sentences and tables by name."""

from typing import Any

from nlp_meta.report.answer import answer_sentence
from nlp_meta.report.facts import (
    break_even_table,
    choices_table,
    leaks_table,
    list_circumstances,
    list_settings,
    say_break_even,
    say_interval_meaning,
    say_leaks,
    tasks_table,
)
from nlp_meta.report.tables import (
    SAID,
    cost_table,
    domains_table,
    glance_table,
    measures_table,
    paired_table,
    scores_table,
)
from nlp_meta.report.verdict import Results, Verdict, skipped, title_of
from nlp_meta.report.words import kind_of_results, measure_of, words_of


def contents_of(results: Results, verdict: Verdict) -> dict[str, Any]:
    """Sentences and tables of the page by name: all that needs neither texts nor pictures."""
    labels = verdict.labels
    rival = title_of(results, verdict.rival) if verdict.rival else None
    words = words_of(results)
    return {
        "title": results["title"],
        "made": results.get("made") or "",
        "sentence": answer_sentence(results, labels=labels),
        "verdict": verdict,
        "ours_title": title_of(results, results["ours"]) if results["ours"] else "",
        "intervals": say_interval_meaning(results),
        "rival_title": rival,
        "outcome_in_words": SAID[verdict.outcome],
        "labels": labels,
        "kind": kind_of_results(results),
        "words": words,
        "given": words.count(labels),
        "measure": measure_of(results),
        "draws": results["draws"],
        "glance": glance_table(results),
        "scores": scores_table(results, labels),
        "measures": measures_table(results, labels),
        "domains": domains_table(results, labels),
        "cost": cost_table(results, labels),
        "paired": paired_table(results),
        "break_even": say_break_even(results, verdict.rival),
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


def _remark(results: Results, verdict: Verdict) -> list[str]:
    """What a reader must know before trusting a number."""
    remarks = []
    if results["draws"] == 1:
        remarks.append(
            "One support draw was judged: intervals and tests, where there are any, speak of other "
            "test texts and not of other support sets; another draw may turn the order round."
        )
    if verdict.outcome == "absent" and results["ours"]:
        remarks.append(f"Ours has no score at {words_of(results).count(verdict.labels)}.")
    if verdict.outcome == "untested" and results["draws"] > 1:
        remarks.append("The difference from the best rival was not tested.")
    if not verdict.rival:
        remarks.append(f"No rival has a score at {words_of(results).count(verdict.labels)}.")
    return remarks
