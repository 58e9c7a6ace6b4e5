"""Data cards as the Hub reads them."""

from pathlib import Path

import pytest

from nlp_meta.cli import main
from nlp_meta.data.cards import cards_folder, list_cards
from nlp_meta.errors import CardError
from nlp_meta.hub.data_cards import check_data_card


@pytest.mark.parametrize("name", list_cards())
def test_every_shipped_card_is_one_that_the_hub_understands(name):
    assert check_data_card(name).name == f"{name}.md"


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        ("size_categories:\n- 10K<n<100K", "size_categories:\n- many", "size_categories"),
        ("multilinguality:\n- monolingual", "multilinguality:\n- one", "multilinguality"),
        ("language:\n- en", "language:\n- English", "language"),
        ("source_datasets:\n- extended", "source_datasets:\n- copied", "source_datasets"),
        (
            "annotations_creators:\n- found",
            "annotations_creators:\n- somebody",
            "annotations_creators",
        ),
    ],
)
def test_a_value_that_the_hub_does_not_know_is_named(tmp_path, capsys, before, after, key):
    text = (cards_folder() / "fdu_mtl.md").read_text(encoding="utf-8")
    assert text.count(before) == 1
    path = tmp_path / "mine.md"
    path.write_text(text.replace(before, after), encoding="utf-8")

    with pytest.raises(CardError, match=f"key `{key}` has "):
        check_data_card(str(path))
    assert main(["cards", "check", str(path)]) == 2
    assert f"key `{key}`" in capsys.readouterr().err


def test_a_card_of_nonsense_is_not_pushed(hub, client, tmp_path):
    (tmp_path / "mine.md").write_text("---\nnonsense: [\n---\n", encoding="utf-8")
    words = ["cards", "push", tmp_path / "mine.md", "--repo-id", "me/mine"]

    assert "the front matter is not YAML" in client.run(*words).refusal
    assert "datasets/me/mine" not in hub.repositories


def test_a_card_that_names_a_place_of_this_machine_is_not_pushed(hub, client, tmp_path):
    text = (cards_folder() / "fdu_mtl.md").read_text(encoding="utf-8")
    path = Path(tmp_path / "mine.md")
    path.write_text(f"{text}\nThe files are in {tmp_path}.\n", encoding="utf-8")

    answer = client.run("cards", "push", path, "--repo-id", "me/mine")

    assert "a place on this machine" in answer.refusal
    assert "datasets/me/mine" not in hub.repositories
