"""A start goes on with new domains: what is replayed, held out, forgotten and recorded."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from nlp_meta.cli import main
from nlp_meta.data.answers import Prediction
from nlp_meta.data.duplicates import text_key
from nlp_meta.data.labels import LabelMatch, match_labels
from nlp_meta.data.tasks import Example, Task, load_tasks
from nlp_meta.errors import LabelError, MetaModelError, SettingsError
from nlp_meta.hub.data_cards import describe_data
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.builders import build_classifier
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.settings import (
    AdaptationSettings,
    DataSettings,
    EpisodeSettings,
    InnerSettings,
    MetaTraining,
    ModelSettings,
    OuterSettings,
)
from nlp_meta.training import update as updating
from nlp_meta.training.update import (
    drop_judged,
    hold_out,
    make_task,
    measure_forgetting,
    mix_streams,
    update_meta_model,
)

CARD = "nlp_meta_reviews"
OLD, JUDGING = (f"{CARD}/automotive", f"{CARD}/food"), f"{CARD}/finance"
LABELS = ("positive", "negative")  # not the order in which any task would give them
WORDS = {"negative": "bad awful hated slow".split(), "positive": "good great loved".split()}
THINGS = "house agent phone battery food staff room plot brake service money".split()
DATA = DataSettings([CARD], None, "files", {"meta-validation": [JUDGING]}, [f"{CARD}/travel"])
EPISODE = EpisodeSettings(4, 2, 0, 0, "uniform", None, None, None, None)
INNER = InnerSettings(1, 0.01, "sgd", None, 0.0)
OUTER = OuterSettings(
    "reptile", 8, 4, 4, "SGD", 0.5, {}, 0, "constant", None, 8, None, 8, 0
)  # fmt: skip
ADAPTATION = AdaptationSettings(
    labels=12,
    draws=2,
    max_query=20,
    metric="accuracy",
    optimizer="sgd",
    batch_size=None,
    anchor=0.0,
    average=0.0,
    early_stop=False,
    stack=4,
    steps=[1],
    learning_rates=[0.01],
)


def table(*, rows: int = 33) -> tuple[list[str], list[str]]:
    """Sentences of a new domain, so many of each label."""
    pairs = [
        (f"the {thing} was {word} {place}", label)
        for label, words in WORDS.items()
        for place, (thing, word) in enumerate(
            [(thing, word) for word in words for thing in THINGS][:rows]
        )
    ]
    return [text for text, _ in pairs], [label for _, label in pairs]


def task_of(texts: list[str], labels: list[str], **options: Any) -> Task:
    known = options.pop("known", LABELS)
    return make_task("shop", texts, match(labels, known), known=known, shared=True)


def match(labels: list[str], known: Sequence[str] = LABELS) -> LabelMatch:
    return match_labels(labels, known, label_map=None)


@pytest.fixture(scope="module")
def make_meta(tiny_encoder: Path) -> Callable[..., MetaModel]:
    def make(*, head: str = "shared", data: DataSettings = DATA) -> MetaModel:
        model = ModelSettings(
            str(tiny_encoder), None, "native", head, "", 12, 2, 4.0, 2, ["query", "value"]
        )
        objective = build_classifier(model, labels=LABELS, device="cpu", precision="no")
        generator = torch.Generator().manual_seed(0)
        weights = {
            name: value + 0.1 * torch.randn(value.shape, generator=generator)
            for name, value in objective.meta_parameters(generator).items()
        }
        settings = {
            "data": data, "episode": EPISODE, "inner": INNER, "outer": OUTER,
            "adaptation": ADAPTATION,
        }  # fmt: skip
        provenance = {
            "settings": {name: asdict(value) for name, value in settings.items()},
            "meta_train": list(OLD),
            "meta_validation": [JUDGING],
            "data": describe_data([CARD], {"meta_train": OLD, "meta_validation": [JUDGING]}),
            "examples": 1000,
            "trials": [],
        }
        return MetaModel(
            {"classification": objective},
            weights,
            model,
            {"classification": Adaptation(InnerLoop(1, 0.01, "sgd"), None, False)},
            provenance,
        )

    return make


@pytest.fixture
def saved(make_meta: Callable[..., MetaModel], tmp_path: Path) -> Path:
    make_meta().save_pretrained(tmp_path / "meta")
    return tmp_path / "meta"


class StoppedError(Exception):
    """Training is reached; what it was given is in `asked`."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def train(settings: MetaTraining, train: Any, validation: Any, **options: Any) -> Any:
        found.update(options, settings=settings, train=train, validation=validation)
        raise StoppedError

    monkeypatch.setattr(updating, "train_meta_model", train)
    return found


