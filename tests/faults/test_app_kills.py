"""The app is killed at random moments while labels come in, and no label that it took is lost."""

import http.client
import os
import random
import re
import signal
import subprocess
import sys
import threading
from contextlib import closing
from urllib.parse import urlencode

import pytest

from nlp_meta.files.projects import LABELED, Project

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("NLP_META_KILLS", "3"))
TOKEN, TEXTS = "a-word-that-lets-in", 50_000


SERVER = """
import os, socket, sys
from pathlib import Path

from nlp_meta.app.server import build_app
from nlp_meta.files.projects import Project
from nlp_meta.serving.server import run_server

for _ in sys.stdin:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        child = os.fork()
        if child == 0:
            project = Project(Path(sys.argv[1]))
            run_server(build_app(project, token=sys.argv[2], order=lambda _: None), listening)
            os._exit(0)
        print(child, listening.getsockname()[1], flush=True)
    os.waitpid(child, 0)
"""
"""Imports the app once, and opens it anew at each line."""


def give_labels(port: int, cookie: str, taken: list[tuple[int, str]]) -> None:
    """Label until the server is gone; what it answered to is noted after the answer came whole."""
    form = {
        "cookie": cookie,
        "hx-request": "true",
        "content-type": "application/x-www-form-urlencoded",
    }
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as ask:
        try:
            ask.request("GET", "/label", headers={"cookie": cookie})
            page = ask.getresponse().read().decode()
            while True:
                fields = dict(re.findall(r'name="(row|version|is_random)" value="(\d+)"', page))
                label = random.choice(("good", "bad"))
                body = urlencode({**fields, "do": f"label:{label}"})
                ask.request("POST", "/label", body, form)
                page = ask.getresponse().read().decode()
                taken.append((int(fields["row"]), label))
        except (OSError, http.client.HTTPException):
            return


def enter(port: int) -> str:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as ask:
        ask.request("GET", f"/?token={TOKEN}")
        return (ask.getresponse().getheader("set-cookie") or "").partition(";")[0]


def test_no_label_is_lost_when_the_app_is_killed(tmp_path):
    project = Project(tmp_path / "p", create=True)
    texts = [f"text {place}" for place in range(TEXTS)]
    given = {"text_column": "text", "columns": ["text"], "given": [None] * TEXTS}
    project.set_up(texts, [{}] * TEXTS, labels=["good", "bad"], **given)
    project.close()
    command = [sys.executable, "-c", SERVER, str(tmp_path / "p"), TOKEN]
    taken: list[tuple[int, str]] = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as servers:
        for kill in range(KILLS):
            servers.stdin.write("\n")
            server, port = map(int, servers.stdout.readline().split())
            client = threading.Thread(target=give_labels, args=(port, enter(port), taken))
            client.start()
            client.join(random.Random(kill).uniform(0.1, 0.6))
            os.kill(server, signal.SIGKILL)
            client.join()

    kept = {row.id: row.label for row in Project(tmp_path / "p").list_rows(LABELED)}
    lost = [row for row, label in taken if kept.get(row) != label]
    assert len(taken) > KILLS and lost == []
