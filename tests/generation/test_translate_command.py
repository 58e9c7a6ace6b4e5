"""`adapt` with languages, `translate` and `evaluate`, end to end on a tiny model."""

import csv
import json
import re
import runpy
from pathlib import Path

import pytest
import torch
from sacrebleu.metrics import BLEU, CHRF

from nlp_meta.cli import main
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.builders import build_generator
from nlp_meta.models.generation import GenerationModel
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.settings import Seq2SeqSettings

pytestmark = pytest.mark.slow

LOOPBACK = runpy.run_path(str(Path(__file__).parents[1] / "prompting/server.py"))
NOUNS, VERBS = "house river market doctor".split(), "sleeps eats runs".split()
SOURCES = [f"the {noun} {verb}" for noun in NOUNS for verb in VERBS]
TARGETS = [f"{verb} {noun} two" for noun in NOUNS for verb in VERBS]
LANGUAGES = ["--source-lang", "ind", "--target-lang", "jav"]


def write_memory(path, sources=SOURCES, targets=TARGETS):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["source", "target"])
        writer.writerows(zip(sources, targets, strict=True))
    return str(path)


def long_memory():
    """Sides of a memory that a comparison has enough of."""
    sources = [f"{text} {tail}" for text in SOURCES for tail in ("red", "and two", "big")]
    targets = [f"{text} {tail}" for text in TARGETS for tail in ("two", "red", "eats")]
    return sources, targets


