"""The fuzz run in small: seeds and a few mutations of each give a value or one sentence."""

import importlib
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

from nlp_meta.errors import NlpMetaError

HERE = Path(__file__).parent
NAMES = [
    *(f"table.{form}" for form in ("csv", "tsv", "json", "jsonl", "parquet", "xlsx")),
    *(f"memory.{form}" for form in ("tmx", "xliff", "ts", "po")),
    *("pairs.csv", "pairs.jsonl", "pairs.tsv", "card.md", "nlp_meta.json"),
]
pytestmark = pytest.mark.slow  # the driver imports every reader


@pytest.fixture
def driver(monkeypatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])
    return importlib.import_module("run")


@pytest.mark.parametrize("name", NAMES)
def test_mutations_of_seeds_give_a_value_or_one_sentence(driver, tmp_path, name):
    reader = next(reader for reader in driver.READERS if reader.name == name)
    seeds, draw = driver.load_seeds(reader), random.Random(7)
    values, refusals = 0, []
    for number in range(len(seeds) + 30):
        fresh = number < len(seeds)
        content = seeds[number] if fresh else driver.mutate(seeds, kind=reader.kind, draw=draw)
        (tmp_path / name).write_bytes(content)
        try:
            reader.read(tmp_path / name)
            values += 1
        except NlpMetaError as error:
            refusals.append(str(error))

    assert values
    assert all(len(text) <= 2000 and "\n" not in text for text in refusals)


def test_a_process_that_dies_or_fails_is_a_finding(driver, tmp_path, monkeypatch):
    """A reader that ends its process at one file, and raises at another."""

    def read(path: Path) -> None:
        if path.read_bytes() == b"die":
            sys.exit(3)
        raise KeyError("no")

    def draw_file(seeds: list[bytes], *, kind: str, draw: random.Random) -> bytes:
        return draw.choice(seeds)

    monkeypatch.setattr(driver, "FINDINGS", tmp_path / "findings")
    monkeypatch.setattr(driver, "load_seeds", lambda reader: [b"die", b"fail"])
    monkeypatch.setattr(driver, "mutate", draw_file)

    counts = driver.watch(driver.Reader("a.txt", read, "table"), seconds=2, seed=0)

    assert counts["executions"] == counts["findings"] > 1
    kept = sorted((tmp_path / "findings").glob("*-a.txt"))
    assert {path.read_bytes() for path in kept} == {b"die", b"fail"}
