"""Models that name the label of a text: how a start adapts to labeled texts, what comes out."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nlp_meta.data.answers import Prediction, share_interval
from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.cells import LabelMap, answer_texts
from nlp_meta.data.duplicates import first_places, hash_texts, text_key
from nlp_meta.data.episodes import Episode
from nlp_meta.data.inputs import Frame, Texts, add_columns, as_texts, check_number, read_column
from nlp_meta.data.labels import LabelMatch, check_columns, logger, match_labels
from nlp_meta.data.tasks import Example
from nlp_meta.encoders.backbone import plain_modes
from nlp_meta.encoders.heads import RIDGE
from nlp_meta.encoders.lora import BIAS, WEIGHT
from nlp_meta.encoders.prefix import lean_network
from nlp_meta.errors import LabelError
from nlp_meta.hub.model import Model, Parts, Saved
from nlp_meta.hub.pull import COMPANION_FACTS, Source
from nlp_meta.hub.records import ADAPTATION, ADAPTED, Record, read_part, read_settings
from nlp_meta.hub.storage import StoredCompanion, load_companion, load_weights
from nlp_meta.meta.inner_loop import Weights, repeat
from nlp_meta.models.adaptation import FOLDS, Adaptation, adapt
from nlp_meta.models.builders import Encoder, build_classifier, load_encoder
from nlp_meta.models.companion import FACTORS, Companion, CompanionReport, find_companion
from nlp_meta.models.label_judge import BEHIND, LEAST, LabelJudge, SteppedHead, step_behind
from nlp_meta.models.label_names import NAMED_LABELS, begin_at_names, check_descriptions
from nlp_meta.models.texts import check_support, count_cut, count_unknown
from nlp_meta.models.views import (
    MOST_EXAMPLES,
    NEW_LABELS,
    ViewHead,
    Views,
    judge_views,
    look_at,
    make_head,
)
from nlp_meta.objectives.classification import FROM_SUPPORT, Classification, pair_answers
from nlp_meta.objectives.ngrams import NgramModel, held_out_parts, narrow_ngrams
from nlp_meta.progress import Ticker
from nlp_meta.settings import ModelSettings

SURELY_OPPOSED = 0.01
"""Agreement as low as this by chance says that assumed labels mean the opposite."""
STOPS = (0.25, 0.5, 1.0)
"""Shares of the inner steps after which an adaptation may stop early."""
SORTED_TOGETHER = 4096
"""Texts that are put in order of length at once: few are padded, and memory stays bounded."""


@dataclass(frozen=True, slots=True)
class AdaptationReport:
    """What one adaptation did.

    Attributes:
        temperature: What logits are divided by, fitted on held-out folds.
        held_out_accuracy: Of the support examples, each answered by an adaptation that
            had not seen its text; but for a label's only text.
        held_out_low, held_out_high: Its 95% interval, over different texts.
        different_texts: Examples but for those whose text stands there already.
        examples_cut: Texts longer than the encoder takes.
        examples_unknown: Texts of which the encoder knows nothing.
        spellings: Labels as they were written -> their names.
        by_views: A head over views was made, with trust that other tasks taught; `steps` were taken
            behind it.
        held_out: How sure each answer to a held-out example was, and whether it was right; what
            a bound on confidence promises is read off them.
        companion: What the same folds said of character n-grams; None where none were asked.
        text_hashes: Of the texts of the examples; what is pushed has none.
    """

    examples: int
    steps: int
    learning_rate: float
    temperature: float
    held_out_accuracy: float
    held_out_low: float
    held_out_high: float
    different_texts: int
    examples_cut: int
    seconds: float
    companion: CompanionReport | None = None
    examples_unknown: int = 0
    spellings: Mapping[str, str] = field(default_factory=dict)
    by_views: bool = False
    held_out: tuple[tuple[float, bool], ...] = ()
    text_hashes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AdaptedModel(Model):
    """A backbone with the adapter and the head of one domain.

    Attributes:
        companion: Character n-grams that are mixed into the predictions.
        provenance: That of its start, and where that was pulled from.
        source: Where on the Hub it was pulled from, and at which commit.
    """

    role: ClassVar[str] = ADAPTED
    skill: ClassVar[str] = CLASSIFICATION

    objective: Classification
    weights: Mapping[str, Tensor]
    settings: ModelSettings
    match: LabelMatch | None = None
    report: AdaptationReport | None = None
    companion: Companion | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    source: Source | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels in the order of the logits."""
        return self.objective.labels

    @property
    def spellings(self) -> Mapping[str, str]:
        """Labels as they were written when it was adapted -> their names."""
        return {} if self.report is None else self.report.spellings

    def count_unknown(self, texts: Sequence[str]) -> int:
        """Number of texts of which the encoder knows nothing: answers to them say nothing."""
        return count_unknown(self.objective.backbone, texts)

    def among(self, labels: Iterable[str]) -> "AdaptedModel":
        """The same model, which gives no other of its labels than these.

        Raises:
            DataError, LabelError: They are no list of texts, fewer than 2, or not its own.
        """
        names = set(as_texts(labels, "labels"))
        if len(names) < 2 or not names <= set(self.labels):
            raise LabelError(
                f"cannot answer among {', '.join(map(repr, sorted(names)))}: at least 2 of "
                f"{', '.join(map(repr, self.labels))} are needed; change `labels`"
            )
        objective, weights = narrow_labels(self.objective, self.weights, names, shared=True)
        kept = self.companion and narrow_ngrams(self.companion.model, objective.labels)
        companion = replace(self.companion, model=kept) if self.companion and kept else None
        return replace(self, objective=objective, weights=weights, companion=companion)

    @plain_modes()
    def predict(self, texts: Texts) -> list[Prediction]:
        """One prediction a text, with calibrated probabilities of every label.

        Args:
            texts: A list, an array, a column, or whatever else can be walked through.

        Raises:
            DataError: A text is missing, empty or no text; says which.
        """
        asked = as_texts(texts, "texts")
        answers = predict_texts(self.objective, self.weights, asked)
        return answers if self.companion is None else self.companion.mix(asked, answers)

    __call__ = predict

    def predict_proba(self, texts: Texts) -> NDArray[np.float64]:
        """Calibrated probabilities in the order of `labels`, `(texts, labels)`; see `predict`."""
        answers = self.predict(texts)
        rows = [[answer.probabilities[name] for name in self.labels] for answer in answers]
        return np.array(rows, dtype=np.float64).reshape(-1, len(self.labels))

    def predict_frame(
        self, frame: Frame, *, column: str = "text", min_confidence: float = 0.0
    ) -> Frame:
        """Add the label and the probability of every label to a table, as columns.

        Args:
            frame: A table of pandas, polars, pyarrow or `datasets`, or a dictionary of columns.
                It is left as it is. A row without a text gets no answer.
            column: Of the texts.
            min_confidence: Answers that are less sure leave the label empty; probabilities stay.

        Returns:
            A table of the same kind, all other columns kept. The new ones are named `label` and
            as the labels are, or `predicted_...` where the table has a column of that name.

        Raises:
            DataError: It is no such table, has no such column, or a cell is no text.
            SettingsError: `min_confidence` is no number from 0 to 1.
        """
        least = check_number(min_confidence, "min_confidence", share=True)
        texts = read_column(frame, column)
        answers = answer_texts(texts, lambda some: self.predict(some) if some else [])
        names = [a and (a.label if a.probabilities[a.label] >= least else None) for a in answers]
        columns: dict[str, list[Any]] = {"label": names}
        for label in self.labels:
            odds = [a and a.probabilities[label] for a in answers]
            columns[f"probability_{label}" if label in columns else label] = odds
        return add_columns(frame, columns)

    @classmethod
    def _read(cls, saved: Saved) -> "AdaptedModel":
        settings = read_settings(saved.record, ModelSettings)
        encoder = load_encoder(settings, device=saved.device, token=saved.token)
        return read_adapted(saved, settings, encoder)

    def _parts(self) -> Parts:
        record = Record(
            ADAPTED,
            (CLASSIFICATION,),
            asdict(self.settings),
            self.labels,
            asdict(self.report) if self.report else {},
            provenance=self.provenance,
        )
        companion = self.companion
        stored = None if companion is None else StoredCompanion(companion.model, companion.factors)
        return Parts(record, self.weights, self.objective.backbone, self.objective.plan, stored)


