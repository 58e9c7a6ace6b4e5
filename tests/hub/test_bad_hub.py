"""The Hub on a bad day, and wrong input: one sentence each, nothing lost, nothing overwritten."""

import hashlib
import json
import shutil
import time

import pytest
from safetensors.numpy import load_file, save_file

pytestmark = pytest.mark.slow

NAME = "me/real-estate"
PLACE = f"models/{NAME}"
BASE = ["--hub-base-model", "base/tiny"]
ADAPTER = "adapter_model.safetensors"


def push(client, folder, *words, name=NAME, base=BASE, **options):
    return client.run("push", folder, "--repo-id", name, *base, "--json", *words, **options)


def pull(client, name=NAME, **options):
    words = ["predict", name, "--data", "nothing.csv", "--output", "out.csv"]
    (client.home / "nothing.csv").write_text("text\ngood\n", encoding="utf-8")
    return client.run(*words, **options)


def state(hub):
    return {name: dict(repo.branches) for name, repo in hub.repositories.items()}


def files(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


@pytest.mark.parametrize(
    ("method", "pattern", "status", "says"),
    [
        ("GET", "whoami", 401, "does not accept the token (401)"),
        ("GET", f"/api/{PLACE}", 500, "a fault of its own (500)"),
        ("POST", "/repos/create", 403, "may not do that there (403)"),
        ("POST", "/repos/create", 409, "exists already, or is being changed right now (409)"),
        ("POST", "/preupload/", 401, "does not accept the token (401)"),
        ("POST", "/commit/", 403, "may not do that there (403)"),
        ("POST", "/commit/", 409, "exists already, or is being changed right now (409)"),
        ("POST", "/commit/", 412, "somebody else pushed there in between (412)"),
        ("POST", "/commit/", 500, "a fault of its own (500)"),
        ("POST", "/commit/", 418, "the Hub refuses (418"),
    ],
)
def test_a_refusal_is_one_sentence_and_leaves_no_half_of_a_model(
    hub, client, saved, method, pattern, status, says
):
    mine = files(saved["meta"])
    hub.fail(method, pattern, status)

    answer = push(client, saved["meta"])

    assert says in answer.refusal
    assert set(hub.files(PLACE) if PLACE in hub.repositories else []) <= {".gitattributes"}
    assert files(saved["meta"]) == mine


@pytest.mark.parametrize("pattern", ["/preupload/", "/commit/"])
def test_a_push_waits_as_long_as_the_hub_asks(hub, client, saved, pattern):
    """At least the 7 seconds of `Retry-After`: where the client itself waits it adds one."""
    hub.fail("POST", pattern, 429, headers={"Retry-After": "7"}, times=1)

    answer = push(client, saved["meta"])

    assert answer.record["pushed"]["files"]
    assert 7 <= max(answer.waits) <= 8
    assert hub.count("POST", "/commit/") == (2 if pattern == "/commit/" else 1)


def test_a_pause_that_is_too_long_is_told(hub, client, saved):
    hub.fail("POST", "/commit/", 429, headers={"Retry-After": "4000"})

    assert "in 4000 seconds" in push(client, saved["meta"]).refusal


def test_a_push_that_is_cut_off_goes_on_where_it_stopped(hub, client, saved):
    """Of two large files one is through when the connection dies; it is not sent again."""
    whole = hashlib.sha256((saved["adapted"] / ADAPTER).read_bytes()).hexdigest()
    hub.fail("PUT", f"/upload/(?!{whole})", body=None, cut=True)

    assert "the connection to the Hub failed" in push(client, saved["adapted"]).refusal
    assert set(hub.files(PLACE)) == {".gitattributes"}
    assert list(hub.uploads) == [whole]
    hub.faults.clear()

    done = push(client, saved["adapted"]).record["pushed"]

    assert done["commit"] == hub.repositories[PLACE].branches["main"]
    assert {ADAPTER, "companion.safetensors"} <= set(hub.files(PLACE))
    assert hub.count("PUT", f"/upload/{whole}") == 1


def test_a_cut_in_the_middle_of_a_push_is_mended_by_the_client(hub, client, saved):
    hub.fail("PUT", "/upload/", body=None, cut=True, times=1)

    assert push(client, saved["meta"]).value == 0
    assert ADAPTER in hub.files(PLACE)


def test_a_commit_whose_answer_is_lost_is_found_when_repeated(hub, client, saved):
    """The commit is made, its answer is not heard: the repetition finds nothing to change."""
    answer = hub.answer

    def lose(asked):
        reply = answer(asked)
        lost = asked.method == "POST" and "/commit/" in asked.path
        return type(reply)(200, None, cut=True) if lost else reply

    hub.answer = lose
    first = push(client, saved["meta"])
    hub.answer = answer
    assert "the connection to the Hub failed" in first.refusal
    there = hub.repositories[PLACE].branches["main"]

    assert push(client, saved["meta"]).record["pushed"]["commit"] == there


def test_an_upload_with_another_hash_is_no_push(hub, client, saved):
    hub.fail("PUT", "/upload/", 400, body={"error": "content does not have that hash"})

    assert "the Hub refuses (400" in push(client, saved["meta"]).refusal
    assert set(hub.files(PLACE)) == {".gitattributes"}


@pytest.mark.parametrize(
    ("words", "options", "says"),
    [
        ({}, {"token": None}, "there is no token"),
        ({}, {"token": "hf_read"}, "the token is read-only"),
        ({}, {"token": "hf_of_nobody"}, "does not accept the token (401)"),
        ({"name": "real-estate"}, {}, "it has no namespace"),
        ({"name": "me/real--estate"}, {}, "no name of a repository"),
        ({"name": "me/../x"}, {}, "no name of a repository"),
        ({"name": "me/x.git"}, {}, "no name of a repository"),
        ({"base": []}, {}, "which others can load; give it"),
        ({"base": ["--hub-base-model", "base/none"]}, {}, "knows no such repository"),
        ({"base": ["--hub-base-model", "base/wide"]}, {}, "its hidden_size is 64"),
        ({"base": ["--hub-base-model", "base/other"]}, {}, "its weights differ"),
        ({"base": [*BASE, "--create-pr", "--tag", "v1"]}, {}, "has no branch or tag"),
    ],
)
def test_a_wrong_destination_or_base_is_refused_before_anything_is_sent(
    hub, client, saved, tiny_encoder, tmp_path, words, options, says
):
    base = {p.name: p.read_bytes() for p in tiny_encoder.iterdir() if p.is_file()}
    wide = json.loads(base["config.json"]) | {"hidden_size": 64}
    hub.make("models/base/wide", {**base, "config.json": json.dumps(wide).encode()})
    tensors = load_file(tiny_encoder / "model.safetensors")
    save_file({n: v + 1 for n, v in tensors.items()}, tmp_path / "other.safetensors")
    other = (tmp_path / "other.safetensors").read_bytes()
    hub.make("models/base/other", {**base, "model.safetensors": other})
    before = state(hub)

    answer = push(client, saved["meta"], **words, **options)

    assert says in answer.refusal
    assert state(hub) == before
    assert hub.count("PUT", ".") == hub.count("POST", "/commit/") == 0


def test_weights_saved_anew_under_other_names_are_the_same_base(hub, client, saved, tmp_path):
    """Hash and names differ, the tensors do not."""
    base = dict(hub.files("models/base/tiny"))
    (tmp_path / "model.safetensors").write_bytes(base["model.safetensors"])
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({f"bert.{n}": v for n, v in tensors.items()}, tmp_path / "new.safetensors")
    again = (tmp_path / "new.safetensors").read_bytes()
    hub.make("models/base/again", {**base, "model.safetensors": again})

    assert push(client, saved["meta"], base=["--hub-base-model", "base/again"]).value == 0


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ({"pytorch_model.bin": b"x", "config.json": b"{}"}, "it holds other things"),
        ({"nlp_meta.json": b"nonsense"}, "its nlp_meta.json cannot be read"),
        (
            {"nlp_meta.json": b'{"role": "adapted", "labels": []}'},
            "of the role adapted",
        ),
        (
            {"nlp_meta.json": b'{"role": "start", "skills": ["retrieval"]}'},
            "of the skills retrieval",
        ),
        (
            {
                "nlp_meta.json": b'{"role": "start", "skills": ["classification"],'
                b'"labels": ["good", "bad"]}'
            },
            "of the labels good, bad",
        ),
    ],
)
def test_a_name_that_exists_is_not_written_over(hub, client, saved, there, says):
    hub.make(PLACE, there)
    before = state(hub)

    answer = push(client, saved["meta"])

    assert says in answer.refusal
    assert "push over it with" in answer.refusal
    assert state(hub) == before
    assert push(client, saved["meta"], "--exist-ok").value == 0
    assert "nlp_meta.json" in hub.files(PLACE)


