"""Decoding against the plain computation, one text at a time and whole, and against `generate`."""

import pytest
import torch
from transformers import GenerationConfig

from nlp_meta.errors import EpisodeError, SettingsError
from nlp_meta.prompting.language_model import piece_ids, start_ids
from nlp_meta.prompting.local_answers import LocalWriter, find_ends, read_line
from nlp_meta.prompting.prompts import Prompt

QUERIES = ["it was cold", "", "the staff of the quiet room never called back and it was awful", "x"]
PREFIX = "Review: the food was warm\nSentiment: positive\n\nReview: slow\nSentiment: negative"
PROMPT = Prompt(PREFIX, "\n\nReview: ", "\nSentiment:", ())
LONGEST = 12


def texts_of(language_model, prompt, queries) -> list[list[int]]:
    """Ids of each whole text."""
    around = [prompt.before + query + prompt.after for query in queries]
    if not prompt.prefix:
        return [start_ids(language_model, text) for text in around]
    begin = start_ids(language_model, prompt.prefix)
    return [begin + ids for ids in piece_ids(language_model, around)]


def ends_by_spelling(language_model) -> list[int]:
    """Special tokens and those whose spelling has a line break, told from their names alone."""
    tokenizer = language_model.tokenizer
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    breaks = [place for place, name in enumerate(names) if "\n" in name or "Ċ" in name]
    return sorted({*breaks, *tokenizer.all_special_ids})


def write_greedily(language_model, ids: list[int]) -> tuple[list[int], float]:
    """The likeliest token a step, the whole text read again each time."""
    ends, line, nats = ends_by_spelling(language_model), [], 0.0
    while len(line) < LONGEST and (not line or line[-1] not in ends):
        with torch.no_grad():
            found = language_model.model(torch.tensor([ids + line])).logits[0, -1].log_softmax(-1)
        line.append(int(found.argmax()))
        nats += float(found.max())
    return line, nats