def read_adapted(saved: Saved, settings: ModelSettings, encoder: Encoder) -> AdaptedModel:
    """Read a saved model over an encoder that is there already.

    Args:
        settings: Those of its record.

    Raises:
        MetaModelError: Its files do not hold what its record promises.
    """
    folder, record = saved.folder, saved.record
    done = record.adaptation
    report = read_part(AdaptationReport, done, what=ADAPTATION) if done else None
    objective = build_classifier(settings, labels=record.labels, beside=encoder)
    weights = load_weights(folder, record, backbone=objective.backbone, plan=objective.plan)
    companion = None
    if COMPANION_FACTS in record.files:
        stored = load_companion(folder, labels=record.labels, factors=FACTORS)
        companion = Companion.of(stored.model, stored.factors)
    return AdaptedModel(
        objective,
        weights,
        settings,
        report=report,
        companion=companion,
        provenance=record.provenance,
        source=saved.source,
    )


def adapt_to_labels(
    objective: Classification,
    start: Weights,
    texts: Sequence[str],
    labels: Sequence[str],
    *,
    settings: ModelSettings,
    how: Adaptation,
    label_map: LabelMap | None,
    prior: NgramModel | None,
    companion: str,
    seed: int,
    long_texts: str,
    provenance: Mapping[str, Any],
    left_out: Sequence[str],
    on_step: Callable[[int, int], None] | None,
    descriptions: Mapping[str, str] | None,
) -> AdaptedModel:
    """Adapt a start to labeled texts; see `MetaModel.adapt` for arguments and errors.

    A start that learned how far its views of a text are to be trusted makes a head over them;
    another, or one that is told steps or a rate, or has very many examples, takes inner steps.
    The temperature is folded into the last linear layer, so that a plain softmax is calibrated
    wherever the model is loaded.

    Args:
        prior: N-grams of the start, from which those of the domain begin.
        left_out: Sentences on examples that are not among these.
        descriptions: Of labels; None takes their names alone.
    """
    began = time.monotonic()
    how = how if len(texts) <= MOST_EXAMPLES else replace(how, trust=None)
    fewest = 2 if how.trust is None else 1
    match, support = _match(objective, start, texts, labels, label_map, left_out, fewest=fewest)
    cut = count_cut(objective.backbone, [e.source for e in support], long_texts=long_texts)
    objective, start, settings, how = fit_start(objective, start, match, settings=settings, how=how)
    check_descriptions(objective.labels, descriptions or {})
    learn = _walk if how.trust is None else partial(_see, descriptions=descriptions or {})
    learned = learn(
        objective, start, support, how=how, prior=prior, when=companion, seed=seed, on_step=on_step
    )
    seconds = time.monotonic() - began
    report = _report(learned, how, support=support, cut=cut, seconds=seconds)
    unknown = count_unknown(objective.backbone, texts)
    report = replace(report, examples_unknown=unknown, spellings=match.spellings)
    objective = objective.over(objective.backbone)  # it keeps no text
    return AdaptedModel(
        objective, learned.weights, settings, match, report, learned.companion, provenance
    )


