"""Metrics of translations: equal to sacrebleu's own command line, on files."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from nlp_meta.data.answers import Translation
from nlp_meta.errors import DataError, MissingPackageError
from nlp_meta.evaluation import metrics as translation_metrics
from nlp_meta.evaluation.metrics import (
    TRANSLATION_METRICS,
    bleu,
    choose_tokenizer,
    chrf,
    load_metric,
    score,
    signature_of,
    spbleu,
    spbleu_missing,
)


@dataclass(frozen=True)
class Corpus:
    """Translations and references, one a line."""

    language: str
    translations: tuple[str, ...]
    references: tuple[str, ...]


CORPORA = {
    "matching": Corpus(
        "ind",
        ("Rumah itu sangat besar dan indah.", "Saya tidak tahu, maaf!", 'Harga "naik" 5,5%.'),
        ("Rumah itu besar dan indah sekali.", "Saya tidak tahu; maaf!", "Harga (naik) 5,5 %."),
    ),
    "hardly": Corpus(
        "swa",
        ("habari ya leo", "mtoto anacheza nje", "", "watu wengi sana"),
        ("hali ya hewa", "watoto wanacheza nje ya nyumba", "ndiyo", "watu"),
    ),
    "nothing": Corpus("hau", ("xyz", "q"), ("ina kwana lafiya lau", "na gode")),
    "short": Corpus("hau", ("na gode", "lafiya"), ("na gode", "lafiya lau")),
    "tokenized period": Corpus("eng", ("a b c d e .",) * 120, ("a b c d e.",) * 120),
    "Chinese": Corpus(
        "zho_Hans",
        ("今天天气很好。", "我们去公园吧!"),
        ("今天的天气很好。", "我们一起去公园吧!"),
    ),
    "Thai": Corpus("tha", ("วันนี้อากาศดี", "ไปสวน"), ("วันนี้อากาศดีมาก", "ไปสวนกัน")),
}


def run_sacrebleu(corpus: Corpus, folder: Path) -> dict[str, tuple[float, str]]:
    """Score and signature of each metric, by `python -m sacrebleu` on two files."""
    files = [folder / "translations", folder / "references"]
    for path, lines in zip(files, (corpus.translations, corpus.references), strict=True):
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", str(files[1]), "-i", str(files[0])]
    command += ["-m", "chrf", "bleu", "--chrf-word-order", "2", "--width", "12"]
    command += ["--tokenize", choose_tokenizer(corpus.language)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    names = {"chrF2++": "chrf", "BLEU": "bleu"}
    return {
        names[one["name"]]: (float(one["score"]), one["signature"])
        for one in json.loads(done.stdout)
    }


def written(corpus: Corpus) -> list[Translation]:
    return [Translation(text) for text in corpus.translations]


@pytest.mark.parametrize("corpus", CORPORA.values(), ids=CORPORA)
def test_scores_and_signatures_are_those_of_sacrebleu_on_the_command_line(corpus, tmp_path):
    found = run_sacrebleu(corpus, tmp_path)
    known = (corpus.language.partition("_")[0],)

    assert chrf(corpus.references, written(corpus), known) == pytest.approx(found["chrf"][0])
    assert bleu(corpus.references, written(corpus), known) == pytest.approx(found["bleu"][0])
    for metric, (_, signature) in found.items():
        assert signature_of(metric, corpus.language) == signature


@pytest.mark.parametrize("metric", ["chrf", "bleu"])
def test_sums_of_resampled_rows_score_as_the_rows_do(metric):
    """Another route: sacrebleu's own formula on the summed counts of each resample."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    theirs = {"chrf": CHRF(word_order=2), "bleu": BLEU()}[metric]
    corpus = [CORPORA[name] for name in ("matching", "hardly", "nothing", "short")]
    true = [line for one in corpus for line in one.references]
    answers = [answer for one in corpus for answer in written(one)]
    terms = TRANSLATION_METRICS[metric].row_terms(true, answers, ("ind",))
    counts = np.random.default_rng(0).multinomial(2, [1 / len(true)] * len(true), size=(200, 2))
    sums = counts @ terms

    scores = TRANSLATION_METRICS[metric].finish(sums, 2)

    assert scores.shape == (200, 2)
    assert 0 < (scores == 0).sum() < 400
    for place in np.ndindex(200, 2):
        one = theirs._compute_score_from_stats([int(count) for count in sums[place]])
        assert scores[place] == pytest.approx(one.score)


def test_a_perfect_translation_scores_100_and_an_empty_one_0():
    text = "Rumah itu besar dan indah sekali."
    for metric in (chrf, bleu):
        assert metric([text], [Translation(text)], ("ind",)) == pytest.approx(100)
        assert metric([text], [Translation("")], ("ind",)) == 0


