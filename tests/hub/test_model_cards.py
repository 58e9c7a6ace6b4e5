"""Model cards: every number is one that was measured, and what was not is said."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from nlp_meta.errors import HubError
from nlp_meta.hub.bases import BaseFacts
from nlp_meta.hub.data_cards import is_non_commercial, strictest
from nlp_meta.hub.destinations import check_portable
from nlp_meta.hub.model_card import (
    CardFacts,
    build_card,
    check_card,
    eval_entries,
    is_own,
    read_results,
)
from nlp_meta.hub.push import stage

BASE = BaseFacts("base/tiny", "c" * 40, "apache-2.0")


def summary(method, labels, metric, mean):
    return {
        "method": method,
        "labels": labels,
        "metric": metric,
        "mean": mean,
        "low": mean - 0.05,
        "high": mean + 0.05,
    }


def by_task(method, labels, metric, task, mean):
    return {"method": method, "labels": labels, "metric": metric, "task": task, "mean": mean}


RESULTS = {
    "format": 1,
    "metric": "macro_f1",
    "labels": [0, 16],
    "draws": 3,
    "ours": "reptile",
    "hardware": "2 CPU cores",
    "made": "2026-01-15",
    "tasks": [{"name": "nusax/ban"}, {"name": "own/hotels"}],
    "methods": {
        "ngrams": {"title": "TF-IDF | n-grams"},
        "reptile": {"title": "Reptile", "examples_before": 48000},
    },
    "summary": [
        summary("reptile", 0, "macro_f1", 0.5),
        summary("reptile", 16, "macro_f1", 0.6),
        summary("reptile", 16, "ece", 0.1),
        summary("ngrams", 16, "macro_f1", 0.4),
    ],
    "by_task": [
        by_task("reptile", 16, "macro_f1", "nusax/ban", 0.61),
        by_task("reptile", 16, "accuracy", "nusax/ban", 0.63),
        by_task("reptile", 16, "macro_f1", "own/hotels", 0.59),
        by_task("reptile", 0, "macro_f1", "nusax/ban", 0.5),
        by_task("ngrams", 16, "macro_f1", "nusax/ban", 0.4),
    ],
    "leaks": {
        "threshold": 0.7,
        "checked": {
            "meta_train_rows": 16000,
            "judged_train_rows": 5195,
            "judged_test_rows": 3449,
        },
        "found": {"meta-train/query": 0, "meta-train/support": 6},
        "excluded": {"nusax/ban": {"train": 2, "test": 1}},
    },
    "notes": ["ngrams was judged on 2 of 3 draws."],
}


@pytest.fixture
def facts(saved) -> CardFacts:
    record = json.loads((saved["meta"] / "nlp_meta.json").read_text(encoding="utf-8"))
    return CardFacts(record, companion=False)


def sections(card: str) -> dict[str, str]:
    parts = re.split(r"^## (.*)$", card, flags=re.MULTILINE)
    return dict(zip(parts[1::2], (text.strip() for text in parts[2::2]), strict=True))


def front(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_what_was_not_measured_is_said_in_plain_sentences(facts):
    told = sections(build_card(facts))

    assert told["Scores, beside every rival"].endswith("not measured.")
    assert told["Calibration"] == "Its calibration was not measured."
    assert "not searched for: not measured" in told["Leaks"]
    assert "The time of meta-training was not measured." in told["What it cost"]
    assert "Carbon emissions were not measured." in told["What it cost"]
    assert "More Information Needed" not in build_card(facts)


def test_the_card_tells_tasks_hold_outs_selection_and_seed(facts):
    """NusaX has nine tasks: two trained on, one chosen by, six unseen."""
    told = sections(build_card(facts))

    trained = told["What it was trained on"]
    assert "Meta-trained on `nusax/ace`, `nusax/min`, `bangla_social/ben.social_media`." in trained
    (unseen,) = (
        row for row in trained.splitlines() if "| unseen |" in row and row.startswith("| NusaX")
    )
    assert unseen.split(" | ")[3] == "ban, bjn, eng, ind, jav, nij"
    assert told["How it was selected"] == (
        "Selection metric: accuracy on the meta-validation tasks. Best score 0.750 after outer "
        "step 20 of 40. Seed 3, one run."
    )


def test_the_strictest_license_is_named_and_what_it_forbids(facts):
    """By hand: BLP-2023 is CC BY-NC-SA 4.0, NusaX CC BY-SA 4.0, the base Apache 2.0."""
    card = build_card(replace(facts, base=BASE))
    told = sections(card)

    assert front(card)["license"] == "cc-by-nc-sa-4.0"
    assert "The strictest license stated among them is cc-by-nc-sa-4.0." in told["Licenses"]
    assert "It forbids commercial use" in told["Licenses"]
    assert "- Commercial use" in told["What it must not be used for"]
    assert "- base model `base/tiny`: apache-2.0" in told["Licenses"]


@pytest.mark.parametrize(
    ("licenses", "expected"),
    [
        (["mit", "cc-by-4.0"], "cc-by-4.0"),
        (["cc-by-nc-4.0", "cc-by-sa-4.0"], "cc-by-nc-4.0"),
        (["cc-by-nc-4.0", "CC-BY-NC-ND-4.0", "cc-by-nc-sa-4.0"], "cc-by-nc-nd-4.0"),
        (["apache-2.0", "openrail"], "openrail"),
        (["unknown", "cc0-1.0"], "cc0-1.0"),
        (["unknown", "other"], None),
    ],
)
def test_the_strictest_of_several_licenses(licenses, expected):
    assert strictest(licenses) == expected


def test_a_license_that_is_not_stated_is_not_called_free(facts):
    first, second, *_ = facts.data
    data = [{**first, "license": "unknown"}, {**second, "license": "mit"}]
    record = {**facts.record, "provenance": {**facts.provenance, "data": data}}
    card = build_card(replace(facts, record=record))

    assert front(card)["license"] == "unknown"
    assert "nothing is granted for them" in sections(card)["Licenses"]
    assert is_non_commercial("cc-by-nc-3.0") and not is_non_commercial("cc-by-3.0")


def test_every_rival_stands_beside_this_model_with_intervals(facts):
    told = sections(build_card(replace(facts, results=RESULTS)))

    rows = told["Scores, beside every rival"].splitlines()
    assert "| **Reptile** (this model) | 0.500 [0.450, 0.550] | 0.600 [0.550, 0.650] |" in rows
    assert "| TF-IDF \\| n-grams | - | 0.400 [0.350, 0.450] |" in rows
    assert "3 support draws of nusax/ban, own/hotels" in rows[0]
    assert rows[-1] == "ngrams was judged on 2 of 3 draws."
    assert told["Calibration"] == ("Expected calibration error: 0.100 [0.050, 0.150] at 16 labels.")
    assert "meta-train/support 6" in told["Leaks"] and "left out for it: 3." in told["Leaks"]


def test_the_hub_reads_the_scores_of_the_front_matter(facts):
    """Read by the Hub's own class: the most labels only, F1 by its name on the Hub."""
    card = build_card(replace(facts, results=RESULTS, base=BASE, repo_id="me/reptile"))

    data = ModelCard(card).data
    found = {(one.dataset_type, one.metric_type): one for one in data.eval_results}
    assert {key: one.metric_value for key, one in found.items()} == {
        ("mteb/NusaX-senti", "f1"): 0.61,
        ("mteb/NusaX-senti", "accuracy"): 0.63,
        ("own", "f1"): 0.59,
    }
    assert found["mteb/NusaX-senti", "f1"].dataset_config == "ban"
    assert data.model_name == "reptile"
    assert (data.library_name, data.base_model) == ("peft", "base/tiny")
    assert data.pipeline_tag == "text-classification"
    assert data.metrics == ["f1", "accuracy"]
    assert data.datasets == ["mteb/NusaX-senti"]
    assert data.language == ["ace", "min", "sun", "ben"]


