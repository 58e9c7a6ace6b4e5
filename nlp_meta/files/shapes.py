"""Shapes that other tools export: rows inside rows, labels in lists, tables by column.

doccano, Label Studio, Prodigy, Argilla, spaCy, fastText, pandas and `datasets` each write texts
and labels in their own way. What says the same as a table of texts and labels is read as one.
"""

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from unicodedata import normalize

from nlp_meta.data.cells import write_number
from nlp_meta.data.languages import find_language, name_language, same_language
from nlp_meta.errors import LabelError
from nlp_meta.tables.rows import Cells, Rows

_PREFIX = "__label__"
_SPAN_KEYS = {"start", "end", "start_offset", "end_offset"}
_NOTHING = (None, "", "ignore", "reject")
_MOST_NAMES = 1000
"""Columns among which one that a language names is looked for."""
_NO_NAMES = "the table has no line with names of columns"
_CODE = re.compile(r"[a-z]{2,3}([-_][A-Za-z]+)*")
_SENTENCE = re.compile(
    r"[.!?\u2026\u3002\uff01\uff1f\u0964\u061f]['\"\u201c\u201d\u00bb)]*\s*$|(\S+\s+){3}\S"
)
_ABOUT = re.compile(r"^[-+]?[\d.,:e-]*\d$|^https?://\S+$|^CC[ -]?(BY|0)\b|^\\N$")
_INTENTS = (
    *(("intent", "examples"), ("tag", "patterns"), ("intent", "utterances")),
    *(("name", "utterances"), ("intent", "patterns")),
)
"""Keys under which files of chatbots have labels, and the texts of each."""
_ENTITY = re.compile(r"\[([^\]]*)\](?:\([^)]*\)|\{[^}]*\})")
"""As Rasa marks a part of a text: [Berlin](city)."""
_CHATS, _ANSWERERS = ("messages", "conversations", "contents"), ("assistant", "gpt", "model")
"""Keys of chats as OpenAI, ShareGPT and Gemini write them, and who answers there."""
_ANSWERS = {"accept", "reject", "ignore"}
_UNSENT = ("discarded", "draft")
_GUESSES = ("suggestions.", "predictions.", "prediction.")
"""Where tools keep what a model has answered and no person has looked at."""
_SIDES = ("source", "target")
_OTHERS = {
    "source": ("src", "source_text", "source_sentence", "source_phrase", "original"),
    "target": ("tgt", "trg", "target_text", "target_sentence", "translation"),
}
"""What other tools call the columns of sentences."""
_DEEPEST = 3
"""Keys on the way to a cell of an object."""


_CHOSEN = (
    *("choices", "label", "labels", "value", "name", "rating", "number"),
    *("displayName", "classname", "class-name", "taxonomy", "labelName", "$numberInt"),
)
"""Keys of objects under which tools write the label."""


def find_shape(rows: Rows, *, text_column: str, label_column: str | None) -> Rows:
    """Give rows the columns of texts and labels that are asked for, wherever they hold them.

    Returns:
        Rows with these columns where they could be found; of a label column each cell is the
        list of the row's labels. The notes tell what was taken for what.
    """
    rows, notes = _drop_headers(rows)
    rows, more_notes = _spread_intents(rows, text_column, label_column)
    notes += more_notes
    first = rows.cells[0] if rows.cells else {}
    wanted = {"text": text_column, "label": label_column}
    for tool, (fits, read) in _TOOLS.items():
        if fits(first) and text_column not in rows.columns:
            rows = _unpack(rows, [read(row, label_column or "label") for row in rows.cells], wanted)
            notes.append(f"the table is read as an export of {tool}")
            break
    for kind, name in wanted.items():
        if name is not None and name not in rows.columns:
            near = _find_near(rows, name)
            if near is not None:
                rows = _add(rows, name, [_cell_at(row, near) for row in rows.cells])
                notes.append(f"column {near!r} is taken for that of the {kind}s")
    if label_column is not None and label_column in rows.columns and "answer" in rows.columns:
        rows, shape_notes = _read_answers(rows, label_column)
        notes += shape_notes
    if label_column is not None and label_column not in rows.columns:
        rows, shape_notes = _find_labels(rows, text_column, label_column)
        notes += shape_notes
        if not {text_column, label_column} & set(rows.columns):
            rows, shape_notes = _find_header(rows, text_column, label_column)
            notes += shape_notes
    return replace(rows, notes=(*rows.notes, *notes)) if notes else rows


