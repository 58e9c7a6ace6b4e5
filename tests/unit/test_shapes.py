"""Shapes of other tools: what says the same as a table of ours is read as one, or named."""

import json
from pathlib import Path

import openpyxl
import pytest

from nlp_meta.errors import DataError, LabelError
from nlp_meta.files.memories import read_memory
from nlp_meta.files.tables import read_label_file, read_table

TEXTS = ("The lift is new.", "The lift is late.", "The desk is red.", "The desk is late.")
LABELS = ("good", "bad", "good", "bad")


def lines(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def each(make) -> list:
    return [make(text, label) for text, label in zip(TEXTS, LABELS, strict=True)]


def save(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


SHAPES = {
    "doccano.jsonl": lines(each(lambda t, y: {"id": 1, "text": t, "label": [y]})),
    "doccano_labels.jsonl": lines(each(lambda t, y: {"text": t, "labels": [y]})),
    "doccano_data.jsonl": lines(each(lambda t, y: {"data": t, "label": [y]})),
    "label_studio.json": json.dumps(
        each(
            lambda t, y: {
                "data": {"text": t},
                "annotations": [
                    {"result": [{"from_name": "label", "value": {"choices": [y]}}]},
                    {"was_cancelled": True, "result": [{"value": {"choices": ["other"]}}]},
                ],
            }
        )
    ),
    "label_studio.csv": "text,label\n"
    + "".join(f'{t},"{{""choices"": [""{y}""]}}"\n' for t, y in zip(TEXTS, LABELS, strict=True)),
    "label_studio_questions.json": json.dumps(
        each(
            lambda t, y: {
                "data": {"text": t, "url": "shop.example"},
                "annotations": [
                    {
                        "result": [
                            {"from_name": "topic", "value": {"choices": ["lifts"]}},
                            {"from_name": "label", "value": {"choices": [y]}},
                        ]
                    }
                ],
            }
        )
    ),
    "chats.jsonl": lines(
        each(
            lambda t, y: {
                "messages": [
                    {"role": "system", "content": "Answer good or bad."},
                    {"role": "user", "content": t},
                    {"role": "assistant", "content": y},
                ]
            }
        )
    ),
    "prompts.jsonl": lines(each(lambda t, y: {"prompt": t, "completion": f" {y}"})),
    "lighttag.json": json.dumps(
        {
            "schema": {},
            "examples": each(lambda t, y: {"content": t, "classifications": [{"classname": y}]}),
        }
    ),
    "vertex.jsonl": lines(
        each(lambda t, y: {"textContent": t, "classificationAnnotation": {"displayName": y}})
    ),
    "sagemaker.jsonl": lines(
        each(lambda t, y: {"source": t, "job": 1, "job-metadata": {"class-name": y}})
    ),
    "alpaca.json": json.dumps(
        each(lambda t, y: {"instruction": "Good or bad?", "input": t, "output": y})
    ),
    "tasks.jsonl": lines(each(lambda t, y: {"inputs": t, "targets": y})),
    "datasaur.json": json.dumps(
        each(lambda t, y: {"text": t, "labels": [{"labelSetName": "tone", "labelName": y}]})
    ),
    "objects.jsonl": lines(each(lambda t, y: {"document": {"text": t}, "label": {"name": y}})),
    "no_header.json": json.dumps(
        [list(row) for row in zip(TEXTS * 2, LABELS * 2, strict=True)][:8]
    ),
    "qualtrics.csv": "text,label\nHow was it?,Kind\n"
    + '"{""ImportId"":""Q1""}","{""ImportId"":""Q2""}"\n'
    + "".join(f"{t},{y}\n" for t, y in zip(TEXTS, LABELS, strict=True)),
    "qualtrics_questions.csv": "Q1,Q2\ntext,label\n"
    + '"{""ImportId"":""Q1""}","{""ImportId"":""Q2""}"\n'
    + "".join(each(lambda t, y: f"{t},{y}\n")),
    "r.txt": '"text" "label"\n'
    + "".join(each(lambda t, y: f'"{7 + TEXTS.index(t)}" "{t}" "{y}"\n')),
    "surveymonkey.csv": "text,label\nOpen-Ended Response,Response\n"
    + "".join(f"{t},{y}\n" for t, y in zip(TEXTS, LABELS, strict=True)),
    "argilla_columns.jsonl": lines(
        each(
            lambda t, y: {
                "text": t,
                "kind.responses": [y, "other"],
                "kind.responses.status": ["submitted", "discarded"],
            }
        )
    ),
    "prodigy_numbers.jsonl": lines(
        each(
            lambda t, y: {
                "text": t,
                "options": [{"id": 0, "text": "good"}, {"id": 1, "text": "bad"}],
                "accept": [int(y == "bad")],
            }
        )
    ),
    "prodigy.jsonl": lines(
        each(lambda t, y: {"text": t, "options": [], "accept": [y], "answer": "accept"})
    ),
    "argilla.json": json.dumps(
        each(lambda t, y: {"fields": {"text": t}, "responses": {"label": [{"value": y}]}})
    ),
    "argilla_old.json": json.dumps(each(lambda t, y: {"inputs": {"text": t}, "annotation": y})),
    "spacy.jsonl": lines(
        each(lambda t, y: {"text": t, "cats": {"good": 1.0 * (y == "good"), "bad": y == "bad"}})
    ),
    "lists_in_cells.csv": "text,label\n"
    + "".join(f"{t},['{y}']\n" for t, y in zip(TEXTS, LABELS, strict=True)),
    "hot.csv": "text,good,bad\n"
    + "".join(
        f"{t},{int(y == 'good')},{int(y == 'bad')}\n" for t, y in zip(TEXTS, LABELS, strict=True)
    ),
    "names.csv": "Text,LABEL\n" + "".join(f"{t},{y}\n" for t, y in zip(TEXTS, LABELS, strict=True)),
    "fasttext.txt": "".join(f"__label__{y} {t}\n" for t, y in zip(TEXTS, LABELS, strict=True)),
    "no_header.tsv": "".join(f"{t}\t{y}\n" for t, y in zip(TEXTS * 2, LABELS * 2, strict=True)),
    "columns.json": json.dumps({"text": TEXTS, "label": LABELS}),
    "pandas_columns.json": json.dumps(
        {
            "text": {str(n): text for n, text in enumerate(TEXTS)},
            "label": {str(n): label for n, label in enumerate(LABELS)},
        }
    ),
    "pandas_split.json": json.dumps(
        {"columns": ["text", "label"], "index": [0, 1, 2, 3], "data": each(lambda t, y: [t, y])}
    ),
    "pandas_index.json": json.dumps(
        {str(n): row for n, row in enumerate(each(lambda t, y: {"text": t, "label": y}))}
    ),
    "rasa.yml": 'version: "3.1"\nnlu:\n'
    + "".join(
        f"- intent: {y}\n  examples: |\n    - {t.replace('lift', '[lift](thing)')}\n"
        for t, y in zip(TEXTS, LABELS, strict=True)
    )
    + "- synonym: credit\n  examples: |\n    - credit card account\n",
    "rasa.json": json.dumps(
        {
            "rasa_nlu_data": {
                "common_examples": each(lambda t, y: {"text": t, "intent": y, "entities": []}),
                "regex_features": [{"name": "zip", "pattern": "[0-9]{5}"}],
                "entity_synonyms": [{"value": "lift", "synonyms": ["elevator"]}],
            }
        }
    ),
    "chatbot.json": json.dumps({"intents": each(lambda t, y: {"tag": y, "patterns": [t]})}),
    "watson.json": json.dumps(
        {"intents": each(lambda t, y: {"intent": y, "examples": [{"text": t}]}), "entities": [{}]}
    ),
    "sharegpt.jsonl": lines(
        each(
            lambda t, y: {
                "conversations": [{"from": "human", "value": t}, {"from": "gpt", "value": y}]
            }
        )
    ),
    "gemini.jsonl": lines(
        each(
            lambda t, y: {
                "contents": [
                    {"role": "user", "parts": [{"text": t}]},
                    {"role": "model", "parts": [{"text": y}]},
                ]
            }
        )
    ),
    "postgres.csv": "text,label\n" + "".join(each(lambda t, y: f"{t},{{{y}}}\n")),
    "tuples.csv": "text,label\n" + "".join(each(lambda t, y: f"{t},\"('{y}',)\"\n")),
    "dummies.csv": "text,label_bad,label_good\n"
    + "".join(each(lambda t, y: f"{t},{y == 'bad'},{str(y == 'good').upper()}\n")),
    "crosses.csv": "text,good,bad\n"
    + "".join(each(lambda t, y: f"{t},{'x' * (y == 'good')},{'x' * (y == 'bad')}\n")),
    "answers.csv": "text,good,bad\n"
    + "".join(each(lambda t, y: f"{t},{'yes' if y == 'good' else 'no'},{'Y' * (y == 'bad')}\n")),
    "fasttext.train": "".join(each(lambda t, y: f"__label__{y}\t{t}\n")),
    "formulas.csv": "text,label\n" + "".join(each(lambda t, y: f'="{t}","=""{y}"""\n')),
    "curly.csv": "“text”,“label”\n" + "".join(each(lambda t, y: f"“{t}”,“{y}”\n")),
    "whole_lines.csv": '"text,label"\n' + "".join(each(lambda t, y: f'"{t},""{y}"""\n')),
    "tabs.xls": "text\tlabel\n" + "".join(each(lambda t, y: f"{t}\t{y}\n")),
    "no_header.txt": "".join(each(lambda t, y: f"{t}\t{y}\n") * 2),
    "data.json": json.dumps({"data": each(lambda t, y: {"text": t, "label": y})}, indent=1),
}


@pytest.mark.parametrize("name", SHAPES)
def test_what_says_the_same_as_a_table_is_read_as_one(tmp_path, name):
    table = read_table(save(tmp_path, name, SHAPES[name]), max_rows=9)

    assert table.texts[:4] == TEXTS
    assert table.labels is not None
    assert table.labels[:4] == LABELS


@pytest.mark.parametrize("label", [["good", "urgent"], "['good', 'urgent']", "['good' 'urgent']"])
def test_several_labels_of_a_text_are_said_to_be_beyond_what_is_learned(tmp_path, label):
    rows = [{"text": "a", "label": label}, {"text": "b", "label": ["bad"]}]
    path = save(tmp_path, "several.jsonl", lines(rows))

    with pytest.raises(LabelError, match=r"1 of 2 rows have several labels .line 1: 'good', 'urg"):
        read_table(path, max_rows=9)
    assert read_table(path, max_rows=9, drop_labels="urgent").labels == ("bad",)


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ([[0, 1, "NAME"]], "it labels parts of the text"),
        ([0, 1, 0], "whose places name no label"),
        ([0.3, 0.7], "numbers from 0 to 1"),
        ({"x": 3}, "not known"),
    ],
)
def test_labels_of_another_kind_are_named(tmp_path, label, says):
    path = save(tmp_path, "spans.jsonl", lines([{"text": "a b", "label": label}]))

    with pytest.raises(LabelError, match=rf"line 1 .*{says}"):
        read_table(path, max_rows=9)


