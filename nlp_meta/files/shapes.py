"""Shapes that other tools export: rows inside rows, labels in lists, tables by column.

doccano, Label Studio, Prodigy, Argilla, spaCy, fastText, pandas and `datasets` each write texts
and labels in their own way. What says the same as a table of texts and labels is read as one.
"""

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from nlp_meta.data.languages import name_language, same_language
from nlp_meta.errors import LabelError
from nlp_meta.tables.rows import Cells, Rows

_PREFIX = "__label__"
_SPAN_KEYS = {"start", "end", "start_offset", "end_offset"}
_NOTHING = (None, "", "ignore", "reject")
_NO_NAMES = "the table has no line with names of columns"
_CODE = re.compile(r"[a-z]{2,3}([-_][A-Za-z]+)*")
_SENTENCE = re.compile(
    r"[.!?\u2026\u3002\uff01\uff1f\u0964\u061f]['\"\u201c\u201d\u00bb)]*\s*$|(\S+\s+){3}\S"
)
_ABOUT = re.compile(r"^[-+]?[\d.,:e-]*\d$|^https?://\S+$|^CC[ -]?(BY|0)\b|^\\N$")


def find_shape(rows: Rows, *, text_column: str, label_column: str | None) -> Rows:
    """Give rows the columns of texts and labels that are asked for, wherever they hold them.

    Returns:
        Rows with these columns where they could be found; of a label column each cell is the
        list of the row's labels. The notes tell what was taken for what.
    """
    first = rows.cells[0] if rows.cells else {}
    notes = []
    wanted = {"text": text_column, "label": label_column}
    for tool, (fits, read) in _TOOLS.items():
        if fits(first) and text_column not in rows.columns:
            labeled = [read(row, text_column, label_column or "label") for row in rows.cells]
            rows = _add(rows, text_column, [text for text, _ in labeled])
            if label_column is not None and label_column not in rows.columns:
                rows = _add(rows, label_column, [labels for _, labels in labeled])
            notes.append(f"the table is read as an export of {tool}")
            break
    for kind, name in wanted.items():
        if name is not None and name not in rows.columns:
            near = [c for c in rows.columns if _plain_name(c) == _plain_name(name)]
            if len(near) == 1:
                rows = _add(rows, name, [row.get(near[0]) for row in rows.cells])
                notes.append(f"column {near[0]!r} is taken for that of the {kind}s")
    if label_column is not None and label_column not in rows.columns:
        rows, shape_notes = _find_labels(rows, text_column, label_column)
        notes += shape_notes
        if not {text_column, label_column} & set(rows.columns):
            rows, shape_notes = _find_header(rows, text_column, label_column)
            notes += shape_notes
    return replace(rows, notes=(*rows.notes, *notes)) if notes else rows


def find_pairs(
    rows: Rows,
    columns: tuple[str, str],
    languages: tuple[str | None, str | None],
) -> Rows:
    """Give rows the columns of sentences that are asked for, wherever they hold them.

    `datasets` writes an object under `translation`, whose keys are languages; other tables name
    their columns by languages. Tatoeba, OPUS and Anki name none.

    Args:
        columns: Of sources and of targets.
        languages: Translated from and into; None where that is not known.
    """
    if set(columns) <= set(rows.columns) or not rows.cells:
        return rows
    inner = [name for name in rows.columns if _object(rows.cells[0].get(name))]
    inner = [name for name in inner if name == "translation"] or inner
    if len(inner) == 1:
        cells = [{**row, **_object(row.get(inner[0]))} for row in rows.cells]
        names = dict.fromkeys(name for row in cells for name in row if name != inner[0])
        note = f"the sentences are those under {inner[0]!r}"
        rows = replace(rows, columns=tuple(names), cells=tuple(cells), notes=(*rows.notes, note))
    if not set(columns) & set(rows.columns):
        rows = _find_sentences(rows, columns, languages)
    for column, language in zip(columns, languages, strict=True):
        named = [name for name in rows.columns if language and _is_language(name, language)]
        named = [name for name in named if name not in (row.get(name) for row in rows.cells)]
        if column not in rows.columns and len(named) == 1:
            rows = _add(rows, column, [row.get(named[0]) for row in rows.cells])
            note = f"column {named[0]!r} is taken for the sentences of {language}"
            rows = replace(rows, notes=(*rows.notes, note))
    return rows


def take_labels(cell: object) -> list[object]:
    """Labels that a cell holds: of a list its items, of an object what it chose.

    Raises:
        LabelError: Labels of parts of the text, or an object of another kind.
    """
    value = _parse(cell)
    if isinstance(value, str) and value.startswith(_PREFIX):
        return [value.removeprefix(_PREFIX)]
    if isinstance(value, Mapping):
        return _choices(value)
    if not isinstance(value, list | tuple | set):
        return [] if value is None else [value]
    if any(isinstance(item, list | tuple) and len(item) == 3 for item in value):
        raise LabelError(f"it labels parts of the text ({_shown(value)}), as for finding names")
    labels = [label for item in value for label in take_labels(item)]
    return list({json.dumps(label, default=str): label for label in labels}.values())


