"""What readers yield: records, parts of a file that could not be read, and counts of what was passed over on purpose.

Every stored byte of an input ends up in one of the three, so that nothing is lost without a trace. A record carries bytes
(or text) and what the container says about them; turning it into a document is `curate.ingest.document`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Record:
    """One thing that may become a document.

    `kind` says how `content` is to be understood: html, text or pdf. `offset` and `length` locate it in its file, in bytes
    (rows for Parquet). `dropped`, when set, is the reason, known already while reading, why it cannot become a document;
    `content` is empty then, and `size` keeps what it weighed.
    """

    offset: int
    length: int
    content: bytes | str
    kind: str
    url: str | None = None
    date: str | None = None
    language: str | None = None
    license: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    dropped: str = ""
    size: int = 0  # bytes of the content as stored or received


@dataclass(slots=True)
class Unreadable:
    """A part of a file, `length` bytes (or rows) from `offset` on, that could not be read.

    `documents` is how many documents it held; None where nobody can know, and then `stored`, the bytes of the stored file that it
    takes up, is all that tells how large the loss is.
    """

    offset: int
    length: int
    error: str
    documents: int | None = 1
    stored: int = 0


@dataclass(slots=True)
class Skipped:
    """How many records of each type a reader passed over on purpose, such as WARC requests."""

    counts: dict[str, int]


@dataclass(slots=True)
class Dropped:
    """A record that was read but does not become a document: a fixed word that says why, and its size in bytes."""

    reason: str
    bytes: int = 0
