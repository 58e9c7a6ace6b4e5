"""Endpoint scorer: against a small server on the loopback address, and without any."""

import importlib.util
import math
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nlp_meta.errors import EndpointError, LabelError, OutputError, SettingsError
from nlp_meta.prompting.endpoint import EndpointScorer, connect_endpoint
from nlp_meta.prompting.prompts import AnswerScore, Prompt
from nlp_meta.prompting.questions import AnswerCache, count_at_most, estimate_cost
from nlp_meta.prompting.requests import find_label, make_pace, read_address, read_likelihood


def load_server() -> Any:
    """Import the file beside this one, from wherever the tests are started."""
    place = Path(__file__).with_name("server.py")
    spec = importlib.util.spec_from_file_location("loopback_server", place)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


loopback = load_server()
Answer, echo, refuse, serve, write = (
    loopback.Answer,
    loopback.echo,
    loopback.refuse,
    loopback.serve,
    loopback.write,
)

KEY = "sk-secret-0123456789"
PROMPT = Prompt("Rate.\n\nfine = good\n\n", "", " =", (" good", " not good"))
VALUES = {" good": -0.5, " not": -1.25}


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def connect(url: str, *, clock: Clock | None = None, **changed: Any) -> EndpointScorer:
    clock = clock or Clock()
    settings: dict[str, Any] = {
        "model": "toy",
        "context_tokens": 1000,
        "mode": "auto",
        "answer_tokens": 8,
        "most_nonsense": 0.2,
        "timeout": 5.0,
        "retries": 2,
        "concurrency": 1,
        "requests_per_minute": None,
        "cache_dir": None,
        "api_key_env": "TOY_KEY",
        "clock": clock,
        "sleep": clock.sleep,
    }
    return connect_endpoint(url, **{**settings, **changed})


def echoing(asked):
    return echo(asked, VALUES)


def writing(text: str | None) -> Callable[[Any], Any]:
    """A server without an echo, which always writes the same."""
    return lambda asked: refuse(400, "no echo") if "echo" in asked.payload else write(asked, text)


def is_probe(asked) -> bool:
    return asked.text.startswith("The capital of France is")


def after_probe(*answers):
    """Answers of the echo at connecting, then one after another, then of the echo again."""
    waiting = list(answers)
    return lambda asked: echoing(asked) if is_probe(asked) or not waiting else waiting.pop(0)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_KEY", KEY)


# What is read from replies


def test_echoed_answers_have_the_log_likelihoods_that_the_server_gives():
    """By hand: ' good' is one token of -0.5; ' not good' two, of -1.25 and -0.5."""
    with serve(echoing) as server:
        scorer = connect(server.url)
        scores = scorer.score(PROMPT, ["bad", "fine good"])

    assert scores == [(AnswerScore(-0.5, 1), AnswerScore(-1.75, 2))] * 2
    assert (scorer.name, scorer.context_tokens, scorer.way.name) == ("toy", 1000, "echo")
    assert scorer.graded
    assert [asked.text for asked in server.asked[1:]] == [
        f"Rate.\n\nfine = good\n\n{query} ={answer}"
        for query in ("bad", "fine good")
        for answer in (" good", " not good")
    ]
    assert {asked.path for asked in server.asked} == {"/v1/completions"}
    assert server.asked[1].payload["max_tokens"] == 0
    assert server.asked[1].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("usage", [True, False])
def test_a_generated_token_that_a_server_insists_on_is_not_scored(usage: bool):
    def respond(asked):
        if asked.payload["max_tokens"] == 0:
            return refuse(400, "max_tokens must be at least 1")
        return echo(asked, {**VALUES, " ...": -50.0}, usage=usage)

    with serve(respond) as server:
        scorer = connect(server.url)
        (scores,) = scorer.score(PROMPT, ["bad"])

    assert scorer.way.name == "echo and a token"
    assert scores == (AnswerScore(-0.5, 1), AnswerScore(-1.75, 2))


