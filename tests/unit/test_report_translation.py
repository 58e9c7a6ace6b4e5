"""The page of translations: measures of their kind, and answers side by side, as marked texts."""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from nlp_meta.data.answers import Answer, Ranking, Rival, Translation
from nlp_meta.data.episodes import Episode, Queries
from nlp_meta.data.tasks import Example
from nlp_meta.evaluation import answers as kinds
from nlp_meta.evaluation.protocol import FinishedCell, columns_of, hash_query, judge
from nlp_meta.evaluation.results import Analysis, analyze
from nlp_meta.report.page import to_markdown, write_report
from nlp_meta.report.texts import Part, find_examples, mark_differences
from nlp_meta.report.verdict import answer_sentence

SENTENCES = {
    "ind-jav": [
        ("Rumah itu besar dan indah.", "Omah kuwi gedhe lan apik."),
        ("Saya tidak punya uang.", "Aku ora duwe dhuwit."),
        ("Makanannya sangat enak <sekali> & murah.", "Panganane enak <tenan> & murah."),
        ("Kami pulang besok pagi.", "Awake dhewe mulih sesuk esuk."),
    ],
    "eng-yor": [
        ("The market is closed today.", "Ọjà ti wà ní títì lónìí."),
        ("She is reading a book.", "Ó ń ka ìwé."),
        ("Water is life.", "Omi ni ìyè."),
        ("We will meet tomorrow.", "A ó pàdé lọ́la."),
    ],
}
BUDGETS, DRAWS = (0, 50, 100), 2
TITLES = {
    "ours": "Reptile, then fine-tuning",
    "joint": "joint training, then fine-tuning",
    "frozen": "the frozen encoder",
}


def episode(pair: str, pairs: int, draw: int, *, candidates: bool) -> Episode:
    support = tuple(Example(f"source {draw} {row}", f"target {row}") for row in range(pairs))
    query = tuple(Example(source, target) for source, target in SENTENCES[pair])
    pool = tuple(one.target for one in reversed(query)) if candidates else ()
    return Episode(
        f"nusax_mt/{pair}",
        (),
        support,
        query,
        draw,
        "retrieval" if pool else "generation",
        pair,
        pool,
    )


def know(method: str) -> Rival:
    return lambda support_set: lambda queries: answer(method, support_set.language, queries)


def answer(method: str, language: str, queries: Queries) -> list[Answer]:
    """Ours errs on the first query, the rivals on the last, the frozen encoder on two more."""
    wrong = {"ours": {0}, "joint": {3}, "frozen": {1, 2, 3}}[method]
    texts = [target for _, target in SENTENCES[language]]
    answers: list[Answer] = []
    for row, text in enumerate(texts):
        right = len(texts) - 1 - row
        if not queries.candidates:
            answers.append(Translation(text.replace("a", "e") if row in wrong else text))
        elif row in wrong:
            order = [place for place in range(len(texts)) if place != right]
            answers.append(Ranking((order[0], right, *order[1:]), order[0]))
        else:
            others = [place for place in range(len(texts)) if place != right]
            answers.append(Ranking((right, *others), right))
    return answers


