"""Slow and hostile clients of a server: what they do, and what the others get meanwhile.

The server is a real one on a port of this machine; its times are short so that they pass here.
"""

import importlib.util
import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from nlp_meta.escapes import visible
from nlp_meta.serving.app import build_app
from nlp_meta.serving.limits import Limits
from nlp_meta.serving.pack import DomainPack
from nlp_meta.serving.server import MOST, make_server, quiet_log

DOMAINS = Path(__file__).parents[1] / "serving" / "domains.py"
LIMITS = Limits(
    max_batch=8,
    max_texts=20,
    max_characters=3000,
    stop_within=3.0,
    max_connections=16,
    head_seconds=0.5,
    body_seconds=0.5,
    write_seconds=0.5,
)
HEAD = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
BODY = b'{"domain": "plain", "texts": ["good"]}'


@pytest.fixture(scope="module")
def model(tiny_encoder):
    place = importlib.util.spec_from_file_location("domains_of_faults", DOMAINS)
    domains = importlib.util.module_from_spec(place)
    sys.modules[place.name] = domains
    place.loader.exec_module(domains)
    return domains.build_domain(tiny_encoder, domains.Shape(), seed=0)


@contextmanager
def serve(model) -> Iterator[tuple[int, DomainPack, threading.Thread]]:
    """A server in a thread of this process; it is told to stop at the end, if it has not been."""
    pack = DomainPack(model, name="plain")
    app = build_app(pack, limits=LIMITS)
    listening = socket.create_server(("127.0.0.1", 0))
    server = make_server(app, limits=LIMITS, on_stop=app.state.service.stop)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.stop = lambda: setattr(server, "should_exit", True)
    thread.start()
    try:
        with quiet_log():
            yield listening.getsockname()[1], pack, thread
    finally:
        thread.stop()
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def port(model) -> Iterator[int]:
    with serve(model) as (port, _, _):
        yield port


@pytest.fixture
def connect() -> Iterator[Callable[..., socket.socket]]:
    """Connect as a client, whose socket is closed after the test."""
    with ExitStack() as stack:

        def make(port: int, *, buffer: int = 2**16) -> socket.socket:
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.settimeout(5)
            client.connect(("127.0.0.1", port))
            return client

        yield make


def read_all(client: socket.socket) -> bytes:
    """Until the server closes; a reset is no answer."""
    read = b""
    while piece := client.recv(65536):
        read += piece
    return read


def send_on(client: socket.socket, piece: bytes) -> None:
    """For five seconds, or until the server closes."""
    for _ in range(100):
        client.sendall(piece)
        time.sleep(0.05)