@pytest.mark.parametrize(
    ("tokens", "offsets"),
    [
        # A begin token counts in the offsets, as in vLLM.
        (["<s>", "x", " =", " not", " good"], [0, 3, 4, 6, 10]),
        # No offsets, as in SGLang.
        (["x", " =", " not", " good"], [-1] * 4),
        # Blanks are lost from tokens and offsets alike.
        (["<s>", "x", "=", "not", "good"], [0, 3, 4, 5, 8]),
        # Tokens as the tokenizer spells them.
        (["x", "Ġ=", "Ġnot", "Ġgood"], [0, 1, 3, 7]),
        (["x", "▁=", "▁not", "▁good"], None),
        # Tokens that are no text: only the offsets tell.
        (["x", " =", "token_id:7", " good"], [0, 1, 3, 7]),
    ],
)
def test_an_answer_is_found_however_a_server_spells_and_counts(tokens, offsets):
    """By hand: the last two tokens are the answer, -1.25 and -0.5."""
    values = [None, *[-9.0] * (len(tokens) - 3), -1.25, -0.5]
    found = {"tokens": tokens, "token_logprobs": values, "text_offset": offsets}
    body = {"choices": [{"logprobs": found}]}

    score = read_likelihood(body, text="x = not good", answer=" not good", generated=0)

    assert score == AnswerScore(-1.75, 2)


@pytest.mark.parametrize(
    ("before", "answer", "tokens", "count"),
    [
        # 'ò' in two bytes, of which no token is a whole sign.
        ("x =", " òd", ["x", " =", " \ufffd", "\ufffd", "d"], 3),
        ("x =", " òd", ["x", " =", "bytes: \\xc3", "bytes:\\xb2", "d"], 3),
        ("x =", " òd", ["x", "=", "▁", "<0xC3>", "<0xB2>", "d"], 4),
        # The first byte comes as nothing, the second as the sign.
        ("x =", " òd", ["x", " =", "", " ò", "d"], 3),
        # A blank of its own, which the server lost.
        ("x =", " 正面", ["x", "=", "", "正", "面"], 3),
        # Three signs in nine bytes, cut somewhere.
        ("x =", " ሰላም", ["x", " =", " \ufffd", "\ufffd", "\ufffd", "ላ", "\ufffd\ufffd"], 5),
        ("é ሰ", " good", ["\ufffd", "\ufffd", " \ufffd", "\ufffd", " good"], 1),
    ],
)
def test_an_answer_is_found_among_tokens_that_cut_its_signs(before, answer, tokens, count):
    """By hand: the tokens of the answer have -1 each."""
    values = [None, *[-9.0] * (len(tokens) - count - 1), *[-1.0] * count]
    body = {"choices": [{"logprobs": {"tokens": tokens, "token_logprobs": values}}]}

    score = read_likelihood(body, text=before + answer, answer=answer, generated=0)

    assert score == AnswerScore(-count, count)


def test_a_token_across_the_start_of_an_answer_counts_whole():
    """By hand: the prompt ends with the blank that the token ' good' holds."""
    found = {"tokens": ["x", " =", " good"], "token_logprobs": [None, -9.0, -0.5]}

    score = read_likelihood(
        {"choices": [{"logprobs": found}]}, text="x = good", answer="good", generated=0
    )

    assert score == AnswerScore(-0.5, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": ["good"], "token_logprobs": [-0.5]},  # what was generated, no echo
        {"tokens": ["x", " =", " good"], "token_logprobs": [None, -9.0, None]},
        {"tokens": ["x", " =", " good"], "token_logprobs": [None, -9.0, float("nan")]},
        {"tokens": ["x", " =", " good"], "token_logprobs": [None, -9.0]},
        {"tokens": ["x", " =", " bad"], "token_logprobs": [None, -9.0, -0.5]},
        {"tokens": None, "token_logprobs": None},
    ],
)
def test_log_likelihoods_that_are_not_those_of_the_answer_are_none(change):
    body = {"choices": [{"logprobs": change}], "usage": {"prompt_tokens": 3}}

    assert read_likelihood(body, text="x = good", answer=" good", generated=0) is None


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": [{"logprobs": None}]}])
def test_a_reply_without_log_likelihoods_has_none(body):
    assert read_likelihood(body, text="x = good", answer=" good", generated=0) is None


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (" good", "good"),
        ("GOOD.", "good"),
        ('**"Good"**', "good"),
        (" good\n\nText: awful\nSentiment: bad", "good"),
        ("Good, it is not bad", "good"),
        ("very\tgood", "very good"),
        ("I would say it is very good.", "very good"),
        ("I think:\nthe answer is bad", "bad"),
        ("<think>good? no</think>\n\nbad", "bad"),
        ("评价是正面的", "正面"),
        ("\uff22\uff21\uff24", "bad"),  # wide letters
        ("it is good or bad", None),
        ("goodness", None),
        ("I cannot tell", None),
        ("<think>good", None),
        ("", None),
    ],
)
def test_a_written_label_is_found_where_it_is_clear(text: str, label: str | None):
    answers = (" good", " Bad", " very good", "正面")
    names = ("good", "bad", "very good", "正面")

    place = find_label(text, answers)

    assert (None if place is None else names[place]) == label