HOLES = "text,label\nfine,good\n\u200b,bad\nlate,\n\u00ad,\nred,bad\n"


def test_all_holes_are_named_with_the_way_out(tmp_path):
    path = save(tmp_path, "holes.csv", HOLES)

    with pytest.raises(DataError, match=r'2 of 5 rows have no text .lines 3 and 5.*empty="skip"'):
        read_table(path, max_rows=9)


def test_holes_are_skipped_and_told_or_kept(tmp_path):
    path = save(tmp_path, "holes.csv", HOLES)

    skipped = read_table(path, max_rows=9, empty="skip")
    kept = read_table(path, max_rows=9, empty="keep", label_column=None)

    assert (skipped.texts, skipped.labels, skipped.lines) == (
        ("fine", "red"),
        ("good", "bad"),
        (2, 6),
    )
    assert any(
        "2 of 5 rows have no text and are left out (lines 3 and 5)" in n for n in skipped.notes
    )
    assert kept.lines == (2, 3, 4, 5, 6)
    assert any("are left without an answer" in note for note in kept.notes)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("map.csv", 'written,name\n"good, very",positive\nno,negative\n'),
        ("map.tsv", "good, very\tpositive\nno\tnegative\n"),
        ("map.txt", "good, very\tpositive\nno\tnegative\n"),
        ("map.json", '{"good, very": "positive", "no": "negative"}'),
        ("map.yaml", '"good, very": positive\nno: negative\n'),
    ],
)
def test_a_label_map_is_read_from_a_file(tmp_path, name, content):
    expected = {"good, very": "positive", "no": "negative"}

    assert read_label_file(save(tmp_path, name, content)) == expected


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", lines([{"translation": {"en": "late", "de": "spät"}}])),
        ("rows.csv", "translation\n\"{'en': 'late', 'de': 'spät'}\"\n"),
        ("codes.csv", "de,en,id\nspät,late,7\n"),
        ("short.jsonl", lines([{"src": "late", "tgt": "spät", "score": 1}])),
        ("flores.jsonl", lines([{"sentence_eng_Latn": "late", "sentence_deu_Latn": "spät"}])),
        ("names.tsv", "English\tGerman\nlate\tspät\n"),
        ("own.csv", "no,English,Deutsch,Français\n1,late,spät,tard\n"),
        ("words.csv", "Original (English),notes,Übersetzung (de)\nlate,x,spät\n"),
        ("asked.csv", "Englisch,text DE\nlate,spät\n"),
        (
            "lists.jsonl",
            lines([{"translation": {"language": ["de", "en"], "translation": ["spät", "late"]}}]),
        ),
        ("flat.jsonl", lines([{"language": ["de", "en"], "translation": ["spät", "late"]}] * 2)),
    ],
)
def test_sentences_are_found_by_their_languages(tmp_path, name, content):
    path = save(tmp_path, name, content)

    memory = read_memory(path, source_lang="eng", target_lang="deu")

    assert [(pair.source, pair.target) for pair in memory.pairs] == [("late", "spät")]
    assert memory.notes


