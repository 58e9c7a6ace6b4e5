"""Linear probe: hand-made features, and pooled states of a tiny random encoder."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.backbone import load_backbone
from nlp_meta.encoders.prefix import mean_pooled_embedder
from nlp_meta.errors import EpisodeError, SettingsError
from nlp_meta.rivals.linear_probe import choose_regularization, linear_probe

LABELS = ("negative", "neutral", "positive")
CORNERS = {"negative": (-2.0, 0.0), "neutral": (0.0, 2.0), "positive": (2.0, 0.0)}


def embed(texts) -> np.ndarray:
    """Features written into the text: numbers between blanks; a constant one is added."""
    return np.array([[*map(float, text.split()), 7.0] for text in texts])


def episode(*counts: int, queries: int = 4, seed: int = 0) -> Episode:
    """A support set of so many examples a label, each label around a corner of a triangle."""
    generator = np.random.default_rng(seed)

    def example(label: str) -> Example:
        across, up = generator.normal(CORNERS[label], 0.3)
        return Example(f"{across:.6f} {up:.6f}", label)

    support = [example(label) for label, n in zip(LABELS, counts, strict=False) for _ in range(n)]
    query = [example(label) for label in LABELS for _ in range(queries)]
    return Episode("made/task", LABELS, tuple(support), tuple(query), 0)


def ask(rival, one: Episode):
    """Let a method learn the support set of an episode, then answer its queries."""
    return rival(one.support_set)(one.queries)


def probe(*, regularization=(0.01, 1.0), folds=3):
    return linear_probe(embed, regularization=regularization, folds=folds, seed=0)


def test_labels_that_the_features_tell_apart_are_found():
    one = episode(6, 6, 6)

    answers = ask(probe(), one)

    assert [a.label for a in answers] == [e.target for e in one.query]
    for answer in answers:
        assert list(answer.probabilities) == list(LABELS)
        assert sum(answer.probabilities.values()) == pytest.approx(1)
        assert answer.label == max(answer.probabilities, key=answer.probabilities.get)


def test_probabilities_are_those_of_logistic_regression_on_standardized_features():
    """Another route: scaler and regression of scikit-learn, fitted here."""
    one = episode(5, 5, 5)
    scaler = StandardScaler().fit(embed([e.source for e in one.support]))
    model = LogisticRegression(C=0.1, max_iter=5000)
    model.fit(
        scaler.transform(embed([e.source for e in one.support])), [e.target for e in one.support]
    )
    expected = model.predict_proba(scaler.transform(embed([e.source for e in one.query])))

    answers = ask(probe(regularization=(0.1,)), one)

    assert tuple(model.classes_) == LABELS
    found = [list(answer.probabilities.values()) for answer in answers]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_label_without_support_has_probability_zero():
    answers = ask(probe(), episode(4, 0, 4))

    assert {answer.probabilities["neutral"] for answer in answers} == {0.0}
    assert all(sum(answer.probabilities.values()) == pytest.approx(1) for answer in answers)


@pytest.mark.parametrize("counts", [(1, 1, 1), (1, 4, 4), (2, 5, 3), (1, 1, 5)])
def test_small_labels_lower_the_number_of_folds_and_warn_of_nothing(counts):
    one = episode(*counts)

    answers = ask(probe(folds=5), one)

    right = [a.label == e.target for a, e in zip(answers, one.query, strict=True)]
    assert np.mean(right) > 0.6


def test_noise_gets_strong_and_signal_gets_weak_regularization():
    """A feature without bearing on the label is best ignored; a clean one best believed."""
    generator = np.random.default_rng(0)
    targets = np.repeat([0, 1], 20)
    noise = generator.normal(size=(40, 30))
    signal = np.where(targets, 1.0, -1.0)[:, None] + generator.normal(scale=0.1, size=(40, 1))

    choices = [
        choose_regularization(features, targets, (1e-4, 10.0), folds=5, seed=0)
        for features in (noise, signal)
    ]

    assert choices == [1e-4, 10.0]


def test_with_one_example_a_label_the_strongest_is_taken():
    features, targets = np.array([[-1.0], [1.0]]), np.array([0, 1])

    assert choose_regularization(features, targets, (0.01, 1.0), folds=5, seed=0) == 0.01


def test_the_same_seed_gives_the_same_answers_and_the_order_of_values_does_not_matter():
    one = episode(5, 5, 5)

    assert ask(probe(regularization=(0.01, 1.0)), one) == ask(
        probe(regularization=(1.0, 0.01)), one
    )


def test_the_support_set_is_learned_before_the_query_set_is_read():
    one, happened = episode(3, 3, 3), []

    def watched(texts):
        happened.append("query" if one.query[0].source in texts else "support")
        return embed(texts)

    rival = linear_probe(watched, regularization=(0.1, 1.0), folds=2, seed=0)
    learned = rival(one.support_set)
    happened.append("learned")
    learned(one.queries)

    assert happened == ["support", "learned", "query"]


@pytest.mark.parametrize("counts", [(), (3,), (0, 0, 4)])
def test_a_support_set_of_fewer_than_two_labels_is_refused(counts):
    with pytest.raises(EpisodeError, match=r"task 'made/task'.*at least 2 are needed"):
        ask(probe(), episode(*counts))


@pytest.mark.parametrize(("values", "folds"), [((), 3), ((0.0, 1.0), 3), ((1.0,), 1)])
def test_regularization_that_cannot_be_chosen_from_is_refused(values, folds):
    with pytest.raises(SettingsError, match="change `regularization` or `folds`"):
        probe(regularization=values, folds=folds)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A random BERT of two layers that knows six words."""
    folder = tmp_path_factory.mktemp("tiny_bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "agent", "never", "called", "back", "."]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", model_max_length=32
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder)
    return load_backbone(str(folder), pooling="mean", max_tokens=8)


TEXTS = ["the agent never called back .", "back", "the agent", "never never called"]


def test_features_are_mean_states_whatever_the_batch(backbone):
    """Another route: each text by itself, without padding, its states averaged."""
    expected = []
    for text in TEXTS:
        ids = backbone.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            expected.append(backbone.encoder(input_ids=ids).last_hidden_state[0].mean(0).numpy())

    for batch_tokens in (1, 1000):
        found = mean_pooled_embedder(backbone, batch_tokens=batch_tokens)(TEXTS)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_text_is_encoded_once(backbone, monkeypatch):
    embed_texts = mean_pooled_embedder(backbone, batch_tokens=100)
    first = embed_texts([TEXTS[0], TEXTS[1], TEXTS[0]])

    def refuse(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr(type(backbone.encoder), "forward", refuse)
    again = embed_texts([TEXTS[1], TEXTS[0]])

    np.testing.assert_array_equal(again, first[[1, 0]])
    assert embed_texts([]).shape == (0, 16)
    with pytest.raises(AssertionError):
        embed_texts([TEXTS[2]])


def test_the_probe_runs_on_the_encoders_features(backbone):
    support = tuple(
        Example(text, label)
        for text, label in [("the", "bad"), ("the .", "bad"), ("back", "good"), ("back .", "good")]
    )
    one = Episode("made/task", ("bad", "good"), support, support, 0)
    embedder = mean_pooled_embedder(backbone, batch_tokens=100)

    answers = ask(linear_probe(embedder, regularization=[1.0, 10.0], folds=2, seed=0), one)

    assert [answer.label for answer in answers] == ["bad", "bad", "good", "good"]