# Ways to ask


@pytest.mark.parametrize(
    "echoed",
    [
        lambda asked: refuse(400, "only no echo is supported"),
        lambda asked: refuse(500, "only no echo is supported"),
        lambda asked: write(asked, "purple"),  # takes the field and ignores it
        lambda asked: echo(asked, {}, other=0.0),  # knows no log-likelihood of a prompt
    ],
)
def test_without_an_echo_the_written_label_counts(echoed):
    """By hand: 0.99 for the label that was written, 0.01 for the other."""
    with serve(lambda one: echoed(one) if "echo" in one.payload else write(one, " Not good!")) as s:
        scorer = connect(s.url)
        scores = scorer.score(PROMPT, ["bad"])

    assert scorer.way.name == "completion" and not scorer.graded
    assert scores == [(AnswerScore(math.log(1 - 0.99), 1), AnswerScore(math.log(0.99), 1))]
    assert s.asked[-1].text == "Rate.\n\nfine = good\n\nbad ="
    assert s.asked[-1].payload["max_tokens"] == 8


def test_without_completions_a_chat_is_asked():
    def respond(asked):
        if asked.path == "/v1/chat/completions":
            return write(asked, "Good")
        return refuse(404, "Not Found")

    with serve(respond) as server:
        scorer = connect(server.url)
        ((good, not_good),) = scorer.score(PROMPT, ["bad"])

    assert scorer.way.mode == "chat"
    assert good.log_likelihood == math.log(0.99) > not_good.log_likelihood
    content = "Rate.\n\nfine = good\n\nbad ="
    assert server.asked[-1].payload["messages"] == [{"role": "user", "content": content}]


def test_a_model_that_thinks_first_is_asked_in_its_own_form():
    def respond(asked):
        if "max_completion_tokens" not in asked.payload:
            return refuse(400, "'max_tokens' is not supported with this model")
        return write(asked, "good")

    with serve(respond) as server:
        scorer = connect(server.url, mode="chat")
        scorer.score(PROMPT, ["bad"])

    assert "temperature" not in server.asked[-1].payload
    assert server.asked[-1].payload["max_completion_tokens"] == 8


def test_a_mode_that_was_asked_for_is_not_exchanged_for_another():
    with serve(lambda asked: write(asked, "good")) as server:
        assert connect(server.url, mode="chat").way.mode == "chat"
        with pytest.raises(EndpointError, match=r"log-likelihoods .* is needed; change .*`mode`"):
            connect(server.url, mode="likelihood")


def test_log_likelihoods_that_stop_coming_are_an_error():
    with serve(after_probe(Answer(body={"choices": [{"text": "x"}]}))) as server:
        scorer = connect(server.url)
        with pytest.raises(EndpointError, match="log-likelihoods of the echoed answer"):
            scorer.score(PROMPT, ["bad"])


def test_nonsense_scores_all_answers_alike_and_is_counted():
    with serve(writing("purple")) as server:
        scorer = connect(server.url)
        scores = scorer.score(PROMPT, ["a", "b"])

    assert scores == [(AnswerScore(math.log(0.5), 1),) * 2] * 2
    assert (scorer.written, scorer.nonsense) == (2, 2)


