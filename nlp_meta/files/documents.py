"""Files to translate: what of them is to be translated, and the same files translated.

A `.po`, XLIFF or Qt file, or a table, comes back as it was, with its gaps filled; a plain text line
by line.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nlp_meta.data.cells import is_empty
from nlp_meta.errors import DataError
from nlp_meta.files.catalogs import fill_po, fill_ts, po_entries, ts_entries
from nlp_meta.files.entries import (
    EMPTY,
    UNTRANSLATED,
    XLIFF_ENDINGS,
    Entry,
    UserFile,
    check_form,
    decode_lines,
    describe_reasons,
    ending_of,
    is_key,
    read_user_file,
    recognize,
    shorten,
)
from nlp_meta.files.memories import WRITTEN_MEMORIES, check_written_form, orient, render_pairs
from nlp_meta.files.outputs import write_file
from nlp_meta.files.tables import WRITTEN_PAIR_TABLES, read_rows_of, render_rows, table_entries
from nlp_meta.files.xliff import fill_xliff, xliff_entries
from nlp_meta.tables.rows import Reading, Rows

DOCUMENT_FORMS = ("txt", *WRITTEN_PAIR_TABLES, "po", "pot", *XLIFF_ENDINGS, "ts")
TRANSLATED_FORMS = ("txt", *WRITTEN_MEMORIES)

TRANSLATED = "translated"

_KINDS = {
    "txt": "txt",
    **dict.fromkeys(WRITTEN_PAIR_TABLES, "table"),
    **dict.fromkeys(("po", "pot"), "po"),
    **dict.fromkeys(XLIFF_ENDINGS, "xliff"),
    "ts": "ts",
}
_READERS = {"po": po_entries, "xliff": xliff_entries, "ts": ts_entries}
_CELLS_ALONE = (
    "of a workbook the cells of one sheet are read and written: no other sheet, no format, and the "
    "values of formulas"
)


@dataclass(frozen=True, slots=True)
class Sources:
    """The texts of a file that are to be translated, in its order.

    Attributes:
        lines: Where each begins in the file, from 1.
        left_out: How many entries are not to be translated, by reason: `translated`,
            `fuzzy`, `obsolete`, `locked`, `header`, `empty`. Only what there is.
        columns: Of a table: that of the texts and that of the translations.
        notes: Sentences on what was taken for granted.
        places: Of the texts among the file's entries, left out ones counted.
        table: The rows of a table; None of any other file.
    """

    texts: tuple[str, ...]
    lines: tuple[int, ...]
    left_out: Mapping[str, int]
    columns: tuple[str, str]
    places: tuple[int, ...] = field(repr=False)
    file: UserFile = field(repr=False)
    notes: tuple[str, ...] = ()
    table: Rows | None = field(default=None, repr=False)


def read_sources(
    path: str | Path,
    *,
    source_column: str = "source",
    target_column: str = "target",
    source_lang: str | None = None,
    target_lang: str | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    sheet: str | None = None,
) -> Sources:
    """Read what is to be translated from a text, table, `.po`, `.pot`, XLIFF or Qt file.

    Of a text these are its lines, of a table the rows whose target is empty, of the others
    the untranslated entries. Fuzzy ones are somebody's work and are left alone.

    Args:
        target_column: A table need not have it yet.
        source_lang, target_lang: Held against what a `.po`, XLIFF or Qt file says of itself.
        encoding: Of the file; None believes its bytes, then what it says itself.
        separator, sheet: How to read a table; None looks at it.

    Raises:
        DataError: The file cannot be read as what it is, is of other languages or has
            nothing to translate.
    """
    file = replace(_recognize(Path(path)), encoding=encoding)
    columns, table = (source_column, target_column), None
    if _KINDS[file.form] == "table":
        table = read_rows_of(file, Reading(encoding, separator, sheet), known=(source_column,))
        notes = (*table.notes, _CELLS_ALONE) if file.form == "xlsx" else table.notes
        entries = _table_entries(file, table, columns)
    else:
        entries, notes = _localized(file, source_lang, target_lang)
    reasons = list(map(_reason, entries))
    places = tuple(place for place, reason in enumerate(reasons) if reason is None)
    left_out = dict(Counter(filter(None, reasons)))
    if not places:
        raise DataError(
            f"cannot translate '{path}': nothing in it is to be translated "
            f"({describe_reasons(left_out)}), at least one text without a translation is needed; "
            "name another file, or for a table another `target_column`"
        )
    texts = tuple(entries[place].source or "" for place in places)
    lines = tuple(entries[place].line for place in places)
    return Sources(
        texts,
        lines,
        left_out,
        columns,
        places=places,
        file=file,
        notes=(*notes, *_key_notes(texts)),
        table=table,
    )


def check_translations_path(
    path: str | Path,
    sources: Sources,
    *,
    source_lang: str | None = None,
    target_lang: str | None = None,
) -> None:
    """Stop before the work if `write_translations` could not write such a file.

    Raises:
        DataError: An ending that is unknown, `.ts` where the texts are of another format, or
            TMX or XLIFF without languages.
        MissingPackageError: What writes workbooks is not installed.
    """
    same = ("ts",) if sources.file.form == "ts" else ()
    check_written_form(
        Path(path),
        (*TRANSLATED_FORMS, *XLIFF_ENDINGS, *same),
        source_lang=source_lang,
        target_lang=target_lang,
    )


def write_translations(
    path: str | Path,
    sources: Sources,
    translations: Sequence[str],
    *,
    source_lang: str | None = None,
    target_lang: str | None = None,
    replace: bool = False,
) -> None:
    """Write translations to a file that ends in one of the `TRANSLATED_FORMS`.

    In the format that the texts came in, it is their file with the translations filled in:
    marked fuzzy in `.po`, to be reviewed in XLIFF, unfinished in `.ts`; other entries and columns
    stay, and so do blank lines of a text. Any other format gets the pairs, a text the translations
    alone.
    Blanks and line ends around a text are around its translation too.

    Args:
        replace: A file that this package did not write, or that was changed since, may go.

    Raises:
        DataError: There are more or fewer translations than texts, or the ending is
            unknown, or TMX or XLIFF is not told its languages.
        OutputError: The file would be lost, or the disk does not take the new one.
    """
    path = Path(path)
    form = ending_of(path)
    if len(translations) != len(sources.texts):
        raise DataError(
            f"cannot write '{path}': there are {len(translations)} translations of "
            f"{len(sources.texts)} texts, one of each is needed; translate them again"
        )
    framed = [_frame(*pair) for pair in zip(sources.texts, translations, strict=True)]
    if form != "pot" and _KINDS.get(form) == _KINDS[sources.file.form]:
        filled = dict(zip(sources.places, framed, strict=True))
        content = _fill(sources, filled, path, target_lang=target_lang)
    elif form == "txt":
        content = _join(framed)
    else:
        check_translations_path(path, sources, source_lang=source_lang, target_lang=target_lang)
        content = render_pairs(
            list(zip(sources.texts, framed, strict=True)),
            path,
            source_lang=source_lang,
            target_lang=target_lang,
            reviewed=False,
            columns=sources.columns,
        )
    write_file(path, content, replace=replace)


def _recognize(path: Path) -> UserFile:
    file = recognize(read_user_file(path), plain=("txt", *WRITTEN_PAIR_TABLES))
    check_form(path, file.form, DOCUMENT_FORMS)
    return file


def _localized(
    file: UserFile, source_lang: str | None, target_lang: str | None
) -> tuple[list[Entry], tuple[str, ...]]:
    if file.form == "txt":
        return [Entry(line, None, place) for place, line in enumerate(decode_lines(file), 1)], ()
    catalog = _READERS[_KINDS[file.form]](file)
    entries = orient(
        file,
        catalog,
        source_lang=source_lang,
        target_lang=target_lang,
        may_turn=False,
        remedy="name a model of its languages and direction",
    )
    return entries, catalog.notes


def _table_entries(file: UserFile, table: Rows, columns: tuple[str, str]) -> list[Entry]:
    source, target = columns
    known = target if target in table.columns else None
    return table_entries(file, table, source_column=source, target_column=known)


def _reason(entry: Entry) -> str | None:
    """Why an entry is not to be translated; None if it is."""
    if entry.reason not in (None, UNTRANSLATED):
        return entry.reason
    if not is_empty(entry.target):
        return TRANSLATED
    return EMPTY if is_empty(entry.source) else None


def _key_notes(texts: Sequence[str]) -> tuple[str, ...]:
    keys = [text for text in texts if is_key(text)]
    if 2 * len(keys) < len(texts):
        return ()
    shown = f"{len(keys)} of {len(texts)} texts look like keys, such as '{shorten(keys[0])}'"
    return (f"{shown}, which stand for sentences; they are translated as they are",)


def _frame(source: str, translation: str) -> str:
    """Give a translation the blanks around its source; gettext checks its line ends."""
    bare = source.strip()
    before, _, after = source.partition(bare)
    return before + translation.strip() + after


def _join(texts: Sequence[str]) -> bytes:
    return "".join(" ".join(text.split()) + "\n" for text in texts).encode()


def _fill(
    sources: Sources, filled: Mapping[int, str], path: Path, *, target_lang: str | None
) -> bytes:
    """The file of the texts with the translations at their places."""
    file = sources.file
    match _KINDS[file.form]:
        case "txt":
            return _join([filled.get(place, "") for place in range(len(decode_lines(file)))])
        case "po":
            return fill_po(file, filled, target_lang=target_lang)
        case "xliff":
            return fill_xliff(file, filled, target_lang=target_lang)
        case "ts":
            return fill_ts(file, filled, target_lang=target_lang)
    table, target = sources.table or read_rows_of(file), sources.columns[1]
    cells = [
        {**row, target: filled[place]} if place in filled else row
        for place, row in enumerate(table.cells)
    ]
    return render_rows(path, tuple(dict.fromkeys((*table.columns, target))), cells)
