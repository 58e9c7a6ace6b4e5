"""SetFit: what is handed to the package, what is said without it, and the package itself."""

import importlib.util
import random
import sys

import numpy as np
import pytest
import torch

from nlp_meta.data.episodes import Episode
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.backbone import load_backbone
from nlp_meta.encoders.prefix import mean_pooled_embedder
from nlp_meta.errors import EpisodeError, MissingPackageError, SettingsError
from nlp_meta.rivals.setfit import Reader, import_setfit, setfit

LABELS = ("bad", "fine", "good")
GOOD = ("good phone", "great food and loved it", "loved the room", "great service")
BAD = ("bad phone", "awful food", "hated it and hated the room", "awful slow service")
NUMBERS = {"pairs": 4, "epochs": 1, "learning_rate": 1e-3, "batch_size": 4, "seed": 0}

installed = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("setfit", "sentence_transformers")),
    reason="setfit is not installed",
)


@pytest.fixture(scope="module")
def backbone(tiny_encoder):
    return load_backbone(str(tiny_encoder), pooling="mean", max_tokens=12, prefix_text="the ")


def episode(*, good=GOOD, bad=BAD, query=GOOD + BAD) -> Episode:
    support = [Example(text, "good") for text in good] + [Example(text, "bad") for text in bad]
    hidden = tuple(Example(text, "") for text in query)
    return Episode("made/task", LABELS, tuple(support), hidden, 0)


def ask(rival, one: Episode):
    """Let a method learn the support set of an episode, then answer its queries."""
    return rival(one.support_set)(one.queries)


def pretend_installed(monkeypatch):
    find_spec = importlib.util.find_spec
    found = {"setfit": object()}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: found.get(name) or find_spec(name)
    )


def test_without_the_package_the_error_names_the_extra(backbone, monkeypatch):
    monkeypatch.setitem(sys.modules, "setfit", None)

    with pytest.raises(MissingPackageError) as raised:
        setfit(backbone, **NUMBERS)

    assert str(raised.value).startswith("cannot compare `setfit`: what is needed")
    assert str(raised.value).endswith("`pip install 'nlp-meta[setfit]'`")


def test_packages_that_do_not_work_together_are_named_with_their_versions(monkeypatch):
    pretend_installed(monkeypatch)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)

    with pytest.raises(MissingPackageError, match=r"\(setfit .*, transformers \d+\.\d.*: .*\)"):
        import_setfit()


def test_one_of_several_processes_is_refused(monkeypatch):
    """The package's trainer would wait for gradients of processes that judge other cells."""
    pretend_installed(monkeypatch)
    monkeypatch.setenv("WORLD_SIZE", "2")

    with pytest.raises(MissingPackageError, match=r"\(2 processes\).*one process is needed"):
        import_setfit()


@pytest.mark.parametrize("name", ["pairs", "epochs", "learning_rate", "batch_size"])
def test_numbers_that_are_not_above_0_are_refused(backbone, name):
    with pytest.raises(SettingsError, match=r"change `rivals\.setfit_pairs`"):
        setfit(backbone, **{**NUMBERS, name: 0})


@pytest.mark.parametrize("pooling", ["mean", "native"])
def test_the_package_is_handed_the_encoder_that_all_others_read(tiny_encoder, pooling):
    """Another route: the features of the linear probe, with their prefix and limit."""
    one = load_backbone(str(tiny_encoder), pooling=pooling, max_tokens=12, prefix_text="the ")
    texts = [*GOOD, "a text that is longer than a dozen tokens and is cut where all are cut"]
    reader = Reader(one)

    with torch.no_grad():
        found = reader(reader.preprocess(texts, prompt=None, task=None))["sentence_embedding"]

    expected = mean_pooled_embedder(one, batch_tokens=64)(texts)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_the_copy_may_move_and_the_backbone_may_not(backbone):
    reader = Reader(backbone)

    assert all(parameter.requires_grad for parameter in reader.encoder.parameters())
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert reader.encoder is not backbone.encoder


@pytest.mark.slow
@installed
def test_support_examples_are_learned(backbone):
    answers = ask(setfit(backbone, **{**NUMBERS, "pairs": 10, "learning_rate": 3e-3}), episode())

    assert [answer.label for answer in answers] == ["good"] * 4 + ["bad"] * 4
    for answer in answers:
        assert list(answer.probabilities) == list(LABELS)
        assert answer.probabilities["fine"] == 0
        assert sum(answer.probabilities.values()) == pytest.approx(1)


@pytest.mark.slow
@installed
def test_no_episode_leaves_a_trace(backbone, monkeypatch, tmp_path, capfd):
    """Same answers again; no file, no word on the screen, no random state, no weight changed."""
    monkeypatch.chdir(tmp_path)
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    rival = setfit(backbone, **NUMBERS)

    first = ask(rival, episode())
    ask(rival, episode(good=BAD, bad=GOOD))
    again = ask(rival, episode())

    assert first == again
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    for name, value in backbone.model.state_dict().items():
        assert torch.equal(value, before[name])
    assert not backbone.model.training


@pytest.mark.slow
@installed
def test_pairs_move_the_encoder(backbone):
    """Another route: the same head on the encoder as it is; a rate of almost 0 agrees with it."""
    from sklearn.linear_model import LogisticRegression

    one = episode(query=("quiet house", "slow brake"))
    embed = mean_pooled_embedder(backbone, batch_tokens=64)
    head = LogisticRegression(max_iter=5000)
    head.fit(embed([e.source for e in one.support]), [e.target for e in one.support])
    expected = head.predict_proba(embed([e.source for e in one.query]))

    still, moved = (
        ask(setfit(backbone, **{**NUMBERS, "learning_rate": rate}), one) for rate in (1e-12, 1e-3)
    )

    found = [[a.probabilities["bad"], a.probabilities["good"]] for a in still]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert (
        max(
            abs(a.probabilities["good"] - b.probabilities["good"])
            for a, b in zip(still, moved, strict=True)
        )
        > 1e-2
    )


@installed
def test_the_support_set_is_learned_before_the_query_set_is_read(backbone, monkeypatch):
    happened: list[str] = []
    preprocess = Reader.preprocess

    def watched(self, texts, **options):
        happened.append("query" if "quiet house" in texts else "support")
        return preprocess(self, texts, **options)

    monkeypatch.setattr(Reader, "preprocess", watched)
    one = episode(query=("quiet house",))
    learned = setfit(backbone, **NUMBERS)(one.support_set)
    happened.append("learned")
    learned(one.queries)

    assert happened[-2:] == ["learned", "query"]
    assert set(happened[:-2]) == {"support"}


@installed
def test_a_support_set_of_fewer_than_two_labels_is_refused(backbone):
    with pytest.raises(EpisodeError, match=r"task 'made/task'.*at least 2 are needed"):
        ask(setfit(backbone, **NUMBERS), episode(good=()))


@installed
def test_no_query_has_no_answer(backbone):
    assert ask(setfit(backbone, **NUMBERS), episode(query=())) == []
