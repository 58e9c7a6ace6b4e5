"""Texts aligned line by line, as parallel corpora come: one file for each language."""

from collections.abc import Sequence
from pathlib import Path

from nlp_meta.data.entries import Entry, decode_lines, read_user_file
from nlp_meta.data.language_tags import match_tags, same_language
from nlp_meta.errors import DataError


def find_aligned(
    path: Path, *, known: Sequence[str], source_lang: str | None, target_lang: str | None
) -> tuple[Path, Path] | None:
    """Find both of two aligned texts, where one of them is named by its language.

    Args:
        known: Endings that are formats, whatever languages they may be codes of.

    Returns:
        The source's and the target's; None where the path is named otherwise.

    Raises:
        DataError: There is not one file for the other side beside it.
    """
    packed = path.suffix.lower() == ".gz"
    plain = path.with_suffix("") if packed else path
    tag = plain.suffix.removeprefix(".")
    if tag.lower() in (*known, "txt", "zip", "") or not (source_lang and target_lang):
        return None
    is_source = same_language(source_lang, tag)
    if not is_source and not same_language(target_lang, tag):
        return None
    wanted = target_lang if is_source else source_lang
    beside = {
        name.removeprefix(plain.stem + ".").removesuffix(".gz"): place
        for place in sorted(path.parent.glob("*"))
        if (name := place.name).startswith(plain.stem + ".") and place.name != path.name
    }
    found = match_tags(wanted, beside)
    if len(found) != 1:
        raise DataError(
            f"cannot find the other side of '{path}': beside it "
            f"{'are ' + ', '.join(found) if found else 'is no file'} named {plain.stem}.{wanted}, "
            "one text aligned with it is needed; name both files"
        )
    other = beside[found[0]]
    return (path, other) if is_source else (other, path)


def aligned_entries(source: Path, target: Path) -> list[Entry]:
    """Pair two texts line by line; lines where there is nothing stay, so that no pair shifts.

    Raises:
        DataError: A file cannot be read, or they differ in length.
    """
    left, right = (decode_lines(read_user_file(path)) for path in (source, target))
    if len(left) != len(right):
        raise DataError(
            f"cannot pair '{source}' with '{target}': they have {len(left)} and {len(right)} lines,"
            f" a translation in each line is needed; look where they part, line "
            f"{min(len(left), len(right)) + 1} at the latest"
        )
    return [Entry(*pair, line) for line, pair in enumerate(zip(left, right, strict=True), start=1)]
