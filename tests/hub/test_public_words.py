"""What others read of a model: labels and names are data there, and no text of a support set."""

import json
import logging
import re
from pathlib import Path

import pytest
import yaml
from pyarrow import parquet

from nlp_meta.cli import main
from nlp_meta.hub.bases import BaseFacts
from nlp_meta.hub.model_card import CardFacts, build_card
from nlp_meta.hub.push import stage

BASE = BaseFacts("base/tiny", "c" * 40, "apache-2.0")
HOSTILE = (
    "<script>alert(1)</script>",
    "![x](http://evil.example/p.png)",
    "a | b ``` c",
    "two\n## Title",
    "\x1b]0;owned\x07",
    "\u202etxt.exe",
    "x" * 30_000,
    "---\nlicense: x\n---\n",
    "{{ 7 * 7 }}",
)


def front(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def shape(card: str) -> list[str]:
    """Headings, fences and the bars of each row of a table: what a name must not change."""
    fence = [line for line in card.splitlines() if line.startswith(("#", "```", "---", "<!--"))]
    rows = [line for line in card.splitlines() if line.startswith("| ")]
    return [
        *(re.sub(r"sha256 \w+", "", line) for line in fence),
        *(str(len(re.findall(r"(?<!\\)\|", row))) for row in rows),
    ]


def put_names(record: dict, name: str) -> dict:
    """A record whose labels, corpora, tasks and words are all of one kind."""
    changed = json.loads(json.dumps(record))
    changed["labels"] = [name, f"other {name}"]
    provenance = changed["provenance"]
    provenance["meta_train"] = [name]
    provenance["hardware"], provenance["seconds"] = name, 1.0
    provenance["settings"]["adaptation"]["metric"] = name
    for corpus in provenance["data"]:
        corpus["pretty_name"] = name
        for task in corpus["tasks"]:
            task["name"] = f"corpus/{name}"
    return changed


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_change_nothing_of_a_card_but_themselves(saved, name):
    record = json.loads((saved["meta"] / "nlp_meta.json").read_text(encoding="utf-8"))
    plain, hostile = (
        build_card(CardFacts(put_names(record, word), companion=False, base=BASE))
        for word in ("plain", name)
    )

    assert shape(hostile) == shape(plain)
    assert front(hostile) == front(plain)
    assert all(sign.isprintable() or sign == "\n" for sign in hostile)
    text = re.sub(r"```python\n.*?```|(`+)(?!`).*?(?<!`)\1(?!`)", "", hostile, flags=re.DOTALL)
    assert "<script" not in text
    assert "evil.example" not in text


def texts_in(folder: Path, planted: list[str]) -> list[str]:
    """Those that stand in a file of a folder; tables of Parquet are unpacked."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    tables = [path for path in files if path.suffix == ".parquet"]
    content = b"".join(path.read_bytes() for path in files)
    content += "".join(str(parquet.read_table(path).to_pylist()) for path in tables).encode()
    return [text for text in planted if text.encode() in content]


PLANTED = [f"qz{number}wjk{sign}vx the agent" for number in range(3) for sign in "abcd"]
WORDS = [text.split()[0] for text in PLANTED]


@pytest.mark.parametrize("skill", ["classification", "retrieval"])
def test_no_text_of_a_support_set_is_saved_staged_or_logged(
    tiny_start, tmp_path, caplog, capfd, skill
):
    """Each text has a word that stands nowhere else; n-grams of it are numbers."""
    caplog.set_level(logging.DEBUG)
    if skill == "classification":
        labels = ("negative", "positive") * 6
        model = tiny_start.adapt(PLANTED, labels, companion="ngrams")
    else:
        model = tiny_start.adapt_to_pairs(
            PLANTED, PLANTED[::-1], source_lang="eng", target_lang="jav"
        )
    folder, staged = tmp_path / "model", tmp_path / "staged"
    staged.mkdir()
    model.save_pretrained(folder)
    stage(folder, staged, repo_id="me/x", base=BASE, results=None)

    assert {path.name for path in staged.iterdir()} > {"README.md", "nlp_meta.json"}
    assert not texts_in(tmp_path, WORDS)
    assert not [word for word in WORDS if word in caplog.text]
    assert not [word for word in WORDS if word in "".join(capfd.readouterr())]


def write_table(path: Path, texts: list[str]) -> list[str]:
    rows = (f"{text},{('bad', 'good')[place % 2]}" for place, text in enumerate(texts))
    path.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    return [str(path)]


@pytest.mark.slow
def test_a_comparison_keeps_the_texts_that_judge_and_no_others(saved, tmp_path, caplog, capfd):
    """As the page on sharing says; and of neither table a text is pushed with its results."""
    caplog.set_level(logging.DEBUG)
    learned = [f"qz{number}wjk the agent" for number in range(16)]
    judged = [f"vx{number}hqk the staff" for number in range(12)]
    words = ["compare", str(saved["meta"])]
    words += ["--data", *write_table(tmp_path / "a.csv", learned)]
    words += ["--test-data", *write_table(tmp_path / "b.csv", judged), "--labels", "8"]
    words += ["--methods", "hybrid,adapt,ngrams,memory,linear_probe,prototypes", "--draws", "2"]

    assert main([*words, "--output-dir", str(tmp_path / "report"), "--json"]) == 0

    planted = [text.split()[0] for text in (*learned, *judged)]
    said = caplog.text + "".join(capfd.readouterr())
    assert not [word for word in planted if word in said]
    assert texts_in(tmp_path / "report", planted) == planted[len(learned) :]
    staged = tmp_path / "staged"
    staged.mkdir()
    results = json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))
    stage(saved["meta"], staged, repo_id="me/x", base=BASE, results=results)
    assert not texts_in(staged, planted)