def save_start(model, folder):
    """Save a start as the recipe does."""
    settings = Seq2SeqSettings(str(model), None, 48, 4, 8.0, "both", None, None, 0.1, 2)
    objective = build_generator(settings, precision="no")
    weights = objective.meta_parameters(torch.Generator().manual_seed(0))
    MetaModel(
        {"generation": objective},
        weights,
        settings,
        {"generation": Adaptation(InnerLoop(8, 0.02, "adam"), None, True)},
        {"examples": 0},
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def start(model_folders, tmp_path_factory):
    folder = tmp_path_factory.mktemp("start") / "translation"
    save_start(model_folders("marian"), folder)
    return str(folder)


@pytest.fixture(scope="module")
def adapted(start, tmp_path_factory):
    root = tmp_path_factory.mktemp("adapted")
    memory = write_memory(root / "memory.tsv")
    folder = str(root / "ind-jav")
    assert main(["adapt", start, "--data", memory, *LANGUAGES, "--output-dir", folder]) == 0
    return folder


def run(arguments, capsys):
    code = main([str(word) for word in arguments])
    caught = capsys.readouterr()
    return code, caught.out, caught.err


def test_what_translates_aligns_too(adapted, tmp_path, capsys):
    sides = {"source": SOURCES, "target": TARGETS[::-1]}
    for name, texts in sides.items():
        (tmp_path / name).write_text("\n".join(texts), encoding="utf-8")
    words = ["align", adapted, "--source", tmp_path / "source", "--target", tmp_path / "target"]

    code, _, said = run([*words, "--output", tmp_path / "pairs.tsv", "--threshold", "0.01"], capsys)

    assert code == 0, said
    with (tmp_path / "pairs.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert 1 <= len(rows) <= len(SOURCES)
    for row in rows:
        assert row["source"] == SOURCES[int(row["source_line"]) - 1]
        assert row["target"] == TARGETS[::-1][int(row["target_line"]) - 1]


def test_adapt_tells_what_held_out_pairs_say(start, tmp_path, capsys):
    memory = write_memory(tmp_path / "memory.tsv")
    arguments = ["adapt", start, "--data", memory, *LANGUAGES]

    code, out, _ = run([*arguments, "--output-dir", tmp_path / "new", "--json"], capsys)

    told = json.loads(out)
    assert code == 0
    assert told["pairs"] == 12
    assert told["held_out"]["pairs"] == 3
    assert told["held_out"]["loss"] <= told["held_out"]["loss_before"]
    assert GenerationModel.from_pretrained(tmp_path / "new").report.pairs == 12


def test_translate_fills_a_text_line_by_line(adapted, tmp_path, capsys):
    data = tmp_path / "new.txt"
    data.write_text("the river eats {name}\n\nthe house runs\n", encoding="utf-8")

    code, out, _ = run(
        ["translate", adapted, "--data", data, "--output", tmp_path / "out.txt", "--json"], capsys
    )

    told = json.loads(out)
    lines = (tmp_path / "out.txt").read_text(encoding="utf-8").splitlines()
    model = GenerationModel.from_pretrained(adapted)
    expected = model.translate(["the river eats {name}", "the house runs"])
    assert code == 0
    assert lines == [" ".join(expected[0].split()), "", " ".join(expected[1].split())]
    assert (told["translated"], told["left_out"]) == (2, {"empty": 1})
    assert told["placeholders"][0]["line"] == 1
    assert told["placeholders"][0]["lost"] == ["{name}"]


def test_translate_leaves_what_is_translated_alone(adapted, tmp_path, capsys):
    data = write_memory(tmp_path / "new.tsv", ["red", "the big house"], ["", "kept as it is"])

    code, out, _ = run(
        ["translate", adapted, "--data", data, "--output", tmp_path / "out.tsv", "--num-beams", 1],
        capsys,
    )

    with (tmp_path / "out.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert code == 0
    assert "1 translated" in out
    assert rows[1]["target"] == "kept as it is"
    greedy = GenerationModel.from_pretrained(adapted).translate(["red"], num_beams=1)
    assert rows[0]["target"] == greedy[0]


def test_evaluate_scores_as_sacrebleu_does(adapted, tmp_path, capsys):
    """By the other route: sacrebleu's own corpus scores of the same translations."""
    sources, targets = [*SOURCES[:5], "two", "red"], [*TARGETS[:5], "two", ""]
    data = write_memory(tmp_path / "test.tsv", sources, targets)

    code, out, _ = run(
        ["evaluate", adapted, "--data", data, "--output", tmp_path / "s.json"], capsys
    )

    record = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    texts = GenerationModel.from_pretrained(adapted).translate(SOURCES[:5])
    chrf = CHRF(word_order=2).corpus_score(texts, [TARGETS[:5]]).score
    bleu = BLEU(force=True).corpus_score(texts, [TARGETS[:5]]).score
    assert code == 0
    assert record["chrf"]["value"] == pytest.approx(chrf, abs=1e-6)
    assert record["bleu"]["value"] == pytest.approx(bleu, abs=1e-6)
    assert "nw:2" in record["chrf"]["signature"]
    assert record["pairs"] == 5
    assert record["lines_left_out"] == {"identical": [7], "one-sided": [8]}
    assert "1 identical (line 7); 1 one-sided (line 8)" in out


def test_two_texts_of_any_names_are_a_memory(start, adapted, tmp_path, capsys):
    (tmp_path / "train.src").write_text("\n".join(SOURCES), encoding="utf-8")
    (tmp_path / "train.tgt").write_text("\n".join(TARGETS), encoding="utf-8")
    data = ["--data", tmp_path / "train.src", tmp_path / "train.tgt"]
    words = ["adapt", start, *data, *LANGUAGES, "--output-dir", tmp_path / "new", "--json"]

    code, out, err = run(words, capsys)

    assert code == 0, err
    assert json.loads(out)["pairs"] == len(SOURCES)
    score = ["evaluate", adapted, *data, "--output", tmp_path / "s.json"]
    code, _, err = run(score, capsys)
    assert code == 0 and "pairs have a source that the model learned" in " ".join(err.split())
    assert json.loads((tmp_path / "s.json").read_text("utf-8"))["pairs"] == len(SOURCES)
    code, _, err = run([*score[:-1], data[2]], capsys)
    assert code == 2 and "an input is never overwritten" in err
    code, _, err = run([*words, "--max-rows", "3"], capsys)
    assert code == 2 and "train.src' and '" in err


def test_tags_with_hyphens_adapt_translate_and_compare(start, tmp_path, capsys):
    """`sin_Latn` is among the model's tags; so the tag that is chosen can be told."""
    memory = write_memory(tmp_path / "memory.tsv")
    languages = ["--source-lang", "pt-BR", "--target-lang", "sin-Latn"]
    words = ["--data", memory, *languages, "--output-dir"]
    (tmp_path / "new.txt").write_text("the river eats\n", encoding="utf-8")

    code, out, said = run(["adapt", start, *words, tmp_path / "new", "--json"], capsys)
    assert code == 0, said
    assert json.loads(out)["languages"] == ["pt-BR", "sin-Latn"]
    model = GenerationModel.from_pretrained(tmp_path / "new")
    assert (model.source_lang, model.target_lang) == ("pt-BR", "sin-Latn")
    record = json.loads((tmp_path / "new" / "nlp_meta.json").read_text("utf-8"))
    assert record["adaptation"]["direction"]["prefix_text"] == ">>sin_Latn<< "

    words = ["translate", tmp_path / "new", "--data", tmp_path / "new.txt"]
    assert run([*words, "--output", tmp_path / "out.txt"], capsys)[0] == 0
    written = (tmp_path / "out.txt").read_text("utf-8")
    assert written.split() == " ".join(model.translate(["the river eats"])).split()

    many = write_memory(tmp_path / "many.tsv", *long_memory())
    words = ["compare", start, "--data", many, *languages, "--output-dir", tmp_path / "report"]
    words += ["--draws", "1", "--labels", "8", "--methods", "adapt,copied_source"]
    code, _, said = run(words, capsys)
    assert code == 0, said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--output": "new.txt"}, "an input is never overwritten"),
        ({"--output": "out.docx"}, "'.docx' is unknown"),
        ({"--data": "none.txt"}, "none.txt"),
    ],
)
def test_translate_says_what_is_wrong_in_one_sentence(adapted, tmp_path, capsys, change, message):
    (tmp_path / "new.txt").write_text("red\n", encoding="utf-8")
    options = {"--data": "new.txt", "--output": "out.txt", **change}
    words = [word for name, file in options.items() for word in (name, tmp_path / file)]

    code, out, err = run(["translate", adapted, *words], capsys)

    assert (code, out) == (2, "")
    assert err.startswith("error: cannot ")
    assert message in err
    assert len(err.splitlines()) == 1


def test_long_texts_stop_where_asked(adapted, tmp_path, capsys):
    (tmp_path / "new.txt").write_text("red\n\n\n" + "the house " * 40 + "\n", encoding="utf-8")
    words = ["--data", tmp_path / "new.txt", "--output", tmp_path / "out.txt"]

    code, _, err = run(["translate", adapted, *words, "--long-texts", "stop"], capsys)

    assert code == 2
    assert "1 of 2 texts, the source in line 4 the first" in err
    assert not (tmp_path / "out.txt").exists()
    assert run(["translate", adapted, *words], capsys)[0] == 0


def test_a_long_sentence_of_a_memory_is_named_by_its_line(start, tmp_path, capsys):
    """Two rows before it are left out, and the header is a line."""
    sources = ["", "two", *SOURCES, "the river runs"]
    targets = ["red", "two", *TARGETS, "house " * 60]
    memory = write_memory(tmp_path / "memory.tsv", sources, targets)
    words = ["adapt", start, "--data", memory, *LANGUAGES, "--output-dir", tmp_path / "new"]

    code, _, err = run([*words, "--long-texts", "stop"], capsys)

    assert code == 2
    assert "1 of 26 texts, the target in line 16 the first" in err


@pytest.mark.parametrize("command", ["adapt", "compare"])
def test_an_unknown_language_lists_the_near_ones(start, tmp_path, capsys, command):
    memory = write_memory(tmp_path / "memory.tsv", *long_memory())
    words = ["--source-lang", "ind", "--target-lang", "jvn", "--output-dir", tmp_path / "new"]

    code, _, err = run([command, start, "--data", memory, *words], capsys)

    assert code == 2
    assert "cannot translate to 'jvn'" in err
    assert "jav" in err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", ["adapt", "compare"])
def test_one_language_on_both_sides_is_refused(start, tmp_path, capsys, command):
    memory = write_memory(tmp_path / "memory.tsv")
    words = ["--source-lang", "id", "--target-lang", "ind", "--output-dir", tmp_path / "new"]

    code, _, err = run([command, start, "--data", memory, *words], capsys)

    assert code == 2
    assert "both are the same language" in err
    assert not (tmp_path / "new").exists()


def test_a_language_that_is_new_to_the_model_is_told_with_the_near_ones(
    save_tiny_marian, tmp_path, capsys
):
    save_tiny_marian(tmp_path, tags=("jav", "sun", "und"))
    save_start(tmp_path, tmp_path / "start")
    memory = write_memory(tmp_path / "memory.tsv")
    words = ["--source-lang", "ind", "--target-lang", "jvn", "--output-dir", tmp_path / "new"]

    code, out, err = run(["adapt", tmp_path / "start", "--data", memory, *words], capsys)

    assert code == 0, err
    assert "jvn is new to the model; of its own the most alike are jav, sun" in " ".join(
        out.split()
    )


def test_ngrams_have_no_say_in_what_is_written(start, tmp_path, capsys):
    memory = write_memory(tmp_path / "memory.tsv")
    words = ["--data", memory, *LANGUAGES, "--output-dir", tmp_path / "new"]

    code, _, err = run(["adapt", start, *words, "--companion", "ngrams"], capsys)

    assert code == 2
    assert "change `--companion`" in err
    assert not (tmp_path / "new").exists()


def test_a_start_does_not_translate_files_yet(start, tmp_path, capsys):
    (tmp_path / "new.txt").write_text("red\n", encoding="utf-8")
    words = ["--data", tmp_path / "new.txt", "--output", tmp_path / "out.txt"]

    code, _, err = run(["translate", start, *words], capsys)

    assert code == 2
    assert "adapt it first" in err


def test_compare_judges_every_way_of_writing_pairs(start, tmp_path, capsys):
    sources, targets = long_memory()
    memory = write_memory(tmp_path / "memory.tsv", ["two", *sources], ["two", *targets])
    folder = tmp_path / "report"
    words = ["compare", start, "--data", memory, *LANGUAGES, "--output-dir", folder, "--draws", "1"]
    words += ["--labels", "0,8", "--methods", "adapt,lora,zero_pairs", "--json"]

    code, out, said = run(words, capsys)

    assert code == 0, said
    results = json.loads((folder / "results.json").read_text("utf-8"))
    assert results["metric"] == "chrf"
    assert results["ours"] == "adapt"
    told = "1 identical (line 2)"
    assert f"Your pairs, left out: {told}." in results["notes"]
    assert told in (folder / "report.html").read_text("utf-8") and told in said
    assert json.loads(out)["data"]["left_out"] == {"identical": 1}
    # One draw of one task, with 0 and 8 pairs; plain LoRA needs some.
    assert len(results["cells"]) == 5
    assert {one["method"] for one in json.loads(out)["summary"]} == {"adapt", "lora", "zero_pairs"}
    # 8 steps on 8 pairs, and on the three quarters beside those held out.
    cells = {(one["method"], one["labels"]): one for one in results["cells"]}
    assert cells["adapt", 8]["examples_adapt"] == 8 * 8 * 1.75


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], r"at most \d+ requests and \d+ tokens\n"),
        (
            ["--prompting.price-per-million-tokens", "2", "--prompting.requests-per-minute", "1e6"],
            r"at most \d+ requests, \d+ tokens and a price of 0\.\d+, over at least 0\.0 minutes\n",
        ),
    ],
)
def test_what_an_endpoint_will_cost_is_told_before_it_is_asked(start, tmp_path, capfd, words, said):
    """Whoever stops a comparison at its first call has read the estimate; results stay clean."""
    sources = [f"{text} {tail}" for text in SOURCES for tail in ("red", "and two", "big")]
    memory = write_memory(tmp_path / "memory.tsv", sources, [text.upper() for text in sources])
    told = []

    def answer(asked):
        told.append(capfd.readouterr().err)
        return LOOPBACK["write"](asked, "two")

    with LOOPBACK["serve"](answer) as server:
        given = ["compare", start, "--data", memory, *LANGUAGES, "--draws", "1", "--labels", "0"]
        given += ["--methods", "prompting", "--prompting.endpoint", server.url, "--json", *words]
        given += ["--prompting.model", "toy"]
        code = main([*given, "--output-dir", str(tmp_path / "report")])

    assert code == 0
    assert re.search(f"prompting at {server.url}: {said}", told[0])
