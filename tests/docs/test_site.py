"""The documents as a site: the menu has each page, links lead somewhere, the picture is current."""

import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest
import yaml

import nlp_meta

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
SITE = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))

_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def list_pages(entries: list) -> list[str]:
    """Files of the menu, through its sections."""
    pages = []
    for entry in entries:
        for value in entry.values():
            pages += list_pages(value) if isinstance(value, list) else [value]
    return pages


def anchors_of(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {re.sub(r"[ ]+", "-", heading.strip()) for heading in plain}


def test_the_menu_holds_every_page_once() -> None:
    pages = list_pages(SITE["nav"])

    assert sorted(pages) == sorted(path.name for path in DOCS.glob("*.md"))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings_that_are_there(path: Path) -> None:
    for target in _LINK.findall(path.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        page = path.parent / file if file else path
        assert page.is_file(), f"{target} is not there"
        # The site has the pages of docs/ alone.
        assert path.parent != DOCS or page.parent == DOCS, f"{target} leaves the site"
        assert not anchor or anchor in anchors_of(page), f"{target} has no such heading"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_lines_are_short_but_in_tables(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()

    assert [line for line in lines if len(line) > 110 and not line.startswith(("|", "<!--"))] == []


@pytest.mark.parametrize("name", [name for name in nlp_meta.__all__ if name[0] != "_"])
def test_the_page_on_python_tells_of_every_public_name(name: str) -> None:
    """Each class with an example, and each method and property of it."""
    text = (DOCS / "python.md").read_text(encoding="utf-8")
    model = getattr(nlp_meta, name)
    public = [
        member
        for member, value in vars(model).items()
        if member[0] != "_" and isinstance(value, property | FunctionType | classmethod)
    ]

    assert f"## {name}\n" in text
    assert re.search(rf"\b{name}\.from_pretrained\(", text)
    assert [member for member in public if not re.search(rf"[.`]{member}\b", text)] == []


def test_the_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_picture_is_what_its_script_draws() -> None:
    script = REPOSITORY / "recipes" / "picture.py"

    assert subprocess.run([sys.executable, str(script), "--check"], check=False).returncode == 0