def build(kind: str, metric: str) -> tuple[dict[str, Any], pa.Table]:
    """Results as a comparison writes them, of two tasks, three methods and two draws."""
    episodes = [
        episode(pair, pairs, draw, candidates=kind == "retrieval")
        for draw in range(DRAWS)
        for pair in SENTENCES
        for pairs in BUDGETS
    ]
    records = {}
    for method in TITLES:
        for one in episodes:
            judgment = judge(know(method), one, method=method)
            facts = {"examples_adapt": 5}
            record = FinishedCell(method, judgment.cell, judgment.answers, facts, hash_query(one))
            records[record.key] = record
    results = {
        "format": 1,
        "title": "Two held-out pairs",
        "metric": metric,
        "labels": list(BUDGETS),
        "draws": DRAWS,
        "ours": "ours",
        "settings": {"run": {"seed": 0}},
        "tasks": [
            {
                "name": f"nusax_mt/{pair}",
                "language": pair,
                "domain": "reviews",
                "labels": [],
                "query_rows": 4,
                **({"candidates": 4} if kind == "retrieval" else {}),
            }
            for pair in SENTENCES
        ],
        "methods": {
            name: {
                "title": title,
                "group": "ours" if name == "ours" else "rival",
                "reads": "the adapted encoder",
                "examples_before": 0,
                "parameters": 1000,
                "bytes": 4000,
                "skipped": None,
            }
            for name, title in TITLES.items()
        },
        **analyze(records, episodes, Analysis(metric, "ours", False, 100, 0)),
        "leaks": None,
        "notes": [],
    }
    by_place = {(one.task, len(one.support), one.index): one for one in episodes}
    return results, pa.table(columns_of(list(records.values()), by_place))


@pytest.fixture(scope="module", params=[("generation", "chrf"), ("retrieval", "precision_at_1")])
def page(request, tmp_path_factory) -> tuple[str, dict[str, Any], str, list[Path]]:
    kind, metric = request.param
    results, table = build(kind, metric)
    folder = tmp_path_factory.mktemp(kind)
    path, *pictures = write_report(folder, results, table)
    return kind, results, path.read_text(encoding="utf-8"), pictures


def test_the_sentence_counts_pairs_and_names_the_measure(page):
    kind, results, html, _ = page
    sentence = answer_sentence(results)
    name = {"generation": "chrF++", "retrieval": "precision@1"}[kind]

    assert re.match(
        rf"Use [^:]*: {re.escape(name)} .* with 100 sentence pairs of each of 2 new language pairs",
        sentence,
    )
    shown = " ".join(re.sub("<[^>]*>", " ", unescape(html).replace("\u00a0", " ")).split())
    assert sentence in shown


def test_measures_are_those_of_the_kind_and_in_their_range(page):
    kind, results, html, _ = page
    text = to_markdown(results)
    names = {
        "generation": ("chrF++", "BLEU", "worst task"),
        "retrieval": ("precision@1", "mean reciprocal rank", "xsim error", "worst task"),
    }[kind]

    assert f"| method | {' | '.join(name for name in names if name in text)} |" in text
    assert all(name in html for name in names)
    assert f"from 0 to {100 if kind == 'generation' else 1}, more is better" in html
    assert ("of the xsim error less is better" in html) == (kind == "retrieval")
    assert "accuracy" not in html and "label" not in re.sub(r"aria-label", "", html)


def test_pictures_are_those_that_the_kind_has(page):
    _, _, html, pictures = page
    body = html.partition("</style>")[2]

    drawn = {"learning_curves", "all_curves", "domains", "cost"}
    assert {path.stem for path in pictures} == drawn
    assert "confusion" not in body.lower() and "calibration" not in body.lower()


def test_texts_stand_side_by_side_and_what_differs_is_marked(page):
    """Ours errs on the first sentence of each pair, the joint start on the last."""
    kind, _, html, _ = page
    parts = re.split(r"<h3>([^<]*) is ahead of [^<]*</h3>", html)
    texts = dict(zip(parts[1::2], parts[2::2], strict=True))
    ours, joint = texts["Reptile, then fine-tuning"], texts["joint training, then fine-tuning"]

    assert "Awake dhewe mulih sesuk esuk." in ours and "Rumah itu besar" in joint
    assert "so in 2 of 2 draws" in ours
    if kind == "generation":
        assert "Aw<del>a</del><ins>e</ins>ke" in ours
        assert "Om<del>a</del><ins>e</ins>h" in joint
        assert re.search(r"chrF\+\+ \d", ours)
    else:
        assert "the right one at rank 2" in ours and "the right one first" in ours
        assert "<ins>" in ours


