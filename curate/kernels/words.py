"""Words of a batch of documents: where each begins and ends, and its 64-bit hash. Found once, shared by all.

A simplified Unicode Standard Annex #29, without dictionaries or languages, in one pass over the UTF-8:

- A word is a run of letters, numbers, combining marks and underscores. An apostrophe, hyphen or middle dot stays
  inside when a letter or number stands on both sides (don't, well-known), a full stop or comma when a digit does
  (3.14, 1,000).
- In scripts written without spaces (Chinese, Japanese kana, Thai, Lao, Khmer, Myanmar, Tibetan) each character,
  with its combining marks, is a word. Their digits form numbers as elsewhere.
- Punctuation and symbols are tokens of their own, flagged by `kinds`; a run of one and the same symbol ("...",
  "-----", "====") is one token.
- White space and control characters separate. Zero-width characters, soft hyphens and variation selectors do
  neither: "in\\u00adside" is one word, with the hash of "inside".

What this trades away, against spaCy's English rules (which datatrove uses): no splitting of contractions
("do|n't"), of units ("5|km"), or of hyphenated words; URLs fall apart at their punctuation.

The hash of a word folds code points to lower case, one to one (see `characters`), and mixes them as
    h = 0x9E3779B97F4A7C15;  for each code point c:  h = (h ^ c) · 0xD6E8FEB86659FD93;  h ^= h >> 32
    finally, MurmurHash3's finalizer `fmix64`
all modulo 2^64. This definition is fixed: signatures that are stored depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.kernels.characters import (
    ALPHABETIC,
    CLASS,
    DIGIT,
    FOLD_MASK,
    IGNORED,
    JOINER,
    MARK,
    NUMBER_JOINER,
    PROPERTY_SHIFT,
    SINGLE,
    WORD,
    decode,
    entry_of,
    tables,
)
from curate.kernels.compiled import compiled, inlined

SEED = np.uint64(0x9E3779B97F4A7C15)
MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True, slots=True)
class Words:
    """The tokens of a batch, in order of rows and positions; arrays have one element per token unless said otherwise.

    `starts` and `ends` are byte positions in `data`, the array's whole values buffer (not relative to a document).
    """

    data: NDArray[np.uint8]  # the UTF-8 bytes that positions refer to, read-only
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    hashes: NDArray[np.uint64]  # of the case-folded token
    exact: NDArray[np.uint64]  # of the token as written
    lengths: NDArray[np.int32]  # in code points, zero-width characters not counted
    kinds: NDArray[np.uint8]  # 0 word, 1 punctuation or symbol
    alphabetic: NDArray[np.uint8]  # 1 where a character is a letter
    offsets: NDArray[np.int64]  # [rows + 1]: row r has the tokens offsets[r] to offsets[r + 1]

    def totals(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Return the sum, per row, of one value per token."""
        running = np.zeros(len(values) + 1, np.int64)
        np.cumsum(values, dtype=np.int64, out=running[1:])
        return np.diff(running[self.offsets])


def views(text: pa.StringArray) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int32]]:
    """Return (values buffer, starts[rows], ends[rows]) as read-only numpy views; a null row is empty.

    Raises TypeError for anything but an Arrow `string` array (int32 offsets).
    """
    if isinstance(text, pa.ChunkedArray):
        text = text.combine_chunks() if text.num_chunks != 1 else text.chunk(0)
    if not pa.types.is_string(text.type):
        raise TypeError(f"kernels walk Arrow string arrays; this is {text.type}")
    validity, offsets_buffer, values = text.buffers()
    data = _read_only(np.frombuffer(values, dtype=np.uint8) if values is not None and values.size else np.zeros(0, np.uint8))
    if len(text) == 0 or offsets_buffer is None:
        empty = _read_only(np.zeros(len(text), np.int32))
        return data, empty, empty
    offsets = np.frombuffer(offsets_buffer, dtype=np.int32, count=len(text) + 1, offset=4 * text.offset)
    starts, ends = offsets[:-1], offsets[1:]
    if validity is not None and text.null_count:
        ends = np.where(text.is_valid().to_numpy(zero_copy_only=False), ends, starts)  # a null row may own bytes
    return data, _read_only(starts), _read_only(ends)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array = array.view()
    array.flags.writeable = False
    return array


_last: tuple[tuple[int, ...], Any, Words] | None = None


def words_of(text: pa.StringArray) -> Words:
    """Return the words of a string array; asked again for the same array (or an equal view of it), the same object.

    Only the last result is kept, together with its buffers, so that their addresses cannot be used again meanwhile.
    """
    global _last
    if isinstance(text, pa.ChunkedArray):
        text = text.combine_chunks() if text.num_chunks != 1 else text.chunk(0)
    buffers = text.buffers()
    key = (*(b.address if b is not None else 0 for b in buffers), text.offset, len(text))
    kept = _last
    if kept is not None and kept[0] == key:
        return kept[2]
    words = segmented(*views(text))
    _last = (key, buffers, words)
    return words


def forget() -> None:
    """Let go of the words that are kept, and of the batch that they belong to."""
    global _last
    _last = None


