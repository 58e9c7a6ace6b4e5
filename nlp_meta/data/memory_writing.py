"""New files of pairs, in every format that pairs are read from."""

import os
from collections.abc import Sequence
from pathlib import Path

from nlp_meta.data.memory_po import render_po
from nlp_meta.data.memory_tables import WRITTEN_TABLES, render_table
from nlp_meta.data.memory_tmx import render_tmx
from nlp_meta.data.memory_xliff import render_xliff
from nlp_meta.errors import DataError

WRITTEN_FORMS = (*WRITTEN_TABLES, "po", "tmx", "xlf", "xliff")


def render_pairs(
    pairs: Sequence[tuple[str, str]],
    form: str,
    *,
    source_lang: str | None,
    target_lang: str | None,
    reviewed: bool,
    columns: tuple[str, str] = ("source", "target"),
) -> bytes:
    """Give the content of a new file of one of the `WRITTEN_FORMS`.

    Args:
        reviewed: Else `.po` and XLIFF say that the translations are yet to be looked at.
    """
    if form in WRITTEN_TABLES:
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
            f"{', '.join('.' + known for known in forms)} is needed; name such a file with "
            "`--output`"
        )
    if form in ("tmx", "xlf", "xliff") and not (source_lang and target_lang):
        raise DataError(
            f"cannot write '{path}': a .{form} file names both its languages, and they are needed; "
            "give `--source-lang` and `--target-lang`, or name another file with `--output`"
        )


def ending_of(path: Path) -> str:
    """The ending of a file's name in small letters, without the point."""
    return path.suffix.lower().removeprefix(".")


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in its place when it is complete; an error leaves what was there."""
    path = path.resolve()
    beside = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with beside.open("wb") as file:
            file.write(content)
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