@pytest.mark.parametrize("prefix", [PREFIX, ""], ids=["prefix", "none"])
@pytest.mark.parametrize("tokenizer", ["bytes", "blanks"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral", "bloom", "mamba"])
def test_lines_are_those_of_whole_texts_one_at_a_time(tiny_language_model, kind, tokenizer, prefix):
    """Mistral's window is shorter than the prefix, Bloom takes no positions, and what Mamba
    remembers is not keys and values: it reads whole texts."""
    language_model = tiny_language_model(kind, tokenizer)
    asked = Prompt(prefix, PROMPT.before, PROMPT.after, ())
    writer = LocalWriter(language_model, batch_tokens=500, max_new_tokens=LONGEST, num_beams=1)

    lines = writer.decode(asked, QUERIES)

    plain = [
        write_greedily(language_model, ids) for ids in texts_of(language_model, asked, QUERIES)
    ]
    assert [list(line.ids) for line in lines] == [ids for ids, _ in plain]
    assert [line.log_likelihood for line in lines] == pytest.approx(
        [nats for _, nats in plain], abs=1e-4
    )


@pytest.mark.parametrize("kind", ["llama", "mistral", "bloom"])
@pytest.mark.parametrize("beams", [1, 2, 4])
def test_beams_find_what_transformers_finds(tiny_language_model, kind, beams):
    language_model = tiny_language_model(kind)
    writer = LocalWriter(language_model, batch_tokens=2000, max_new_tokens=LONGEST, num_beams=beams)

    lines = writer.decode(PROMPT, QUERIES)

    options = GenerationConfig(
        max_new_tokens=LONGEST,
        num_beams=beams,
        do_sample=False,
        early_stopping=beams > 1,
        eos_token_id=ends_by_spelling(language_model),
        pad_token_id=0,
    )
    for line, ids in zip(lines, texts_of(language_model, PROMPT, QUERIES), strict=True):
        row = torch.tensor([ids])
        found = language_model.model.generate(
            row, attention_mask=torch.ones_like(row), generation_config=options
        )
        assert list(line.ids) == found[0, len(ids) :].tolist()


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_without_sharing_and_in_batches_of_any_size_lines_are_the_same(
    tiny_language_model, kind, beams, reading_whole
):
    language_model = tiny_language_model(kind, "blanks")
    large, small = (LocalWriter(language_model, size, LONGEST, beams) for size in (10_000, 1))

    with reading_whole():
        whole = large.decode(PROMPT, QUERIES)

    for writer in (large, small):
        assert [line.ids for line in writer.decode(PROMPT, QUERIES)] == [line.ids for line in whole]


def test_the_prefix_is_read_once_and_each_step_one_token(tiny_language_model, monkeypatch):
    """Counted by hand: the prefix, then for each call the queries and one token a step."""
    language_model = tiny_language_model("llama")
    forward, read = language_model.model.forward, []

    def count(input_ids, **options):
        read.append(tuple(input_ids.shape))
        return forward(input_ids=input_ids, **options)

    count.__wrapped__ = forward  # keeps the signature
    monkeypatch.setattr(language_model.model, "forward", count)
    writer = LocalWriter(language_model, batch_tokens=10_000, max_new_tokens=3, num_beams=1)

    assert writer.write(PROMPT, []) == []
    writer.write(PROMPT, ["warm", "cold food"])
    writer.write(PROMPT, ["warm"])

    prefix = len(start_ids(language_model, PREFIX))
    assert read[0] == (1, prefix)
    assert all(tokens < prefix for _, tokens in read[1:])
    assert sum(tokens > 1 for _, tokens in read) == 3
    assert len(read) <= 1 + 2 * 3


@pytest.mark.parametrize("tokenizer", ["bytes", "blanks"])
def test_a_line_ends_with_a_break_or_what_ends_a_text(tiny_language_model, tokenizer):
    language_model = tiny_language_model("llama", tokenizer)

    ends = find_ends(language_model)

    assert ends.nonzero().flatten().tolist() == ends_by_spelling(language_model)
    assert ends[language_model.tokenizer.eos_token_id]


def test_a_line_is_spelled_up_to_its_break(tiny_language_model):
    language_model = tiny_language_model("llama")

    [ids] = piece_ids(language_model, [" a quiet  room\nReview: x"])

    assert read_line(language_model, tuple(ids)) == "a quiet room"
    assert read_line(language_model, (*ids[:1], language_model.tokenizer.eos_token_id)) == "a"


def test_a_model_that_ends_at_once_writes_nothing_and_one_that_does_not_is_cut(
    tiny_language_model, monkeypatch
):
    """The end of text is made the likeliest token after every other, then the least likely."""
    language_model = tiny_language_model("llama")
    forward, sign = language_model.model.forward, [1.0]
    ends = find_ends(language_model)

    def push(input_ids, **options):
        output = forward(input_ids=input_ids, **options)
        output.logits[..., ends] = sign[0] * 1e4
        return output

    push.__wrapped__ = forward
    monkeypatch.setattr(language_model.model, "forward", push)
    writer = LocalWriter(language_model, batch_tokens=500, max_new_tokens=4, num_beams=1)

    at_once = writer.write(PROMPT, ["warm", "cold"])
    sign[0] = -1.0
    never = writer.decode(PROMPT, ["warm", "cold"])

    assert [(one.text, one.finished) for one in at_once] == [("", True)] * 2
    assert [(len(line.ids), line.ended) for line in never] == [(4, False)] * 2


def test_a_line_too_long_for_the_context_is_refused(tiny_language_model):
    language_model = tiny_language_model("llama", context_tokens=30)
    writer = LocalWriter(language_model, batch_tokens=500, max_new_tokens=30, num_beams=1)

    with pytest.raises(EpisodeError, match="'tiny-llama' holds 30; lower"):
        writer.write(Prompt("", "", ":", ()), ["warm"])


@pytest.mark.parametrize(
    ("longest", "beams", "name"), [(0, 1, "max_new_tokens"), (4, 0, "num_beams")]
)
def test_numbers_below_one_are_refused(tiny_language_model, longest, beams, name):
    with pytest.raises(SettingsError, match=f"{name} 0: at least 1 is needed"):
        LocalWriter(tiny_language_model("llama"), 100, longest, beams)


@pytest.mark.slow
def test_the_builtin_model_translates(builtin_language_model, reading_whole):
    """A sentence that its pairs all but spell out, and the shared prefix against whole texts."""
    language_model = builtin_language_model
    pairs = [
        ("Good morning, Anna.", "Guten Morgen, Anna."),
        ("Good evening, Peter.", "Guten Abend, Peter."),
        ("Good morning, Peter.", "Guten Morgen, Peter."),
    ]
    shown = [f"English: {source}\nGerman: {target}" for source, target in pairs]
    prompt = Prompt("\n\n".join(shown), "\n\nEnglish: ", "\nGerman:", ())
    sources = ["Good evening, Anna.", "The house is big and the garden is small."]

    greedy, beams = (LocalWriter(language_model, 4096, 24, number) for number in (1, 3))
    lines = greedy.decode(prompt, sources)
    with reading_whole():
        whole = greedy.decode(prompt, sources)

    assert [line.ids for line in lines] == [line.ids for line in whole]
    for found in (lines, beams.decode(prompt, sources)):
        assert read_line(language_model, found[0].ids) == "Guten Abend, Anna."
        assert found[0].ended and read_line(language_model, found[1].ids)
