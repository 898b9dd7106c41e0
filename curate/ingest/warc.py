"""WARC files (ISO 28500): response, resource and conversion records become documents; all else is counted and passed over.

Compression members and records are cut here, not by FastWARC's iterator: on a file with damage it ends early, hands out cut-off
records as whole ones, and lets a wrong Content-Length swallow the records that follow, without an error (measured with version
2.0.1). Here a record counts only when its bytes end where its Content-Length says, and its member's checksum holds; everything else becomes
one `Unreadable` per damaged region, and reading goes on at the next member, or the next line, that starts a record.

`offset` and `length` are those of the stored file, so that a record can be fetched by a range request. Where a member holds
several records, against the standard's advice, number n of them (from 0) has the offset `member + n * 2**40`, and its
`length` is that of its decompressed bytes. Memory is bound by the largest accepted page, not by the file. What is traded away: a record that
continues in a second member (`bgzip`) is unreadable, and in a shared member records stand before their checksum is known.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from curate.errors import InputError
from curate.ingest.compressed import PLAIN, Damaged, Member, Stored, member_at, next_member, open_stored
from curate.ingest.payload import record_of
from curate.ingest.record import Record, Skipped, Unreadable
from curate.specs.workflow import Ingest

_INDEX_UNIT = 1 << 40
_MAX_HEAD_BYTES = 1 << 16
_MARGIN = 1 << 20  # HTTP head and chunking around the largest page
_VERSION = re.compile(rb"WARC/\d+\.\d+[ \t]*\r?\n")
_SYNC = re.compile(rb"WARC/\d+\.\d+[ \t]{0,8}\r?\n(?=[A-Za-z][A-Za-z-]{1,60}[ \t]{0,8}:)")
_VERSION_BYTES = 16  # enough to tell a version line
_SYNC_OVERLAP = 128  # longer than what it matches
_LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*(\d{1,18})[ \t]*\r?$", re.I | re.M)
_TYPE = re.compile(rb"^warc-type[ \t]*:[ \t]*([a-z]+)[ \t]*\r?$", re.I | re.M)
_DNS = re.compile(rb"^(?:warc-target-uri[ \t]*:[ \t]*<?dns:|content-type[ \t]*:[ \t]*text/dns)", re.I | re.M)
_DOCUMENTS = ("response", "resource", "conversion")
_KNOWN = ("request", "metadata", "warcinfo", "revisit", "continuation")


@dataclass(slots=True)
class _Cut:
    """Bytes `start` to `end` of a member's decompressed contents: a record, or with `error` a region that holds none."""

    start: int
    end: int
    kind: str = ""
    raw: bytes = b""  # the record, without the blank lines after it; b"" when it is too large or not wanted
    error: str = ""
    done: int = 0  # how far the stored file had been decompressed when this was found


def read(path: Path, options: Ingest) -> Iterator[Record | Unreadable | Skipped]:
    """Yield the records of a WARC file, plain, .gz or .zst, in the order of the file. Never raises for bad data."""
    keep, skipped = options.extract.max_bytes + _MARGIN, Counter[str]()
    with path.open("rb") as file:
        stored = open_stored(file, path)
        if stored.size == 0:
            yield Unreadable(0, 0, "empty file")
            return
        at = 0
        while at < stored.size:
            member = member_at(stored, at)
            start, known, error = at, at, ""
            if member is None:
                error = f"not a {stored.codec} member"
            else:
                try:
                    for offset, length, cut in _located(stored, member, keep):
                        yield from _told(offset, length, cut, _stored_bytes(cut, stored, at), options.extract.max_bytes, skipped)
                        start, known = offset + _INDEX_UNIT, max(at, cut.done)
                except Damaged as damage:
                    error = str(damage)
            if not error and member is not None:
                at = member.end
                continue
            following = next_member(stored, at + (0 if member is None else 1), _starts_record)
            end = stored.size if following is None else following
            yield Unreadable(start, end - at, error, None, max(end - known, 0))
            at = end
    if skipped:
        yield Skipped(dict(sorted(skipped.items())))


def fetch(path: Path, offset: int, length: int) -> bytes:
    """Return one record, decompressed, WARC header included, by the offset and length that `read` gave it.

    Raises InputError when no whole record lies there.
    """
    number, position = divmod(offset, _INDEX_UNIT)
    with path.open("rb") as file:
        stored = open_stored(file, path)
        try:
            if stored.codec == PLAIN:
                stored.size = min(stored.size, offset + length)
                number, position = 0, offset
            member = member_at(stored, position)
            cuts = _cuts(member.chunks, 1 << 62, every=True) if member else iter(())
            for n, cut in enumerate(cuts):
                if n == number and not cut.error:
                    return cut.raw
        except Damaged as damage:
            raise InputError(str(damage), where=f"{path} at {offset}") from damage
    raise InputError("holds no whole WARC record", where=f"{path} at {offset}", hint="offset and length are those of the document's origin")


def _starts_record(data: bytes) -> bool:
    return data.startswith(b"WARC/")


def _stored_bytes(cut: _Cut, stored: Stored, start: int) -> int:
    """Return how much of the file a cut takes up: in the member that begins at `start`, as far as the rate so far tells."""
    size = cut.end - cut.start
    return size if stored.codec == PLAIN else size * max(cut.done - start, 0) // max(cut.end, 1)


