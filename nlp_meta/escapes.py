"""Users' labels, names and texts where others read them: in a terminal, in Markdown.

They are data. None of them moves a cursor, turns the direction of what stands beside it, begins
a heading, closes a table or becomes a link. HTML escapes on its own, in `report.html.j2`.
"""

import re

LONGEST = 2_000
"""Signs of a value that a line for people shows."""

# Controls of terminals, ends of lines, signs that turn the direction of a line, halves of a
# pair, and signs without a picture. What joins letters of a script (ZWNJ, ZWJ) stays.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028-\u202e\ufeff\u2060-\u206f\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
_MARKS = re.compile(
    r"""[\\`*~$]                     # code, emphasis, strokes, formulas
    | (?<![^\W_])_+ | _+(?![^\W_])  # underscores, but for those inside a word
    | \](?=[(\[:])                  # the middle of a link
    | \|                            # the end of a field
    """,
    re.VERBOSE,
)
_BEGIN = re.compile(r"(?=[\[#=>]|[+-](?:[\s+-]|$))|\d+(?=[.)](?:\s|$))")
"""Up to what begins a heading, an item or a definition at the begin of a line."""
_CODE = re.compile(
    r"((?<!`)`[^`]+`(?!`) | \S*(?: :// | www\. | [\w.+-]@[\w-]+\.\w )\S*)",
    re.IGNORECASE | re.VERBOSE,
)
"""Whole spans of code, and what readers of Markdown turn into a link, though nobody wrote one."""
_ENTITY = re.compile(r"&(?=#?\w+;)")


def visible(text: str, *, keep: str = "") -> str:
    r"""Write signs that a person cannot see as Python would: `\x1b`, `\n`, `\u202e`.

    Args:
        keep: Signs that stay; the ends of lines where a text of several lines is shown.
    """
    return _UNSEEN.sub(lambda sign: sign[0] if sign[0] in keep else ascii(sign[0])[1:-1], text)


def one_line(text: str, *, most: int = LONGEST) -> str:
    """Write a value for one line of a terminal or a log: visible, without ends of lines, short."""
    line = visible(" ".join(text.split()) if text.strip() else text)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def escape_markdown(text: str, *, inside: bool = False, most: int = LONGEST) -> str:
    """Write a value as text of one line of Markdown, in a table too.

    Args:
        inside: Words of ours stand before it on its line, so that it begins nothing.
    """
    parts = _CODE.split(one_line(text, most=most))
    parts[::2] = map(_escape, parts[::2])
    parts[1::2] = (escape_markdown_code(part.strip("`")) for part in parts[1::2])
    line = "".join(parts)
    return line if inside else _escape_begin(line)


def escape_markdown_code(text: str, *, most: int = LONGEST) -> str:
    """Write a name as a span of code of one line of Markdown, in a table too."""
    line = one_line(text, most=most)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    room = " " if line.startswith("`") or line.endswith("`") or not line.strip() else ""
    return f"{fence}{room}{line}{room}{fence}".replace("|", "\\|")


def _escape(text: str) -> str:
    marked = _MARKS.sub(lambda mark: "".join(f"\\{sign}" for sign in mark[0]), text)
    return _ENTITY.sub("&amp;", marked).replace("<", "&lt;")


def _escape_begin(line: str) -> str:
    place = _BEGIN.match(line)
    return line if place is None else f"{line[: place.end()]}\\{line[place.end() :]}"