@pytest.mark.parametrize(
    ("domains", "known"),
    [
        ({"automotive": table()}, OLD[0]),
        ({" Auto-Motive": table()}, OLD[0]),
        ({"finance": table()}, JUDGING),
        ({"shop": table(), "S-hop": table(rows=30)}, "shop"),
        ({"shop": table(), "store": table()}, "shop"),
    ],
)
def test_a_domain_that_the_meta_model_knows_stops_before_the_work(
    saved: Path, asked: dict[str, Any], domains: dict[str, Any], known: str
):
    """A name that differs in case, blanks or signs alone is the same name."""
    with pytest.raises(SettingsError, match=rf"knows it already, as '{known}'.*another name"):
        update_meta_model(saved, domains, steps=1)

    assert not asked


def test_the_texts_of_a_known_domain_are_no_new_one_under_another_name(
    saved: Path, asked: dict[str, Any]
):
    task = next(t for t in load_tasks([CARD], meta_split="meta-train") if t.name == OLD[0])
    rows = [*task.train, *task.test]
    texts, labels = [row.source for row in rows], [row.target for row in rows]

    with pytest.raises(SettingsError, match=r"texts are those of '.*'"):
        update_meta_model(saved, {"entirely_new": (texts, labels)}, steps=1)

    assert not asked


@pytest.mark.slow
def test_update_keeps_the_old_labels_and_records_what_it_did(saved: Path, tmp_path: Path):
    """Twice: the second one says that the first one's table is gone."""
    model, report = update_meta_model(saved, {"shop": table()}, steps=2)

    assert model.labels == LABELS and report.steps == 2
    assert [(one.task, one.added) for one in report.domains] == [
        *((name, False) for name in OLD),
        ("added/shop", True),
    ]
    assert all(one.before.low <= one.before.mean <= one.before.high for one in report.domains)
    assert report.replayed == OLD and not report.missing and report.old is not None
    model.save_pretrained(tmp_path / "again")
    provenance = MetaModel.from_pretrained(tmp_path / "again").provenance
    assert provenance["meta_train"] == [*OLD, "added/shop"]
    assert provenance["settings"]["outer"]["steps"] == OUTER.steps
    # Two outer steps of four episodes with 2 x 4 examples for the one inner step.
    assert provenance["examples"] > 1000
    licenses = {one["card"]: one["license"] for one in provenance["data"]}
    assert licenses == {CARD: "cc0-1.0", "added": "unknown"}
    (told,) = provenance["updates"]
    assert told["forgotten"] == list(report.forgotten) and len(told["domains"]) == 3
    text = json.dumps(provenance)
    assert str(tmp_path) not in text and str(Path.cwd()) not in text

    other, second = update_meta_model(tmp_path / "again", {"bank": table(rows=32)}, steps=1)

    assert second.missing == {"added/shop": "it is in none of the record's cards"}
    assert [len(one["added"]) for one in other.provenance["updates"]] == [1, 1]
    # N-grams of the tasks that are here alone would forget those of the shop.
    assert other.companion is not None and model.companion is not None
    assert (other.companion.weight == model.companion.weight).all()


@pytest.mark.parametrize("replay", [0.5, 0.25])
def test_old_tasks_give_their_share_of_the_episodes(
    saved: Path, asked: dict[str, Any], replay: float
):
    with pytest.raises(StoppedError):
        update_meta_model(saved, {"shop": table(), "bank": table(rows=9)}, replay=replay)

    drawn = Counter(asked["stream"].at(i).task for i in range(80))
    assert sum(drawn[name] for name in OLD) == 80 * replay
    assert drawn["added/shop"] == drawn["added/bank"] == 80 * (1 - replay) / 2
    assert asked["settings"].outer.steps == OUTER.steps // 4


def test_no_episode_holds_a_row_that_domains_are_judged_by(saved: Path, asked: dict[str, Any]):
    with pytest.raises(StoppedError):
        update_meta_model(saved, {"shop": table()})

    judged = {
        text_key(e.source) for task in (*asked["train"], *asked["validation"]) for e in task.test
    }
    episodes = [asked["stream"].at(i) for i in range(60)]
    seen = {text_key(e.source) for one in episodes for e in (*one.support, *one.query)}
    assert len(judged) > 50 and len(seen) > 100 and seen.isdisjoint(judged)
    assert [task.name for task in asked["validation"]] == [JUDGING]


def test_quarter_of_each_label_is_held_out_where_there_is_no_test_part():
    """By hand: 20 of each give 5 and leave 15; where 18 must stay, 2 and 18."""
    texts, labels = table(rows=20)
    rows = tuple(Example(text, label) for text, label in zip(texts, labels, strict=True))
    task = Task("a/b", "classification", "eng", "b", "meta-train", LABELS, rows, ())

    held = hold_out(task, fewest=2)

    assert Counter(e.target for e in held.test) == {"negative": 5, "positive": 5}
    assert sorted([*held.train, *held.test], key=rows.index) == list(rows)
    assert len(hold_out(task, fewest=18).test) == 4
    assert hold_out(held, fewest=2) is held


