"""What a character is: one lookup table over Unicode, and the UTF-8 decoder that kernels share.

The table has two levels (a page number per 256 code points, then the pages that differ), so that the pages in
use stay in the processor's cache. An entry packs the case-folded code point (low 21 bits; 0 means itself) and
11 bits of properties. It is built from `unicodedata` in about 0.1 s at first use. The price: a Python with a newer
Unicode classifies newly assigned characters differently; everything that crawls contain has been stable for years.

Folding is simple case folding (one character to one), plus the typographic apostrophes and hyphens to their
ASCII forms. It does not decompose: "é" as one or as two characters stay different (normalize before, if it matters).
"""

from __future__ import annotations

import functools
import unicodedata

import numpy as np
from numpy.typing import NDArray

from curate.kernels.compiled import inlined

# Classes, the three lowest property bits: how segmentation treats a character.
BREAK = 0  # white space and control characters: separate words, belong to none
WORD = 1  # letters, numbers, underscore
SINGLE = 2  # scripts written without spaces: each character is a word
MARK = 3  # combining marks: belong to what precedes
IGNORED = 4  # zero-width and other format characters: neither separate nor count
SYMBOL = 5  # punctuation, symbols, unassigned
JOINER = 6  # apostrophe and hyphen: inside a word when a word character stands on both sides
NUMBER_JOINER = 7  # full stop and comma: inside a word when a digit stands on both sides
CLASS = 7

# Properties, one bit each.
ALPHABETIC = 1 << 3  # as str.isalpha
UPPER = 1 << 4
DIGIT = 1 << 5  # decimal digits of any script
TERMINAL = 1 << 6  # ends a sentence: Unicode's Sentence_Terminal and a few marks that FineWeb counts with it
CONTROL = 1 << 7  # Cc other than tab, line feed, carriage return
WHITE = 1 << 8  # as str.isspace
NEWLINE = 1 << 9  # ends a line for str.splitlines

PROPERTY_SHIFT = 21
FOLD_MASK = (1 << PROPERTY_SHIFT) - 1

_APOSTROPHES = {0x27, 0x2019, 0x2018, 0xFF07}
_HYPHENS = {0x2D, 0x2010, 0x2011}
_NEWLINES = {0x0A, 0x0B, 0x0C, 0x0D, 0x1C, 0x1D, 0x1E, 0x85, 0x2028, 0x2029}

# Scripts written without spaces between words: Thai, Lao, Tibetan, Myanmar, Khmer, Tai Le to Tai Tham, kana, ideographs.
_SINGLE_RANGES = (
    (0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF), (0x2E80, 0x2FDF),
    (0x3005, 0x3007), (0x3021, 0x3029), (0x3031, 0x3035), (0x3038, 0x303C), (0x3041, 0x30FF), (0x31C0, 0x31FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xA9E0, 0xA9FF), (0xAA60, 0xAADF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x16FE0, 0x18CFF), (0x1B000, 0x1B2FF),
    (0x20000, 0x3FFFD),
)  # fmt: skip

# Large blocks in which every assigned character is a letter: not looked up one by one.
_UNIFORM = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3),
    (0x17000, 0x187F7),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B738),
    (0x2B740, 0x2B81D),
    (0x2B820, 0x2CEA1),
    (0x2CEB0, 0x2EBE0),
    (0x30000, 0x3134A),
)