def _choices(value: Mapping[object, object]) -> list[object]:
    if _SPAN_KEYS & set(map(str, value)):
        raise LabelError(f"it labels parts of the text ({_shown(value)}), as for finding names")
    for name in ("choices", "label", "labels", "value", "name", "rating"):
        if name in value:
            return take_labels(value[name])
    if value and all(isinstance(weight, bool | int | float) for weight in value.values()):
        return [name for name, weight in value.items() if float(weight) > 0.5]  # type: ignore[arg-type]
    raise LabelError(f"it is an object of a kind that is not known ({_shown(value)})")


def _parse(cell: object) -> object:
    """A list or an object that a cell holds as text, as Python or JSON writes them."""
    if not isinstance(cell, str) or not re.fullmatch(r"\s*(\[.*\]|\{.*\})\s*", cell, re.DOTALL):
        return cell
    if len(cell) > 10_000:
        return cell
    if re.fullmatch(r"\s*\[('[^']*'\s+)+'[^']*'\s*\]\s*", cell):
        return re.findall(r"'([^']*)'", cell)  # as numpy writes an array: ['a' 'b']
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(cell.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return value
    return cell


def _add(rows: Rows, name: str, cells: Sequence[object]) -> Rows:
    columns = rows.columns if name in rows.columns else (*rows.columns, name)
    filled = [{**row, name: cell} for row, cell in zip(rows.cells, cells, strict=True)]
    return replace(rows, columns=columns, cells=tuple(filled))


def _plain_name(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold().removesuffix("s")


def _find_labels(rows: Rows, text_column: str, label_column: str) -> tuple[Rows, list[str]]:
    """Labels that stand in columns of other tools, or in one column for each label."""
    for name, tool in (
        ("accept", "Prodigy"),
        ("cats", "spaCy"),
        (f"{label_column}.responses", "Argilla"),
        ("annotation", "Argilla"),
        ("annotations", "doccano"),
    ):
        if name in rows.columns:
            cells = [row.get(name) if _is_answered(row) else None for row in rows.cells]
            return _add(rows, label_column, cells), [f"labels are read as {tool} writes them"]
    hot = [name for name in rows.columns if name != text_column and _is_hot(rows, name)]
    if len(hot) < 2 or text_column not in rows.columns:
        return rows, []
    cells = [[name for name in hot if _is_true(row.get(name))] for row in rows.cells]
    return _add(rows, label_column, cells), [
        f"the columns {', '.join(map(repr, hot[:10]))} hold 0 or 1 and are taken for labels"
    ]


def _find_header(rows: Rows, text: str, label: str) -> tuple[Rows, list[str]]:
    """Columns of a table whose first line is a row already: its label is one that others have."""
    table = _list_cells(rows)
    if len(table) < 5:
        return rows, []
    header, *cells = table
    columns = list(zip(*cells, strict=True))
    few = [
        place
        for place, column in enumerate(columns)
        if header[place] in column and len(set(column)) <= max(2, len(column) // 4)
    ]
    if len(few) != 1:
        return rows, []
    lengths = [0 if place in few else sum(map(len, column)) for place, column in enumerate(columns)]
    places = {text: lengths.index(max(lengths)), label: few[0]}
    return _take_columns(rows, table, places), [
        f"{_NO_NAMES}: column {places[text] + 1} is taken for the texts, column "
        f"{places[label] + 1} for the labels"
    ]


def _find_sentences(
    rows: Rows, names: tuple[str, str], languages: tuple[str | None, str | None]
) -> Rows:
    """Columns of sentences in a table whose first line is a row already.

    They are the two that hold no numbers, no codes and no license; the codes of languages that
    stand beside them say which comes first.
    """
    table = _list_cells(rows)
    columns = list(zip(*table, strict=True))
    codes = [place for place, column in enumerate(columns) if all(map(_CODE.fullmatch, column))]
    sentences = [
        place
        for place, column in enumerate(columns)
        if place not in codes and not _is_about_rows(column)
    ]
    is_row = [
        _SENTENCE.search(first) if place in sentences else first in rest or _ABOUT.search(first)
        for place, (first, *rest) in enumerate(columns)
    ]
    if len(sentences) != 2 or not any(is_row):
        return rows
    pairs = {tuple(row[place] for place in codes) for row in table}
    if len(codes) == 2 and None not in languages:
        given = next(iter(pairs)) if len(pairs) == 1 else ("", "")
        if all(
            same_language(str(lang), tag) for lang, tag in zip(languages, given[::-1], strict=True)
        ):
            sentences.reverse()
        elif not all(
            same_language(str(lang), tag) for lang, tag in zip(languages, given, strict=True)
        ):
            return rows
    places = dict(zip(names, sentences, strict=True))
    note = (
        f"{_NO_NAMES}: column {sentences[0] + 1} is taken for the sources, column "
        f"{sentences[1] + 1} for the targets"
    )
    return replace(_take_columns(rows, table, places), notes=(*rows.notes, note))


def _is_about_rows(column: Sequence[str]) -> bool:
    """Whether a column holds numbers, scores, addresses or licenses, and no sentences."""
    about = [not cell.strip() or bool(_ABOUT.search(cell.strip())) for cell in column]
    return sum(about) >= 0.9 * len(about)


def _list_cells(rows: Rows) -> list[list[str]]:
    """All cells of a table as texts, its first line too; none where it holds other things."""
    header = rows.header if len(rows.header) == len(rows.columns) else rows.columns
    table: list[list[object]] = [list(header), *(list(row.values()) for row in rows.cells)]
    if len(header) < 2 or any(len(row) != len(header) for row in table):
        return []
    if not all(isinstance(cell, str | int | float | None) for row in table for cell in row):
        return []
    return [["" if cell is None else str(cell) for cell in row] for row in table]


def _take_columns(rows: Rows, table: Sequence[Sequence[str]], places: Mapping[str, int]) -> Rows:
    """Rows of a table whose first line is one, with the columns at these places."""
    return replace(
        rows,
        columns=tuple(places),
        cells=tuple({name: row[place] for name, place in places.items()} for row in table),
        lines=(1, *rows.lines),
        count=rows.count + 1,
    )


def _object(cell: object) -> Mapping[str, object]:
    value = _parse(cell)
    return {str(name): text for name, text in value.items()} if isinstance(value, dict) else {}


def _is_language(name: str, language: str) -> bool:
    """Whether a column is named by a language: its code, or its name in English."""
    plain = name.strip()
    return same_language(language, plain) or plain.casefold() == name_language(language).casefold()


def _is_answered(row: Cells) -> bool:
    """Prodigy keeps what a person did not accept."""
    return row.get("answer", "accept") not in _NOTHING


def _is_hot(rows: Rows, name: str) -> bool:
    cells = [row.get(name) for row in rows.cells]
    known = (None, "", "0", "1", "0.0", "1.0", 0, 1, "False", "True", "false", "true")
    return all(
        isinstance(cell, str | int | float | None) and cell in known for cell in cells
    ) and any(map(_is_true, cells))


def _is_true(cell: object) -> bool:
    return str(cell).casefold() in ("1", "1.0", "true")


def _read_label_studio(row: Cells, text: str, label: str) -> tuple[object, object]:
    data, results = row["data"], []
    for answer in row.get("annotations") or row.get("completions") or []:  # type: ignore[attr-defined]
        if isinstance(answer, dict) and not answer.get("was_cancelled"):
            results += [item for item in answer.get("result", []) if isinstance(item, dict)]
    named = [item for item in results if item.get("from_name") == label] or results
    return _find_text(data, text), [item.get("value") for item in named]


def _read_argilla(row: Cells, text: str, label: str) -> tuple[object, object]:
    fields = row.get("fields") or row.get("inputs")
    responses = row.get("responses", row.get("annotation"))
    if isinstance(responses, dict):  # by question
        responses = responses.get(label) or next(iter(responses.values()), None)
    elif isinstance(responses, list):  # by annotator
        values = [item.get("values", {}) for item in responses if isinstance(item, dict)]
        responses = [item.get(label) or next(iter(item.values()), None) for item in values]
    return _find_text(fields, text), responses


def _find_text(fields: object, name: str) -> object:
    if not isinstance(fields, dict):
        return fields
    texts = [cell for cell in fields.values() if isinstance(cell, str)]
    return fields.get(name, texts[0] if len(texts) == 1 else None)


_TOOLS: Mapping[
    str,
    tuple[Callable[[Cells], bool], Callable[[Cells, str, str], tuple[object, object]]],
] = {
    "Label Studio": (
        lambda row: (
            isinstance(row.get("data"), dict) and bool({"annotations", "completions"} & row.keys())
        ),
        _read_label_studio,
    ),
    "Argilla": (
        lambda row: isinstance(row.get("fields", row.get("inputs")), dict),
        _read_argilla,
    ),
    "doccano": (
        lambda row: isinstance(row.get("data"), str) and bool({"label", "labels"} & row.keys()),
        lambda row, text, label: (row["data"], row.get(label, row.get("labels"))),
    ),
}


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:60]}..."