def test_eval_results_name_corpora_of_the_hub_at_their_commit(facts, saved, tmp_path):
    staged = stage(saved["meta"], tmp_path, repo_id="me/x", base=BASE, results=RESULTS)

    assert [name for name in staged.files if name.startswith(".")] == [".eval_results/nusax.yaml"]
    text = (tmp_path / ".eval_results/nusax.yaml").read_text(encoding="utf-8")
    (entry,) = parse_eval_result_entries(yaml.safe_load(text))
    assert [entry] == eval_entries(RESULTS, facts.data)["nusax"]
    assert (entry.dataset_id, entry.task_id, entry.value) == ("mteb/NusaX-senti", "ban", 0.61)
    assert entry.dataset_revision == "7b2ff4facde8a6473f667a38edef1d03ce9ca0dc"
    assert entry.notes == "macro_f1 of nusax/ban at 16 labels, mean of 3 support draws"
    assert str(entry.date) == "2026-01-15"


def test_scores_of_translations_are_told_by_their_pairs(facts):
    rows = [{**row, "metric": "mrr"} for row in RESULTS["by_task"] if row["metric"] == "macro_f1"]
    pairs = {**RESULTS, "metric": "mrr", "by_task": rows}

    scores = sections(build_card(replace(facts, results=pairs)))["Scores, beside every rival"]

    assert "| method | 0 pairs | 16 pairs |" in scores
    assert "labels" not in scores
    assert "at 16 pairs" in eval_entries(pairs, facts.data)["nusax"][0].notes


def write_results(path, **methods):
    """Results of two starts, reptile called ours, with more facts of each."""
    found = {
        name: {"title": name, "start": f"{name}_run", "examples_before": 48000, **facts}
        for name, facts in methods.items()
    }
    path.write_text(json.dumps({**RESULTS, "methods": found}), encoding="utf-8")
    return path


def test_a_model_is_found_among_starts_of_equal_compute_by_its_weights(tmp_path):
    hashes = {"reptile": {"start_sha256": "a"}, "fomaml": {"start_sha256": "b"}}
    path = write_results(tmp_path / "results.json", **hashes)

    assert read_results(path, adapter_sha256="a")["ours"] == "reptile"
    assert read_results(path, adapter_sha256="b")["ours"] == "fomaml"
    for sha in ("c", None):
        with pytest.raises(HubError, match="of the starts reptile_run, fomaml_run and not"):
            read_results(path, adapter_sha256=sha)


