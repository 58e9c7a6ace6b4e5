"""Rows: the same from files and from the Hub, and what bad rows are told."""

import csv
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from nlp_meta.data.cards import find_card, list_cards, load_card
from nlp_meta.data.sources import Row, normalize_text, read_rows
from nlp_meta.errors import CardError, SettingsError

DATA = Path(os.environ.get("NLP_META_DATA") or Path(__file__).parents[3] / "shared" / "data")

CARD = """---
language: en
license: mit
pretty_name: Shops
task_categories: [text-classification]
size_categories: [n<1K]
source_datasets: [original]
nlp_meta:
  kind: classification
  parallel: false
  source:
    files: "shops/{task}.{split}.ENDING"
    hub: HUB
    obtain: write it
  columns: {text: text, label: label, group: null}
  labels: {0: negative, 1: positive, true: positive}
  tasks:
  - name: tea
    domain: food
    language: eng
    meta_split: meta-train
    splits: {train: train, test: test}
    hub: TASK
---
"""
RECORDS = [
    {"text": "Cafe\u0301 \u0007 was\u00a0\n good ", "label": 1, "shop": "tea"},
    {"text": " \t ", "label": 0, "shop": "tea"},
    {"text": "NA", "label": 0, "shop": "tea"},
    {"text": 'cold, "stale"\tand\tdear', "label": 0, "shop": "tea"},
]
# By hand: composed accent, one space for the bell and each run of blanks, no empty row.
ROWS = (
    Row("Caf\u00e9 was good", "positive", None),
    Row("NA", "negative", None),
    Row('cold, "stale" and dear', "negative", None),
)


def make_card(folder: Path, *, ending: str = "jsonl", hub: str = "null", task: str = "null"):
    text = CARD.replace("ENDING", ending).replace("HUB", hub).replace("TASK", task)
    (folder / "shops.md").write_text(text, encoding="utf-8")
    (folder / "shops").mkdir(exist_ok=True)
    return load_card(folder / "shops.md")


