"""A pack answers as each adapted model alone does, whatever is mixed, loaded and unloaded."""

import gc
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_domains import (
    SHAPES,
    SUPPORT,
    SUPPORT_LABELS,
    build_domain,
    draw_texts,
    probabilities,
)

from nlp_meta.errors import BackboneError, DataError, MetaModelError
from nlp_meta.serving.jobs import Jobs, Order
from nlp_meta.serving.pack import DomainPack

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def pack(folders):
    return DomainPack.from_pretrained(folders)


def assert_alone(models, names, texts, answers):
    """The independent route is `AdaptedModel.predict`, one domain at a time."""
    for name in set(names):
        rows = [row for row, own in enumerate(names) if own == name]
        alone = models[name].predict([texts[row] for row in rows])
        found = [answers[row] for row in rows]
        assert [a.label for a in found] == [a.label for a in alone]
        assert [list(a.probabilities) for a in found] == [list(a.probabilities) for a in alone]
        np.testing.assert_allclose(probabilities(found), probabilities(alone), **CLOSE)


@pytest.mark.parametrize("seed", range(4))
def test_a_mixed_batch_answers_as_each_domain_alone(models, pack, seed):
    """Ranks, layers, labels, prefixes, lengths and n-grams differ between the domains."""
    names = np.random.default_rng(seed).choice(list(SHAPES), size=33).tolist()
    texts = draw_texts(33, seed=seed)

    assert_alone(models, names, texts, pack.predict(names, texts))


@pytest.mark.parametrize("name", SHAPES)
def test_one_domain_alone_answers_as_its_model(models, pack, name):
    texts = draw_texts(6, seed=5)

    assert_alone(models, [name] * 6, texts, pack.predict([name] * 6, texts))


@pytest.mark.parametrize(
    ("encoder", "pooling"),
    [("tiny_encoder", "mean"), ("tiny_roberta", "native"), ("tiny_roberta", "mean")],
)
def test_other_encoders_and_poolings_answer_alike(request, encoder, pooling):
    """Domains of one label set each, in a batch in which they take turns."""
    folder = request.getfixturevalue(encoder)
    models = {
        name: build_domain(folder, SHAPES[name], seed=seed, pooling=pooling)
        for seed, name in enumerate(("plain", "seven"))
    }
    pack = DomainPack(models["plain"], name="plain")
    pack.add("seven", models["seven"])
    names, texts = ["plain", "seven"] * 4, draw_texts(8, seed=1)

    assert_alone(models, names, texts, pack.predict(names, texts))


def test_no_text_and_wrong_texts(pack):
    assert pack.predict([], []) == []
    with pytest.raises(DataError, match="text 2 of 2"):
        pack.predict(["plain"] * 2, ["good", "  "])
    with pytest.raises(DataError, match="1 texts of 2 domains"):
        pack.predict(["plain"] * 2, ["good"])
    with pytest.raises(MetaModelError, match=r"'planes'.*low, other, plain"):
        pack.predict(["planes"], ["good"])


@pytest.mark.parametrize("other", ["pooling", "encoder", "revision"])
def test_a_model_of_another_encoder_is_refused_in_one_sentence(
    models, tiny_encoder, tiny_roberta, tmp_path, other
):
    """In memory and from its folder; the table stays as it was."""
    pack = DomainPack(models["plain"], name="plain")
    folder = tiny_roberta if other == "encoder" else tiny_encoder
    pooling = "mean" if other == "pooling" else "native"
    model = build_domain(folder, SHAPES["plain"], seed=0, pooling=pooling)
    if other == "revision":
        pack.base = replace(pack.base, revision="1" * 40)
        model = replace(model, settings=replace(model.settings, revision="2" * 40))
    else:
        model.save_pretrained(tmp_path / "model")
        with pytest.raises(BackboneError, match=r"cannot serve .*which is loaded, is needed"):
            pack.load("new", tmp_path / "model")

    with pytest.raises(BackboneError, match=r"cannot serve 'new' .*; leave it out") as caught:
        pack.add("new", model)
    assert "\n" not in str(caught.value)
    assert list(pack.domains) == ["plain"]


