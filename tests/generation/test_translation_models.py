"""What users hold: adapted to pairs, saved as an ordinary PEFT adapter, read without us."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM

from nlp_meta.data.answers import Translation
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.batches import Owners
from nlp_meta.encoders.lora import stacked
from nlp_meta.encoders.seq2seq import direct
from nlp_meta.errors import BackboneError, DataError, MetaModelError
from nlp_meta.evaluation.metrics import chrf
from nlp_meta.hub.records import find_model
from nlp_meta.meta.inner_loop import InnerLoop, repeat
from nlp_meta.models.adaptation import Adaptation, hold_out
from nlp_meta.models.builders import build_generator
from nlp_meta.models.generation import GenerationModel, episode_of
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.models.retrieval import fold_pairs
from nlp_meta.settings import Seq2SeqSettings

PAIRS = {
    "marian": ("ind", "jav"),
    "nllb": ("ind", "jav"),
    "m2m": ("ind", "jav"),
    "mbart": ("eng", "sin"),
    "mbart50": ("eng", "ind"),
    "t5": ("eng", "jav"),
}
NOUNS, VERBS = "house river market doctor".split(), "sleeps eats runs".split()
SOURCES = [f"the {noun} {verb}" for noun in NOUNS for verb in VERBS]
TARGETS = [f"{verb} {noun} two" for noun in NOUNS for verb in VERBS]
TEXTS = ["the river eats", "red", "the big house sleeps and eats"]
# Runs in the fresh process: the README's lines with `folder`, `base` and `texts` given.
SCRIPT = """
import json, sys
asked = json.load(sys.stdin)
found = {}
for name, (folder, base, code) in asked["folders"].items():
    values = {"folder": folder, "base": base, "texts": asked["texts"]}
    exec(code, values)
    found[name] = values["translations"]
