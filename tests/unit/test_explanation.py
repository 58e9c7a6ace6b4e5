"""Words that decided: they sum up to the score, n-grams exactly; neighbors; layers that moved."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nlp_meta.cli import main
from nlp_meta.comparing.explanation import Explanation, explain, measure_layers
from nlp_meta.errors import LabelError
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.views import KNOWN_LABELS

pytest.importorskip("captum")

THINGS = ("room", "agent", "phone", "staff", "food", "house", "beach", "train")
PAIRS = [
    (f"the {thing} was {word}", label)
    for thing in THINGS
    for word, label in (("awful", "negative"), ("great", "positive"))
]
TEXTS = ["the plot was GREAT, really  great", "Der Saal\u0308 war 汉语 awful"]


@pytest.fixture(scope="module", params=["views", "steps", "no n-grams"])
def model(request, tiny_start) -> AdaptedModel:
    trust = KNOWN_LABELS if request.param == "views" else None
    how = replace(tiny_start.adaptation["classification"], trust=trust)
    start = replace(tiny_start, adaptation={**tiny_start.adaptation, "classification": how})
    companion = "none" if request.param == "no n-grams" else "ngrams"
    texts, labels = zip(*PAIRS, strict=True)
    return start.adapt(texts, labels, companion=companion, seed=0)


def log_odds(explanation: Explanation) -> float:
    odds = explanation.answer.probabilities
    return math.log(odds[explanation.label] / odds[explanation.against])


def test_words_sum_up_to_the_log_odds_of_the_prediction(model):
    for explanation in explain(model, TEXTS):
        words = sum(word.weight for word in explanation.words)

        assert explanation.score == pytest.approx(log_odds(explanation), abs=1e-3)
        total = explanation.without_words + words + explanation.gap
        assert total == pytest.approx(explanation.score, abs=1e-6)
        assert abs(explanation.gap) <= 0.03 * max(abs(explanation.score), 1)
        for word in explanation.words:
            assert explanation.text[word.start : word.end] == word.text


def test_ngrams_of_words_are_what_the_ngrams_score_without_the_bias(model):
    """The other way: counts of the whole text times weights, as predictions are computed."""
    for explanation in explain(model, TEXTS, label="positive", against="negative"):
        parts = sum(word.ngrams for word in explanation.words)
        if model.companion is None:
            assert parts == 0 and explanation.ngrams == ()
            continue
        ngrams = model.companion.model
        place = {name: number for number, name in enumerate(ngrams.labels)}
        logs = ngrams.log_probabilities([explanation.text])[0] - ngrams.bias
        margin = model.companion.ngram_factor * (logs[place["positive"]] - logs[place["negative"]])
        assert parts == pytest.approx(margin, abs=1e-6)


def test_other_labels_turn_the_signs(model):
    (there,) = explain(model, TEXTS[:1], label="positive", against="negative")
    (back,) = explain(model, TEXTS[:1], label="negative", against="positive")

    assert back.score == pytest.approx(-there.score, abs=1e-4)
    for one, other in zip(there.words, back.words, strict=True):
        assert other.weight == pytest.approx(-one.weight, abs=1e-4)
    with pytest.raises(LabelError, match="two different ones of negative, positive"):
        explain(model, TEXTS, label="mixed")


def test_scripts_without_blanks_are_told_by_tokens_and_long_texts_are_cut(model):
    first, second = explain(model, [TEXTS[1], "great room " * 20])

    assert len([word for word in first.words if word.text in "汉语"]) == 2
    assert second.is_cut and not first.is_cut
    assert second.words[-1].encoder == 0


def test_the_same_text_is_its_own_nearest(model):
    (explanation,) = explain(model, [PAIRS[3][0]], support=PAIRS)

    nearest = explanation.neighbors[0]
    assert (nearest.place, nearest.text, nearest.label) == (3, *PAIRS[3])
    assert nearest.cosine == pytest.approx(1, abs=1e-5) and len(explanation.neighbors) == 3


def test_layers_that_did_not_move_moved_by_nothing(model, tiny_start):
    alone = measure_layers(model)
    moved = measure_layers(model, tiny_start)

    assert list(alone) == list(moved) == ["layer 2", "layer 3"]
    assert all(share > 0 for share in alone.values())
    if model.report.steps == 0:  # a head was made and nothing else
        np.testing.assert_allclose(list(moved.values()), 0, atol=1e-7)
    name = next(iter(model.objective.plan.scales))
    still = {**model.weights, **{n: v * 0 for n, v in model.weights.items() if ".lora_B" in n}}
    assert measure_layers(replace(model, weights=still))["layer 2"] == 0, name
    assert torch.is_grad_enabled()


def test_the_command_shows_words_and_writes_all(model, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model.save_pretrained("model")
    Path("labels.csv").write_text(
        "text,label\n" + "\n".join(",".join(pair) for pair in PAIRS) + "\n", encoding="utf-8"
    )

    assert main(["explain", "model", TEXTS[0], "--support", "labels.csv", "--json"]) == 0

    record = json.loads(capsys.readouterr().out)
    (one,) = record["explanations"]
    (again,) = explain(AdaptedModel.from_pretrained("model"), TEXTS[:1], support=PAIRS)
    assert one["words"][0]["text"] == again.words[0].text
    assert one["score"] == pytest.approx(asdict(again)["score"], abs=1e-4)
    assert record["layers"].keys() == {"layer 2", "layer 3"}
    mine = Path("mine.json")
    mine.write_text("mine", encoding="utf-8")
    words = ["explain", "model", "--data", "labels.csv", "--rows", "2", "--output", "mine.json"]
    assert main(words) == 2
    assert mine.read_text(encoding="utf-8") == "mine"
    capsys.readouterr()
    assert main([*words, "--replace"]) == 0
    assert len(json.loads(mine.read_text(encoding="utf-8"))["explanations"]) == 2
    shown = capsys.readouterr().out
    assert "great" in shown and "room" in shown
