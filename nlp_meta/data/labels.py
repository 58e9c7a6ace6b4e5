"""Users' labels: match them with a model's own, or take them as a new label set.

People write `pos`, `Positive ` or `1` where a model knows `positive`. What means
a known label becomes that label; a set that has anything else in it is new and
stays as it was written. What looks like a slip, or is a guess, is noted.
"""

import difflib
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nlp_meta.data.cells import LabelMap, fold_label, is_missing_word, read_label_map, write_number
from nlp_meta.data.cells import label_text as label_text
from nlp_meta.errors import LabelError

logger = logging.getLogger(__name__)

SENTIMENTS = frozenset({"negative", "neutral", "positive"})
_ALIASES = {
    "negative": ("neg", "-", "negatif", "négatif", "negativ", "negativo", "negativa", "negatief"),
    "neutral": ("neu", "netral", "neutre", "neutro", "neutra", "neutraal", "nötr"),
    "positive": ("pos", "+", "positif", "positiv", "positivo", "positiva", "positief", "pozitif"),
}
_BINARY_ALIASES = {
    **dict.fromkeys("0 label_0 false falsch faux falso onwaar falskt".split(), "negative"),
    **dict.fromkeys("1 label_1 true wahr vrai verdadero vero waar sant".split(), "positive"),
}
_TRUTH = {"false": "0", "true": "1"}
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T]\d{1,2}:\d{2}.*)?")
_DAY = re.compile(
    r"\d{1,2}[-. /]+(MONTH)|(MONTH)[-. /]*\d{1,2}".replace(
        "MONTH",
        "jan|feb|m[aä]r|mrz|apr|avr|ma[iyj]|jun|jul|juin|juil|aug|ago|ao[uû]t|sep|o[ck]t|nov|de[cz]",
    ),
    re.IGNORECASE,
)
"""What a spreadsheet makes of 1-3."""
_NO_ANSWER = ("-1", "-9", "99", "-99", "999", "-999", "9999")
_COLUMNS = "`texts` and `labels`"
_NUMBERED = re.compile(r"label[_ ]?\d+", re.IGNORECASE)
_JOINTS = re.compile(r"\s*[;|,/+&#]\s*")


@dataclass(frozen=True, slots=True)
class LabelMatch:
    """Labels of a user's examples after matching.

    Attributes:
        labels: One for each example, in the examples' order.
        matched: Label as written -> its new name, where the two differ.
        counts: Label as written -> number of examples.
        shared: Every label is one that the model knows.
        assumed: Of `matched`, what only a custom says: that 1 is positive.
        notes: Sentences on what was assumed and on what looks like a slip.
    """

    labels: tuple[str, ...]
    matched: Mapping[str, str]
    counts: Mapping[str, int]
    shared: bool
    assumed: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def spellings(self) -> dict[str, str]:
        """Every label as written -> its name."""
        return {written: self.matched.get(written, written) for written in self.counts}


def match_labels(
    labels: Sequence[str],
    known: Sequence[str],
    *,
    label_map: LabelMap | None,
    spellings: Mapping[str, str] | None = None,
    part: bool = False,
) -> LabelMatch:
    """Give labels the names that the model knows, if all of them mean one of these.

    Case, blanks and common other names (`pos`, `negatif`, `+`) do not matter;
    0 and 1, or false and true, are negative and positive where `known` is just
    these two; beside `neutral` a note tells how to say so. If a single label means
    none of `known`, the set is new: then only `label_map` renames.

    Args:
        labels: As written, one for each example.
        known: The model's labels; empty if it has none of its own.
        label_map: Label as written -> name, or text such as `bad=negative`; goes before every
            other rule.
        spellings: Label as written when the model was adapted -> its name; goes before
            what labels usually mean.
        part: The labels need not all be there, so `label_map` may name others.

    Raises:
        LabelError: An empty label, or a word for a missing one; several labels in one; a
            column that does not hold labels; a key of `label_map` that no example has; two
            labels of a new set that differ in nothing but case or blanks.
    """
    written = _write_all(labels)
    counts = Counter(written)
    renamed = _apply_label_map(counts, known, read_label_map(label_map), part=part)
    learned = _find_learned(counts, known, spellings or {})
    named = {name: renamed[name] for name in renamed if renamed[name] in known}
    usual, assumed = _meanings(counts, known)
    meanings = {**usual, **learned, **named}
    shared = meanings.keys() == counts.keys() and renamed.items() <= meanings.items()
    others = {label: count for label, count in counts.items() if label not in renamed | learned}
    by_fold = {fold_label(name) for name in known}
    _check_missing_words(counts, [name for name in others if fold_label(name) not in by_fold])
    if shared:
        names = meanings
    else:
        check_kind(written)
        _check_joined(counts, others, known)
        names = {label: renamed.get(label, label) for label in counts}
        _check_distinct(names, renamed)
    assumed = {name: assumed[name] for name in assumed if shared and name in others}
    notes = _note_assumed(assumed) if shared else _note_slips(counts, others, known, meanings)
    for note in notes:
        logger.info(note)
    return LabelMatch(
        labels=tuple(names[label] for label in written),
        matched={label: name for label, name in names.items() if label != name},
        counts=dict(counts),
        shared=shared,
        assumed=assumed,
        notes=notes,
    )


