"""Stored files as members (gzip members, zstd frames, or the whole plain file), each a stream of decompressed chunks.

A reader must know exactly which stored bytes a record came from, and where to go on after damage. Libraries that present
one decompressed stream hide both: FastWARC 2 ends silently at a truncated last member, and stops for good at a bad one.
So the boundaries are found here: for gzip by zlib, which says where a member ended; for zstd by walking the block headers of
RFC 8878, with FastWARC's reader for the contents (the zstandard package's for windows above 128 MB). The price is speed, half of it
zlib's: 1,600 real pages of 142 kB per second and core against FastWARC's 4,000, where extraction then does about 300.
"""

from __future__ import annotations

import codecs
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from curate.errors import InputError, MissingExtra

CHUNK = 1 << 18
_FIRST_BYTES = 1 << 15  # most members are small, and what is read beyond their end is read again
_ZSTD_CHUNK = 1 << 16  # what is lost before damage is at most so much
GZIP, ZSTD, PLAIN = "gzip", "zstd", "plain"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
_FOREIGN = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"7z\xbc\xaf\x27\x1c": "7-Zip", b"PK\x03\x04": "zip"}  # no input begins with these
_DICTIONARY = b"\x5d\x2a\x4d\x18"  # the skippable frame that holds the dictionary of a .warc.zst
_MAX_DICTIONARY_BYTES = 16 << 20
_PROBE_BYTES = 4096  # compressed data of this length has control characters; a name alone does not make text compressed
_WARC = re.compile(rb"WARC/\d+\.\d+[ \t]{0,8}\r?\n[A-Za-z][A-Za-z-]{1,60}[ \t]{0,8}:")
_NOT_IN_TEXT = bytes(set(range(32)) - set(b"\t\n\f\r\x1b"))
_NARROW_WINDOW = 1 << 27  # larger ones FastWARC's decoder refuses
_MAX_FRAME_HEADER = 14  # bytes, after the magic number
_MAX_WINDOW = 1 << 31  # libzstd takes none larger


class Damaged(Exception):
    """Stored bytes that do not decompress."""


@dataclass(slots=True)
class Member:
    """One independently compressed stretch of a file. `end`, the offset after it, is known once `chunks` is exhausted."""

    offset: int
    chunks: Iterator[bytes]  # raises Damaged
    end: int = -1


@dataclass(slots=True)
class Stored:
    """An open file, how it is compressed, and the dictionary that its zstd frames need, if any.

    `done` is the offset up to which stored bytes have been decompressed, to within a buffer: after damage, what lies beyond is lost.
    """

    file: BinaryIO
    size: int
    codec: str
    dictionary: bytes | None = None
    done: int = 0


def open_stored(file: BinaryIO, path: Path) -> Stored:
    """Tell the compression by the first bytes; by the name where these are damaged, and not text that a client has decompressed already.

    Raises InputError for a compression that is not read.
    """
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(_PROBE_BYTES)
    foreign = next((name for magic, name in _FOREIGN.items() if start.startswith(magic)), None)
    if foreign is not None:
        hint = "compress it by gzip or zstd instead, or write a pattern that does not match it"
        raise InputError(f"is compressed by {foreign}, which is not read", where=str(path), hint=hint)
    if start[:3] == b"\x1f\x8b\x08":
        codec = GZIP
    elif start[:4] == _ZSTD_MAGIC or _SKIPPABLE.match(start):
        codec = ZSTD
    elif _WARC.match(start) or _is_text(start):
        codec = PLAIN
    else:
        codec = {".gz": GZIP, ".zst": ZSTD}.get(path.suffix.lower(), PLAIN)
    stored = Stored(file, size, codec)
    if start[:4] == _DICTIONARY:
        stored.dictionary = _read_dictionary(stored)
    return stored


def _is_text(start: bytes) -> bool:
    """Tell whether the first bytes of a file are text; a disk leaves zeros, spaces or 0xff where it lost the first members of an archive."""
    if start != start.translate(None, _NOT_IN_TEXT) or (len(start) == _PROBE_BYTES and not start.strip()):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return True


