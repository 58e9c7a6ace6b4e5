"""Comparing methods that find translations, on the built-in phrases, from a start of one's own."""

import json
import runpy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
import yaml

from nlp_meta.comparing.bench import (
    CONTESTS,
    FORMS,
    Bench,
    draw_episodes,
    fitting_tasks,
    gather_texts,
    load_fill,
    open_bench,
)
from nlp_meta.comparing.fingerprints import fingerprint
from nlp_meta.comparing.methods import methods_of
from nlp_meta.data.duplicates import text_key
from nlp_meta.data.tasks import Example, Task, load_tasks
from nlp_meta.errors import MissingPackageError, SettingsError
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.builders import build_retriever
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.report.page import to_markdown
from nlp_meta.settings import GenerationComparison, ModelSettings, RetrievalComparison
from nlp_meta.training.config import choose_form, read_settings

pytestmark = pytest.mark.slow

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
CONFIG = RECIPES / "configs/compare_retrieval.yaml"
COMPARE = runpy.run_path(str(RECIPES / "compare.py"), run_name="recipe")["main"]


def make_config(encoder: Path, root: Path) -> dict[str, Any]:
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["data"] |= {"cards": ["nlp_meta_phrases"]}
    config["comparison"] |= {"labels": [0, 6], "draws": 2, "max_query": 8, "resamples": 50}
    config["comparison"] |= {"ours": "reptile"}
    config["comparison"]["methods"] = {
        "reptile": f"start {root / 'start'}",
        "multitask": f"joint {root / 'start'}",
        "hybrid": f"hybrid {root / 'start'}",
        "adapt": f"adapt {root / 'start'}",
        "lora": "lora",
        "frozen": "frozen_retrieval",
        "overlap": "ngram_overlap",
    }
    config["retrieval"] |= {"candidates": 20, "fill_cards": [], "ngrams": [2, 3]}
    config["model"] |= {"model_name_or_path": str(encoder), "max_tokens": 24}
    config["model"] |= {"lora_r": 2, "lora_alpha": 4.0, "lora_layers": 2}
    config["adaptation"] |= {"labels": 6, "draws": 1, "max_query": 6, "batch_size": None}
    config["adaptation"] |= {"steps": [1, 2], "learning_rates": [0.001]}
    config["run"] |= {"output_dir": str(root / "report")}
    return config


def read(root: Path, *words: str) -> RetrievalComparison:
    return read_settings(RetrievalComparison, ["--config", str(root / "config.yaml"), *words])