# Unicode 15 Sentence_Terminal.
_SENTENCE_TERMINAL = (
    (0x21, 0x21), (0x2E, 0x2E), (0x3F, 0x3F), (0x589, 0x589), (0x61D, 0x61F), (0x6D4, 0x6D4), (0x700, 0x702), (0x7F9, 0x7F9),
    (0x837, 0x837), (0x839, 0x839), (0x83D, 0x83E), (0x964, 0x965), (0x104A, 0x104B), (0x1362, 0x1362), (0x1367, 0x1368), (0x166E, 0x166E),
    (0x1735, 0x1736), (0x17D4, 0x17D5), (0x1803, 0x1803), (0x1809, 0x1809), (0x1944, 0x1945), (0x1AA8, 0x1AAB), (0x1B5A, 0x1B5B),
    (0x1B5E, 0x1B5F), (0x1B7D, 0x1B7E), (0x1C3B, 0x1C3C), (0x1C7E, 0x1C7F), (0x203C, 0x203D), (0x2047, 0x2049), (0x2E2E, 0x2E2E),
    (0x2E3C, 0x2E3C), (0x2E53, 0x2E54), (0x3002, 0x3002), (0xA4FF, 0xA4FF), (0xA60E, 0xA60F), (0xA6F3, 0xA6F3), (0xA6F7, 0xA6F7),
    (0xA876, 0xA877), (0xA8CE, 0xA8CF), (0xA92F, 0xA92F), (0xA9C8, 0xA9C9), (0xAA5D, 0xAA5F), (0xAAF0, 0xAAF1), (0xABEB, 0xABEB),
    (0xFE52, 0xFE52), (0xFE56, 0xFE57), (0xFF01, 0xFF01), (0xFF0E, 0xFF0E), (0xFF1F, 0xFF1F), (0xFF61, 0xFF61), (0x10A56, 0x10A57),
    (0x10F55, 0x10F59), (0x10F86, 0x10F89), (0x11047, 0x11048), (0x110BE, 0x110C1), (0x11141, 0x11143), (0x111C5, 0x111C6), (0x111CD, 0x111CD),
    (0x111DE, 0x111DF), (0x11238, 0x11239), (0x1123B, 0x1123C), (0x112A9, 0x112A9), (0x1144B, 0x1144C), (0x115C2, 0x115C3), (0x115C9, 0x115D7),
    (0x11641, 0x11642), (0x1173C, 0x1173E), (0x11944, 0x11944), (0x11946, 0x11946), (0x11A42, 0x11A43), (0x11A9B, 0x11A9C), (0x11C41, 0x11C42),
    (0x11EF7, 0x11EF8), (0x11F43, 0x11F44), (0x16A6E, 0x16A6F), (0x16AF5, 0x16AF5), (0x16B37, 0x16B38), (0x16B44, 0x16B44), (0x16E98, 0x16E98),
    (0x1BC9F, 0x1BC9F), (0x1DA88, 0x1DA88),
)  # fmt: skip


@functools.cache
def tables() -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
    """Return (pages uint16[4352], entries uint32[256 · distinct pages]), both read-only; see `entry_of`."""
    flat = np.full(0x110000, SYMBOL << PROPERTY_SHIFT, dtype=np.uint32)
    letter = np.uint32((WORD | ALPHABETIC) << PROPERTY_SHIFT)
    start = 0
    for first, last in _UNIFORM:
        _fill(flat, start, first)
        flat[first : last + 1] = letter
        start = last + 1
    _fill(flat, start, 0x34000)  # nothing is assigned from here to the tags of plane 14, and only private use after them
    _fill(flat, 0xE0000, 0xE01F0)
    _set_classes(flat)
    for first, last in _SENTENCE_TERMINAL:
        flat[first : last + 1] |= np.uint32(TERMINAL << PROPERTY_SHIFT)
    for code in _NEWLINES:
        flat[code] |= np.uint32(NEWLINE << PROPERTY_SHIFT)
    numbers: dict[bytes, int] = {}
    index = np.empty(0x1100, dtype=np.uint16)
    for page in range(0x1100):
        index[page] = numbers.setdefault(flat[page << 8 : (page + 1) << 8].tobytes(), len(numbers))
    entries = np.frombuffer(b"".join(numbers), dtype=np.uint32)  # from bytes: read-only
    index.flags.writeable = False
    return index, entries


_LETTERS = {"Lu", "Ll", "Lt", "Lm", "Lo"}


