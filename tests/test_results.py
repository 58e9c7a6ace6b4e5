"""What the documents say was measured is what the committed results say."""

import re
import runpy
from pathlib import Path

import pytest

from nlp_meta.report.page import fill_markdown

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "recipes" / "results"
DOCUMENTS = ("README.md", "recipes/RESULTS.md")

read_results = runpy.run_path(str(REPOSITORY / "recipes" / "tables.py"))["read_results"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_tables_are_those_of_the_results(name):
    text = (REPOSITORY / name).read_text(encoding="utf-8")

    assert "<!-- results of compare_reviews: " in text
    assert fill_markdown(text, read_results) == text, "run recipes/tables.py --update on it"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_results_name_no_folder_of_a_machine(path):
    assert not re.findall(r'"/[^"]*', path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted(RESULTS.glob("compare_*.json")), ids=lambda path: path.stem)
def test_every_comparison_is_told(path):
    told = (REPOSITORY / "recipes/RESULTS.md").read_text(encoding="utf-8")

    assert f"<!-- results of {path.stem}: " in told
