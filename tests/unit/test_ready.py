"""A ready model: asked as it is, its labels matched with the task's, its texts read once."""

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from nlp_meta.comparing.bench import Bench
from nlp_meta.comparing.methods import build_ready, find_method
from nlp_meta.comparing.own_tables import PROMPTING, OwnComparison, build_settings, read_start
from nlp_meta.data.clock import Clock
from nlp_meta.data.episodes import Queries, SupportSet
from nlp_meta.errors import BackboneError, SettingsError
from nlp_meta.rivals.ready import load_ready, ready

TEXTS = ("great phone", "awful food and hated the room", "phone")


@pytest.fixture(scope="module")
def folder(tiny_encoder, tmp_path_factory):
    """A random classifier of three labels on the tiny encoder's tokenizer."""
    path = tmp_path_factory.mktemp("ready")
    config = BertConfig.from_pretrained(tiny_encoder)
    config.id2label = {0: "NEG", 1: "neutral", 2: "Positive"}
    config.label2id = {name: place for place, name in config.id2label.items()}
    torch.manual_seed(3)
    BertForSequenceClassification(config).save_pretrained(path)
    AutoTokenizer.from_pretrained(tiny_encoder).save_pretrained(path)
    return path


def support(*labels: str) -> SupportSet:
    return SupportSet("made/task", labels, (), 0, "classification", "eng")


def test_answers_are_the_models_own_among_the_labels_of_the_task(folder):
    """By an independent route: each text alone through the model, without the neutral output."""
    loaded = load_ready(str(folder), labels=("neg", "pos"), batch_tokens=16)

    answers = ready(loaded, clock=Clock())(support("neg", "pos"))(Queries(TEXTS))

    model = BertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text, answer in zip(TEXTS, answers, strict=True):
        with torch.inference_mode():
            logits = model(**tokenizer(text, return_tensors="pt")).logits[0, [0, 2]]
        expected = dict(zip(("neg", "pos"), logits.softmax(-1).tolist(), strict=True))
        assert answer.probabilities == pytest.approx(expected, abs=1e-5)


def test_a_text_is_read_once_and_charged_each_time(folder, monkeypatch):
    loaded, clock = load_ready(str(folder), labels=("neg", "pos"), batch_tokens=64), Clock()
    answer = ready(loaded, clock=clock)(support("neg", "pos"))
    first = answer(Queries(TEXTS))
    monkeypatch.setattr(type(loaded), "score", lambda *_: pytest.fail("read again"))

    before = clock.read()

    assert answer(Queries(TEXTS)) == first
    assert clock.read() - before > 0
    assert answer(Queries(())) == []


def test_labels_that_the_model_lacks_are_named_with_its_own(folder):
    with pytest.raises(BackboneError, match=r"labels bad, pos: its own are NEG, neutral, Positive"):
        load_ready(str(folder), labels=("bad", "pos"), batch_tokens=64)


def test_a_folder_without_a_classifier_is_refused(tiny_encoder):
    with pytest.raises(BackboneError, match="its files lack the weights"):
        load_ready(str(tiny_encoder), labels=("neg", "pos"), batch_tokens=64)


def test_a_table_is_compared_with_a_ready_model_by_its_name(folder):
    """The name that a folder gives is one of files; nothing is learned, so no label is needed."""
    name = f"ready:{folder}"
    wanted = OwnComparison(
        None, None, (name, "ngrams"), (8,), None, "accuracy", "stop", 0, PROMPTING
    )
    _, model, how = read_start(None, encoder="none")
    settings = build_settings(wanted, model, how, [8], folder="")
    methods = settings.comparison.methods

    assert list(methods.values()) == [f"ready {folder}", "ngrams"]
    assert not any(set(one) & set("/:") for one in methods)
    method = build_ready(Bench(settings, (), ("neg", "pos")), str(folder), {})
    assert (method.least_labels, method.facts["title"]) == (0, f"{folder.name} as it is")
    with pytest.raises(SettingsError, match="'ready' and the name of a model behind it"):
        find_method("ready", "classification")