assert "nlp_meta" not in sys.modules
print(json.dumps(found))
"""


def make_settings(folder, **options) -> Seq2SeqSettings:
    return Seq2SeqSettings(
        **{
            "model_name_or_path": str(folder),
            "revision": None,
            "max_tokens": 48,
            "lora_r": 4,
            "lora_alpha": 8.0,
            "lora_sides": "both",
            "lora_layers": None,
            "lora_target_modules": None,
            "label_smoothing": 0.1,
            "num_beams": 2,
            **options,
        }
    )


def make_start(folder, *, steps=4, **options) -> MetaModel:
    settings = make_settings(folder, **options)
    objective = build_generator(settings, precision="no")
    weights = objective.meta_parameters(torch.Generator().manual_seed(0))
    inner = InnerLoop(steps, 0.02, "adam")
    return MetaModel(
        {"generation": objective},
        weights,
        settings,
        {"generation": Adaptation(inner, None, True)},
        {"examples": 0},
    )


def adapt(folder, family="marian", *, steps=4, **options) -> GenerationModel:
    source, target = PAIRS[family]
    return make_start(folder, steps=steps).adapt_to_pairs(
        SOURCES, TARGETS, source_lang=source, target_lang=target, **options
    )


@pytest.fixture(scope="module")
def adapted(model_folders):
    return adapt(model_folders("marian"), steps=40)


def test_adaptation_lowers_the_held_out_loss_and_says_so(adapted):
    report = adapted.report

    assert report.pairs == 12
    assert report.held_out.pairs == 3
    assert report.held_out.loss < report.held_out.loss_before
    assert report.steps in (10, 20, 30, 40)
    assert 0 <= report.held_out.chrf <= 100
    assert not report.is_new


def test_held_out_pairs_share_no_sentence_with_the_others():
    pairs = [Example(s, t) for s, t in zip(SOURCES, TARGETS, strict=True)]
    pairs += [Example(SOURCES[0], "another one"), Example("something", TARGETS[1])]

    (fold,) = hold_out(episode_of(pairs, (), "ind-jav"), fold_pairs(pairs, folds=4, seed=0)[:1])
    rest, held = fold.support, fold.query

    assert len(rest) + len(held) == 14
    sides = [({p.source for p in some}, {p.target for p in some}) for some in (rest, held)]
    assert sides[0][0].isdisjoint(sides[1][0])
    assert sides[0][1].isdisjoint(sides[1][1])


def test_an_adaptation_that_only_harms_is_not_taken(adapted, model_folders):
    """A start that knows these pairs, at a rate that ruins it: no step is the best number."""
    start = replace(make_start(model_folders("marian")), weights=adapted.weights)

    found = start.adapt_to_pairs(
        SOURCES, TARGETS, source_lang="ind", target_lang="jav", learning_rate=30.0
    )

    assert found.report.steps == 0
    assert found.report.held_out.loss == found.report.held_out.loss_before
    for name, value in found.weights.items():
        torch.testing.assert_close(value, start.weights[name])


def test_steps_that_are_asked_for_are_taken(model_folders):
    report = adapt(model_folders("marian"), steps=8).report
    fixed = make_start(model_folders("marian")).adapt_to_pairs(
        SOURCES, TARGETS, source_lang="ind", target_lang="jav", steps=3, learning_rate=0.5
    )

    assert report.steps in (0, 2, 4, 6, 8)
    assert fixed.report.steps == 3


def test_progress_is_told_and_ends_at_its_total(model_folders):
    told = []
    adapt(model_folders("marian"), on_step=lambda done, total: told.append((done, total)))

    assert [done for done, _ in told] == list(range(1, len(told) + 1))
    assert len(told) <= told[-1][1] == 8


def test_a_loaded_model_translates_as_the_saved_one(adapted, tmp_path):
    adapted.save_pretrained(tmp_path / "model")
    loaded = GenerationModel.from_pretrained(tmp_path / "model")

    assert loaded.translate(TEXTS) == adapted.translate(TEXTS)
    assert loaded.report == adapted.report
    assert (loaded.source_lang, loaded.target_lang) == ("ind", "jav")
    np.testing.assert_allclose(loaded.embed(TEXTS), adapted.embed(TEXTS), rtol=1e-5)


def test_a_start_is_saved_with_its_defaults(model_folders, tmp_path):
    start = make_start(model_folders("marian"))
    start.save_pretrained(tmp_path / "start")

    loaded = MetaModel.from_pretrained(tmp_path / "start")

    assert loaded.adaptation == start.adaptation
    assert loaded.adaptation == start.adaptation
    options = {"source_lang": "ind", "target_lang": "jav"}
    assert loaded.translate(TEXTS, **options) == start.translate(TEXTS, **options)
    with pytest.raises(MetaModelError, match="adapt it first"):
        GenerationModel.from_pretrained(tmp_path / "start")


def test_plain_peft_has_the_same_logits(model_folders, family, tmp_path):
    """By the other route: transformers and PEFT load the folder, nothing of ours."""
    folder = model_folders(family)
    start = make_start(folder)
    moved = {name: torch.randn_like(value) * 0.2 for name, value in start.weights.items()}
    start = replace(start, weights=moved)
    start.save_pretrained(tmp_path / "start")

    plain = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32)
    plain = PeftModel.from_pretrained(plain, tmp_path / "start").eval()

    ids = torch.tensor([[5, 6, 7, 2]])
    weights = repeat(start.weights, tasks=1)
    objective = start.objectives["generation"]
    inputs = {"input_ids": ids, "decoder_input_ids": torch.tensor([[2, 8, 9]])}
    owners = Owners(torch.tensor([0]), (1,))
    with stacked(objective.backbone, objective.plan, weights, owners):
        ours = objective.backbone.model(**inputs).logits
    torch.testing.assert_close(ours, plain(**inputs).logits, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(ours, objective.backbone.model(**inputs).logits)


def test_readme_translates_without_this_package(model_folders, tmp_path):
    """Its code, word for word, in a fresh process; for every family."""
    asked, ours = {}, {}
    texts = TEXTS[:2]
    for family in PAIRS:
        model = adapt(model_folders(family), family, steps=2)
        folder = tmp_path / family
        model.save_pretrained(folder)
        readme = (folder / "README.md").read_text(encoding="utf-8")
        code = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[1]
        asked[family] = (str(folder), str(model_folders(family)), code)
        ours[family] = model
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],
        input=json.dumps({"folders": asked, "texts": texts}),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout)
    for family, model in ours.items():
        for theirs, mine in zip(found[family], model.translate(texts), strict=True):
            # The README bounds all translations alike, we each by its source.
            shorter = min(len(theirs.strip()), len(mine), 10)
            assert theirs.strip()[:shorter] == mine[:shorter], family


def test_a_language_that_the_model_does_not_know_is_undetermined(save_tiny_marian, tmp_path):
    save_tiny_marian(tmp_path, tags=("jav", "und"))

    found = make_start(tmp_path).adapt_to_pairs(
        SOURCES, TARGETS, source_lang="ind", target_lang="ban"
    )

    assert found.report.is_new
    assert direct(found.objective.backbone, "ind-ban").prefix_text == ">>und<< "


def test_long_sentences_are_cut_and_counted_or_stop(model_folders):
    start = make_start(model_folders("marian"))
    sources = [*SOURCES, "red " * 60]
    targets = [*TARGETS, "two " * 60]
    options = {"source_lang": "ind", "target_lang": "jav", "steps": 1}

    assert start.adapt_to_pairs(sources, targets, **options).report.texts_cut == 2
    with pytest.raises(DataError, match=r"2 of 26 texts, source 13 the first.*48 tokens"):
        start.adapt_to_pairs(sources, targets, **options, long_texts="stop")


@pytest.mark.parametrize(
    ("sources", "targets", "message"),
    [
        (SOURCES, TARGETS[:-1], "12 sentences with 11 translations"),
        (["a", " ", "b"], ["a", "b", "c"], "source 2 of 3"),
        (SOURCES[:3], TARGETS[:3], "3 sentence pairs, 3 of them distinct: at least 4"),
    ],
)
def test_pairs_that_cannot_be_adapted_to_stop(model_folders, sources, targets, message):
    with pytest.raises(DataError, match=message):
        make_start(model_folders("marian")).adapt_to_pairs(
            sources, targets, source_lang="ind", target_lang="jav"
        )


def test_an_unknown_language_stops_before_the_work(model_folders):
    with pytest.raises(BackboneError, match="such as jav"):
        make_start(model_folders("marian")).adapt_to_pairs(
            SOURCES, TARGETS, source_lang="ind", target_lang="jvn"
        )


def test_a_language_is_not_translated_into_itself(model_folders):
    start, languages = make_start(model_folders("marian")), {"source_lang": "jv"}

    with pytest.raises(DataError, match="both are the same language"):
        start.adapt_to_pairs(SOURCES, TARGETS, **languages, target_lang="jav")
    with pytest.raises(DataError, match="both are the same language"):
        start.translate(TEXTS, **languages, target_lang="jav")


def test_beams_and_empty_texts(adapted):
    assert adapted.translate([]) == []
    assert len(adapted.translate(TEXTS, num_beams=1)) == 3
    with pytest.raises(DataError, match="text 1 of 1"):
        adapted.translate([" "])


def test_adapted_model_beats_its_start_on_what_it_learned(adapted, model_folders):
    start = make_start(model_folders("marian"))
    before = start.translate(SOURCES, source_lang="ind", target_lang="jav")
    after = adapted.translate(SOURCES)

    scores = [chrf(TARGETS, [Translation(t) for t in some], ("jav",)) for some in (before, after)]
    assert scores[1] > scores[0]


def test_its_encoder_mines_pairs_and_says_from_which_margin_on(adapted, tmp_path):
    others = [f"{text} the" for text in SOURCES[::-1]]
    found = adapted.align(SOURCES, others, threshold=0.0)

    margins = [one.margin for one in found]
    assert found
    assert len({one.source for one in found}) == len({one.target for one in found}) == len(found)
    assert margins == sorted(margins, reverse=True)
    middle = margins[len(margins) // 2]
    least = adapted.align(SOURCES, others, threshold=middle)
    assert least == [one for one in found if one.margin >= middle]
    told = adapted.report.mined
    assert adapted.align(SOURCES, others) == [one for one in found if one.margin >= told.threshold]
    adapted.save_pretrained(tmp_path / "model")
    assert GenerationModel.from_pretrained(tmp_path / "model").threshold == told.threshold
    torch.testing.assert_close(adapted.embed(TEXTS).norm(dim=1), torch.ones(3))


def test_a_sentence_is_no_translation_of_its_own_copy(adapted):
    found = adapted.align(SOURCES, SOURCES[::-1], threshold=0.0)

    assert all(SOURCES[one.source] != SOURCES[::-1][one.target] for one in found)


def test_record_names_the_languages(adapted, tmp_path):
    adapted.save_pretrained(tmp_path / "model")
    _, record = find_model(str(tmp_path / "model"), role="adapted", skill="generation")

    assert record.adaptation["target_lang"] == "jav"
    assert record.labels == ()
