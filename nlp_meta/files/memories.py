"""Translation memories: pairs of sentences, why the rest of a file is none, and new files.

Tables, aligned text files, gettext, TMX and XLIFF are all read into entries, which are
sifted here alike. A text is what the file says: blanks, line ends and placeholders stay.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nlp_meta.data.languages import same_language
from nlp_meta.data.table_formats import Reading, render_table
from nlp_meta.errors import DataError
from nlp_meta.files.entries import (
    DUPLICATE,
    EMPTY,
    IDENTICAL,
    ONE_SIDED,
    Entry,
    UserFile,
    describe_reasons,
    ending_of,
    is_blank,
    read_user_file,
)
from nlp_meta.files.gettext import po_entries, render_po
from nlp_meta.files.parallel_texts import aligned_entries, find_aligned, order_aligned
from nlp_meta.files.placeholders import PlaceholderLoss, describe_losses, find_losses, record_losses
from nlp_meta.files.tables import (
    PAIR_TABLES,
    WRITTEN_PAIR_TABLES,
    read_rows_of,
    table_entries,
)
from nlp_meta.files.tmx import render_tmx, tmx_entries
from nlp_meta.files.xliff import render_xliff, xliff_entries

WRITTEN_MEMORIES = (*WRITTEN_PAIR_TABLES, "po", "tmx", "xlf", "xliff")


def render_pairs(
    pairs: Sequence[tuple[str, str]],
    form: str,
    *,
    source_lang: str | None,
    target_lang: str | None,
    reviewed: bool,
    columns: tuple[str, str] = ("source", "target"),
) -> bytes:
    """Give the content of a new file of one of the `WRITTEN_MEMORIES`.

    Args:
        reviewed: Else `.po` and XLIFF say that the translations are yet to be looked at.
    """
    if form in WRITTEN_PAIR_TABLES:
        return render_table(form, columns, [dict(zip(columns, p, strict=True)) for p in pairs])
    if form == "po":
        return render_po(pairs, target_lang=target_lang, reviewed=reviewed)
    source_lang, target_lang = source_lang or "", target_lang or ""
    if form == "tmx":
        return render_tmx(pairs, source_lang=source_lang, target_lang=target_lang)
    return render_xliff(pairs, source_lang=source_lang, target_lang=target_lang, reviewed=reviewed)


def check_written_form(
    path: Path, forms: Sequence[str], *, source_lang: str | None, target_lang: str | None
) -> None:
    """Stop before the work if a file of that name could not be written.

    Raises:
        DataError: An ending that is unknown, or a format that names languages without them.
    """
    form = ending_of(path)
    if form not in forms:
        raise DataError(
            f"cannot write '{path}': its ending '{form and '.' + form}' is unknown, one of "
            f"{', '.join('.' + known for known in forms)} is needed; name such a file"
        )
    if form in ("tmx", "xlf", "xliff") and not (source_lang and target_lang):
        raise DataError(
            f"cannot write '{path}': a .{form} file names both its languages, and they are needed; "
            "give `source_lang` and `target_lang`, or name another file"
        )


MEMORY_FORMS = (*PAIR_TABLES, "po", "pot", "tmx", "xlf", "xliff")
_ALIGNED = (
    ", or two aligned texts, both given or named by `source_lang` and `target_lang` (x.ind, "
    "x.jav or x.ind.txt, x.jav.txt)"
)

# Lines that are listed for each reason.
_LISTED = 20


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence and its translation.

    Attributes:
        line: Where its entry begins in the file, from 1; its row in a Parquet file.
    """

    source: str
    target: str
    line: int


@dataclass(frozen=True, slots=True)
class Memory:
    """The usable pairs of a translation memory, in the file's order.

    Attributes:
        left_out: How many entries are not used, by reason: `header`, `obsolete`, `locked`,
            `untranslated`, `fuzzy`, `empty`, `one-sided`, `identical` (the source is its own
            translation), `duplicate` (the same pair came before). Only what there is.
        lines: Of the first 20 of each reason.
        contradictions: Pairs of one source with different targets; all of them are used.
        losses: Pairs whose target lost or added placeholders; they are used too.
        notes: What was taken for granted of a table, a sentence each.
    """

    pairs: tuple[Pair, ...]
    left_out: Mapping[str, int]
    lines: Mapping[str, tuple[int, ...]]
    contradictions: tuple[tuple[Pair, ...], ...]
    losses: tuple[PlaceholderLoss, ...]
    notes: tuple[str, ...] = ()


def read_memory(
    path: str | Path | tuple[str | Path, str | Path],
    *,
    source_column: str = "source",
    target_column: str = "target",
    source_lang: str | None = None,
    target_lang: str | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    sheet: str | None = None,
) -> Memory:
    """Read a translation memory: CSV, TSV, JSONL, Parquet, `.po`, TMX, XLIFF or two texts.

    Any of them may be packed as `.gz`, or alone in a `.zip`.

    Args:
        path: Two paths name text files aligned line by line, the source's first unless their
            names say otherwise. Of files that are named by their languages (`memory.ind` and
            `memory.jav`, or `memory.ind.txt` and `memory.jav.txt`) one is enough.
        source_lang: Tag of the language to translate from, in any of its spellings. Finds
            the languages of a TMX file and the second of two texts; a `.po` or XLIFF file
            of the opposite direction is turned round if it names both of its languages.
        target_lang: Of the language to translate into.
        encoding, separator, sheet: How to read a table; None looks at it.

    Raises:
        DataError: A file cannot be read as what it is, has none of the languages or no
            usable pair.
    """
    languages = {"source_lang": source_lang, "target_lang": target_lang}
    if isinstance(path, tuple):
        both = order_aligned((Path(path[0]), Path(path[1])), **languages)
        return _sift(aligned_entries(*both, known=MEMORY_FORMS), f"{path[0]}' and '{path[1]}")
    path = Path(path)
    aligned = find_aligned(path, known=MEMORY_FORMS, **languages)
    if aligned is not None:
        return _sift(aligned_entries(*aligned, known=MEMORY_FORMS), str(path))
    file = read_user_file(path, forms=MEMORY_FORMS, also=_ALIGNED)
    if file.form not in PAIR_TABLES:
        return _sift(_localized(file, **languages), str(path))
    rows = read_rows_of(file, Reading(encoding, separator, sheet))
    entries = table_entries(file, rows, source_column=source_column, target_column=target_column)
    return replace(_sift(entries, str(path)), notes=rows.notes)


