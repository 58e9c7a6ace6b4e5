"""Texts aligned line by line, as parallel corpora come: one file for each language."""

from collections.abc import Sequence
from pathlib import Path

from nlp_meta.data.languages import match_tags, same_language
from nlp_meta.errors import DataError
from nlp_meta.files.entries import Entry, decode_lines, read_user_file


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


def aligned_entries(source: Path, target: Path, *, known: Sequence[str]) -> list[Entry]:
    """Pair two texts line by line; lines where there is nothing stay, so that no pair shifts.

    Args:
        known: Endings of formats that are no plain texts.

    Raises:
        DataError: A file cannot be read, is no plain text, or they differ in length.
    """
    left, right = (read_lines(path, known=known) for path in (source, target))
    if len(left) != len(right):
        raise DataError(
            f"cannot pair '{source}' with '{target}': they have {len(left)} and {len(right)} lines,"
            f" a translation in each line is needed; look where they part, line "
            f"{min(len(left), len(right)) + 1} at the latest"
        )
    return [Entry(*pair, line) for line, pair in enumerate(zip(left, right, strict=True), start=1)]


def read_lines(path: Path, *, known: Sequence[str]) -> list[str]:
    """Read a plain text by its lines.

    Args:
        known: Endings of formats that are none.

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
    return decode_lines(file)


def _split_name(path: Path) -> tuple[str, str, str]:
    """What both sides are called, the language, and what follows it."""
    name = path.stem if path.suffix.lower() == ".gz" else path.name
    tail = name[-4:] if name.lower().endswith(".txt") else ""
    stem, _, tag = name.removesuffix(tail).rpartition(".")
    return stem, tag, tail
