"""Translation memories: pairs of sentences, why the rest of a file is none, and new files.

Tables, texts aligned line by line (one file for each language), gettext, TMX and XLIFF are all
read into entries, which are sifted here alike. A text is what the file says: blanks, line ends
and placeholders stay.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from nlp_meta.data.cells import is_empty, is_missing_word
from nlp_meta.data.languages import match_tags, same_language
from nlp_meta.errors import DataError
from nlp_meta.files.catalogs import po_entries, render_po, ts_entries
from nlp_meta.files.entries import (
    DUPLICATE,
    EMPTY,
    IDENTICAL,
    KEY,
    ONE_SIDED,
    OTHER_LANGUAGES,
    XLIFF_ENDINGS,
    Catalog,
    Entry,
    UserFile,
    check_form,
    decode_lines,
    describe_reasons,
    ending_of,
    is_key,
    list_names,
    read_user_file,
    recognize,
    shorten,
)
from nlp_meta.files.placeholders import PlaceholderLoss, describe_losses, find_losses, record_losses
from nlp_meta.files.projects import Project, is_project
from nlp_meta.files.shapes import find_pairs
from nlp_meta.files.states import row_reason
from nlp_meta.files.tables import (
    PAIR_TABLES,
    WRITTEN_PAIR_TABLES,
    note_entities,
    read_rows_of,
    render_rows,
    table_entries,
)
from nlp_meta.files.tmx import render_tmx, tmx_entries
from nlp_meta.files.xliff import render_xliff, xliff_entries
from nlp_meta.tables.contents import find_kind
from nlp_meta.tables.delimited import has_header, has_tabs
from nlp_meta.tables.rows import Reading, Rows
from nlp_meta.tables.workbooks import import_openpyxl


def find_aligned(
    path: Path, *, known: Sequence[str], source_lang: str | None, target_lang: str | None
) -> tuple[Path, Path] | None:
    """Find both of two aligned texts, where one of them is named by its language.

    Such names are `news.ind` and `news.ind.txt`, packed or not.

    Args:
        known: Endings that are formats, whatever languages they may be codes of.

    Returns:
        The source's and the target's; None where the path is named otherwise.

    Raises:
        DataError: There is not one file for the other side beside it.
    """
    stem, tag, tail = _split_name(path)
    if tag.lower() in (*known, "txt", "zip", "") or not (source_lang and target_lang):
        return None
    is_source = same_language(source_lang, tag)
    if not is_source and not same_language(target_lang, tag):
        return None
    wanted = target_lang if is_source else source_lang
    beside = {
        name[1]: place
        for place in sorted(path.parent.glob("*"))
        if place.name != path.name and (name := _split_name(place))[::2] == (stem, tail)
    }
    tags = match_tags(wanted, beside)
    if not tags and not stem:
        return None  # a table may be named by a language alone
    if len(tags) != 1:
        raise DataError(
            f"cannot find the other side of '{path}': beside it "
            f"{'are ' + ', '.join(tags) if tags else 'is no file'} named {stem}.{wanted}{tail}, "
            "one text aligned with it is needed; give both, the source's first"
        )
    other = beside[tags[0]]
    return (path, other) if is_source else (other, path)


def order_aligned(
    paths: tuple[Path, Path], *, source_lang: str | None, target_lang: str | None
) -> tuple[Path, Path]:
    """Put the source's text first, where the names of both say that it came second."""
    if source_lang and target_lang:
        first, second = (_split_name(path)[1] for path in paths)
        if same_language(target_lang, first) and same_language(source_lang, second):
            return paths[::-1]
    return paths


def aligned_entries(
    source: Path, target: Path, *, known: Sequence[str], encoding: str | None = None
) -> list[Entry]:
    """Pair two texts line by line; lines where there is nothing stay, so that no pair shifts.

    Args:
        known: Endings of formats that are no plain texts.
        encoding: Of both; None believes their bytes.

    Raises:
        DataError: A file cannot be read, is no plain text, or they differ in length.
    """
    left, right = (read_lines(path, known=known, encoding=encoding) for path in (source, target))
    for longer, count in ((left, len(right)), (right, len(left))):
        if not any(map(str.strip, longer[count:])):  # blank lines at the end of one
            del longer[count:]
    if len(left) != len(right):
        raise DataError(
            f"cannot pair '{source}' with '{target}': they have {len(left)} and {len(right)} lines,"
            f" a translation in each line is needed; look where they part, line "
            f"{min(len(left), len(right)) + 1} at the latest"
        )
    return [Entry(*pair, line) for line, pair in enumerate(zip(left, right, strict=True), start=1)]