def test_judged_rows_leave_the_training_of_every_domain():
    first = task_of(*table(rows=12))
    copied = replace(first, test=(), train=(*first.train, replace(first.test[0], target="x")))

    (found,) = drop_judged([copied], judged=[first])

    assert found.train == first.train


def test_small_domain_gives_smaller_episodes():
    """By hand: 9 of each label of which 7 stay; 4 of 6 for the support set are 4 of 7."""
    small = task_of(*table(rows=9))
    episode = replace(EPISODE, shot=8, query_shot=4)

    one = mix_streams([small], None, replay=0.0, episode=episode, seed=0).at(0)

    assert Counter(e.target for e in one.support) == {"negative": 4, "positive": 4}
    assert Counter(e.target for e in one.query) == {"negative": 3, "positive": 3}


def test_data_that_are_gone_are_named_or_stop_the_update(
    make_meta: Callable[..., MetaModel], tmp_path: Path, asked: dict[str, Any]
):
    gone = replace(DATA, cards=[CARD, "lost.md"])
    model = make_meta(data=gone)
    some = {**model.provenance, "meta_train": [*OLD, "lost/shoes"]}
    replace(model, provenance=some).save_pretrained(tmp_path / "some")
    none = {**model.provenance, "meta_train": ["lost/shoes"], "meta_validation": ["lost/hats"]}
    replace(model, provenance=none).save_pretrained(tmp_path / "none")

    with pytest.raises(StoppedError):
        update_meta_model(tmp_path / "some", {"shop": table()})
    assert [task.name for task in asked["train"]] == [*OLD, "added/shop"]
    with pytest.raises(SettingsError, match=r"cannot replay old tasks.*cannot find card 'lost.md'"):
        update_meta_model(tmp_path / "none", {"shop": table()})
    with pytest.raises(StoppedError):
        update_meta_model(tmp_path / "none", {"shop": table()}, replay=0)
    assert (
        [task.name for task in asked["train"]]
        == ["added/shop"]
        == [task.name for task in asked["validation"]]
    )


def test_labels_that_the_head_does_not_know_are_refused():
    texts, labels = table(rows=9)
    with pytest.raises(LabelError, match="'angry' is none of the start's labels"):
        task_of([*texts, "x"], [*labels, "angry"])
    with pytest.raises(LabelError, match="at least 8 of each label"):
        task_of(*table(rows=7))

    others = match([{"negative": "cross"}.get(label, label) for label in labels])
    free = make_task("shop", texts, others, known=LABELS, shared=False)
    assert free.labels == ("positive", "cross")


