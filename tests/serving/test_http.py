"""The application over HTTP: answers, batches across domains, limits, errors, background jobs."""

import asyncio
import gzip
import json
import logging
import shutil
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
from nlp_meta.serving.limits import Limits, Sources, check_reach, name_domains, read_token
from nlp_meta.serving.pack import DomainPack
from nlp_meta.serving.server import quiet_log

LIMITS = Limits(max_batch=8, max_wait=0.05, max_texts=20, max_characters=3000)
JSON = {"content-type": "application/json"}
LABELED = {"texts": SUPPORT, "labels": SUPPORT_LABELS, "companion": "none"}


@pytest.fixture
def pack(models, folders):
    pack = DomainPack(models["plain"], name="plain", source="plain")
    pack.add("three", models["three"], source="three")
    return pack


def ask(pack, **settings) -> TestClient:
    """A client of an application, by a name that is let in without a token."""
    app = build_app(pack, **{"limits": LIMITS, **settings})
    return TestClient(app, base_url="http://localhost:8000")


@pytest.fixture
def client(pack, folders):
    with ask(pack, sources=Sources(folders["plain"].parent)) as client:
        yield client


def error_of(response) -> str:
    """The one sentence of a problem."""
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert list(problem) == ["title", "status", "detail"]
    assert problem["status"] == response.status_code
    sentence = problem["detail"]
    assert "\n" not in sentence and not sentence.endswith(".")
    assert "`--" not in sentence and len(sentence) <= 2000
    return sentence


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

    assert listed[0]["model"] == "plain"

    body = {"model": str(folders["seven"])}
    assert client.put("/domains/new", json=body).json()["model"] == "seven"
    replaced = client.put("/domains/new", json={"model": "low"})
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
        (PREDICT, {"domain": "plain", "texts": ["a"] * 21}, 413, "`texts`"),
        (PREDICT, {"domain": "plain", "texts": ["a" * 3001]}, 413, "`texts`"),
        (PREDICT, {"domain": "plain", "texts": ["a" * 90_000]}, 413, "bytes"),
        (PREDICT, {"domain": "plain", "texts": "a"}, 422, "`texts` is a string and a list"),
        (PREDICT, {"domain": "plain", "texts": ["a", 3]}, 422, "`texts[1]` is a number 3"),
        (PREDICT, {"domain": "plain", "texts": [None] * 3000}, 422, "`texts[0]` is null"),
        (PREDICT, {"domain": 7, "texts": ["a"]}, 422, "`domain` is a number 7 and a string"),
        (PREDICT, {"domain": "plain"}, 422, "no field `texts`"),
        (PREDICT, {"domain": "plain", "texts": ["a"], "text": 1}, 422, "a field `text`"),
        (PREDICT, [], 422, "its body is a list and an object is needed"),
        (("PUT", "/domains/new"), {"model": "nowhere/at-all"}, 403, "nowhere/at-all"),
        (("PUT", "/domains/new"), {"model": "x" * 5000}, 403, "cannot"),
        (("PUT", "/domains/new"), {"model": "a\x00b"}, 403, "cannot"),
        (("PUT", "/domains/.hidden"), {"model": "x"}, 422, "choose another name"),
        (("DELETE", "/domains/new"), None, 404, "plain, three"),
        (
            ("POST", "/adapt"),
            {"domain": "new", "texts": ["a"], "labels": ["b"]},
            409,
            "no start",
        ),
        (("GET", "/adapt/1"), None, 409, "no start"),
        (("DELETE", "/adapt/1"), None, 409, "no start"),
        (("GET", "/predict"), None, 405, "another method"),
        (("GET", "/nothing"), None, 404, "a route of this server is needed"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(client, route, body, status, says):
    response = client.request(*route, **({} if body is None else {"json": body}))

    assert response.status_code == status
    assert says in error_of(response)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "not JSON from character 2 on"),
        (b"\xff\xfe", "byte 0xff at place 1"),
        ('{"domain": "caf\xe9"}'.encode("latin-1"), "send it as UTF-8"),
        (b"", "it has no body"),
        (b'{"domain": "plain", "texts": ["\\ud800"]}', "half a character"),
        (b'{"domain": "\\udfff", "texts": ["a"]}', "half a character"),
        (b'{"domain": "plain", "\\ud83d": ["a"]}', "half a character"),
        (b"[" * 40_000, "nested too deeply"),
        (b'{"a":' * 4_000 + b"1" + b"}" * 4_000, "nested too deeply"),
        (b'{"domain": "plain", "texts": ["a"], "domain": "three"}', "'domain' stands twice"),
        (b'{"learning_rate": NaN}', "NaN"),
        (b'{"learning_rate": -Infinity}', "Infinity"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "too many digits"),
        (b"{" + b'"":0,' * 1000 + b'"":0}', "1001 keys"),
    ],
)
def test_a_body_that_is_no_strict_json_is_refused(client, content, says):
    response = client.post("/predict", content=content, headers=JSON)

    assert response.status_code == 400
    assert says in error_of(response)


