"""How much of a document is repeated: the measures of Gopher's Table A1 (Rae et al. 2021, arXiv 2112.11446).

They follow the reading of datatrove's GopherRepetitionFilter, corner cases included: paragraphs are split at empty
lines after white space around the text is stripped; the most frequent n-gram counts with all its occurrences, and
among equally frequent ones the first; repeated n-grams (5 to 10) are found greedily from the left and never overlap.
Where it compares strings, 64-bit hashes are compared here; and n-grams are equal when their words are, not when
their concatenation is ("a bc" and "ab c" differ). Words are those of `words.py` where datatrove asks spaCy.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.kernels.characters import PROPERTY_SHIFT, WHITE, decode, entry_of, tables
from curate.kernels.compiled import compiled, inlined
from curate.kernels.lines import CHARACTERS, EMPTY, REPEATED, Lines, hash_set, lines_of, mask_for, seen
from curate.kernels.words import SEED, Words, finish, step, views, words_of

TOP_SIZES = (2, 3, 4)
REPEATED_SIZES = (5, 6, 7, 8, 9, 10)
BASE = np.uint64(0x9FB21C651E98DF25)  # of the polynomial over word hashes that n-grams are compared by; odd


def repeated_lines(lines: Lines) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return (lines, lines seen before, characters in those) per row; empty lines inside a text are no lines.

    As `re.split("\\n+", text)`: line feeds at the beginning and at the end leave one empty element each.
    """
    empty = lines.having(EMPTY)
    rows = len(lines.offsets) - 1
    counted = lines.summed(~empty)
    repeated = lines.having(REPEATED) & ~empty
    several = np.diff(lines.offsets) > 1
    leading = several & empty[lines.offsets[:-1]] if rows else np.zeros(0, bool)
    trailing = several & empty[lines.offsets[1:] - 1] if rows else np.zeros(0, bool)
    total = counted + leading + trailing
    return total, lines.summed(repeated) + (leading & trailing), lines.summed(np.where(repeated, lines.counts[:, CHARACTERS], 0))


def repeated_paragraphs(text: pa.StringArray) -> NDArray[np.int64]:
    """Return int64[rows, 3]: paragraphs, paragraphs seen before, characters in those."""
    data, starts, ends = views(text)
    offsets = lines_of(text).offsets
    result = np.zeros((len(starts), 3), np.int64)
    _paragraphs(data, starts, ends, offsets, *tables(), *hash_set(int(np.diff(offsets).max(initial=1))), result)
    return result


def repeated_ngrams(words: Words) -> NDArray[np.int64]:
    """Return int64[rows, 9]: characters in the top 2-, 3-, 4-gram (spaces between its words included), then in repeated 5- to 10-grams."""
    most = int(np.diff(words.offsets).max(initial=1))
    result = np.zeros((len(words.offsets) - 1, len(TOP_SIZES) + len(REPEATED_SIZES)), np.int64)
    keys, stamps = hash_set(most)
    prefix, sums, values = np.zeros(most + 1, np.uint64), np.zeros(most + 1, np.int64), np.zeros(len(keys), np.int32)
    _ngrams(words.exact, words.lengths, words.offsets, prefix, sums, keys, stamps, values, result)
    return result


def measures(text: pa.StringArray) -> dict[str, NDArray[np.float64]]:
    """Return Table A1 per row, as fractions of lines, of paragraphs, or of all characters; 0 for an empty text."""
    lines = lines_of(text)
    characters = np.maximum(lines.characters(), 1)
    total, repeated, in_lines = repeated_lines(lines)
    paragraphs = repeated_paragraphs(text)
    grams = repeated_ngrams(words_of(text))
    result = {
        "duplicate_lines": repeated / np.maximum(total, 1),
        "duplicate_paragraphs": paragraphs[:, 1] / np.maximum(paragraphs[:, 0], 1),
        "duplicate_line_characters": in_lines / characters,
        "duplicate_paragraph_characters": paragraphs[:, 2] / characters,
    }
    for k, size in enumerate(TOP_SIZES):
        result[f"top_{size}gram_characters"] = grams[:, k] / characters
    for k, size in enumerate(REPEATED_SIZES):
        result[f"duplicate_{size}gram_characters"] = grams[:, len(TOP_SIZES) + k] / characters
    return result


