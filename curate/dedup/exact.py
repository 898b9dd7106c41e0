"""Exact duplicates: a 128-bit hash of the text after normalization, so that equal texts are found by sorting.

Normalization is Unicode NFC, then every run of white space (what `str.split` splits at) becomes one space, and none is left at
the ends: `" ".join(unicodedata.normalize("NFC", text).split())`. Case, punctuation and invisible characters count; a text that
differs only there is MinHash's to find. All texts that are empty after normalization are one text.

The hash is BLAKE2b with 16 bytes: crawled text is hostile, and with a hash that is not cryptographic anyone could make a page whose
removal takes another one's place. At 1 GB/s it costs a tenth of what finding words does.

Only rows that can change are normalized as Python strings: below U+0300 every character is NFC already, which in UTF-8 means
that no byte is 0xCC or above.
"""

from __future__ import annotations

import hashlib
import unicodedata
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.kernels.characters import PROPERTY_SHIFT, WHITE, decode, entry_of, tables
from curate.kernels.compiled import compiled
from curate.kernels.words import views

HASH_BYTES = 16
HASH = pa.binary(HASH_BYTES)


def composed(text: pa.StringArray) -> pa.StringArray:
    """Return `text` in Unicode NFC; the same array when it was (nulls become empty).

    Raises UnicodeDecodeError for a row that is not UTF-8.
    """
    if text.null_count:
        text = pc.fill_null(text, "")
    data, starts, ends = views(text)
    suspects = np.zeros(len(text), np.bool_)
    _may_decompose(data, starts, ends, suspects)
    changed = {}
    for row in np.flatnonzero(suspects).tolist():
        one = text[row].as_py()
        if not unicodedata.is_normalized("NFC", one):
            changed[row] = unicodedata.normalize("NFC", one)
    if not changed:
        return text
    mask = np.zeros(len(text), np.bool_)
    mask[list(changed)] = True
    return pc.replace_with_mask(text, pa.array(mask), pa.array(list(changed.values()), pa.string()))


def content_hashes(text: pa.StringArray) -> pa.FixedSizeBinaryArray:
    """Return the hash of each row's text with its white space normalized, `HASH` [rows]; `text` is NFC (see `composed`)."""
    data, starts, ends = views(text)
    pages, entries = tables()
    squeezed = np.empty(int((ends.astype(np.int64) - starts).sum()), np.uint8)
    offsets = np.zeros(len(text) + 1, np.int64)
    _squeeze(data, starts, ends, pages, entries, squeezed, offsets)
    whole = squeezed.data
    digest = hashlib.blake2b
    hashes = b"".join([digest(whole[a:b], digest_size=HASH_BYTES).digest() for a, b in pairwise(offsets.tolist())])
    return pa.FixedSizeBinaryArray.from_buffers(HASH, len(text), [None, pa.py_buffer(hashes)])


@compiled
def _may_decompose(data, starts, ends, suspects):  # type: ignore[no-untyped-def]
    """Mark the rows that hold a character from U+0300 on."""
    for r in range(len(starts)):
        for i in range(starts[r], ends[r]):
            if data[i] >= 0xCC:
                suspects[r] = True
                break


@compiled
def _squeeze(data, starts, ends, pages, entries, out, offsets):  # type: ignore[no-untyped-def]
    """Copy each row without leading and trailing white space, and with one space for each run inside."""
    n = 0
    for r in range(len(starts)):
        i, end, begin, pending = np.int64(starts[r]), np.int64(ends[r]), n, False
        while i < end:
            b = data[i]
            after, white = i + 1, False
            if b <= 32:
                white = b == 32 or (9 <= b <= 13) or (28 <= b <= 31)
            elif b == 0xC2 or (0xE1 <= b <= 0xE3):  # the only first bytes of white space beyond ASCII
                code, after = decode(data, i, end)
                white = (entry_of(pages, entries, code) >> PROPERTY_SHIFT) & WHITE != 0
            if white:
                pending = n > begin
                i = after
                continue
            if pending:
                out[n] = 32
                n += 1
                pending = False
            while i < after:
                out[n] = data[i]
                n += 1
                i += 1
        offsets[r + 1] = n
