"""Users' labels: match them with a model's own, or take them as a new label set.

People write `pos`, `Positive ` or `1` where a model knows `positive`. What means
a known label becomes that label; a set that has anything else in it is new and
stays as it was written.
"""

import difflib
import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nlp_meta.errors import LabelError

_ALIASES = {
    "negative": ("neg", "-", "negatif", "négatif", "negativ", "negativo", "negativa", "negatief"),
    "neutral": ("neu", "netral", "neutre", "neutro", "neutra", "neutraal", "nötr"),
    "positive": ("pos", "+", "positif", "positiv", "positivo", "positiva", "positief", "pozitif"),
}
_BINARY_ALIASES = (
    {"0": "negative", "1": "positive"},
    {"false": "negative", "true": "positive"},
)


@dataclass(frozen=True, slots=True)
class LabelMatch:
    """Labels of a user's examples after matching.

    Attributes:
        labels: One for each example, in the examples' order.
        matched: Label as written -> its new name, where the two differ by more
            than blanks around it.
        counts: Label as written, without blanks around it -> number of examples.
        shared: Every label is one that the model knows.
    """

    labels: tuple[str, ...]
    matched: Mapping[str, str]
    counts: Mapping[str, int]
    shared: bool


def label_text(value: object) -> str | None:
    """Write one cell of a label column as text: 1, 1.0 and "1" are the same label.

    Returns:
        None for a missing label: None, not a number, nothing but blanks.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value)
    return text if text.strip() else None


def parse_label_map(text: str) -> dict[str, str]:
    """Read what a user gave as `label_map`, such as `bad=negative,good=positive`.

    Raises:
        LabelError: A part is not `written=name`, or a label is there twice.
    """
    label_map: dict[str, str] = {}
    for part in text.split(","):
        written, equals, name = (piece.strip() for piece in part.partition("="))
        if not (written and equals and name):
            raise LabelError(
                f"cannot read the label map {text!r}: {part.strip()!r} is not of the form "
                "written=name; write `label_map` like bad=negative,good=positive"
            )
        if written in label_map:
            raise LabelError(
                f"cannot read the label map {text!r}: {written!r} is there twice, one name for "
                "each label is needed; keep one of them in `label_map`"
            )
        label_map[written] = name
    return label_map


def match_labels(
    labels: Sequence[str], known: Sequence[str], *, label_map: Mapping[str, str] | None
) -> LabelMatch:
    """Give labels the names that the model knows, if all of them mean one of these.

    Case, blanks and common other names (`pos`, `negatif`, `+`) do not matter;
    0 and 1, or false and true, are negative and positive where `known` is just
    these two. If a single label means none of `known`, the set is new: then only
    `label_map` renames.

    Args:
        labels: As written, one for each example.
        known: The model's labels; empty if it has none of its own.
        label_map: Label as written -> name; goes before every other rule.

    Raises:
        LabelError: An empty label; a key of `label_map` that no example has; two
            labels of a new set that differ in nothing but case or blanks.
    """
    _check_written(labels)
    counts = Counter(labels)
    renamed = _apply_label_map(counts, known, label_map or {})
    meanings = _meanings(counts, known) | {
        written: name for written, name in renamed.items() if name in known
    }
    shared = meanings.keys() == counts.keys() and renamed.items() <= meanings.items()
    if shared:
        names = meanings
    else:
        names = {written: renamed.get(written, written.strip()) for written in counts}
        _check_distinct(names, renamed)
    stripped: Counter[str] = Counter()
    for written, number in counts.items():
        stripped[written.strip()] += number
    return LabelMatch(
        labels=tuple(names[label] for label in labels),
        matched={w.strip(): name for w, name in names.items() if w.strip() != name},
        counts=dict(stripped),
        shared=shared,
    )


def check_labels(labels: Sequence[str], *, min_per_label: int = 2) -> None:
    """Stop where there is too little to learn a label from.

    Raises:
        LabelError: Fewer than two labels, or fewer than `min_per_label` examples
            of one; names the label and its count.
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
            "least two labels are needed; add examples of another label or name another column "
            "with `label_column`"
        )
    label, count = min(counts.items(), key=lambda item: item[1])
    if count < min_per_label:
        raise LabelError(
            f"cannot learn label {label!r} from {count} example{'' if count == 1 else 's'}: at "
            f"least {min_per_label} of each label are needed; add examples of it, remove it, or "
            "join it with another label by `label_map`"
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


def _fold(label: str) -> str:
    return " ".join(unicodedata.normalize("NFC", label).casefold().split())


def _check_written(labels: Sequence[str]) -> None:
    for row, label in enumerate(labels, start=1):
        if not label.strip():
            raise LabelError(
                f"cannot use the label of example {row}: it is empty, a label for each example "
                "is needed; fill it in or remove the example"
            )


def _apply_label_map(
    counts: Mapping[str, int], known: Sequence[str], label_map: Mapping[str, str]
) -> dict[str, str]:
    """Label as written -> name, for the labels that the map speaks of.

    A key means the label written just so; failing that, the one that differs in
    case or blanks.
    """
    by_fold = {_fold(name): name for name in known}
    keys_by_fold = {_fold(key): key for key in label_map}
    renamed: dict[str, str] = {}
    used: set[str] = set()
    for written in counts:
        spellings = (written, written.strip(), keys_by_fold.get(_fold(written), written))
        key = next((spelling for spelling in spellings if spelling in label_map), None)
        if key is not None:
            target = label_map[key].strip()
            renamed[written] = by_fold.get(_fold(target), target)
            used.add(key)
    for key in label_map:
        if key not in used:
            nearest = difflib.get_close_matches(key, counts, n=1)
            hint = f" (nearest: {nearest[0]!r})" if nearest else ""
            raise LabelError(
                f"cannot rename label {key!r}: no example has it, the labels are "
                f"{_listed(counts)}{hint}; correct or remove it in `label_map`"
            )
    return renamed


def _meanings(counts: Mapping[str, int], known: Sequence[str]) -> dict[str, str]:
    """Label as written -> known label, for the labels that have such a meaning."""
    names = {
        alias: name for name, aliases in _ALIASES.items() if name in known for alias in aliases
    }
    folded = {written: _fold(written) for written in counts}
    if set(known) == {"negative", "positive"}:
        for binary in _BINARY_ALIASES:
            if set(folded.values()) == binary.keys():
                names |= binary
    names |= {_fold(name): name for name in known}
    return {written: names[fold] for written, fold in folded.items() if fold in names}


def _check_distinct(names: Mapping[str, str], renamed: Mapping[str, str]) -> None:
    """`renamed` labels were named on purpose; the others must differ in more than case or blanks.

    Blanks that a label always carries do no harm, so only two spellings are an error.
    """
    seen: dict[str, str] = {}
    for written, name in names.items():
        other = seen.setdefault(_fold(name), written)
        same_name = names[other] == name
        if other == written or (same_name and (written in renamed or other in renamed)):
            continue
        first, second = (names[w] if w in renamed else w for w in (other, written))
        raise LabelError(
            f"cannot tell labels {first!r} and {second!r} apart: they differ in case or blanks "
            "only, one spelling for each label is needed; write them alike or join them by "
            "`label_map`"
        )


def _listed(labels: Mapping[str, int]) -> str:
    shown = [repr(label) for label in list(labels)[:10]]
    return ", ".join(shown) + (f" and {len(labels) - 10} more" if len(labels) > 10 else "")