def write_records(path: Path, records) -> None:
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(one) for one in records) + "\n", encoding="utf-8")
    elif path.suffix == ".parquet":
        from pyarrow import Table, parquet

        parquet.write_table(Table.from_pylist(records), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            delimiter = "\t" if path.suffix == ".tsv" else ","
            writer = csv.DictWriter(file, list(records[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(records)


def read_tea(card, folder, *, source="files", split="train"):
    return read_rows(card, card.tasks[0], split, source=source, data_root=folder)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
def test_every_kind_of_file_gives_the_same_normalized_rows(tmp_path, ending):
    card = make_card(tmp_path, ending=ending)
    write_records(tmp_path / "shops" / f"tea.train.{ending}", RECORDS)

    assert read_tea(card, tmp_path) == ROWS


@pytest.mark.parametrize("text", ["a\u0000b", "a \u200a\u2028 b", "a\u0085b", "\u001fa\tb\u009f"])
def test_control_characters_and_blanks_become_one_space(text):
    assert normalize_text(text) == "a b"


def test_joiners_that_scripts_need_are_kept():
    assert normalize_text("\u0645\u06cc\u200c\u062e") == "\u0645\u06cc\u200c\u062e"


@pytest.mark.usefixtures("hub_cache")
def test_hub_and_files_give_the_same_rows(tmp_path):
    """A folder of files stands in for a dataset on the Hub; other shops are filtered out."""
    folder = tmp_path / "on_the_hub"
    folder.mkdir()
    others = [{"text": "a hat", "label": 1, "shop": "hats"}]
    write_records(folder / "train.jsonl", RECORDS + others)
    task = "{splits: {train: train}, filter: {shop: tea}}"
    card = make_card(tmp_path, hub=f"{{id: '{folder}', revision: null}}", task=task)
    write_records(tmp_path / "shops" / "tea.train.jsonl", RECORDS)

    assert read_tea(card, tmp_path, source="hub") == read_tea(card, tmp_path) == ROWS
    assert read_tea(card, tmp_path, source="hub", split="test") == ()


@pytest.mark.usefixtures("hub_cache")
def test_class_names_configs_and_joined_splits_of_the_hub_are_read(tmp_path):
    """By hand: class 0 is `bad`, 1 is `good`; train+validation is one row of each."""
    import datasets

    folder = tmp_path / "on_the_hub"
    features = datasets.Features(
        {"tweet": datasets.Value("string"), "mood": datasets.ClassLabel(names=["bad", "good"])}
    )
    for split, text, mood in (("train", "warm", 1), ("validation", "cold", 0)):
        (folder / "english").mkdir(parents=True, exist_ok=True)
        rows = datasets.Dataset.from_list([{"tweet": text, "mood": mood}], features=features)
        rows.to_parquet(folder / "english" / f"{split}.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: english\n  data_files:\n"
        "  - {split: train, path: english/train.parquet}\n"
        "  - {split: validation, path: english/validation.parquet}\n---\n"
    )
    hub = (
        f"{{id: '{folder}', columns: {{text: tweet, label: mood}}, "
        "labels: {good: positive, bad: negative}}"
    )
    card = make_card(tmp_path, hub=hub, task="{config: english, splits: {train: train+validation}}")

    rows = read_tea(card, tmp_path, source="hub")

    assert rows == (Row("warm", "positive", None), Row("cold", "negative", None))


@pytest.mark.usefixtures("hub_cache")
def test_a_hub_dataset_that_cannot_be_read_names_card_and_remedy(tmp_path):
    hub = f"{{id: '{tmp_path / 'nowhere'}'}}"
    card = make_card(tmp_path, hub=hub, task="{splits: {train: train}}")

    with pytest.raises(CardError, match=r"shops\.md.*nlp_meta\.source\.hub.*data\.source"):
        read_tea(card, tmp_path, source="hub")


def test_a_card_without_hub_id_points_to_the_files(tmp_path):
    with pytest.raises(CardError, match=r"shops\.md.*`data\.source` to files \(write it\)"):
        read_tea(make_card(tmp_path), tmp_path, source="hub")


def test_an_unknown_source_is_a_setting_to_correct(tmp_path):
    with pytest.raises(SettingsError, match=r"files, hub.*`data\.source`"):
        read_tea(make_card(tmp_path), tmp_path, source="hubb")


def test_a_missing_file_names_card_file_and_remedy(tmp_path):
    with pytest.raises(CardError, match=r"shops/tea.*shops\.md.*data\.root.*NLP_META_DATA"):
        read_tea(make_card(tmp_path), tmp_path)


def test_the_data_root_is_taken_from_the_environment_at_the_call(tmp_path, monkeypatch):
    card = make_card(tmp_path)
    write_records(tmp_path / "shops" / "tea.train.jsonl", RECORDS)
    monkeypatch.delenv("NLP_META_DATA", raising=False)
    with pytest.raises(CardError, match=r"no data root is set.*data\.root"):
        read_tea(card, None)

    monkeypatch.setenv("NLP_META_DATA", str(tmp_path))

    assert read_tea(card, None) == ROWS


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "fine", "label": 7}', r"shops\.md.*`labels`.*'7'.*`nlp_meta\.labels`"),
        ('{"text": "fine", "label": null}', r"`labels`.*'None'"),
        ('{"text": "fine"}', r"`columns\.label` is 'label'.*has text"),
        ('{"txt": "fine", "label": 1}', r"`columns\.text` is 'text'.*has txt, label"),
        ('{"text": ', r"tea\.train\.jsonl.*line 1: it is not JSON"),
        ("[1]", "line 1: it is not a JSON object"),
    ],
)
def test_rows_that_contradict_the_card_are_refused(tmp_path, line, message):
    card = make_card(tmp_path)
    (tmp_path / "shops" / "tea.train.jsonl").write_text(line + "\n", encoding="utf-8")

    with pytest.raises(CardError, match=message):
        read_tea(card, tmp_path)


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    card = make_card(tmp_path)
    (tmp_path / "shops" / "tea.train.jsonl").write_bytes(b'{"text": "caf\xe9", "label": 1}\n')

    with pytest.raises(CardError, match=r"tea\.train\.jsonl.*UTF-8"):
        read_tea(card, tmp_path)


PAIRS = """---
language: [en, de]
license: mit
pretty_name: Notes
task_categories: [translation]
size_categories: [n<1K]
source_datasets: [original]
nlp_meta:
  kind: translation
  parallel: false
  source: {files: "{task}.{split}.jsonl", obtain: write it}
  columns: {source: left, target: right, group: GROUP}
  tasks:
  - {name: t, domain: tea, language: eng-deu, meta_split: meta-train, splits: {train: train+dev}}
---
"""


def read_notes(folder: Path, train, dev, *, group: str = "null"):
    (folder / "notes.md").write_text(PAIRS.replace("GROUP", group), encoding="utf-8")
    write_records(folder / "t.train.jsonl", train)
    write_records(folder / "t.dev.jsonl", dev)
    return read_tea(load_card(folder / "notes.md"), folder)


def test_both_sentences_are_normalized_and_parts_read_one_after_the_other(tmp_path):
    """By hand: a row with an empty side is none; `1` is a sentence, whatever JSON calls it."""
    train = [
        {"left": "hot\u0007tea", "right": " Cafe\u0301 \n"},
        {"left": "cold tea", "right": " \t"},
        {"left": None, "right": "kalter Tee"},
    ]

    rows = read_notes(tmp_path, train, [{"left": 1, "right": "eins"}])

    assert rows == (Row("hot tea", "Caf\u00e9", None), Row("1", "eins", None))


def test_a_pair_may_have_a_group(tmp_path):
    record = {"left": "yes", "right": "ja", "number": 7}

    assert read_notes(tmp_path, [record], [], group="number") == (Row("yes", "ja", "7"),)


def test_a_pair_without_its_target_column_names_the_key(tmp_path):
    with pytest.raises(CardError, match=r"`columns\.target` is 'right'.*has left, rihgt"):
        read_notes(tmp_path, [{"left": "yes", "rihgt": "ja"}], [])


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "index.json").is_file(), reason="the shared data is not here")
def test_rows_and_label_counts_of_every_task_equal_the_index():
    """The index was counted by whoever made the files, without this package.

    It may tell of corpora that have no card; of those that have one no task is left out.
    """
    index = json.loads((DATA / "index.json").read_text(encoding="utf-8"))
    expected = {
        (entry["corpus"], entry["task"], split): {
            **counts.get("labels", {}),
            **{name: count for name, count in counts.items() if name != "labels"},
        }
        for entry in index
        for split, counts in entry["splits"].items()
    }
    found = {}
    for card in map(load_card, map(find_card, list_cards())):
        for task in card.tasks if card.builtin is None else ():
            for split in task.splits:
                rows = read_rows(card, task, split, source="files", data_root=DATA)
                counts = (
                    Counter(row.target for row in rows) if card.kind == "classification" else {}
                )
                found[card.name, task.name, split] = {"rows": len(rows), **counts}

    joined = {}
    for card in map(load_card, map(find_card, list_cards())):
        for task in card.tasks if card.builtin is None else ():
            for split, words in task.splits.items():
                parts = [expected[card.name, task.name, word] for word in words.split("+")]
                joined[card.name, task.name, split] = sum(map(Counter, parts), Counter())
    assert found == joined
    corpora = {corpus for corpus, _, _ in found}
    assert {key[:2] for key in found} == {key[:2] for key in expected if key[0] in corpora}