def read_lines(path: Path, *, known: Sequence[str], encoding: str | None = None) -> list[str]:
    """Read a plain text by its lines.

    Args:
        known: Endings of formats that are none.
        encoding: As the user says; None believes its bytes.

    Raises:
        DataError: It cannot be read, or is none.
    """
    file = read_user_file(path)
    if file.form in (*known, "json"):
        raise DataError(
            f"cannot read '{path}' as a text: it is a .{file.form} file, a plain text of one "
            "sentence a line is needed; write its sentences into one, or, if they are paired in "
            "it already, give the file by itself to a command that takes pairs"
        )
    kind = find_kind(file.content)
    if kind.remedy and b"\0" in file.content:
        raise DataError(
            f"cannot read '{path}' as a text: it is {kind.name}, a plain text of one sentence a "
            f"line is needed; {kind.remedy}"
        )
    return decode_lines(replace(file, encoding=encoding))


def _split_name(path: Path) -> tuple[str, str, str]:
    """What both sides are called, the language, and what follows it."""
    name = path.stem if path.suffix.lower() == ".gz" else path.name
    tail = name[-4:] if name.lower().endswith(".txt") else ""
    stem, _, tag = name.removesuffix(tail).rpartition(".")
    return stem, tag, tail


WRITTEN_MEMORIES = (*WRITTEN_PAIR_TABLES, "po", "tmx", "xlf", "xliff")


