"""The command line, with a stand-in for the models: words decide, nothing is learned."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pyarrow.parquet as pq
import pytest

from nlp_meta import __version__
from nlp_meta.cli import COMMANDS, bound_threads, main, read_options
from nlp_meta.cli.evaluate import doubt_accuracy, doubt_scores
from nlp_meta.cli.options import name_options, read_path, repeat_data
from nlp_meta.cli.predict import name_columns
from nlp_meta.cli.screen import make_screen, show_notes
from nlp_meta.data.answers import Prediction
from nlp_meta.data.labels import LabelMatch, check_labels, match_labels
from nlp_meta.errors import DivergedError, MetaModelError
from nlp_meta.evaluation.statistics import Interval
from nlp_meta.files.tables import read_table
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.companion import CompanionReport
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.settings import MetaTraining, SmallTraining
from nlp_meta.training.config import explain_sections

KNOWN = ("negative", "positive")


@dataclass(frozen=True)
class Report:
    examples: int
    steps: int
    learning_rate: float
    temperature: float
    held_out_accuracy: float
    held_out_low: float
    held_out_high: float
    different_texts: int
    seconds: float
    examples_cut: int
    companion: CompanionReport | None = None
    examples_unknown: int = 0
    by_views: bool = False
    held_out: tuple[tuple[float, bool], ...] = ()


@dataclass(frozen=True)
class Adapted:
    """Knows one word, `good`; what has it is the last label, with probability 0.75."""

    labels: tuple[str, ...] = KNOWN
    match: LabelMatch | None = None
    report: Report | None = None
    spellings: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str, *, revision: str | None = None, base: str | None = None
    ) -> "Adapted":
        folder = Path(name_or_path)
        if not (folder / "labels.json").is_file():
            raise MetaModelError(
                f"cannot load '{name_or_path}':\nit is no model, one is needed; check the path"
            )
        return cls(tuple(json.loads((folder / "labels.json").read_text(encoding="utf-8"))))

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        print("a library that talks")
        first, last = self.labels[0], self.labels[-1]
        rest = dict.fromkeys(self.labels[1:-1], 0.0)
        return [
            Prediction(last, {first: 0.25, **rest, last: 0.75})
            if "good" in text
            else Prediction(first, {first: 0.75, **rest, last: 0.25})
            for text in texts
        ]

    def count_unknown(self, texts: Sequence[str]) -> int:
        return sum(not text.isascii() for text in texts)

    def save_pretrained(self, folder: str | Path, *, replace: bool = False) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "labels.json").write_text(json.dumps(self.labels), encoding="utf-8")


class Meta:
    labels = KNOWN

    @classmethod
    def from_pretrained(
        cls, name_or_path: str, *, revision: str | None = None, base: str | None = None
    ) -> "Meta":
        print("a library that talks")
        if name_or_path != "meta":
            raise MetaModelError(f"cannot load '{name_or_path}': a start is needed; correct it")
        return cls()

    def adapt(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        label_map: Mapping[str, str] | None = None,
        steps: int | None = None,
        learning_rate: float | None = None,
        seed: int = 0,
        long_texts: str = "cut",
        companion: str = "auto",
        label_descriptions: Mapping[str, str] | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Adapted:
        if learning_rate == 99:
            raise DivergedError("cannot adapt: the loss is not a number; lower `learning_rate`")
        if learning_rate == 98:
            raise KeyboardInterrupt
        match = match_labels(labels, KNOWN, label_map=label_map)
        check_labels(match.labels)
        if on_step:
            on_step(1, steps or 8)
        names = tuple(sorted(set(match.labels)))
        report = Report(
            len(texts), steps or 8, learning_rate or 0.01, 1.5, 0.9, 0.5, 1.0, len(texts), 2.0, 1
        )
        if companion != "none":
            on = companion == "ngrams"
            report = replace(
                report, companion=CompanionReport(on, 0.3, 0.5, 0.7, 0.6, 0.8, 0.5, 0.9, 0.4)
            )
        return Adapted(names, match, report)


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Stand-in models, an adapted one in `model/`, and an empty working folder."""
    monkeypatch.setattr(MetaModel, "from_pretrained", Meta.from_pretrained)
    monkeypatch.setattr(AdaptedModel, "from_pretrained", Adapted.from_pretrained)
    monkeypatch.chdir(tmp_path)
    Adapted().save_pretrained("model")