def test_a_tag_that_exists_stays_where_it_is(hub, client, saved):
    push(client, saved["meta"], "--tag", "v1")
    before = hub.repositories[PLACE].tags["v1"]

    assert "that tag exists" in push(client, saved["meta"], "--tag", "v1").refusal
    assert hub.repositories[PLACE].tags == {"v1": before}


def spoil_weights(folder):
    path = folder / ADAPTER
    path.write_bytes(path.read_bytes()[:-9])


def name_a_place(folder):
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**values, "name_or_path": "/home/ann/models/x"}), encoding="utf-8")


def edit_card(text):
    def edit(folder):
        (folder / "README.md").write_text(text, encoding="utf-8")

    return edit


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_weights, "its adapter_model.safetensors is damaged"),
        (name_a_place, "'tokenizer_config.json' names '/home/ann/models/x'"),
        (lambda folder: (folder / "nlp_meta.json").unlink(), "holds no nlp_meta.json"),
        (lambda folder: (folder / ADAPTER).unlink(), "its adapter_model.safetensors is missing"),
        (edit_card("just words"), "there is no front matter"),
        (edit_card("---\nlicense: [a: b\n---\n"), "edited by hand"),
        (edit_card("---\nlicense: [mit]\n---\n"), "`license` is ['mit']"),
        (edit_card("---\nmodel-index: 7\n---\n"), "edited by hand"),
        (edit_card("---\ntags: {a: b}\n---\n"), "`tags` is"),
    ],
)
def test_a_spoiled_folder_is_refused_before_anything_is_sent(hub, client, copies, spoil, says):
    folder = copies("meta")
    spoil(folder)
    mine, before = files(folder), state(hub)

    answer = push(client, folder)

    assert says in answer.refusal
    assert files(folder) == mine
    assert state(hub) == before