def member_at(stored: Stored, offset: int) -> Member | None:
    """Return the member that starts at `offset`; None when none does. Its chunks must be read before another member's."""
    stored.done = offset
    if stored.codec == PLAIN:
        member = Member(offset, iter(()), stored.size)
        member.chunks = _slice(stored.file, offset, stored.size)
        return member
    stored.file.seek(offset)
    start = stored.file.read(4)
    if stored.codec == GZIP:
        if start[:3] != b"\x1f\x8b\x08":
            return None
        member = Member(offset, iter(()))
        member.chunks = _inflate(stored, member)
        return member
    if _SKIPPABLE.match(start):
        length = _skippable_length(stored.file, offset)
        return Member(offset, iter(()), offset + length) if offset + length <= stored.size else None
    if start != _ZSTD_MAGIC:
        return None
    member = Member(offset, iter(()))
    member.chunks = _zstd(stored, member)
    return member


def next_member(stored: Stored, offset: int, accept: Callable[[bytes], bool]) -> int | None:
    """Return where, at or after `offset`, the next member starts whose first bytes `accept` likes; None: nowhere."""
    magic = _ZSTD_MAGIC if stored.codec == ZSTD else b"\x1f\x8b\x08"
    base, tail = offset, b""
    while True:
        stored.file.seek(base + len(tail))
        chunk = stored.file.read(CHUNK)
        window = tail + chunk
        at = window.find(magic)
        while at >= 0:
            if accept(_first_bytes(stored, base + at)):
                return base + at
            at = window.find(magic, at + 1)
        if not chunk:
            return None
        keep = min(len(magic) - 1, len(window))
        base, tail = base + len(window) - keep, window[len(window) - keep :]


def chunks_of(stored: Stored) -> Iterator[bytes]:
    """Yield the decompressed contents of a whole file. Raises Damaged where they end too early or go wrong."""
    offset = 0
    while offset < stored.size:
        member = member_at(stored, offset)
        if member is None:
            raise Damaged(f"not a {stored.codec} member")
        yield from member.chunks
        offset = member.end


def _slice(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        file.seek(start)
        chunk = file.read(min(CHUNK, end - start))
        if not chunk:
            raise Damaged("the file became shorter while it was read")
        start += len(chunk)
        yield chunk


def _inflate(stored: Stored, member: Member) -> Iterator[bytes]:
    """Decompress one gzip member; its checksum is checked at the end."""
    stream = zlib.decompressobj(wbits=31)
    at, data = member.offset, b""
    while not stream.eof:
        if not data:
            stored.file.seek(at)
            data = stored.file.read(_FIRST_BYTES if at == member.offset else CHUNK)
            at += len(data)
            if not data:
                raise Damaged("gzip member is cut off")
        before = stream.copy()
        try:
            chunk = stream.decompress(data, CHUNK * 4)
        except zlib.error as error:
            yield from _salvaged(stored, before, data)
            raise Damaged("gzip member is damaged") from error
        data = stream.unconsumed_tail
        stored.done = at - len(data) - len(stream.unused_data)
        if chunk:
            yield chunk
    member.end = at - len(stream.unused_data)


def _salvaged(stored: Stored, stream: Any, data: bytes) -> Iterator[bytes]:
    """Decompress what comes before the damage: zlib throws the output of a whole call away when it ends in an error."""
    for at in range(0, len(data), 64):
        try:
            chunk = stream.decompress(data[at : at + 64])
        except zlib.error:
            return
        stored.done += 64
        yield chunk


def _zstd(stored: Stored, member: Member) -> Iterator[bytes]:
    cut_off: Damaged | None = None
    try:
        member.end = member.offset + _frame_length(stored, member.offset)
    except Damaged as damage:
        member.end, cut_off = stored.size, damage
    frame = _Range(stored.file, member.offset, member.end)
    try:
        reader = _zstd_reader(stored, frame)
        while chunk := reader.read(_ZSTD_CHUNK):
            stored.done = frame.before
            yield chunk
        stored.done = member.end
    except OSError as error:
        if cut_off and frame.at == member.end:
            stored.done = member.end
        raise cut_off or Damaged("zstd frame is damaged") from error
    if cut_off:
        raise cut_off


def _zstd_reader(stored: Stored, frame: _Range) -> Any:
    """Return a stream of the contents of `frame`; its `read` raises OSError. Raises MissingExtra where only another decoder can read it."""
    window = _frame_header(stored.file, frame.start).window
    if window <= _NARROW_WINDOW:
        from fastwarc.stream_io import ZstdReader

        return ZstdReader(frame, dictionary=stored.dictionary)
    if window > _MAX_WINDOW:
        raise Damaged("zstd window is larger than 2 GiB")
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtra.named("zstandard", "zstd", f"a file compressed by zstd --long, with a window of {window >> 20} MB,") from error
    dictionary = zstandard.ZstdCompressionDict(stored.dictionary) if stored.dictionary else None
    decompressor = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=_MAX_WINDOW)
    return _Wide(decompressor.stream_reader(cast("BinaryIO", frame)), zstandard.ZstdError)


