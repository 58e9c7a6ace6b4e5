"""A server at its limit, with hostile clients: what it answered, lost and held, and how it ended.

    python tests/faults/serving_soak.py MODEL... --start START --seconds 600 --output soak.json

Each answer is held against that of the model alone. Beside those who ask in earnest there are
clients of each kind below; domains come and go, adaptations are begun and canceled. At the end
the server gets SIGTERM while all that goes on. Leaves with 1 where the answers, the memory or the
stop are not as they must be.
"""

import argparse
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil

from nlp_meta.models.classification import AdaptedModel

WORDS = (
    "the agent was great we hated this cold room and slow staff but i loved it never again".split()
)
JSON = {"content-type": "application/json", "connection": "close"}
HEAD = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
WARM_UP = 15.0
MOST_GROWTH, MOST_STOP, MOST_HEALTH = 1.10, 10.0, 5.0
"""Of the memory, as a share; of the stop and of `/healthz`, in seconds."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=8, help="that ask in earnest")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    models = {path.name: path.resolve() for path in options.models}
    texts = [" ".join(random.Random(i).choices(WORDS, k=1 + i % 40)) for i in range(200)]
    expected = {
        name: [p.probabilities for p in AdaptedModel.from_pretrained(path).predict(texts)]
        for name, path in models.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(models, texts, expected, Path(folder))
        result = soak.run(options.start, options.seconds, options.clients)
    print(json.dumps(result, indent=1))
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if result["right"] else 1


class Soak:
    """One server, all its clients, and what they saw."""

    def __init__(self, models, texts, expected, folder: Path) -> None:
        self.models, self.texts, self.expected, self.folder = models, texts, expected, folder
        self.counts: Counter[str] = Counter()
        self.health: list[float] = []
        self.ends, self.stopped_at = threading.Event(), float("inf")
        self.first = next(iter(models))

    def run(self, meta: Path | None, seconds: float, clients: int) -> dict[str, object]:
        log = self.folder / "log"
        process = self.start(meta, log)
        server = psutil.Process(process.pid)
        kinds: list[Callable[[random.Random], None]] = [
            *([self.ask] * clients), self.leave, self.half_head, self.half_body, self.drip,
            self.never_read, self.garbage, self.too_large, self.flood, self.odd_json, self.load,
            *([self.adapt] if meta else []), self.watch,
        ]  # fmt: skip
        threads = [
            threading.Thread(target=self.go_on, args=(kind, seed), daemon=True)
            for seed, kind in enumerate(kinds)
        ]
        for thread in threads:
            thread.start()
        time.sleep(WARM_UP)
        began, memory = time.monotonic(), [server.memory_info().rss]
        while time.monotonic() - began < seconds and process.poll() is None:
            time.sleep(min(5.0, seconds))
            memory.append(server.memory_info().rss)
        self.stopped_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
        took = time.monotonic() - self.stopped_at
        self.ends.set()
        for thread in threads:
            thread.join(20)
        return self.judge(memory, code, took, seconds, log)

    def judge(self, memory, code, took, seconds, log) -> dict[str, object]:
        tenth = max(1, len(memory) // 10)
        first, last = (sum(part) / len(part) for part in (memory[:tenth], memory[-tenth:]))
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        right = (
            self.counts["wrong"] == self.counts["lost"] == self.counts["failed"] == code == 0
            and self.counts["right"] > 0
            and last / first < MOST_GROWTH
            and took < MOST_STOP
            and max(self.health) < MOST_HEALTH
        )
        return {
            "right": right,
            "seconds": seconds,
            "counts": dict(sorted(self.counts.items())),
            "rss_mb_begin": first / 2**20,
            "rss_mb_end": last / 2**20,
            "rss_mb_most": max(memory) / 2**20,
            "healthz_seconds_most": max(self.health),
            "stop_seconds": took,
            "exit_code": code,
            "log_lines": len(lines),
            "log_tail": lines[-5:],
        }

    def start(self, meta: Path | None, log: Path) -> subprocess.Popen[bytes]:
        served = [f"{name}={path}" for name, path in self.models.items()]
        root = os.path.commonpath([path.parent for path in self.models.values()])
        given = ["--port", "0", "--models-dir", root, "--max-batch", "16"]
        if meta:
            given += ["--start", str(meta), "--adapted-dir", str(self.folder / "adapted")]
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "nlp_meta", "serve", *served, *given], stderr=file
            )
        while not (match := re.search(rb"http://127\.0\.0\.1:(\d+)", log.read_bytes())):
            if process.poll() is not None:
                sys.exit(f"the server has ended: {log.read_text()}")
            time.sleep(0.1)
        self.port = int(match[1])
        return process

    def go_on(self, kind: Callable[[random.Random], None], seed: int) -> None:
        generator = random.Random(seed)
        while not self.ends.is_set():
            try:
                kind(generator)
            except (OSError, HTTPException):
                self.counts[f"closed on {kind.__name__}"] += 1
                time.sleep(0.1)

    def request(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        client = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            content = None if body is None else json.dumps(body).encode()
            client.request(method, path, content, JSON)
            answer = client.getresponse()
            return answer.status, answer.read()
        finally:
            client.close()

    def ask(self, generator: random.Random) -> None:
        """In earnest: each answer is right, or a 503 says that there is none."""
        name = generator.choice(list(self.models))
        rows = generator.sample(range(len(self.texts)), generator.choice((1, 1, 4, 16)))
        body = {"domain": name, "texts": [self.texts[row] for row in rows]}
        try:
            status, content = self.request("POST", "/predict", body)
        except ConnectionRefusedError:  # nobody listens any more
            self.ends.wait(0.1)
            self.counts["lost"] += not self.is_stopping()
            return
        except (OSError, HTTPException):
            self.counts["closed at the stop" if self.is_stopping() else "lost"] += 1
            return
        if status == 503:
            self.counts["refused at the stop" if self.is_stopping() else "refused"] += 1
            return
        answers = json.loads(content).get("predictions", [])
        right = status == 200 and len(answers) == len(rows)
        for row, answer in zip(rows, answers, strict=False):
            for label, share in self.expected[name][row].items():
                right = right and abs(answer["probabilities"][label] - share) < 1e-4
        self.counts["right" if right else "wrong"] += 1

    def is_stopping(self) -> bool:
        return time.monotonic() > self.stopped_at

    def watch(self, _: random.Random) -> None:
        began = time.monotonic()
        try:
            status, _ = self.request("GET", "/healthz")
        except (OSError, HTTPException):
            status = 0
        if not self.is_stopping():
            self.health.append(time.monotonic() - began)
            self.counts["failed"] += status != 200
            self.request("GET", "/metrics")
        time.sleep(0.2)

    def load(self, generator: random.Random) -> None:
        name = f"comes_{generator.randrange(10**9)}"
        model = self.models[self.first].name
        self.counts[f"PUT {self.request('PUT', f'/domains/{name}', {'model': model})[0]}"] += 1
        self.request("POST", "/predict", {"domain": name, "texts": ["good"]})
        self.request("DELETE", f"/domains/{name}")
        self.request("PUT", f"/domains/{name}", {"model": "../" * 9 + "etc"})
        time.sleep(0.2)

    def adapt(self, generator: random.Random) -> None:
        body = {"domain": f"new_{generator.randrange(4)}", "replace": True, "steps": 2000,
                "texts": self.texts[1:9], "labels": ["a", "b"] * 4,
                "save": generator.random() < 0.2}  # fmt: skip
        status, content = self.request("POST", "/adapt", body)
        self.counts[f"POST /adapt {status}"] += 1
        time.sleep(generator.random())
        if status == 202:
            self.request("DELETE", f"/adapt/{json.loads(content)['job']}")

    def leave(self, generator: random.Random) -> None:
        """Ask for much and do not wait for it."""
        body = json.dumps({"domain": self.first, "texts": self.texts[:64]}).encode()
        with self.connect() as client:
            client.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
            time.sleep(0.2 * generator.random())
        time.sleep(0.5)

    def half_head(self, generator: random.Random) -> None:
        self.hold(HEAD[: generator.randrange(len(HEAD))], 60)

    def half_body(self, generator: random.Random) -> None:
        body = b"content-length: 2000000\r\n\r\n" + b"[" * generator.randrange(500_000)
        self.hold(HEAD + body, 20)

    def hold(self, half: bytes, number: int) -> None:
        clients = [self.connect() for _ in range(number)]
        try:
            for client in clients:
                client.sendall(half)
            time.sleep(5)
        finally:
            for client in clients:
                client.close()

    def drip(self, _: random.Random) -> None:
        with self.connect() as client:
            while not self.ends.is_set():
                client.sendall(b"x")
                time.sleep(0.3)

    def never_read(self, _: random.Random) -> None:
        with self.connect() as client:
            client.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n" * 300)
            time.sleep(3)

    def garbage(self, generator: random.Random) -> None:
        with self.connect() as client:
            client.sendall(generator.randbytes(generator.randrange(1, 100_000)) + b"\r\n\r\n")
            client.recv(1000)
        time.sleep(0.05)

    def too_large(self, _: random.Random) -> None:
        with self.connect() as client:
            client.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
            for _ in range(100):
                client.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            self.counts[f"too large {client.recv(1000)[9:12].decode()}"] += 1
        time.sleep(0.2)

    def flood(self, _: random.Random) -> None:
        for client in [self.connect() for _ in range(100)]:
            client.close()
        time.sleep(0.5)

    def odd_json(self, generator: random.Random) -> None:
        body = generator.choice(
            [
                b"[" * 100_000,
                b'{"a":' * 50_000,
                b'{"texts": [' + b"1," * 400_000 + b"1]}",
                b'{"domain": "\\ud800"}',
                b"\xff",
                b"NaN",
                b'{"\x1b[2J": 1}',
            ]
        )
        client = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            client.request("POST", "/predict", body, JSON)
            self.counts[f"odd JSON {client.getresponse().status}"] += 1
        finally:
            client.close()
        time.sleep(0.05)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)


if __name__ == "__main__":
    sys.exit(main())