def render_pairs(
    pairs: Sequence[tuple[str, str]],
    path: Path,
    *,
    source_lang: str | None,
    target_lang: str | None,
    reviewed: bool,
    columns: tuple[str, str] = ("source", "target"),
) -> bytes:
    """Give the content of a new file that ends in one of the `WRITTEN_MEMORIES`.

    Args:
        reviewed: Else `.po` and XLIFF say that the translations are yet to be looked at.
    """
    form = ending_of(path)
    if form in WRITTEN_PAIR_TABLES:
        return render_rows(path, columns, [dict(zip(columns, p, strict=True)) for p in pairs])
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
        MissingPackageError: What writes workbooks is not installed.
    """
    form = ending_of(path)
    if form not in forms:
        raise DataError(
            f"cannot write '{path}': its ending '{form and '.' + form}' is unknown, one of "
            f"{', '.join('.' + known for known in dict.fromkeys(forms))} is needed; name such a "
            "file"
        )
    if form == "xlsx":
        import_openpyxl()
    if form in ("tmx", *XLIFF_ENDINGS) and not (source_lang and target_lang):
        raise DataError(
            f"cannot write '{path}': a .{form} file names both its languages, and they are needed; "
            "give `source_lang` and `target_lang`, or name another file"
        )


MEMORY_FORMS = (*PAIR_TABLES, "po", "pot", "tmx", *XLIFF_ENDINGS, "ts")
_PO = partial(po_entries, leave_out=True)
_READERS: Mapping[str, Callable[[UserFile], Catalog]] = {
    "po": _PO,
    "pot": _PO,
    "xliff": xliff_entries,
    "ts": ts_entries,
}
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
            `untranslated`, `fuzzy` (its tool does not call it finished), `machine-translated`,
            `empty`, `one-sided`, `identical` (the source is its own translation), `duplicate`
            (the same pair came before), `key` (the source is the name of a text), and parts that
            a unit lacks. Only what there is.
        lines: Of the first 20 of each reason.
        contradictions: Pairs of one source with different targets; all of them are used.
        losses: Pairs whose target lost or added placeholders; they are used too.
        notes: Sentences on what was taken for granted.
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
    """Read a translation memory: a table, `.po`, TMX, XLIFF, Qt's `.ts` or two texts.

    XLIFF has many endings (`.xlf`, `.sdlxliff`, `.mqxliff`, `.mxliff`); it, TMX, `.ts` and `.po`
    are known by their content, whatever the name. Any file may be packed as `.gz`, or alone in
    a `.zip`. Of a project of the app those are read that a person accepted.

    Args:
        path: Two paths name text files aligned line by line, the source's first unless their
            names say otherwise. Of files that are named by their languages (`memory.ind` and
            `memory.jav`, or `memory.ind.txt` and `memory.jav.txt`) one is enough.
        source_lang: Tag of the language to translate from, in any of its spellings. Finds
            the languages of a TMX file and the second of two texts; a `.po` or XLIFF file
            of the opposite direction is turned round if it names both of its languages.
        target_lang: Of the language to translate into.
        encoding: Of the file; None believes its bytes, then what it says itself.
        separator, sheet: How to read a table; None looks at it.

    Raises:
        DataError: A file cannot be read as what it is, has none of the languages or no
            usable pair.
    """
    languages = {"source_lang": source_lang, "target_lang": target_lang}
    if isinstance(path, tuple):
        both = order_aligned((Path(path[0]), Path(path[1])), **languages)
        entries = aligned_entries(*both, known=MEMORY_FORMS, encoding=encoding)
        return _sift(entries, f"{path[0]}' and '{path[1]}")
    path = Path(path)
    if is_project(path):
        return _sift(_accepted_entries(path), str(path))
    aligned = find_aligned(path, known=MEMORY_FORMS, **languages)
    if aligned is not None:
        return _sift(aligned_entries(*aligned, known=MEMORY_FORMS, encoding=encoding), str(path))
    file = replace(recognize(read_user_file(path), plain=PAIR_TABLES), encoding=encoding)
    if file.form == "txt" and has_tabs(tabbed := file.content.replace(b" ||| ", b"\t")):
        file = replace(file, form="tsv", content=tabbed)  # the bars are those of Moses
    columns = {"source_column": source_column, "target_column": target_column}
    if file.form == "txt" and has_header(file.content.decode(errors="replace"), columns.values()):
        file = replace(file, form="csv")
    check_form(path, file.form, MEMORY_FORMS, _ALIGNED, content=file.content)
    if file.form in PAIR_TABLES:
        rows, entries = _table_entries(
            file, Reading(encoding, separator, sheet), columns, languages
        )
        return _sift(entries, str(path), notes=rows.notes)
    if file.form == "tmx":
        catalog = tmx_entries(file, **languages)
        return _sift(catalog.entries, str(path), notes=catalog.notes)
    catalog = _READERS[file.form](file)
    entries = orient(file, catalog, source_lang=source_lang, target_lang=target_lang)
    return _sift(entries, str(path), notes=catalog.notes)


def _accepted_entries(folder: Path) -> list[Entry]:
    """Pairs that a person accepted in the app."""
    project = Project(folder)
    try:
        return [Entry(row.text, row.target, row.id) for row in project.list_accepted()]
    finally:
        project.close()


def _table_entries(
    file: UserFile,
    reading: Reading,
    columns: Mapping[str, str],
    languages: Mapping[str, str | None],
) -> tuple[Rows, list[Entry]]:
    """Entries of a table, with the reasons that stand in its other columns."""
    source, target = columns.values()
    read = read_rows_of(file, reading, known=columns.values())
    rows = find_pairs(read, (source, target), (languages["source_lang"], languages["target_lang"]))
    written = [
        name for name in rows.columns if name in read.columns or name not in (source, target)
    ]
    entries = table_entries(file, rows, source_column=source, target_column=target, written=written)
    told = {entry.line: f"{entry.source} {entry.target}" for entry in entries}
    rows = replace(rows, notes=(*rows.notes, *note_entities(told, unit=rows.unit)))
    return rows, [
        replace(entry, reason=row_reason({**row, source: None, target: None}))
        for entry, row in zip(entries, rows.cells, strict=True)
    ]


def orient(
    file: UserFile,
    catalog: Catalog,
    *,
    source_lang: str | None,
    target_lang: str | None,
    may_turn: bool = True,
    remedy: str = "correct `source_lang` and `target_lang`",
) -> list[Entry]:
    """Give the entries of a file in the direction that is asked for.

    Entries of a part that translates the opposite way are turned round; those of a part with
    other languages have that as their reason. Only a part that names both its languages can be
    known to translate the opposite way.

    Args:
        may_turn: Else a part of the opposite direction is one of other languages.
        remedy: What an error says first of what to change.

    Raises:
        DataError: No part translates that way, or they differ and no language is asked for.
    """
    wanted = (source_lang, target_lang)
    used = sorted({entry.part for entry in catalog.entries})
    parts = {part: catalog.languages[part] for part in used}
    straight = {part for part, languages in parts.items() if _fits(wanted, languages)}
    turned = {
        part
        for part, languages in parts.items()
        if part not in straight and None not in languages and _fits(wanted, languages[::-1])
    }
    pairs = dict.fromkeys(parts.values())
    if None in wanted and any(not _fits(pair, other) for pair in pairs for other in pairs):
        shown = list_names("-".join(tag or "?" for tag in languages) for languages in pairs)
        raise DataError(
            f"cannot read '{file.path}': its parts are of several languages ({shown}), one pair is "
            "needed; name it with `source_lang` and `target_lang`"
        )
    if parts and not straight and not (turned and may_turn):
        raise _wrong_direction(file, wanted, list(pairs), bool(turned), remedy)
    oriented = []
    for entry in catalog.entries:
        if entry.part in straight:
            oriented.append(entry)
        elif entry.part in turned and may_turn:
            oriented.append(replace(entry, source=entry.target, target=entry.source))
        else:
            oriented.append(replace(entry, reason=entry.reason or OTHER_LANGUAGES))
    return oriented


def _fits(wanted: Sequence[str | None], languages: Sequence[str | None]) -> bool:
    return all(
        asked is None or tag is None or same_language(asked, tag)
        for asked, tag in zip(wanted, languages, strict=True)
    )


def _wrong_direction(
    file: UserFile,
    wanted: tuple[str | None, str | None],
    pairs: Sequence[tuple[str | None, str | None]],
    is_opposite: bool,
    remedy: str,
) -> DataError:
    asked = "-".join(tag or "?" for tag in wanted)
    if is_opposite:
        return DataError(
            f"cannot use '{file.path}' for {asked}: it is the other way round, a file into "
            f"{wanted[1] or 'that language'} is needed; {remedy} or name another file"
        )
    unsaid = any(None in languages and _fits(wanted, languages[::-1]) for languages in pairs)
    known = [
        " ".join(
            f"{name} {shorten(tag)}"
            for name, tag in zip(("from", "into"), languages, strict=True)
            if tag is not None
        )
        for languages in pairs[:10]
    ]
    say_it = ", name it in the file (`X-Source-Language` in the header of a .po file)"
    return DataError(
        f"cannot use '{file.path}' for {asked}: it translates {', or '.join(known)}"
        f"{' and does not name its other language' if unsaid else ''}, both languages must be "
        f"those asked for; {remedy}{say_it if unsaid else ''} or name another file"
    )


def _sift(entries: Sequence[Entry], shown: str, *, notes: Sequence[str] = ()) -> Memory:
    pairs: dict[tuple[str, str], Pair] = {}
    lines: dict[str, list[int]] = {}
    targets: dict[str, list[Pair]] = {}
    keys, key_notes = _find_keys(entries)
    for entry in entries:
        source, target = entry.source or "", entry.target or ""
        reason = entry.reason or _flaw(source, target)
        if reason is None and (source, target) in pairs:
            reason = DUPLICATE
        if reason is None and source in keys:
            reason = KEY
        if reason is not None:
            lines.setdefault(reason, []).append(entry.line)
            continue
        pair = pairs[source, target] = Pair(source, target, entry.line)
        targets.setdefault(source, []).append(pair)
    left_out = {reason: len(items) for reason, items in lines.items()}
    if not pairs:
        raise _nothing(shown, left_out, keys)
    return Memory(
        pairs=tuple(pairs.values()),
        left_out=left_out,
        lines={reason: tuple(items[:_LISTED]) for reason, items in lines.items()},
        contradictions=tuple(tuple(items) for items in targets.values() if len(items) > 1),
        losses=find_losses((pair.line, pair.source, pair.target) for pair in pairs.values()),
        notes=(*notes, *key_notes),
    )


def _find_keys(entries: Sequence[Entry]) -> tuple[frozenset[str], tuple[str, ...]]:
    """The sources that are names of texts, if most are; else a note if there are some.

    `menu.file.open` stands for a sentence that is in another file. A file with few such
    sources may well have them as texts: names of files, of addresses, of commands.
    """
    sources = [
        entry.source
        for entry in entries
        if entry.reason is None and entry.source and not _flaw(entry.source, entry.target or "")
    ]
    keys = [source for source in sources if is_key(source)]
    if len(keys) * 2 >= len(sources):
        alike = (text for text in sources if text in (text.lower(), text.upper()))
        return frozenset(
            [*keys, *(text for text in alike if text.isascii() and " " not in text)]
        ), ()
    if len(keys) * 10 < len(sources):
        return frozenset(), ()
    note = (
        f"{len(keys)} of {len(sources)} sources look like names of texts, not like sentences, such "
        f"as '{shorten(keys[0])}'; they are used"
    )
    return frozenset(), (note,)


def _nothing(shown: str, left_out: Mapping[str, int], keys: Iterable[str]) -> DataError:
    remedy = "complete some or name another file"
    if KEY in left_out:
        remedy = (
            f"its sources look like keys, such as '{shorten(min(keys))}', which stand for "
            "sentences: name a file with the sentences themselves as sources"
        )
    return DataError(
        f"cannot use '{shown}': it has no pair of sentences ({describe_reasons(left_out)}), "
        f"at least one finished translation is needed; {remedy}"
    )


def _flaw(source: str, target: str) -> str | None:
    if target.lstrip().startswith("#") and is_missing_word(target):  # #N/A of a spreadsheet
        return ONE_SIDED
    if is_empty(source) or is_empty(target):
        return EMPTY if is_empty(source) and is_empty(target) else ONE_SIDED
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
