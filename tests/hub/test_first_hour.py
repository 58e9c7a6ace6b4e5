"""The notebook of the first hour runs on a tiny start and a Hub on this machine."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "first_hour.ipynb"


def test_the_notebook_holds_nothing_of_a_machine():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]

    assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_cell_of_the_notebook_runs(hub, client, saved, tmp_path, monkeypatch):
    """The start has another base, which the Hub knows as `base/tiny`."""
    for name in ("HF_ENDPOINT", "HF_HOME", "HF_HUB_DISABLE_XET", "PYTHONPATH"):
        monkeypatch.setenv(name, client.environment[name])
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    text = NOTEBOOK.read_text(encoding="utf-8")
    changes = {
        "builtin:reviews-en": str(saved["meta"]),
        "dry_run=True": "dry_run=True, hub_base_model='base/tiny'",
    }
    for written, stood_in in changes.items():
        assert written in text
        text = text.replace(written, stood_in)
    notebook = nbformat.reads(text, as_version=4)

    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()

    shown = [
        output.get("text", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]
    assert any("held-out accuracy" in words for words in shown)
    assert (tmp_path / "real_estate_onnx" / "model.onnx").is_file()
    assert not hub.count("POST", "/commit/")