def test_half_characters_that_are_whole_together_are_a_text(client):
    """JSON may write one character as two escapes; UTF-8 may begin with a byte order mark."""
    content = b'\xef\xbb\xbf{"domain": "plain", "texts": ["\\ud83d\\ude00"]}'

    assert client.post("/predict", content=content, headers=JSON).status_code == 200


def test_a_body_that_does_not_say_how_long_it_is_is_bounded_too(client):
    content = iter([b"[", b'"a",' * 30_000, b"]"])

    assert "bytes" in error_of(client.post("/predict", content=content, headers=JSON))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "text/plain; charset=utf-8"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "\x7f" * 300},
    ],
)
def test_a_body_that_is_not_sent_as_json_is_told_how(client, headers):
    """As `curl -d` sends it when no header is given."""
    content = b'{"domain": "plain", "texts": ["a"]}'
    refused = client.post("/predict", content=content, headers=headers)

    assert refused.status_code == 415
    assert "send it as application/json" in error_of(refused)


def test_a_compressed_body_is_refused(client):
    headers = {**JSON, "content-encoding": "gzip"}
    refused = client.post("/predict", content=gzip.compress(b"{}"), headers=headers)

    assert refused.status_code == 415 and "uncompressed" in error_of(refused)


def test_a_type_of_json_may_be_written_in_other_ways(client):
    content = b'{"domain": "plain", "texts": ["a"]}'
    for written in ("Application/JSON; charset=UTF-8", "application/vnd.api+json"):
        headers = {"content-type": written}
        assert client.post("/predict", content=content, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "evil.example:8000"}, 421),
        ({"host": "localhost.evil.example"}, 421),
        ({"host": "192.168.1.7"}, 421),
        ({"host": "127.0.0.1:8000@evil.example"}, 421),
        ({"host": "localhost:8000", "origin": "http://evil.example"}, 403),
        ({"host": "localhost:8000", "origin": "null"}, 403),
        ({"host": "localhost:8000", "origin": "http://localhost:9000"}, 403),
        ({"host": "localhost:8000", "origin": "http://localhost:8000"}, 200),
        ({"host": "LOCALHOST"}, 200),
        ({"host": "127.0.0.1:1"}, 200),
        ({"host": "[::1]:8000"}, 200),
    ],
)
def test_a_page_of_a_stranger_is_not_answered(client, headers, status):
    """Neither by a name of its own that points here, nor from its own origin."""
    response = client.get("/domains", headers=headers)

    assert response.status_code == status
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_pages_need_nothing_from_elsewhere(client):
    for path in ("/", "/docs"):
        page = client.get(path)
        assert page.status_code == 200 and "PUT /domains/{name}" in page.text
        assert "http" not in page.text.replace("HTTP", "")
        assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "/predict" in client.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    "model", ["..", ".", "", "../{name}/plain", "/etc", "link", "circle", "file", "me/model", "%2e"]
)
def test_no_model_outside_of_the_folder_for_models_is_loaded(pack, folders, tmp_path, model):
    """The folder beside it holds models, and a link in it leads there."""
    root = tmp_path / "models"
    root.mkdir()
    (root / "link").symlink_to(folders["plain"])
    (root / "circle").symlink_to(root / "circle")
    (root / "file").write_text("no folder")
    model = model.format(name=folders["plain"].parent.name)
    with ask(pack, sources=Sources(root)) as client:
        for path in (model, str(folders["plain"])):
            refused = client.put("/domains/new", json={"model": path})
            assert refused.status_code == 403
            assert str(tmp_path) not in error_of(refused).replace(path, "")
        assert "new" not in pack.domains