def test_more_nonsense_than_allowed_stops_the_run():
    """By hand: 0.2 of ten answers are two, so the third of the first ten is too many."""
    with serve(writing("purple")) as server:
        scorer = connect(server.url)
        with pytest.raises(EndpointError, match=r"3 of 3 name no label .* 'purple'") as raised:
            scorer.score(PROMPT, list("abcdef"))

    assert scorer.written == 3
    assert_one_sentence(raised.value)


def test_a_chat_that_writes_nothing_is_nonsense():
    with serve(writing(None)) as server:
        scorer = connect(server.url, mode="chat")
        scorer.score(PROMPT, ["a"])

    assert scorer.nonsense == 1


@pytest.mark.parametrize("answers", [(" good", " "), (" good", " Good"), (" good", "good")])
def test_answers_that_cannot_be_told_apart_stop_before_any_request(answers):
    with serve(writing("good")) as server:
        scorer = connect(server.url)
        before = len(server.asked)
        with pytest.raises(LabelError, match="rename the labels"):
            scorer.score(Prompt("", "", "", answers), ["x"])

    assert len(server.asked) == before


# What goes wrong


def assert_one_sentence(error: Exception) -> None:
    text = str(error)
    assert "\n" not in text and text[0].islower() and not text.endswith(".")
    assert KEY not in text


def fail_to_connect(respond: Callable[[Any], Any], match: str, **changed: Any) -> int:
    """Connect, see the error, and return how often the server was asked."""
    with serve(respond) as server:
        with pytest.raises(EndpointError, match=match) as raised:
            connect(server.url, **changed)
        assert_one_sentence(raised.value)
        return len(server.asked)


def test_a_server_that_asks_for_a_rest_gets_it():
    clock = Clock()
    rest = refuse(429, "too fast", Retry_After="7")
    with serve(after_probe(rest)) as server:
        scorer = connect(server.url, clock=clock)
        scores = scorer.score(PROMPT, ["bad"])

    assert scores == [(AnswerScore(-0.5, 1), AnswerScore(-1.75, 2))]
    assert clock.slept == [7.0]


def test_a_rest_may_be_given_as_a_date():
    """By hand: from 10:00:00 to 10:00:42 are 42 seconds."""
    clock = Clock()
    day = "Mon, 05 Jan 2026"
    dates = {"Date": f"{day} 10:00:00 GMT", "Retry-After": f"{day} 10:00:42 GMT"}
    with serve(after_probe(Answer(503, {}, dates))) as server:
        connect(server.url, clock=clock).score(PROMPT, ["bad"])

    assert clock.slept == [42.0]


@pytest.mark.parametrize("rest", ["-5", "nan", "soon", "Mon, 05 Jan 2026 10:00:42 GMT"])
def test_a_rest_that_says_nothing_is_the_usual_wait(rest: str):
    clock = Clock()
    with serve(after_probe(refuse(503, "busy", Retry_After=rest))) as server:
        connect(server.url, clock=clock).score(PROMPT, ["bad"])

    assert clock.slept == [1.0]


def test_a_rest_of_hours_is_an_error():
    asked = fail_to_connect(
        lambda asked: refuse(429, "tomorrow", Retry_After="86400"), "asks to wait 86400 seconds"
    )

    assert asked == 1


def test_a_spent_quota_is_not_asked_again():
    body = {"error": {"message": "quota", "code": "insufficient_quota"}}

    asked = fail_to_connect(
        lambda asked: Answer(429, body), r"429 \(quota\).*`prompting.requests_per_minute`"
    )

    assert asked == 1


def test_failing_thrice_is_an_error_after_doubled_waits():
    clock = Clock()
    with serve(after_probe(*[refuse(500, "out of memory")] * 3)) as server:
        scorer = connect(server.url, clock=clock)
        with pytest.raises(EndpointError, match=r"answered 500 \(out of memory\)") as raised:
            scorer.score(PROMPT, ["bad"])

    assert clock.slept == [1.0, 2.0]
    assert len(server.asked) == 1 + 3
    assert_one_sentence(raised.value)


