"""Corpora from where their authors publish them: a server on this machine stands for that place."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nlp_meta.cli import main
from nlp_meta.data.cards import find_card, list_cards, load_card
from nlp_meta.data.tasks import load_tasks
from nlp_meta.errors import CardError, DataError
from nlp_meta.files.corpora import fetch_corpus

FILES = {
    "shops/a b.csv": 'text,sort,stars\n"slow, sad",shop,1\nquick,shop,5\nneat,bank,4\n,shop,5\n',
    "more.csv": "text,sort,stars\nlate again,shop,2\nso so,shop,3\n",
    "lines.txt": "".join(f"{n % 2}\tword{n} @ann is {n}\n" for n in range(200)),
}
CARD = """---
language: en
license: {license}
pretty_name: Shops
size_categories: n<1K
source_datasets: original
task_categories: text-classification
nlp_meta:
  kind: classification
  parallel: false
  source:
    files: "shops/{{task}}.{{split}}.jsonl"
    obtain: ask the authors
    origin:
      address: {address}/{{path}}
{origin}
  columns: {{text: text, label: label, group: null}}
  labels: [bad, good]
  tasks:
  - name: shop
    domain: shop
    language: eng
    meta_split: meta-train
    splits: {{train: train}}
---
"""
TABLES = """\
      text: text
      label: stars
      labels: {{"1": bad, "2": bad, "3": null, "4": good, "5": good}}
      files:
      - {{task: shop, split: train, path: shops/a b.csv, sha256: {0}, where: {{sort: shop}}}}
      - {{task: shop, split: train, path: more.csv, sha256: {1}}}"""
LINES = """\
      text: words
      label: mark
      pattern: "^(?P<mark>[01])\\\\t(?P<words>.*)$"
      labels: {{"0": bad, "1": good}}
      mask_users: true
      files:
      - {{task: shop, split: 70/30, path: lines.txt, sha256: {2}}}"""


class Place(BaseHTTPRequestHandler):
    """Gives the files; what it lacks it says so."""

    def do_GET(self) -> None:
        content = FILES.get(self.path.strip("/").replace("%20", " "))
        self.send_response(404 if content is None else 200)
        self.end_headers()
        self.wfile.write((content or "").encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Place) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def write_card(folder: Path, address: str, origin: str, *, license: str = "mit") -> Path:
    hashes = [hashlib.sha256(content.encode()).hexdigest() for content in FILES.values()]
    path = folder / "shops.md"
    block = origin.format(*hashes)
    path.write_text(CARD.format(license=license, address=address, origin=block), "utf-8")
    return path


def test_tables_become_rows_that_the_card_reads(address, tmp_path, capsys):
    """Of six rows one is of another task, one has no text and one is left out by its label."""
    card, root = write_card(tmp_path, address, TABLES), tmp_path / "root"

    assert main(["cards", "get", str(card), "--root", str(root)]) == 0

    shown = capsys.readouterr().out
    assert "license accepted  mit" in shown and "3 in 1 files" in shown
    rows = [*map(json.loads, (root / "shops/shop.train.jsonl").read_text("utf-8").splitlines())]
    assert rows == [
        {"text": "slow, sad", "label": "bad"},
        {"text": "quick", "label": "good"},
        {"text": "late again", "label": "bad"},
    ]
    (task,) = load_tasks([str(card)], meta_split="meta-train", data_root=str(root))
    assert [example.target for example in task.train] == ["bad", "good", "bad"]


def test_lines_are_parted_by_their_texts_alone(address, tmp_path):
    card = load_card(write_card(tmp_path, address, LINES))

    rows = [fetch_corpus(card, tmp_path / name).rows for name in ("one", "other")]

    assert rows[0] == rows[1] and sum(rows[0].values()) == 200
    assert 120 <= rows[0]["shops/shop.train.jsonl"] <= 160
    assert "@ann" not in (tmp_path / "one/shops/shop.train.jsonl").read_text(encoding="utf-8")


def test_a_file_that_is_not_what_it_was_is_no_corpus(address, tmp_path, monkeypatch):
    card = load_card(write_card(tmp_path, address, LINES))
    monkeypatch.setitem(FILES, "lines.txt", "0\tother words\n")

    with pytest.raises(DataError, match="its hash begins"):
        fetch_corpus(card, tmp_path / "root")
    monkeypatch.delitem(FILES, "lines.txt")
    with pytest.raises(DataError, match="404"):
        fetch_corpus(card, tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_an_unknown_license_is_accepted_by_the_user_or_by_nobody(address, tmp_path, capsys):
    card = write_card(tmp_path, address, LINES, license="unknown")
    words = ["cards", "get", str(card), "--root", str(tmp_path / "root")]

    assert main(words) == 2
    assert "set `--accept-unknown-license`" in capsys.readouterr().err
    assert main([*words, "--accept-unknown-license"]) == 0


def test_a_card_that_names_no_files_says_how_to_get_them_by_hand(tmp_path):
    with pytest.raises(CardError, match=r"does not say where each file comes from.*by hand: "):
        fetch_corpus(load_card(find_card("ag_news")), tmp_path)


def test_another_file_in_the_way_stays(address, tmp_path):
    card = load_card(write_card(tmp_path, address, TABLES))
    place = tmp_path / "shops/shop.train.jsonl"
    place.parent.mkdir()
    place.write_text("mine", "utf-8")

    with pytest.raises(Exception, match="not written by nlp-meta"):
        fetch_corpus(card, tmp_path)
    assert place.read_text("utf-8") == "mine"
    fetch_corpus(card, tmp_path, replace=True)
    fetch_corpus(card, tmp_path)  # its own it may write again


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("http://127.0.0.1", "http://example.org", "begins with https://"),
        ("task: shop,", "task: shops,", "one of the card's tasks"),
        ("sha256: ", "sha256: 0", "64 hexadecimal digits"),
    ],
)
def test_a_place_that_proves_nothing_is_no_origin(tmp_path, before, after, said):
    path = write_card(tmp_path, "http://127.0.0.1:1", LINES)
    path.write_text(path.read_text("utf-8").replace(before, after), "utf-8")

    with pytest.raises(CardError, match=said):
        load_card(path)


def test_the_list_of_cards_tells_which_can_be_fetched(capsys):
    main(["cards", "--json"])
    cards = {card["name"]: card["get"] for card in json.loads(capsys.readouterr().out)["cards"]}
    assert cards == {name: bool(load_card(find_card(name)).origin) for name in list_cards()}
    assert cards["nusax"] and not cards["arsc"]


def test_shipped_cards_pin_what_they_name():
    """Each task has rows to train on, and every address holds a whole commit."""
    paths = [path for path in map(find_card, list_cards()) if "origin:" in path.read_text("utf-8")]
    cards = [card for card in map(load_card, paths) if card.origin]

    assert {"afrisenti", "nusax", "senti4sd"} <= {card.name for card in cards}
    for card in cards:
        assert re.search(r"/[0-9a-f]{40}/\{path\}$", card.origin.address)
        trained = {file.task for file in card.origin.files if file.split in ("train", "70/30")}
        assert trained == {task.name for task in card.tasks}