def write(path: str, *rows: Sequence[str], header: Sequence[str] = ("text", "label")) -> str:
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def labeled(path: str = "labeled.csv") -> str:
    rows = [("good one", "pos"), ("good two", "pos"), ("bad one", "Neg"), ("bad two", "Neg")]
    return write(path, *rows)


def rows_of(path: str) -> list[list[str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def assert_stops(capsys: pytest.CaptureFixture[str], arguments: Sequence[str], *words: str) -> None:
    """Exit code 2 and one line on standard error that has all the words."""
    try:
        code: object = main(arguments)
    except SystemExit as stopped:
        code = stopped.code
    out, err = capsys.readouterr()
    assert code == 2
    # The stand-in talks where a real model is silent; with `--json` none of that may show.
    assert "--json" not in arguments or out == ""
    lines = [line for line in err.splitlines() if line != "a library that talks"]
    assert len(lines) == 1 and lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


def test_adapt_saves_a_model_and_says_what_it_matched(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapt", "meta", "--data", labeled(), "--output-dir", "new", "--steps", "5"]) == 0

    out = capsys.readouterr().out
    assert json.loads(Path("new/labels.json").read_text(encoding="utf-8")) == list(KNOWN)
    assert "labels matched: pos -> positive (2), Neg -> negative (2)" in out
    assert "4, of which 1 cut" in out
    assert "5 at learning rate 0.01" in out
    assert "nlp-meta predict new --data new.csv --output predictions.csv" in out


def test_json_is_the_only_thing_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    commands = (
        ["adapt", "meta", "--data", labeled(), "--output-dir", "new"],
        ["predict", "model", "--data", labeled("a.csv"), "--output", "p.csv"],
        ["evaluate", "model", "--data", labeled("b.csv"), "--output", "s.json"],
        ["cards"],
        ["cards", "check", "nlp_meta_reviews"],
    )
    for command in commands:
        assert main([*command, "--json"]) == 0
        out, err = capsys.readouterr()
        assert isinstance(json.loads(out), dict), command
        assert err.strip(), command


def test_adapt_record_has_what_the_report_has(capsys: pytest.CaptureFixture[str]) -> None:
    main(["adapt", "meta", "--data", labeled(), "--output-dir", "new", "--json"])

    record = json.loads(capsys.readouterr().out)
    assert record["labels"] == ["negative", "positive"]
    assert record["match"]["matched"] == {"pos": "positive", "Neg": "negative"}
    assert (record["examples"], record["examples_cut"], record["temperature"]) == (4, 1, 1.5)


@pytest.mark.parametrize(
    ("arguments", "words", "on"),
    [
        ([], "off, weight 0.3: held-out accuracy 0.700 without them, 0.600 alone", False),
        (["--companion", "ngrams"], "on, weight 0.3: held-out accuracy 0.700 without", True),
        (["--companion", "none"], "not asked for", None),
    ],
)
def test_adapt_tells_of_the_n_grams(
    arguments: list[str], words: str, on: bool | None, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["adapt", "meta", "--data", labeled(), *arguments, "--output-dir"]
    main([*command, "one"])
    assert words in capsys.readouterr().out

    main([*command, "two", "--json"])
    record = json.loads(capsys.readouterr().out)["companion"]
    assert (record and record["on"]) is on


def test_predictions_have_text_label_and_one_probability_per_label() -> None:
    data = write("new.csv", ("good, or not",), ("a bad\nday",), header=("review",))

    arguments = ["predict", "model", "--data", data, "--output", "p.csv"]
    assert main([*arguments, "--text-column", "review"]) == 0

    assert rows_of("p.csv") == [
        ["review", "label", "negative", "positive"],
        ["good, or not", "positive", "0.25", "0.75"],
        ["a bad\nday", "negative", "0.75", "0.25"],
    ]


def test_predictions_carry_columns_and_rows_without_a_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Predictions keep the name of their column, so that nobody takes other labels for them."""
    Path("t.csv").write_text("id,text,label\n7,good,x\n8,\u200b,y\n9,=1+1,-2\n", encoding="utf-8")

    assert main(["predict", "model", "--data", "t.csv", "--output", "p.csv", "--json"]) == 0

    assert rows_of("p.csv") == [
        ["id", "text", "given_label", "label", "negative", "positive"],
        ["7", "good", "x", "positive", "0.25", "0.75"],
        ["8", "\u200b", "y", "", "", ""],
        ["9", "'=1+1", "-2", "negative", "0.75", "0.25"],
    ]
    record = json.loads(capsys.readouterr().out)
    assert record["without_answer"] == 1
    assert any("1 of 3 rows" in note for note in record["notes"])
    assert any("'given_label'" in note for note in record["notes"])


def test_what_is_not_sure_enough_has_no_label(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: the stand-in is sure by 0.75; of held-out answers from 0.7 on 1 of 2 is right."""
    Path("t.csv").write_text("text,answered\ngood,x\n\u200b,y\n", encoding="utf-8")
    arguments = ["predict", "model", "--data", "t.csv", "--output", "p.csv", "--json"]

    assert main([*arguments, "--min-confidence", "0.8"]) == 0
    assert rows_of("p.csv") == [
        ["text", "given_answered", "label", "answered", "negative", "positive"],
        ["good", "x", "", "no", "0.25", "0.75"],
        ["\u200b", "y", "", "", "", ""],
    ]
    record = json.loads(capsys.readouterr().out)
    assert (record["answered"], record["unsure"], record["without_answer"]) == (0, 1, 2)
    assert record["promised"] is None

    report = Report(3, 8, 0.01, 1.5, 0.9, 0.5, 1.0, 3, 2.0, 1)
    report = replace(report, held_out=((0.9, True), (0.7, False), (0.6, True)))
    known = Adapted(report=report)
    monkeypatch.setattr(AdaptedModel, "from_pretrained", lambda *_args, **_named: known)
    assert main([*arguments, "--min-confidence", "0.7"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["answered"] == 1 and record["promised"]["accuracy"] == 0.5
    assert record["promised"]["answered"] == pytest.approx(2 / 3)
    assert_stops(capsys, [*arguments, "--min-confidence", "80"], "from 0 to 1")


def test_columns_to_keep_and_empty_rows_are_chosen() -> None:
    Path("t.csv").write_text("id,text,day\n7,=good,1\n8,,2\n", encoding="utf-8")
    arguments = ["predict", "model", "--data", "t.csv", "--output", "p.csv", "--formulas", "keep"]

    assert main([*arguments, "--keep-columns", "day", "--empty", "skip"]) == 0

    assert rows_of("p.csv") == [
        ["text", "day", "label", "negative", "positive"],
        ["=good", "1", "positive", "0.25", "0.75"],
    ]
    assert main([*arguments, "--replace", "--empty", "stop"]) == 2
    assert main([*arguments, "--replace", "--keep-columns", "dya"]) == 2


def test_rows_are_left_out_and_labels_are_named_by_a_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = "good,1\n" * 3 + "bad,2\n" * 3 + "so,nan\n" + "so,\n"
    Path("t.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    Path("names.json").write_text('{"1": "positive", "2": "negative"}', encoding="utf-8")
    arguments = ["evaluate", "model", "--data", "t.csv", "--output", "s.json"]
    named = [*arguments, "--label-map", "names.json"]

    assert main(named) == 2
    assert "--empty skip" in capsys.readouterr().err
    assert main([*named, "--empty", "skip"]) == 2
    assert "--drop-label nan" in capsys.readouterr().err
    assert main([*named, "--empty", "skip", "--drop-label", "nan", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["labels"] == {"negative": 3, "positive": 3}
    assert len(record["notes"]) >= 2


@pytest.mark.parametrize("ending", ["tsv", "jsonl", "parquet"])
def test_other_endings_hold_the_same_table(ending: str) -> None:
    data = write("new.csv", ('a good\t"day"',), header=("text",))

    assert main(["predict", "model", "--data", data, "--output", f"out/p.{ending}"]) == 0

    path = Path(f"out/p.{ending}")
    if ending == "parquet":
        row = pq.read_table(path).to_pylist()[0]
    elif ending == "jsonl":
        row = json.loads(path.read_text(encoding="utf-8"))
    else:
        with path.open(encoding="utf-8", newline="") as file:
            row = next(csv.DictReader(file, delimiter="\t"))
        row |= {label: float(row[label]) for label in KNOWN}
    expected = {"text": 'a good\t"day"', "label": "positive", "negative": 0.25, "positive": 0.75}
    assert row == expected


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_blocks_keep_the_order_of_the_rows(ending: str) -> None:
    texts = ["good" if row % 3 else "bad" for row in range(1200)]
    data = write("new.csv", *([text] for text in texts), header=("text",))

    main(["predict", "model", "--data", data, "--output", f"p.{ending}"])

    table = read_table(Path(f"p.{ending}"), label_column="label", max_rows=2000)
    assert list(table.texts) == texts and table.labels is not None
    expected = ["positive" if text == "good" else "negative" for text in texts]
    assert list(table.labels) == expected


@pytest.mark.parametrize(
    ("text_column", "labels", "names"),
    [
        ("text", ("a", "b"), ("text", "label", "a", "b")),
        (
            "text",
            ("text", "label"),
            ("text", "label", "probability_text", "probability_label"),
        ),
        ("a", ("a", "b"), ("a", "label", "probability_a", "b")),
        ("label", ("x", "y"), ("label", "predicted_label", "x", "y")),
        (
            "text",
            ("text", "probability_text"),
            ("text", "label", "probability_probability_text", "probability_text"),
        ),
    ],
)
def test_column_names_never_clash(
    text_column: str, labels: tuple[str, ...], names: tuple[str, ...]
) -> None:
    assert name_columns(text_column, labels) == names


def test_scores_agree_with_hand_arithmetic(capsys: pytest.CaptureFixture[str]) -> None:
    """By hand, 3 of 4 are right: F1 is 2/3 and 4/5; every row has 0.75, so the gap is 0."""
    data = write("test.csv", ("good", "1"), ("good", "1"), ("bad", "0"), ("good", "0"))

    assert main(["evaluate", "model", "--data", data, "--output", "s.json", "--json"]) == 0

    scores = json.loads(Path("s.json").read_text(encoding="utf-8"))
    assert scores == json.loads(capsys.readouterr().out)
    assert scores["accuracy"]["value"] == 0.75
    assert scores["macro_f1"]["value"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert scores["ece"]["value"] == pytest.approx(0)
    assert scores["rows"] == 4
    assert scores["labels"] == {"negative": 2, "positive": 2}
    (whole,) = scores["risk_coverage"]  # all are equally sure
    assert (whole["answered"], whole["accuracy"], whole["min_confidence"]) == (1, 0.75, 0.75)
    for name in ("accuracy", "macro_f1", "ece"):
        assert scores[name].keys() == {"value", "low", "high"}
        assert scores[name]["low"] <= scores[name]["value"] <= scores[name]["high"]


def test_options_may_stand_before_the_model() -> None:
    data = ["--data", write("test.csv", ("good", "pos"), ("bad", "neg"))]

    assert main(["evaluate", *data, "model", "--output", "s.json"]) == 0
    assert main(["evaluate", "--output", "s.json", *data, "model"]) == 0


def test_a_second_path_belongs_to_the_data() -> None:
    words = ["adapt", "meta", "--data", "a", "b", "--json"]

    assert repeat_data(words) == ["adapt", "meta", "--data", "a", "--data", "b", "--json"]
    given = "adapt --data a meta", "predict m --data a b", "adapt m --data --json b", "adapt"
    for others in (one.split() for one in given):
        assert repeat_data(others) == others
    options = read_options([*words, "--output-dir", "n"])
    assert options.data == (Path("a"), Path("b"))


def test_label_unknown_to_the_model_stops_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    data = write("test.csv", ("good", "pos"), ("bad", "mixed"))
    command = ["evaluate", "model", "--data", data, "--output", "s.json"]

    assert_stops(capsys, command, "label 'mixed':", "'negative', 'positive'", "--label-map")
    assert not Path("s.json").exists()
    assert main([*command, "--label-map", "mixed=negative"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "nothing", "--data", "d.csv", "--output", "p.csv"], "nothing"),
        (["predict", "model", "--data", "absent.csv", "--output", "p.csv"], "absent.csv"),
        (["predict", "model", "--data", "d.csv", "--output", "p.docx"], ".docx"),
        (["predict", "model", "--data", "d.csv", "--output", "d.csv"], "reads"),
        (["predict", "model", "--data", "d.csv", "--output", "d.csv/p.csv"], "not a folder"),
        (["predict", "model", "--data", "d.csv", "--output", "model.csv"], "not a file"),
        (["evaluate", "model", "--data", "d.csv", "--output", "d.csv"], "reads"),
        (["evaluate", "model", "--data", "d.csv", "--output", "s.json", "--label-map", "a"], "'a'"),
        (["adapt", "meta", "--data", "d.csv", "--output-dir", "d.csv"], "not a folder"),
        (["adapt", "meta", "--data", "d.csv", "--output-dir", "n", "--max-rows", "3"], "4 rows"),
        (["adapt", "other", "--data", "d.csv", "--output-dir", "n"], "other"),
        (["adapt", "meta", "--data", "d.csv", "--output-dir", "n", "--steps", "0"], "--steps"),
        (
            ["adapt", "meta", "--data", "d.csv", "--output-dir", "n", "--learning-rate", "nan"],
            "nan",
        ),
        (
            ["adapt", "meta", "--data", "d.csv", "--output-dir", "n", "--learning-rate", "99"],
            "lower `--learning-rate`",
        ),
        (["adapt", "meta", "--data", "d.csv", "--output-dir", "n", "--text-column", "t"], "'t'"),
        (["adapt", "meta", "--data", "d.csv", "--output-dir", "n", "--sed", "1"], "--sed"),
        (["adapt", "meta", "--output-dir", "n"], "--data"),
        (["adapt", "meta", "--data", "d.csv", "e.csv", "--output-dir", "n"], "two paths are those"),
        (["evaluate", "model", "--data", "d.csv", "e.csv", "--output", "s.json"], "one table is"),
        (["compare", "meta", "--data", "d.csv", "e.csv", "--output-dir", "n"], "two paths are"),
        (["adapt", "meta", "--data", "d.csv", "e.csv", "f.csv", "--output-dir", "n"], "f.csv"),
        (["predict", "model", "--data", "d.csv", "e.csv", "--output", "p.csv"], "e.csv"),
        (["adapt", "meta", "--data", "d.csv", "--output-dir", "n", "--companion", "x"], "'x'"),
        (["cards", "check", "nusaxx"], "nusax"),
        (["cards", "check", "nusaxx", "--json"], "nusax"),
        (["no-such-command"], "no-such-command"),
        ([], "COMMAND"),
    ],
)
def test_bad_input_stops_with_one_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    labeled("d.csv")
    Path("model.csv").mkdir()
    before = Path("d.csv").read_bytes()

    assert_stops(capsys, arguments, words)
    assert Path("d.csv").read_bytes() == before
    assert not Path("n").exists() and not Path("p.csv").exists()


def test_every_bad_card_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one.md", "two.md"):
        Path(name).write_text("---\npretty_name: x\n---\n", encoding="utf-8")

    assert main(["cards", "check", "one.md", "nusax", "two.md"]) == 2

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "one.md" in lines[0] and "two.md" in lines[1] and "2 of 3 cards" in lines[2]


def test_one_label_only_touches_no_saved_model(capsys: pytest.CaptureFixture[str]) -> None:
    data = write("one.csv", ("good", "pos"), ("better", "pos"))

    assert_stops(capsys, ["adapt", "meta", "--data", data, "--output-dir", "n"], "one label only")
    assert not Path("n").exists()


@pytest.mark.parametrize("role", ["start", None])
def test_adapt_replaces_nothing_but_an_adapted_model(
    role: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("thesis").mkdir()
    Path("thesis/chapter.txt").write_text("years of work", encoding="utf-8")
    if role:
        save_record(Path("thesis"), role)

    command = ["adapt", "meta", "--data", labeled(), "--output-dir", "thesis"]
    assert_stops(capsys, command, "thesis", "--output-dir", "--replace")
    assert Path("thesis/chapter.txt").read_text(encoding="utf-8") == "years of work"
    assert not Path("thesis/labels.json").exists()


def test_adapt_replaces_an_adapted_model_that_is_as_it_was_saved(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["adapt", "meta", "--data", labeled(), "--output-dir", "old"]
    Path("old").mkdir()
    save_record(Path("old"), "adapted")

    assert main(command) == 0
    assert Path("old/labels.json").is_file()

    capsys.readouterr()
    record = json.loads(Path("old/nlp_meta.json").read_text(encoding="utf-8"))
    Path("old/nlp_meta.json").write_text(json.dumps(record | {"note": 1}), encoding="utf-8")
    assert_stops(capsys, command, "nlp_meta.json", "--replace")
    assert main([*command, "--replace"]) == 0


def save_record(folder: Path, role: str) -> None:
    from nlp_meta.files.outputs import seal
    from nlp_meta.hub.pull import RECORD
    from nlp_meta.hub.records import Record

    record: dict[str, object] = {name: {} for name in Record.__dataclass_fields__}
    record |= {"role": role, "skills": ["classification"], "labels": [], "files": {}}
    (folder / RECORD).write_text(json.dumps(seal(record)), encoding="utf-8")


def test_failed_write_keeps_the_old_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("p.csv").write_text("old", encoding="utf-8")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nlp_meta.files.outputs.os.fsync", fail)
    command = ["predict", "model", "--data", labeled(), "--output", "p.csv", "--replace"]
    command += ["--keep-columns", "none"]
    assert_stops(capsys, [*command, "--json"], "disk is full")
    assert Path("p.csv").read_text(encoding="utf-8") == "old"
    assert sorted(path.name for path in Path().iterdir()) == ["labeled.csv", "model", "p.csv"]


def test_predictions_that_a_person_worked_on_are_not_replaced_without_a_word(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["predict", "model", "--data", labeled(), "--output", "p.csv"]
    assert main(command) == 0
    assert main(command) == 0
    with Path("p.csv").open("a", encoding="utf-8") as file:
        file.write("a row of mine\n")
    before = Path("p.csv").read_bytes()
    capsys.readouterr()

    assert_stops(capsys, command, "p.csv", "--output", "--replace")

    assert Path("p.csv").read_bytes() == before
    assert main([*command, "--replace"]) == 0


@pytest.mark.parametrize("output", ["map.txt", "model/labels.json", "./d.csv", "link.csv"])
def test_no_input_is_replaced_whatever_option_names_it(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    labeled("d.csv")
    Path("link.csv").symlink_to("d.csv")
    Path("map.txt").write_text("bad=negative", encoding="utf-8")
    words = ["evaluate", "model", "--data", "d.csv", "--label-column=map.txt"]

    assert_stops(capsys, [*words, "--output", output, "--replace"], "reads", "overwritten")


def test_interruption_leaves_with_130_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["adapt", "meta", "--data", labeled(), "--output-dir", "n", "--learning-rate", "98"]

    assert main([*command, "--json"]) == 130

    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "interrupted"
    assert not Path("n").exists()


def test_quickstart_reports_its_methods(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, object] = {}

    def run(**options: object) -> object:
        asked.update(options)
        result = ModuleType("result")
        scores = {"ours": Interval(0.9, 0.8, 1.0)}
        vars(result).update(methods=scores, seconds=1.0, meta_dir="q/meta", adapted_dir="q/r")
        return result

    stand_in = ModuleType("nlp_meta.training.quickstart")
    vars(stand_in)["run_quickstart"] = run
    monkeypatch.setitem(sys.modules, "nlp_meta.training.quickstart", stand_in)

    assert main(["quickstart", "--seed", "3", "--json"]) == 0

    record = json.loads(capsys.readouterr().out)
    assert record["methods"] == {"ours": {"mean": 0.9, "low": 0.8, "high": 1.0}}
    assert record["meta_dir"] == "q/meta"
    assert asked == {
        "output_dir": Path("runs/quickstart"),
        "seed": 3,
        "progress": True,
        "replace": False,
    }


def test_labels_are_printed_as_written(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither console markup nor emoji codes: `[red]` and `:cat:` are labels like any other."""
    Adapted(("[red]", ":cat:")).save_pretrained("model")
    data = write("new.csv", ("good",), header=("text",))

    assert main(["predict", "model", "--data", data, "--output", "p.csv"]) == 0

    out = capsys.readouterr().out
    assert "[red]" in out and ":cat:" in out


@pytest.mark.parametrize(
    ("written", "cores", "threads"),
    [
        ("150000 100000", 64, "2"),
        ("50000 100000", 2, "1"),
        ("max 100000", 64, "16"),
        ("max 100000", 8, None),
        ("400000 100000", 4, None),
    ],
)
def test_threads_are_no_more_than_the_cores_that_a_container_may_use(
    written: str, cores: int, threads: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits, environment = tmp_path / "cpu.max", {"HOME": "/home/ann"}
    limits.write_text(written + "\n")
    monkeypatch.setattr("os.cpu_count", lambda: cores)

    bound_threads(environment, limits)

    assert environment.get("OMP_NUM_THREADS") == threads


def test_threads_that_the_user_chose_stay(tmp_path: Path) -> None:
    limits, environment = tmp_path / "cpu.max", {"OMP_NUM_THREADS": "7"}
    limits.write_text("100000 100000\n")

    bound_threads(environment, limits)

    assert environment["OMP_NUM_THREADS"] == "7"


def test_version_tells_what_a_report_of_a_fault_needs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    lines = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["nlp-meta"] == __version__
    packages = ("torch", "transformers", "peft")
    assert {name: lines[name] for name in packages} == {name: version(name) for name in packages}
    assert lines["device"] in ("cpu", "cuda")


@pytest.mark.parametrize("width", [80, 120])
def test_help_of_every_command_has_headings_and_an_example(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for command in (*COMMANDS, "cards check", "cards push"):
        with pytest.raises(SystemExit, match="0"):
            main([*command.split(), "--help"])
        out = capsys.readouterr().out
        first = "actions:" if command == "cards" else "main options:"
        assert out.index(first) < out.index("\nother options:") < out.index("\nexample:"), command
        assert "\noptions:" not in out and "positional arguments" not in out
        assert max(map(len, out.splitlines())) <= width, command


def test_front_help_fits_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert {line.split()[0] for line in lines if line.startswith("  ")} >= COMMANDS.keys()


@pytest.mark.parametrize(
    ("words", "message", "shown"),
    [
        ("adapt meta", "lower `learning_rate` now", "lower `--learning-rate` now"),
        ("adapt meta", 'with `long_texts="cut"`', "with `--long-texts cut`"),
        ("adapt meta", "change `run.output_dir`", "change `--output-dir`"),
        ("adapt meta", "or give `token`", "or give `--token`"),
        ("adapt meta", "name another `start`", "name another `START`"),
        ("adapt meta", "name another `folder`", "name another `--output-dir`"),
        ("adapt meta", "change `name_or_path`", "change `START`"),
        ("push folder", "name another `folder`", "name another `FOLDER`"),
        ("push folder", "or give `token`", "or give `--token`"),
        ("push folder", "over it with `exist_ok=True`", "over it with `--exist-ok`"),
        ("compare meta", "`prompting.model_name_or_path`", "`--prompting.model`"),
        ("push folder", "it holds no `config.json`", "it holds no `config.json`"),
        ("adapt meta", "set `lora_r`, or run `adapt` first", "set `lora_r`, or run `adapt` first"),
    ],
)
def test_errors_of_the_library_name_options_of_the_command(
    words: str, message: str, shown: str
) -> None:
    needed = {
        "adapt": ["--data", "d.csv", "--output-dir", "n"],
        "compare": ["--data", "d.csv", "--output-dir", "n"],
        "push": ["--repo-id", "me/model"],
    }
    command = words.split()
    parser = read_options([*command, *needed[command[0]]]).parser
    assert name_options(message, parser) == shown


def test_notes_of_the_library_name_options_of_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = make_screen(read_options(["adapt", "--data", "d.csv", "--output-dir", "n"]))

    show_notes(screen, ['say `label_map="0=bad"`, in `data`'])

    assert screen.noted == ["say `--label-map 0=bad`, in `--data`"]
    assert capsys.readouterr().err == f"note: {screen.noted[0]}\n"


@pytest.mark.parametrize(
    ("words", "near"),
    [
        ("adpat meta", "did you mean `adapt`? see `nlp-meta --help`"),
        ("adapt --dta=labeled.csv --output-dir x", "required: --data; did you mean `--data`?"),
        ("push folder --repo-id me/x --privat", "did you mean `--private`?"),
        ("cards psh", "did you mean `push`?"),
        ("train --config x --outer.step 5", "did you mean `--outer.steps`?"),
        ("push folder --repo-id me/x --strange", "--strange; see `nlp-meta push --help`"),
    ],
)
def test_a_word_that_is_almost_one_of_ours_is_answered_with_it(
    words: str, near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words.split())
    error = capsys.readouterr().err
    assert near in error and error.count("\n") == 1


def test_train_explains_every_key_and_lists_the_configs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help"])
    out = capsys.readouterr().out
    assert out.count("\nrun:\n") == 1
    for form in (MetaTraining, SmallTraining):
        for name, _, explained in explain_sections(form):
            keys = [f"--{name}.{key}" if name else f"--{key}" for key in explained]
            assert [key for key in keys if f"{key} VALUE" not in out] == []
    assert main(["train", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    configs = listed["configs"]
    assert (Path(listed["folder"]) / "reptile_reviews.yaml").is_file()
    assert "Reptile" in configs["reptile_reviews"] and "compare_reviews" not in configs


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_a_shell_completes_commands_and_options(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--print-completion", shell])
    script = capsys.readouterr().out
    assert all(word in script for word in (*COMMANDS, "label-map", "dry-run", "outer.steps"))
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_only_the_command_line_names_its_options() -> None:
    """`training/config.py` and `settings.py` are the command line of recipes."""
    package = Path(main.__code__.co_filename).parents[1]
    apart = [package / "cli", package / "training" / "config.py", package / "settings.py"]
    named = [
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if not any(path.is_relative_to(place) for place in apart)
        and re.search("`--[a-z]", path.read_text(encoding="utf-8"))
    ]
    assert named == []


def test_help_imports_nothing_heavy() -> None:
    root = Path(main.__code__.co_filename).parents[2]
    code = (
        "import sys\nfrom nlp_meta.cli import main\n"
        "try:\n    main(['adapt', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'numpy', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(1 if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0
    assert "example:" in done.stdout and "default: 2000" in done.stdout


def test_recommend_offers_no_method_whose_start_it_cannot_be_given(tmp_path, capsys):
    rows = [f"text {n},{('bad', 'good')[n % 2]}" for n in range(40)]
    table = tmp_path / "labeled.csv"
    table.write_text("\n".join(["text,label", *rows]), encoding="utf-8")

    assert main(["recommend", "--data", str(table), "--methods", "joint"]) == 2
    assert "cannot compare the method 'joint': one of" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["recommend", "--help"])
    assert "joint" not in capsys.readouterr().out


def test_texts_to_align_are_read_in_the_encoding_that_is_named(tmp_path, capsys):
    for side in ("a", "b"):
        (tmp_path / side).write_bytes("caf\xe9\n".encode("cp1252"))
    words = ["align", "none/such", "--source", str(tmp_path / "a"), "--target", str(tmp_path / "b")]
    words += ["--output", str(tmp_path / "pairs.xlsx")]

    assert main(words) == 2
    assert "byte 0xe9 in line 1 is not UTF-8" in (said := capsys.readouterr().err)
    assert "or name its own with `--encoding`" in said
    assert main([*words, "--encoding", "cp1252"]) == 2
    assert "'none/such'" in capsys.readouterr().err


def test_an_accuracy_that_one_answer_to_all_rows_has_too_is_doubted():
    """72 of 74 are 0.973: whoever always answers the same is right as often."""
    counts = {"positive": 72, "negative": 2}

    assert "answering 'positive' to every row, 0.973" in doubt_accuracy(counts, 72 / 74)[0]
    assert doubt_accuracy(counts, 73 / 74) == []


@pytest.mark.parametrize(
    ("labels", "different", "says"),
    [
        ({"a": 4, "b": 4}, 8, "8 rows are few: another 8 may"),
        ({"a": 20, "b": 20}, 2, "2 texts are few: another 2 may"),
        ({"a": 20, "b": 20}, 1, "one text says almost nothing"),
        ({"a": 1}, 1, "one row says almost nothing"),
    ],
)
def test_scores_over_few_texts_are_doubted_however_many_rows_repeat_them(labels, different, says):
    assert says in doubt_scores(labels, 1.0, different=different)[0]
    assert doubt_scores({"a": 20, "b": 20}, 1.0, different=40) == []


def test_rows_that_nearly_repeat_others_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(f"The lift was late on day {day}.", "neg") for day in range(5)]
    rows += [(f"{word} was a joy to use and to look at", "pos") for word in ("It", "She", "Tea")]
    data = write("near.csv", *rows, ("Nothing works here at all, never again.", "neg"))

    assert main(["adapt", "meta", "--data", data, "--output-dir", "near"]) == 0

    assert "4 of 9 rows nearly repeat another's text, such as those of lines 2 and 3" in (
        capsys.readouterr().err
    )


def test_a_path_may_begin_with_the_users_own_folder(monkeypatch, tmp_path):
    """A shell does not write out the ~ of --output=~/scores.json."""
    monkeypatch.setenv("HOME", str(tmp_path))

    assert read_path("~/scores.json") == tmp_path / "scores.json"
    assert read_path("~no such user/x") == Path("~no such user/x")


@pytest.mark.parametrize("place", ["", " "])
def test_a_path_that_is_empty_is_none(capsys, place):
    """A variable of the shell that is not set: `--output-dir "$OUT"` is not this folder."""
    with pytest.raises(SystemExit):
        main(["adapt", "--data", "a.csv", "--output-dir", place, "--replace"])

    assert "argument --output-dir: it is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "says"), [("map.cvs", "ending '.cvs' is unknown"), (".", "folder")]
)
def test_a_label_map_that_is_no_file_is_named_as_one(capsys, name, says):
    with pytest.raises(SystemExit):
        main(["adapt", "--data", "a.csv", "--output-dir", "b", "--label-map", name])

    assert says in capsys.readouterr().err


def test_a_word_may_be_longer_than_a_path(tmp_path, capsys):
    """A label map of 60 labels, and a name of nothing."""
    labels = ",".join(f"a long label {number}=name {number}" for number in range(60))
    words = ["adapt", "meta", "--data", "d.csv", "--output-dir", "n", "--label-map", labels]
    assert read_options(words).label_map["a long label 7"] == "name 7"

    assert main(["predict", "q/" * 2500, "--data", "d.csv", "--output", "p.csv"]) == 2
    assert len(capsys.readouterr().err) < 2100
