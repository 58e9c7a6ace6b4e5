"""`nlp-meta evaluate`: how good an adapted model is on labels, or on pairs, that it has not seen.

One that answers with labels is scored by accuracy, macro-F1 and calibration, one that writes
translations by chrF++ and BLEU, one that finds them by the ranks of the right ones.
"""

from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nlp_meta.cli.files import check_output_file, read_pairs, read_rows, write_record
from nlp_meta.cli.options import (
    ANSWERING,
    LABEL_OPTIONS,
    PAIR_COLUMNS,
    READING,
    TABLES_OR_PAIRS,
    TakePaths,
    add_shared,
)
from nlp_meta.cli.predict import add_labels, is_start, load_answering, predict_all
from nlp_meta.cli.screen import Screen, show_facts, show_notes, show_table
from nlp_meta.cli.translate import translate_all
from nlp_meta.errors import LabelError, NlpMetaError
from nlp_meta.progress import quiet_libraries, show_count

if TYPE_CHECKING:
    from nlp_meta.data.answers import Coverage
    from nlp_meta.data.episodes import Episode
    from nlp_meta.data.labels import LabelMatch
    from nlp_meta.files.memories import Memory
    from nlp_meta.models.classification import AdaptedModel
    from nlp_meta.models.generation import GenerationModel
    from nlp_meta.models.retrieval import RetrievalModel

EXAMPLE = "nlp-meta evaluate adapted --data test.csv --output scores.json"
CLASSIFICATION, RETRIEVAL, GENERATION = "classification", "retrieval", "generation"
RESAMPLES = 1000
FEW_ROWS = 30
_BAR = 40  # signs of a bar that is wholly wrong
CANDIDATES = 1000
"""Most targets that a source is to find its translation among, as in a comparison."""

Scores = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation says.

    Attributes:
        scores: Of each metric its value and the ends of its interval.
        record: What else is written, of the data.
        facts: The same for people.
        notes: What the scores cannot say.
        curve: Risk against coverage, where answers have a confidence.
        digits: Of a score, as people see it.
    """

    scores: Scores
    record: Mapping[str, object]
    facts: Mapping[str, str]
    digits: int = 3
    notes: Sequence[str] = ()
    curve: "Sequence[Coverage]" = ()


def add_options(command: ArgumentParser) -> None:
    """Add the options of `evaluate`."""
    main = command.add_argument_group("main options")
    add_shared(main, "model", help=ANSWERING)
    add_shared(main, "--base")
    add_shared(
        main,
        "--data",
        action=TakePaths,
        help="table of labeled texts, or translation memory, that the model has not learned from; "
        f"{TABLES_OR_PAIRS}",
    )
    add_shared(
        main,
        "--output",
        help="JSON file to write: accuracy, macro_f1, ece (calibration error) and risk_coverage "
        "(wrong answers when the less sure are left out); chrf (chrF++) "
        "and bleu of a model that writes translations; precision_at_1, mrr and xsim (error of "
        "mining) of one that finds them; each with a 95%% interval",
    )
    add_labels(main)
    add_shared(main, "--replace")
    add_shared(command.add_argument_group("data"), *LABEL_OPTIONS, *PAIR_COLUMNS, *READING)


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Score the answers to every row, and write the scores whole."""
    check_output_file(options)
    skill = find_skill(options.model)
    evaluation = _EVALUATIONS[skill](options, screen)
    show_notes(screen, evaluation.notes)
    record = {**evaluation.scores, **evaluation.record}
    if screen.noted:
        record["notes"] = screen.noted
    write_record(options, record)
    keys = ("value", "low", "high")
    rows = [
        (
            name if skill == CLASSIFICATION else name.replace("_", "-"),
            *(show_number(score[key], evaluation.digits) for key in keys),
        )
        for name, score in evaluation.scores.items()
    ]
    show_table(screen, ("metric", *keys), rows)
    _draw_curve(screen, evaluation.curve)
    show_facts(screen, {**evaluation.facts, "written to": str(options.output)})
    return record