def _told(offset: int, length: int, cut: _Cut, lost: int, max_bytes: int, skipped: Counter[str]) -> Iterator[Record | Unreadable]:
    if cut.error:
        yield Unreadable(offset, length, cut.error, None, lost)
    elif cut.kind not in _DOCUMENTS:
        skipped[cut.kind] += 1
    elif not cut.raw:
        yield Record(offset, length, b"", "html", dropped="page_too_large", size=cut.end - cut.start)
    else:
        yield record_of(cut.raw, offset, length, max_bytes)


def _located(stored: Stored, member: Member, keep: int) -> Iterator[tuple[int, int, _Cut]]:
    """Yield (offset, length, cut) of the stored file. A cut is held back until the next begins, or the member is known to be whole."""
    plain = stored.codec == PLAIN
    held: _Cut | None = None
    number, damage = 0, None
    cuts = _cuts(member.chunks, keep)
    while True:
        try:
            cut = next(cuts, None)
        except Damaged as error:
            cut, damage = None, error
        if held is not None:
            alone = not plain and number == 0 and cut is None and damage is None
            offset = member.offset + (held.start if plain else number * _INDEX_UNIT)
            yield offset, member.end - member.offset if alone else held.end - held.start, held
            number += 1
        if damage is not None:
            raise damage
        if cut is None:
            return
        cut.done = stored.done
        held = cut


class _Window:
    """A stream of chunks as a buffer that slides: `data` starts at `start` of the stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks, self.data, self.start = chunks, bytearray(), 0

    def fill(self) -> bool:
        """Append one more chunk; False at the end of the stream."""
        chunk = next(self.chunks, None)
        if chunk is None:
            return False
        self.data += chunk
        return True

    def holds(self, size: int) -> bool:
        """Say whether `size` bytes are there, reading on as far as needed."""
        while len(self.data) < size:
            if not self.fill():
                return False
        return True

    def drop(self, size: int) -> None:
        del self.data[:size]
        self.start += size


def _cuts(chunks: Iterator[bytes], keep: int, every: bool = False) -> Iterator[_Cut]:
    """Cut decompressed bytes into records and damaged regions, which together cover them. `every`: keep unwanted records' bytes too."""
    window = _Window(chunks)
    while True:
        while window.holds(1) and window.data[0] in b"\r\n":
            window.drop(1)
        if not window.data:
            return
        yield _record(window, keep, every)


def _record(window: _Window, keep: int, every: bool) -> _Cut:
    """Cut the record, or the damaged region, that starts where the window does."""
    start = window.start
    window.holds(_VERSION_BYTES)
    if not _VERSION.match(window.data):
        return _to_next_record(window, start, "not a WARC record")
    head = _head_length(window)
    if head < 0:
        return _to_next_record(window, start, "WARC header does not end")
    header = bytes(window.data[:head])
    length, kind = _LENGTH.search(header), _kind(header)
    if length is None:
        return _to_next_record(window, start, "WARC header has no valid Content-Length")
    size = head + int(length[1])
    raw = b""
    if size <= keep:
        if not window.holds(size):
            return _to_next_record(window, start, "record is cut off, or its Content-Length is too large")
        if every or kind in _DOCUMENTS:
            with memoryview(window.data) as view:
                raw = bytes(view[:size])
    elif not _pass_over(window, size):
        return _Cut(start, window.start, error="record is cut off, or its Content-Length is too large")
    at = size if size <= keep else 0
    after = _blank_lines(window, at)
    closed = window.data[at : at + 4] == b"\r\n\r\n" or after == len(window.data) or _VERSION.match(window.data, after)
    if not closed:
        return _to_next_record(window, start, "record does not end where its Content-Length says")
    window.drop(after)
    return _Cut(start, window.start, kind, raw)


def _kind(header: bytes) -> str:
    found = _TYPE.search(header)
    kind = found[1].decode("ascii").lower() if found else "unknown"
    if kind in _DOCUMENTS:
        return "dns" if _DNS.search(header) else kind
    return kind if kind in _KNOWN else "unknown"


def _head_length(window: _Window) -> int:
    """Return the length of the WARC header with its closing blank line; -1 when it does not end within reason."""
    while True:
        ends = [(at, size) for end, size in ((b"\r\n\r\n", 4), (b"\n\n", 2)) if (at := window.data.find(end, 0, _MAX_HEAD_BYTES)) >= 0]
        if ends:
            at, size = min(ends)
            return at + size
        if len(window.data) >= _MAX_HEAD_BYTES or not window.fill():
            return -1


def _blank_lines(window: _Window, at: int) -> int:
    """Return where the line ends after a record stop, with enough read to see what follows them."""
    while True:
        if not window.holds(at + 1):
            return at
        if window.data[at] not in b"\r\n":
            window.holds(at + _VERSION_BYTES)
            return at
        at += 1


def _pass_over(window: _Window, size: int) -> bool:
    """Drop `size` bytes without holding them; False when there are fewer."""
    while size > len(window.data):
        size -= len(window.data)
        window.drop(len(window.data))
        if not window.fill():
            return False
    window.drop(size)
    return True


def _to_next_record(window: _Window, start: int, error: str) -> _Cut:
    """Move to what looks like the next record's first two lines, or to the end; all before it is one damaged region."""
    at = 1
    while True:
        found = _SYNC.search(window.data, at)
        if found:
            window.drop(found.start())
            return _Cut(start, window.start, error=error)
        passed = max(len(window.data) - _SYNC_OVERLAP, 0)
        at = 0 if passed else at  # else the region's own first line would end it
        window.drop(passed)
        if not window.fill():
            window.drop(len(window.data))
            return _Cut(start, window.start, error=error)
