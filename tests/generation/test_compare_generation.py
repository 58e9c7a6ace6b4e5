"""Comparing methods that write translations, on the built-in phrases, with a tiny Marian model."""

import json
import runpy
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
import yaml

from nlp_meta.comparing import prompted
from nlp_meta.comparing.bench import Bench
from nlp_meta.comparing.fingerprints import fingerprint
from nlp_meta.comparing.methods import methods_of
from nlp_meta.data.answers import Translation
from nlp_meta.errors import SettingsError
from nlp_meta.evaluation.metrics import bleu, chrf
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.builders import build_generator
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.prompting.prompts import Prompt, Written
from nlp_meta.report.page import to_markdown
from nlp_meta.settings import GenerationComparison, Seq2SeqSettings
from nlp_meta.training.config import read_settings

pytestmark = pytest.mark.slow

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
CONFIG = RECIPES / "configs/compare_generation.yaml"
COMPARE = runpy.run_path(str(RECIPES / "compare.py"), run_name="recipe")["main"]


def make_config(root: Path) -> dict[str, Any]:
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["data"] |= {"cards": ["nlp_meta_phrases"], "exclude": []}
    plan = {"labels": [0, 6], "draws": 2, "max_query": 4, "resamples": 50, "limits": {}}
    config["comparison"] |= plan
    config["comparison"] |= {"ours": "reptile"}
    config["comparison"]["methods"] = {
        "reptile": f"start {root / 'start'}",
        "multitask": f"joint {root / 'start'}",
        "lora": "lora",
        "zero_pairs": "zero_pairs",
        "copied_source": "copied_source",
        "prompting": "prompting",
    }
    config["model"] |= {"model_name_or_path": str(root / "marian"), "max_tokens": 32}
    config["model"] |= {"lora_r": 2, "lora_alpha": 4.0, "num_beams": 2}
    config["adaptation"] |= {"labels": 6, "draws": 1, "max_query": 3, "batch_size": None}
    config["adaptation"] |= {"steps": [1, 2], "learning_rates": [0.001]}
    config["run"] |= {"output_dir": str(root / "report")}
    return config


def read(root: Path, *words: str) -> GenerationComparison:
    return read_settings(GenerationComparison, ["--config", str(root / "config.yaml"), *words])


class Copier:
    """Stands for a language model: writes every source as it is."""

    name, context_tokens, answer_tokens = "copier", 400, 20

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def write(self, prompt: Prompt, queries: Sequence[str]) -> list[Written]:
        return [Written(query, True) for query in queries]


