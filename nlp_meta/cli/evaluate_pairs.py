"""`nlp-meta evaluate` of a model that translates: chrF++ and BLEU on pairs it has not seen."""

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence

from nlp_meta.cli.files import check_output_file, replace_file
from nlp_meta.cli.screen import Screen, show_facts, show_table
from nlp_meta.cli.translate import translate_all
from nlp_meta.data.answers import Translation
from nlp_meta.data.memories import Memory, read_memory
from nlp_meta.data.memory_facts import describe_memory, record_memory
from nlp_meta.errors import NlpMetaError
from nlp_meta.evaluation.statistics import interval_of_metric
from nlp_meta.evaluation.translation_metrics import signature_of, spbleu_missing
from nlp_meta.quiet import quiet_libraries

RESAMPLES = 1000


def writes_translations(model: str) -> bool:
    """Whether a saved model is one that translates; False where there is none."""
    from nlp_meta.hub.records import TRANSLATION_MODEL, find_any_model

    try:
        return find_any_model(model)[1].kind == TRANSLATION_MODEL
    except NlpMetaError:
        return False


def run_evaluate_pairs(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Translate the sources of a memory, score the translations, and write the scores whole."""
    check_output_file(options.output, data=options.data, given="the file given as `--data`")
    with quiet_libraries():
        from nlp_meta.translating import TranslationModel

        model = TranslationModel.from_pretrained(options.model)
        memory = read_memory(
            options.data,
            source_column=options.source_column,
            target_column=options.target_column,
            source_lang=model.source_lang,
            target_lang=model.target_lang,
        )
        sources = [pair.source for pair in memory.pairs]
        cut = model.count_cut(sources)
        texts = translate_all(model, sources, screen, num_beams=None)
    targets = [pair.target for pair in memory.pairs]
    scores = score_translations(targets, texts, language=model.target_lang)
    record = {
        **scores,
        **record_memory(memory),
        "texts_cut": cut,
        "languages": [model.source_lang, model.target_lang],
    }
    with replace_file(options.output) as path:
        path.write_text(json.dumps(record, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    _show(scores, memory, cut, options, screen)
    return record


def score_translations(
    targets: Sequence[str], texts: Sequence[str], *, language: str
) -> dict[str, dict[str, object]]:
    """Each metric with its 95% interval over pairs and sacrebleu's signature; spBLEU where it can
    be computed on this machine."""
    answers = [Translation(text) for text in texts]
    scores: dict[str, dict[str, object]] = {}
    for metric in ("chrf", "bleu", *(() if spbleu_missing() else ("spbleu",))):
        found = interval_of_metric(
            targets, answers, metric, labels=(language,), resamples=RESAMPLES, seed=0
        )
        scores[metric] = {
            "value": found.mean,
            "low": found.low,
            "high": found.high,
            "signature": signature_of(metric, language),
        }
    return scores


def _show(
    scores: Mapping[str, Mapping[str, object]],
    memory: Memory,
    cut: int,
    options: Namespace,
    screen: Screen,
) -> None:
    show_table(
        screen,
        ("metric", "value", "low", "high"),
        [
            (name, *(f"{score[key]:.1f}" for key in ("value", "low", "high")))
            for name, score in scores.items()
        ],
    )
    signatures = {f"{name} signature": str(score["signature"]) for name, score in scores.items()}
    facts = describe_memory(memory)
    facts["pairs"] += "; 95% intervals over pairs"
    if cut:
        facts["sentences cut"] = f"{cut} to the length that the model takes"
    show_facts(screen, {**facts, **signatures, "written to": str(options.output)})
