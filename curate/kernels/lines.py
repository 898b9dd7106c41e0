"""Lines of a batch of documents, with what the line-based rules count: found once, shared by all annotators.

A line ends at a line feed, and at nothing else (Python's `splitlines` also ends it at form feeds, U+2028 and such;
here they are white space). A text with n line feeds has n + 1 lines, of which the last may be empty. Words are those
of `str.split()`: runs of anything but white space, as C4 and DCLM count them. Sentences end at a mark of Unicode's
Sentence_Terminal, with quotes or brackets after it, before white space or the end of the line (in scripts without
spaces at once), so "e.g." counts as two; what is left over at the end of a line is a sentence too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.kernels.characters import ALPHABETIC, CONTROL, DIGIT, PROPERTY_SHIFT, TERMINAL, UPPER, WHITE, decode, entry_of, tables
from curate.kernels.compiled import compiled, inlined
from curate.kernels.words import SEED, finish, step, views

# Columns of `Lines.counts`.
CHARACTERS, WORDS, WORD_CHARACTERS, ALPHABETIC_WORDS, LONGEST_WORD, SENTENCES = 0, 1, 2, 3, 4, 5
LETTERS, UPPERCASE, DIGITS, NON_ASCII, CONTROLS, REPLACEMENTS, MOJIBAKE, HASHES, ELLIPSES, CURLY = 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
COLUMNS = 16

# Bits of `Lines.flags`.
BLANK = 1  # nothing but white space
BULLET = 2  # the first character that is not white space is a bullet or a hyphen
ELLIPSIS = 4  # ends in "..." or "…", white space aside
PUNCTUATED = 8  # its very last character ends a sentence (FineWeb)
TERMINATED = 16  # ends in . ! ? or a quote, white space aside, and not in "..." (C4)
REPEATED = 32  # the same bytes have been a line of this document before
EMPTY = 64  # no character at all


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of a batch, in order; `starts` and `ends` are byte positions in `data`, without the line feed."""

    data: NDArray[np.uint8]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    flags: NDArray[np.uint8]
    counts: NDArray[np.int32]  # [lines, COLUMNS]
    offsets: NDArray[np.int64]  # [rows + 1]; every row has a line, be it an empty one

    def totals(self, column: int) -> NDArray[np.int64]:
        """Return the sum of a column of `counts` per row."""
        return self.summed(self.counts[:, column])

    def summed(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Return the sum, per row, of one value per line."""
        if len(self.offsets) == 1:
            return np.zeros(0, np.int64)
        return np.asarray(np.add.reduceat(values.astype(np.int64), self.offsets[:-1]))

    def largest(self, column: int) -> NDArray[np.int64]:
        """Return the maximum of a column of `counts` per row."""
        if len(self.offsets) == 1:
            return np.zeros(0, np.int64)
        return np.asarray(np.maximum.reduceat(self.counts[:, column].astype(np.int64), self.offsets[:-1]))

    def having(self, flag: int) -> NDArray[np.bool_]:
        """Return, per line, whether it has a flag."""
        return np.asarray((self.flags & flag) != 0)

    def characters(self) -> NDArray[np.int64]:
        """Return the number of code points per row, line feeds included."""
        return self.totals(CHARACTERS) + np.diff(self.offsets) - 1


_last: tuple[tuple[int, ...], Any, Lines] | None = None


def lines_of(text: pa.StringArray) -> Lines:
    """Return the lines of a string array; asked again for the same array (or an equal view of it), the same object."""
    global _last
    if isinstance(text, pa.ChunkedArray):
        text = text.combine_chunks() if text.num_chunks != 1 else text.chunk(0)
    buffers = text.buffers()
    key = (*(b.address if b is not None else 0 for b in buffers), text.offset, len(text))
    kept = _last
    if kept is not None and kept[0] == key:
        return kept[2]
    lines = split(*views(text))
    _last = (key, buffers, lines)
    return lines


def forget() -> None:
    """Let go of the lines that are kept, and of the batch that they belong to."""
    global _last
    _last = None


def split(data: NDArray[np.uint8], starts: NDArray[np.int32], ends: NDArray[np.int32]) -> Lines:
    """Return the lines of documents given as byte ranges of `data`; nothing is kept."""
    offsets = np.zeros(len(starts) + 1, dtype=np.int64)
    _count_lines(data, starts, ends, offsets)
    np.cumsum(offsets, out=offsets)
    total = int(offsets[-1])
    begins, stops, flags = np.empty(total, np.int32), np.empty(total, np.int32), np.empty(total, np.uint8)
    counts = np.empty((total, COLUMNS), np.int32)
    table = hash_set(int(np.diff(offsets).max(initial=1)))
    _measure(data, starts, ends, offsets, *tables(), *table, begins, stops, flags, counts)
    for column in (begins, stops, flags, counts, offsets):
        column.flags.writeable = False
    return Lines(data, begins, stops, flags, counts, offsets)


@compiled
def _count_lines(data, starts, ends, offsets):  # type: ignore[no-untyped-def]
    for r in range(len(starts)):
        n = 1
        for i in range(starts[r], ends[r]):
            n += data[i] == 10
        offsets[r + 1] = n


def hash_set(most: int) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Return (keys, stamps) for sets of up to `most` hashes each, one set after the other: see `seen`."""
    slots = int(mask_for(most)) + 1
    return np.zeros(slots, np.uint64), np.zeros(slots, np.int32)


@inlined
def mask_for(count):  # type: ignore[no-untyped-def]
    """Return a power of two, less one, that leaves at least a third of the slots free."""
    mask = np.int64(2)
    while 2 * mask < 3 * count:
        mask *= 2
    return mask - 1


@inlined
def seen(keys, stamps, mask, key, stamp):  # type: ignore[no-untyped-def]
    """Add a hash to the set that `stamp` names; say whether it was there. Slots of other stamps count as free."""
    slot = np.int64(key) & mask
    while stamps[slot] == stamp:
        if keys[slot] == key:
            return True
        slot = (slot + 1) & mask
    keys[slot] = key
    stamps[slot] = stamp
    return False


@inlined
def _latin_byte(code):  # type: ignore[no-untyped-def]
    """Return the byte that Windows-1252 (or Latin-1) writes for a code point, -1 if none."""
    if code < 0x100:
        return code
    if code < 0x152 or code > 0x2122:
        return -1
    upper = (0x20AC, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0x017D, 0x2018, 0x2019, 0x201C,
             0x201D, 0x2022, 0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x017E, 0x0178)  # fmt: skip
    places = (0x80, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8B, 0x8C, 0x8E, 0x91, 0x92, 0x93,
              0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9E, 0x9F)  # fmt: skip
    for k in range(27):
        if upper[k] == code:
            return places[k]
    return -1


@inlined
def garbled_length(data, i, end):  # type: ignore[no-untyped-def]
    """Return how many characters from byte i on are one character whose UTF-8 bytes were read as Windows-1252; 0 if none."""
    code, after = decode(data, i, end)
    if (code < 0xC3 and code != 0xC2) or code > 0xF4:
        return 0
    size = 2 if code < 0xE0 else (3 if code < 0xF0 else 4)
    lead = code
    for k in range(1, size):
        if after >= end:
            return 0
        code, after = decode(data, after, end)
        byte = _latin_byte(code)
        if byte < 0x80 or byte > 0xBF:
            return 0
        if k == 1 and (
            (lead == 0xE0 and byte < 0xA0) or (lead == 0xED and byte > 0x9F) or (lead == 0xF0 and byte < 0x90) or (lead == 0xF4 and byte > 0x8F)
        ):
            return 0
    return size


@inlined
def _closes(code):  # type: ignore[no-untyped-def]
    """Say whether a character may stand between the end of a sentence and the space after it."""
    return (
        code == 0x22 or code == 0x27 or code == 0x29 or code == 0x5D or code == 0x7D or code == 0xBB or code == 0x2019 or code == 0x201D
        or code == 0x300D or code == 0x300F or code == 0xFF09
    )  # fmt: skip


@inlined
def _ending(last, dots, any_text, raw_terminal):  # type: ignore[no-untyped-def]
    """Return the flags that the end of a line decides."""
    flags = 0 if any_text else BLANK
    ellipsis = dots >= 3
    if any_text and (ellipsis or last == 0x2026):
        flags |= ELLIPSIS
    if raw_terminal:
        flags |= PUNCTUATED
    if not ellipsis and (last == 0x2E or last == 0x21 or last == 0x3F or last == 0x22 or last == 0x27):
        flags |= TERMINATED
    return flags


@inlined
def _measure_line(data, begin, end, pages, entries, counts):  # type: ignore[no-untyped-def]
    """Walk one line up to its line feed or `end`, fill its counts. Return (end of the line, hash, flags)."""
    i, h = begin, SEED
    characters = words = word_characters = alphabetic_words = longest = sentences = letters = uppercase = digits = foreign = controls = 0
    replacements = garbled = signs = ellipses = curly = run = dots = last = garbled_left = 0
    first, stop, word_has_letter, sentence_open, raw_terminal = -1, 0, False, False, False
    while i < end and data[i] != 10:
        code, after = decode(data, i, end)
        properties = entry_of(pages, entries, code) >> PROPERTY_SHIFT
        h = step(h, code)
        characters += 1
        raw_terminal = properties & TERMINAL != 0
        if code >= 0x80:
            foreign += 1
            ellipses += code == 0x2026
            replacements += code == 0xFFFD
            if garbled_left > 0:
                garbled_left -= 1
            elif code >= 0xC2 and code <= 0xF4:
                garbled_left = garbled_length(data, i, end)
                garbled += garbled_left
                garbled_left -= garbled_left > 0
        controls += properties & CONTROL != 0
        if properties & WHITE:
            if run > 0:
                alphabetic_words += word_has_letter
                longest = max(longest, run)
                run = 0
                word_has_letter = False
            if stop > 0:
                sentences += 1
                sentence_open = False
                stop = 0
            i = after
            continue
        if run == 0:
            words += 1
            dots = 0
        run += 1
        word_characters += 1
        if first < 0:
            first = code
        last = code
        dots = dots + 1 if code == 0x2E else 0
        ellipses += dots > 0 and dots % 3 == 0
        signs += code == 0x23
        curly += code == 0x7B
        if properties & ALPHABETIC:
            letters += 1
            word_has_letter = True
            uppercase += properties & UPPER != 0
        digits += properties & DIGIT != 0
        if raw_terminal:
            stop = 2 if code >= 0x2E80 else 1
            sentence_open = True
        elif not (stop > 0 and _closes(code)):
            sentences += stop == 2
            stop = 0
            sentence_open = True
        i = after
    if run > 0:
        alphabetic_words += word_has_letter
        longest = max(longest, run)
    sentences += sentence_open
    values = (characters, words, word_characters, alphabetic_words, longest, sentences, letters, uppercase, digits, foreign, controls, replacements,
              garbled, signs, ellipses, curly)  # fmt: skip
    for k in range(COLUMNS):
        counts[k] = values[k]
    flags = _ending(last, dots, first >= 0, raw_terminal)
    if first == 0x2D or first == 0x2022:
        flags |= BULLET
    if i == begin:
        flags |= EMPTY
    return i, finish(h), flags


@compiled
def _measure(data, starts, ends, offsets, pages, entries, keys, stamps, begins, stops, flags, counts):  # type: ignore[no-untyped-def]
    """Fill the columns of every line of every row; `keys` and `stamps` are a hash set, reused from row to row."""
    for r in range(len(starts)):
        i, end = np.int64(starts[r]), np.int64(ends[r])
        mask = mask_for(offsets[r + 1] - offsets[r])
        for n in range(offsets[r], offsets[r + 1]):
            begins[n] = i
            i, key, flag = _measure_line(data, i, end, pages, entries, counts[n])
            if seen(keys, stamps, mask, key, r + 1):
                flag |= REPEATED
            stops[n] = i
            flags[n] = flag
            i += 1
