"""`nlp-meta evaluate` of a model of one language pair, on pairs that it has not seen.

One that writes translations is scored by chrF++ and BLEU, one that finds them by the ranks
of the right ones.
"""

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence

from nlp_meta.cli.files import check_output_file, replace_file
from nlp_meta.cli.screen import Screen, show_facts, show_progress, show_table
from nlp_meta.cli.translate import translate_all
from nlp_meta.data.answers import Translation
from nlp_meta.data.cards import TRANSLATION
from nlp_meta.data.episodes import Episode
from nlp_meta.data.pairs import evaluation_pairs
from nlp_meta.data.tasks import Example, Task
from nlp_meta.errors import NlpMetaError
from nlp_meta.evaluation.ranking_metrics import ROW_SUMS, Placed, place_rankings
from nlp_meta.evaluation.statistics import interval_of_metric
from nlp_meta.evaluation.translation_metrics import signature_of, spbleu_missing
from nlp_meta.files.memories import Memory, describe_memory, read_memory, record_memory
from nlp_meta.progress import quiet_libraries

RESAMPLES = 1000
CANDIDATES = 1000
"""Most targets that a source is to find its translation among, as in a comparison."""

Scores = Mapping[str, Mapping[str, object]]


def writes_translations(model: str) -> bool:
    """Whether a saved model is one that translates; False where there is none."""
    from nlp_meta.hub.records import TRANSLATION_MODEL

    return _kind_of(model) == TRANSLATION_MODEL


def finds_translations(model: str) -> bool:
    """Whether a saved model is one that finds translations alone; False where there is none."""
    from nlp_meta.hub.records import ALIGNMENT_MODEL

    return _kind_of(model) == ALIGNMENT_MODEL


def run_evaluate_pairs(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Translate the sources of a memory, score the translations, and write the scores whole."""
    check_output_file(options.output, data=options.data, given="the file given as `--data`")
    with quiet_libraries():
        from nlp_meta.models.generation import TranslationModel

        model = TranslationModel.from_pretrained(options.model)
        languages = model.source_lang, model.target_lang
        memory = _read(options, languages)
        sources = [pair.source for pair in memory.pairs]
        cut = model.count_cut(sources)
        texts = translate_all(model, sources, screen, num_beams=None)
    targets = [pair.target for pair in memory.pairs]
    scores = score_translations(targets, texts, language=model.target_lang)
    record = {**scores, **_tell(memory, cut, languages)}
    _write(options, record)
    facts = _describe(memory, cut, f"{len(texts)}; 95% intervals over pairs")
    facts |= {f"{name} signature": str(score["signature"]) for name, score in scores.items()}
    _show(scores, facts, options, screen, digits=1)
    return record


def run_evaluate_alignment(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Look for the translation of every source among all targets, and write the scores whole."""
    check_output_file(options.output, data=options.data, given="the file given as `--data`")
    with quiet_libraries():
        from nlp_meta.models.adaptation import count_cut
        from nlp_meta.models.retrieval import AlignmentModel

        model = AlignmentModel.from_pretrained(options.model)
        memory = _read(options, model.languages)
        episode = pool_pairs(memory)
        sources = [pair.source for pair in episode.query]
        cut = count_cut(model.objective, [*sources, *episode.candidates], long_texts="cut")
        with show_progress(screen, "embedding") as on_step:
            rankings = model.rank(sources, episode.candidates, on_step=on_step)
    scores = score_placed(episode, place_rankings(episode, rankings))
    overlap = model.objective.overlap
    told = {"pairs": len(sources), "pairs_given": len(memory.pairs), "overlap": overlap}
    record = {**scores, **_tell(memory, cut, model.languages), **told}
    _write(options, record)
    pairs = (
        f"{len(sources)} of {len(memory.pairs)}, each among {len(episode.candidates)} targets; 95% "
        "intervals over pairs"
    )
    facts = _describe(memory, cut, pairs)
    facts["n-grams"] = f"their overlap counts for {overlap:g}" if overlap else "take no part"
    _show(scores, facts, options, screen, digits=3)
    return record


def pool_pairs(memory: Memory) -> Episode:
    """Give the pairs of a memory as queries, their targets as candidates, without any support.

    Of pairs that share a sentence the first takes part, as one target alone must be right; of
    more than a comparison's pool holds as many, drawn at random.
    """
    pairs = tuple(Example(pair.source.strip(), pair.target.strip()) for pair in memory.pairs)
    task = Task("pairs", TRANSLATION, "", "", "meta-test", (), (), pairs)
    return evaluation_pairs(task, pairs=0, seed=0, draw=0, max_query=CANDIDATES, candidates=0)


def score_translations(
    targets: Sequence[str], texts: Sequence[str], *, language: str
) -> dict[str, dict[str, object]]:
    """Each metric with its 95% interval over pairs and sacrebleu's signature; spBLEU where it can
    be computed on this machine."""
    answers = [Translation(text) for text in texts]
    return {
        metric: {
            **_interval(targets, answers, metric, (language,)),
            "signature": signature_of(metric, language),
        }
        for metric in ("chrf", "bleu", *(() if spbleu_missing() else ("spbleu",)))
    }


def score_placed(episode: Episode, placed: Sequence[Placed]) -> dict[str, dict[str, object]]:
    """Each metric of rankings with its 95% interval over pairs."""
    targets = [pair.target for pair in episode.query]
    return {metric: _interval(targets, placed, metric, ()) for metric in ROW_SUMS}


def _interval(
    targets: Sequence[str],
    answers: Sequence[Translation] | Sequence[Placed],
    metric: str,
    known: Sequence[str],
) -> dict[str, object]:
    found = interval_of_metric(targets, answers, metric, labels=known, resamples=RESAMPLES, seed=0)
    return {"value": found.mean, "low": found.low, "high": found.high}


def _kind_of(model: str) -> str | None:
    from nlp_meta.hub.records import find_any_model

    try:
        return find_any_model(model)[1].kind
    except NlpMetaError:
        return None


def _read(options: Namespace, languages: tuple[str, str]) -> Memory:
    source, target = languages
    return read_memory(
        options.data,
        source_column=options.source_column,
        target_column=options.target_column,
        source_lang=source or None,
        target_lang=target or None,
    )


def _tell(memory: Memory, cut: int, languages: tuple[str, str]) -> dict[str, object]:
    return {**record_memory(memory), "texts_cut": cut, "languages": list(languages)}


def _describe(memory: Memory, cut: int, pairs: str) -> dict[str, str]:
    facts = {**describe_memory(memory), "pairs": pairs}
    if cut:
        facts["sentences cut"] = f"{cut} to the length that the model takes"
    return facts


def _write(options: Namespace, record: Mapping[str, object]) -> None:
    with replace_file(options.output) as path:
        path.write_text(json.dumps(record, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _show(
    scores: Scores, facts: Mapping[str, str], options: Namespace, screen: Screen, *, digits: int
) -> None:
    keys = ("value", "low", "high")
    rows = [
        (name.replace("_", "-"), *(f"{score[key]:.{digits}f}" for key in keys))
        for name, score in scores.items()
    ]
    show_table(screen, ("metric", *keys), rows)
    show_facts(screen, {**facts, "written to": str(options.output)})