def _draw_curve(screen: Screen, curve: "Sequence[Coverage]") -> None:
    """Draw risk, the share of wrong answers, against the share of rows that are answered."""
    if len(curve) < 2:
        return
    rows = []
    for part in curve:
        accuracy, low, high = part.accuracy or 0.0, part.low or 0.0, part.high or 0.0
        ends = (show_number(1 - end, 3) for end in (accuracy, high, low))
        bar = "#" * round(_BAR * (1 - accuracy))
        rows.append((f"{part.answered:.0%}", f"{part.min_confidence:.3f}", *ends, f"{bar:<{_BAR}}"))
    columns = ("answered", "confidence from", "risk", "low", "high", "")
    show_table(screen, columns, rows, title="wrong answers when the less sure are left out")


def find_skill(model: str) -> str:
    """Say what a saved model does; `classification` where there is none."""
    from nlp_meta.hub.records import find_model

    try:
        return find_model(model)[1].skills[0]
    except NlpMetaError:
        return CLASSIFICATION


def _evaluate_labels(options: Namespace, screen: Screen) -> Evaluation:
    from nlp_meta.data.answers import risk_curve
    from nlp_meta.data.duplicates import number_texts
    from nlp_meta.evaluation.metrics import LABEL_METRICS

    table = read_rows(options, options.data, screen)
    with quiet_libraries():
        from nlp_meta.models.texts import note_unknown

        model = load_answering(options, table.texts)
        match = match_test_labels(
            table.labels or (), model.labels, label_map=options.label_map, spellings=model.spellings
        )
        true = match.labels
        model, narrowed = _narrow(model, true) if is_start(options.model) else (model, ())
        predictions = predict_all(model, table.texts, screen)
    unknown = model.count_unknown(table.texts)
    counts, groups = Counter(true), number_texts(table.texts)
    labels = {label: counts[label] for label in model.labels}
    shown = ", ".join(f"{label} {count}" for label, count in labels.items())
    # Macro-F1 is a mean over the labels that are true or predicted somewhere, as in scikit-learn.
    seen = {*true, *(answer.label for answer in predictions)}
    present = [label for label in model.labels if label in seen]
    pairs = [
        (answer.probabilities[answer.label], answer.label == label)
        for answer, label in zip(predictions, true, strict=True)
    ]
    curve, right = risk_curve(pairs), sum(is_right for _, is_right in pairs)
    doubts = doubt_scores(counts, right / len(true), different=max(groups) + 1)
    doubts += _doubt_learned(model, table.texts, "rows have a text")
    return Evaluation(
        {m: _score(true, predictions, m, present, groups) for m in LABEL_METRICS},
        {"rows": len(true), "labels": labels, "risk_coverage": [asdict(part) for part in curve]},
        {"rows": f"{len(true)} ({shown}); 95% intervals over different texts"},
        notes=[*match.notes, *narrowed, *note_unknown(unknown, len(true)), *doubts],
        curve=curve,
    )


def _doubt_learned(
    model: "AdaptedModel | RetrievalModel | GenerationModel", texts: Sequence[str], what: str
) -> list[str]:
    """Say how many texts the model has seen with their labels, or translations."""
    from nlp_meta.data.duplicates import hash_texts

    learned = set(model.report.text_hashes if model.report else ())
    known = sum(name in learned for name in hash_texts(texts))
    note = (
        f"{known} of {len(texts)} {what} that the model learned from: they tell how well "
        "it remembers, not how well it answers new texts; leave them out"
    )
    return [note] if known else []


def _narrow(start: "AdaptedModel", labels: Sequence[str]) -> "tuple[AdaptedModel, tuple[str, ...]]":
    """Let a start, which learned labels that a table may lack, answer among the table's alone."""
    kept = [label for label in start.labels if label in labels]
    if not 1 < len(kept) < len(start.labels):
        return start, ()
    note = (
        f"the start answers {' or '.join(kept)} alone: of its labels {', '.join(start.labels)} the "
        "table has no other"
    )
    return start.among(kept), (note,)