def test_a_card_edited_by_hand_is_pushed_as_it_is(hub, client, copies):
    folder = copies("meta")
    text = (folder / "README.md").read_text(encoding="utf-8") + "\nMy own words.\n"
    edit_card(text)(folder)

    notes = push(client, folder).record["pushed"]["notes"]

    assert hub.files(PLACE)["README.md"].decode() == text
    assert "README.md was edited by hand and is pushed as it is." in notes


def record(**values):
    made = {"role": "adapted", "skills": ["classification"], "labels": ["a", "b"], "format": 2}
    rest = {"adaptation": {}, "model": {}, "provenance": {}}
    return json.dumps({**made, **rest, **values}).encode()


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ({"config.json": b"{}", "model.safetensors": b""}, "a transformers model, not an adapter"),
        ({"modules.json": b"[]", "config.json": b"{}"}, "a sentence-transformers model"),
        ({"adapter_config.json": b"{}"}, "a PEFT adapter without nlp_meta.json"),
        ({"README.md": b"# soon"}, "an empty repository"),
        ({"notes.txt": b"x"}, "a repository of other things (notes.txt)"),
        ({"nlp_meta.json": b"nonsense"}, "its nlp_meta.json is damaged"),
        ({"nlp_meta.json": b"[]"}, "its nlp_meta.json is damaged"),
        ({"nlp_meta.json": b"[" * 50_000}, "its nlp_meta.json is damaged"),
        ({"nlp_meta.json": record(model=[])}, "key 'model' is []; a mapping is needed"),
        ({"nlp_meta.json": record(model={"layers": 3})}, "'model_name_or_path' is None, a text"),
        ({"nlp_meta.json": record(format=99)}, "the format of its nlp_meta.json is 99 and 2"),
        (
            {"nlp_meta.json": b"{}", "../../evil.json": b"{}"},
            "it names the file '../../evil.json', which lies outside",
        ),
    ],
)
def test_a_repository_without_a_model_is_named_for_what_it_is(hub, client, there, says):
    hub.make(PLACE, there)

    assert says in pull(client).refusal
    assert not list(client.home.rglob("evil.json"))