def segmented(data: NDArray[np.uint8], starts: NDArray[np.int32], ends: NDArray[np.int32]) -> Words:
    """Return the words of documents given as byte ranges of `data`; nothing is kept."""
    rows, size = len(starts), int((ends.astype(np.int64) - starts).sum())
    offsets = np.zeros(rows + 1, dtype=np.int64)
    pages, entries = tables()
    capacity = size // 4 + 64
    columns = _allocated(capacity)
    row = _segment(data, starts, ends, pages, entries, 0, offsets, *columns)
    while row < rows:  # too small: grow, and go on with the row that did not fit
        capacity = 2 * capacity + int(ends[row] - starts[row])
        larger = _allocated(capacity)
        for old, new in zip(columns, larger, strict=True):
            new[: offsets[row]] = old[: offsets[row]]
        columns = larger
        row = _segment(data, starts, ends, pages, entries, row, offsets, *columns)
    begins, stops, hashes, exact, lengths, kinds, alphabetic = (_read_only(column[: offsets[rows]]) for column in columns)
    return Words(data, begins, stops, hashes, exact, lengths, kinds, alphabetic, _read_only(offsets))


def _allocated(capacity: int) -> list[NDArray[Any]]:
    return [np.empty(capacity, dtype=kind) for kind in (np.int32, np.int32, np.uint64, np.uint64, np.int32, np.uint8, np.uint8)]


def word_hash(word: str) -> int:
    """Return the hash that `Words.hashes` has for a token: to compare tokens with words known in advance."""
    words = words_of_strings([word])
    if len(words.hashes) != 1:
        raise ValueError(f"{word!r} is {len(words.hashes)} tokens, not one")
    return int(words.hashes[0])


def words_of_strings(strings: list[str]) -> Words:
    """Return the words of Python strings, as if they were a batch; nothing is kept."""
    return segmented(*views(pa.array(strings, type=pa.string())))


@inlined
def step(h, code):  # type: ignore[no-untyped-def]
    """Mix one code point into a running hash."""
    h = (h ^ np.uint64(code)) * MULTIPLIER
    return h ^ (h >> np.uint64(32))


@inlined
def finish(h):  # type: ignore[no-untyped-def]
    """MurmurHash3's 64-bit finalizer: every input bit reaches every output bit."""
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return h ^ (h >> np.uint64(33))


@inlined
def _joins(data, i, end, pages, entries, kind, digit):  # type: ignore[no-untyped-def]
    """Say whether the joiner that ends at byte i is followed by what keeps it inside its word."""
    if i >= end:
        return False
    code, _ = decode(data, i, end)
    after = entry_of(pages, entries, code) >> PROPERTY_SHIFT
    if kind == JOINER:
        return after & CLASS == WORD
    return digit and after & DIGIT != 0


@inlined
def _token_end(data, i, end, pages, entries, first, entry):  # type: ignore[no-untyped-def]
    """Follow the token whose first character `first` ends at byte i. Return (end, folded hash, hash, length, alphabetic)."""
    properties = entry >> PROPERTY_SHIFT
    opening = properties & CLASS
    folded = entry & FOLD_MASK
    h, g = step(SEED, folded if folded != 0 else first), step(SEED, first)
    length, stop, digit, alphabetic = 1, i, properties & DIGIT != 0, properties & ALPHABETIC
    running = opening in (WORD, MARK)
    while i < end:
        code, after = decode(data, i, end)
        entry = entry_of(pages, entries, code)
        properties = entry >> PROPERTY_SHIFT
        kind = properties & CLASS
        if kind == IGNORED:
            i = after
            continue
        if kind == WORD:
            inside = running
        elif kind == MARK:
            inside = True
        elif running:
            inside = kind in (JOINER, NUMBER_JOINER) and _joins(data, after, end, pages, entries, kind, digit)
        else:
            inside = opening != SINGLE and code == first
        if not inside:
            break
        folded = entry & FOLD_MASK
        h, g = step(h, folded if folded != 0 else code), step(g, code)
        length += 1
        alphabetic |= properties & ALPHABETIC
        digit = properties & DIGIT != 0
        i = after
        stop = after
    return stop, finish(h), finish(g), length, alphabetic != 0


@compiled
def _segment(data, starts, ends, pages, entries, row, offsets, begins, stops, hashes, exact, lengths, kinds, alphabetic):  # type: ignore[no-untyped-def]
    """Fill the columns from `row` on. Return the first row that did not fit, or the number of rows."""
    n = offsets[row]
    for r in range(row, len(starts)):
        i, end = np.int64(starts[r]), np.int64(ends[r])
        while i < end:
            code, after = decode(data, i, end)
            entry = entry_of(pages, entries, code)
            kind = (entry >> PROPERTY_SHIFT) & CLASS
            if kind == 0 or kind == IGNORED:  # BREAK is 0
                i = after
                continue
            if n == len(begins):
                return r
            begins[n] = i
            i, hashes[n], exact[n], lengths[n], alphabetic[n] = _token_end(data, after, end, pages, entries, code, entry)
            stops[n] = i
            kinds[n] = 0 if kind in (WORD, SINGLE, MARK) else 1
            n += 1
        offsets[r + 1] = n
    return len(starts)
