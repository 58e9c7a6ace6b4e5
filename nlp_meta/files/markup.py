"""XML from users: checked before any parser reads it, and its inline elements as text and back.

An element that stands for a program's own code (`<ph>%s</ph>`) reads as that code, one that
is empty or encloses text (`<x id="1"/>`, `<g id="2">`) as its tag, one that only marks text
as the text.
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import ParseError
from xml.parsers.expat import errors
from xml.sax.saxutils import escape

from nlp_meta.errors import DataError, need_packages
from nlp_meta.files.entries import UserFile, damaged, decode_declared, shorten

_MARKS = {"mrk", "hi", "sub", "sm", "em"}
_NATIVE = {"bpt", "ept", "ph", "it", "ut"}

# Deeper is no text of anybody, and a parser or a reader may run out of stack.
_DEEPEST = 100
_DECLARATION = 400
_ENCODING = re.compile(r"""<\?xml[^>]*?\sencoding\s*=\s*["']([\w.:-]+)["']""")
_DECLARED = re.compile(r"\A\s*<\?xml\s[^>]*?\?>")
_NO_CHARACTER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_NO_CHARACTERS = re.compile(
    _NO_CHARACTER.pattern + r"|&#(?:0*(?:[0-8]|1[124-9]|2\d|3[01])|"
    r"x0*(?:[0-8bcef]|1[0-9a-f]|d[89a-f][0-9a-f]{2}|fff[ef]));",
    re.IGNORECASE,
)
# Also what may hold a bare &.
_LOOSE = re.compile(
    r"<!\[CDATA\[.*?\]\]>|<!--.*?-->|"
    r"&(?!(?:amp|lt|gt|quot|apos|#[0-9]+|#x[0-9a-fA-F]+);)(?:\w+;)?",
    re.DOTALL,
)
_UNIT = re.compile(r"<(tu|trans-unit|unit|message)(?=[\s>]).*?</\1\s*>", re.DOTALL)
_SPACE = "{http://www.w3.org/XML/1998/namespace}space"
_BLANKS = re.compile(r"[ \t\r\n]+")


def load_lxml() -> Any:
    """Import what reads and writes XML.

    Raises:
        MissingPackageError: The extra `translation` is not installed.
    """
    need_packages("read or write XML", "lxml", extra="translation")
    from lxml import etree

    return etree


def flatten(node: Any, *, preserve: bool) -> str:
    """Read the text of a `seg`, `source` or `target`.

    Args:
        preserve: Whether blanks count; else a run of them is one, and none at the ends.
    """
    text = "".join(shown for shown, _ in _pieces(node))
    return text if preserve else _BLANKS.sub(" ", text).strip(" ")


def fill(node: Any, text: str, *, like: Any) -> None:
    """Put a translation into a `target`, with the inline elements of its source.

    Each element of the source is used as often as it is there; where the tags of the text
    do not close, all of it is plain text. Characters that XML does not have are dropped.
    """
    etree = load_lxml()

    text = _NO_CHARACTER.sub("", text)
    markup: dict[str, deque[str]] = {}
    for shown, xml in _pieces(like):
        if xml is not None and shown.strip():
            markup.setdefault(shown, deque()).append(xml)
    del node[:]
    node.text = text
    if not any(shown in text for shown in markup):
        return
    try:
        parsed = etree.fromstring(f"<target>{_mark_up(text, markup)}</target>")
    except etree.XMLSyntaxError:
        return
    node.text = parsed.text
    node.extend(list(parsed))
    etree.cleanup_namespaces(node)


def _mark_up(text: str, markup: dict[str, deque[str]]) -> str:
    pattern = "|".join(re.escape(shown) for shown in sorted(markup, key=len, reverse=True))
    parts = []
    for part in re.split(f"({pattern})", text):
        left = markup.get(part)
        parts.append(left.popleft() if left else escape(part))
    return "".join(parts)


def _pieces(node: Any) -> Iterator[tuple[str, str | None]]:
    """What is shown of each part of a node, and the element that it stands for, if any."""
    yield node.text or "", None
    for child in node:
        if not isinstance(child.tag, str):
            # An entity that the format's own DTD would declare; comments are not shown.
            yield (child.text if getattr(child, "name", None) else ""), None
        else:
            yield from _element(child)
        yield child.tail or "", None


def _element(node: Any) -> Iterator[tuple[str, str | None]]:
    etree = load_lxml()

    name = etree.QName(node).localname
    if name in _MARKS:
        yield from _pieces(node)
        return
    code = "".join(node.itertext()) if name in _NATIVE else ""
    shown = f"<{name}" + (f' id="{escape(node.get("id"))}"' if node.get("id") else "")
    whole = etree.tostring(node, encoding="unicode", with_tail=False)
    if code.strip():
        yield code, whole
    elif name not in _NATIVE and (len(node) or node.text):
        opening = whole[: whole.index(">") + 1]
        yield f"{shown}>", opening
        yield from _pieces(node)
        yield f"</{name}>", f"</{opening[1:].split(None, 1)[0].rstrip('>')}>"
    else:
        yield f"{shown}/>", whole


@dataclass(frozen=True, slots=True)
class Document:
    """XML from a user.

    Attributes:
        root: Of `lxml`.
        encoding: In which the file is written.
        notes: Sentences on what was taken for granted.
    """

    root: Any
    encoding: str
    notes: tuple[str, ...]


def read_xml(file: UserFile, *, root: str) -> Document:
    """Parse a file; refuse entities, malformed XML, another root and depth without end.

    The document type that TMX and Qt files name is let through where it declares no entity:
    no parser here fetches it. Characters that XML does not have are dropped, as some tools
    write them.

    Raises:
        DataError: Names the line where the parser stopped.
    """
    etree = load_lxml()

    head = file.content[:_DECLARATION].decode("ascii", errors="ignore").replace("\0", "")
    declaration = _ENCODING.match(head.lstrip())
    text, encoding, notes = decode_declared(file, declaration and declaration[1])
    text = _DECLARED.sub(lambda match: "\n" * match[0].count("\n"), text, count=1)
    text, count = _NO_CHARACTERS.subn("", text)
    if count:
        notes = (*notes, f"{count} characters that XML does not have were dropped")
    text, count = _write_entities(text)
    if count:
        notes = (*notes, f"signs & that begin no entity of XML are read as in HTML: {count}")
    try:
        seen = _scan(file, text)
    except DataError:
        mended, more = _leave_out_broken(text, root)
        if mended == text:
            raise
        text, notes, seen = mended, (*notes, *more), _scan(file, mended)
    if seen.name != root:
        raise damaged(file, f"its root is <{shorten(seen.name)}> where <{root}> is needed")
    parser = etree.XMLParser(
        strip_cdata=False, resolve_entities=False, no_network=True, huge_tree=True
    )
    try:
        return Document(etree.fromstring(text.encode(), parser), encoding, notes)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise damaged(file, error) from error


def _leave_out_broken(text: str, root: str) -> tuple[str, list[str]]:
    """Read joined files as one, without units that are no XML and half a unit at the end."""
    from defusedxml.ElementTree import DefusedXMLParser, fromstring

    notes: list[str] = []
    lines: list[int] = []

    def keep(match: re.Match[str]) -> str:
        try:
            fromstring(re.sub(r"(</?|\s)(\w+):(?=[\w-]+[\s=/>])", r"\1\2-", match[0]))
        except ParseError:
            lines.append(text.count("\n", 0, match.start()) + 1)
            return "\n" * match[0].count("\n")
        return match[0]

    begin = re.search(rf"<{root}\b[^>]*>", text)
    if begin:
        between = rf"</{root}\s*>[\s\ufeff]*(<[?!][^>]*>\s*)*{re.escape(begin[0])}"
        text, count = re.subn(between, lambda match: "\n" * match[0].count("\n"), text)
        notes += (
            [f"{count + 1} files follow one another in it and are read as one"] if count else []
        )
    text = _UNIT.sub(keep, text)
    if lines:
        notes.append(f"units that are no XML are left out: {len(lines)} (line {lines[0]})")
    end = max((match.end() for match in _UNIT.finditer(text)), default=0)
    if end and not re.search(rf"</{root}\s*>", text):
        line = text.count("\n", 0, end) + 1
        notes.append(f"its end is missing: it is read up to line {line}, where a unit ends")
        with suppress(ParseError, ValueError):  # told by the parser that reads it next
            DefusedXMLParser(target=(seen := _Root())).feed(text[:end].encode())
        text = text[:end] + "".join(f"</{name}>" for name in reversed(seen.opened))
    return text, notes


def _write_entities(text: str) -> tuple[str, int]:
    """Write `&nbsp;` and a bare `&` as XML has them; others may be of the document type."""
    from html.entities import html5

    count, is_typed = 0, "<!DOCTYPE" in text

    def write(match: re.Match[str]) -> str:
        nonlocal count
        sign = html5.get(match[0][1:])
        is_other = sign is None and match[0].endswith(";") and is_typed
        if not match[0].startswith("&") or is_other:
            return match[0]
        count += 1
        return escape(match[0] if sign is None else sign)

    return _LOOSE.sub(write, text), count


def space_is_kept(node: Any, *, default: bool) -> bool:
    """Whether blanks count in a node, by the nearest `xml:space`."""
    for item in (node, *node.iterancestors()):
        if item.get(_SPACE) in ("default", "preserve"):
            return bool(item.get(_SPACE) == "preserve")
    return default


def write_xml(document: Document) -> bytes:
    """Write a file as it was read, in its encoding."""
    etree = load_lxml()

    encoding = document.encoding.upper().removesuffix("-SIG")
    # Marked as such, whichever order its bytes have.
    encoding = "UTF-16" if encoding.startswith("UTF-16") else encoding
    tree = document.root.getroottree()
    written: bytes = etree.tostring(tree, xml_declaration=True, encoding=encoding)
    return written + b"\n" if encoding == "UTF-8" else written


def render_xml(root: Any) -> bytes:
    """Write a new file, an element of its own a line."""
    etree = load_lxml()

    etree.indent(root, space="  ")
    written: bytes = etree.tostring(root, xml_declaration=True, encoding="UTF-8")
    return written + b"\n"


class _Root:
    """A target of the parser that keeps the name of the root and bounds the depth."""

    name = ""

    def __init__(self) -> None:
        self.opened: list[str] = []

    def start(self, tag: str, _: Mapping[str, str]) -> None:
        self.opened.append(tag.rpartition("}")[2])
        self.name = self.name or self.opened[0]
        if len(self.opened) > _DEEPEST:
            raise ValueError(f"its elements are nested more than {_DEEPEST} deep")

    def end(self, _: str) -> None:
        self.opened.pop()

    def close(self) -> "_Root":
        return self


def _scan(file: UserFile, text: str, *, forbid_dtd: bool = True) -> _Root:
    need_packages("read XML", "defusedxml", extra="translation")
    from defusedxml import DefusedXmlException, DTDForbidden
    from defusedxml.ElementTree import DefusedXMLParser

    parser = DefusedXMLParser(target=_Root(), forbid_dtd=forbid_dtd)
    try:
        parser.feed(text.encode())
        seen: _Root = parser.close()
    except ParseError as error:
        reason = str(error).partition(":")[0]
        if text.lstrip()[:1] != "<":
            reason = "it is no XML" if text.strip() else "it is empty"
        elif reason in (errors.XML_ERROR_NO_ELEMENTS, errors.XML_ERROR_UNCLOSED_TOKEN):
            reason = "its end is missing"
        elif reason == errors.XML_ERROR_JUNK_AFTER_DOC_ELEMENT:
            reason = "something else follows its end"
        raise damaged(file, reason, line=error.position[0]) from error
    except DefusedXmlException as error:
        if isinstance(error, DTDForbidden) and error.name in ("tmx", "TS"):
            return _scan(file, text, forbid_dtd=False)
        raise DataError(
            f"cannot read '{file.path}': line {parser.parser.CurrentLineNumber} declares a document"
            " type or an entity, which could grow without bound or fetch other files; a file that "
            "declares neither is needed; take the declaration out"
        ) from error
    except (ValueError, LookupError) as error:
        raise damaged(file, error, line=parser.parser.CurrentLineNumber) from error
    return seen