@dataclass(frozen=True, slots=True)
class _Learned:
    """What either way of adapting gives, with the temperature in the weights."""

    weights: dict[str, Tensor]
    companion: Companion | None
    mixture: CompanionReport | None
    steps: int
    temperature: float
    accuracy: float
    held_out: Sequence[int]
    by_views: bool
    pairs: tuple[tuple[float, bool], ...]


def _walk(
    objective: Classification,
    start: Weights,
    support: Sequence[Example],
    *,
    how: Adaptation,
    prior: NgramModel | None,
    when: str,
    seed: int,
    on_step: Callable[[int, int], None] | None,
) -> _Learned:
    """Adapt by inner steps; held-out folds choose how many, and the share of the n-grams."""
    episode = Episode("support", objective.labels, tuple(support), (), 0)
    judge = LabelJudge(objective, episode, seed=seed)
    # Class means are too coarse to answer before the first step.
    stops = STOPS if objective.head == "prototype" else (0.0, *STOPS)
    adapted = adapt(objective, start, episode, judge=judge, stops=stops, how=how, on_step=on_step)
    judged, names = adapted.judgement, objective.labels
    companion, mixture, logs = find_companion(
        support, names, judged.logs, prior=prior, when=when, seed=seed
    )
    weights = _cool(objective, adapted.weights, judged.temperature)
    return _Learned(
        weights,
        companion,
        mixture,
        adapted.steps,
        judged.temperature,
        judged.accuracy,
        range(len(support)),
        by_views=False,
        pairs=pair_answers(logs, judge.targets),
    )