def test_a_link_inside_of_the_folder_for_models_is_followed(pack, folders, tmp_path):
    root = tmp_path / "models"
    shutil.copytree(folders["low"], root / "deep" / "low")
    (root / "latest").symlink_to(root / "deep" / "low")
    with ask(pack, sources=Sources(root)) as client:
        for path in ("latest", "deep/low", str(root / "deep/low"), "deep/../latest"):
            assert client.put("/domains/new", json={"model": path}).status_code < 300


def test_a_model_that_is_damaged_tells_no_folder_of_the_machine(pack, folders, tmp_path):
    shutil.copytree(folders["low"], tmp_path / "models" / "bad")
    (tmp_path / "models" / "bad" / "adapter_model.safetensors").write_bytes(b"x")
    with ask(pack, sources=Sources(tmp_path / "models")) as client:
        refused = client.put("/domains/new", json={"model": "bad"})

    assert refused.status_code == 422
    assert "bad" in error_of(refused) and str(tmp_path) not in error_of(refused)


def test_without_a_source_nothing_is_loaded(pack, folders):
    with ask(pack) as client:
        refused = client.put("/domains/new", json={"model": str(folders["low"])})

        assert refused.status_code == 403 and "may load models" in error_of(refused)


def test_models_of_the_hub_are_loaded_only_where_that_is_allowed(
    pack, folders, monkeypatch, tmp_path
):
    """A folder that is called as the id is none of the Hub's."""
    pulled = []
    monkeypatch.setattr(
        "nlp_meta.serving.limits.pull",
        lambda name, *, revision: (pulled.append((name, revision)), folders["low"])[1],
    )
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folders["seven"], tmp_path / "me" / "model")
    for allowed in (False, True):
        with ask(pack, sources=Sources(allow_hub=allowed)) as client:
            answer = client.put("/domains/new", json={"model": "me/model", "revision": "v1"})
            assert answer.status_code == (201 if allowed else 403)
            for name in ("me/model/..", "../me/model", "/me/model", str(tmp_path / "me/model")):
                assert client.put("/domains/new", json={"model": name}).status_code == 403

    assert pulled == [("me/model", "v1")]
    assert pack.domains["new"].source == "me/model"
    assert pack.domains["new"].labels == ("negative", "positive")


def test_domains_are_bounded_and_leave_no_count_behind(pack, folders, make_meta):
    """Two are loaded and three are allowed."""
    limits = Limits(max_batch=8, max_domains=3)
    sources = Sources(folders["plain"].parent)
    adapting = Adapting(make_meta(), "meta", None)
    with ask(pack, limits=limits, sources=sources, adapting=adapting) as client:
        for name in ("first", "second"):
            assert client.put(f"/domains/{name}", json={"model": "low"}).status_code == 201
            assert client.put(f"/domains/{name}", json={"model": "low"}).status_code == 200
            refused = client.put("/domains/more", json={"model": "low"})
            assert refused.status_code == 409 and "at most 3 may" in error_of(refused)
            refused = client.post("/adapt", json={"domain": "more", **LABELED})
            assert refused.status_code == 409
            client.post("/predict", json={"domain": name, "texts": ["a"]})
            assert client.delete(f"/domains/{name}").status_code == 204
        metrics = client.get("/metrics").text

    assert 'nlp_meta_texts_total{domain="' not in metrics