def test_tokens_are_those_that_the_language_needs(monkeypatch):
    monkeypatch.setattr(translation_metrics.importlib.util, "find_spec", lambda _: None)
    without = {code: choose_tokenizer(code) for code in ("jpn", "kor_Hang", "zho_Hant", "jav")}
    monkeypatch.setattr(translation_metrics.importlib.util, "find_spec", lambda _: object())

    assert without == {"jpn": "char", "kor_Hang": "char", "zho_Hant": "zh", "jav": "13a"}
    assert [choose_tokenizer(code) for code in ("jpn", "kor")] == ["ja-mecab", "ko-mecab"]


@pytest.mark.parametrize(
    ("spellings", "tokenizer"),
    [
        (("zh", "zho", "cmn", "zh-CN", "zh_CN", "zh-Hant", "zho_Hans"), "zh"),
        (("ja", "jpn", "ja_XX"), "ja-mecab"),
        (("ko", "kor", "ko_KR"), "ko-mecab"),
        (("th", "tha", "lo", "lao", "km", "khm", "my", "my_MM", "bur", "bo"), "char"),
        (("id", "ind", "pt-BR", "qqq", ""), "13a"),
    ],
)
def test_every_spelling_of_a_language_has_its_tokens(monkeypatch, spellings, tokenizer):
    monkeypatch.setattr(translation_metrics.importlib.util, "find_spec", lambda _: object())

    assert {choose_tokenizer(code) for code in spellings} == {tokenizer}


def test_spbleu_is_not_fetched_but_says_what_is_missing(tmp_path, monkeypatch):
    """No network: the vocabulary is looked for in a folder where it cannot be."""
    monkeypatch.setattr("sacrebleu.utils.SACREBLEU_DIR", str(tmp_path))

    assert "FLORES-200 vocabulary is needed" in str(spbleu_missing())
    assert str(tmp_path) not in str(spbleu_missing())  # it stands in reports that others read
    with pytest.raises(MissingPackageError, match="never fetched unasked"):
        spbleu(["a"], [Translation("a")], ("eng",))
    assert list(tmp_path.iterdir()) == []


def test_spbleu_is_bleu_of_the_pieces_of_a_vocabulary(tmp_path, monkeypatch):
    """Where a file lies under the name that sacrebleu gives it, its pieces are what is counted."""
    import sentencepiece

    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"{r}\n" for c in CORPORA.values() for r in c.references), "utf-8")
    (tmp_path / "models").mkdir()
    sentencepiece.SentencePieceTrainer.train(
        input=str(lines),
        model_prefix=str(tmp_path / "small"),
        vocab_size=150,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (tmp_path / "small.model").rename(tmp_path / "models/flores200sacrebleuspm")
    for module in ("utils", "tokenizers.tokenizer_spm"):
        monkeypatch.setattr(f"sacrebleu.{module}.SACREBLEU_DIR", str(tmp_path))
    translation_metrics._scorer.cache_clear()
    translation_metrics._count.cache_clear()
    pieces = sentencepiece.SentencePieceProcessor(
        model_file=str(tmp_path / "models/flores200sacrebleuspm")
    )
    one = CORPORA["matching"]

    def split(texts):
        return [" ".join(pieces.encode(text, out_type=str)) for text in texts]

    from sacrebleu.metrics.bleu import BLEU

    expected = BLEU(tokenize="none", force=True).corpus_score(
        split(one.translations), [split(one.references)]
    )
    try:
        assert spbleu(one.references, written(one), ()) == pytest.approx(expected.score)
        assert "tok:flores200" in signature_of("spbleu", "ind")
    finally:
        translation_metrics._scorer.cache_clear()
        translation_metrics._count.cache_clear()


def test_bleu_without_a_language_is_refused():
    with pytest.raises(DataError, match="one target language is needed"):
        bleu(["a"], [Translation("a")], ())


@pytest.mark.parametrize("metric", [chrf, bleu])
@pytest.mark.parametrize("answers", [[], [Translation("a")] * 2])
def test_not_one_translation_for_each_reference_cannot_be_scored(metric, answers):
    with pytest.raises(DataError, match=r"cannot score .* is needed; give"):
        metric(["a"], answers, ("eng",))


def test_evaluate_calls_the_metrics_that_we_score_by():
    import evaluate

    one = CORPORA["matching"]
    rows = {"predictions": list(one.translations), "references": list(one.references)}

    combined = evaluate.combine([load_metric("chrf"), load_metric("bleu", language="ind")])

    assert combined.compute(**rows) == {
        "chrf": chrf(one.references, written(one), ()),
        "bleu": bleu(one.references, written(one), ("ind",)),
    }
    for metric in (chrf, bleu):
        assert score(metric.name, one.references, written(one), ("ind",)) == metric(
            one.references, written(one), ("ind",)
        )