def test_a_failure_inside_a_good_status_is_tried_again():
    hidden = Answer(200, {"error": {"message": "upstream", "code": 502}})
    with serve(after_probe(hidden)) as server:
        assert connect(server.url).score(PROMPT, ["bad"])[0][0] == AnswerScore(-0.5, 1)


def test_a_connection_that_breaks_in_an_answer_is_tried_again():
    clock = Clock()
    broken = Answer(body={"choices": ["x" * 1000]}, cut=True)
    with serve(after_probe(broken)) as server:
        scorer = connect(server.url, clock=clock)
        scores = scorer.score(PROMPT, ["bad"])

    assert scores[0][0] == AnswerScore(-0.5, 1)
    assert clock.slept == [1.0]


@pytest.mark.parametrize(
    ("body", "named"),
    [(b"<html>\nhello", "begins '<html> hello'"), (b"[1]", "JSON list"), (b"\xff", "begins")],
)
def test_an_answer_that_is_no_json_object_is_an_error(body: bytes, named: str):
    assert fail_to_connect(lambda asked: Answer(body=body), named) == 1


def test_a_slow_server_is_an_error():
    asked = fail_to_connect(
        lambda asked: Answer(slow=True),
        r"0\.05 seconds in 2 attempts.*`prompting.timeout`",
        timeout=0.05,
        retries=1,
    )

    assert asked == 2


def test_a_server_that_is_down_is_an_error():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    with pytest.raises(EndpointError, match=rf"127\.0\.0\.1:{port}/v1 in 3 attempts") as raised:
        connect(f"http://127.0.0.1:{port}")

    assert_one_sentence(raised.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_is_named_by_its_variable_alone(status: int):
    asked = fail_to_connect(
        lambda asked: refuse(status, f"bad key: {KEY}"), r"bad key: \*\*\*.*`TOY_KEY`"
    )

    assert asked == 1


def test_an_unknown_model_is_named():
    asked = fail_to_connect(
        lambda asked: refuse(404, "The model `toy` does not exist."),
        r"model 'toy'.*404.*does not exist.*change `prompting.model_name_or_path`",
    )

    assert asked >= 1


def test_what_fails_is_named_before_what_is_missing():
    """A server without a chat, whose completions fail: the failure is what to mend."""

    def respond(asked):
        return refuse(404, "no chat") if "chat" in asked.path else refuse(500, "out of memory")

    assert fail_to_connect(respond, r"500 \(out of memory\)", retries=0) >= 1


def test_a_long_page_with_the_key_does_not_leak_it():
    """The key begins before the place where the page is cut."""
    page = "x" * 50 + KEY + "x" * 500

    assert fail_to_connect(lambda asked: Answer(body=page.encode()), r"x\*\*\*x") >= 1
    assert fail_to_connect(lambda asked: Answer(400, page.encode()), r"x\*\*\*x") >= 1


def test_no_key_is_sent_where_none_is_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TOY_KEY")
    with serve(echoing) as server:
        connect(server.url)

    assert "Authorization" not in server.asked[0].headers


def test_a_key_that_no_header_can_carry_is_refused_unseen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOY_KEY", "two words")

    with pytest.raises(SettingsError, match=r"`TOY_KEY` \(9 characters\)") as raised:
        connect("http://127.0.0.1:1")

    assert "two words" not in str(raised.value)


def test_a_loopback_address_needs_no_proxy(monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serve(echoing) as server:
        assert connect(server.url).way.name == "echo"


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1"),
        ("https://host.example/v1/", "https://host.example/v1"),
        ("https://host.example/v1/chat/completions", "https://host.example/v1"),
        ("https://host.example/api/v2/completions", "https://host.example/api/v2"),
        ("http://[::1]:80/v1", "http://[::1]:80/v1"),
    ],
)
def test_an_address_may_be_typed_in_several_ways(typed: str, address: str):
    assert read_address(typed) == address