def test_what_began_goes_on_with_the_weights_that_it_began_with(models, folders):
    """A question is read, its domain is replaced, then unloaded: the first weights answer."""
    pack = DomainPack.from_pretrained({"a": folders["plain"]})
    texts = draw_texts(4, seed=2)
    before = pack.read(pack.find("a"), texts)
    table = pack.domains

    assert pack.load("a", folders["three"]) is True
    between = pack.read(pack.find("a"), texts)
    pack.unload("a")

    assert list(table) == ["a"] and pack.domains == {}
    assert_alone(models, ["plain"] * 4, texts, pack.answer(before))
    assert_alone(models, ["three"] * 4, texts, pack.answer(between))
    mixed = pack.answer([*before, *between])
    assert_alone(models, ["plain"] * 4 + ["three"] * 4, texts * 2, mixed)
    with pytest.raises(MetaModelError, match="none yet"):
        pack.unload("a")


def test_loading_and_unloading_never_disturb_answers(models, folders):
    """One thread replaces, unloads and loads; two others ask for domains that stay and change."""
    pack = DomainPack.from_pretrained({"stays": folders["plain"], "changes": folders["other"]})
    texts, ended, wrong = draw_texts(5, seed=3), threading.Event(), []
    alone = {name: probabilities(models[name].predict(texts)) for name in SHAPES}

    def ask() -> None:
        while not ended.is_set():
            names = ["stays"] * 5 + ["changes"] * 5
            try:
                found = probabilities(pack.predict(names, texts * 2))
            except Exception as error:
                wrong.append(error)
                return
            changed = [alone[name] for name in ("other", "three")]
            close = [np.shape(found[5:]) == np.shape(a) and np.allclose(found[5:], a, **CLOSE)
                     for a in changed]  # fmt: skip
            if not (np.allclose(found[:5], alone["plain"], **CLOSE) and any(close)):
                wrong.append(found)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for turn in range(6):
        pack.load("changes", folders[("three", "other")[turn % 2]])
        pack.load("passes", folders["seven"])
        pack.unload("passes")
    ended.set()
    for thread in threads:
        thread.join()

    assert wrong == []


def count_bytes() -> int:
    """All tensors that are alive, each storage once."""
    gc.collect()
    found = {}
    for thing in gc.get_objects():
        # Not those without storage, which an export leaves behind.
        if type(thing) in (torch.Tensor, torch.nn.Parameter) and thing.device.type == "cpu":
            found[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
    return sum(found.values())


@pytest.mark.slow
def test_memory_grows_by_the_adapter_only(folders):
    """Five domains more take the tensors of five adapters; none is left when they are unloaded."""
    pack = DomainPack.from_pretrained({"first": folders["plain"]})
    pack.load("warm", folders["plain"])
    pack.unload("warm")
    before = count_bytes()
    for number in range(5):
        pack.load(f"domain{number}", folders["plain"])
    grown = count_bytes() - before

    assert grown == 5 * pack.find("domain0").bytes
    assert grown < 5 * sum(p.nbytes for p in pack.backbone.model.parameters())
    for number in range(5):
        pack.unload(f"domain{number}")
    assert count_bytes() == before


@pytest.mark.slow
def test_adapting_in_the_background_disturbs_no_answer_and_keeps_no_states(models, make_meta):
    """The result is what `MetaModel.adapt` gives alone; its support states are not kept."""
    pack = DomainPack(models["plain"], name="plain")
    meta, ended = make_meta(steps=30), []
    jobs = Jobs(pack, meta, name="meta", on_end=ended.append)
    texts = draw_texts(5, seed=4)
    alone = probabilities(models["plain"].predict(texts))
    job = jobs.begin(Order("new", SUPPORT, SUPPORT_LABELS, None, {"companion": "none"})).job
    answers = 0
    while jobs.find(job).status in ("waiting", "running"):
        np.testing.assert_allclose(
            probabilities(pack.predict(["plain"] * 5, texts)), alone, **CLOSE
        )
        answers += 1
    jobs.close()

    assert answers > 1 and ended == ["done"]
    expected = meta.adapt(SUPPORT, SUPPORT_LABELS, companion="none")
    found = pack.predict(["new"] * 5, texts)
    np.testing.assert_allclose(
        probabilities(found), probabilities(expected.predict(texts)), rtol=1e-3, atol=1e-3
    )
    done = jobs.find(job)
    assert done.steps == done.steps_done == 60
    assert done.report["examples"] == len(SUPPORT)


def test_a_meta_model_of_another_pooling_is_refused(models, make_meta):
    pack = DomainPack(models["plain"], name="plain")

    with pytest.raises(BackboneError, match=r"cannot serve 'meta'.*mean pooling"):
        Jobs(pack, make_meta(pooling="mean"), name="meta", on_end=print)