def test_numbers_that_the_start_contradicts_are_not_taken_as_usual(
    make_meta: Callable[..., MetaModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As `adapt` does it: by chance 16 and 16 texts are all answered the other way hardly ever."""
    make_meta().save_pretrained(tmp_path / "meta")
    texts, labels = table(rows=16)
    other = {"negative": "positive", "positive": "negative"}
    answers = [Prediction(other[label], {other[label]: 1.0}) for label in labels]
    monkeypatch.setattr("nlp_meta.models.classification.predict_texts", lambda *_given: answers)
    numbers = ["1" if label == "positive" else "0" for label in labels]

    with pytest.raises(LabelError, match="as if they meant the opposite"):
        update_meta_model(tmp_path / "meta", {"shop": (texts, numbers)}, steps=1)


@pytest.mark.slow
def test_no_text_of_a_new_domain_is_saved_logged_or_tracked(
    make_meta: Callable[..., MetaModel],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
):
    """The run keeps its folder here: checkpoints, log and what a tracker gets."""
    caplog.set_level(logging.DEBUG)
    place = tmp_path / "run"
    kept = {"cpu": True, "log_with": "tensorboard", "project_dir": str(place)}
    monkeypatch.setattr(updating, "Accelerator", lambda **_given: Accelerator(**kept))
    monkeypatch.setattr(updating.tempfile, "TemporaryDirectory", lambda: nullcontext(str(place)))
    make_meta().save_pretrained(tmp_path / "meta")
    texts, labels = table(rows=16)
    planted = [f"qz{place}wjk" for place in range(len(texts))]
    texts = [f"{word} {text}" for word, text in zip(planted, texts, strict=True)]

    model, _ = update_meta_model(tmp_path / "meta", {"shop": (texts, labels)}, steps=2)
    model.save_pretrained(tmp_path / "after")

    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    names = {path.name.partition(".")[0] for path in files}
    assert {"state", "log", "events", "nlp_meta"} <= names
    said = caplog.text + "".join(capfd.readouterr())
    content = said.encode() + b"".join(path.read_bytes() for path in files)
    assert not [word for word in planted if word.encode() in content]


def test_prototype_head_takes_domains_of_other_labels(
    make_meta: Callable[..., MetaModel], tmp_path: Path
):
    make_meta(head="prototype").save_pretrained(tmp_path / "meta")
    texts, labels = table(rows=16)

    model, report = update_meta_model(
        tmp_path / "meta", {"shop": (texts, [one[:3].upper() + "!" for one in labels])}, steps=1
    )

    assert model.labels == (*LABELS, "NEG!", "POS!")
    assert report.domains[-1].rows == 8


def test_what_turns_its_answers_round_has_forgotten(make_meta: Callable[..., MetaModel]):
    """Old domains alone can be forgotten; a model beside itself forgets nothing."""
    before = make_meta()
    last = before.objectives["classification"].plan.head[-1]
    shop = task_of(*table())
    # One half of the rows is what the model says of them, so it is always right.
    said = before.predict([e.source for e in shop.test])
    right = [replace(e, target=one.label) for e, one in zip(shop.test, said, strict=True)]
    easy = replace(shop, test=tuple(right))
    how = Adaptation(InnerLoop(0, 0.01, "sgd"), None, False)
    still = replace(before, adaptation={"classification": how})
    turned = {n: -v if n.startswith(last) else v for n, v in before.weights.items()}
    after = replace(still, weights=turned)

    found = measure_forgetting(still, after, old=[easy], new=[easy], adaptation=ADAPTATION)
    same = measure_forgetting(still, still, old=[easy], new=[], adaptation=ADAPTATION)

    old, new = found.domains
    assert old.before.mean == 1 and old.after.mean == 0
    assert old.forgotten and not new.forgotten and new.difference.difference == -1
    assert same.old is not None and same.old.difference == same.old.high == 0
    assert not same.domains[0].forgotten


def test_a_record_without_its_settings_is_refused(
    make_meta: Callable[..., MetaModel], tmp_path: Path
):
    model = make_meta()

    _, record = saved_record(replace(model, provenance={"settings": {}}), tmp_path / "b")
    with pytest.raises(MetaModelError, match="its record lacks 'outer'"):
        updating._read_settings(record, "b", data_root=None, steps=None, seed=0)


def saved_record(model: MetaModel, folder: Path) -> Any:
    model.save_pretrained(folder)
    return updating.find_model(str(folder), role="start")


def test_command_refuses_what_it_cannot_do(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    texts, labels = table(rows=9)
    lines = [f"{text},{label}" for text, label in zip(texts, labels, strict=True)]
    shop = tmp_path / "shop.csv"
    shop.write_text("\n".join(["text,label", *lines]) + "\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    new = ["--output-dir", str(tmp_path / "new")]
    domain = ["--add-domain", f"shop={shop}"]
    cases = {
        "cannot add the domain 'shop' twice": [*domain, *domain, *new],
        "replaced; name a new or empty folder": [*domain, "--output-dir", str(tmp_path / "full")],
        "cannot read 'none.csv'": ["--add-domain", "shop=none.csv", *new],
        "cannot find column 'mood'": [*domain, *new, "--label-column", "mood"],
    }

    for said, words in cases.items():
        assert main(["update", str(saved), *words]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    for said, words in {
        "is not of the form NAME=FILE": ["--add-domain", "shop.csv", *new],
        "is not a share": [*domain, *new, "--replay", "1"],
    }.items():
        with pytest.raises(SystemExit) as stopped:
            main(["update", str(saved), *words])
        assert stopped.value.code == 2 and said in capsys.readouterr().err
    assert main(["update", str(tmp_path / "full"), *domain, *new]) == 2
    assert "cannot load" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_command_updates_and_tells(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    texts, labels = table(rows=12)
    lines = [f"{text},{label}" for text, label in zip(texts, labels, strict=True)]
    (tmp_path / "shop.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    words = ["update", str(saved), "--add-domain", f"shop={tmp_path / 'shop.csv'}", "--steps", "1"]

    assert main([*words, "--output-dir", str(tmp_path / "new"), "--json"]) == 0

    out = capsys.readouterr()
    record = json.loads(out.out)
    assert [one["task"] for one in record["domains"]] == [*OLD, "added/shop"]
    assert record["missing"] == {} and record["replay"] == 0.5
    assert "old domains together" in out.err and "forgotten" in out.err
    assert MetaModel.from_pretrained(tmp_path / "new").labels == LABELS
    assert sorted(p.name for p in tmp_path.iterdir()) == ["meta", "new", "shop.csv"]


def test_share_and_domains_are_checked(saved: Path):
    with pytest.raises(SettingsError, match="cannot update with 0 new domains"):
        update_meta_model(saved, {})
    with pytest.raises(SettingsError, match=r"a replay of 1\.0"):
        update_meta_model(saved, {"shop": table()}, replay=1.0)
