"""What users hold: a start that adapts to a few labels, and what comes of it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nlp_meta.data.answers import Prediction, share_interval
from nlp_meta.errors import DataError, DivergedError, LabelError, MetaModelError, OutputError
from nlp_meta.hub import storage as packaging
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.builders import build_classifier
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.settings import ModelSettings

POSITIVE = (
    "the agent was great",
    "i loved this house",
    "good food and good staff",
    "a warm room, quiet and great",
    "we loved the service",
    "very fast, i loved it",
)
NEGATIVE = (
    "the agent was awful",
    "we hated this plot",
    "bad food and slow staff",
    "a cold room, loud and awful",
    "never again, we hated the service",
    "the brake was bad",
)
TEXTS = (*POSITIVE, *NEGATIVE)
LABELS = ("positive",) * len(POSITIVE) + ("negative",) * len(NEGATIVE)
NEW_TEXTS = ("great", "bad service and a loud room in a small house, never again!", "it was good")
STEPS = 4


@pytest.fixture(scope="module")
def make_model(tiny_encoder: Path) -> Callable[..., MetaModel]:
    """Build a start whose tensors are all moved a little from where training begins."""

    def make(
        *,
        head: str = "shared",
        pooling: str = "native",
        labels: tuple[str, ...] = ("negative", "positive"),
        early_stop: bool = True,
    ) -> MetaModel:
        settings = ModelSettings(
            model_name_or_path=str(tiny_encoder),
            revision=None,
            pooling=pooling,
            head=head,
            prefix_text="",
            max_tokens=16,
            lora_r=2,
            lora_alpha=4.0,
            lora_layers=2,
            lora_target_modules=["query", "value"],
        )
        objective = build_classifier(settings, labels=labels, device="cpu", precision="no")
        generator = torch.Generator().manual_seed(0)
        weights = {
            name: value + 0.1 * torch.randn(value.shape, generator=generator)
            for name, value in objective.meta_parameters(generator).items()
        }
        inner = InnerLoop(STEPS, 0.01, "adam")
        provenance = {"outer_steps": 3}
        return MetaModel(
            {"classification": objective},
            weights,
            settings,
            {"classification": Adaptation(inner, None, early_stop)},
            provenance,
        )

    return make


@pytest.fixture(scope="module")
def meta(make_model: Callable[..., MetaModel]) -> MetaModel:
    return make_model()


@pytest.fixture(scope="module")
def adapted(meta: MetaModel) -> AdaptedModel:
    return meta.adapt(TEXTS, LABELS)


def table(model: AdaptedModel | MetaModel, texts=NEW_TEXTS) -> torch.Tensor:
    """Probabilities, `(texts, labels)`."""
    answers = model.predict(texts)
    return torch.tensor([[a.probabilities[name] for name in model.labels] for a in answers])


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_adaptation_learns_its_support_set(meta):
    """All its steps are taken: folds of a random encoder may well advise against any."""
    answers = [answer.label for answer in meta.adapt(TEXTS, LABELS, steps=STEPS).predict(TEXTS)]

    assert sum(a == b for a, b in zip(answers, LABELS, strict=True)) >= 10


def test_labels_of_other_names_are_matched(meta, adapted):
    """The same texts under names that mean the same give the same model."""
    names = {"positive": "Pos ", "negative": "neg"}
    other = meta.adapt(TEXTS, [names[label] for label in LABELS])

    assert other.labels == ("negative", "positive")
    assert other.match.matched == {"Pos": "positive", "neg": "negative"}
    assert torch.equal(table(other), table(adapted))


def test_a_saved_model_knows_how_its_labels_were_written(meta, tmp_path):
    """So that a part of a table means in a test what the whole table meant."""
    written = ["1.0" if label == "negative" else "0" for label in LABELS]
    model = meta.adapt(TEXTS, written, label_map={"1": "negative", "0": "positive"}, steps=1)
    model.save_pretrained(tmp_path / "model")

    spellings = AdaptedModel.from_pretrained(str(tmp_path / "model")).spellings

    assert spellings == {"0": "positive", "1": "negative"}


def answer_with(monkeypatch, labels):
    """Let every start answer with these labels."""
    answers = [Prediction(label, {label: 1.0}) for label in labels]
    monkeypatch.setattr("nlp_meta.models.classification.predict_texts", lambda *_arguments: answers)


def test_numbers_that_the_start_contradicts_are_not_taken_as_usual(meta, monkeypatch):
    """By chance 6 and 6 texts are all answered the opposite way in 1 of 924 cases."""
    opposite = {"positive": "negative", "negative": "positive"}
    answer_with(monkeypatch, [opposite[label] for label in LABELS])
    numbers = ["1" if label == "positive" else "0" for label in LABELS]

    with pytest.raises(LabelError, match=r'to 0 of 12 texts.*"1=negative,0=positive".*"1=positive'):
        meta.adapt(TEXTS, numbers)
    named = meta.adapt(TEXTS, numbers, label_map={"1": "positive", "0": "negative"}, steps=1)
    assert named.match.notes == ()


@pytest.mark.parametrize("answers", [("negative",) * 12, LABELS])
def test_numbers_that_the_start_does_not_contradict_are_told(meta, monkeypatch, answers):
    answer_with(monkeypatch, answers)
    numbers = ["1" if label == "positive" else "0" for label in LABELS]

    notes = meta.adapt(TEXTS, numbers, steps=1).match.notes

    assert "that is assumed" in notes[0]
    right = sum(answer == label for answer, label in zip(answers, LABELS, strict=True))
    assert f"to {right} of 12 texts" in notes[1]


def test_texts_of_which_the_encoder_knows_nothing_are_counted(adapted):
    assert adapted.count_unknown(["good", "\u8c22\u8c22", "\U0001f44d", "\u8c22 good"]) == 2


def test_a_label_map_goes_before_matching(meta, adapted):
    names = {"positive": "neg", "negative": "pos"}
    other = meta.adapt(
        TEXTS,
        [names[label] for label in LABELS],
        label_map={"neg": "positive", "pos": "negative"},
    )

    assert torch.equal(table(other), table(adapted))


@pytest.mark.parametrize("head", ["shared", "prototype", "ridge"])
def test_a_label_set_never_seen_gets_a_head_made_from_it(make_model, tmp_path, head):
    """Whatever head the start has; what is saved loads as any other."""
    names = ("praise", "refund", "question")
    labels = [names[i % 3] for i in range(len(TEXTS))]
    known = () if head == "ridge" else ("negative", "positive")
    model = make_model(head=head, labels=known).adapt(TEXTS, labels)

    assert model.labels == ("praise", "question", "refund")
    assert model.match.shared is False
    assert table(model).shape == (3, 3)
    model.save_pretrained(tmp_path / "model")
    loaded = AdaptedModel.from_pretrained(tmp_path / "model")
    assert loaded.labels == model.labels
    torch.testing.assert_close(table(loaded), table(model), rtol=0, atol=1e-6)


def test_a_subset_of_the_labels_answers_with_that_subset_only(make_model, tmp_path):
    model = make_model(labels=("negative", "neutral", "positive")).adapt(TEXTS, LABELS)

    assert model.labels == ("negative", "positive")
    assert model.match.shared is True
    assert set(model.predict(["good"])[0].probabilities) == {"negative", "positive"}
    model.save_pretrained(tmp_path / "model")
    loaded = AdaptedModel.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(table(loaded), table(model), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("texts", "labels", "error", "says"),
    [
        (["a", "b"], ["pos", "pos"], LabelError, "one label only"),
        (["a", "b", "c"], ["pos", "pos", "neg"], LabelError, "'negative' from 1 example:"),
        (["a", "b"], ["pos"], DataError, "2 texts with 1 labels"),
        (["a", " ", "c"], ["pos", "neg", "neg"], DataError, "text 2 of 3: it is empty"),
        (["a", "b"], ["pos", ""], LabelError, "label of example 2: it is empty"),
        (["a"] * 4, ["Yes", "yes ", "no", "no"], LabelError, "'Yes' and 'yes' apart"),
        ([], [], LabelError, "0 examples"),
    ],
)
def test_examples_that_cannot_be_learned_from_stop(meta, texts, labels, error, says):
    with pytest.raises(error, match=says):
        meta.adapt(texts, labels)


def test_repeats_of_a_text_are_counted_once_in_the_interval(meta):
    """Four texts fifteen times say as much as four texts."""
    texts, labels = ["good", "great room", "bad", "awful room"], ["p", "p", "n", "n"]

    once, often = meta.adapt(texts, labels), meta.adapt(texts * 15, labels * 15)

    assert (often.report.examples, often.report.different_texts) == (60, 4)
    for report in (once.report, often.report):
        low, high = share_interval(report.held_out_accuracy, 4)
        assert (report.held_out_low, report.held_out_high) == (low, high)


def test_a_label_of_one_text_cannot_be_learned(meta):
    with pytest.raises(LabelError, match="cannot learn label 'n' from 3 examples of one text"):
        meta.adapt(["good", "fine", "bad", "Bad!", "bad"], ["p", "p", "n", "n", "n"])


@pytest.mark.parametrize("steps", [1, 2, None])
def test_a_rate_at_which_the_loss_diverges_stops(meta, steps):
    """Also where the last step diverged, which no further support loss would tell."""
    with pytest.raises(DivergedError, match="learning_rate"):
        meta.adapt(TEXTS, LABELS, steps=steps, learning_rate=1e30)


def test_predictions_keep_the_order_of_the_texts(adapted):
    """The other route asks for each text alone; batches are formed by length."""
    texts = [text for pair in zip(TEXTS, NEW_TEXTS * 4, strict=True) for text in pair]
    alone = torch.cat([table(adapted, [text]) for text in texts])

    torch.testing.assert_close(table(adapted, texts), alone, rtol=0, atol=1e-5)


def test_probabilities_add_up_to_one_and_the_largest_names_the_label(adapted):
    for answer in adapted.predict(TEXTS):
        assert list(answer.probabilities) == ["negative", "positive"]
        assert sum(answer.probabilities.values()) == pytest.approx(1)
        assert answer.label == max(answer.probabilities, key=answer.probabilities.__getitem__)


def test_no_texts_have_no_predictions(adapted):
    assert adapted.predict([]) == []


def test_an_empty_text_cannot_be_predicted(adapted):
    with pytest.raises(DataError, match="text 2 of 2: it is empty"):
        adapted.predict(["good", "\n"])


def test_a_shared_head_answers_without_labels(make_model):
    model = make_model(labels=("negative", "neutral", "positive"))

    torch.testing.assert_close(table(model).sum(1), torch.ones(3))


def test_some_of_the_labels_share_what_all_shared(make_model):
    model = make_model(labels=("negative", "neutral", "positive")).without_labels()

    two = model.among(["positive", "negative"])

    assert two.labels == ("negative", "positive")
    whole = model.predict_proba(TEXTS)[:, [0, 2]]
    np.testing.assert_allclose(
        two.predict_proba(TEXTS), whole / whole.sum(1, keepdims=True), atol=1e-6
    )


def test_a_head_of_prototypes_needs_labels(make_model):
    with pytest.raises(LabelError, match=r"zero labels.*`adapt`"):
        make_model(head="prototype").predict(["good"])


def test_a_report_says_what_was_done(adapted):
    report = adapted.report

    assert report.examples == len(TEXTS)
    assert report.steps in {0, 1, 2, 4}  # none, a quarter, half and all of the 4
    assert report.learning_rate == 0.01
    assert 0.25 <= report.temperature <= 8
    assert 0 <= report.held_out_accuracy <= 1
    assert report.examples_cut == 0
    assert report.seconds > 0


def test_texts_longer_than_the_encoder_takes_are_counted(meta):
    """By hand: 14 words fit beside the two special tokens of 16, 15 do not."""
    texts = ("good " * 14, "bad " * 15, "great", "awful " * 200)

    assert meta.adapt(texts, ["pos", "neg"] * 2).report.examples_cut == 2


def test_texts_longer_than_the_encoder_takes_can_stop(meta):
    """By hand: 15 words and two special tokens are one more than the 16 that fit."""
    texts = ("good " * 14, "bad " * 15, "great", "awful " * 200)

    with pytest.raises(DataError, match="2 of 4 texts, text 2 the first: they have more than 16"):
        meta.adapt(texts, ["pos", "neg"] * 2, long_texts="stop")


def test_a_head_of_prototypes_takes_at_least_one_step(make_model):
    labels = [("praise", "refund")[i % 2] for i in range(len(TEXTS))]

    assert make_model().adapt(TEXTS, labels).report.steps in {1, 2, 4}


def test_without_early_stop_every_step_is_taken(make_model):
    assert make_model(early_stop=False).adapt(TEXTS, LABELS).report.steps == STEPS


def test_steps_and_rate_that_a_user_names_are_taken(meta):
    report = meta.adapt(TEXTS, LABELS, steps=3, learning_rate=0.02).report

    assert (report.steps, report.learning_rate) == (3, 0.02)


def test_progress_runs_to_its_end_at_the_most(meta):
    seen: list[tuple[int, int]] = []
    meta.adapt(TEXTS, LABELS, steps=2, on_step=lambda done, total: seen.append((done, total)))

    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {total for _, total in seen} == {4}
    assert seen[-1] == (4, 4)


def test_adaptation_is_repeatable_and_leaves_the_meta_model_alone(meta, adapted):
    before = {name: value.clone() for name, value in meta.weights.items()}

    again = meta.adapt(TEXTS, LABELS)

    assert torch.equal(table(again), table(adapted))
    assert all(torch.equal(before[name], value) for name, value in meta.weights.items())


@pytest.mark.parametrize("pooling", ["native", "mean"])
def test_a_saved_model_predicts_the_same(make_model, tmp_path, pooling):
    model = make_model(pooling=pooling).adapt(TEXTS, LABELS)
    model.save_pretrained(tmp_path / "new" / "model")

    loaded = AdaptedModel.from_pretrained(tmp_path / "new" / "model")

    assert loaded.labels == model.labels
    torch.testing.assert_close(table(loaded), table(model), rtol=0, atol=1e-6)


@pytest.mark.parametrize("pooling", ["native", "mean"])
@pytest.mark.parametrize("head", ["shared", "prototype", "ridge"])
def test_a_saved_meta_model_adapts_the_same(make_model, tmp_path, head, pooling):
    known = () if head == "ridge" else ("negative", "positive")
    model = make_model(head=head, labels=known, pooling=pooling)
    model.save_pretrained(tmp_path / "meta")

    loaded = MetaModel.from_pretrained(tmp_path / "meta")

    assert loaded.adaptation == model.adaptation
    assert loaded.provenance == model.provenance
    assert loaded.settings == model.settings
    assert loaded.weights.keys() >= model.weights.keys()
    assert all(torch.equal(loaded.weights[n], value) for n, value in model.weights.items())
    # In float32, as the saved one: where the processor has bfloat16 a loaded model would use it.
    objective = loaded.objectives["classification"]
    exact = replace(objective, network=replace(objective.network, dtype=None))
    exact = exact.over(exact.backbone)
    loaded = replace(loaded, objectives={"classification": exact})
    first, second = (each.adapt(TEXTS, LABELS) for each in (model, loaded))
    torch.testing.assert_close(table(first), table(second), rtol=0, atol=1e-6)


@pytest.mark.parametrize("content", ["file", "folder"])
def test_other_peoples_folders_are_not_written_over(adapted, tmp_path, content):
    if content == "folder":
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "chapter.tex").write_text("years of work", encoding="utf-8")
    else:
        (tmp_path / "thesis").write_text("years of work", encoding="utf-8")
    before = files(tmp_path)

    with pytest.raises(OutputError, match=r"cannot save the adapted model to .*`folder`"):
        adapted.save_pretrained(tmp_path / "thesis")

    assert files(tmp_path) == before


def test_an_old_model_is_replaced_and_its_run_is_kept(meta, make_model, tmp_path):
    """A file of the old model that the new one lacks must go; log and checkpoints stay."""
    folder = tmp_path / "run"
    make_model(pooling="mean").save_pretrained(folder)
    (folder / "log.jsonl").write_text('{"step": 1}\n', encoding="utf-8")
    (folder / "checkpoints" / "step_00000001").mkdir(parents=True)
    (folder / "checkpoints" / "step_00000001" / "state.json").write_text("{}", encoding="utf-8")
    assert (folder / "head.safetensors").is_file()

    meta.save_pretrained(folder)

    assert not (folder / "head.safetensors").exists()
    assert (folder / "log.jsonl").read_text(encoding="utf-8") == '{"step": 1}\n'
    assert (folder / "checkpoints" / "step_00000001" / "state.json").is_file()
    assert MetaModel.from_pretrained(folder).settings.pooling == "native"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_empty_folder_is_written_to(adapted, tmp_path):
    (tmp_path / "model").mkdir()
    adapted.save_pretrained(tmp_path / "model")

    assert AdaptedModel.from_pretrained(tmp_path / "model").labels == adapted.labels


def test_a_save_that_fails_leaves_the_old_model(adapted, meta, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    meta.save_pretrained(tmp_path / "model")
    before = files(tmp_path)
    monkeypatch.setattr(packaging, "build_card", fail)

    with pytest.raises(OutputError, match="disk is full"):
        adapted.save_pretrained(tmp_path / "model", replace=True)

    assert files(tmp_path) == before


def test_what_is_saved_names_no_folder_but_the_encoder(adapted, tiny_encoder, tmp_path):
    adapted.save_pretrained(tmp_path / "model")

    for name, content in files(tmp_path / "model").items():
        assert str(tmp_path).encode() not in content, name
    record = json.loads((tmp_path / "model" / "nlp_meta.json").read_text(encoding="utf-8"))
    assert record["model"]["model_name_or_path"] == str(tiny_encoder)


def test_a_model_of_the_other_kind_says_what_to_do(meta, adapted, tmp_path):
    meta.save_pretrained(tmp_path / "meta")
    adapted.save_pretrained(tmp_path / "adapted")

    with pytest.raises(MetaModelError, match="adapt it first"):
        AdaptedModel.from_pretrained(tmp_path / "meta")
    with pytest.raises(MetaModelError, match="name the start that it was adapted from"):
        MetaModel.from_pretrained(tmp_path / "adapted")


def drop_record(folder: Path) -> None:
    (folder / "nlp_meta.json").unlink()


def cut_record(folder: Path) -> None:
    path = folder / "nlp_meta.json"
    path.write_text(path.read_text(encoding="utf-8")[:-9], encoding="utf-8")


def cut_weights(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


def drop_weights(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (drop_record, "holds no nlp_meta.json"),
        (cut_record, "nlp_meta.json is damaged"),
        (cut_weights, "adapter_model.safetensors is cut off"),
        (drop_weights, "adapter_model.safetensors is missing"),
    ],
)
def test_a_damaged_model_stops(adapted, tmp_path, damage, says):
    adapted.save_pretrained(tmp_path / "model")
    damage(tmp_path / "model")

    with pytest.raises(MetaModelError, match=says):
        AdaptedModel.from_pretrained(tmp_path / "model")


def test_a_missing_model_stops(tmp_path):
    with pytest.raises(MetaModelError, match="there is no such folder here"):
        MetaModel.from_pretrained(tmp_path / "nowhere")
