"""A small project, and the app over it without the process that learns."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from nlp_meta.app.server import build_app
from nlp_meta.files.projects import Project

TOKEN = "a-word-that-lets-in"
GOOD = ("great phone", "i loved the food", "very good room", "awesome house", "the staff is great")
BAD = ("bad battery", "awful service", "i hated the noise", "never again", "cold and slow food")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Ten texts of two labels, none of which is given yet."""
    texts = [text for pair in zip(GOOD, BAD, strict=True) for text in pair]
    project = Project(tmp_path / "reviews", create=True)
    project.set_up(
        texts,
        [{"text": text, "id": place} for place, text in enumerate(texts)],
        text_column="text",
        columns=["id", "text"],
        labels=["good", "bad"],
        given=[None] * len(texts),
    )
    yield project
    project.close()


@pytest.fixture
def orders() -> list[str]:
    return []


@pytest.fixture
def client(project: Project, orders: list[str]) -> Iterator[TestClient]:
    """Somebody who has entered."""
    app = build_app(project, token=TOKEN, order=orders.append)
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        client.get("/", params={"token": TOKEN})
        yield client
