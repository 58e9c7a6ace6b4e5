"""Finding translations: a start, and how a few dozen sentence pairs make a model of it.

A meta-model that learned translation, alone or beside sentiment, is a start; from a few
dozen sentence pairs `adapt_alignment` makes of it an `AlignmentModel`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from nlp_meta.adapting import check_texts, count_cut
from nlp_meta.alignment_model import AlignmentModel, AlignmentReport
from nlp_meta.alignment_start import AlignmentMetaModel
from nlp_meta.companion import check_when
from nlp_meta.data.tasks import Example
from nlp_meta.errors import DataError
from nlp_meta.hub.pulling import tell_source
from nlp_meta.long_texts import name_sentence
from nlp_meta.mining import Mined
from nlp_meta.pair_adapting import adapt_to_pairs
from nlp_meta.ticker import Ticker

__all__ = ["AlignmentMetaModel", "AlignmentModel", "AlignmentReport", "Mined", "adapt_alignment"]


def adapt_alignment(
    meta_model: AlignmentMetaModel,
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    languages: tuple[str, str] = ("", ""),
    steps: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    long_texts: str = "cut",
    companion: str = "auto",
    lines: Sequence[int] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> AlignmentModel:
    """Adapt to a language pair from a few dozen sentences and their translations.

    Args:
        languages: Names that are saved with the model.
        steps, learning_rate: In place of the defaults found on meta-validation.
        long_texts: What to do with sentences longer than the encoder takes: `cut` them and
            count them in the report, or `stop`.
        companion: Let the overlap of character n-grams count beside the encoder: `auto` where
            held-out pairs say that it pays, `ngrams` always, `none` never.
        lines: Of the pairs in their file, to name a sentence that is too long by.
        on_step: Called with the steps done and their number.

    Raises:
        DataError: The sides differ in number, fewer than 4 distinct pairs, a sentence that is
            empty or too long.
        DivergedError: A loss became infinite; nothing is returned.
        SettingsError: `companion` is none of these words.
    """
    began = time.monotonic()
    check_when(companion)
    check_sides(sources, targets)
    inner = meta_model.adaptation.instead(steps=steps, learning_rate=learning_rate)
    name = partial(name_sentence, sources=len(sources), lines=lines)
    cut = count_cut(meta_model.objective, [*sources, *targets], long_texts=long_texts, name=name)
    found = adapt_to_pairs(
        meta_model.objective,
        meta_model.weights,
        [Example(s.strip(), t.strip()) for s, t in zip(sources, targets, strict=True)],
        inner=inner,
        minibatch=meta_model.minibatch,
        early_stop=meta_model.early_stop and steps is None,
        companion=companion,
        seed=seed,
        on_step=Ticker(on_step, total=2 * (inner.steps + 1)),
    )
    done = (len(sources), inner.learning_rate, cut, time.monotonic() - began)
    report = AlignmentReport.of(found, *done)
    objective = replace(meta_model.objective, overlap=found.overlap)
    own = (objective, found.weights, meta_model.settings, found.held_out.threshold)
    told = tell_source(meta_model.provenance, meta_model.source)
    return AlignmentModel(*own, languages, report, told)


def check_sides(sources: Sequence[str], targets: Sequence[str]) -> None:
    """Refuse sides that differ in number, and empty sentences."""
    if len(sources) != len(targets):
        raise DataError(
            f"cannot adapt to {len(sources)} sentences with {len(targets)} translations: one "
            "translation for each sentence is needed; give as many"
        )
    check_texts(sources)
    check_texts(targets)
