"""Mutations of files: bytes, lines, words of the formats, encodings, depth, parts of workbooks."""

import io
import random
import zipfile

_NUMBERS = [
    b"0", b"-1", b"1e999", b"NaN", b"999999999", b"9" * 400, b"9" * 5000, b"2024-13-45", b"0x1F",
    b"1.00E+00", b"18446744073709551616", b"-0.0", b"null", b"true", b"\\ud800",
]  # fmt: skip
_ANYWHERE = [
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\r", b"\t", b'"', b"'", b",", b";", b"\\",
    b" ",
    "\u200b".encode(), "\u2028".encode(), b"\xed\xa0\x80", b"\xe9", "é".encode(), b"\x1b[31m",
]  # fmt: skip
_XML = [
    b"<", b">", b"&amp;", b"&#x1E;", b"&#0;", b"&b;", b"<!--", b"-->", b"<![CDATA[", b"]]>",
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"<?xml version='1.0' encoding='rot13'?>", b"<hi>",
    b"</hi>",
    b"<seg>", b"</seg>", b"<tuv xml:lang='de'>", b"</tuv>", b"<tu>", b"</tu>", b"xml:lang='en'",
    b"<target/>", b"<target state='new'>", b"</target>", b"<source>", b"</source>", b"<file>",
    b"<mrk mtype='seg' mid='1'>", b"</mrk>", b"<seg-source>", b"</seg-source>", b"<bpt i='1'/>",
    b"<sdl:seg id='1' conf='Draft'/>", b"approved='yes'", b"translate='no'", b"version='2.0'",
    b"<numerusform>", b"</numerusform>", b"<byte value='x1F'/>", b"type='unfinished'",
    b"xml:space='preserve'", b"<prop type='x-ConfirmationLevel'>Draft</prop>",
    b"<a:b xmlns:a='c'/>",
]  # fmt: skip
_GETTEXT = [
    b'msgid ""\n', b'msgid "a"\n', b'msgstr "b"\n', b'msgid_plural "c"\n', b'msgstr[0] "d"\n',
    b'msgstr[9] "e"\n', b'msgctxt "f"\n', b"#, fuzzy\n", b"#~ ", b'#| msgid "g"\n', b"#~| ",
    b"#:\n",
    b'"Content-Type: text/plain; charset=idna\\n"\n',
    b'"Plural-Forms: nplurals=3; plural=n%3;\\n"\n',
    b"(((((((n)))))))", b'"\\', b'\\"', b"\\n", b"\\x", b"\\777", b"X-Source-Language: en",
]  # fmt: skip
_YAML = [
    b"- ", b": ", b"&a ", b"*a", b"!!int ", b"!!timestamp ", b"!!python/name:os.system ",
    b"<<: *a",
    b"? ", b"---\n", b"...\n", b"|\n", b">-\n", b"{", b"}", b"[", b"]", b"%YAML 9.9\n",
    b"!!binary ",
    b"!!set ", b"!!omap ", b"# ", b"=", b"~", b"1:59:59", b".inf", b".nan", b"\t", b"!!merge ",
    b"!",
]  # fmt: skip
_JSON = [
    b"{", b"}", b"[", b"]", b":", b'"text":', b'"label":', b"[[[[[[[[", b'{"a":', b"\\u0000",
    b'"source":', b'"target":', b'{"translation":', b'"format":', b'"skills":',
    b'"label":["a","b"],',
]  # fmt: skip
_SHEET = [
    *_XML[:16], b"<row>", b'<row r="9999999">', b"</row>", b'<c r="ZZ9">', b'<c r="A1" t="s">',
    b'<c t="d">', b'<c t="e">', b'<c t="b">', b'<c t="inlineStr">', b'<c s="999">', b"</c>",
    b"<v>", b"</v>", b"<f>1+1</f>", b"<is><t>a</t></is>", b'<mergeCell ref="A1:B9"/>',
    b'<dimension ref="A1:XFD1048576"/>', b'state="hidden"', b'<sheet name="b" sheetId="2"/>',
    b"_x000D_", b'numFmtId="14"',
]  # fmt: skip
WORDS = {
    "workbook": _SHEET, "xml": _XML, "gettext": _GETTEXT, "yaml": _YAML, "json": _JSON,
    "table": [b"text", b"label", b"nan", b"\n", b'""', b'"\n', b"=1+1", b"sep=;\n", b"# "],
}  # fmt: skip
_BRACKETS = {
    "xml": (b"<hi>", b"</hi>"),
    "yaml": (b"[", b"]"),
    "json": (b"[", b"]"),
    "gettext": (b"(", b")"),
    "table": (b'"', b'"'),
    "workbook": (b"<is>", b"</is>"),
}
_ENCODINGS = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "utf-8-sig", "gbk"]
_LARGEST = 200_000