def status_of(answer: bytes) -> int:
    """Of a refusal, which is a problem in JSON."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    problem = json.loads(body)
    assert problem["detail"].startswith("cannot") and "Traceback" not in problem["detail"]
    return problem["status"]


def check_others(port: int) -> None:
    """Whoever asks in earnest is answered at once, and rightly."""
    began = time.monotonic()
    address = f"http://127.0.0.1:{port}"
    assert httpx2.get(f"{address}/healthz", timeout=2).json()["status"] == "ok"
    asked = httpx2.post(
        f"{address}/predict", content=BODY, headers={"content-type": "application/json"}, timeout=2
    )
    assert len(asked.json()["predictions"]) == 1
    assert time.monotonic() - began < 2


HALVES = {
    "nothing": b"",
    "a word": b"GET",
    "half a head": HEAD,
    "half a body": HEAD + b"content-length: 100\r\n\r\n{",
    "half a chunk": HEAD + b"transfer-encoding: chunked\r\n\r\n10\r\n{",
    "no body": HEAD + b"content-length: 100\r\n\r\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES)
def test_half_requests_hold_nothing(connect, port, half):
    """Three times as many as connections may be open."""
    clients = [connect(port) for _ in range(3 * LIMITS.max_connections)]
    for client in clients:
        client.sendall(half)
    check_others(port)
    began, statuses = time.monotonic(), []
    for client in clients:
        try:
            answer = read_all(client)
        except ConnectionError:
            answer = b""
        statuses.append(status_of(answer) if answer else None)

    assert time.monotonic() - began < 5
    # Those that had to give way were closed, the others were told.
    assert set(statuses) <= {408, 503, None} and statuses.count(408) >= 10
    check_others(port)


@pytest.mark.slow
def test_a_head_that_comes_byte_by_byte_ends_in_time(connect, port):
    client = connect(port)
    began = time.monotonic()
    with pytest.raises(ConnectionError):
        send_on(client, b"x")
    assert LIMITS.head_seconds - 0.1 < time.monotonic() - began < 4.5


@pytest.mark.slow
def test_a_body_that_comes_byte_by_byte_ends_in_time(connect, port):
    client = connect(port)
    client.sendall(HEAD + b"content-length: 1000\r\n\r\n")
    began = time.monotonic()
    answer = b""
    client.setblocking(False)
    while not answer and time.monotonic() - began < 4:
        client.send(b" ")
        time.sleep(0.05)
        try:
            answer = client.recv(65536)
        except BlockingIOError:
            continue
    assert status_of(answer) == 408
    assert time.monotonic() - began < 2


@pytest.mark.slow
def test_a_client_that_never_reads_its_answers_is_let_go(connect, model):
    """It asks for a large page again and again; what is not taken is held for a moment only."""
    with serve(model) as (port, _, _):
        clients = []
        for _ in range(LIMITS.max_connections):
            client = connect(port, buffer=2048)
            client.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n" * 500)
            clients.append(client)
        check_others(port)
        time.sleep(2 * LIMITS.write_seconds + 0.5)
        check_others(port)
        for client in clients:
            with pytest.raises(ConnectionError):
                send_on(client, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")


TOO_LARGE = {
    "declared": (b"content-length: 100000000\r\n\r\n", b"x" * 65536),
    "chunked": (b"transfer-encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
}


@pytest.mark.parametrize(("how", "piece"), TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_body_that_is_too_large_gets_its_413_while_it_is_sent(connect, port, how, piece):
    """The client sends 6 MB before it looks for an answer, as many do."""
    client = connect(port)
    client.sendall(HEAD + how)
    for _ in range(100):
        client.sendall(piece)
    client.shutdown(socket.SHUT_WR)
    assert status_of(read_all(client)) == 413
    check_others(port)


@pytest.mark.slow
def test_a_client_that_asks_before_it_sends_is_told_without_sending(connect, port):
    """By `expect: 100-continue`, as curl does."""
    client = connect(port)
    client.sendall(HEAD + b"expect: 100-continue\r\ncontent-length: 99999999\r\n\r\n")
    answer = read_all(client)
    assert status_of(answer) == 413 and b"100 Continue" not in answer


GARBAGE = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 40,
    "long head": b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"x" * 200_000,
    "long path": b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n",
    "two lengths": HEAD + b"content-length: 3\r\ncontent-length: 4\r\n\r\n{}  ",
    "long length": HEAD + b"content-length: " + b"9" * 5000 + b"\r\n\r\n",
    "minus length": HEAD + b"content-length: -1\r\n\r\n",
    "bad chunk": HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    "null": b"GET /\x00 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "split": b"GET / HTTP/1.1\r\nhost: localhost\r\nx: a\rb: c\r\n\r\n",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_http_is_refused(connect, port, garbage):
    client = connect(port)
    client.sendall(garbage)
    assert status_of(read_all(client)) in (400, 413)
    check_others(port)


def test_requests_that_come_at_once_are_answered_in_their_order(connect, port):
    asked = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
    other = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    client = connect(port)
    client.sendall(asked + other + asked + other.replace(b"GET /h", b"GET /nowhere/h"))
    client.settimeout(2)
    answers = b""
    while b"see /docs" not in answers:
        answers += client.recv(65536)
    statuses = [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]

    assert statuses == [200, 200, 200, 404]


def test_an_upgrade_is_not_taken(connect, port):
    head = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, close\r\n"
    client = connect(port)
    client.sendall(head + b"upgrade: websocket\r\n\r\n")
    assert read_all(client).startswith(b"HTTP/1.1 200")


def test_no_client_fills_the_log(connect, port, caplog):
    """A hundred faults are ten lines, and none steers a terminal."""
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            client = connect(port)
            client.sendall(b"\x1b[2J\x1b]0;evil\x07 / HTTP/1.1\r\nconnection: upgrade\r\n\r\n")
            read_all(client)
        for _ in range(30):
            client = connect(port)
            client.sendall(
                b"GET /%1b[2J HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, close\r\n"
                b"upgrade: x\r\n\r\n"
            )
            read_all(client)

    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) <= MOST
    assert all(line.isprintable() for line in lines)
    assert visible("a\x1b[2J\r\nb\u202ec") == "a\\x1b[2J\\r\\nb\\u202ec"


def test_a_stop_does_not_wait_for_half_requests(connect, model):
    """They get a 503, or are closed where not even a head has come in."""
    with serve(model) as (port, _, thread):
        clients = [connect(port) for _ in HALVES]
        for client, half in zip(clients, HALVES.values(), strict=True):
            client.sendall(half)
        time.sleep(0.2)
        began = time.monotonic()
        thread.stop()
        answers = []
        for client in clients:
            answers.append(read_all(client))
        thread.join(5)

        assert time.monotonic() - began < 1.5
        assert answers[:3] == [b""] * 3
        assert all(status_of(answer) == 503 for answer in answers[3:])


@pytest.mark.slow
def test_a_stop_answers_what_was_accepted_or_says_that_it_does_not(connect, model):
    """The worker is held for longer than the stop may take."""
    with serve(model) as (port, pack, thread):
        held, answer = threading.Event(), pack.answer
        pack.answer = lambda questions: (held.wait(8), answer(questions))[1]
        clients = [connect(port) for _ in range(5)]
        for client in clients:
            client.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY)
        time.sleep(0.2)
        began = time.monotonic()
        thread.stop()
        for client in clients:
            assert status_of(read_all(client)) == 503
        thread.join(5)
        held.set()

        assert LIMITS.answer_within - 0.1 < time.monotonic() - began < LIMITS.stop_within
