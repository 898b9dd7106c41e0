"""Prepare text for a classifier: the same for training and scoring, one pass over the UTF-8.

The rules, with the character classes of curate.kernels.characters:

1. only the first `max_characters` code points count;
2. letters are folded to lower case, one to one; typographic apostrophes and hyphens become ASCII;
3. every punctuation mark, symbol, underscore, and every character of a script that is written without spaces (Chinese, kana,
   Thai, Lao, Khmer, Myanmar, Tibetan) becomes a word of its own. fastText separates words at ASCII white space only, so "end."
   and "end" would be two words, and a Chinese paragraph one;
4. white space of any kind and control characters, newlines among them, become one space (fastText takes a newline for
   the end of the document and a NUL byte for the end of a word); zero-width characters vanish.

As a result no text can contain fastText's own marks, `</s>` and `__label__`. What this trades away: emphasis by
capitals is lost, and hyphenated words and contractions fall into pieces, which word n-grams partly restore.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.kernels.characters import (
    BREAK,
    CLASS,
    FOLD_MASK,
    IGNORED,
    JOINER,
    NUMBER_JOINER,
    PROPERTY_SHIFT,
    SINGLE,
    SYMBOL,
    decode,
    entry_of,
    tables,
)
from curate.kernels.compiled import compiled, inlined

PREPARATION = "lower-spaced-1"  # stands in model cards; a change of the rules needs a new name


def prepare(texts: pa.Array, max_characters: int) -> pa.StringArray:
    """Return the prepared texts, one line each, of the same length as `texts`; a null becomes the empty text."""
    if texts.null_count or not pa.types.is_string(texts.type):
        texts = texts.cast(pa.string()).fill_null("")
    if len(texts) == 0:
        return pa.array([], pa.string())
    offsets, data = string_buffers(texts)
    prepared, ends = _prepare(data, offsets, max_characters, *tables())
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(prepared))


def string_buffers(texts: pa.StringArray) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Return (offsets int32[rows + 1], bytes uint8[...]) of a string array without copying; read-only."""
    _, offsets, data = texts.buffers()
    view = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    content = np.frombuffer(data if data is not None and data.size else b"\0", np.uint8)
    view.flags.writeable = content.flags.writeable = False
    return view, content


@inlined
def _put(out: Any, at: Any, code: Any) -> Any:
    """Write a code point as UTF-8 at `at`; return the position after it."""
    if code < 0x80:
        out[at] = code
        return at + 1
    if code < 0x800:
        out[at] = 0xC0 | (code >> 6)
        out[at + 1] = 0x80 | (code & 63)
        return at + 2
    if code < 0x10000:
        out[at] = 0xE0 | (code >> 12)
        out[at + 1] = 0x80 | ((code >> 6) & 63)
        out[at + 2] = 0x80 | (code & 63)
        return at + 3
    out[at] = 0xF0 | (code >> 18)
    out[at + 1] = 0x80 | ((code >> 12) & 63)
    out[at + 2] = 0x80 | ((code >> 6) & 63)
    out[at + 3] = 0x80 | (code & 63)
    return at + 4


@compiled
def _prepare(data: Any, offsets: Any, max_characters: int, pages: Any, entries: Any) -> Any:
    """Return (prepared bytes, offsets): see the module's docstring."""
    rows = len(offsets) - 1
    space_needed = np.int64(0)  # a mark of one byte becomes three, a character at most six; folding adds at most one byte
    for row in range(rows):
        space_needed += min(3 * np.int64(offsets[row + 1] - offsets[row]), 6 * np.int64(max_characters))
    out = np.empty(space_needed + 4, np.uint8)
    ends = np.zeros(rows + 1, np.int32)
    at = 0
    for row in range(rows):
        i, end, start = np.int64(offsets[row]), np.int64(offsets[row + 1]), at
        taken, space = 0, False
        while i < end and taken < max_characters:
            code, i = decode(data, i, end)
            taken += 1
            entry = entry_of(pages, entries, code)
            kind = (entry >> PROPERTY_SHIFT) & CLASS
            if kind == IGNORED:
                continue
            if kind == BREAK:
                space = True
                continue
            alone = kind in (SYMBOL, SINGLE, JOINER, NUMBER_JOINER) or code == 0x5F
            if (space or alone) and at > start:
                out[at] = 0x20
                at += 1
            folded = np.int64(entry & FOLD_MASK)
            at = _put(out, at, folded if folded else code)
            space = alone
        ends[row + 1] = at
    return out[:at].copy(), ends