def mutate(seeds: list[bytes], *, kind: str, draw: random.Random) -> bytes:
    """Change one of the seeds a few times."""
    content = draw.choice(seeds)
    if kind == "workbook" and draw.random() < 0.9 and zipfile.is_zipfile(io.BytesIO(content)):
        return _mutate_part(content, draw)
    for _ in range(min(1 + int(draw.expovariate(0.8)), 12)):
        content = draw.choice(_MUTATIONS)(content, seeds, kind, draw)[:_LARGEST]
    return content


def _mutate_part(archive: bytes, draw: random.Random) -> bytes:
    """Change one part of a workbook; most often one that holds cells."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as file:
            parts = {name: file.read(name) for name in file.namelist()}
    except Exception:  # a seed that is broken on purpose
        return archive[: draw.randint(0, len(archive))]
    names = [name for name in parts if "sheet" in name or "tring" in name or "workbook" in name]
    name = draw.choice(names or list(parts) or [""])
    for _ in range(min(1 + int(draw.expovariate(0.8)), 12)):
        part = parts.get(name, b"")
        parts[name] = draw.choice(_MUTATIONS)(part, [part], "workbook", draw)[:_LARGEST]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for part, content in parts.items():
            file.writestr(part, content)
    return buffer.getvalue()


def _flip(content: bytes, _seeds: list[bytes], _kind: str, draw: random.Random) -> bytes:
    if not content:
        return content
    place = draw.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]


def _insert(content: bytes, _seeds: list[bytes], kind: str, draw: random.Random) -> bytes:
    place = draw.randint(0, len(content))
    words = draw.choice(
        [WORDS.get(kind, _ANYWHERE), WORDS.get(kind, _ANYWHERE), _ANYWHERE, _NUMBERS]
    )
    return content[:place] + draw.choice(words) + content[place:]


def _remove(content: bytes, _seeds: list[bytes], _kind: str, draw: random.Random) -> bytes:
    start, end = _range(content, draw)
    return content[:start] + content[end:]


def _repeat(content: bytes, _seeds: list[bytes], _kind: str, draw: random.Random) -> bytes:
    start, end = _range(content, draw)
    times = draw.choice([2, 3, 10, 300])
    return content[:end] + content[start:end] * times + content[end:]


def _splice(content: bytes, seeds: list[bytes], _kind: str, draw: random.Random) -> bytes:
    other = draw.choice(seeds)
    start, end = _range(other, draw)
    place = draw.randint(0, len(content))
    return content[:place] + other[start:end] + content[place:]


def _lines(content: bytes, _seeds: list[bytes], _kind: str, draw: random.Random) -> bytes:
    lines = content.split(b"\n")
    one, two = draw.randrange(len(lines)), draw.randrange(len(lines))
    match draw.randrange(3):
        case 0:
            lines[one], lines[two] = lines[two], lines[one]
        case 1:
            lines.insert(two, lines[one])
        case 2:
            del lines[one]
    return b"\n".join(lines)


def _number(content: bytes, _seeds: list[bytes], _kind: str, draw: random.Random) -> bytes:
    places = [place for place, byte in enumerate(content[:5000]) if 48 <= byte <= 57]
    if not places:
        return content
    place = draw.choice(places)
    return content[:place] + draw.choice(_NUMBERS) + content[place + 1 :]


def _nest(content: bytes, _seeds: list[bytes], kind: str, draw: random.Random) -> bytes:
    opening, closing = _BRACKETS[kind]
    start, end = _range(content, draw)
    times = draw.choice([1, 20, 120, 5000])
    return content[:start] + opening * times + content[start:end] + closing * times + content[end:]


def _recode(content: bytes, _seeds: list[bytes], _kind: str, draw: random.Random) -> bytes:
    text = content.decode("utf-8", errors="replace")
    encoding = draw.choice(
        ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "utf-8-sig", "gbk"]
    )
    return text.encode(encoding, errors="replace")


_MUTATIONS = [
    _flip, _flip, _insert, _insert, _insert, _remove, _remove, _repeat, _splice, _lines, _number,
    _nest, _recode,
]  # fmt: skip


def _range(content: bytes, draw: random.Random) -> tuple[int, int]:
    start = draw.randint(0, len(content))
    return start, min(len(content), start + int(draw.expovariate(1 / 20)))