@pytest.mark.parametrize(
    "typed",
    [
        "localhost:8000",
        "ftp://host.example/v1",
        "http://",
        "http://host.example:port/v1",
        f"http://me:{KEY}@host.example/v1",
        f"http://host.example/v1?api-key={KEY}",
    ],
)
def test_an_address_that_cannot_be_asked_or_holds_a_secret_is_refused(typed: str):
    with pytest.raises(SettingsError, match=r"change `prompting\.endpoint`") as raised:
        read_address(typed)

    assert_one_sentence(raised.value)


@pytest.mark.parametrize(
    ("argument", "value", "named"),
    [
        ("context_tokens", 0, "`prompting.context_tokens`"),
        ("answer_tokens", 0, "`translation_prompting.max_new_tokens`"),
        ("retries", -1, "`prompting.retries`"),
        ("concurrency", 0, "`concurrency` of `connect_endpoint`"),
        ("timeout", 0.0, "`prompting.timeout`"),
        ("requests_per_minute", 0.0, "`prompting.requests_per_minute`"),
        ("most_nonsense", 1.5, "`most_nonsense` of `connect_endpoint`"),
        ("mode", "guess", "`mode` of `connect_endpoint`"),
    ],
)
def test_an_argument_out_of_range_is_named(argument: str, value: object, named: str):
    with pytest.raises(SettingsError, match=f"change {re.escape(named)}$"):
        connect("http://127.0.0.1:1", **{argument: value})


# What is kept


def test_a_second_run_asks_nothing(tmp_path: Path):
    with serve(echoing) as server:
        first = connect(server.url, cache_dir=tmp_path).score(PROMPT, ["bad", "fine"])
        count = len(server.asked)
        scorer = connect(server.url, cache_dir=tmp_path)
        second = scorer.score(PROMPT, ["fine", "bad"])

    assert second == first[::-1]
    assert len(server.asked) == count == 1 + 4


def test_what_was_answered_before_an_interruption_is_kept(tmp_path: Path):
    """By hand: two queries of two answers each are kept, the third query is asked again."""
    queries = ["one", "two", "three"]

    def stopping(asked):
        return refuse(400, "stop") if "three" in asked.text else echoing(asked)

    answers = [stopping]
    with serve(lambda asked: answers[-1](asked)) as server:
        with pytest.raises(EndpointError, match="stop"):
            connect(server.url, cache_dir=tmp_path).score(PROMPT, queries)
        answers.append(echoing)
        before = len(server.asked)
        scorer = connect(server.url, cache_dir=tmp_path)
        scores = scorer.score(PROMPT, queries)

    assert len(scores) == 3
    assert len(server.asked) - before == 2


def test_model_address_and_answer_have_their_own_answers(tmp_path: Path):
    """By hand: 'x good' ends with 'x good', two tokens, or with ' good', one."""
    with serve(echoing) as server, serve(echoing) as other:
        scorer = connect(server.url, cache_dir=tmp_path)
        whole = scorer.score(Prompt("", "", "", (" x good",)), ["x"])
        part = scorer.score(Prompt("", " x", "", (" good",)), [""])
        connect(server.url, cache_dir=tmp_path, model="else").score(PROMPT, ["x"])
        connect(other.url, cache_dir=tmp_path).score(PROMPT, ["x"])

    assert whole == [(AnswerScore(-2.5, 2),)]
    assert part == [(AnswerScore(-0.5, 1),)]
    assert len(other.asked) == 1 + 2


def test_neither_key_nor_prompt_is_written_down(tmp_path: Path):
    with serve(echoing) as server:
        scorer = connect(server.url, cache_dir=tmp_path)
        scorer.score(PROMPT, ["bad"])

    (file,) = tmp_path.iterdir()
    content = file.read_text(encoding="utf-8")
    assert KEY not in content and "Rate" not in content
    assert KEY not in repr(scorer)


def test_the_same_answers_serve_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with serve(echoing) as server:
        connect(server.url, cache_dir=tmp_path).score(PROMPT, ["bad"])
        monkeypatch.setenv("TOY_KEY", "another")
        before = len(server.asked)
        connect(server.url, cache_dir=tmp_path).score(PROMPT, ["bad"])

    assert len(server.asked) == before


