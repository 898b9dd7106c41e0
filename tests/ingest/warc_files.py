"""WARC files as crawlers write them, and as disks and proxies leave them. No library: what is written here is what is read."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

from curate.ingest.read import read
from curate.ingest.record import Record, Skipped, Unreadable
from curate.specs.workflow import Ingest

WARC = Ingest(warc="*.warc.gz")
PAGE = b"<html><body><p>Page %d has a paragraph that says something, and says it in a whole sentence.</p></body></html>"


def block(http: bytes, kind: bytes = b"response", url: bytes = b"http://example.org/", extra: bytes = b"", length: bytes | None = None) -> bytes:
    """Return one WARC record; `length` overrides the true Content-Length."""
    media = b"application/http; msgtype=" + kind if kind in (b"response", b"request") else b"text/plain"
    if b"Content-Type:" in extra:
        kind_line = b""
    else:
        kind_line = b"Content-Type: " + media + b"\r\n"
    size = str(len(http)).encode() if length is None else length
    head = b"WARC/1.0\r\nWARC-Type: " + kind + b"\r\nWARC-Target-URI: " + url + b"\r\nWARC-Date: 2024-05-17T23:31:22Z\r\n" + kind_line + extra
    return head + b"Content-Length: " + size + b"\r\n\r\n" + http + b"\r\n\r\n"


def http(body: bytes, headers: bytes = b"Content-Type: text/html\r\n", status: bytes = b"200 OK") -> bytes:
    """Return an HTTP response."""
    return b"HTTP/1.1 " + status + b"\r\n" + headers + b"\r\n" + body


def page(number: int, **options: bytes) -> bytes:
    """Return the record of page `number`."""
    return block(http(PAGE % number), url=b"http://example.org/%d" % number, **options)


def members(records: list[bytes]) -> list[bytes]:
    """Compress each record as a gzip member of its own."""
    return [gzip.compress(record, mtime=0) for record in records]


def zstd(data: bytes, dictionary: bytes | None = None) -> bytes:
    """Return one zstd frame with its checksum; with a `dictionary`, one that needs it."""
    from fastwarc.stream_io import ZstdWriter

    sink = io.BytesIO()
    writer = ZstdWriter(sink, dictionary=dictionary)
    writer.write(data)
    writer.close()
    return sink.getvalue()


def write(folder: Path, data: bytes, name: str = "a.warc.gz") -> Path:
    """Write a file and return its path."""
    path = folder / name
    path.write_bytes(data)
    return path


def read_all(path: Path, options: Ingest = WARC) -> tuple[list[Record], list[Unreadable], dict[str, int]]:
    """Read a WARC file: records, unreadable regions, and counts of what was skipped."""
    items = list(read("warc", path, options))
    counts = [item.counts for item in items if isinstance(item, Skipped)]
    return [r for r in items if isinstance(r, Record)], [u for u in items if isinstance(u, Unreadable)], counts[0] if counts else {}


def numbers(records: list[Record]) -> list[int]:
    """Return the numbers of the pages, by their addresses."""
    return [int((record.url or "").rsplit("/", 1)[1]) for record in records]