def test_texts_of_users_are_escaped(page):
    _, _, html, _ = page

    assert "<tenan>" not in html and "<sekali>" not in html


def test_results_stay_flat_and_are_json(page):
    kind, results, _, _ = page
    cell = json.loads(json.dumps(results, allow_nan=False))["cells"][0]

    named = {"generation": {"chrf", "bleu", "spbleu"}, "retrieval": {"precision_at_1", "mrr"}}
    assert named[kind] <= set(cell)
    assert {"method", "task", "labels", "draw", "seconds_adapt", "examples_adapt"} <= set(cell)
    assert "scores" not in cell


def test_signatures_stand_on_the_page_of_translations(page):
    kind, results, html, _ = page

    if kind == "retrieval":
        assert "signatures" not in results
        return
    found = {row["metric"]: row["signature"] for row in results["signatures"]}
    assert "nc:6|nw:2" in found["chrf"] and "tok:13a" in found["bleu"]
    assert all(signature in html for signature in found.values())


def test_a_metric_that_was_left_out_is_no_column(monkeypatch):
    monkeypatch.setattr(kinds.metrics, "spbleu_missing", lambda: "no vocabulary")
    results, _ = build("generation", "bleu")

    assert "spBLEU" not in to_markdown(results)
    assert all("spbleu" in cell for cell in results["cells"])


@pytest.mark.parametrize(
    ("answer", "reference", "marked"),
    [
        ("omah", "omah", [("same", "omah")]),
        ("omeh", "omah", [("same", "om"), ("del", "a"), ("ins", "e"), ("same", "h")]),
        ("omah gedhe", "omah", [("same", "omah"), ("ins", " gedhe")]),
        ("", "omah", [("ins", "")]),
        ("xyz", "omah", [("ins", "xyz")]),
        ("abXcYde", "abPcQde", [("same", "ab"), ("del", "PcQ"), ("ins", "XcY"), ("same", "de")]),
        ("lo\u0323\u0301la", "lola", [("same", "l"), ("del", "o"), ("ins", "o\u0323\u0301")]),
    ],
    ids=["equal", "one sign", "more", "empty", "nothing alike", "one sign alike", "accents"],
)
def test_marks_of_single_signs(answer, reference, marked):
    """By hand; a single sign alike between two changes is no help, accents stay on their letter."""
    assert [(one.mark, one.text) for one in mark_differences(answer, reference)][
        : len(marked)
    ] == marked


def test_marked_parts_give_back_both_texts():
    answer, reference = "Omah kuwi gedhe banget lan apik", "Omah iku gedhe lan apik tenan"
    parts = mark_differences(answer, reference)

    assert "".join(one.text for one in parts if one.mark != "del") == answer
    assert "".join(one.text for one in parts if one.mark != "ins") == reference
    assert Part("same", "Omah ") == parts[0]


def row(text: str, chrf: float, *, task: str = "a", draw: int = 0) -> dict[str, Any]:
    values = {"method": "m", "task": task, "labels": 5, "draw": draw, "row": text, "text": text}
    return {**values, "true": "omah", "predicted": "omah", "chrf": chrf}


def test_examples_are_those_furthest_apart_with_tasks_in_turn():
    """By hand: gaps of x are 30 and -10, 10 on average; of y 50; of z 5 in another task."""
    better = [row("x", 60), row("x", 40, draw=1), row("y", 90), row("z", 55, task="b")]
    worse = [row("x", 30), row("x", 50, draw=1), row("y", 40), row("z", 50, task="b")]

    found = find_examples(better, worse, skill="generation", most=9)

    assert [(one.text, one.draws, one.judged) for one in found] == [
        ("y", 1, 1),
        ("z", 1, 1),
        ("x", 1, 2),
    ]
    assert found[2].better.note == "chrF++ 60.0" and found[2].worse.note == "chrF++ 30.0"
    assert find_examples(worse, better, skill="generation", most=9) == []