def test_what_is_not_there_at_all_is_told(hub, client):
    hub.make("datasets/me/rows", {"README.md": b"# rows\n"})

    assert "it is a dataset" in pull(client, "me/rows").refusal
    assert "knows no such repository" in pull(client, "me/none").refusal
    assert "HF_HUB_OFFLINE" in client.code(OFFLINE).value


# The client reads the variable when it is imported, so it is changed where it keeps it.
OFFLINE = """
import huggingface_hub.constants as constants
from nlp_meta import MetaModel
from nlp_meta.errors import HubError
constants.HF_HUB_OFFLINE = True
try:
    MetaModel.from_pretrained("me/none")
except HubError as error:
    found = str(error)
finally:
    constants.HF_HUB_OFFLINE = False
"""


def change_remote(hub, name, change):
    found = dict(hub.files(PLACE))
    found[name] = change(found[name])
    hub.make(PLACE, found)


def test_a_tampered_file_is_refused_and_the_true_one_taken_afterwards(hub, client, saved):
    """The Hub gives the hash of what was pushed and sends other bytes, as many."""
    push(client, saved["adapted"])
    true = hub.files(PLACE)[ADAPTER]
    false = true[:-4] + bytes(4)
    assert len(false) == len(true) and false != true
    hub.fail("GET", f"/resolve/.*/{ADAPTER}", 200, body=false)

    assert "does not have the hash that the Hub gives" in pull(client).refusal
    hub.faults.clear()
    assert pull(client).value == 0


def test_files_that_are_not_of_one_model_are_refused(hub, client, saved):
    """The Hub vouches for its own hashes, so the record must know the files."""
    push(client, saved["adapted"])
    true = hub.files(PLACE)[ADAPTER]

    change_remote(hub, ADAPTER, lambda content: content[:-4] + bytes(4))
    assert "its adapter_model.safetensors was changed since it was saved" in pull(client).refusal
    client.forget()
    change_remote(hub, ADAPTER, lambda _: true)
    change_remote(hub, "adapter_config.json", lambda text: text.replace(b"base/tiny", b"base/big"))
    assert "its adapter is for the base 'base/big'" in pull(client).refusal
    client.forget()
    change_remote(hub, ADAPTER, lambda _: b"\x80\x04 a pickle")
    change_remote(hub, "adapter_config.json", lambda text: text.replace(b"base/big", b"base/tiny"))
    assert "is a pickle or an archive, which is never read" in pull(client).refusal


@pytest.mark.parametrize(
    "place",
    ["/", "../secret", "./models/x", "~/models/x", "file:///models/x", "C:\\models", "a/b/c"],
)
def test_a_model_of_the_hub_names_no_folder_here_as_its_base(hub, client, saved, place):
    """Whatever the record says of its own hash, and whether the folder is here or not."""
    push(client, saved["adapted"])
    for name, words in (("nlp_meta.json", "model"), ("adapter_config.json", None)):
        values = json.loads(hub.files(PLACE)[name])
        block = values[words] if words else values
        block["model_name_or_path" if words else "base_model_name_or_path"] = place
        change_remote(hub, name, lambda _, values=values: json.dumps(values).encode())

    refusal = pull(client).refusal

    assert "is from the Hub and names the base" in refusal
    assert "which is no name on the Hub" in refusal


@pytest.mark.parametrize(
    "body",
    [b"<html><body>Log in to this network</body></html>", b"[1, 2]", b"null", b'{"a": ' * 20_000],
)
@pytest.mark.parametrize("pattern", ["/api/models/", "/resolve/"])
def test_a_hub_that_answers_with_other_things_is_told_in_one_sentence(
    hub, client, saved, pattern, body
):
    push(client, saved["adapted"])
    client.forget()
    headers = {"Content-Type": "text/html", "X-Repo-Commit": "1" * 40, "ETag": '"x"'}
    for method in ("GET", "HEAD"):
        hub.fail(method, pattern, 200, body=body, headers=headers)

    refusal = pull(client).refusal

    assert refusal.startswith("error: cannot ")
    assert len(refusal) < 500


