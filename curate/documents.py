"""The document schema, ids, and lineage.

A document is one row of an Arrow table, never a Python object. Its id is derived from where it came from
(source, file, offset), so the same input always gets the same ids, whatever the engine or the order of work;
`parent` links a row to the one that it was made from (rephrased text, for example). The price: renaming a
source or moving a file within it gives new ids.
"""

from __future__ import annotations

import hashlib

import pyarrow as pa

ORIGIN = pa.struct([("file", pa.string()), ("offset", pa.int64()), ("length", pa.int64())])

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("date", pa.string()),  # ISO 8601, as the input has it
        pa.field("claimed_language", pa.string()),  # what the input says of itself; `language` is the annotator's
        pa.field("claimed_license", pa.string()),  # a claim, not evidence
        pa.field("origin", ORIGIN, nullable=False),
        pa.field("parent", pa.string()),
        pa.field("meta", pa.string(), nullable=False),  # a JSON object, keys sorted
    ]
)


def document_id(source: str, file: str, offset: int) -> str:
    """Return the id, 32 hex digits, of the document of `source` that starts at `offset` of `file`.

    `file` is the path relative to the fixed part of the input pattern, so a moved input folder keeps its ids.
    `offset` counts bytes in the stored file for WARC, bytes of the decompressed text for JSON lines, and
    rows for Parquet.
    """
    return hashlib.blake2b(f"{source}\0{file}\0{offset}".encode(), digest_size=16).hexdigest()


def child_id(parent: str, role: str) -> str:
    """Return the id of a document made from `parent`; `role` says how (`rephrase/wikipedia`, for example)."""
    return hashlib.blake2b(f"{parent}\0{role}".encode(), digest_size=16).hexdigest()