@pytest.fixture(scope="module")
def compared(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a start that is trained on nothing, and compare from it."""
    root = tmp_path_factory.mktemp("compare")
    config = make_config(tiny_encoder, root)
    (root / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    model = ModelSettings(**config["model"])
    objective = build_retriever(model)
    weights = objective.meta_parameters(torch.Generator().manual_seed(0))
    told = {"settings": {"outer": {"algorithm": "reptile"}}, "examples": 100}
    inner = InnerLoop(2, 0.001, "adam")
    MetaModel(
        {"retrieval": objective}, weights, model, {"retrieval": Adaptation(inner, None, True)}, told
    ).save_pretrained(root / "start")
    assert COMPARE(read(root)) == 0
    return root


def results_of(root: Path) -> dict[str, Any]:
    return json.loads((root / "report/results.json").read_text(encoding="utf-8"))


def test_every_method_is_judged_on_the_same_pairs_and_pools(compared):
    """By hand: 2 draws of one task, at 0 and 6 pairs; plain LoRA cannot answer without any."""
    results = results_of(compared)
    counts = {
        name: sorted(
            (cell["labels"], cell["draw"]) for cell in results["cells"] if cell["method"] == name
        )
        for name in results["methods"]
    }

    both = [(0, 0), (0, 1), (6, 0), (6, 1)]
    assert counts == {name: both[2:] if name == "lora" else both for name in counts}
    assert {cell["rows"] for cell in results["cells"]} == {8}
    (task,) = results["tasks"]
    assert (task["language"], task["candidates"]) == ("eng-spa", 20)
    assert results["leaks"]["checked"]["meta_train_tasks"] == 2
    for cell in results["cells"]:
        assert 0 <= cell["precision_at_1"] <= cell["mrr"] <= 1 and 0 <= cell["xsim"] <= 1


def test_what_learns_nothing_scores_as_the_frozen_encoder_does_without_pairs(compared):
    """Another route: LoRA that begins at nothing leaves the encoder as it is."""
    cells = {(c["method"], c["labels"], c["draw"]): c for c in results_of(compared)["cells"]}

    for draw in (0, 1):
        frozen = cells["frozen", 0, draw]
        assert cells["reptile", 0, draw]["mrr"] == frozen["mrr"]
        assert cells["frozen", 6, draw]["mrr"] == frozen["mrr"]
        assert cells["frozen", 6, draw]["examples_adapt"] == 0


def test_what_adapts_as_users_do_is_named_by_its_ngrams_and_needs_none_without_pairs(compared):
    results = results_of(compared)
    cells = {(c["method"], c["labels"], c["draw"]): c for c in results["cells"]}

    for name, how in (("hybrid", "with"), ("adapt", "without")):
        method = results["methods"][name]
        assert method["title"] == f"Reptile, `nlp-meta adapt` {how} n-grams"
        assert method["choice"] == {"chosen": "by held-out pairs of each support set"}
    for draw in (0, 1):
        assert cells["hybrid", 0, draw]["mrr"] == cells["adapt", 0, draw]["mrr"]


def test_choices_are_made_on_meta_validation_by_the_metric_of_the_settings(compared):
    methods = results_of(compared)["methods"]

    for name in ("reptile", "multitask", "lora"):
        choice = methods[name]["choice"]
        assert choice["chosen"] == "on meta-validation" and choice["trials"] == 2
        assert choice["steps"] in (1, 2) and 0 <= choice["validation_score"] <= 1
    assert methods["reptile"]["title"] == "Reptile, then fine-tuning"
    assert methods["reptile"]["examples_before"] == 100


def test_every_answer_is_kept_and_the_page_shows_what_was_found_instead(compared):
    table = pyarrow.parquet.read_table(compared / "report/predictions.parquet").to_pylist()
    html = (compared / "report/report.html").read_text(encoding="utf-8")
    results = results_of(compared)

    assert len(table) == sum(cell["rows"] for cell in results["cells"])
    for row in table:
        assert (text_key(row["predicted"]) == text_key(row["true"])) == (row["rank"] == 1)
    assert "Side by side" in html and "precision@1" in html
    assert "precision@1" in to_markdown(results) and "xsim error" in to_markdown(results)


def test_a_finished_comparison_makes_no_cell_again(compared):
    files = sorted((compared / "report/cells").glob("*.jsonl"))
    before = [path.read_bytes() for path in files]

    assert COMPARE(read(compared)) == 0

    assert [path.read_bytes() for path in files] == before


def test_another_pool_is_another_comparison(compared):
    settings = read(compared)
    other = replace(settings, retrieval=replace(settings.retrieval, candidates=25))

    for name in settings.comparison.methods:
        assert fingerprint(settings, name) != fingerprint(other, name)
    with pytest.raises(SettingsError, match="other settings"):
        COMPARE(other)


def test_pools_are_filled_up_from_other_sentences_of_the_language(compared, monkeypatch):
    """By hand: 44 pairs, 6 in reserve: 38 others, 3 of the 4 distractors are new, 1 text fills."""
    tasks = load_tasks(["nlp_meta_phrases"], meta_split="meta-test")
    new = tuple(Example(f"word {row}", f"palabra {row}") for row in range(3))
    again = Example("again", tasks[0].train[0].target.upper())
    other = Task("x/fra-spa", "translation", "fra-spa", "", "meta-train", (), (*new, again), ())
    texts = gather_texts([other])
    assert texts == {
        "fra": ["word 0", "word 1", "word 2", "again"],
        "spa": [*(one.target for one in new), again.target],
    }

    monkeypatch.setattr("nlp_meta.comparing.bench.load_fill", lambda _: ["sesuk esuk"])
    settings = read(compared, "--retrieval.candidates", "1000")
    episodes = draw_episodes(Bench(settings, (), others=(other,)), tasks)

    keys = {text_key(one.target) for one in tasks[0].train}
    for one in episodes:
        pool = {text_key(text) for text in one.candidates}
        assert {text_key(row.target) for row in one.query} <= pool
        assert pool - keys == {*(text_key(row.target) for row in new), text_key("sesuk esuk")}
        assert len(pool) == 38 + 3 + 1
        assert pool.isdisjoint(text_key(row.target) for row in one.support)
    assert episodes[0].candidates == episodes[1].candidates != episodes[2].candidates


def test_cards_that_fill_pools_up_give_their_targets(compared):
    """The built-in corpus fills its own pools here: 3 tasks of 44 targets, shuffled."""
    settings = read(compared, "--retrieval.fill_cards", "[nlp_meta_phrases]")
    tasks = load_tasks(["nlp_meta_phrases"], meta_split="meta-test")

    bench = open_bench(settings, train=(), validation=tasks, test=tasks)

    (episode, *_) = draw_episodes(bench, tasks)
    assert len(episode.candidates) == 20
    assert len(load_fill(settings)) == 132
    assert "then targets of nlp_meta_phrases" in CONTESTS["retrieval"].notes(settings)[0]


@pytest.mark.parametrize("section", ["comparison", "adaptation"])
@pytest.mark.parametrize("metric", ["chrf", "xsim", "accuracy"])
def test_a_metric_of_other_answers_is_refused_before_anything_is_judged(compared, section, metric):
    needed = rf"one of precision_at_1, mrr is needed; change `{section}\.metric`"
    with pytest.raises(SettingsError, match=needed):
        COMPARE(read(compared, f"--{section}.metric", metric))


def test_tasks_of_other_rows_are_left_out(compared):
    """A mixed run's cards bring reviews along, which no method here could answer."""
    settings = read(compared)
    reviews = load_tasks(["nlp_meta_reviews"], meta_split="meta-test")
    phrases = load_tasks(["nlp_meta_phrases"], meta_split="meta-test")

    assert fitting_tasks(settings, (*reviews, *phrases)) == phrases
    with pytest.raises(SettingsError, match=r"methods of retrieval on 1 tasks.*`data\.cards`"):
        fitting_tasks(settings, reviews)


def test_the_config_says_what_methods_compete_in(tmp_path):
    labels, other = RECIPES / "configs/compare_reviews.yaml", tmp_path / "other.yaml"
    other.write_text("data: {}\n", encoding="utf-8")

    def find(path: Path) -> str:
        return choose_form(FORMS, ["--config", str(path)]).__name__

    assert (find(labels), find(CONFIG)) == ("Comparison", "RetrievalComparison")
    with pytest.raises(
        SettingsError, match=r"`skills` with one of classification, retrieval, generation"
    ):
        find(other)
    with pytest.raises(SettingsError, match="cannot tell what to run"):
        choose_form(FORMS, [])


def test_the_config_is_complete(compared):
    whole = read_settings(RetrievalComparison, ["--config", str(CONFIG)])

    assert whole.retrieval.candidates == 1000
    assert set(asdict(whole)) == {
        *("skills", "data", "comparison", "retrieval", "model", "adaptation", "run")
    }
    assert {text.split()[0] for text in whole.comparison.methods.values()} == set(
        methods_of("retrieval")
    )


def test_a_metric_that_cannot_be_computed_here_stops_before_anything_is_judged(monkeypatch):
    from nlp_meta.comparing.run import check_metric
    from nlp_meta.evaluation import answers as kinds

    monkeypatch.setattr(kinds.metrics, "spbleu_missing", lambda: "no vocabulary")
    config = RECIPES / "configs/compare_generation.yaml"
    settings = read_settings(GenerationComparison, ["--config", str(config)])
    plan = replace(settings.comparison, metric="spbleu")

    with pytest.raises(MissingPackageError, match="no vocabulary, or change"):
        check_metric(replace(settings, comparison=plan))
