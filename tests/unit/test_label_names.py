"""Labels by what they are called: hand-made directions, names that contradict, zero labels."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nlp_meta.cli import main
from nlp_meta.errors import LabelError, NlpMetaError
from nlp_meta.models.builders import build_classifier
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.label_names import (
    answer_by_names,
    believe_names,
    check_descriptions,
    gather_texts,
    name_head,
    write_label,
)
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.views import KNOWN_LABELS, Views

THINGS = ("room", "agent", "phone", "staff", "food", "house", "beach", "train")
TEXTS = [f"the {thing} was {word}" for thing in THINGS for word in ("awful", "great")]
LABELS = ["room", "agent", "phone"] * 5 + ["room"]


class Directions:
    """An objective whose features are chosen by hand: one axis for each label."""

    labels = ("delivery", "refund")

    def features(self, weights, texts):
        assert list(texts) == ["delivery", "refund: money back"]
        return torch.tensor([[2.0, 0.0], [0.0, 1.0]])


def test_a_text_is_nearest_to_its_label_and_what_all_share_does_not_count():
    """By hand: labels lie 1/sqrt(2) to either side of their mean; texts differ by 2 around (7, 7).

    The unit is sqrt(mean square of a text, 2) * sqrt(mean square of a label, 1/2), which is 1.
    """
    features = np.array([[8.0, 6.0], [6.0, 8.0]])

    weight, bias = name_head(Directions(), {}, features, {"refund": "money back"})

    logits = torch.from_numpy(features) @ weight.T + bias
    torch.testing.assert_close(logits, torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double())
    cold, _ = answer_by_names((weight, bias))
    assert (cold / weight).unique().numel() >= 1 and bool((cold[weight > 0] > 0).all())


def test_a_name_moves_to_the_texts_that_it_gathers():
    """Two bundles of 200 texts lie a fifth of half a turn on from where the names point.

    The text in between is nearer to the other bundle's name at first. Two texts move little.
    """
    generator = np.random.default_rng(0)
    turns = np.pi * np.repeat([-1 / 4 + 1 / 5, 3 / 4 + 1 / 5], 200) + generator.normal(0, 0.1, 400)
    texts = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    between = torch.tensor([np.cos(np.pi * 0.29), np.sin(np.pi * 0.29)])
    head = name_head(Directions(), {}, texts, {"refund": "money back"})

    weight, bias = gather_texts(head, texts)
    few, _ = gather_texts(head, texts[[0, 200]])

    told, moved = head[0] @ between, weight @ between
    assert told[0] < told[1] and moved[0] > moved[1]
    centers = torch.from_numpy(np.stack([texts[:200].mean(0), texts[200:].mean(0)]))
    assert (centers @ weight.T + bias).argmax(1).tolist() == [0, 1]
    assert float((few - head[0]).norm() / head[0].norm()) < 0.1
    torch.testing.assert_close(gather_texts(head, texts[::-1].copy())[0], weight)
    assert gather_texts(head, np.ones((3, 2))) is head


def test_one_text_alone_has_nothing_apart_from_what_it_shares():
    """By hand: (8, 6) is 10 long, a label 1/sqrt(2) from their mean; 1 / (10 / sqrt(2)) is left."""
    weight, bias = name_head(Directions(), {}, np.array([[8.0, 6.0]] * 2), {"refund": "money back"})

    logits = torch.tensor([8.0, 6.0]).double() @ weight.T + bias
    torch.testing.assert_close(logits, torch.tensor([1.0, -1.0]).double() / 50**0.5)


def test_names_that_true_labels_contradict_are_left_out():
    features = np.array([[1.0, -1.0], [-1.0, 1.0]])
    nothing = np.zeros((2, 2))
    head = torch.eye(2).double(), torch.zeros(2).double()
    views = Views(features, None, nothing, nothing)

    np.testing.assert_array_equal(believe_names(views, head, np.array([0, 1])).start, features)
    assert believe_names(views, head, np.array([1, 0])) is None


def test_labels_are_written_as_words():
    assert write_label("Refund_request") == "refund request"
    assert write_label("late-delivery", " it came too late ") == "late delivery: it came too late"
    assert write_label("_") == "_"


@pytest.fixture(scope="module")
def start(tiny_start):
    how = replace(tiny_start.adaptation["classification"], trust=KNOWN_LABELS)
    return replace(tiny_start, adaptation={**tiny_start.adaptation, "classification": how})


def test_a_new_label_set_answers_without_a_labeled_text(start, tmp_path):
    model = start.for_labels(["room", "agent", "phone"], TEXTS)
    model.save_pretrained(tmp_path / "model")

    again = AdaptedModel.from_pretrained(tmp_path / "model", device="cpu")
    assert again.labels == ("agent", "phone", "room")
    np.testing.assert_allclose(again.predict_proba(TEXTS), model.predict_proba(TEXTS), atol=1e-6)
    described = start.for_labels({"room": "a bed", "agent": "", "phone": ""}, TEXTS)
    assert not np.allclose(described.predict_proba(TEXTS), model.predict_proba(TEXTS))


@pytest.mark.parametrize(
    ("labels", "texts", "message"),
    [
        (["room"], TEXTS, "at least 2 different ones"),
        ("room", TEXTS, "put it in brackets"),
        ({"room": "a bed", "agent": 3}, TEXTS, "'agent' by 3: a text is needed"),
        (["room", "agent"], [], "beside 0 texts"),
    ],
)
def test_what_says_nothing_of_labels_is_refused(start, labels, texts, message):
    with pytest.raises(NlpMetaError, match=message):
        start.for_labels(labels, texts)


@pytest.fixture
def moved_features(start):
    """A start that makes a head from each support set, its low-rank terms away from zero."""
    settings = replace(start.encoder_settings, head="ridge")
    objective = build_classifier(settings, labels=(), device="cpu", precision="no")
    weights = objective.meta_parameters(torch.Generator().manual_seed(0))
    weights = {
        name: start.weights.get(f"classification.{name}", value + 0.3)
        for name, value in weights.items()
    }
    return MetaModel({"classification": objective}, weights, settings, start.adaptation)


def test_a_start_that_makes_heads_reads_names_by_its_own_features(start, moved_features):
    """With labels and without; the other start's features are the encoder's."""
    names = ["room", "agent", "phone"]
    plain, moved = (model.for_labels(names, TEXTS) for model in (start, moved_features))

    assert not np.allclose(moved.predict_proba(TEXTS), plain.predict_proba(TEXTS), atol=1e-3)
    texts = [f"{label} {label} {word}" for label in names for word in ("awful", "great", "old")]
    labels = [text.split()[0] for text in texts]
    described = moved_features.adapt(texts, labels, label_descriptions={"room": "small old room"})
    undescribed = moved_features.adapt(texts, labels)
    assert not np.allclose(
        described.predict_proba(texts), undescribed.predict_proba(texts), atol=1e-6
    )


def test_labels_that_the_start_knows_are_answered_as_it_learned(start):
    model = start.for_labels(["positive", "negative"], TEXTS)

    np.testing.assert_array_equal(
        model.predict_proba(TEXTS), start.without_labels().predict_proba(TEXTS)
    )
    for labels in (["positive"], ["positive", "great"]):
        with pytest.raises(LabelError, match="at least 2 of 'negative', 'positive' are needed"):
            model.among(labels)


def test_descriptions_count_where_names_agree_with_labels_and_nowhere_else(start):
    words = ("awful", "great", "big", "small", "old")
    texts = [f"{label} {label} {word}" for label in ("room", "agent", "phone") for word in words]
    right = [text.split()[0] for text in texts]
    wrong = [{"room": "agent", "agent": "phone", "phone": "room"}[label] for label in right]

    for labels, counts in ((right, True), (wrong, False)):
        plain = start.adapt(texts, labels)
        described = start.adapt(texts, labels, label_descriptions={"room": "small old room"})
        probabilities = (plain.predict_proba(texts), described.predict_proba(texts))
        assert np.allclose(*probabilities, atol=1e-6) != counts
    with pytest.raises(LabelError, match=r"'bed'.*`label_descriptions`"):
        start.adapt(TEXTS, LABELS, label_descriptions={"bed": "of a room"})
    with pytest.raises(LabelError, match="'x'"):
        check_descriptions(["a"], {"x": ""})


def test_the_commands_take_labels_and_their_descriptions(
    start, tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    start.save_pretrained("start")
    rows = "\n".join(map(",".join, zip(TEXTS, LABELS, strict=True)))
    Path("labels.csv").write_text(f"text,label\n{rows}\n", encoding="utf-8")
    Path("names.csv").write_text(
        "label,description\nroom,a bed\nagent,who sells\nphone,to call\n", "utf-8"
    )

    for labels in ("room, agent,phone", "names.csv"):
        words = ["--labels", labels, "--data", "labels.csv", "--output", "out.csv", "--replace"]
        assert main(["predict", "start", *words, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["labels"].keys() == {"agent", "phone", "room"}
    words = ["--labels", "names.csv", "--data", "labels.csv", "--output", "scores.json"]
    assert main(["evaluate", "start", *words]) == 0
    words = ["--label-descriptions", "names.csv", "--data", "labels.csv", "--output-dir", "mine"]
    assert main(["adapt", "start", *words]) == 0
    capsys.readouterr()
    words = ["--labels", "a,b", "--data", "labels.csv", "--output", "b.csv"]
    assert main(["predict", "mine", *words]) == 2
    assert "a start is needed" in capsys.readouterr().err
