"""The door of this room: which files there are, what is in them, and how a record becomes a document.

input_files(patterns, root) → files
read(kind, path, options)   → Record | Unreadable | Skipped, in the order of the file
to_document(record, …)      → a row, or Dropped
column(value)               → a string of the input, as a column can hold it
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from curate.ingest import files, tables, warc
from curate.ingest.document import column, to_document
from curate.ingest.paths import input_files
from curate.ingest.record import Record, Skipped, Unreadable
from curate.specs.workflow import Ingest

__all__ = ["column", "input_files", "read", "to_document"]


def read(kind: str, path: Path, options: Ingest) -> Iterator[Record | Unreadable | Skipped]:
    """Read one file; `kind` is warc, jsonl, parquet or files.

    Bad data inside a file is yielded as Unreadable and reading goes on. Raises InputError when the file cannot be what the spec
    says: a column that is not there, or a file that cannot be opened.
    """
    match kind:
        case "warc":
            return warc.read(path, options)
        case "jsonl":
            return tables.read_jsonl(path, options)
        case "parquet":
            return tables.read_parquet(path, options)
        case "files":
            return files.read(path, options)
    raise ValueError(f"no reader for {kind}")