class _Wide:
    """A reader of the zstandard package whose errors are OSErrors, as FastWARC's are."""

    def __init__(self, reader: Any, error: type[Exception]) -> None:
        self.reader, self.error = reader, error

    def read(self, size: int) -> bytes:
        try:
            return bytes(self.reader.read(size))
        except self.error as error:
            raise OSError(str(error)) from error


class _Range:
    """Part of a file as a stream of its own. `before` is where the last read began: a decoder reads ahead of what it gives."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self.file, self.at, self.start, self.end = file, start, start, end
        self.before = start

    def read(self, size: int = -1) -> bytes:
        left = self.end - self.at
        self.before = self.at if left else self.before
        self.file.seek(self.at)
        data = self.file.read(left if size < 0 else min(size, left))
        self.at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = {0: self.start, 1: self.at, 2: self.end}[whence] + offset
        return self.at - self.start

    def tell(self) -> int:
        return self.at - self.start

    def close(self) -> None:
        """Leave the file open: it is not this range's own."""


class _FrameHeader(NamedTuple):
    length: int  # bytes, with the magic number
    window: int  # bytes that a decoder has to remember
    checksum: bool


def _frame_header(file: BinaryIO, offset: int) -> _FrameHeader:
    """Read the header of a zstd frame. Raises Damaged if it is cut off."""
    file.seek(offset + 4)
    head = file.read(_MAX_FRAME_HEADER)
    if not head:
        raise Damaged("zstd frame is cut off")
    flags = head[0]
    single = flags >> 5 & 1
    content_size = (1 if single else 0, 2, 4, 8)[flags >> 6]
    before = 1 + (0 if single else 1) + (0, 1, 2, 4)[flags & 3]
    if len(head) < before + content_size:
        raise Damaged("zstd frame is cut off")
    if single:  # one window for all of the content; two bytes count from 256 on
        window = int.from_bytes(head[before : before + content_size], "little") + (256 if content_size == 2 else 0)
    else:
        window = (8 + (head[1] & 7)) << 7 + (head[1] >> 3)
    return _FrameHeader(4 + before + content_size, window, bool(flags >> 2 & 1))


def _frame_length(stored: Stored, offset: int) -> int:
    """Return the stored length of a zstd frame by walking its blocks, without decompressing. Raises Damaged if it is cut off."""
    file, header = stored.file, _frame_header(stored.file, offset)
    at = offset + header.length
    last = False
    while not last:
        file.seek(at)
        block = file.read(3)
        if len(block) < 3:
            raise Damaged("zstd frame is cut off")
        number = int.from_bytes(block, "little")
        last, kind, size = bool(number & 1), number >> 1 & 3, number >> 3
        if kind == 3:
            raise Damaged("zstd frame is damaged")
        at += 3 + (1 if kind == 1 else size)
    at += 4 if header.checksum else 0
    if at > stored.size:
        raise Damaged("zstd frame is cut off")
    return at - offset


def _skippable_length(file: BinaryIO, offset: int) -> int:
    file.seek(offset + 4)
    size = file.read(4)
    return 8 + struct.unpack("<I", size)[0] if len(size) == 4 else 1 << 62


def _read_dictionary(stored: Stored) -> bytes | None:
    """Return the dictionary in the first frame of a .warc.zst: as it is, or itself compressed."""
    length = _skippable_length(stored.file, 0)
    if length > min(stored.size, _MAX_DICTIONARY_BYTES):
        return None
    stored.file.seek(8)
    data = stored.file.read(length - 8)
    if data[:4] != _ZSTD_MAGIC:
        return data
    from fastwarc.stream_io import ZstdReader

    try:
        return bytes(ZstdReader(_Range(stored.file, 8, length)).read(_MAX_DICTIONARY_BYTES))
    except OSError:
        return None


def _first_bytes(stored: Stored, offset: int) -> bytes:
    """Decompress the start of the member that seems to lie at `offset`; b"" when it does not decompress."""
    stored.file.seek(offset)
    if stored.codec == GZIP:
        try:
            return zlib.decompressobj(wbits=31).decompress(stored.file.read(_PROBE_BYTES), 64)
        except zlib.error:
            return b""
    try:
        member = member_at(stored, offset)
        return next(member.chunks, b"")[:64] if member else b""
    except Damaged:
        return b""
