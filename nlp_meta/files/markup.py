"""XML from users: checked before any parser reads it, and its inline elements as text and back.

An element that stands for a program's own code (`<ph>%s</ph>`) reads as that code, one that
is empty or encloses text (`<x id="1"/>`, `<g id="2">`) as its tag, one that only marks text
as the text.
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree.ElementTree import ParseError
from xml.sax.saxutils import escape

from nlp_meta.errors import DataError
from nlp_meta.files.entries import UserFile, damaged

_MARKS = {"mrk", "hi", "sub", "sm", "em"}
_NATIVE = {"bpt", "ept", "ph", "it", "ut"}

_BLANKS = re.compile(r"[ \t\r\n]+")


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
    from lxml import etree
    from translate.misc.xml_helpers import clear_content, parse_xml, valid_chars_only

    text = valid_chars_only(text)
    markup: dict[str, deque[str]] = {}
    for shown, xml in _pieces(like):
        if xml is not None and shown.strip():
            markup.setdefault(shown, deque()).append(xml)
    clear_content(node)
    node.text = text
    if not any(shown in text for shown in markup):
        return
    try:
        parsed = parse_xml(f"<target>{_mark_up(text, markup)}</target>")
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
    from lxml import etree

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


def check_xml(file: UserFile, *, root: str) -> Mapping[str, str]:
    """Refuse a file with entities or a document type, malformed or with another root.

    The document type that every TMX file names is let through where it declares no
    entity: no parser here fetches it.

    Returns:
        The attributes of the root.

    Raises:
        DataError: Names the line where the parser stopped.
    """
    seen = _scan(file, root=root, forbid_dtd=True)
    if seen.name != root:
        raise damaged(file, f"its root is <{seen.name}> where <{root}> is needed")
    return seen.attributes


def space_is_kept(node: Any, *, default: bool) -> bool:
    """Whether blanks count in a node, by the nearest `xml:space`."""
    from translate.misc.xml_helpers import getXMLspaceInherited

    kept: str = getXMLspaceInherited(node, "preserve" if default else "default")
    return kept == "preserve"


class _Root:
    """A target of the parser that keeps the root alone."""

    name = ""
    attributes: Mapping[str, str]

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if not self.name:
            self.name, self.attributes = tag.rpartition("}")[2], attributes

    def close(self) -> "_Root":
        return self


def _scan(file: UserFile, *, root: str, forbid_dtd: bool) -> _Root:
    from defusedxml import DefusedXmlException, DTDForbidden
    from defusedxml.ElementTree import DefusedXMLParser

    parser = DefusedXMLParser(target=_Root(), forbid_dtd=forbid_dtd)
    try:
        parser.feed(file.content)
        seen: _Root = parser.close()
    except ParseError as error:
        raise damaged(file, str(error).partition(":")[0], line=error.position[0]) from error
    except DefusedXmlException as error:
        if isinstance(error, DTDForbidden) and (root, error.name) == ("tmx", "tmx"):
            return _scan(file, root=root, forbid_dtd=False)
        raise DataError(
            f"cannot read '{file.path}': line {parser.parser.CurrentLineNumber} declares a document"
            " type or an entity, which could grow without bound or fetch other files; a file that "
            "declares neither is needed; take the declaration out"
        ) from error
    except (ValueError, LookupError) as error:
        raise damaged(file, error) from error
    return seen