@inlined
def _stripped(data, begin, end, pages, entries):  # type: ignore[no-untyped-def]
    """Return the byte range without white space at its ends."""
    while begin < end:
        code, after = decode(data, begin, end)
        if (entry_of(pages, entries, code) >> PROPERTY_SHIFT) & WHITE == 0:
            break
        begin = after
    while begin < end:
        i = end - 1
        while i > begin and data[i] & 0xC0 == 0x80:
            i -= 1
        code, _ = decode(data, i, end)
        if (entry_of(pages, entries, code) >> PROPERTY_SHIFT) & WHITE == 0:
            break
        end = i
    return begin, end


@compiled
def _paragraphs(data, starts, ends, offsets, pages, entries, keys, stamps, result):  # type: ignore[no-untyped-def]
    """Count paragraphs and those seen before. `offsets` are those of the lines: a row has no more paragraphs than lines."""
    for r in range(len(starts)):
        if starts[r] == ends[r]:
            continue
        i, end = _stripped(data, np.int64(starts[r]), np.int64(ends[r]), pages, entries)
        mask = mask_for(offsets[r + 1] - offsets[r])
        while True:
            h, characters = SEED, 0
            while i < end and not (data[i] == 10 and i + 1 < end and data[i + 1] == 10):
                h = step(h, data[i])
                characters += data[i] & 0xC0 != 0x80
                i += 1
            result[r, 0] += 1
            if seen(keys, stamps, mask, finish(h), r + 1):
                result[r, 1] += 1
                result[r, 2] += characters
            if i >= end:
                break
            while i < end and data[i] == 10:
                i += 1


@inlined
def _top(prefix, sums, count, n, power, keys, stamps, values, mask, stamp):  # type: ignore[no-untyped-def]
    """Return occurrences times characters of the most frequent n-gram, the first one of several.

    `values` first holds occurrences; a gram's first position is found again in a second pass, in order.
    """
    most = 0
    for i in range(count - n + 1):
        key = finish(prefix[i + n] - prefix[i] * power)
        slot = np.int64(key) & mask
        while stamps[slot] == stamp and keys[slot] != key:
            slot = (slot + 1) & mask
        if stamps[slot] != stamp:
            stamps[slot] = stamp
            keys[slot] = key
            values[slot] = 0
        values[slot] += 1
        most = max(most, values[slot])
    for i in range(count - n + 1):
        key = finish(prefix[i + n] - prefix[i] * power)
        slot = np.int64(key) & mask
        while keys[slot] != key or stamps[slot] != stamp:
            slot = (slot + 1) & mask
        if values[slot] == most:
            return most * (sums[i + n] - sums[i] + n - 1)
    return 0


@inlined
def _greedy(prefix, sums, count, n, power, keys, stamps, mask, stamp):  # type: ignore[no-untyped-def]
    """Return the characters of n-grams that have been seen before, found from the left without overlap."""
    i, characters = 0, 0
    while i < count - n + 1:
        if seen(keys, stamps, mask, finish(prefix[i + n] - prefix[i] * power), stamp):
            characters += sums[i + n] - sums[i]
            i += n
        else:
            i += 1
    return characters


@compiled
def _ngrams(hashes, lengths, offsets, prefix, sums, keys, stamps, values, result):  # type: ignore[no-untyped-def]
    """Fill the row's nine numbers. `prefix` is a polynomial over word hashes, so that any n-gram costs two operations."""
    stamp = 0
    for r in range(len(offsets) - 1):
        begin, count = offsets[r], offsets[r + 1] - offsets[r]
        for i in range(count):
            prefix[i + 1] = prefix[i] * BASE + hashes[begin + i]
            sums[i + 1] = sums[i] + lengths[begin + i]
        mask = mask_for(count)
        power = BASE
        for n in range(2, 11):
            power *= BASE
            stamp += 1
            if n <= 4:
                result[r, n - 2] = _top(prefix, sums, count, n, power, keys, stamps, values, mask, stamp)
            else:
                result[r, n - 2] = _greedy(prefix, sums, count, n, power, keys, stamps, mask, stamp)