def test_a_torn_line_costs_one_question(tmp_path: Path):
    cache = AnswerCache(tmp_path)
    cache.keep("a", {"text": "1"})
    cache.keep("b", {"text": "2"})
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-9])

    after = AnswerCache(tmp_path)
    after.keep("c", {"text": "3"})

    assert after.get("a") == {"text": "1"} and after.get("b") is None
    assert AnswerCache(tmp_path).get("c") == {"text": "3"}
    assert AnswerCache(tmp_path).get("b") is None


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("x", encoding="utf-8")

    with pytest.raises(OutputError, match=r"is not a folder.*with `run\.output_dir`"):
        AnswerCache(file / "folder")


# Pace and cost


def test_requests_start_evenly_spaced():
    """By hand: 30 a minute are two seconds apart; after a rest of five nothing is owed."""
    clock = Clock()
    pace = make_pace(30, clock=clock, sleep=clock.sleep)

    pace()
    pace()
    clock.now += 0.5
    pace()
    clock.now += 5
    pace()
    pace()

    assert clock.slept == [2.0, 1.5, 2.0]


def test_every_attempt_counts_in_the_pace():
    """By hand: probe at 100 s, request at 106, its second attempt a second later and so at 112."""
    clock = Clock()
    with serve(after_probe(refuse(500, "no"))) as server:
        scorer = connect(server.url, clock=clock, requests_per_minute=10)
        scorer.score(Prompt("", "", "", (" good",)), ["x"])

    assert clock.slept == [6.0, 1.0, 5.0]
    assert len(server.asked) == 3


def test_tokens_are_estimated_from_above():
    """By hand: 5 ASCII characters are 3 tokens; 'ሰላም' has 3 signs of 3 bytes each."""
    assert count_at_most("hello") == 3
    assert count_at_most("ሰላም") == 9
    assert count_at_most("hello ሰላም") == 3 + 9
    assert count_at_most("") == 0


def test_cost_is_known_before_the_first_request():
    """By hand: 'abcd efgh yes' has 13 characters, 7 tokens, and with ' no' 12, 6; an echo may
    add one token to each: 15 a query, 30 for two. A written answer costs 5 + 8."""
    batches = [(Prompt("abcd", " ", "", (" yes", " no")), ["efgh", "ijkl"])]

    cost = estimate_cost(
        batches,
        mode="auto",
        answer_tokens=8,
        price_per_million_tokens=2.0,
        requests_per_minute=8,
    )
    free = estimate_cost(
        batches,
        mode="chat",
        answer_tokens=8,
        price_per_million_tokens=None,
        requests_per_minute=None,
    )

    assert (cost.requests, cost.tokens, cost.minutes) == (4, 30, 0.5)
    assert cost.price == pytest.approx(60e-6)
    assert str(cost) == (
        "at most 4 requests, 30 tokens and a price of 0.0001, over at least 0.5 minutes"
    )
    assert str(free) == "at most 2 requests and 26 tokens"


def test_queries_asked_at_once_are_answered_in_order():
    def respond(asked):
        return echo(asked, {" good": -float(asked.text.split("\n\n")[2].split()[0])})

    queries = [str(number) for number in range(1, 21)]
    with serve(lambda one: echoing(one) if is_probe(one) else respond(one)) as server:
        scorer = connect(server.url, concurrency=4)
        scores = scorer.score(Prompt("Rate.\n\nfine\n\n", "", " =", (" good",)), queries)

    assert [score.log_likelihood for (score,) in scores] == [-float(query) for query in queries]
    assert len(server.asked) == 1 + 20


def test_an_error_leaves_most_of_many_queries_unasked(tmp_path: Path):
    def respond(asked):
        return echoing(asked) if is_probe(asked) else refuse(400, "no")

    with serve(respond) as server:
        scorer = connect(server.url, concurrency=2, cache_dir=tmp_path)
        with pytest.raises(EndpointError, match="400"):
            scorer.score(PROMPT, [str(number) for number in range(200)])

    assert len(server.asked) < 100