def _see(
    objective: Classification,
    start: Weights,
    support: Sequence[Example],
    *,
    how: Adaptation,
    prior: NgramModel | None,
    when: str,
    seed: int,
    on_step: Callable[[int, int], None] | None,
    descriptions: Mapping[str, str],
) -> _Learned:
    """Adapt by a head over the start's features and n-grams, trusted as other tasks taught.

    Where the start does not know the labels, inner steps follow behind that head.
    """
    labels, trust = objective.labels, how.trust or {}
    texts = [example.source for example in support]
    targets = np.array([labels.index(example.target) for example in support])
    plain, views = see_texts(objective, start, texts, prior=prior, ngrams=when != "none")
    own = objective.own_head(plain)
    is_new = own is None
    if named := begin_at_names(exact(objective), plain, views, targets, descriptions):
        trust, (views, own) = NAMED_LABELS, named
    make = partial(make_head, trust, labels=labels, head=own, prior=prior)
    head = make(views, targets)
    parts = [sorted(part) for part in held_out_parts(support, folds=FOLDS, seed=seed)]
    right, report, pairs = judge_views(trust, views, targets, parts, head=head)
    judged = sorted(place for part in parts for place in part)
    if is_new and parts and len(support) >= LEAST:
        rest = [np.setdiff1d(np.arange(len(targets)), part) for part in parts]
        heads = [*(make(views[kept], targets[kept]) for kept in rest), head]
        tick = Ticker(on_step, total=1 + BEHIND.steps)
        episode = Episode("support", labels, tuple(support), (), 0)
        stepped = step_behind(objective, plain, heads, episode, views.counts, parts, on_step=tick)
        return _learn_stepped(objective, stepped, head, report, judged)
    last, device = objective.plan.head[-1], objective.backbone.device
    weights = {**plain, last + WEIGHT: head.weight, last + BIAS: head.bias}
    weights = {name: value.detach().to(device, copy=True) for name, value in weights.items()}
    companion = None if head.ngrams is None else Companion(head.ngrams, 1.0, 1.0)
    Ticker(on_step, total=1)()
    return _Learned(weights, companion, report, 0, 1.0, right, judged, by_views=True, pairs=pairs)


def _learn_stepped(
    objective: Classification,
    stepped: SteppedHead,
    head: ViewHead,
    report: CompanionReport | None,
    judged: Sequence[int],
) -> _Learned:
    """What the steps behind a head gave, with what held-out parts said after them."""
    encoder, both, companion = stepped.encoder, stepped.both, None
    if head.ngrams is not None and report is not None:
        companion = Companion(head.ngrams, 1.0, 1 / both.temperature)
        report = replace(
            report,
            encoder_accuracy=encoder.accuracy,
            encoder_loss=encoder.loss,
            mixed_accuracy=both.accuracy,
            mixed_loss=both.loss,
        )
    return _Learned(
        _cool(objective, stepped.weights, both.temperature),
        companion,
        report,
        BEHIND.steps,
        both.temperature,
        both.accuracy,
        judged,
        by_views=True,
        pairs=pair_answers(both.logs, stepped.targets),
    )