def test_every_sentence_of_a_language_makes_a_pair(tmp_path):
    row = {"language": ["en", "de", "fr", "de"], "translation": ["red", "rot", "rouge", "rötlich"]}
    path = save(tmp_path, "lists.jsonl", lines([{"translation": row}]))

    memory = read_memory(path, source_lang="eng", target_lang="deu")

    assert [(pair.source, pair.target) for pair in memory.pairs] == [
        ("red", "rot"),
        ("red", "rötlich"),
    ]


HEADERLESS = {
    "tatoeba": ("1276\tLet's try!\t1282\tVersuchen wir es!\n", (2, 4)),
    "anki": ("Let's try!\tVersuchen wir es!\tCC-BY 2.0 (France) Attribution: #1 (a)\n", (1, 2)),
    "mined": ("1.2501\tLet's try!\tVersuchen wir es!\n", (2, 3)),
    "two": ("Let's try!\tVersuchen wir es!\n", (1, 2)),
    "five": ("1\teng\tLet's try!\tdeu\tVersuchen wir es!\n", (3, 5)),
    "moses": ("Let's try! ||| Versuchen wir es!\n", (1, 2)),
    "turned": ("1\tdeu\tVersuchen wir es!\teng\tLet's try!\n", (5, 3)),
}


@pytest.mark.parametrize("shape", HEADERLESS)
def test_pairs_without_names_of_columns_are_read(tmp_path, shape):
    """The first line is a pair like the others, with its quotes."""
    line, (source, target) = HEADERLESS[shape]
    lines = [line, line.replace("!", "?"), line.replace("Let's", "\u201cDo\u201d")]
    name = "deu.txt" if shape in ("anki", "moses") else "pairs.tsv"
    (tmp_path / name).write_text("".join(reversed(lines)), encoding="utf-8")

    memory = read_memory(tmp_path / name, source_lang="eng", target_lang="deu")

    assert [(pair.source, pair.target, pair.line) for pair in memory.pairs] == [
        ("\u201cDo\u201d try!", "Versuchen wir es!", 1),
        ("Let's try?", "Versuchen wir es?", 2),
        ("Let's try!", "Versuchen wir es!", 3),
    ]
    assert any(f"column {source} is taken for the sources" in note for note in memory.notes)
    assert any(f"column {target} for the targets" in note for note in memory.notes)


