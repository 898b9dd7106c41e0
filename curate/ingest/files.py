"""Plain files: one document per file. The path is its identity; there is no URL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from curate.ingest.decode import decode_utf8
from curate.ingest.record import Record, Unreadable
from curate.specs.workflow import Ingest

_SNIFF_BYTES = 8192
_MAX_BYTES = 256 << 20  # a text column's batch holds less than 2 GB


def read(path: Path, options: Ingest) -> Iterator[Record | Unreadable]:
    """Yield the whole file as one record of UTF-8 text; invalid bytes are replaced and counted."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_SNIFF_BYTES)
        error = "empty file" if not start else "binary file" if b"\0" in start else "file too large" if size > _MAX_BYTES else ""
        if error:
            yield Unreadable(0, size, error)
            return
        data = start + file.read()
    text, replaced = decode_utf8(data)
    meta = {"replaced_bytes": replaced} if replaced else {}
    yield Record(0, len(data), text, "text", meta=meta, size=len(data))
