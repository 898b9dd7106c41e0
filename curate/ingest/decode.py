"""Bytes → valid Unicode text.

Order for a page: byte order mark; UTF-8; the charset of the HTTP header; that of a `<meta>`; resiliparse's detector (uchardet).
Each is believed unless a tenth of the bytes outside ASCII contradict it. UTF-8 comes before what is declared, because declarations are
wrong more often than text is broken, and text in another encoding is hardly ever valid UTF-8 by chance. The exception is UTF-16,
whose bytes may all be ASCII (Cyrillic): a header that says so is believed first where one byte in a hundred is a control character.
Labels mean what the WHATWG encoding standard says (latin-1 is Windows-1252). Undecodable bytes become U+FFFD and are counted.
"""

from __future__ import annotations

import codecs
import re

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_META = re.compile(rb"<meta[^>]{0,500}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{2,40})", re.I)
_XML = re.compile(rb"^\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9_.:-]{2,40})", re.I)
_META_BYTES = 4096
_MAX_BAD_SHARE = 0.1  # of the bytes outside ASCII; above it a charset is not believed
_STATEFUL = ("iso2022", "iso-2022", "hz")  # their bytes are all ASCII, but not their text
_CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
_ESCAPED = re.compile("[\udc80-\udcff]+")
_SURROGATE = re.compile("[\ud800-\udfff]")


def decode_page(data: bytes, charset: str | None) -> tuple[str, int]:
    """Return the text of a web page, whose HTTP header says `charset`, and the number of bytes that were replaced."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return decode_as(data[len(mark) :], encoding)
    start = data[:_META_BYTES]
    found = _META.search(start) or _XML.search(start)
    declared = [name for name in (known(charset), known(found[1].decode("ascii") if found else None)) if name]
    wide = known(charset) or ""  # a <meta> that can be read as ASCII is none in UTF-16
    if wide.startswith("utf-16") and len(data) - len(data.translate(None, _CONTROL)) > len(data) // 100:
        return decode_as(data, wide)
    stateful = [name for name in declared if name.startswith(_STATEFUL)]
    if not stateful:
        try:
            return data.decode("utf-8"), 0
        except UnicodeDecodeError:
            return _least_bad(data, ["utf-8", *declared])
    return _least_bad(data, stateful)


def decode_utf8(data: bytes) -> tuple[str, int]:
    """Return UTF-8 bytes as text, and how many bytes were replaced. A byte order mark is dropped."""
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode("utf-8"), 0
    except UnicodeDecodeError:
        return decode_as(data, "utf-8")


def decode_as(data: bytes, encoding: str) -> tuple[str, int]:
    """Return text, and the number of bytes that `encoding` has no character for; each run of them becomes one U+FFFD."""
    try:
        text = data.decode(encoding, "surrogateescape")
    except UnicodeDecodeError:  # some codecs fail at ASCII bytes, which cannot be escaped
        text = data.decode(encoding, "replace")
        return text, text.count("\ufffd")
    if not _ESCAPED.search(text):
        return text, 0
    kept = _ESCAPED.sub("\ufffd", text)
    return kept, sum(len(run) for run in _ESCAPED.findall(text))


def known(label: str | None) -> str | None:
    """Return the codec that browsers use for a charset label; None when they know none."""
    if not label:
        return None
    from resiliparse.parse.encoding import map_encoding_to_html5

    name = map_encoding_to_html5(label.strip().strip("\"'"), fallback_utf8=False)
    try:
        return codecs.lookup(name).name if name else None
    except LookupError:
        return None


def clean(text: str) -> tuple[str, int]:
    """Return `text` as Arrow and Parquet can hold it, and how many characters that took: NULs go, lone surrogates become U+FFFD."""
    removed = text.count("\0")
    if removed:
        text = text.replace("\0", "")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")  # joins the halves of a pair
        text, replaced = _SURROGATE.subn("\ufffd", text)
        removed += replaced
    return text, removed


def _least_bad(data: bytes, likely: list[str]) -> tuple[str, int]:
    from resiliparse.parse.encoding import detect_encoding

    outside = max(len(data) - len(data.translate(None, bytes(range(128, 256)))), 1)
    best: tuple[str, int] | None = None
    for name in [*dict.fromkeys(likely), None]:
        encoding = name or known(detect_encoding(data)) or "utf-8"
        text, bad = decode_as(data, encoding)
        if bad <= _MAX_BAD_SHARE * outside:
            return text, bad
        if best is None or bad < best[1]:
            best = text, bad
    return best if best is not None else decode_as(data, "utf-8")