@pytest.fixture(scope="module")
def compared(save_tiny_marian: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a start that is trained on nothing, and compare from it."""
    root = tmp_path_factory.mktemp("compare")
    (root / "marian").mkdir()
    save_tiny_marian(root / "marian", tags=("deu", "fra", "spa"))
    config = make_config(root)
    (root / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    model = Seq2SeqSettings(**config["model"])
    objective = build_generator(model)
    weights = objective.meta_parameters(torch.Generator().manual_seed(0))
    told = {"settings": {"outer": {"algorithm": "reptile"}}, "examples": 100}
    inner = InnerLoop(2, 0.001, "adam")
    how = {"generation": Adaptation(inner, None, True)}
    start = MetaModel({"generation": objective}, weights, model, how, told)
    start.save_pretrained(root / "start")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompted, "load_model", lambda *_: (Copier(), None))
        patch.setattr(prompted, "find_weights", lambda *_: None)
        assert COMPARE(read(root)) == 0
    return root


def results_of(root: Path) -> dict[str, Any]:
    return json.loads((root / "report/results.json").read_text(encoding="utf-8"))


def test_every_method_is_judged_on_the_same_pairs(compared):
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
    assert {cell["rows"] for cell in results["cells"]} == {4}
    (task,) = results["tasks"]
    assert task["language"] == "eng-spa" and "candidates" not in task
    for cell in results["cells"]:
        assert 0 <= cell["chrf"] <= 100 and 0 <= cell["bleu"] <= 100


def test_what_learns_nothing_writes_as_the_model_does_without_pairs(compared):
    """Another route: LoRA that begins at nothing leaves the encoder-decoder as it is."""
    cells = {(c["method"], c["labels"], c["draw"]): c for c in results_of(compared)["cells"]}

    for draw in (0, 1):
        alone = cells["zero_pairs", 0, draw]["chrf"]
        assert cells["reptile", 0, draw]["chrf"] == alone
        assert cells["zero_pairs", 6, draw]["chrf"] == alone


def test_copied_sources_are_the_sources(compared):
    table = pyarrow.parquet.read_table(compared / "report/predictions.parquet").to_pylist()

    copied = [row for row in table if row["method"] == "copied_source"]

    assert len(copied) == 2 * 2 * 4
    assert all(row["predicted"] == row["text"] for row in copied)


def test_choices_are_made_on_meta_validation(compared):
    methods = results_of(compared)["methods"]

    for name in ("reptile", "multitask", "lora"):
        choice = methods[name]["choice"]
        assert choice["chosen"] == "on meta-validation" and choice["trials"] == 2
    assert methods["prompting"]["choice"]["template"] in ("translate", "translation")
    assert methods["reptile"]["title"] == "Reptile, then fine-tuning"


def test_the_report_names_the_model_and_how_many_pairs_it_was_shown(compared):
    """By hand: no pairs without pairs; all or none of 6, as was chosen."""
    results = results_of(compared)
    facts = results["methods"]["prompting"]
    most = 0 if facts["choice"]["demonstrations"] == 0 else 6

    assert facts["title"].startswith("prompting ")
    assert facts["prompts"]["demonstrations"] == {"0": [0, 0], "6": [most, most]}
    assert f"demonstrations 0 with 0 pairs and {most} with 6 pairs" in to_markdown(results)


def test_scores_are_those_of_the_answers_that_were_kept(compared):
    """Another route: the metrics on the rows of the table of answers."""
    table = pyarrow.parquet.read_table(compared / "report/predictions.parquet").to_pylist()

    for cell in results_of(compared)["cells"]:
        place = tuple(cell[name] for name in ("method", "labels", "draw"))
        rows = [r for r in table if (r["method"], r["labels"], r["draw"]) == place]
        written, true = [Translation(r["predicted"]) for r in rows], [r["true"] for r in rows]
        assert cell["chrf"] == pytest.approx(chrf(true, written, ("spa",)))
        assert cell["bleu"] == pytest.approx(bleu(true, written, ("spa",)))


def test_the_page_has_signatures_and_says_what_was_left_out(compared):
    results = results_of(compared)
    html = (compared / "report/report.html").read_text(encoding="utf-8")

    assert {row["metric"] for row in results["signatures"]} >= {"chrf", "bleu"}
    assert all(row["signature"] in html for row in results["signatures"])
    assert "Side by side" in html and "chrF++" in to_markdown(results)
    left_out = [note for note in results["notes"] if "spbleu" in note]
    assert bool(left_out) == (results["cells"][0]["spbleu"] is None)


def test_beams_are_those_of_the_comparison(compared):
    settings = read(compared, "--model.num_beams", "3")
    bench = Bench(settings, ())

    assert bench.start(str(compared / "start")).objectives["generation"].num_beams == 3
    assert bench.pretrained()[0].num_beams == 3
    first, again = bench.pretrained()[0], bench.start(str(compared / "start"))
    assert bench.objective(settings.model).backbone is first.backbone
    assert again.objectives["generation"].backbone.name == first.backbone.name


@pytest.mark.parametrize(
    ("section", "key", "value", "decides"),
    [
        ("prompting", "timeout", 1.0, False),
        ("prompting", "retries", 0, False),
        ("adaptation", "metric", "bleu", False),
        ("prompting", "endpoint", "http://127.0.0.1:9", True),
        ("translation_prompting", "max_new_tokens", 3, True),
        ("adaptation", "labels", 4, True),
    ],
)
def test_prompting_is_made_again_where_a_setting_decides_its_answers(
    compared, section, key, value, decides
):
    before = read(compared)
    after = replace(before, **{section: replace(getattr(before, section), **{key: value})})

    same = fingerprint(before, "prompting") == fingerprint(after, "prompting")
    assert same != decides


def test_a_metric_of_other_answers_is_refused(compared):
    for section in ("comparison", "adaptation"):
        with pytest.raises(SettingsError, match="one of chrf, bleu, spbleu is needed"):
            COMPARE(read(compared, f"--{section}.metric", "mrr"))


def test_the_config_is_complete():
    whole = read_settings(GenerationComparison, ["--config", str(CONFIG)])

    assert set(asdict(whole)) == {
        *("skills", "data", "comparison", "model", "adaptation"),
        *("prompting", "translation_prompting", "run"),
    }
    assert {text.split()[0] for text in whole.comparison.methods.values()} == set(
        methods_of("generation")
    )
    assert isinstance(whole.comparison.labels[0], int)