def test_more_than_may_wait_is_turned_away_for_a_second(pack):
    """A batch of 1 lets 64 texts wait; the worker is held meanwhile."""
    held, answer = threading.Event(), pack.answer
    pack.answer = lambda questions: (held.wait(10), answer(questions))[1]
    limits = Limits(max_batch=1, max_texts=40)
    with ask(pack, limits=limits) as client, ThreadPoolExecutor(1) as threads:
        body = {"domain": "plain", "texts": ["a"] * 40}
        first = threads.submit(client.post, "/predict", json=body)
        wait_until(client, 40)
        refused = client.post("/predict", json=body)
        held.set()

        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        assert "40 wait already and at most 64 may" in error_of(refused)
        assert len(first.result().json()["predictions"]) == 40


def test_requests_of_clients_that_left_are_not_answered(client, pack):
    """The worker is held; of the two that wait, the one whose client left is dropped."""
    service, held, answer, answered = client.app.state.service, threading.Event(), pack.answer, []

    def hold(questions):
        held.wait(10)
        answered.extend(question.text for question in questions)
        return answer(questions)

    async def leave() -> None:
        scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"",
                 "headers": [(b"content-type", b"application/json")]}  # fmt: skip
        body = b'{"domain": "plain", "texts": ["gone"]}'
        messages = [{"type": "http.request", "body": body}, {"type": "http.disconnect"}]

        async def receive():
            if len(messages) == 1:
                await asyncio.sleep(0.3)
            return messages.pop(0)

        async def send(_):
            pytest.fail("nobody is there to be answered")

        await client.app(scope, receive, send)

    pack.answer = hold
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(client.post, "/predict", json={"domain": "plain", "texts": ["a"]})
        wait_until(client, 1)
        client.portal.call(leave)
        assert service._batcher.waiting == 1
        held.set()
        assert first.result().status_code == 200
        assert client.post("/predict", json={"domain": "plain", "texts": ["b"]}).status_code == 200

    assert answered == ["a", "b"]


def test_a_batch_that_fails_is_one_error_and_the_next_is_answered(client, pack):
    answer = pack.answer
    pack.answer = lambda questions: 1 / 0
    failed = client.post("/predict", json={"domain": "plain", "texts": ["a"]})
    pack.answer = answer

    assert failed.status_code == 500 and "the server's log" in error_of(failed)
    assert client.post("/predict", json={"domain": "plain", "texts": ["a"]}).status_code == 200


