"""What `docs/architecture.md` says of files is so: they are there, and these are those that run."""

import os
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from types import FrameType
from unittest.mock import patch

import pytest

from nlp_meta.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "architecture.md"
DOCUMENTS = [REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
MOST = {"adapt": 43, "meta_train": 38}
ASIDE = ("cli/", "__", "progress.py", "training/launch.py", "training/pushes.py")
"""Options, progress, trackers and pushing: they stand beside the way."""


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_files_that_a_document_names_are_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"`((?:nlp_meta|recipes|tests|docs)/[\w/.]+)`", text)

    missing = [name for name in named if not (REPOSITORY / name).exists()]
    # The worked examples write these.
    assert [name for name in missing if not re.search("majority|word_counts", name)] == []


def test_a_skill_touches_five_files_at_most() -> None:
    """Those that are there already name every skill that there is."""
    text = (REPOSITORY / "docs" / "adding.md").read_text(encoding="utf-8")
    files = re.findall(r"^\d\. `([\w/.]+)`", text.partition("## A skill\n")[2], re.MULTILINE)
    there = [REPOSITORY / name for name in files if (REPOSITORY / name).exists()]

    assert len(files) <= 5
    assert [path.name for path in there] == ["skills.py"]
    for path in there:
        source = path.read_text(encoding="utf-8")
        assert all(name in source for name in ("CLASSIFICATION", "RETRIEVAL", "GENERATION"))


def test_the_reading_order_names_files_of_the_package() -> None:
    order = PAGE.read_text(encoding="utf-8").partition("read in this order")[2].partition("\n\n")[0]

    files = re.findall(r"`([\w/]+\.py)`", order)
    assert len(files) > 5
    assert [name for name in files if not (REPOSITORY / "nlp_meta" / name).exists()][:-1] == []


RECIPE = REPOSITORY / "recipes" / "meta_train.py"
TRAINING = (
    f"--config {REPOSITORY}/recipes/configs/fomaml_reviews.yaml --data.cards [nlp_meta_reviews] "
    "--episode.shot 2 --episode.query_shot 2 --model.model_name_or_path encoder "
    "--model.max_tokens 24 --outer.steps 1 --outer.warmup_steps 0 --adaptation.draws 1 "
    "--adaptation.labels 8 --adaptation.max_query 4 --adaptation.steps [1] "
    "--adaptation.learning_rates [0.001] --run.init_from null --run.mixed_precision no "
    "--run.output_dir start"
).split()


def train() -> None:
    shutil.rmtree("start", ignore_errors=True)
    with patch.object(sys, "argv", [str(RECIPE), *TRAINING]), pytest.raises(SystemExit) as left:
        runpy.run_path(str(RECIPE), run_name="__main__")
    assert not left.value.code


def adapt() -> None:
    assert main(["adapt", "start", "--data", "labeled.csv", "--output-dir", "adapted"]) == 0


@pytest.fixture(scope="module")
def ways(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a start and a table of labels."""
    root = tmp_path_factory.mktemp("ways")
    (root / "encoder").symlink_to(tiny_encoder)
    rows = [f"good room {i},positive\nbad room {i},negative\n" for i in range(4)]
    (root / "labeled.csv").write_text("text,label\n" + "".join(rows), encoding="utf-8")
    with chdir(root):
        train()
    return root


def follow(run: Callable[[], None], *, begin: str, until: str) -> list[str]:
    """Files of the package whose functions run, when everything is imported.

    Args:
        begin: The file whose first call begins the way.
        until: The function whose call ends it.
    """
    run()
    ran: set[str] = set()
    way = {"begun": False, "ended": False}

    def note(frame: FrameType, _event: str, _argument: object) -> None:
        _, package, file = frame.f_code.co_filename.rpartition("/nlp_meta/")
        way["begun"] |= file == begin
        way["ended"] |= frame.f_code.co_name == until
        named = not frame.f_code.co_name.startswith("<")
        if package and named and way["begun"] and not way["ended"]:
            ran.add(file)

    sys.settrace(note)
    try:
        run()
    finally:
        sys.settrace(None)
    assert way == {"begun": True, "ended": True}
    return sorted(file for file in ran if not file.startswith(ASIDE))


def write_list(files: list[str]) -> str:
    """Files by folder, as the page has them."""
    rows = ["| Folder | Files |", "| --- | --- |"]
    for folder in dict.fromkeys(file.rpartition("/")[0] for file in files):
        names = [f"`{file}`" for file in files if file.rpartition("/")[0] == folder]
        rows.append(f"| {folder or 'root'} | {', '.join(names)} |")
    return "\n".join([f"{len(files)} files:", "", *rows])


def check_list(name: str, files: list[str]) -> None:
    """Compare with the page; with UPDATE_DOCS in the environment, write it there."""
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(f"<!-- files of {name} -->\n")
    listed, end, after = rest.partition("<!-- end of files -->")
    current = f"\n{write_list(files)}\n\n"
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(f"{before}{begin}{current}{end}{after}", encoding="utf-8")
    else:
        assert listed == current, "run this test with UPDATE_DOCS=1 to write the list anew"
    assert len(files) <= MOST[name]


@pytest.mark.slow
def test_a_table_passes_through_these_files_to_become_an_adapted_model(ways: Path) -> None:
    with chdir(ways):
        check_list("adapt", follow(adapt, begin="files/tables.py", until="save_pretrained"))


@pytest.mark.long
@pytest.mark.slow
def test_a_card_passes_through_these_files_to_become_an_outer_step(ways: Path) -> None:
    """As far as the move of the outer optimizer."""
    with chdir(ways):
        check_list("meta_train", follow(train, begin="data/tasks.py", until="_move"))
