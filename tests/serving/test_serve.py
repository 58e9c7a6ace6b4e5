"""`nlp-meta serve` as a process: many at once, changes meanwhile, and a stop that loses nothing."""

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from tiny_domains import SUPPORT, SUPPORT_LABELS, draw_texts

from nlp_meta.cli import main, read_options
from nlp_meta.models.classification import AdaptedModel

TOKEN = "s3cret"


@pytest.fixture
def saved_meta(make_meta, tmp_path):
    make_meta(steps=20).save_pretrained(tmp_path / "meta")
    return tmp_path / "meta"


@pytest.fixture
def server(folders, saved_meta, tmp_path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    options = {
        "--port": "0",
        "--token-env": "SERVE_TOKEN",
        "--max-batch": "16",
        "--start": str(saved_meta),
        "--adapted-dir": str(tmp_path / "adapted"),
        "--models-dir": str(folders["plain"].parent),
    }
    given = [word for option in options.items() for word in option]
    served = [f"stays={folders['plain']}", str(folders["three"])]
    process = subprocess.Popen(
        [sys.executable, "-m", "nlp_meta", "serve", "--json", *served, *given],
        env=os.environ | {"SERVE_TOKEN": TOKEN},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stderr:
            found = re.search(r"serving stays, three at (http://127\.0\.0\.1:\d+)", line)
            if found:
                break
        else:
            pytest.fail("the server has ended before it listened")
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_server_answers_many_at_once_and_finishes_what_it_accepted(
    server, models, folders, tmp_path
):
    """Then a stop comes while a long request and an adaptation are under way."""
    process, address = server
    assert httpx2.get(f"{address}/domains").status_code == 401
    headers = {"authorization": f"Bearer {TOKEN}"}
    with (
        httpx2.Client(base_url=address, headers=headers, timeout=60) as client,
        ThreadPoolExecutor(16) as threads,
    ):
        ask_while_domains_change(client, threads, models, folders)
        order = {"domain": "new", "texts": SUPPORT, "labels": SUPPORT_LABELS, "save": True}
        client.post("/adapt", json=order).raise_for_status()
        many = {"domain": "stays", "texts": draw_texts(512, seed=8)}
        long = threads.submit(client.post, "/predict", json=many)
        while "nlp_meta_waiting_texts 512.0" not in client.get("/metrics").text:
            assert not long.done()
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert len(long.result().raise_for_status().json()["predictions"]) == 512
    out, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    assert json.loads(out)["domains"] == ["stays", "three"]
    assert AdaptedModel.from_pretrained(tmp_path / "adapted" / "new").labels
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{address}/healthz")


@pytest.mark.slow
@pytest.mark.parametrize("signals", [1, 2])
def test_a_stop_ends_in_time_whatever_runs_and_at_once_when_it_is_asked_again(server, signals):
    """A long adaptation that is to be saved, and half a request; by default in 6 seconds."""
    process, address = server
    headers = {"authorization": f"Bearer {TOKEN}"}
    order = {"domain": "new", "texts": SUPPORT, "labels": SUPPORT_LABELS, "save": True}
    job = httpx2.post(
        f"{address}/adapt", json={**order, "steps": 100_000}, headers=headers, timeout=60
    ).json()["job"]
    while not httpx2.get(f"{address}/adapt/{job}", headers=headers).json()["steps_done"]:
        time.sleep(0.05)
    port = int(address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as half:
        half.sendall(
            f"POST /predict HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n"
            "content-length: 99\r\n\r\n{".encode()
        )
        time.sleep(0.3)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        if signals == 2:
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
        out = process.stdout.readline()  # the last thing that it says
        took = time.monotonic() - began
        code = process.wait(60)

    if signals == 1:
        assert code == 0 and json.loads(out)["domains"] == ["stays", "three"]
    else:
        assert code == -signal.SIGTERM and not out
    assert took < (10 if signals == 1 else 4)


def ask_while_domains_change(client, threads, models, folders) -> None:
    """Eighty requests, of which some are for a domain that is being replaced."""
    texts = draw_texts(80, seed=7)
    names = [("stays", "three", "changes")[i % 3] for i in range(80)]
    client.put("/domains/changes", json={"model": str(folders["other"])}).raise_for_status()
    bodies = [{"domain": n, "texts": [t]} for n, t in zip(names, texts, strict=True)]
    answers = [threads.submit(client.post, "/predict", json=body) for body in bodies]
    for model in ("seven", "other", "seven"):
        client.put("/domains/changes", json={"model": str(folders[model])}).raise_for_status()
    for name, text, answer in zip(names, texts, answers, strict=True):
        found = answer.result().raise_for_status().json()["predictions"][0]["probabilities"]
        kinds = {"stays": ["plain"], "changes": ["other", "seven"]}.get(name, [name])
        expected = [models[kind].predict([text])[0].probabilities for kind in kinds]
        assert any(found == pytest.approx(one, abs=1e-5) for one in expected)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "cannot find the model 'nowhere'|cannot load|cannot pull"),
        (["a", "b/a"], "both as 'a'"),
        (["a", "--token-env", "NLP_META_NO_SUCH"], "'NLP_META_NO_SUCH'"),
        (["a", "--adapted-dir", "out"], "--start"),
        (["a", "--host", "203.0.113.7", "--token", "word"], "host`"),
        (["a", "--host", "0.0.0.0"], "NLP_META_SERVE_TOKEN"),
        (["a", "--token", "two words"], "--token`"),
        (["a", "--models-dir", "nowhere"], "--models-dir`"),
        (["a", "b", "--max-domains", "1"], "--max-domains`"),
    ],
)
def test_what_cannot_be_served_is_one_sentence_and_exit_code_2(capfd, arguments, says):
    assert main(["serve", "--port", "0", *arguments]) == 2

    error = capfd.readouterr().err
    assert error.startswith("error: cannot") and error.count("\n") == 1
    assert re.search(says, error)


def test_a_port_in_use_is_said_before_anything_is_loaded(capfd):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "nowhere", "--port", port]) == 2

    assert f"at port {port}: address already in use" in capfd.readouterr().err


def test_a_missing_package_names_the_extra(monkeypatch, capfd):
    find_spec = importlib.util.find_spec
    missing = "prometheus_client"
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else find_spec(name)
    )
    assert main(["serve", "a"]) == 2

    assert "pip install 'nlp-meta[serve]'" in capfd.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["a", "--port", "70000"],
        ["a", "--max-batch", "0"],
        ["a", "--max-wait-ms", "99999"],
        ["a", "--stop-within", "0"],
        ["a", "--token", "x", "--token-env", "Y"],
        [],
    ],
)
def test_options_that_are_wrong_are_refused(capfd, arguments):
    with pytest.raises(SystemExit) as left:
        main(["serve", *arguments])

    assert left.value.code == 2
    assert capfd.readouterr().err.startswith("error: ")


def test_the_container_serves_as_nobody_in_particular():
    """Docker is not at hand: the words of its entry point are those of the command."""
    text = (Path(__file__).resolve().parents[2] / "Dockerfile").read_text(encoding="utf-8")
    (entry,) = re.findall(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE)
    words = json.loads(entry)

    assert words[0] == "nlp-meta" and read_options([*words[1:], "a=b"]).host == "0.0.0.0"
    user = re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1]
    assert user not in ("root", "0") and text.index("USER") < text.index("ENTRYPOINT")
