"""What a WARC record carries: HTTP head, transfer and content encodings, and whether it is HTML, text or PDF.

FastWARC undoes brotli and zstd; gzip and deflate go through zlib, which alone tells a cut-off stream from a whole one. Heads and
chunks are read here: FastWARC 2.0.1 takes no bare line feeds, no head over 32 kB, and gives nothing of a page whose chunks break
off. Archives often keep the headers of an encoding that the crawler has already undone, so a payload that does not decode is
taken as it is when it looks like text. A declared type is believed unless the first bytes contradict it (WHATWG MIME
sniffing, reduced to what matters here: PDF, markup, binary).
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable
from typing import Any

from curate.ingest.record import Record

HEADERS = ("content-language", "content-signal", "content-type", "tdm-policy", "tdm-reservation", "x-robots-tag")
_MAX_HEAD_BYTES = 1 << 18
_MAX_MEMBERS = 1000  # each copies what follows it
_MAX_VALUE_CHARACTERS = 1000
_MAX_FIRST_LINE_BYTES = 256
_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9a-fA-F]{1,8})[ \t]*(?:;[^\n]*)?\r?")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})\b")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9_.:-]+)", re.I)
_MARKUP = re.compile(rb"<(?:!doctype\s+html|html|head|body|title|meta|script|div|table|article|h1|p)[\s>/]", re.I)
_HTML = ("text/html", "application/xhtml+xml", "application/vnd.wap.xhtml+xml")
_TEXT = ("text/plain", "text/markdown", "text/x-markdown", "text/x-rst")
_VAGUE = ("", "unknown/unknown", "application/unknown", "application/octet-stream", "text", "*/*", "content/unknown", "text/xml", "application/xml")
_SNIFF_BYTES = 1024
_CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))


def record_of(raw: bytes, offset: int, length: int, max_bytes: int) -> Record:
    """Read one whole WARC record (header, block, without trailing lines) of a response, resource or conversion.

    The record's `kind` is html, text or pdf, and its content the decoded payload; or `dropped` says why there is none.
    """
    parts = _head(raw)
    if parts is None:
        return Record(offset, length, b"", "html", dropped="invalid_warc_header", size=len(raw))
    head, block = parts
    url = head.get("warc-target-uri", "").strip().strip("<>") or None
    record = Record(offset, length, b"", "html", url=url, date=head.get("warc-date"))
    truncated = head.get("warc-truncated")
    declared, transfer, coding = head.get("content-type", ""), "", ""
    status = _STATUS.match(block)
    if head.get("warc-type", "").lower() == "response" and (status or declared.lower().startswith("application/http")):
        parts = _head(block)
        if not status or parts is None:
            return _drop(record, "invalid_http", len(block))
        http, block = parts
        if http:
            record.meta = {"http": {name: http[name] for name in HEADERS if name in http}}
        if not 200 <= int(status[1]) < 300:
            return _drop(record, "http_error", len(block))
        declared, transfer, coding = http.get("content-type", ""), http.get("transfer-encoding", ""), http.get("content-encoding", "")
    elif declared:
        record.meta = {"http": {"content-type": declared}}
    payload, problem = decoded(block, transfer, coding, max_bytes)
    if truncated or problem == "cut_off":
        record.meta["truncated"] = truncated or "encoding"
    record.size = len(payload)
    if problem == "page_too_large" or problem == "undecodable_payload":
        return _drop(record, problem, len(block))
    kind = kind_of(payload, declared)
    if not kind:
        return _drop(record, "not_html", len(payload))
    record.kind, record.content = kind, payload
    charset = _CHARSET.search(declared)
    if charset:
        record.meta["charset"] = charset[1][:40]
    return record


def kind_of(payload: bytes, content_type: str) -> str:
    """Return html, text or pdf for what `payload` is, by its declared type and its first bytes; "" for anything else."""
    start = payload[:_SNIFF_BYTES]
    if b"%PDF-" in start[:64]:
        return "pdf"
    mime = content_type.split(";")[0].strip().lower()
    wide = start[:2] in (b"\xff\xfe", b"\xfe\xff") or "utf-16" in content_type.lower()
    if not wide and len(start) - len(start.translate(None, _CONTROL)) > len(start) // 100:
        return ""
    if mime in _HTML:
        return "html"
    markup = bool(_MARKUP.search(start))
    if mime in _TEXT:
        return "html" if markup and re.match(rb"\s*(?:<!--|<!doctype\s+html|<html)", start, re.I) else "text"
    return "html" if mime in _VAGUE and markup else ""


def decoded(block: bytes, transfer: str, coding: str, max_bytes: int) -> tuple[bytes, str]:
    """Undo transfer and content encodings of an HTTP block.

    Returns the payload and "", `cut_off` (what could be decoded is returned), `undecodable_payload` or `page_too_large`.
    """
    steps = [step.strip() for step in reversed(f"{coding},{transfer}".lower().split(",")) if step.strip() not in ("", "identity")]
    cut_off = ""
    for step in steps:
        undo = _DECODERS.get(step)
        if undo is None:
            return (block, cut_off) if _is_plain(block) else (b"", "undecodable_payload")
        found, whole = undo(block, max_bytes + 1)
        if not found and block:
            if whole:
                return b"", cut_off
            if step != "chunked" and not _is_plain(block):
                return b"", "undecodable_payload"
            continue  # the crawler has undone this step already
        block, cut_off = found, cut_off if whole else "cut_off"
        if len(block) > max_bytes:
            return b"", "page_too_large"
    return (b"", "page_too_large") if len(block) > max_bytes else (block, cut_off)


def _head(data: bytes) -> tuple[dict[str, str], bytes] | None:
    """Return the headers of a WARC record or an HTTP message, by lowercase name, and what comes after the blank line.

    Values of repeated headers are joined by commas, as HTTP allows. None when no blank line ends them.
    """
    end = _HEAD_END.search(data, 0, _MAX_HEAD_BYTES)
    if not end:
        return None
    found: dict[str, str] = {}
    name = ""
    for line in data[: end.start()].split(b"\n")[1:]:
        if line[:1] in (b" ", b"\t") and name:  # a folded line continues the one before
            text = line
        else:
            key, colon, text = line.partition(b":")
            name = key.decode("latin-1").strip().lower() if colon else ""
        if name:
            value = _text_of(text)
            folded = text is line
            found[name] = (f"{found[name]}{' ' if folded else ', '}{value}" if name in found else value)[:_MAX_VALUE_CHARACTERS]
    return found, data[end.end() :]


def _text_of(value: bytes) -> str:
    try:
        return value.decode("utf-8").strip()
    except UnicodeDecodeError:
        return value.decode("latin-1").strip()


def _drop(record: Record, reason: str, size: int) -> Record:
    record.dropped, record.content, record.size = reason, b"", size
    return record


def _is_plain(data: bytes) -> bool:
    start = data[:_SNIFF_BYTES]
    return len(start) == len(start.translate(None, _CONTROL))


def _inflated(data: bytes, limit: int, *windows: int) -> tuple[bytes, bool, bytes]:
    """Return up to `limit` bytes of a stream, whether it ended, and what follows it."""
    for window in windows:
        stream = zlib.decompressobj(wbits=window)
        try:
            found = stream.decompress(data, limit)
        except zlib.error:
            continue
        if stream.eof or window > 0 or len(found) == limit:  # a raw stream has no header: only its end tells it from chance
            return found, stream.eof, stream.unused_data
    return _before_damage(data, limit, windows[0]), False, b""


def _before_damage(data: bytes, limit: int, window: int) -> bytes:
    stream, found = zlib.decompressobj(wbits=window), bytearray()
    for at in range(0, len(data), 1024):
        try:
            found += stream.decompress(data[at : at + 1024], max(limit - len(found), 1))
        except zlib.error:
            break
        if len(found) >= limit:
            break
    return bytes(found)


def _streamed(reader: Any, limit: int) -> tuple[bytes, bool]:
    found = bytearray()
    try:
        while len(found) < limit:
            part = reader.read(min(1 << 16, limit - len(found)))
            if not part:
                return bytes(found), True
            found += part
    except OSError:
        return bytes(found), False
    return bytes(found), True


def _chunked(data: bytes, limit: int) -> tuple[bytes, bool]:
    """Undo chunking. FastWARC's reader throws away what it has when the chunks break off; crawlers cut pages off all the time."""
    found, at = bytearray(), 0
    while len(found) < limit:
        end = data.find(b"\n", at, at + _MAX_FIRST_LINE_BYTES)
        size = _CHUNK_SIZE.fullmatch(data, at, max(end, at))
        if end < 0 or not size:
            return bytes(found), False
        length = int(size[1], 16)
        if length == 0:
            return bytes(found), True
        chunk = data[end + 1 : end + 1 + length]
        found += chunk
        at = end + 1 + length
        if len(chunk) < length:
            return bytes(found), False
        at += 2 if data[at : at + 2] == b"\r\n" else 1
    return bytes(found), True


def _brotli(data: bytes, limit: int) -> tuple[bytes, bool]:
    from fastwarc.stream_io import BrotliReader

    return _streamed(BrotliReader(io.BytesIO(data)), limit)


def _zstd(data: bytes, limit: int) -> tuple[bytes, bool]:
    from fastwarc.stream_io import ZstdReader

    return _streamed(ZstdReader(io.BytesIO(data)), limit)


def _gzip(data: bytes, limit: int) -> tuple[bytes, bool]:
    """Undo gzip. Members in a row are one text (RFC 1952); anything else behind a member is padding."""
    found = bytearray()
    for _ in range(_MAX_MEMBERS):
        part, whole, data = _inflated(data, limit - len(found), 31)
        found += part
        if not whole or len(found) >= limit or not data.startswith(b"\x1f\x8b"):
            return bytes(found), whole
    return bytes(found), False


def _deflate(data: bytes, limit: int) -> tuple[bytes, bool]:
    return _inflated(data, limit, 15, -15)[:2]


_DECODERS: dict[str, Callable[[bytes, int], tuple[bytes, bool]]] = {
    "chunked": _chunked, "gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate, "br": _brotli, "zstd": _zstd,
}  # fmt: skip
