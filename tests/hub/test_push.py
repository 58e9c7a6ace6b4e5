"""Pushing to a Hub on the loopback address with the real client, and pulling it back."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from nlp_meta.models.classification import AdaptedModel

pytestmark = pytest.mark.slow

NAME = "me/real-estate"
PLACE = f"models/{NAME}"
BASE = ["--hub-base-model", "base/tiny"]
QUESTIONS = ["good", "a bad plot and an awful brake", "42!"]


def push(client, folder, *words, **options):
    given = BASE if "--hub-base-model" not in words else []
    return client.run("push", folder, "--repo-id", NAME, *given, "--json", *words, **options)


def is_unchanged(hub, before):
    return {name: dict(repo.branches) for name, repo in hub.repositories.items()} == before


def state(hub):
    return {name: dict(repo.branches) for name, repo in hub.repositories.items()}


PLAIN = """
import json, sys
texts = json.load(sys.stdin)
{code}
assert "nlp_meta" not in sys.modules
print(json.dumps([model(**inputs).logits.tolist(), probabilities.tolist()]))
"""


def test_what_is_pushed_is_pulled_by_plain_peft_with_the_same_answers(
    hub, client, copies, tmp_path
):
    """The card's own lines run in a fresh process, after everything local is deleted."""
    folder = copies("adapted")
    ours = AdaptedModel.from_pretrained(folder, device="cpu")
    expected = ours.predict(QUESTIONS)
    done = push(client, folder, "--private").record["pushed"]
    client.forget()

    card = hub.files(PLACE)["README.md"].decode()
    blocks = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    (code,) = (block for block in blocks if "from peft import" in block)
    run = subprocess.run(
        [sys.executable, "-c", PLAIN.format(code=code)],
        input=json.dumps(QUESTIONS),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**client.environment, "HF_TOKEN": "hf_write", "PYTHONPATH": ""},
    )
    assert run.returncode == 0, run.stderr
    probabilities = json.loads(run.stdout)[1]

    pulled = client.code(
        "from nlp_meta import AdaptedModel\n"
        f"model = AdaptedModel.from_pretrained('{NAME}', device='cpu')\n"
        f"answers = model.predict({QUESTIONS})\n"
        "found = [[list(a.probabilities.values()) for a in answers], model.source.commit,\n"
        "         model.settings.revision, model.report.examples, model.companion is not None]"
    )

    assert pulled.value != "raised", pulled.err
    answers, commit, base_commit, examples, has_companion = pulled.value
    assert hub.repositories[PLACE].private
    assert commit == done["commit"] == hub.repositories[PLACE].branches["main"]
    assert base_commit == hub.repositories["models/base/tiny"].branches["main"]
    assert (examples, has_companion) == (8, True)
    for answer, own in zip(answers, expected, strict=True):
        assert answer == pytest.approx(list(own.probabilities.values()), abs=1e-6)
    for row, own in zip(
        probabilities, replace(ours, companion=None).predict(QUESTIONS), strict=True
    ):
        assert row == pytest.approx(list(own.probabilities.values()), abs=1e-5)


def test_a_push_is_one_commit_of_the_model_and_nothing_else(hub, client, copies):
    folder = copies("meta")
    (folder / "log.jsonl").write_text("{}\n", encoding="utf-8")
    (folder / "optimizer.pt").write_bytes(b"\x80\x04")
    (folder / "checkpoints" / "step_1").mkdir(parents=True)

    done = push(client, folder).record["pushed"]

    assert hub.count("POST", "/commit/") == 1
    assert sorted(hub.files(PLACE)) == sorted([*done["files"], ".gitattributes"])
    assert done["left_out"] == ["checkpoints", "log.jsonl", "optimizer.pt"]
    assert {Path(name).suffix for name in done["files"]} == {".json", ".md", ".safetensors"}


def test_no_file_names_a_place_of_this_machine(hub, client, saved, tiny_encoder):
    push(client, saved["adapted"])

    config = json.loads(hub.files(PLACE)["adapter_config.json"])
    record = json.loads(hub.files(PLACE)["nlp_meta.json"])
    revision = hub.repositories["models/base/tiny"].branches["main"]
    assert (config["base_model_name_or_path"], config["revision"]) == ("base/tiny", revision)
    assert record["model"]["model_name_or_path"] == "base/tiny"
    assert record["model"]["revision"] == revision
    kept = json.loads((saved["adapted"] / "nlp_meta.json").read_text(encoding="utf-8"))
    assert kept["adaptation"]["text_hashes"] and "text_hashes" not in record["adaptation"]
    for name, content in hub.files(PLACE).items():
        assert str(tiny_encoder).encode() not in content, name
        assert str(saved["adapted"].parent).encode() not in content, name


def test_a_dry_run_checks_all_and_sends_nothing(hub, client, saved):
    before = state(hub)

    done = push(client, saved["adapted"], "--dry-run", "--private").record["pushed"]

    assert is_unchanged(hub, before) and not hub.count("POST", "/commit/")
    assert done["commit"] == "" and done["notes"]
    assert done["files"] == push(client, saved["adapted"]).record["pushed"]["files"]