def _evaluate_generation(options: Namespace, screen: Screen) -> Evaluation:
    with quiet_libraries():
        from nlp_meta.data.answers import Translation
        from nlp_meta.evaluation.metrics import signature_of, spbleu_missing
        from nlp_meta.models.generation import GenerationModel

        model = GenerationModel.from_pretrained(options.model, base=options.base)
        languages = model.source_lang, model.target_lang
        memory = _read(options, screen, languages)
        sources = [pair.source for pair in memory.pairs]
        cut = model.count_cut(sources)
        texts = translate_all(model, sources, screen, num_beams=None)
        metrics = ("chrf", "bleu", *(() if spbleu_missing() else ("spbleu",)))
    targets, answers = [pair.target for pair in memory.pairs], list(map(Translation, texts))
    signatures = {metric: signature_of(metric, model.target_lang) for metric in metrics}
    scores = {
        metric: {**_score(targets, answers, metric, (model.target_lang,)), "signature": signature}
        for metric, signature in signatures.items()
    }
    facts = _describe(memory, cut, f"{len(texts)}; 95% intervals over pairs")
    facts |= {f"{metric} signature": signature for metric, signature in signatures.items()}
    notes = doubt_count(len(texts), "pairs") + _doubt_learned(model, sources, "pairs have a source")
    return Evaluation(scores, _record(memory, cut, languages), facts, digits=1, notes=notes)


def _evaluate_retrieval(options: Namespace, screen: Screen) -> Evaluation:
    with quiet_libraries():
        from nlp_meta.evaluation.answers import place_rankings
        from nlp_meta.evaluation.metrics import RANKING_METRICS
        from nlp_meta.models.retrieval import RetrievalModel
        from nlp_meta.models.texts import count_cut

        model = RetrievalModel.from_pretrained(options.model, base=options.base)
        memory = _read(options, screen, model.languages)
        episode = pool_pairs(memory)
        sources = [pair.source for pair in episode.query]
        cut = count_cut(model.objective.backbone, [*sources, *episode.candidates], long_texts="cut")
        with show_count("embedding", console=screen.notes) as on_step:
            rankings = model.rank(sources, episode.candidates, on_step=on_step)
    overlap = model.objective.overlap
    record = _record(memory, cut, model.languages) | {
        "pairs": len(sources),
        "pairs_given": len(memory.pairs),
        "overlap": overlap,
    }
    pairs = (
        f"{len(sources)} of {len(memory.pairs)}, each among {len(episode.candidates)} targets; 95% "
        "intervals over pairs"
    )
    facts = _describe(memory, cut, pairs)
    facts["n-grams"] = f"their overlap counts for {overlap:g}" if overlap else "take no part"
    placed, targets = place_rankings(episode, rankings), [pair.target for pair in episode.query]
    scores = {metric: _score(targets, placed, metric, ()) for metric in RANKING_METRICS}
    notes = doubt_count(len(sources), "pairs") + _doubt_learned(
        model, sources, "pairs have a source"
    )
    return Evaluation(scores, record, facts, notes=notes)


_EVALUATIONS = {
    CLASSIFICATION: _evaluate_labels,
    RETRIEVAL: _evaluate_retrieval,
    GENERATION: _evaluate_generation,
}


def doubt_scores(counts: Mapping[str, int], accuracy: float, *, different: int) -> list[str]:
    """Say what scores over few rows, or mostly over rows of one label, cannot tell.

    Args:
        counts: Rows of each label.
        accuracy: Share of the rows whose label was found.
        different: Texts, without those that stand there already.
    """
    notes = doubt_count(different, "texts" if different < sum(counts.values()) else "rows")
    if len(counts) == 1:
        notes.append(
            f"all rows are labeled {next(iter(counts))!r}: accuracy is the share of them that is "
            "found, and no score says how often another label is right"
        )
    return notes + doubt_accuracy(counts, accuracy)


def doubt_count(count: int, what: str) -> list[str]:
    """Say that scores over few rows, texts or pairs say little."""
    if count == 1:
        return [f"one {what[:-1]} says almost nothing of a model; an interval needs more"]
    few = f"{count} {what} are few: another {count} may give other scores"
    return [few] if count < FEW_ROWS else []


