"""XML from users: read by no parser before it is known to declare nothing."""

from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import ParseError

from nlp_meta.data.entries import UserFile, damaged
from nlp_meta.errors import DataError


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