def find_pairs(
    rows: Rows, columns: tuple[str, str], languages: tuple[str | None, str | None]
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
    rows = _spread_languages(rows)
    inner = [name for name in rows.columns if _object(rows.cells[0].get(name))]
    inner = [name for name in inner if name == "translation"] or inner
    if len(inner) == 1:
        cells = [{**row, **_object(row.get(inner[0]))} for row in rows.cells]
        names = dict.fromkeys(name for row in cells for name in row if name != inner[0])
        note = f"the sentences are those under {inner[0]!r}"
        rows = replace(rows, columns=tuple(names), cells=tuple(cells), notes=(*rows.notes, note))
    if not set(columns) & set(rows.columns):
        rows = _find_sentences(rows, columns, languages)
    for side, column, language in zip(_SIDES, columns, languages, strict=True):
        if column in rows.columns:
            continue
        looked_at = rows.columns[:_MOST_NAMES] if language else ()
        named = [name for name in looked_at if _is_language(name, str(language))]
        named = named or [name for name in looked_at if _names_language(name, str(language))]
        named = [name for name in named if name not in (row.get(name) for row in rows.cells)]
        near = named[0] if len(named) == 1 else _find_near(rows, column)
        near = near or next(
            filter(None, (_find_near(rows, n) for n in _OTHERS.get(column, ()))), None
        )
        if near is not None:
            rows = _add(rows, column, [_cell_at(row, near) for row in rows.cells])
            note = f"column {near!r} is taken for the {side} sentences"
            rows = replace(rows, notes=(*rows.notes, note))
    return rows


def _spread_languages(rows: Rows) -> Rows:
    """Write lists of languages and of their sentences as objects, as `datasets` has them.

    Another sentence of a language makes another row.
    """
    cells, lines = [], []
    for row, line in zip(rows.cells, rows.lines, strict=True):
        both = _object(row.get("translation")) or row
        tags, texts = _parse(both.get("language")), _parse(both.get("translation"))
        if not isinstance(tags, list) or not isinstance(texts, list):
            return rows
        by_tag: dict[str, list[object]] = {}
        for tag, text in zip(tags, texts, strict=False):
            by_tag.setdefault(str(tag), []).append(text)
        for place in range(max(map(len, by_tag.values()), default=0)):
            named = {tag: items[min(place, len(items) - 1)] for tag, items in by_tag.items()}
            cells.append({**row, "translation": named})
            lines.append(line)
    return (
        replace(rows, cells=tuple(cells), lines=tuple(lines), count=len(cells)) if cells else rows
    )


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
    if len(value) > 1 and all(map(_is_share, value)):
        numbers = "0 and 1" if {*value} <= {0, 1} else "numbers from 0 to 1"
        raise LabelError(f"it is a list of {numbers} ({_shown(value)}), whose places name no label")
    labels = [label for item in value for label in take_labels(item)]
    return list({json.dumps(label, default=str): label for label in labels}.values())


def _choices(value: Mapping[object, object]) -> list[object]:
    if _SPAN_KEYS & set(map(str, value)):
        raise LabelError(f"it labels parts of the text ({_shown(value)}), as for finding names")
    for name in _CHOSEN:
        if name in value:
            return take_labels(value[name])
    if value and all(map(_is_share, value.values())):
        return [name for name, weight in value.items() if float(weight) > 0.5]  # type: ignore[arg-type]
    raise LabelError(f"it is an object of a kind that is not known ({_shown(value)})")


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _parse(cell: object) -> object:
    """A list or an object that a cell holds as text, as Python or JSON writes them."""
    brackets = r"\s*(\[.*\]|\{.*\}|\(.*,.*\))\s*"
    if not isinstance(cell, str) or not re.fullmatch(brackets, cell, re.DOTALL):
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
    if re.fullmatch(r"\s*\{[^{}:\n]+\}\s*", cell):  # an array of PostgreSQL
        return [item.strip(' "') for item in cell.strip()[1:-1].split(",")]
    return cell


def _add(rows: Rows, name: str, cells: Sequence[object]) -> Rows:
    columns = rows.columns if name in rows.columns else (*rows.columns, name)
    filled = [{**row, name: cell} for row, cell in zip(rows.cells, cells, strict=True)]
    return replace(rows, columns=columns, cells=tuple(filled))


def _drop_headers(rows: Rows) -> tuple[Rows, list[str]]:
    """Leave out the lines of a header that survey tools write below the names of columns."""
    firsts = [list(map(str, row.values())) for row in rows.cells[:2]]
    for tool, is_header in (
        ("Qualtrics", lambda cell: cell.startswith('{"ImportId"')),
        ("SurveyMonkey", lambda cell: cell == "Open-Ended Response"),
    ):
        headers = [
            place for place, cells in enumerate(firsts, start=1) if any(map(is_header, cells))
        ]
        if headers:
            count = headers[-1]
            note = f"more lines of the header, as {tool} writes them, are left out: {count}"
            return replace(
                rows, cells=rows.cells[count:], lines=rows.lines[count:], count=rows.count - count
            ), [note]
    return rows, []


def _spread_intents(rows: Rows, text: str, label: str | None) -> tuple[Rows, list[str]]:
    """Give each text of a chatbot's intents a row; synonyms of its entities are none."""
    named = (keys for keys in _INTENTS if text not in rows.columns and {*keys} <= {*rows.columns})
    name, texts = next(named, ("", ""))
    cells, lines = [], []
    for row, line in zip(rows.cells, rows.lines, strict=True):
        items = row.get(texts) if name in row else None
        if isinstance(items, str):
            items = [_ENTITY.sub(r"\1", item) for item in items.splitlines() if item.strip()]
        for item in items if isinstance(items, list) else ():
            written = str(item.get("text") if isinstance(item, dict) else item).strip()
            cells.append({text: written.removeprefix("- "), label or name: row[name]})
            lines.append(line)
    if not cells:
        return rows, []
    note = f"the texts are those under {texts!r} of each {name!r}; other entries are left out"
    return Rows(tuple(cells[0]), tuple(cells), tuple(lines), len(cells), rows.notes, rows.unit), [
        note
    ]


def _unpack(
    rows: Rows, pieces: Sequence[tuple[object, object]], wanted: Mapping[str, str | None]
) -> Rows:
    """Give rows the fields and labels that an export has inside of each row."""
    text, label = wanted["text"] or "", wanted["label"]
    names = {name for fields, _ in pieces if isinstance(fields, dict) for name in fields}
    for name in sorted(names - set(rows.columns), key=str):
        cells = [fields.get(name) if isinstance(fields, dict) else None for fields, _ in pieces]
        rows = _add(rows, str(name), cells)
    texts = [_find_text(fields) for fields, _ in pieces]
    if text not in rows.columns and any(texts):
        rows = _add(rows, text, texts)
    if label is not None and label not in rows.columns and any(labels for _, labels in pieces):
        rows = _add(rows, label, [labels for _, labels in pieces])
    return rows


def _find_near(rows: Rows, name: str) -> str | None:
    """The only column of nearly that name; or the only cell of objects that has it."""
    near = [column for column in rows.columns if _plain_name(column) == _plain_name(name)]
    if not near and rows.cells:
        paths = list(_paths(rows.cells[0]))
        near = [path for path in paths if path == name] or [
            path
            for path in paths
            if _plain_name(path.rpartition(".")[2]) == _plain_name(name)
            and not path.startswith(_GUESSES)
        ]
    return near[0] if len(near) == 1 else None


def _paths(row: Mapping[str, object], before: str = "") -> Iterator[str]:
    """Where objects of a row have cells: `document.text`."""
    for name, cell in row.items():
        place = f"{before}{name}"
        if before:
            yield place
        if isinstance(cell, dict) and place.count(".") < _DEEPEST:
            yield from _paths(cell, f"{place}.")


def _cell_at(row: Mapping[str, object], path: str) -> object:
    if path in row:
        return row[path]
    name, _, rest = path.partition(".")
    inner = row.get(name)
    return _cell_at(inner, rest) if rest and isinstance(inner, dict) else None


def _read_answers(rows: Rows, label_column: str) -> tuple[Rows, list[str]]:
    """What a person answered to a label that Prodigy showed: a text may not have it."""
    answers = [row.get("answer") for row in rows.cells]
    if not set(answers) <= _ANSWERS or set(answers) == {"accept"}:
        return rows, []
    labels = [row.get(label_column) for row in rows.cells]
    single = len(set(map(str, labels))) == 1
    cells = [
        label if answer == "accept" else f"not {label}" if single and answer == "reject" else None
        for label, answer in zip(labels, answers, strict=True)
    ]
    note = (
        f"texts whose answer is 'reject' are not {labels[0]!r}"
        if single
        else ("texts whose label was not accepted have none")
    )
    return _add(rows, label_column, cells), [f"labels are read as Prodigy writes them; {note}"]


def _plain_name(name: str) -> str:
    return re.sub(r"[\W_]", "", normalize("NFC", name)).casefold().removesuffix("s")


def _find_labels(rows: Rows, text_column: str, label_column: str) -> tuple[Rows, list[str]]:
    """Labels that stand in columns of other tools, or in one column for each label."""
    answered = [name for name in rows.columns if name.endswith(".responses")]
    for name, tool in (
        ("accept", "Prodigy"),
        ("cats", "spaCy"),
        (answered[0] if len(answered) == 1 else f"{label_column}.responses", "Argilla"),
        ("annotation", "Argilla"),
        ("annotations", "doccano"),
        ("intent", "Rasa"),
    ):
        if name in rows.columns and "data" not in rows.columns:
            cells = [
                _sent(row, name) if row.get("answer", "accept") not in _NOTHING else None
                for row in rows.cells  # Prodigy keeps what a person did not accept
            ]
            numbers = ", by numbers whose names are in its list of labels" * _are_numbers(cells)
            return _add(rows, label_column, cells), [
                f"labels are read as {tool} writes them{numbers}"
            ]
    hot = [name for name in rows.columns if name != text_column and _is_hot(rows, name)]
    if len(hot) < 2 or text_column not in rows.columns:
        _refuse_shares(rows, text_column, label_column)
        return rows, []
    common = f"{label_column}_"  # as pandas names them
    cut = len(common) if all(name.startswith(common) for name in hot) else 0
    cells = [[name[cut:] for name in hot if _is_true(row.get(name))] for row in rows.cells]
    return _add(rows, label_column, cells), [
        f"the columns {', '.join(map(repr, hot[:10]))} hold 0 or 1 and are taken for labels"
    ]


def _refuse_shares(rows: Rows, text: str, label: str) -> None:
    """Stop where each label has a column of shares, which add up to 1 or 100 in each row."""
    numbers = {
        name: [
            float(write_number(str(row.get(name)).strip().removesuffix("%")) or "nan")
            for row in rows.cells
        ]
        for name in (rows.columns if text in rows.columns else ())
    }
    for whole in (1, 100):
        shares = [n for n, column in numbers.items() if all(0 <= cell <= whole for cell in column)]
        sums = list(map(sum, zip(*(numbers[name] for name in shares), strict=True)))
        if sums and len(shares) > 1 and all(abs(total - whole) < whole / 50 for total in sums):
            raise LabelError(
                f"cannot read labels from the columns {', '.join(map(repr, shares[:10]))}: they "
                f"hold shares that add up to {whole} in each row, and one label a text is needed; "
                f"write the name of the largest into a column {label!r}, where it is right"
            )


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
        if header[place] in column and 1 < len(set(column)) <= max(2, len(column) // 4)
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
    is_code = [all(map(_CODE.fullmatch, column)) for column in columns]
    codes = [place for place, is_one in enumerate(is_code) if is_one]
    sentences = [
        place
        for place, column in enumerate(columns)
        if not is_code[place] and not _is_about_rows(column)
    ]
    if len(sentences) != 2:
        return rows
    is_row = [
        _SENTENCE.search(first) if place in sentences else first in rest or _ABOUT.search(first)
        for place, (first, *rest) in enumerate(columns)
    ]
    if not any(is_row):
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
    table: list[list[object]] = [list(row.values()) for row in rows.cells]
    if list(header) != list(map(str, range(len(header)))):  # lists of JSON have none
        table.insert(0, list(header))
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
        lines=rows.lines if len(table) == rows.count else (1, *rows.lines),
        count=len(table),
    )


def _object(cell: object) -> Mapping[str, object]:
    value = _parse(cell)
    return {str(name): text for name, text in value.items()} if isinstance(value, dict) else {}


def _is_language(name: str, language: str) -> bool:
    """Whether a column is named by a language: its code, or its name in some language."""
    plain = name.strip()
    last = plain.partition("_")[2]  # text_de; but row_id is not Indonesian
    return (
        same_language(language, plain)
        or (last not in ("", "id") and same_language(language, last))
        or plain.casefold() == name_language(language).casefold()
        or same_language(language, find_language(plain))
    )


def _names_language(name: str, language: str) -> bool:
    """Whether a word of a name does: `Original (English)`, `EN text`."""
    words = re.findall(r"[^\W\d_]{4,}|\b[A-Z]{2,3}\b|(?<=\()[a-z]{2,3}(?=[)_-])", name)
    return any(word != "ID" and _is_language(word, language) for word in words)


def _is_hot(rows: Rows, name: str) -> bool:
    cells = [row.get(name) for row in rows.cells]
    known = ("none", "", "0", "1", "0.0", "1.0", "false", "true", "x", "yes", "no", "y", "n")
    return all(str(cell).casefold() in known for cell in cells) and any(map(_is_true, cells))


def _is_true(cell: object) -> bool:
    return str(cell).casefold() in ("1", "1.0", "true", "x", "yes", "y")


def _are_numbers(cells: Sequence[object]) -> bool:
    """Whether objects hold labels by their numbers."""
    items = [item for cell in cells if isinstance(cell, list) for item in cell]
    labels = [item.get("label") for item in items if isinstance(item, dict)]
    return bool(labels) and all(isinstance(label, int) for label in labels)


def _sent(row: Cells, name: str) -> object:
    """Answers of a cell without those that were discarded, whose states stand beside them."""
    answers, states = _parse(row.get(name)), _parse(row.get(f"{name}.status"))
    options = _parse(row.get("options"))
    if name == "accept" and isinstance(options, list) and isinstance(answers, list):
        # Of a number of Prodigy's the text says what it stands for.
        texts = {item.get("id"): item.get("text") for item in options if isinstance(item, dict)}
        answers = [texts.get(a, a) if isinstance(a, int) else a for a in answers]
    if not isinstance(answers, list) or not isinstance(states, list):
        return answers
    pairs = zip_longest(answers, states[: len(answers)])
    return [answer for answer, state in pairs if state not in _UNSENT]


def _read_label_studio(row: Cells, label: str) -> tuple[object, object]:
    questions: dict[str, list[object]] = {}
    for answer in row.get("annotations") or row.get("completions") or []:  # type: ignore[attr-defined]
        if isinstance(answer, dict) and not answer.get("was_cancelled"):
            for item in answer.get("result", []):
                if isinstance(item, dict):
                    questions.setdefault(str(item.get("from_name")), []).append(item.get("value"))
    return {**questions, **row["data"]}, _choose(questions, label)  # type: ignore[dict-item]


def _read_argilla(row: Cells, label: str) -> tuple[object, object]:
    fields = row.get("fields") or row.get("inputs")
    responses = row.get("responses", row.get("annotation"))
    if str(row.get("status")).casefold() in _UNSENT:
        return fields, None
    if isinstance(responses, list):  # by annotator
        sent = [item for item in responses if isinstance(item, dict) and _is_sent(item)]
        answers = [item.get("values") or {} for item in sent]
        names = dict.fromkeys(name for values in answers for name in values)
        responses = {name: [values.get(name) for values in answers] for name in names}
    if not isinstance(responses, dict):
        return fields, responses
    questions = {
        name: [item for item in cell if _is_sent(item)] if isinstance(cell, list) else cell
        for name, cell in responses.items()
    }
    return {**questions, **fields}, _choose(questions, label)  # type: ignore[dict-item]


def _is_sent(answer: object) -> bool:
    return not isinstance(answer, dict) or answer.get("status") not in _UNSENT


def _choose(questions: Mapping[str, object], label: str) -> object:
    """Answers to the question that is asked for, or to the only one."""
    only = next(iter(questions.values())) if len(questions) == 1 else None
    return questions.get(label, only)


def _read_messages(row: Cells, _: str) -> tuple[object, object]:
    """The last text of the user, and what is to be answered."""
    last: dict[object, object] = {}
    for item in next(cell for name in _CHATS if isinstance(cell := row.get(name), list)):
        said = {} if not isinstance(item, dict) else item
        text = said.get("content", said.get("value", said.get("parts")))
        if isinstance(text, list):
            text = " ".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
        last[said.get("role", said.get("from"))] = text
    return last.get("user", last.get("human")), next(filter(None, map(last.get, _ANSWERERS)), None)


def _read_jobs(row: Cells, _: str) -> tuple[object, object]:
    return row["source"], next(cell for name, cell in row.items() if name.endswith("-metadata"))


def _find_text(fields: object) -> object:
    """The text of a row, or the only one among its fields."""
    if not isinstance(fields, dict):
        return fields
    texts = [cell for cell in fields.values() if isinstance(cell, str)]
    return texts[0] if len(texts) == 1 else None


def _has(*names: str) -> Callable[[Cells], bool]:
    return lambda row: set(names) <= row.keys()


def _take(text: str, label: str) -> Callable[[Cells, str], tuple[object, object]]:
    return lambda row, _: (row.get(text), row.get(label))


_TOOLS: Mapping[
    str, tuple[Callable[[Cells], bool], Callable[[Cells, str], tuple[object, object]]]
] = {
    "Label Studio": (
        lambda row: (
            isinstance(row.get("data"), dict) and bool({"annotations", "completions"} & row.keys())
        ),
        _read_label_studio,
    ),
    "Argilla": (lambda row: isinstance(row.get("fields", row.get("inputs")), dict), _read_argilla),
    "doccano": (
        lambda row: isinstance(row.get("data"), str) and bool({"label", "labels"} & row.keys()),
        lambda row, label: (row["data"], row.get(label, row.get("labels"))),
    ),
    "chats": (lambda row: any(isinstance(row.get(name), list) for name in _CHATS), _read_messages),
    "OpenAI's prompts": (_has("prompt", "completion"), _take("prompt", "completion")),
    "Alpaca": (
        _has("instruction", "output"),
        lambda row, _: (row.get("input") or row["instruction"], row["output"]),
    ),
    "T5's tasks": (_has("inputs", "targets"), _take("inputs", "targets")),
    "LightTag": (_has("content", "classifications"), _take("content", "classifications")),
    "Vertex AI": (
        _has("textContent", "classificationAnnotation"),
        _take("textContent", "classificationAnnotation"),
    ),
    "SageMaker": (
        lambda row: "source" in row and any(name.endswith("-metadata") for name in row),
        _read_jobs,
    ),
}


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:60]}..."
