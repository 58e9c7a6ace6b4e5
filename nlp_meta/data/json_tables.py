"""Tables inside one JSON value: rows under a key, by columns, or as names and cells."""

from collections.abc import Mapping, Sequence

_LISTS = ("data", "rows", "records", "items", "examples", "results", "train")


def unfold(value: object) -> list[object]:
    """Find the rows of one JSON value: of a list, of an object around one, of columns.

    pandas writes a table by columns, by rows, as names and cells, or under a schema; what lies
    under another key or is one row itself is taken as that.
    """
    if isinstance(value, list):
        rows = [_unwrap(row) for row in value]
        return _name_cells(rows) if rows and all(isinstance(row, list) for row in rows) else rows
    if not isinstance(value, dict):
        return [value]
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        return [dict(zip(map(str, value["columns"]), row, strict=False)) for row in value["data"]]
    if isinstance(value.get("features"), list) and isinstance(value.get("rows"), list):
        return _name_classes(unfold(value["rows"]), value["features"])
    lists = [name for name in _LISTS if _holds_rows(value.get(name))]
    if len(lists) == 1:
        return unfold(value[lists[0]])
    if len(value) == 1 and all(isinstance(inner, dict) for inner in value.values()):
        inner = next(iter(value.values()))
        nested = unfold(inner)
        return nested if nested != [inner] else [value]
    return _turn(value) or [value]


def _unwrap(row: object) -> object:
    inner = row.get("row") if isinstance(row, dict) and "row_idx" in row else None
    return inner if isinstance(inner, dict) else row


def _name_cells(rows: list[object]) -> list[object]:
    """Rows without names: the first one gives them, or spaCy wrote texts beside categories."""
    cells = [row for row in rows if isinstance(row, list)]
    if all(len(row) == 2 and isinstance(row[1], dict) for row in cells):
        return [{"text": row[0], **row[1]} for row in cells]
    header = cells[0]
    if all(isinstance(name, str) for name in header) and {"text", "label"} & set(header):
        return [dict(zip(header, row, strict=False)) for row in cells[1:]]
    return [{str(place): cell for place, cell in enumerate(row)} for row in cells]


def _holds_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(r, dict) for r in value)


def _name_classes(rows: list[object], features: Sequence[object]) -> list[object]:
    """Class names for class numbers, as the viewer of `datasets` describes its columns."""
    names = {
        str(feature.get("name")): feature["type"]["names"]
        for feature in features
        if isinstance(feature, dict)
        and isinstance(feature.get("type"), dict)
        and isinstance(feature["type"].get("names"), list)
    }
    return [
        {
            column: dict(enumerate(names[column])).get(cell) if column in names else cell
            for column, cell in row.items()
        }
        if isinstance(row, dict)
        else row
        for row in rows
    ]


def _turn(value: Mapping[str, object]) -> list[object]:
    """Rows of a table that is written by columns, or by the numbers of its rows."""
    inner = list(value.values())
    if len(inner) > 1 and all(isinstance(column, list) for column in inner):
        columns = [column for column in inner if isinstance(column, list)]
        if len({len(column) for column in columns}) == 1:
            return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    objects = [column for column in inner if isinstance(column, dict)]
    if not objects or len(objects) < len(inner):
        return []
    if all(map(str.isdecimal, objects[0])) and not all(map(str.isdecimal, value)):
        named = dict(zip(value, objects, strict=True))
        return [{name: named[name].get(key) for name in named} for key in objects[0]]
    return list(objects) if all(map(str.isdecimal, value)) else []
