"""The application over HTTP: answers, batches across domains, limits, errors, background jobs."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fastapi.testclient import TestClient
from tiny_domains import SUPPORT, SUPPORT_LABELS, draw_texts

from nlp_meta.errors import SettingsError
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.serving.app import Adapting, build_app
from nlp_meta.serving.limits import Limits, name_domains, read_token
from nlp_meta.serving.pack import DomainPack

LIMITS = Limits(max_batch=8, max_wait=0.05, max_texts=20, max_characters=3000)
LABELED = {"texts": SUPPORT, "labels": SUPPORT_LABELS, "companion": "none"}


@pytest.fixture
def pack(models, folders):
    pack = DomainPack(models["plain"], name="plain", source=str(folders["plain"]))
    pack.add("three", models["three"], source=str(folders["three"]))
    return pack


@pytest.fixture
def client(pack):
    with TestClient(build_app(pack, limits=LIMITS), raise_server_exceptions=False) as client:
        yield client


def error_of(response) -> str:
    """The one sentence of an error, which is all that its JSON holds."""
    found = response.json()
    assert list(found) == ["error"]
    assert "\n" not in found["error"] and not found["error"].endswith(".")
    return found["error"]


def read_metric(client, line: str) -> float:
    lines = dict(text.rsplit(" ", 1) for text in client.get("/metrics").text.splitlines())
    return float(lines[line])


def wait_until(client, texts: int) -> None:
    """Until so many texts wait, and have had the time to be tokenized."""
    while read_metric(client, "nlp_meta_waiting_texts") != texts:
        time.sleep(0.01)
    time.sleep(0.3)


@pytest.mark.parametrize("count", [1, 20])
def test_predictions_are_those_of_the_model(models, client, count):
    """Twenty texts are more than a batch takes."""
    texts = draw_texts(count, seed=1)
    answer = client.post("/predict", json={"domain": "three", "texts": texts}).json()
    alone = models["three"].predict(texts)

    assert answer["domain"] == "three"
    assert [one["label"] for one in answer["predictions"]] == [one.label for one in alone]
    for one, expected in zip(answer["predictions"], alone, strict=True):
        assert list(one["probabilities"]) == ["bad", "fair", "good"]
        assert one["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)


def test_requests_that_wait_together_share_a_batch_across_domains(models, client, pack):
    """Eight requests of one text each, while the worker is held: the rest is one batch."""
    texts = draw_texts(8, seed=2)
    names = ["plain", "three"] * 4
    held, answer = threading.Event(), pack.answer
    pack.answer = lambda questions: (held.wait(10), answer(questions))[1]
    with ThreadPoolExecutor(9) as threads:
        first = threads.submit(client.post, "/predict", json={"domain": "plain", "texts": ["a"]})
        wait_until(client, 1)
        bodies = [{"domain": n, "texts": [t]} for n, t in zip(names, texts, strict=True)]
        others = [threads.submit(client.post, "/predict", json=body) for body in bodies]
        wait_until(client, 9)
        held.set()
        assert first.result().status_code == 200
        answers = [other.result().json()["predictions"][0] for other in others]

    for name, text, found in zip(names, texts, answers, strict=True):
        expected = models[name].predict([text])[0]
        assert found["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
    assert read_metric(client, "nlp_meta_batch_texts_count") == 2
    assert read_metric(client, "nlp_meta_batch_texts_sum") == 9
    assert read_metric(client, "nlp_meta_batch_domains_sum") == 3
    assert read_metric(client, 'nlp_meta_texts_total{domain="three"}') == 4
    line = 'nlp_meta_requests_total{route="/predict",status="200"}'
    assert read_metric(client, line) == 9
    assert read_metric(client, "nlp_meta_waiting_texts") == 0


def test_domains_are_listed_loaded_replaced_and_unloaded(client, folders):
    listed = client.get("/domains").json()["domains"]
    assert [one["domain"] for one in listed] == ["plain", "three"]
    assert listed[1]["labels"] == ["bad", "fair", "good"] and listed[1]["ngrams"] is True
    assert listed[0]["model"] == str(folders["plain"])

    body = {"model": str(folders["seven"])}
    assert client.put("/domains/new", json=body).status_code == 201
    replaced = client.put("/domains/new", json={"model": str(folders["low"])})
    assert replaced.status_code == 200
    assert replaced.json()["labels"] == ["negative", "positive"]
    assert client.post("/predict", json={"domain": "new", "texts": ["a"]}).status_code == 200
    assert client.delete("/domains/new").status_code == 204
    assert client.post("/predict", json={"domain": "new", "texts": ["a"]}).status_code == 404
    assert client.get("/healthz").json() == {"status": "ok", "domains": 2}


PREDICT = ("POST", "/predict")


@pytest.mark.parametrize(
    ("route", "body", "status", "says"),
    [
        (PREDICT, {"domain": "plane", "texts": ["a"]}, 404, "plain, three"),
        (PREDICT, {"domain": "plain", "texts": []}, 422, "at least one"),
        (PREDICT, {"domain": "plain", "texts": ["a", " "]}, 422, "text 2 of 2"),
        (PREDICT, {"domain": "plain", "texts": ["a"] * 21}, 413, "max_texts"),
        (PREDICT, {"domain": "plain", "texts": ["a" * 3001]}, 413, "max_characters"),
        (PREDICT, {"domain": "plain", "texts": ["a" * 90_000]}, 413, "bytes"),
        (PREDICT, {"domain": "plain", "texts": "a"}, 422, "correct `texts`"),
        (PREDICT, {"domain": "plain", "texts": ["a", 3]}, 422, "correct `texts.1`"),
        (PREDICT, {"domain": "plain"}, 422, "correct `texts`"),
        (PREDICT, {"domain": "plain", "texts": ["a"], "text": 1}, 422, "correct `text`"),
        (PREDICT, [], 422, "correct `body`"),
        (("PUT", "/domains/new"), {"model": "nowhere/at-all"}, 422, "nowhere/at-all"),
        (("PUT", "/domains/new"), {"model": "x" * 5000}, 422, "cannot"),
        (("PUT", "/domains/new"), {"model": "a\x00b"}, 422, "cannot"),
        (("PUT", "/domains/.hidden"), {"model": "x"}, 422, "choose another name"),
        (("DELETE", "/domains/new"), None, 404, "plain, three"),
        (("POST", "/adapt"), {"domain": "new", "texts": ["a"], "labels": ["b"]}, 409, "`meta`"),
        (("GET", "/adapt/1"), None, 409, "`meta`"),
        (("GET", "/predict"), None, 405, "another method"),
        (("GET", "/nothing"), None, 404, "a route of this server is needed"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(client, route, body, status, says):
    response = client.request(*route, **({} if body is None else {"json": body}))

    assert response.status_code == status
    assert says in error_of(response)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"", 422),
        (b'{"domain": "plain", "texts": ["\\ud800"]}', 422),
        (iter([b"[", b'"a",' * 30_000, b"]"]), 413),
    ],
    ids=["broken", "no_text", "empty", "half_a_character", "endless"],
)
def test_a_body_that_is_no_json_or_too_long_is_refused(client, content, status):
    """The last one does not say how long it is."""
    response = client.post(
        "/predict", content=content, headers={"content-type": "application/json"}
    )

    assert response.status_code == status
    assert "cannot" in error_of(response)
    assert client.get("/healthz").status_code == 200


def test_more_than_may_wait_is_turned_away_for_a_second(pack):
    """A batch of 1 lets 64 texts wait; the worker is held meanwhile."""
    held, answer = threading.Event(), pack.answer
    pack.answer = lambda questions: (held.wait(10), answer(questions))[1]
    limits = Limits(max_batch=1, max_texts=40)
    with TestClient(build_app(pack, limits=limits)) as client, ThreadPoolExecutor(1) as threads:
        body = {"domain": "plain", "texts": ["a"] * 40}
        first = threads.submit(client.post, "/predict", json=body)
        wait_until(client, 40)
        refused = client.post("/predict", json=body)
        held.set()

        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        assert "40 wait already and at most 64 may" in error_of(refused)
        assert len(first.result().json()["predictions"]) == 40


def test_a_batch_that_fails_is_one_error_and_the_next_is_answered(client, pack):
    answer = pack.answer
    pack.answer = lambda questions: 1 / 0
    failed = client.post("/predict", json={"domain": "plain", "texts": ["a"]})
    pack.answer = answer

    assert failed.status_code == 500 and "the server's log" in error_of(failed)
    assert client.post("/predict", json={"domain": "plain", "texts": ["a"]}).status_code == 200


def test_only_the_bearer_of_the_token_is_let_in(pack):
    with TestClient(build_app(pack, limits=LIMITS, token="s3cret")) as client:
        for header in ("", "s3cret", "Bearer s3cre", "Bearer s3crets", "Basic s3cret", "Bearer é"):
            given = {"authorization": header.encode()} if header else {}
            for route in (("GET", "/domains"), ("GET", "/metrics"), ("DELETE", "/domains/plain")):
                refused = client.request(*route, headers=given)
                assert refused.status_code == 401
                assert refused.headers["www-authenticate"] == "Bearer"
                assert "s3cret" not in error_of(refused)
        assert client.get("/healthz").status_code == 200
        let_in = client.get("/domains", headers={"authorization": "Bearer s3cret"})
        assert len(let_in.json()["domains"]) == 2


def wait_for(client, job: str) -> dict[str, object]:
    while True:
        progress = client.get(f"/adapt/{job}").json()
        if progress["status"] not in ("waiting", "running"):
            return progress
        time.sleep(0.05)


def test_labels_in_a_new_domain_out(pack, make_meta, tmp_path):
    """Saved where it was asked for; what is saved answers as what is served."""
    adapting = Adapting(make_meta(), "meta", tmp_path / "adapted")
    with TestClient(build_app(pack, limits=LIMITS, adapting=adapting)) as client:
        body = {"domain": "new", **LABELED, "save": True, "steps": 3}
        begun = client.post("/adapt", json=body)
        assert begun.status_code == 202 and begun.json()["status"] == "waiting"
        done = wait_for(client, begun.json()["job"])
        assert done["status"] == "done", done
        assert done["steps_done"] == done["steps"] == 6
        assert done["report"]["steps"] == 3 and done["report"]["examples"] == len(SUPPORT)
        assert done["saved_to"] == str(tmp_path / "adapted" / "new")
        texts = draw_texts(3, seed=6)
        found = client.post("/predict", json={"domain": "new", "texts": texts}).json()
        saved = AdaptedModel.from_pretrained(done["saved_to"]).predict(texts)
        for one, expected in zip(found["predictions"], saved, strict=True):
            assert one["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
        again = client.post("/adapt", json=body)
        assert again.status_code == 409 and "`replace`" in error_of(again)
        again = client.post("/adapt", json={**body, "replace": True, "save": False})
        assert wait_for(client, again.json()["job"])["saved_to"] is None
        assert read_metric(client, 'nlp_meta_adaptations_total{status="done"}') == 2


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"labels": SUPPORT_LABELS[:-1]}, 422, "one label for each text"),
        ({"labels": ["same"] * 6}, 422, "one label only"),
        ({"labels": ["a"] * 5 + ["b"]}, 422, "at least 2 of each"),
        ({"label_map": {"fine": "positive"}}, 422, "cannot rename label 'fine'"),
        ({"companion": "maybe"}, 422, "auto, ngrams, none"),
        ({"domain": "../up"}, 422, "choose another name"),
        ({"steps": 0}, 422, "correct `steps`"),
        ({"steps": 10**9}, 422, "correct `steps`"),
        ({"learning_rate": -1.0}, 422, "correct `learning_rate`"),
        ({"save": True}, 409, "adapted_dir"),
        ({"texts": ["a"] * 21}, 413, "max_texts"),
    ],
)
def test_what_nothing_can_be_learned_from_is_refused_at_once(
    pack, make_meta, changes, status, says
):
    adapting = Adapting(make_meta(), "meta", None)
    with TestClient(build_app(pack, limits=LIMITS, adapting=adapting)) as client:
        refused = client.post("/adapt", json={"domain": "new", **LABELED, **changes})

        assert refused.status_code == status
        assert says in error_of(refused)
        assert client.get("/adapt/none").status_code == 404


def test_an_adaptation_that_diverges_leaves_the_domains_as_they_were(pack, make_meta):
    adapting = Adapting(make_meta(), "meta", None)
    with TestClient(build_app(pack, limits=LIMITS, adapting=adapting)) as client:
        body = {"domain": "plain", **LABELED, "replace": True, "learning_rate": 1e30}
        before = client.post("/predict", json={"domain": "plain", "texts": ["good"]}).json()
        failed = wait_for(client, client.post("/adapt", json=body).json()["job"])

        assert failed["status"] == "failed" and failed["report"] is None
        assert "lower the learning rate" in failed["error"]
        after = client.post("/predict", json={"domain": "plain", "texts": ["good"]}).json()
        assert json.dumps(after) == json.dumps(before)


def test_jobs_end_with_the_application(pack, make_meta, tmp_path):
    """What is saved is finished, what would be lost is stopped; one job a domain at a time."""
    adapting = Adapting(make_meta(steps=20), "meta", tmp_path)
    with TestClient(build_app(pack, limits=LIMITS, adapting=adapting)) as client:
        for name, save in (("kept", True), ("lost", False)):
            body = {"domain": name, **LABELED, "save": save}
            assert client.post("/adapt", json=body).status_code == 202
        twice = client.post("/adapt", json=body)
        assert twice.status_code == 409 and "twice at once" in error_of(twice)

    assert sorted(pack.domains) == ["kept", "plain", "three"]
    assert AdaptedModel.from_pretrained(tmp_path / "kept").labels == ("negative", "positive")


def test_domains_are_called_as_their_folders_or_as_given():
    named = name_domains(["runs/real_estate/", "me/travel", "fashion=runs/adapted"])

    assert named == {"real_estate": "runs/real_estate/", "travel": "me/travel",
                     "fashion": "runs/adapted"}  # fmt: skip
    with pytest.raises(SettingsError, match=r"both as 'travel'"):
        name_domains(["me/travel", "you/travel"])
    with pytest.raises(SettingsError, match="choose another name"):
        name_domains(["a b=me/travel"])


def test_a_token_is_a_word_of_the_environment():
    assert read_token(None, {}) is None
    assert read_token("TOKEN", {"TOKEN": "word"}) == "word"
    for value in ("", "two words", " word", "é"):
        with pytest.raises(SettingsError, match="'TOKEN'"):
            read_token("TOKEN", {"TOKEN": value})
    with pytest.raises(SettingsError, match="token_env"):
        read_token("TOKEN", {})


def test_limits_of_bytes_let_every_request_within_the_others_through():
    """Each character written as two escapes, twelve bytes, in as many texts as may be."""
    limits = Limits(max_texts=7, max_characters=70)
    texts = ["\U0001f600" * 10] * 7
    body = {"domain": "x" * 100, "texts": texts, "labels": ["a"] * 7, "steps": 10}

    assert len(json.dumps(body, indent=4)) < limits.max_bytes
    assert np.isfinite(limits.max_waiting) and limits.max_waiting >= limits.max_texts