def test_only_the_bearer_of_the_token_is_let_in(pack):
    with ask(pack, token="s3cret") as client:
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
    with ask(pack, adapting=adapting) as client:
        body = {"domain": "new", **LABELED, "save": True, "steps": 3}
        begun = client.post("/adapt", json=body)
        assert begun.status_code == 202 and begun.json()["status"] == "waiting"
        done = wait_for(client, begun.json()["job"])
        assert done["status"] == "done", done
        assert done["steps_done"] == done["steps"] == 6
        assert done["report"]["steps"] == 3 and done["report"]["examples"] == len(SUPPORT)
        assert done["saved_to"] == "new"
        texts = draw_texts(3, seed=6)
        found = client.post("/predict", json={"domain": "new", "texts": texts}).json()
        saved = AdaptedModel.from_pretrained(tmp_path / "adapted" / "new").predict(texts)
        for one, expected in zip(found["predictions"], saved, strict=True):
            assert one["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
        again = client.post("/adapt", json=body)
        assert again.status_code == 409 and "`replace`" in error_of(again)
        again = client.post("/adapt", json={**body, "replace": True, "save": False})
        assert wait_for(client, again.json()["job"])["saved_to"] is None
        assert read_metric(client, 'nlp_meta_adaptations_total{status="done"}') == 2


def test_texts_in_which_there_is_nothing_are_kept_without_an_answer_where_asked(client):
    body = {"domain": "plain", "texts": ["a good room", " \u200b", "bad"], "empty": "keep"}
    whole = client.post("/predict", json=body).json()["predictions"]
    alone = client.post("/predict", json={**body, "texts": ["a good room", "bad"]}).json()
    none = client.post("/predict", json={**body, "texts": ["", " "]}).json()["predictions"]
    refused = client.post("/predict", json={**body, "empty": "stop"})

    assert whole[1] is None and none == [None, None]
    assert [row["label"] for row in (whole[0], whole[2])] == [
        row["label"] for row in alone["predictions"]
    ]
    assert refused.status_code == 422 and "text 2 of 3: it is empty" in error_of(refused)


def test_examples_that_are_left_out_are_told(pack, make_meta):
    """Three examples more, without a text, without a label and of a label that is dropped."""
    texts, labels = [*SUPPORT, " ", "what", "who"], [*SUPPORT_LABELS, "positive", "", "Unclear"]
    body = {"texts": texts, "labels": labels, "companion": "none", "steps": 2}
    with ask(pack, adapting=Adapting(make_meta(), "meta", None)) as client:
        more = {"domain": "more", **body, "drop_labels": ["unclear"], "empty": "skip"}
        jobs = [
            client.post("/adapt", json=sent).json()["job"]
            for sent in (more, {"domain": "same", **LABELED, "steps": 2})
        ]
        done, _ = (wait_for(client, job) for job in jobs)
        answers = [
            client.post("/predict", json={"domain": domain, "texts": SUPPORT}).json()["predictions"]
            for domain in ("more", "same")
        ]

    assert done["report"]["examples"] == len(SUPPORT)
    assert done["notes"] == [
        "1 of 9 rows have no text and are left out (example 7)",
        "1 of 9 rows have no label and are left out (example 8)",
        "1 of 7 rows are labeled 'unclear' and are left out",
    ]
    assert answers[0] == answers[1]


def test_no_text_is_logged_or_told_to_others(pack, make_meta, tmp_path, caplog, capfd):
    """Jobs that are done, refused and that fail as nobody foresaw, with the text in the error."""
    caplog.set_level(logging.DEBUG)
    planted = [f"qz{place}wjk" for place in range(len(SUPPORT))]
    texts = [f"{word} {text}" for word, text in zip(planted, SUPPORT, strict=True)]
    body = {"texts": texts, "labels": SUPPORT_LABELS, "steps": 1}
    adapting = Adapting(make_meta(), "meta", tmp_path)

    def fail(*_given: object, **_options: object):
        raise KeyError(texts[0])

    with quiet_log(), ask(pack, adapting=adapting) as client:
        jobs = [client.post("/adapt", json={"domain": "new", **body, "save": True}).json()["job"]]
        wait_for(client, jobs[0])
        client.post("/predict", json={"domain": "new", "texts": texts})
        client.post("/adapt", json={"domain": "bad", **body, "labels": texts})
        client.app.state.service.jobs._adapt = fail
        jobs.append(client.post("/adapt", json={"domain": "bad", **body}).json()["job"])
        assert wait_for(client, jobs[1])["status"] == "failed"
        pack.answer = fail
        assert client.post("/predict", json={"domain": "plain", "texts": texts}).status_code == 500
        told = "".join(client.get(f"/adapt/{job}").text for job in jobs)
        told += client.get("/metrics").text + client.get("/domains").text

    told += caplog.text + "".join(capfd.readouterr())
    saved = b"".join(path.read_bytes() for path in (tmp_path / "new").iterdir())
    assert "KeyError" in caplog.text
    assert not [word for word in planted if word in told or word.encode() in saved]


def test_a_folder_that_cannot_take_the_model_is_told_before_the_work(pack, make_meta, tmp_path):
    """Somebody's file, and a file in place of the folder."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    with ask(pack, adapting=Adapting(make_meta(), "meta", tmp_path)) as client:
        for domain, reason in (("notes", "it holds other things: todo.txt"), ("file", "not a f")):
            body = {"domain": domain, **LABELED, "save": True, "steps": 50_000}
            refused = client.post("/adapt", json=body)
            assert refused.status_code == 409
            message = error_of(refused)
            assert reason in message and str(tmp_path) not in message
            assert message.endswith("choose another `domain`, or set `save` to false")

    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "notes", "todo.txt"]


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
        ({"save": True}, 409, "no folder for adapted models"),
        ({"texts": ["a"] * 21}, 413, "`texts`"),
        ({"labels": ["a" * 201] * 6}, 422, "shorten it in `labels`"),
        ({"seed": 2**32}, 422, "at most 4294967295"),
        ({"empty": "keep"}, 422, "one of stop, skip is needed; change `empty`"),
        ({"texts": [*SUPPORT[:-1], " "]}, 422, "text 6 of 6: it is empty"),
        ({"drop_labels": ["positive"]}, 422, "one label only"),
        ({"drop_labels": "positive"}, 422, "`drop_labels` is a string and a list is needed"),
        ({"labels": [1, 0] * 3}, 422, "`labels[0]` is a number 1 and a string is needed"),
        ({"label_map": {"a": 1}}, 422, "`label_map.a`"),
    ],
)
def test_what_nothing_can_be_learned_from_is_refused_at_once(
    pack, make_meta, changes, status, says
):
    adapting = Adapting(make_meta(), "meta", None)
    with ask(pack, adapting=adapting) as client:
        refused = client.post("/adapt", json={"domain": "new", **LABELED, **changes})

        assert refused.status_code == status
        assert says in error_of(refused)
        assert client.get("/adapt/none").status_code == 404


def test_an_adaptation_that_diverges_leaves_the_domains_as_they_were(pack, make_meta):
    adapting = Adapting(make_meta(), "meta", None)
    with ask(pack, adapting=adapting) as client:
        body = {"domain": "plain", **LABELED, "replace": True, "learning_rate": 1e30}
        before = client.post("/predict", json={"domain": "plain", "texts": ["good"]}).json()
        failed = wait_for(client, client.post("/adapt", json=body).json()["job"])

        assert failed["status"] == "failed" and failed["report"] is None
        assert "lower the `learning_rate`" in failed["error"]
        after = client.post("/predict", json={"domain": "plain", "texts": ["good"]}).json()
        assert json.dumps(after) == json.dumps(before)


def begin(client, name: str, **changes) -> str:
    answer = client.post("/adapt", json={"domain": name, **LABELED, **changes})
    assert answer.status_code == 202
    return answer.json()["job"]


def test_jobs_end_with_the_application(pack, make_meta, tmp_path):
    """What is saved is finished, what would be lost is stopped; one job a domain at a time."""
    adapting = Adapting(make_meta(steps=20), "meta", tmp_path)
    with ask(pack, adapting=adapting) as client:
        begin(client, "kept", save=True)
        begin(client, "lost")
        twice = client.post("/adapt", json={"domain": "lost", **LABELED})
        assert twice.status_code == 409 and "twice at once" in error_of(twice)

    assert sorted(pack.domains) == ["kept", "plain", "three"]
    assert AdaptedModel.from_pretrained(tmp_path / "kept").labels == ("negative", "positive")


def test_jobs_that_take_too_long_end_with_the_application_too(pack, make_meta, tmp_path):
    adapting = Adapting(make_meta(), "meta", tmp_path)
    with ask(pack, adapting=adapting, limits=Limits(stop_within=1.0)) as client:
        job = begin(client, "long", save=True, steps=50_000)
        while not client.get(f"/adapt/{job}").json()["steps_done"]:
            time.sleep(0.01)
        began = time.monotonic()

    assert time.monotonic() - began < 1.0
    assert sorted(pack.domains) == ["plain", "three"] and not list(tmp_path.iterdir())


def test_a_job_is_canceled_whether_it_waits_or_runs(pack, make_meta):
    with ask(pack, adapting=Adapting(make_meta(), "meta", None)) as client:
        running, waiting = begin(client, "long", steps=50_000), begin(client, "next")
        canceled = client.delete(f"/adapt/{waiting}")
        assert canceled.status_code == 202 and canceled.json()["status"] == "stopped"
        assert "was canceled" in canceled.json()["error"]
        again = begin(client, "next")
        while not client.get(f"/adapt/{running}").json()["steps_done"]:
            time.sleep(0.01)
        assert client.delete(f"/adapt/{running}").status_code == 202
        assert wait_for(client, running)["status"] == "stopped"
        assert wait_for(client, again)["status"] == "done"
        for job in (running, again):
            refused = client.delete(f"/adapt/{job}")
            assert refused.status_code == 409 and "one that waits or runs" in error_of(refused)
        assert client.delete("/adapt/none").status_code == 404
        assert sorted(pack.domains) == ["next", "plain", "three"]
        assert read_metric(client, 'nlp_meta_adaptations_total{status="stopped"}') == 2


def test_domains_are_called_as_their_folders_or_as_given():
    named = name_domains(["runs/real_estate/", "me/travel", "fashion=runs/adapted"], LIMITS)

    assert named == {"real_estate": "runs/real_estate/", "travel": "me/travel",
                     "fashion": "runs/adapted"}  # fmt: skip
    with pytest.raises(SettingsError, match=r"both as 'travel'"):
        name_domains(["me/travel", "you/travel"], LIMITS)
    with pytest.raises(SettingsError, match="choose another name"):
        name_domains(["a b=me/travel"], LIMITS)


def test_a_token_is_a_word_of_the_environment():
    """Or given; a variable that is set, but to nothing, does not open the door."""
    usual = "NLP_META_SERVE_TOKEN"
    assert read_token({}) is None
    assert read_token({"TOKEN": "word"}, token_env="TOKEN") == "word"
    assert read_token({usual: "word"}) == "word"
    assert read_token({usual: "word"}, token="other") == "other"
    for value in ("", "two words", " word", "\xe9", "wo\x1brd"):
        for name, given in (("TOKEN", "TOKEN"), (usual, None)):
            with pytest.raises(SettingsError, match=f"'{name}'"):
                read_token({name: value}, token_env=given)
        with pytest.raises(SettingsError, match="`token`"):
            read_token({}, token=value)
    with pytest.raises(SettingsError, match="token_env"):
        read_token({}, token_env="TOKEN")


def test_an_address_that_others_reach_needs_a_token():
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        check_reach(host, None)
    for host in ("0.0.0.0", "::", "192.168.1.7", "server.example", ""):
        check_reach(host, "word")
        with pytest.raises(SettingsError, match="NLP_META_SERVE_TOKEN"):
            check_reach(host, None)


def test_limits_of_bytes_let_every_request_within_the_others_through():
    """Each character written as two escapes, twelve bytes, in as many texts as may be."""
    limits = Limits(max_texts=7, max_characters=70)
    texts = ["\U0001f600" * 10] * 7
    body = {"domain": "x" * 100, "texts": texts, "labels": ["a"] * 7, "steps": 10}

    assert len(json.dumps(body, indent=4)) < limits.max_bytes
    assert np.isfinite(limits.max_waiting) and limits.max_waiting >= limits.max_texts