def _localized(file: UserFile, *, source_lang: str | None, target_lang: str | None) -> list[Entry]:
    if file.form == "tmx":
        return tmx_entries(file, source_lang=source_lang, target_lang=target_lang)
    read = po_entries if file.form in ("po", "pot") else xliff_entries
    entries, there, into = read(file)
    if check_direction(file, (there, into), source_lang=source_lang, target_lang=target_lang):
        return [Entry(item.target, item.source, item.line, item.reason) for item in entries]
    return entries


def check_direction(
    file: UserFile,
    languages: tuple[str | None, str | None],
    *,
    source_lang: str | None,
    target_lang: str | None,
    remedy: str = "correct `source_lang` and `target_lang`",
) -> bool:
    """Whether a file of two languages translates the opposite way.

    Args:
        languages: Translated from and into; None where the file does not say. Only a file
            that names both can be known to translate the opposite way.
        remedy: What an error says first of what to change.

    Raises:
        DataError: It translates neither way, or does not say that it is the opposite one.
    """
    wanted = (source_lang, target_lang)

    def fits(languages: Sequence[str | None]) -> bool:
        return all(
            asked is None or tag is None or same_language(asked, tag)
            for asked, tag in zip(wanted, languages, strict=True)
        )

    if fits(languages):
        return False
    may_be_turned = fits(languages[::-1])
    if may_be_turned and None not in languages:
        return True
    known = [
        f"{name} {tag}"
        for name, tag in zip(("from", "into"), languages, strict=True)
        if tag is not None
    ]
    unsaid = " and does not name its other language" if may_be_turned else ""
    say_it = ", name it in the file (`X-Source-Language` in the header of a .po file)"
    raise DataError(
        f"cannot use '{file.path}' for {source_lang or '?'}-{target_lang or '?'}: it translates "
        f"{' '.join(known)}{unsaid}, both languages must be those asked for; {remedy}"
        f"{say_it if unsaid else ''} or name another file"
    )


def _sift(entries: Iterable[Entry], shown: str) -> Memory:
    pairs: dict[tuple[str, str], Pair] = {}
    lines: dict[str, list[int]] = {}
    targets: dict[str, list[Pair]] = {}
    for entry in entries:
        source, target = entry.source or "", entry.target or ""
        reason = entry.reason or _flaw(source, target)
        if reason is None and (source, target) in pairs:
            reason = DUPLICATE
        if reason is not None:
            lines.setdefault(reason, []).append(entry.line)
            continue
        pair = pairs[source, target] = Pair(source, target, entry.line)
        targets.setdefault(source, []).append(pair)
    left_out = Counter({reason: len(items) for reason, items in lines.items()})
    if not pairs:
        raise DataError(
            f"cannot use '{shown}': it has no pair of sentences ({describe_reasons(left_out)}), "
            "at least one finished translation is needed; complete some or name another file"
        )
    return Memory(
        pairs=tuple(pairs.values()),
        left_out=dict(left_out),
        lines={reason: tuple(items[:_LISTED]) for reason, items in lines.items()},
        contradictions=tuple(tuple(items) for items in targets.values() if len(items) > 1),
        losses=find_losses((pair.line, pair.source, pair.target) for pair in pairs.values()),
    )


def _flaw(source: str, target: str) -> str | None:
    if is_blank(source) or is_blank(target):
        return EMPTY if is_blank(source) and is_blank(target) else ONE_SIDED
    return IDENTICAL if source.strip() == target.strip() else None


# Lines and groups that people are shown of each reason.
_SHOWN = 3


def describe_memory(memory: Memory) -> dict[str, str]:
    """Say how many pairs there are; what was left out and what is doubtful only where it is."""
    facts = {"pairs": str(len(memory.pairs))}
    if memory.left_out:
        facts["left out"] = "; ".join(
            f"{count} {reason} (line {_list(list(map(str, memory.lines[reason])), count)})"
            for reason, count in memory.left_out.items()
        )
    if memory.contradictions:
        groups = [
            "line " + " and ".join(str(pair.line) for pair in group)
            for group in memory.contradictions
        ]
        facts["contradictions"] = (
            f"{len(groups)} source{'s' * (len(groups) > 1)} with different targets, all used: "
            f"{_list(groups, len(groups))}"
        )
    if memory.losses:
        facts["placeholders"] = describe_losses(memory.losses)
    return facts


def record_memory(memory: Memory) -> dict[str, object]:
    """The same for machines: lines of every contradiction and of every lost placeholder."""
    return {
        "pairs": len(memory.pairs),
        "left_out": dict(memory.left_out),
        "lines_left_out": {reason: list(lines) for reason, lines in memory.lines.items()},
        "contradictions": [[pair.line for pair in group] for group in memory.contradictions],
        "placeholders": record_losses(memory.losses),
    }


def _list(shown: list[str], count: int) -> str:
    return ", ".join(shown[:_SHOWN]) + (", ..." if count > _SHOWN else "")