def test_a_push_takes_the_scores_of_its_model_along(hub, client, saved, tmp_path):
    sha = hashlib.sha256((saved["meta"] / "adapter_model.safetensors").read_bytes()).hexdigest()
    path = write_results(tmp_path / "results.json", ngrams={}, reptile={"start_sha256": sha})
    words = ["--repo-id", "me/x", "--hub-base-model", "base/tiny", "--results", path, "--json"]

    done = client.run("push", saved["meta"], *words).record["pushed"]
    adapted = client.run("push", saved["adapted"], *words, "--exist-ok")

    assert ".eval_results/nusax.yaml" in done["files"]
    card = hub.files("models/me/x", done["commit"])["README.md"].decode()
    assert "| **reptile** (this model) | 0.500 [0.450, 0.550] | 0.600 [0.550, 0.650] |" in card
    # Its start was never read from that folder, so nothing tells that it is the same.
    assert "and not of this one" in adapted.refusal


@pytest.mark.parametrize(
    "wrong", ["[]", "{", '{"methods": {}}', json.dumps({**RESULTS, "format": 2})]
)
def test_other_files_than_results_are_refused(tmp_path, wrong):
    path = tmp_path / "results.json"
    path.write_text(wrong, encoding="utf-8")

    with pytest.raises(HubError, match=r"not the results\.json of a comparison"):
        read_results(path, adapter_sha256="a")


def test_carbon_is_told_where_codecarbon_measured_it(saved, copies, tmp_path):
    """By hand: 0.010 kg and 0.0025 kg are 12.5 g."""
    folder, to = copies("meta"), tmp_path / "to"
    to.mkdir()
    (folder / "emissions.csv").write_text("emissions\n0.010\n0.0025\n", encoding="utf-8")
    stage(folder, to, repo_id="me/x", base=BASE, results=None)

    card = (to / "README.md").read_text(encoding="utf-8")
    assert "Carbon emissions, by CodeCarbon: 12.5 g CO2eq." in card
    assert front(card)["co2_eq_emissions"] == {"emissions": 12.5, "source": "codecarbon"}


def test_an_adapted_model_tells_what_it_was_adapted_to(saved):
    """By hand: eight texts were given."""
    card = (saved["adapted"] / "README.md").read_text(encoding="utf-8")
    told = sections(card)

    assert "to 8 labeled texts" in told["Adaptation"]
    assert re.search(r"Temperature \d\.\d{3}", told["Calibration"])
    assert "on held-out folds of the 8 texts" in told["How it was selected"]


def test_the_code_of_a_card_is_six_lines_with_and_without_this_package(facts):
    card = build_card(replace(facts, repo_id="me/x"))

    blocks = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    lines = [[line for line in block.splitlines() if line.strip()] for block in blocks]
    assert [len(block) for block in lines] == [3, 6]
    assert all('.from_pretrained("me/x"' in "".join(block) for block in lines)


def test_a_card_knows_whether_it_was_edited(facts, tmp_path):
    card = build_card(facts)
    edited = card.replace("Seed 3", "Seed 4")

    assert is_own(card)
    assert edited != card and not is_own(edited)
    (tmp_path / "README.md").write_text(edited, encoding="utf-8")
    assert check_card(tmp_path / "README.md")["library_name"] == "peft"


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("adapter_config.json", '{"base": "/home/ann/model"}', "/home/ann/model"),
        ("nlp_meta.json", '{"a": [{"b": "C:\\\\models\\\\x"}]}', "C:\\models\\x"),
        ("nlp_meta.json", '{"a": "~/models/x"}', "~/models/x"),
        ("README.md", "see PLACE/x", "PLACE"),
        ("tokenizer.json", '{"vocab": ["PLACE"]}', "PLACE"),
    ],
)
def test_a_place_of_this_machine_is_found(tmp_path, name, text, found):
    place = tmp_path / "run"
    place.mkdir()
    (place / name).write_text(text.replace("PLACE", str(place)), encoding="utf-8")

    with pytest.raises(HubError, match="a place on this machine") as caught:
        check_portable({name: place / name}, place)
    assert found.replace("PLACE", str(place)) in str(caught.value)


def test_words_that_look_like_places_are_let_through(tmp_path):
    values = {"url": "https://example.org/a/b", "a": "and/or", "b": "/", "c": "1/2"}
    files = {name: tmp_path / name for name in ("adapter_config.json", "tokenizer.json")}
    files["adapter_config.json"].write_text(json.dumps(values), encoding="utf-8")
    files["tokenizer.json"].write_text('{"vocab": ["/usr/bin/x"]}', encoding="utf-8")

    assert check_portable(files, Path("/nowhere/else")) is None
    values["d"] = "/nowhere/else/model"
    files["adapter_config.json"].write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(HubError, match="'/nowhere/else', a place on this machine"):
        check_portable(files, Path("/nowhere/else"))