def fit_start(
    objective: Classification,
    start: Weights,
    match: LabelMatch,
    *,
    settings: ModelSettings,
    how: Adaptation,
) -> tuple[Classification, dict[str, Tensor], ModelSettings, Adaptation]:
    """Fit a start to the labels of one domain: those it knows, or the encoder as it was before."""
    if how.trust is not None and objective.head == "shared" and not match.shared:
        objective, start, settings = pretrained(objective, settings)
        how = replace(how, trust=NEW_LABELS)
    narrowed = narrow_labels(objective, start, match.labels, shared=match.shared)
    return *narrowed, settings, how


def see_texts(
    objective: Classification,
    start: Weights,
    texts: Sequence[str],
    *,
    prior: NgramModel | None,
    ngrams: bool = True,
) -> tuple[dict[str, Tensor], Views]:
    """See texts in float32, as predictions are computed; with the weights that see them."""
    plain = {n: v for n, v in start.items() if not n.startswith(RIDGE)}
    return plain, look_at(exact(objective), plain, texts, prior=prior, ngrams=ngrams)


def pretrained(
    objective: Classification, settings: ModelSettings
) -> tuple[Classification, dict[str, Tensor], ModelSettings]:
    """The encoder as it was before the start, mean-pooled: for labels the start never saw."""
    if settings.pooling == "mean":
        plain = replace(objective, labels=(), head="ridge")
    else:
        settings = replace(settings, pooling="mean")
        encoder = load_encoder(settings, device=objective.backbone.device)
        plain = replace(build_classifier(settings, labels=(), beside=encoder), head="ridge")
    weights = plain.meta_parameters(torch.Generator().manual_seed(0))
    return plain, weights, replace(settings, head="ridge")


def _match(
    objective: Classification,
    start: Weights,
    texts: Sequence[str],
    labels: Sequence[str],
    label_map: LabelMap | None,
    left_out: Sequence[str],
    *,
    fewest: int,
) -> tuple[LabelMatch, list[Example]]:
    """Name the labels, and check that the examples can be learned from."""
    check_columns(texts, labels)
    match = match_labels(labels, objective.labels, label_map=label_map)
    support = [Example(t.strip(), label) for t, label in zip(texts, match.labels, strict=True)]
    check_support(support, fewest=fewest)
    notes = check_start(objective, start, texts, match)
    return replace(match, notes=(*left_out, *match.notes, *notes)), support


def check_start(
    objective: Classification, start: Weights, texts: Sequence[str], match: LabelMatch
) -> tuple[str, ...]:
    """Compare a start's own answers with labels whose meaning was assumed.

    Args:
        start: Meta-parameters that answer without any label.

    Returns:
        A sentence on how far they agree; nothing where no meaning was assumed.

    Raises:
        LabelError: They clearly say that the two labels mean the opposite.
    """
    if not match.assumed or objective.head != "shared" or len(set(match.labels)) != 2:
        return ()
    answers = [answer.label for answer in predict_texts(objective, start, texts)]
    agreed = sum(answer == label for answer, label in zip(answers, match.labels, strict=True))
    agreement = f"before it adapts, the start gives these labels to {agreed} of {len(texts)} texts"
    opposed = _chance_of_opposition(answers, match.labels)
    if opposed >= SURELY_OPPOSED:
        doubt = "" if opposed > 0.5 else ", hardly more than by chance: look whether they are right"
        logger.info(agreement + doubt)
        return (agreement + doubt,)
    usual = ",".join(f"{written}={name}" for written, name in match.assumed.items())
    first, second = dict.fromkeys(match.labels)
    other = {first: second, second: first}
    turned = ",".join(f"{written}={other[name]}" for written, name in match.assumed.items())
    raise LabelError(
        f"cannot take the labels as most tables mean them, {usual}: {agreement}, as if they meant "
        f'the opposite; give `label_map="{turned}"` if they do, or `label_map="{usual}"` if they '
        "do not"
    )


