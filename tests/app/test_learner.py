"""What learns beside the page: its answers are those of the model, its figures are honest."""

import queue

import pytest

from nlp_meta.app.learner import END, EXPORT, EXPORTED, SAVE, WHY, Learner, follow
from nlp_meta.files.projects import LABELED, LEAST_RANDOM, MODEL, Project
from nlp_meta.hub import builtin_starts
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.meta_model import MetaModel

pytestmark = pytest.mark.slow

WORDS = {"good": "great awesome loved good", "bad": "bad awful hated never"}
TEXTS = [
    (f"the {word} {thing}", name)
    for thing in ("phone", "food", "room", "staff", "house", "agent")
    for name, words in WORDS.items()
    for word in words.split()
]


@pytest.fixture(params=[list(WORDS)])
def project(tmp_path, request):
    project = Project(tmp_path / "p", create=True)
    texts = [text for text, _ in TEXTS]
    cells = [{"text": text} for text in texts]
    given = {"text_column": "text", "columns": ["text"], "given": [None] * len(texts)}
    project.set_up(texts, cells, labels=request.param, **given)
    return project


def give(project, count):
    for _ in range(count):
        row, is_random = project.next_row()
        label = dict(zip(WORDS, project.labels, strict=True))[TEXTS[row.id - 1][1]]
        project.answer(row.id, row.version, state=LABELED, label=label, is_random=is_random)


def finish(learner):
    while learner.has_work:
        learner.work()


@pytest.mark.parametrize("project", [list(WORDS), ["shop", "office"]], indirect=True)
def test_answers_of_the_page_are_those_of_the_saved_model(project, tiny_start):
    """Of labels that the start knows, and of new ones, whose names are read."""
    learner = Learner(project, start=tiny_start)
    give(project, 20)
    finish(learner)
    learner.save()

    model = AdaptedModel.from_pretrained(project.folder / MODEL)
    shown = project.read_fact("answers")
    assert len(shown["answers"]) == len(TEXTS) and project.read_fact("problem") is None
    for row, answer in zip(project.list_rows(), model.predict([t for t, _ in TEXTS]), strict=True):
        expected = [answer.probabilities[label] for label in shown["labels"]]
        assert shown["answers"][str(row.id)] == pytest.approx(expected, abs=2e-4)


def test_accuracy_counts_random_texts_alone(project, tiny_start):
    """Labels that a person chose, by correcting answers, say nothing of the others."""
    learner = Learner(project, start=tiny_start)
    give(project, LEAST_RANDOM + 4)
    for row in [row for row in project.list_rows() if row.state != LABELED][:10]:
        project.answer(row.id, row.version, state=LABELED, label=TEXTS[row.id - 1][1])
    finish(learner)

    figures = project.read_fact("figures")
    assert (figures["labels"], figures["random"]) == (LEAST_RANDOM + 14, LEAST_RANDOM + 4)
    assert 0 <= figures["low"] <= figures["accuracy"] <= figures["high"] <= 1


def test_it_begins_at_two_labels_of_each_and_learns_on(project, tiny_start):
    learner = Learner(project, start=tiny_start)
    row = project.list_rows()[0]
    project.answer(row.id, 0, state=LABELED, label="good")
    finish(learner)
    assert project.read_fact("figures") is None

    give(project, 12)
    finish(learner)
    assert project.read_fact("figures")["labels"] == 13
    assert project.read_fact("suggested")
    give(project, 1)
    assert learner.has_work
    finish(learner)
    assert project.read_fact("figures")["labels"] == 14 and not learner.has_work


def test_a_wrong_label_is_worth_a_second_look(project, tiny_start):
    learner = Learner(project, start=tiny_start)
    give(project, 30)
    wrong = project.list_rows(LABELED)[4]
    other = {"good": "bad", "bad": "good"}[wrong.label]
    project.answer(wrong.id, wrong.version, state=LABELED, label=other)
    finish(learner)

    doubts = [doubt["row"] for doubt in project.read_fact("figures")["doubts"]]
    assert wrong.id in doubts


def test_words_that_decide_are_those_of_the_label(project, tiny_start):
    learner = Learner(project, start=tiny_start)
    give(project, 40)
    finish(learner)

    words = project.read_fact("figures")["words"]
    for label, those in WORDS.items():
        assert set(words[label][:2]) <= set(those.split())


@pytest.mark.parametrize("has_captum", [True, False])
def test_a_text_tells_the_words_of_its_label(project, tiny_start, monkeypatch, has_captum):
    if has_captum:
        pytest.importorskip("captum")
    else:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    learner = Learner(project, start=tiny_start)
    give(project, 40)
    finish(learner)
    row = next(row for row in project.list_rows() if row.state != LABELED)
    project.write_fact("asked", row.id)
    learner.obey(WHY)

    why = project.read_fact("why")
    answers = project.read_fact("answers")
    odds = answers["answers"][str(row.id)]
    assert why["label"] == answers["labels"][odds.index(max(odds))]
    assert "".join(text for text, _ in why["pieces"]) == row.text
    assert row.text.split()[1] in [text for text, side in why["pieces"] if side == "for"]
    assert why["by"] == ("the whole model" if has_captum else "groups of letters alone")


@pytest.mark.long
def test_the_model_is_exported_beside_the_project(project, tiny_start):
    pytest.importorskip("onnxscript")
    learner = Learner(project, start=tiny_start)
    give(project, 12)
    project.write_fact("saving", EXPORT)
    learner.obey(EXPORT)

    assert project.read_fact("problem") is None and project.read_fact("saving") is False
    assert (project.folder / EXPORTED / "run.py").is_file()
    assert project.read_fact("exported")["labels"] == 12


def test_a_new_label_is_learned_too(project, tiny_start):
    learner = Learner(project, start=tiny_start)
    give(project, 12)
    finish(learner)
    project.add_label("odd")
    for row in [row for row in project.list_rows() if row.state != LABELED][:2]:
        project.answer(row.id, row.version, state=LABELED, label="odd")
    finish(learner)

    assert set(project.read_fact("answers")["labels"]) == {"good", "bad", "odd"}


def test_orders_are_followed_to_the_end(project, tiny_start):
    orders = queue.Queue()
    give(project, 12)
    for order in ("work", SAVE, END):
        orders.put(order)
    follow(Learner(project, start=tiny_start), orders)

    assert project.read_fact("saved")["labels"] == 12


@pytest.mark.parametrize("project", [["positiv", "negativ"], ["Laden", "Amt"]], indirect=True)
def test_the_start_suits_the_labels_and_the_language(project, tiny_start, monkeypatch):
    """None is given; labels of sentiment have another than new ones."""
    named = []
    monkeypatch.setattr(MetaModel, "from_pretrained", lambda name: named.append(name) or tiny_start)
    monkeypatch.setattr(builtin_starts, "_LEAST_ENGLISH", 2)
    give(project, 4)

    assert Learner(project).start.labels == tiny_start.labels
    new = project.labels == ["Laden", "Amt"]
    assert named == ["builtin:labels-multi" if new else "builtin:sentiment-multi"]
    assert project.read_fact("start") == named[0]


def test_a_start_that_cannot_be_loaded_is_told(project):
    learner = Learner(project, start="builtin:none-such")
    give(project, 4)
    finish(learner)

    assert "there is no such start" in project.read_fact("problem")
    assert project.count_states()[LABELED] == 4
