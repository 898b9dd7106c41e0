"""JSON lines (plain, .gz, .zst) and Parquet: one document per row.

The spec's `columns` says which fields become columns; all others, and the row's own `id`, go to `meta`. A line or row that
cannot be read costs only itself; a compressed file that breaks off costs what comes after the break, and says so. A line that holds
many documents (an array, objects without line ends) counts as so many, a long one that is noise as what its bytes may have held, and a long
one that begins a single document as one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from curate.errors import InputError
from curate.ingest.compressed import Damaged, Stored, chunks_of, open_stored
from curate.ingest.record import Record, Skipped, Unreadable
from curate.ingest.values import rows_of
from curate.specs.workflow import Columns, Ingest

_MAX_LINE_BYTES = 256 << 20  # a text column's batch holds less than 2 GB
_ROWS_WITHOUT_TEXT = 100  # after so many rows without it, the text field's name must be wrong
_TOO_LONG = "line is too long"
_LONG_LINE_BYTES = 1 << 17  # noise of this length may have been many documents
_CONTROLS_IN_NOISE = 1e-3  # of its characters; text has almost none
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_HOLE = "\ufffd" * 512  # a sector that a disk has lost
_BEGINS_OBJECT = re.compile(r'\s*\{\s*"')
_SPACE = re.compile(r"[ \t\r\n]*")
_BATCH_ROWS = 256
_BATCH_BYTES = 64 << 20
_NAMED = ("url", "date", "language", "license")


def read_jsonl(path: Path, options: Ingest) -> Iterator[Record | Unreadable | Skipped]:
    """Yield the lines of a file. Offsets and lengths are bytes of the decompressed text.

    Raises InputError when none of the first 100 objects has the text field. Long lines that cannot be read come last: what they take up of
    a compressed file is known at its end.
    """
    with path.open("rb") as file:
        stored = open_stored(file, path)
        if stored.size == 0:
            yield Unreadable(0, 0, "empty file")
            return
        blank, rows, found, bad, end, broken = 0, 0, False, 0, 0, False
        long: list[Unreadable] = []
        held: list[Record] = []  # rows around documents; whether they are about the documents, or hold them, what follows tells
        for offset, size, line, error in _lines(chunks_of(stored)):
            end = offset + size
            if not error and (not line or line.isspace()):
                blank += 1
                continue
            broken = error not in ("", _TOO_LONG)
            if broken:
                item: Record | Unreadable = _broken(offset, size, error, bad, stored)
            else:
                item = Unreadable(offset, size, error, None) if error else _line(offset, line, options.columns)
            if isinstance(item, Unreadable) and not broken:
                bad += size if item.documents in (None, 1) else 0  # several are documents that were counted, and no noise
                if item.documents is None:
                    long.append(item)
                    continue
            if isinstance(item, Record) and not found:
                rows, found = rows + 1, item.dropped != "no_text_field"
                if rows == _ROWS_WITHOUT_TEXT and not found:
                    raise _missing(path, options.columns.text, sorted(item.meta))
                if found:
                    yield from held
                    held = []
                elif _inside(item, options.columns.text):
                    held.append(item)
                    continue
            yield item
        for around in held:
            error = "an object around documents, where one per line is read"
            yield Unreadable(around.offset, around.length, error, _inside(around, options.columns.text))
        for item in long:
            item.stored = 0 if broken else stored.size * item.length // end  # where the stream broke, its error counts them
            yield item
        if blank:
            yield Skipped({"blank_line": blank})


def read_parquet(path: Path, options: Ingest) -> Iterator[Record | Unreadable | Skipped]:
    """Yield the rows of a file, one row group at a time. Offsets are row numbers.

    Raises InputError when a column that the spec names is not there, and when two have one name.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = path.stat().st_size
    if size == 0:
        yield Unreadable(0, 0, "empty file")
        return
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)  # where pages have one; a tenth of the time to decode them
    except (pa.ArrowException, OSError):
        yield Unreadable(0, size, "not a Parquet file", None, size)
        return
    with file:
        _check_columns(path, options.columns, file.schema_arrow.names)
        start = 0
        for group in range(file.metadata.num_row_groups):
            rows, stored = file.metadata.row_group(group).num_rows, file.metadata.row_group(group).total_byte_size
            at_once = max(1, min(_BATCH_ROWS, _BATCH_BYTES * rows // max(stored, 1)))
            at = start
            try:
                for batch in file.iter_batches(at_once, row_groups=[group]):
                    yield from _rows(batch, at, options.columns)
                    at += batch.num_rows
            except (pa.ArrowException, OSError):
                pass  # told below, as is a group with fewer rows than the footer says
            if at < start + rows:
                yield Unreadable(at, start + rows - at, "row group is damaged", start + rows - at)
            start += rows


def _lines(chunks: Iterator[bytes]) -> Iterator[tuple[int, int, bytes, str]]:
    """Yield (offset, size, line, error); with an error, the line is not whole."""
    offset, size, error = 0, 0, ""
    parts: list[bytes] = []
    try:
        for chunk in chunks:
            first, *others = chunk.split(b"\n")
            size += len(first)
            parts.append(first)
            for piece in others:
                yield offset, size, b"".join(parts), _TOO_LONG if size > _MAX_LINE_BYTES else ""
                offset, size, parts = offset + size + 1, len(piece), [piece]
            if size > _MAX_LINE_BYTES:
                parts = []
    except Damaged as damage:
        error = str(damage)
    if size or error:
        yield offset, size, b"".join(parts), error or (_TOO_LONG if size > _MAX_LINE_BYTES else "")


def _broken(offset: int, size: int, error: str, bad: int, stored: Stored) -> Unreadable:
    """Tell of all that was lost where the stream broke.

    That is what follows, and of what came before the share that is in this line and in `bad` bytes of others that may be noise:
    inflate often notices damage only at the checksum, after megabytes of noise.
    """
    return Unreadable(offset, size, error, None, stored.size - stored.done + stored.done * (bad + size) // max(offset + size, 1))


def _line(offset: int, line: bytes, columns: Columns) -> Record | Unreadable:
    data = line.removeprefix(b"\xef\xbb\xbf") if offset == 0 else line
    try:
        text, error = data.decode("utf-8"), ""
    except UnicodeDecodeError:
        text, error = data.decode("utf-8", "replace"), "invalid UTF-8"
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        objects, end = _objects_in(text)
        several = "CR line ends, where LF is read" if "\r" in text.strip() else "several objects on one line, where one is read"
        known = _is_short(text, end if objects else 0) or (not objects and _is_one(text, columns.text))
        return Unreadable(offset, len(line), error or (several if objects > 1 else "invalid JSON"), max(objects, 1) if known else None)
    if isinstance(row, dict):
        return Unreadable(offset, len(line), error) if error else _record(offset, len(line), row, columns)
    objects = sum(isinstance(item, dict) for item in row) if isinstance(row, list) else 0
    error = error or ("a JSON array, where one object per line is read" if objects else "not a JSON object")
    return Unreadable(offset, len(line), error, objects or (None if len(line) > _LONG_LINE_BYTES else 1))


def _objects_in(text: str) -> tuple[int, int]:
    """Return how many JSON objects stand one after another at the beginning of `text`, and where what cannot be read begins."""
    decoder, count, at = json.JSONDecoder(), 0, 0
    while match := _SPACE.match(text, at):
        try:
            value, at = decoder.raw_decode(text, match.end())
        except (ValueError, RecursionError):
            break
        count += isinstance(value, dict)
    return count, at


def _is_short(text: str, start: int) -> bool:
    """Tell whether what stands from `start` on is too short to have held many documents."""
    return len(text) - start <= _LONG_LINE_BYTES and len(text[start:].encode()) <= _LONG_LINE_BYTES


def _is_one(text: str, name: str) -> bool:
    """Tell whether a line that is no JSON held one document: it begins an object, and has the text field once at most, and no noise."""
    if not _BEGINS_OBJECT.match(text) or _HOLE in text or _has_more(_CONTROLS, text, int(_CONTROLS_IN_NOISE * len(text))):
        return False
    names = "|".join(re.escape(json.dumps(name, ensure_ascii=ascii)) for ascii in (False, True))
    field = re.compile(rf"(?<!\\)(?:{names})\s*:")  # within a string, quotes have a backslash
    return not _has_more(field, text, 1)


def _has_more(pattern: re.Pattern[str], text: str, limit: int) -> bool:
    """Tell whether `text` has more than `limit` matches, without holding them: it may be 256 MB of zeros."""
    return sum(1 for _ in islice(pattern.finditer(text), limit + 1)) > limit


def _inside(record: Record, name: str) -> int:
    """Return how many objects with the text field a list in a row without it holds."""
    lists = [value for value in record.meta.values() if isinstance(value, list)]
    return max((sum(isinstance(item, dict) and name in item for item in items) for items in lists), default=0)


def _record(offset: int, length: int, row: dict[str, Any], columns: Columns) -> Record:
    record = Record(offset, length, "", "text", size=length)  # of a line; a row's size is set by the caller
    absent = columns.text not in row
    text = row.pop(columns.text, None)
    for name in _NAMED:
        value = row.get(getattr(columns, name))
        if isinstance(value, str | int | float | date | datetime):
            setattr(record, name, value.isoformat() if isinstance(value, date) else str(value))
            del row[getattr(columns, name)]
    record.meta = row
    if isinstance(text, str):
        record.content = text
    else:
        record.dropped = "no_text_field" if absent else "no_text" if text is None else "text_not_a_string"
    return record


def _rows(batch: Any, start: int, columns: Columns) -> Iterator[Record | Unreadable]:
    """Yield the rows of an Arrow batch; one that holds invalid UTF-8 costs only itself."""
    try:
        rows = rows_of(batch)
    except ValueError:
        rows = None
    for i in range(batch.num_rows):
        try:
            row = rows[i] if rows is not None else rows_of(batch.slice(i, 1))[0]
        except ValueError:
            yield Unreadable(start + i, 1, "invalid value")
            continue
        record = _record(start + i, 1, row, columns)
        record.size = len(str(record.content).encode("utf-8"))
        yield record


def _check_columns(path: Path, columns: Columns, present: list[str]) -> None:
    standard = Columns()
    named = [columns.text, *(getattr(columns, name) for name in _NAMED if getattr(columns, name) != getattr(standard, name))]
    for name in named:
        if name not in present:
            raise _missing(path, name, present)
    twice = next((name for name in present if present.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"has two columns '{twice}'", where=str(path), hint="a row can keep one of them: rename the other in the file")


def _missing(path: Path, name: str, present: list[str]) -> InputError:
    what = f"has no column '{name}'; it has {', '.join(present[:30]) or 'none'}"
    return InputError(what, where=str(path), hint="name the right one under columns: in ingest")
