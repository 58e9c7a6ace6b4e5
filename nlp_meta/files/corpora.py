"""Corpora fetched from where their authors publish them, as their data cards say.

A card names each file, pins a commit and has a hash of every file, so what is fetched is what
was looked at, or an error. Rows are written as the card's own `files` are read.
"""

import hashlib
import json
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx2

from nlp_meta.data.cards import DataCard, Origin, OriginFile
from nlp_meta.data.duplicates import text_key
from nlp_meta.data.session import PATIENCE
from nlp_meta.data.sources import normalize_text
from nlp_meta.errors import CardError, DataError
from nlp_meta.files.outputs import check_file, write_file
from nlp_meta.tables.formats import parse_table
from nlp_meta.tables.rows import Cells, Reading, TableError

PARTED = "70/30"
"""The split of a file whose rows are parted into `train` and `test`, by a hash of each text."""
UNKNOWN = "unknown"
_USER = re.compile(r"(?<![\w@])@\w+")
_TRAIN_SHARE = 0.7
_LARGEST = 2**28

Row = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A corpus that lies below a data root.

    Attributes:
        license: That was accepted, as the card names it.
        origin: Address of its files, with `{path}`.
        rows: Of each file that was written, by its path below the root.
    """

    card: str
    license: str
    origin: str
    rows: Mapping[str, int]


def fetch_corpus(
    card: DataCard,
    root: Path,
    *,
    accept_unknown_license: bool = False,
    replace: bool = False,
    on_step: Callable[[int, int], None] | None = None,
) -> Fetched:
    """Fetch the files of a card, check their hashes, and write rows where the card reads them.

    All rows are kept, normalized; duplicates go when tasks are loaded.

    Args:
        root: The data root, which `data.root` or NLP_META_DATA then names.
        accept_unknown_license: Fetch rows although nobody says what may be done with them.
        replace: Files that are there and were not written by this may go.
        on_step: Called with the files fetched and their number.

    Raises:
        CardError: The card does not say where its files come from, or not what a label means.
        DataError: Its license is unknown, or a file cannot be had or is not the one it was.
        OutputError: Other files are in the way.
    """
    origin = _check(card, accept_unknown_license=accept_unknown_license)
    places = {
        (f.task, split): root / _name(card, f, split) for f in origin.files for split in _splits(f)
    }
    for place in places.values():
        check_file(place, replace=replace, argument="root")
    rows: dict[tuple[str, str], list[Row]] = {key: [] for key in places}
    contents: dict[str, bytes] = {}
    paths = {file.path: file.sha256 for file in origin.files}
    with _make_client(origin.address) as client:
        for number, (path, sha256) in enumerate(paths.items(), start=1):
            contents[path] = _fetch(client, origin.address.replace("{path}", quote(path)), sha256)
            if on_step:
                on_step(number, len(paths))
    for file in origin.files:
        for row in _read_rows(card, origin, file, contents[file.path]):
            rows[file.task, _part(file, row[0])].append(row)
    for key, place in places.items():
        text, label = card.columns.source, card.columns.target
        lines = [json.dumps({text: row[0], label: row[1]}, ensure_ascii=False) for row in rows[key]]
        write_file(place, "".join(f"{line}\n" for line in lines), replace=replace, argument="root")
    written = {str(place.relative_to(root)): len(rows[key]) for key, place in places.items()}
    return Fetched(card.name, card.license, origin.address, written)


def _check(card: DataCard, *, accept_unknown_license: bool) -> Origin:
    if card.origin is None:
        raise CardError(
            f"cannot get '{card.name}': its card does not say where each file comes from, with a "
            f"hash, and `nlp_meta.source.origin` is needed for that; by hand: {card.obtain}"
        )
    if card.license == UNKNOWN and not accept_unknown_license:
        raise DataError(
            f"cannot get '{card.name}': its license is unknown, and one that allows your use is "
            f"needed; read the section Licence of '{card.path.name}', and if you may use the rows "
            "all the same, set `accept_unknown_license`"
        )
    return card.origin


def _splits(file: OriginFile) -> tuple[str, ...]:
    return ("train", "test") if file.split == PARTED else (file.split,)


def _name(card: DataCard, file: OriginFile, split: str) -> str:
    return (card.files or "").replace("{task}", file.task).replace("{split}", split)


def _part(file: OriginFile, text: str) -> str:
    """The same text goes to the same part, whatever stands around it."""
    if file.split != PARTED:
        return file.split
    digest = hashlib.sha256(text_key(text).encode()).digest()
    return "train" if int.from_bytes(digest[:8], "big") < _TRAIN_SHARE * 2**64 else "test"


def _make_client(address: str) -> httpx2.Client:
    local = urlsplit(address).scheme == "http"
    verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if local else True
    return httpx2.Client(
        timeout=PATIENCE, follow_redirects=True, trust_env=not local, verify=verify
    )


def _fetch(client: httpx2.Client, address: str, sha256: str) -> bytes:
    """One file, whole; an error where it cannot be had, or is another."""
    content = b""
    try:
        with client.stream("GET", address) as response:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > _LARGEST:
                    raise DataError(
                        f"cannot get '{address}': it has more than {_LARGEST} bytes, and the file "
                        "that the card describes is needed; correct the card's `address`"
                    )
    except httpx2.HTTPError as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"cannot get '{address}': {reason}; an answer with the file is needed; check the "
            "network and try again, or get the files by hand as the card's `obtain` says"
        ) from error
    if (digest := hashlib.sha256(content).hexdigest()) != sha256:
        raise DataError(
            f"cannot use '{address}': its hash begins {digest[:8]}, and {sha256[:8]} is needed, "
            "that of the file which the card describes; try again, or correct the card"
        )
    return content


def _read_rows(card: DataCard, origin: Origin, file: OriginFile, content: bytes) -> list[Row]:
    labels: Mapping[str, str | None] = {**card.labels, **(origin.labels or {})}
    names = (origin.label,) if isinstance(origin.label, str) else origin.label
    wanted = file.where or {}
    rows = []
    for cells in _read_cells(card, origin, file, content):
        missing = [name for name in (origin.text, *names, *wanted) if name not in cells]
        if missing:
            raise CardError(
                f"cannot use card '{card.path}': key `source.origin` names column '{missing[0]}', "
                f"which a row of '{file.path}' lacks; {', '.join(map(str, cells))} are there; "
                "correct it"
            )
        if any(str(cells[column]) != value for column, value in wanted.items()):
            continue
        text = normalize_text(str(cells[origin.text] or ""))
        text = _USER.sub("@user", text) if origin.mask_users else text
        label = _agree([_name_label(card, file, labels, cells[name]) for name in names])
        if text and label is not None:
            rows.append((text, label))
    return rows


def _read_cells(
    card: DataCard, origin: Origin, file: OriginFile, content: bytes
) -> Sequence[Cells]:
    if origin.pattern is not None:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
        return [match.groupdict() for match in re.finditer(origin.pattern, text, re.MULTILINE)]
    ending = Path(file.path).suffix.removeprefix(".")
    separator = origin.separator or {"tsv": "\t"}.get(ending, ",")
    if origin.header is not None:
        content = f"{separator.join(origin.header)}\n".encode() + content
    try:
        return parse_table(ending, content, Reading(encoding="utf-8", separator=separator)).cells
    except TableError as error:
        raise DataError(
            f"cannot read '{file.path}' of card '{card.path}': {error}; a table is needed; correct "
            "`source.origin` of the card"
        ) from error


def _name_label(
    card: DataCard, file: OriginFile, labels: Mapping[str, str | None], value: object
) -> str | None:
    word = normalize_text("" if value is None else str(value))
    if word and word not in labels:
        raise CardError(
            f"cannot use card '{card.path}': '{file.path}' has the label '{word}', and one of "
            f"{', '.join(labels)} is needed; add it to `source.origin.labels`, with null to leave "
            "its rows out"
        )
    return labels.get(word)


def _agree(labels: Sequence[str | None]) -> str | None:
    """The one label that there is; None where there is none or there are several."""
    different = {label for label in labels if label is not None}
    return different.pop() if len(different) == 1 else None