def test_a_second_push_of_the_same_changes_nothing(hub, client, saved):
    first = push(client, saved["meta"]).record["pushed"]
    before = state(hub)

    second = push(client, saved["meta"]).record["pushed"]

    assert second["commit"] == first["commit"]
    assert is_unchanged(hub, before)


def test_a_new_version_replaces_the_old_one_and_what_it_lacks(hub, client, copies, meta, support):
    folder = copies("adapted")
    first = push(client, folder).record["pushed"]
    meta.adapt(*support, companion="none").save_pretrained(folder)

    second = push(client, folder, "--tag", "v2").record["pushed"]

    assert "companion.safetensors" in hub.files(PLACE, first["commit"])
    assert "companion.safetensors" not in hub.files(PLACE)
    assert hub.repositories[PLACE].tags == {"v2": second["commit"]}


def test_a_pull_request_leaves_the_branch_alone(hub, client, saved):
    hub.make(PLACE, {"README.md": b"# mine\n"})
    before = hub.repositories[PLACE].branches["main"]

    done = push(client, saved["meta"], "--create-pr").record["pushed"]

    assert hub.repositories[PLACE].branches["main"] == before
    assert done["pr_url"].endswith("/discussions/1")
    assert "nlp_meta.json" in hub.files(PLACE, "refs/pr/1")


def test_a_branch_is_made_where_there_is_none(hub, client, saved):
    push(client, saved["meta"], "--revision", "draft").record  # noqa: B018  asserts

    assert "nlp_meta.json" in hub.files(PLACE, "draft")
    assert "nlp_meta.json" not in hub.files(PLACE, "main")


def test_the_stored_defaults_come_along_from_any_revision(hub, client, saved):
    """A tag, a branch and a commit, with the token given by hand."""
    done = push(client, saved["meta"], "--tag", "v1", "--private").record["pushed"]
    client.forget()

    answer = client.code(
        "from nlp_meta import MetaModel\n"
        "found = []\n"
        f"for revision in ('v1', 'main', '{done['commit']}'):\n"
        f"    model = MetaModel.from_pretrained('{NAME}', revision=revision, token='hf_write')\n"
        "    inner = model.adaptation['classification'].inner\n"
        "    found.append([inner.steps, inner.learning_rate,\n"
        "                  model.source.commit, model.provenance['seed']])",
        token=None,
    )

    assert answer.value == [[2, 0.01, done["commit"], 3]] * 3, answer.err


def test_what_was_pulled_is_used_again_without_the_hub(hub, client, saved):
    push(client, saved["meta"])
    load = f"from nlp_meta import MetaModel\nfound = MetaModel.from_pretrained('{NAME}').labels"
    assert client.code(load).value == ["negative", "positive"]
    hub.fail("GET", ".")
    hub.fail("HEAD", ".")

    answer = client.code(load)
    offline = client.code(
        f"import huggingface_hub.constants as c\nc.HF_HUB_OFFLINE = True\n{load}\n"
        "c.HF_HUB_OFFLINE = False"
    )

    assert answer.value == ["negative", "positive"], answer.err
    assert offline.value == ["negative", "positive"], offline.err


def test_the_method_pushes_as_the_command_does(hub, client, saved):
    answer = client.code(
        "from nlp_meta import MetaModel\n"
        f"model = MetaModel.from_pretrained({str(saved['meta'])!r}, device='cpu')\n"
        f"done = model.push_to_hub('{NAME}', hub_base_model='base/tiny', tag='v1')\n"
        "found = [done.commit, list(done.notes)]"
    )

    assert answer.value != "raised", answer.err
    commit, notes = answer.value
    assert hub.repositories[PLACE].tags == {"v1": commit}
    assert any("forbids commercial use" in note for note in notes)


def test_adapt_pushes_what_it_saves(hub, client, saved, tmp_path):
    push(client, saved["meta"])
    commit = hub.repositories[PLACE].branches["main"]
    rows = [f"{'good' if i % 2 else 'bad'} room {i},{'pos' if i % 2 else 'neg'}" for i in range(12)]
    table = tmp_path / "rows.csv"
    table.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    words = ["adapt", NAME, "--data", table, "--output-dir", tmp_path / "fashion", "--json"]

    done = client.run(*words, "--push-to-hub", "--hub-model-id", "me/fashion").record

    record = json.loads(hub.files("models/me/fashion")["nlp_meta.json"])
    assert done["pushed"]["repo_id"] == "me/fashion"
    assert record["provenance"]["meta_model"] == {"name": NAME, "commit": commit}
    assert f"Adapted from `{NAME}` at commit `{commit}`" in (
        hub.files("models/me/fashion")["README.md"].decode()
    )


def test_a_data_card_becomes_a_dataset_card(hub, client, tmp_path):
    place = "datasets/me/bangla"
    words = ["cards", "push", "bangla_social", "--repo-id", "me/bangla", "--json"]

    done = client.run(*words).record["pushed"]

    card = hub.files(place)["README.md"].decode()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "cc-by-nc-sa-4.0"
    assert any("forbids commercial use" in note for note in done["notes"])
    before = state(hub)
    assert "replace it with" in client.run(*words).refusal
    assert is_unchanged(hub, before)