def _fill(flat: NDArray[np.uint32], first: int, last: int) -> None:
    """Write the entries of the code points in [first, last)."""
    category = unicodedata.category
    for code in range(first, last):
        character = chr(code)
        kind = category(character)
        if kind in _LETTERS:
            properties = WORD | ALPHABETIC
            if kind in ("Lu", "Lt"):
                properties |= UPPER
        elif kind[0] == "N":
            properties = WORD | (DIGIT if kind == "Nd" else 0)
        elif kind[0] == "M":
            properties = MARK
        elif kind == "Cf":
            properties = IGNORED
        elif kind == "Cc" or kind[0] == "Z":
            properties = BREAK | (CONTROL if kind == "Cc" and character not in "\t\n\r" else 0)
            if character.isspace():
                properties |= WHITE
        else:
            continue
        flat[code] = (properties << PROPERTY_SHIFT) | _folded(character)


def _folded(character: str) -> int:
    """Return the simple case folding as a code point, 0 where it is the character itself."""
    for folded in (character.casefold(), character.lower()):
        if len(folded) == 1:
            return ord(folded) if folded != character else 0
    return 0


def _set_classes(flat: NDArray[np.uint32]) -> None:
    """Replace the classes that Unicode's general category does not give."""
    for first, last in _SINGLE_RANGES:
        block = flat[first : last + 1]
        block[((block >> PROPERTY_SHIFT) & CLASS) == WORD] ^= np.uint32((WORD ^ SINGLE) << PROPERTY_SHIFT)
    for first, last in ((0xFE00, 0xFE0F), (0xE0100, 0xE01EF), (0x034F, 0x034F), (0x180B, 0x180D)):  # variation selectors, grapheme joiner
        flat[first : last + 1] = IGNORED << PROPERTY_SHIFT
    # Decimal digits of the spaceless scripts still form numbers.
    for code in (0x0E50, 0x0ED0, 0x0F20, 0x1040, 0x1090, 0x17E0, 0x19D0, 0x1A80, 0x1A90, 0xA9F0):
        flat[code : code + 10] = (WORD | DIGIT) << PROPERTY_SHIFT
    flat[ord("_")] = WORD << PROPERTY_SHIFT
    for code in _APOSTROPHES:
        flat[code] = (JOINER << PROPERTY_SHIFT) | (0x27 if code != 0x27 else 0)
    for code in _HYPHENS:
        flat[code] = (JOINER << PROPERTY_SHIFT) | (0x2D if code != 0x2D else 0)
    flat[0xB7] = JOINER << PROPERTY_SHIFT  # Catalan l·l
    for character in ".,":
        flat[ord(character)] = NUMBER_JOINER << PROPERTY_SHIFT


@inlined
def entry_of(pages, entries, code):  # type: ignore[no-untyped-def]
    """Return the table's entry for a code point."""
    return entries[(np.int64(pages[code >> 8]) << 8) | (code & 255)]


@inlined
def decode(data, i, end):  # type: ignore[no-untyped-def]
    """Return (code point, position after it) at byte i < end.

    Bytes that are not UTF-8 give U+FFFD and are passed one at a time; nothing at or after `end` is read.
    """
    b = np.int64(data[i])
    if b < 0x80:
        return b, i + 1
    if b < 0xC2:
        return 0xFFFD, i + 1
    size = 2 if b < 0xE0 else (3 if b < 0xF0 else 4)
    if b > 0xF4 or i + size > end:
        return 0xFFFD, i + 1
    code = b & (0x7F >> size)
    for k in range(1, size):
        follow = np.int64(data[i + k])
        if follow & 0xC0 != 0x80:
            return 0xFFFD, i + 1
        code = (code << 6) | (follow & 0x3F)
    if code > 0x10FFFF or (size == 3 and (code < 0x800 or code >> 11 == 0x1B)) or (size == 4 and code < 0x10000):
        return 0xFFFD, i + 1  # beyond Unicode, a surrogate, or overlong
    return code, i + size