def _chance_of_opposition(answers: Sequence[str], labels: Sequence[str]) -> float:
    """How likely answers agree with labels this little if both have nothing in common.

    Fisher's exact test, one-sided: however often each side gives its labels, only how these
    fall together counts.
    """
    first = labels[0]
    both = sum(answer == first == label for answer, label in zip(answers, labels, strict=True))
    given, true, count = answers.count(first), list(labels).count(first), len(labels)
    ways = [
        math.comb(true, k) * math.comb(count - true, given - k)
        for k in range(max(0, given + true - count), both + 1)
    ]
    return sum(ways) / math.comb(count, given)


def _report(
    learned: _Learned, how: Adaptation, *, support: Sequence[Example], cut: int, seconds: float
) -> AdaptationReport:
    texts = [example.source for example in support]
    judged = [texts[place] for place in learned.held_out]
    low, high = share_interval(learned.accuracy, len(first_places(judged, key=text_key)))
    inner = BEHIND if learned.by_views and learned.steps else how.inner
    return AdaptationReport(
        examples=len(support),
        steps=learned.steps,
        learning_rate=inner.learning_rate,
        temperature=learned.temperature,
        held_out_accuracy=learned.accuracy,
        held_out_low=low,
        held_out_high=high,
        different_texts=len(first_places(texts, key=text_key)),
        examples_cut=cut,
        seconds=seconds,
        companion=learned.mixture,
        by_views=learned.by_views,
        held_out=learned.pairs,
        text_hashes=tuple(sorted(set(hash_texts(texts)))),
    )


def narrow_labels(
    objective: Classification, meta_parameters: Weights, labels: Iterable[str], *, shared: bool
) -> tuple[Classification, dict[str, Tensor]]:
    """Fit the objective and the meta-parameters to the labels of one domain.

    Of a shared head the rows of these labels remain, which answers as masking the
    others would. Labels that meta-training never saw get a head made from their examples.
    """
    used = set(labels)
    last = objective.plan.head[-1]
    rows_of = {last + WEIGHT, last + BIAS}
    if not shared:
        names = tuple(sorted(used))
        kept = {name: v for name, v in meta_parameters.items() if name not in rows_of}
        head = objective.head if objective.head in FROM_SUPPORT else "prototype"
        return replace(objective, labels=names, head=head), kept
    rows = [place for place, name in enumerate(objective.labels) if name in used]
    names = tuple(objective.labels[row] for row in rows)
    narrowed = {n: v[rows] if n in rows_of else v for n, v in meta_parameters.items()}
    return replace(objective, labels=names), narrowed


def predict_texts(
    objective: Classification, weights: Weights, texts: Sequence[str]
) -> list[Prediction]:
    """Answer texts with one set of weights, in float32, from token ids to labels."""
    plain = exact(objective)
    stacked, answers = repeat(weights, tasks=1), list[Prediction]()
    for first in range(0, len(texts), SORTED_TOGETHER):
        part = texts[first : first + SORTED_TOGETHER]
        query = tuple(Example(text.strip(), "") for text in part)
        episode = Episode("texts", objective.labels, (), query, 0)
        answers += plain.answer(stacked, plain.query_batches([episode]), [episode])[0]
    return answers


def exact(objective: Classification) -> Classification:
    """The same in float32, from token ids on, as predictions are computed."""
    network, tokens = lean_network(objective.backbone), prediction_tokens(objective.backbone.device)
    return replace(objective, network=network, batch_tokens=tokens)


def prediction_tokens(device: torch.device) -> int:
    """Most tokens of one batch: on a CPU as many as its cache has room for."""
    return 512 if device.type == "cpu" else 8192


def _cool(objective: Classification, weights: Weights, temperature: float) -> dict[str, Tensor]:
    """Divide the logits of adapted weights by the temperature; what made the head may go."""
    last = objective.plan.head[-1]
    factors: Mapping[str, float] = {last + WEIGHT: temperature, last + BIAS: temperature}
    kept = {name: value for name, value in weights.items() if not name.startswith(RIDGE)}
    return {name: value / factors.get(name, 1.0) for name, value in kept.items()}