@pytest.mark.parametrize(
    "line",
    ["1276\teng\tLet's try!\n", "house\tHaus\n", "1\tfra\tAllons !\tspa\tVamos !\n", "a b c d\n"],
)
def test_a_table_without_names_that_holds_no_pairs_is_refused(tmp_path, line):
    """Sentences of one language, words that may be names, and pairs of other languages."""
    (tmp_path / "pairs.tsv").write_text(line * 3)
    with pytest.raises(DataError, match="cannot find column 'source'"):
        read_memory(tmp_path / "pairs.tsv", source_lang="eng", target_lang="deu")


def test_a_moses_pair_is_found_by_either_file(tmp_path):
    """As OPUS packs it, beside its license and the numbers of its sentences."""
    for name, text in (("de", "Ja.\n"), ("en", "Yes.\n"), ("ids", "1\t2\n"), ("xml", "<a/>\n")):
        (tmp_path / f"Tatoeba.de-en.{name}").write_text(text)
    for name in ("de", "en"):
        memory = read_memory(
            tmp_path / f"Tatoeba.de-en.{name}", source_lang="eng", target_lang="deu"
        )
        assert (memory.pairs[0].source, memory.pairs[0].target) == ("Yes.", "Ja.")
    (tmp_path / "Tatoeba.de-en.en").write_bytes("caf\xe9\n".encode("cp1252"))
    with pytest.raises(DataError, match="name its own with `encoding`"):
        read_memory(tmp_path / "Tatoeba.de-en.en", source_lang="eng", target_lang="deu")
    options = {"source_lang": "eng", "target_lang": "deu", "encoding": "cp1252"}
    assert read_memory(tmp_path / "Tatoeba.de-en.en", **options).pairs[0].source == "caf\xe9"


