"""The app is killed at random moments while labels come in, and no label that it took is lost."""

import http.client
import multiprocessing
import os
import random
import re
import socket
import threading
from pathlib import Path
from urllib.parse import urlencode

import pytest

from nlp_meta.files.projects import LABELED, Project

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("NLP_META_KILLS", "3"))
TOKEN, TEXTS = "a-word-that-lets-in", 100_000


def answer_requests(folder: Path, listening: socket.socket) -> None:
    from nlp_meta.app.server import build_app
    from nlp_meta.serving.server import run_server

    run_server(build_app(Project(folder), token=TOKEN, order=lambda order: None), listening)


def give_labels(port: int, cookie: str, taken: list[tuple[int, str]]) -> None:
    """Label until the server is gone; what it answered to is noted after the answer came whole."""
    ask = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"cookie": cookie, "hx-request": "true"}
    form = {**headers, "content-type": "application/x-www-form-urlencoded"}
    try:
        ask.request(
            "POST", "/label", urlencode({"do": "skipped"} | read_fields(ask, headers)), form
        )
        page = ask.getresponse().read().decode()
        while True:
            fields = dict(re.findall(r'name="(row|version|is_random)" value="(\d+)"', page))
            label = random.choice(("good", "bad"))
            ask.request("POST", "/label", urlencode({**fields, "do": f"label:{label}"}), form)
            page = ask.getresponse().read().decode()
            taken.append((int(fields["row"]), label))
    except (OSError, http.client.HTTPException):
        return


def read_fields(ask: http.client.HTTPConnection, headers: dict[str, str]) -> dict[str, str]:
    ask.request("GET", "/label", headers={"cookie": headers["cookie"]})
    page = ask.getresponse().read().decode()
    return dict(re.findall(r'name="(row|version|is_random)" value="(\d+)"', page))


def enter(port: int) -> str:
    ask = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    ask.request("GET", f"/?token={TOKEN}")
    return (ask.getresponse().getheader("set-cookie") or "").partition(";")[0]


def test_no_label_is_lost_when_the_app_is_killed(tmp_path):
    project = Project(tmp_path / "p", create=True)
    texts = [f"text {place}" for place in range(TEXTS)]
    given = {"text_column": "text", "columns": ["text"], "given": [None] * TEXTS}
    project.set_up(texts, [{}] * TEXTS, labels=["good", "bad"], **given)
    project.close()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nlp_meta.app.server", "nlp_meta.serving.server"])
    taken: list[tuple[int, str]] = []
    for kill in range(KILLS):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            server = context.Process(target=answer_requests, args=(tmp_path / "p", listening))
            server.start()
        client = threading.Thread(target=give_labels, args=(port, enter(port), taken))
        client.start()
        client.join(random.Random(kill).uniform(0.02, 0.4))
        server.kill()
        server.join()
        client.join()

    kept = {row.id: row.label for row in Project(tmp_path / "p").list_rows(LABELED)}
    lost = [row for row, label in taken if kept.get(row) != label]
    assert len(taken) > KILLS and lost == []