def doubt_accuracy(counts: Mapping[str, int], accuracy: float) -> list[str]:
    """Say that an accuracy is no better than that of one answer to all rows."""
    often = max(counts, key=lambda label: counts[label])
    share = counts[often] / sum(counts.values())
    if len(counts) == 1 or accuracy > share:
        return []
    return [
        f"an accuracy of {accuracy:.3f} is no more than that of answering {often!r} to every row, "
        f"{share:.3f}"
    ]


def show_number(number: object, digits: int) -> str:
    """Write a score; `-` where there is none."""
    return "-" if number is None else f"{number:.{digits}f}"


def match_test_labels(
    labels: Sequence[str],
    known: Sequence[str],
    *,
    label_map: Mapping[str, str] | None,
    spellings: Mapping[str, str],
) -> "LabelMatch":
    """Give the labels of a test table, which need not all be there, the names of the model.

    Args:
        spellings: Labels as they were written when the model was adapted -> their names.

    Raises:
        LabelError: A label means none of the model's.
    """
    from nlp_meta.data.labels import match_labels

    match = match_labels(labels, known, label_map=label_map, spellings=spellings, part=True)
    if match.shared:
        return match
    strange = [
        label
        for label in match.counts
        if match.matched.get(label, label) not in known
        and not match_labels([label], known, label_map=None, spellings=spellings).shared
    ]
    shown = ", ".join(map(repr, strange[:10])) + (" ..." if len(strange) > 10 else "")
    raise LabelError(
        f"cannot score label {shown}: it is none of the model's, which are "
        f"{', '.join(map(repr, known))}; correct the table, say what it means with "
        "`--label-map` or name another column with `--label-column`"
    )


def pool_pairs(memory: "Memory") -> "Episode":
    """Give the pairs of a memory as queries, their targets as candidates, without any support.

    Of pairs that share a sentence the first takes part, as one target alone must be right; of
    more than a comparison's pool holds as many, drawn at random.
    """
    from nlp_meta.data.cards import TRANSLATION
    from nlp_meta.data.pairs import evaluation_pairs
    from nlp_meta.data.tasks import Example, Task

    pairs = tuple(Example(pair.source.strip(), pair.target.strip()) for pair in memory.pairs)
    task = Task("pairs", TRANSLATION, "", "", "meta-test", (), (), pairs)
    return evaluation_pairs(task, pairs=0, seed=0, draw=0, max_query=CANDIDATES, candidates=0)


def _score(
    true: Sequence[str],
    answers: Any,
    metric: str,
    labels: Sequence[str],
    groups: Sequence[int] | None = None,
) -> dict[str, object]:
    """A metric with its 95% interval over rows, or pairs; one text has none."""
    from nlp_meta.evaluation.metrics import score
    from nlp_meta.evaluation.statistics import interval_of_metric

    if len(set(range(len(true)) if groups is None else groups)) == 1:
        return {"value": score(metric, true, answers, labels), "low": None, "high": None}
    interval = interval_of_metric(
        true, answers, metric, labels=labels, groups=groups, resamples=RESAMPLES, seed=0
    )
    return {"value": interval.mean, "low": interval.low, "high": interval.high}


def _read(options: Namespace, screen: Screen, languages: tuple[str, str]) -> "Memory":
    source, target = (language or None for language in languages)
    return read_pairs(options, options.data, screen, source_lang=source, target_lang=target)


def _record(memory: "Memory", cut: int, languages: Sequence[str]) -> dict[str, object]:
    from nlp_meta.files.memories import record_memory

    return {**record_memory(memory), "texts_cut": cut, "languages": list(languages)}


def _describe(memory: "Memory", cut: int, pairs: str) -> dict[str, str]:
    from nlp_meta.files.memories import describe_memory

    facts = {**describe_memory(memory), "pairs": pairs}
    if cut:
        facts["sentences cut"] = f"{cut} to the length that the model takes"
    return facts
