"""Local scoring against the plain computation: one text at a time, whole, without a cache."""

import pytest
import torch

from nlp_meta.errors import EpisodeError, LabelError
from nlp_meta.prompting.language_model import piece_ids, start_ids
from nlp_meta.prompting.local_answers import LocalScorer
from nlp_meta.prompting.prompts import Prompt

QUERIES = ["it was cold", "", "the staff of the quiet room never called back and it was awful", "x"]
ONE_TOKEN = (" positive", " negative", " neutral")
MANY_TOKENS = (" positive", " rather negative", " rather positive", " neutral or so, I say", " x")
PREFIX = "Review: the food was warm\nSentiment: positive\n\nReview: slow\nSentiment: negative"


def prompt(answers, prefix=PREFIX) -> Prompt:
    return Prompt(prefix, "\n\nReview: ", "\nSentiment:", answers)


def plain_scores(language_model, asked: Prompt, queries) -> torch.Tensor:
    """Sum of log-probabilities of each answer's tokens: `(queries, answers)`."""
    begin = start_ids(language_model, asked.prefix)
    rows = []
    for query in queries:
        [middle] = piece_ids(language_model, [asked.before + query + asked.after])
        row = []
        for answer in piece_ids(language_model, asked.answers):
            ids = torch.tensor([begin + middle + answer])
            with torch.no_grad():
                found = language_model.model(input_ids=ids).logits[0].log_softmax(-1)
            places = range(ids.shape[1] - len(answer) - 1, ids.shape[1] - 1)
            row.append(sum(found[p, t] for p, t in zip(places, answer, strict=True)))
        rows.append(torch.stack(row))
    return torch.stack(rows)


def likelihoods(scores) -> torch.Tensor:
    return torch.tensor([[answer.log_likelihood for answer in row] for row in scores])


@pytest.mark.parametrize("answers", [ONE_TOKEN, MANY_TOKENS], ids=["one", "many"])
@pytest.mark.parametrize("tokenizer", ["bytes", "blanks"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral", "bloom", "mamba"])
def test_shared_prefix_gives_the_likelihoods_of_whole_texts(
    tiny_language_model, kind, tokenizer, answers
):
    """Mistral's window of 12 tokens is shorter than the prefix, Bloom takes no positions, and
    what Mamba remembers is not keys and values: it reads whole texts."""
    language_model = tiny_language_model(kind, tokenizer)
    asked = prompt(answers)

    scores = LocalScorer(language_model, batch_tokens=400).score(asked, QUERIES)

    expected = plain_scores(language_model, asked, QUERIES)
    torch.testing.assert_close(likelihoods(scores), expected, atol=1e-4, rtol=0)
    lengths = [len(ids) for ids in piece_ids(language_model, answers)]
    assert [[answer.tokens for answer in row] for row in scores] == [lengths] * len(QUERIES)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("prefix", [PREFIX, ""])
def test_without_sharing_the_likelihoods_are_the_same(
    tiny_language_model, kind, prefix, reading_whole
):
    scorer = LocalScorer(tiny_language_model(kind, "blanks"), batch_tokens=400)
    asked = prompt(MANY_TOKENS, prefix)

    shared = scorer.score(asked, QUERIES)
    with reading_whole():
        whole = scorer.score(asked, QUERIES)

    torch.testing.assert_close(likelihoods(shared), likelihoods(whole), atol=1e-4, rtol=0)


@pytest.mark.parametrize("answers", [ONE_TOKEN, MANY_TOKENS], ids=["one", "many"])
@pytest.mark.parametrize("batch_tokens", [1, 150, 100_000])
def test_a_padded_batch_scores_as_one_text_at_a_time(tiny_language_model, answers, batch_tokens):
    language_model = tiny_language_model("llama")
    asked = prompt(answers)
    scorer = LocalScorer(language_model, batch_tokens=batch_tokens)

    together = scorer.score(asked, QUERIES)
    alone = [scorer.score(asked, [query])[0] for query in QUERIES]

    torch.testing.assert_close(likelihoods(together), likelihoods(alone), atol=1e-4, rtol=0)


def test_the_prefix_is_read_once_until_another_comes(tiny_language_model, monkeypatch):
    """Counted by hand: two prefixes of more than 20 tokens are read, three calls score."""
    language_model = tiny_language_model("llama")
    forward, read = language_model.model.forward, []

    def count(input_ids, **options):
        read.append(tuple(input_ids.shape))
        return forward(input_ids=input_ids, **options)

    count.__wrapped__ = forward  # keeps the signature
    monkeypatch.setattr(language_model.model, "forward", count)
    scorer = LocalScorer(language_model, batch_tokens=1000)

    assert scorer.score(prompt(ONE_TOKEN), []) == []
    scorer.score(prompt(ONE_TOKEN), ["warm"])
    scorer.score(prompt(ONE_TOKEN), ["warm"])
    scorer.score(prompt(ONE_TOKEN, PREFIX + " again"), ["warm"])

    lengths = [tokens for _, tokens in read]
    assert len(read) == 5 and sum(tokens > 20 for tokens in lengths) == 2
    assert lengths[1] == lengths[2] == lengths[4] < 20


def test_many_labels_cost_one_reading_of_the_query(tiny_language_model, monkeypatch):
    """Of five answers with different beginnings, none makes the query be read again."""
    language_model = tiny_language_model("llama")
    forward, tokens = language_model.model.forward, []

    def count(input_ids, **options):
        tokens.append(input_ids.numel())
        return forward(input_ids=input_ids, **options)

    count.__wrapped__ = forward
    monkeypatch.setattr(language_model.model, "forward", count)
    long = "the room was warm and quiet " * 4
    answers = tuple(f" {word} or so" for word in ("a", "b", "c", "d", "e"))
    [middle] = piece_ids(language_model, [f"\n\nReview: {long}\nSentiment:"])
    longest_head = max(len(ids) - 1 for ids in piece_ids(language_model, answers))
    scorer = LocalScorer(language_model, batch_tokens=10_000)

    scorer.score(prompt(answers), [])
    del tokens[:]
    scorer.score(prompt(answers), [long])

    assert tokens == [len(middle), len(answers) * longest_head]


def test_an_answer_without_a_token_is_refused(tiny_language_model):
    scorer = LocalScorer(tiny_language_model("llama"), batch_tokens=100)

    with pytest.raises(LabelError, match="makes no token of it"):
        scorer.score(prompt((" positive", "")), ["warm"])


def test_a_text_longer_than_the_context_is_refused(tiny_language_model):
    scorer = LocalScorer(tiny_language_model("llama", context_tokens=30), batch_tokens=100)

    with pytest.raises(EpisodeError, match="'tiny-llama' holds 30; lower"):
        scorer.score(prompt(ONE_TOKEN), ["warm " * 20])


def test_nothing_around_an_empty_query_is_refused(tiny_language_model):
    scorer = LocalScorer(tiny_language_model("llama"), batch_tokens=100)

    with pytest.raises(EpisodeError, match=r"cannot read query 1: .* makes no token"):
        scorer.score(Prompt(PREFIX, "", "", ONE_TOKEN), ["warm", ""])
