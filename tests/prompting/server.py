"""A small OpenAI-compatible server on the loopback address, whose answers a test decides."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that the server has had."""

    path: str
    headers: Mapping[str, str]
    payload: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The prompt, or what the user says in a chat."""
        messages = self.payload.get("messages")
        return messages[-1]["content"] if messages else self.payload["prompt"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server does with a request.

    Attributes:
        body: Sent as it is if bytes, else as JSON.
        cut: The connection ends in the middle of the body.
        slow: Nothing is sent until the server stops.
    """

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    slow: bool = False


Respond = Callable[[Asked], Answer]


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its address, and what it was asked."""

    url: str
    asked: list[Asked]


@contextmanager
def serve(respond: Respond) -> Iterator[Server]:
    """Run a server until the block ends."""
    asked: list[Asked] = []
    stopped = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            one = Asked(self.path, dict(self.headers), json.loads(self.rfile.read(length)))
            asked.append(one)
            answer = respond(one)
            if answer.slow:
                stopped.wait(10)
                return
            body = answer.body
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response_only(answer.status)  # no date: a test sends its own
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if answer.cut else content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_port}", asked)
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()


def split(text: str) -> list[str]:
    """Cut a text into toy tokens: words with the blank before them, and single signs."""
    return re.findall(r" ?\w+|\W", text)


def echo(
    asked: Asked,
    values: Mapping[str, float],
    *,
    other: float = -2.0,
    tokens: list[str] | None = None,
    offsets: list[int] | None = None,
    usage: bool = True,
) -> Answer:
    """Echo a prompt, and generate ' ...' where a token is asked for.

    Args:
        values: Log-likelihood of each token.
        other: Of the tokens without one.
        tokens: How the prompt is spelled, instead of the plain spelling.
        offsets: Where they start, the generated one too; the running length by itself.
    """
    prompt = split(asked.text) if tokens is None else tokens
    generated = [" ..."] * asked.payload["max_tokens"]
    spelled = [*prompt, *generated]
    starts = [sum(map(len, spelled[:place])) for place in range(len(spelled))]
    found = {
        "tokens": spelled,
        "token_logprobs": [None, *(values.get(token, other) for token in spelled[1:])],
        "text_offset": starts if offsets is None else offsets,
    }
    body = {"choices": [{"text": asked.text + "".join(generated), "logprobs": found}]}
    counts = {"prompt_tokens": len(prompt), "completion_tokens": len(generated)}
    return Answer(body={**body, "usage": counts} if usage else body)


def write(asked: Asked, text: str | None) -> Answer:
    """Write a text, as a completion or as a chat."""
    if asked.path.endswith("/chat/completions"):
        choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
    else:
        choice = {"text": text, "logprobs": None}
    return Answer(body={"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 2}})


def refuse(status: int, message: str, **headers: str) -> Answer:
    """Refuse, in OpenAI's form."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"error": {"message": message, "code": None}}, named)