def pair_names(names: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Give each name of a label the one of `known` that means the same, where there is one.

    Both may be other names of a sentiment: `POSITIVE` is `pos`.
    """
    meanings = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}
    folded = {label: fold_label(label) for label in (*names, *known)}
    by_meaning = {meanings.get(folded[label], folded[label]): label for label in known}
    means = {name: by_meaning.get(meanings.get(folded[name], folded[name])) for name in names}
    return {name: label for name, label in means.items() if label is not None}


def drop_rows(
    labels: Sequence[Sequence[str]], drop_labels: Sequence[str] | str
) -> tuple[set[int], tuple[str, ...]]:
    """Find the rows of labels that are to be left out.

    Args:
        labels: All labels of each row.
        drop_labels: Their spelling does not matter; a text is one label.

    Returns:
        Their places, from 0, and sentences on what is left out.

    Raises:
        LabelError: No row has a label, but one nearly of its name.
    """
    dropped = [drop_labels] if isinstance(drop_labels, str) else list(drop_labels)
    folded = {fold_label(label_text(label) or label): label for label in dropped}
    if not folded:
        return set(), ()
    hits = {
        place: {fold_label(name) for name in names} & folded.keys()
        for place, names in enumerate(labels)
    }
    counts = Counter(name for names in hits.values() for name in names)
    known = list(dict.fromkeys(name for names in labels for name in names))
    for name, label in folded.items():
        nearest = [] if counts[name] else difflib.get_close_matches(label, known, n=1)
        if nearest:
            raise LabelError(
                f"cannot leave out label {label!r}: no row has it, the labels are "
                f"{_listed(dict.fromkeys(known, 0))} (nearest: {nearest[0]!r}); correct "
                "`drop_labels`"
            )
    return {place for place, names in hits.items() if names}, tuple(
        f"{counts[name]} of {len(labels)} rows are labeled {label!r} and are left out"
        for name, label in folded.items()
    )


def check_kind(labels: Sequence[str]) -> None:
    """Stop where a column holds something else than labels: scores, dates, texts, names of rows.

    Raises:
        LabelError: Says what it looks like.
    """
    counts = Counter(labels)
    singles = sum(count == 1 for count in counts.values())
    if len(counts) < 8 or 2 * singles <= len(counts):
        return
    shown = ", ".join(repr(label[:40]) for label in list(counts)[:3])
    kind, remedy = _kind_of(list(counts))
    raise LabelError(
        f"cannot learn labels from {len(labels)} examples: the column has {len(counts)} different "
        f"values in {len(labels)} rows ({shown}, ...) and looks like {kind}; a few labels, each in "
        f"several rows, are needed; {remedy}correct {_COLUMNS}"
    )


def check_columns(
    texts: Sequence[str], labels: Sequence[str], *, arguments: str = _COLUMNS
) -> None:
    """Stop where texts and labels look swapped: few texts again and again, each label another.

    Args:
        arguments: What an error calls both.

    Raises:
        LabelError: Names both arguments.
    """
    different = len(set(labels))
    many, few = different > len(labels) / 2, len(set(texts)) <= max(2, len(texts) / 5)
    if len(labels) >= 8 and many and few and _kind_of(list(set(labels)))[0] == "texts":
        raise LabelError(
            f"cannot learn labels such as {labels[0][:40]!r} of texts such as {texts[0][:40]!r}: "
            f"{different} labels are different and {len(set(texts))} texts, so both look "
            f"swapped; give {arguments} the other way round"
        )


def check_labels(labels: Sequence[str], *, min_per_label: int = 2) -> None:
    """Stop where there is too little to learn a label from.

    Raises:
        LabelError: Fewer than two labels, or fewer than `min_per_label` examples of one, or a
            single one where the label looks like a slip; names the label and its count.
    """
    counts = Counter(labels)
    if not counts:
        raise LabelError(
            "cannot learn labels from 0 examples: at least two labels are needed; add examples"
        )
    if len(counts) == 1:
        label, count = next(iter(counts.items()))
        raise LabelError(
            f"cannot learn from one label only: all {count} examples are labeled {label!r}, at "
            f"least two labels are needed; add examples of another label to {_COLUMNS}"
        )
    label, count = min(counts.items(), key=lambda item: item[1])
    often = [other for other in counts if count * 5 <= counts[other]]
    near = _find_near(label, often)
    if count < max(min_per_label, 2 if near else 1):
        min_per_label = max(min_per_label, 2)
        slip = f", and it looks like a slip of {near!r}" if near else ""
        raise LabelError(
            f"cannot learn label {label!r} from {count} example{'' if count == 1 else 's'}{slip}: "
            f"at least {min_per_label} of each label are needed; add examples of it, leave it out "
            f"with {_say_drop(label)}, or join it with another label by "
            f"{_say_map(label, near) if near else '`label_map`'}"
        )


def describe_match(match: LabelMatch) -> str:
    """Tell a person in one line which label became which, with counts as written."""
    parts = (
        f"{written} -> {match.matched[written]} ({count})"
        if written in match.matched
        else f"{written} ({count})"
        for written, count in match.counts.items()
    )
    shared_title = "labels matched" if match.matched else "labels"
    return f"{shared_title if match.shared else 'new label set'}: {', '.join(parts)}"


def _write_all(labels: Sequence[str]) -> list[str]:
    written = []
    for row, text in enumerate(map(label_text, labels), start=1):
        if text is None:
            raise LabelError(
                f"cannot use the label of example {row}: it is empty, a label for each example "
                "is needed; fill it in or remove the example"
            )
        written.append(text)
    return written


def _apply_label_map(
    counts: Mapping[str, int], known: Sequence[str], label_map: Mapping[str, str], *, part: bool
) -> dict[str, str]:
    """Label as written -> name, for the labels that the map speaks of.

    A key means the label written just so; failing that, the one that differs in
    case or blanks.
    """
    by_fold = {fold_label(name): name for name in known}
    keys_by_fold = {fold_label(key): key for key in label_map}
    renamed: dict[str, str] = {}
    used: set[str] = set()
    for written in counts:
        key = written if written in label_map else keys_by_fold.get(fold_label(written))
        if key is not None:
            renamed[written] = by_fold.get(fold_label(label_map[key]), label_map[key])
            used.add(key)
    for key in label_map:
        if key not in used and not part:
            nearest = difflib.get_close_matches(key, counts, n=1)
            hint = f" (nearest: {nearest[0]!r})" if nearest else ""
            raise LabelError(
                f"cannot rename label {key!r}: no example has it, the labels are "
                f"{_listed(counts)}{hint}; correct or remove it in `label_map`"
            )
    return renamed


def _find_learned(
    counts: Mapping[str, int], known: Sequence[str], spellings: Mapping[str, str]
) -> dict[str, str]:
    """Label as written -> name, for labels that were written so when the model was adapted."""
    by_fold = {fold_label(written): name for written, name in spellings.items() if name in known}
    folded = {written: fold_label(written) for written in counts}
    return {written: by_fold[fold] for written, fold in folded.items() if fold in by_fold}


def _meanings(
    counts: Mapping[str, int], known: Sequence[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Label as written -> known label, for the labels that have such a meaning.

    Returns:
        Beside all of them those that are guesses.
    """
    names = {
        alias: name for name, aliases in _ALIASES.items() if name in known for alias in aliases
    }
    names |= {fold_label(name): name for name in known}
    assumed = _guess_meanings(counts) if set(known) == {"negative", "positive"} else {}
    folded = {written: fold_label(written) for written in counts}
    usual = {written: names[fold] for written, fold in folded.items() if fold in names}
    return usual | assumed, assumed


def _guess_meanings(labels: Iterable[str]) -> dict[str, str]:
    """By custom; one of the two alone means what it means beside the other."""
    folded = {written: fold_label(written) for written in labels}
    known = _BINARY_ALIASES.keys() >= {*folded.values()}
    return {written: _BINARY_ALIASES[fold] for written, fold in folded.items() if known}


def _check_missing_words(counts: Mapping[str, int], doubted: Collection[str]) -> None:
    words = [
        name
        for name in doubted
        if is_missing_word(name)
        and not ("-" in fold_label(name) and fold_label(name).replace("-", "+") in counts)
    ]
    if not words:
        return
    rows = sum(counts[name] for name in words)
    others = {label: count for label, count in counts.items() if label not in words}
    beside = f"they stand beside {_listed(others)}" if others else "no row has another label"
    word = words[0]
    raise LabelError(
        f"cannot tell whether {_listed(dict.fromkeys(words, 0))} ({rows} of {sum(counts.values())} "
        f"rows) is a label: programs write it where a label is missing, and {beside}; leave these "
        f"rows out with {_say_drop(word)}, or say with {_say_map(word, word)} that it is one"
    )


def _check_joined(
    counts: Mapping[str, int], doubted: Collection[str], known: Sequence[str]
) -> None:
    """Refuse a label that joins others: it is several labels of one text."""
    parts = {label: [fold_label(part) for part in _JOINTS.split(label)] for label in doubted}
    alone = {fold_label(label) for label in (*counts, *known)}
    joined = Counter(part for label in parts if len(parts[label]) > 1 for part in parts[label])
    for label, pieces in parts.items():
        repeated = [piece in alone or joined[piece] > 1 for piece in pieces]
        if len(pieces) > 1 and all(repeated) and any(piece in alone for piece in pieces):
            raise LabelError(
                f"cannot learn the label {label!r} ({counts[label]} of {sum(counts.values())} "
                "rows): it joins labels that other rows have or the model knows, and one label a "
                "text is what is learned; keep one of them, leave these rows out with "
                f"{_say_drop(label)}, or say with {_say_map(label, pieces[0])} what they count as"
            )


def _check_distinct(names: Mapping[str, str], renamed: Mapping[str, str]) -> None:
    """`renamed` labels were named on purpose; the others must differ in more than case or blanks.

    Blanks that a label always carries do no harm, so only two spellings are an error.
    """
    seen: dict[str, str] = {}
    for written, name in names.items():
        folded = fold_label(name)
        other = seen.setdefault(_TRUTH.get(folded, folded), written)
        same_name = names[other] == name
        if other == written or (same_name and (written in renamed or other in renamed)):
            continue
        first, second = (names[w] if w in renamed else w for w in (other, written))
        raise LabelError(
            f"cannot tell labels {first!r} and {second!r} apart: they differ in nothing but case, "
            "blanks, hyphens, quotes, leading zeros, signs that look alike or 1 for true, one "
            "spelling for each label is needed; write them alike or join them by `label_map`"
        )


def _note_assumed(assumed: Mapping[str, str]) -> tuple[str, ...]:
    if not assumed:
        return ()
    pairs = " and ".join(f"{written} as {name}" for written, name in assumed.items())
    return (
        f"{pairs}: that is assumed, as most tables mean it so; say with `label_map` if yours does "
        "not",
    )


def _note_slips(
    counts: Mapping[str, int],
    doubted: Collection[str],
    known: Sequence[str],
    meanings: Mapping[str, str],
) -> tuple[str, ...]:
    """Labels of a few rows that nearly are a label of many, or one that the model knows."""
    notes = []
    for label in doubted:
        often = [
            name for name in counts if 5 * counts[label] <= counts[name] or label == f"{name}s"
        ]
        near = _find_near(label, [*often, *(name for name in known if name not in often)])
        if label in meanings or near is None or write_number(label):
            continue
        lost = " and the start's head is not used" if len(counts) - 1 == len(meanings) else ""
        notes.append(
            f"{label!r} ({counts[label]} of {sum(counts.values())} rows) looks like a slip of "
            f"{near!r}, and counts as a label of its own{lost}: join them with "
            f"{_say_map(label, near)}"
        )
    if set(known) == SENTIMENTS and (usual := _guess_meanings(counts)):
        pairs = ",".join(f"{written}={name}" for written, name in usual.items())
        notes.append(
            f"{_listed(dict.fromkeys(usual, 0))} are learned as new labels, as the start knows "
            f'neutral too: if they are negative and positive, say `label_map="{pairs}"`'
        )
    return (*notes, *_note_kinds(counts))


def _note_kinds(counts: Mapping[str, int]) -> list[str]:
    """Labels that programs have made: dates, names without a meaning, numbers."""
    notes = []
    days = [
        label for label in counts if _DAY.fullmatch(label.rstrip(".")) or _DATE.fullmatch(label)
    ]
    if days:
        notes.append(
            f"{_listed(dict.fromkeys(days, 0))} may be dates, as spreadsheets make of labels such "
            "as 1-3: say with `label_map` what they were"
        )
    if all(map(_NUMBERED.fullmatch, counts)):
        notes.append(
            f"the labels are {_listed(counts)}, which transformers writes where a model's labels "
            "have no names: say with `label_map` what they are called"
        )
    most = max(counts.values())
    codes = [label for label in counts if label in _NO_ANSWER and 5 * counts[label] <= most]
    if all(map(write_number, counts)) and codes:
        notes.append(
            f"{_listed(dict.fromkeys(codes, 0))} may stand for a missing label, as programs of "
            f"statistics write it: leave such rows out with {_say_drop(codes[0])} if it does"
        )
    if all(map(write_number, counts)) and any(not label.isdecimal() for label in counts):
        notes.append(
            f"the labels are {len(counts)} numbers such as {_listed(counts)}: they are learned as "
            "names, of which none is more than another"
        )
    return notes


def _find_near(label: str, others: Sequence[str]) -> str | None:
    """The label that another is a slip of; a syllable before a word makes another word of it."""
    letters = _letters_of(label)
    for other in others:
        same = _letters_of(other)
        if letters and same.removesuffix("s") == letters.removesuffix("s"):
            return other
        short, long = sorted((letters, same), key=len)
        spelled = len(short) >= 4 and not any(map(str.isdigit, letters)) and short.isalpha()
        ratio = difflib.SequenceMatcher(None, letters, same).ratio()
        if spelled and long.isalpha() and ratio >= 0.85 and not long.endswith(short):
            return other
    return None


def _letters_of(label: str) -> str:
    return "".join(sign for sign in fold_label(label) if sign.isalnum())


def _kind_of(values: Sequence[str]) -> tuple[str, str]:
    """What values that are no labels look like, and what to do about it."""
    text = sum(map(len, values)) / len(values)
    if all(map(write_number, values)):
        if all(value.isdecimal() for value in values) and len(values) > 1:
            return "numbers of rows, or scores", "write ranges of scores as labels, or "
        return "scores", "write ranges of them as labels, such as low and high, or "
    if all(map(_DATE.fullmatch, values)):
        return "dates", ""
    blanks = sum(value.count(" ") for value in values) / len(values)
    if blanks >= 3 or text > 60:
        return "texts", "give the columns of texts and labels the other way round, or "
    return "names of single rows", ""


def _say_drop(label: str) -> str:
    return f'`drop_labels="{label}"`'


def _say_map(label: str, name: str) -> str:
    """Name the argument, with its value where that needs no quotes."""
    plain = not re.search('[",=`]', label + name)
    return f'`label_map="{label}={name}"`' if plain else "`label_map`"


def _listed(labels: Mapping[str, int]) -> str:
    shown = [repr(label) for label in list(labels)[:10]]
    return ", ".join(shown) + (f" and {len(labels) - 10} more" if len(labels) > 10 else "")
