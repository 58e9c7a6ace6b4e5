"""Lines that an endpoint writes, against a small server on the loopback address."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from nlp_meta.errors import EndpointError, SettingsError
from nlp_meta.prompting.endpoint import EndpointScorer, connect_endpoint
from nlp_meta.prompting.prompts import Prompt, Written
from nlp_meta.prompting.questions import estimate_cost
from nlp_meta.prompting.requests import read_first_line

PROMPT = Prompt("Indonesian: air\nJavanese: banyu", "\n\nIndonesian: ", "\nJavanese:", ())


def load_server() -> Any:
    """Import the file beside this one, from wherever the tests are started."""
    place = Path(__file__).with_name("server.py")
    spec = importlib.util.spec_from_file_location("loopback_server", place)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


loopback = load_server()


def connect(url: str, *, mode: str = "written", cache_dir: Path | None = None) -> EndpointScorer:
    return connect_endpoint(
        url,
        model="toy",
        context_tokens=1000,
        mode=mode,
        answer_tokens=16,
        most_nonsense=0.5,
        timeout=5.0,
        retries=0,
        concurrency=2,
        requests_per_minute=None,
        cache_dir=cache_dir,
        api_key_env="TOY_KEY",
    )


def shouting(asked: Any) -> Any:
    """Write the source in capitals, and go on with a sentence that was not asked for."""
    source = asked.text.rpartition("Indonesian: ")[2].partition("\n")[0]
    return loopback.write(asked, f" {source.upper()}\n\nIndonesian: more")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (" banyu panas \n\nIndonesian: x", "banyu panas"),
        ("\n\nbanyu\nmore", "banyu"),
        ("<think>banyu? no\n</think>\n\ntoya", "toya"),
        ("<think>banyu", ""),
        (" \n ", ""),
        ("", ""),
    ],
)
def test_the_first_line_with_a_word_is_taken(text, line):
    assert read_first_line(text) == line


def test_a_completion_ends_with_its_line_and_no_echo_is_tried():
    with loopback.serve(shouting) as server:
        writer = connect(server.url)
        lines = writer.write(PROMPT, ["air panas", "rumah"])

    assert lines == [Written("AIR PANAS", True), Written("RUMAH", True)]
    assert (writer.way.name, writer.answer_tokens) == ("completion", 16)
    assert not any("echo" in asked.payload for asked in server.asked)
    payloads = [asked.payload for asked in server.asked[1:]]
    assert all(one["stop"] == ["\n"] and one["max_tokens"] == 16 for one in payloads)
    assert sorted(one["prompt"] for one in payloads) == [
        f"Indonesian: air\nJavanese: banyu\n\nIndonesian: {query}\nJavanese:"
        for query in ("air panas", "rumah")
    ]


def test_without_completions_a_chat_writes_and_what_it_does_not_finish_is_told():
    def respond(asked: Any) -> Any:
        if not asked.path.endswith("/chat/completions"):
            return loopback.refuse(404, "Not Found")
        answer = shouting(asked)
        answer.body["choices"][0]["finish_reason"] = "length"
        return answer

    with loopback.serve(respond) as server:
        lines = connect(server.url).write(PROMPT, ["air"])

    assert lines == [Written("AIR", False)]
    assert "stop" not in server.asked[-1].payload


def test_empty_answers_stop_nothing():
    with loopback.serve(lambda asked: loopback.write(asked, "\n")) as server:
        lines = connect(server.url).write(PROMPT, ["air", "rumah"])

    assert lines == [Written("", True)] * 2


def test_no_question_is_asked_twice_even_after_a_failure(tmp_path):
    """The server refuses one of three sources; a second run asks for what is missing alone."""
    down = [True]

    def respond(asked: Any) -> Any:
        if down[0] and "rumah" in asked.text:
            return loopback.refuse(400, "no")
        return shouting(asked)

    with loopback.serve(respond) as server:
        first = connect(server.url, cache_dir=tmp_path)
        first.write(PROMPT, ["air"])
        with pytest.raises(EndpointError, match="400"):
            first.write(PROMPT, ["rumah"])
        down[0], told = False, len(server.asked)
        lines = connect(server.url, cache_dir=tmp_path).write(PROMPT, ["air", "rumah"])

    assert [line.text for line in lines] == ["AIR", "RUMAH"]
    assert len(server.asked) == told + 1


def test_what_it_costs_is_known_before():
    """By hand: 58 ASCII characters with 'air' are 29 tokens, and 16 are for the line."""
    cost = estimate_cost(
        [(PROMPT, ["air", "air"])],
        mode="written",
        answer_tokens=16,
        price_per_million_tokens=1.0,
        requests_per_minute=None,
    )

    assert (cost.requests, cost.tokens) == (2, 2 * (29 + 16))


def test_what_was_connected_to_score_does_not_write():
    def respond(asked: Any) -> Any:
        return loopback.echo(asked, {})

    with (
        loopback.serve(respond) as server,
        pytest.raises(SettingsError, match=r"`mode` of .* to written"),
    ):
        connect(server.url, mode="auto").write(PROMPT, ["air"])