def test_a_full_disk_stops_a_pull_and_a_repetition_finishes_it(hub, client, saved):
    """Files of over 2,000 bytes find no room, which the adapter is."""
    push(client, saved["adapted"])

    assert "no room left" in pull(client, longest_file=2000).refusal
    assert pull(client).value == 0


def test_a_connection_cut_in_a_pull_is_mended_by_the_client(hub, client, saved):
    push(client, saved["adapted"])
    content = hub.files(PLACE)[ADAPTER]
    hub.fail("GET", f"/resolve/.*/{ADAPTER}", 200, body=content, cut=True, times=1)

    answer = pull(client)

    assert answer.value == 0, answer.err


def test_adapt_asks_the_hub_before_the_work_and_keeps_its_model_if_the_push_fails(
    hub, client, saved, tmp_path
):
    rows = [f"{'good' if i % 2 else 'bad'} room {i},{'pos' if i % 2 else 'neg'}" for i in range(12)]
    table = tmp_path / "rows.csv"
    table.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    output = tmp_path / "out"
    words = ["adapt", saved["meta"], "--data", table, "--output-dir", output, *BASE]
    pushing = ["--push-to-hub", "--hub-model-id", "me/fashion"]

    assert "are needed together" in client.run(*words, "--push-to-hub").refusal
    assert "there is no token" in client.run(*words, *pushing, token=None).refusal
    assert not output.exists()
    hub.fail("POST", "/commit/")
    assert "a fault of its own (500)" in client.run(*words, *pushing).refusal
    assert (output / ADAPTER).is_file()
    shutil.rmtree(output)


# The bounds are made small, so that a test need not wait for a minute.
BOUNDS = """
import huggingface_hub.constants as constants
import nlp_meta.data.session as session
session.PATIENCE, session._LONGEST, session._LARGEST, constants.HF_HUB_DOWNLOAD_TIMEOUT = {}
"""
HEADERS = {"X-Repo-Commit": "1" * 40, "ETag": '"x"'}
ENDLESS = {
    "body": ({"chunk": b"x" * 65536}, "does not end after 1048576 bytes"),
    "trickle": ({"chunk": b"x", "every": 0.2}, "comes with less than 1024 bytes a second"),
    "slow": ({"chunk": b"x" * 1024, "every": 0.2}, "does not end after 3 seconds"),
    "headers": ({"chunk": b"x", "every": 0.2, "is_header": True}, "headers do not end after 3 s"),
    "silence": ({"chunk": b"", "every": 0.2}, "the connection to the Hub failed"),
}


@pytest.mark.parametrize("pattern", ["/api/models/", "/resolve/"])
@pytest.mark.parametrize("kind", ENDLESS)
def test_an_answer_without_end_is_given_up(hub, client, saved, pattern, kind):
    """In bounded time and memory, whichever answer it is."""
    push(client, saved["adapted"])
    client.forget()
    fault, says = ENDLESS[kind]
    client.code(BOUNDS.format("1.0, 3.0, 2**20, 1"))
    hub.fail("GET", pattern, 200, headers=HEADERS, **fault)

    began, before = time.monotonic(), client.code(PEAK).value
    answer = pull(client)
    seconds = time.monotonic() - began
    client.code(BOUNDS.format("60.0, 300.0, 2**26, 10"))

    assert says in answer.refusal
    assert seconds < 30
    assert client.code(PEAK).value - before < 100_000


PEAK = """
import resource
found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
"""


@pytest.mark.parametrize(("method", "pattern"), [("GET", "/api/"), ("HEAD", "/resolve/")])
def test_redirects_without_end_are_given_up(hub, client, saved, method, pattern):
    push(client, saved["adapted"])
    client.forget()
    hub.fail(method, pattern, 302, headers={**HEADERS, "Location": f"/{NAME}/resolve/main/round"})
    if method == "GET":
        hub.fail("GET", "/round", 302, headers={**HEADERS, "Location": "/api/models/me/x"})

    refusal = pull(client).refusal

    assert "the connection to the Hub failed" in refusal and "redirect" in refusal
    assert hub.count(method, ".*") < 200