@pytest.mark.parametrize("header", ["id\teng\tdeu", "no\tEnglish\tGerman", "id\tsource\ttarget"])
def test_a_line_of_names_is_no_pair(tmp_path, header):
    rows = "".join(f"{number}\tIt is {number}.\tEs ist {number}.\n" for number in range(30))
    (tmp_path / "pairs.tsv").write_text(f"{header}\n{rows}")

    memory = read_memory(tmp_path / "pairs.tsv", source_lang="eng", target_lang="deu")

    assert len(memory.pairs) == 30
    assert (memory.pairs[0].source, memory.pairs[0].line) == ("It is 0.", 2)


def test_pairs_of_a_workbook_without_names_of_columns_are_read(tmp_path):
    book = openpyxl.Workbook()
    for row in ([1276, "Let us try!", "Versuchen wir es!"], [1277, "I must go.", "Ich muss weg."]):
        book.active.append(row)
    book.save(tmp_path / "pairs.xlsx")

    pairs = read_memory(tmp_path / "pairs.xlsx", source_lang="eng", target_lang="deu").pairs

    assert [(pair.source, pair.line) for pair in pairs] == [("Let us try!", 1), ("I must go.", 2)]


def test_what_a_person_did_not_accept_is_no_label(tmp_path):
    """Prodigy asks whether a text has one label: a text that was rejected has not."""
    rows = [
        {"text": text, "label": "LATE", "answer": "accept" if label == "bad" else "reject"}
        for text, label in zip(TEXTS, LABELS, strict=True)
    ]
    rows.append({"text": "What?", "label": "LATE", "answer": "ignore"})
    path = save(tmp_path, "binary.jsonl", lines(rows))

    table = read_table(path, max_rows=9, empty="skip")

    assert table.labels == ("not LATE", "LATE", "not LATE", "LATE")


def test_answers_that_were_discarded_are_none(tmp_path):
    rows = each(
        lambda t, y: {
            "fields": {"text": t},
            "responses": [
                {"values": {"label": {"value": y}}, "status": "submitted"},
                {"values": {"label": {"value": "other"}}, "status": "discarded"},
            ],
        }
    )

    table = read_table(save(tmp_path, "a.json", json.dumps(rows)), max_rows=9)

    assert table.labels == LABELS
    guesses = each(lambda t, y: {"fields": {"text": t}, "suggestions": {"label": y}})
    path = save(tmp_path, "guesses.json", json.dumps(guesses))
    with pytest.raises(DataError, match="cannot find column 'label'"):
        read_table(path, max_rows=9)
    assert read_table(path, max_rows=9, label_column="suggestions.label").labels == LABELS


def test_questions_and_fields_of_an_export_are_columns(tmp_path):
    """Of several questions or fields nobody but the user knows which is meant."""
    rows = each(
        lambda t, y: {
            "data": {"review": t, "shop": "north"},
            "annotations": [
                {
                    "result": [
                        {"from_name": "topic", "value": {"choices": ["lifts"]}},
                        {"from_name": "tone", "value": {"choices": [y]}},
                    ]
                }
            ],
        }
    )
    path = save(tmp_path, "a.json", json.dumps(rows))

    with pytest.raises(DataError, match="'review', 'shop', 'tone', 'topic'"):
        read_table(path, max_rows=9)
    table = read_table(path, text_column="review", label_column="tone", max_rows=9)

    assert (table.texts, table.labels) == (TEXTS, LABELS)


def test_a_shape_that_is_not_known_is_answered_with_a_row(tmp_path):
    path = save(tmp_path, "a.json", json.dumps({"rooms": [{"tag": "a", "words": ["b", "c"]}]}))

    with pytest.raises(DataError, match=r'write rows such as \{"text": "...", "label": "..."\}'):
        read_table(path, max_rows=9)


def test_columns_of_sentences_are_found_in_any_case(tmp_path):
    path = save(tmp_path, "a.csv", ";Source;Target\n0;Save it;Simpan\n1;Open it;Buka\n")

    memory = read_memory(path, source_lang="eng", target_lang="ind")

    assert [(pair.source, pair.target) for pair in memory.pairs] == [
        ("Save it", "Simpan"),
        ("Open it", "Buka"),
    ]
