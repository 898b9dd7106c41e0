"""The word tokenizer's kernels: one walk over UTF-8 in place; see `normalize` for what a token is.

ASCII goes through a table of classes and, inside words, a tight loop; anything else is decoded and looked up in the folding
table. Look-aheads (tags, entities, link targets) are bounded, so hostile markup costs a constant factor. Types are Any since
numba infers its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from curate.decontaminate.fold import APOSTROPHE, DIGIT, LETTER, NOTHING, SEPARATOR, SINGLE, SIZE
from curate.kernels.compiled import compiled, inlined

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
NUMBER = np.uint64(0x4E554D4245520001)  # the hash of every number token
ENTITY, TAG, COMMAND, HYPHEN, BRACKET, WIDE = 6, 7, 8, 9, 10, 11  # more classes, of bytes; WIDE is no ASCII
MAX_TAG_BYTES, MAX_MARK_BYTES, MAX_LINK_BYTES, MAX_ENTITY_BYTES = 400, 120, 300, 12


@inlined
def _finish(h: Any) -> Any:
    return h ^ (h >> np.uint64(29))


@inlined
def _mix(h: Any, code: Any) -> Any:
    return (h ^ code) * MULTIPLIER


@inlined
def _value(number: Any) -> Any:
    """Return the hash that the digits of `number` have."""
    scale = 1
    while number // scale >= 10:
        scale *= 10
    h = np.uint64(0)
    while scale:
        h = _mix(h, np.uint64(48 + number // scale % 10))
        scale //= 10
    return _finish(h) | np.uint64(1)


@inlined
def _meaning(key: Any, keys: Any, slots: Any) -> Any:
    slot = np.int64(key & np.uint64(8191))
    while keys[slot] != 0:
        if keys[slot] == key:
            return slots[slot]
        slot = (slot + 1) & 8191
    return -1


@inlined
def _is_letter(b: Any) -> Any:
    return 97 <= (b | 32) <= 122


@inlined
def _is_digit(b: Any) -> Any:
    return 48 <= b <= 57


@inlined
def _is_space(b: Any) -> Any:
    return b == 32 or 9 <= b <= 13


@inlined
def _decode(data: Any, p: Any, end: Any) -> Any:
    """Return (code point, length) at `p`; a broken sequence is one byte that reads as a separator."""
    b = np.int64(data[p])
    if 0xC2 <= b < 0xE0 and p + 1 < end:
        return ((b & 31) << 6) | (np.int64(data[p + 1]) & 63), 2
    if 0xE0 <= b < 0xF0 and p + 2 < end:
        return ((b & 15) << 12) | ((np.int64(data[p + 1]) & 63) << 6) | (np.int64(data[p + 2]) & 63), 3
    if 0xF0 <= b < 0xF5 and p + 3 < end:
        high = ((b & 7) << 18) | ((np.int64(data[p + 1]) & 63) << 12)
        return high | ((np.int64(data[p + 2]) & 63) << 6) | (np.int64(data[p + 3]) & 63), 4
    return 32, 1


@inlined
def _tag(data: Any, p: Any, end: Any, keys: Any, slots: Any) -> Any:
    """Return (the place after the tag, comment or calculator mark at `p`, whether words go on across it); p if there is none."""
    q = p + 1
    if q < end and data[q] == 60:  # <<16-3-4=9>>
        q += 1
        stop = min(end - 1, p + MAX_MARK_BYTES)
        while q < stop and data[q] != 62 and data[q] != 60 and not _is_space(data[q]):
            q += 1
        if q < stop and q > p + 2 and data[q] == 62 and data[q + 1] == 62:
            return q + 2, False
        return p, False
    if q + 2 < end and data[q] == 33 and data[q + 1] == 45 and data[q + 2] == 45:
        for r in range(q + 3, min(end - 2, p + MAX_TAG_BYTES)):
            if data[r] == 45 and data[r + 1] == 45 and data[r + 2] == 62:
                return r + 3, False
        return p, False
    if q < end and data[q] == 47:
        q += 1
    if q >= end or not _is_letter(data[q]):
        return p, False
    h = _mix(np.uint64(0), np.uint64(60))
    while q < end and (_is_letter(data[q]) or _is_digit(data[q])):
        h = _mix(h, np.uint64(data[q] | 32 if _is_letter(data[q]) else data[q]))
        q += 1
    assigned = q < end and (data[q] == 62 or data[q] == 47)
    stop = min(end, p + MAX_TAG_BYTES)
    while q < stop and data[q] != 62:
        if data[q] == 60:
            return p, False
        assigned |= data[q] == 61
        q += 1
    if q >= stop or not (assigned or data[q - 1] == 47 or _is_space(data[q - 1])):
        return p, False
    return q + 1, _meaning(_finish(h), keys, slots) == 1


@inlined
def _entity(data: Any, p: Any, end: Any, keys: Any, slots: Any) -> Any:
    """Return (code point, length) of the entity at `p`; length 0 if there is none."""
    q = p + 1
    stop = min(end, p + MAX_ENTITY_BYTES)
    if q < stop and data[q] == 35:
        q += 1
        base = 10
        if q < stop and (data[q] | 32) == 120:
            base, q = 16, q + 1
        first, code = q, 0
        while q < stop and (_is_digit(data[q]) or (base == 16 and 97 <= (data[q] | 32) <= 102)):
            code = code * base + (data[q] - 48 if _is_digit(data[q]) else (data[q] | 32) - 87)
            q += 1
        if q > first and q < stop and data[q] == 59:
            return (code if code < 0x110000 else 32), q + 1 - p
        return 32, 0
    h = _mix(np.uint64(0), np.uint64(38))
    while q < stop and (_is_letter(data[q]) or _is_digit(data[q])):
        h = _mix(h, np.uint64(data[q]))
        q += 1
    if q < stop and data[q] == 59 and q > p + 1:
        code = _meaning(_finish(h), keys, slots)
        if code >= 0:
            return code, q + 1 - p
    return 32, 0


@inlined
def _command(data: Any, p: Any, end: Any, keys: Any, slots: Any) -> Any:
    """Return the place after the formatting command, or escaped line break, at `p`; p + 1 if what follows is a word."""
    q = p + 1
    h = _mix(np.uint64(0), np.uint64(92))
    while q < end and q < p + 24 and _is_letter(data[q]):
        h = _mix(h, np.uint64(data[q]))
        q += 1
    if q > p + 1 and _meaning(_finish(h), keys, slots) == 1:
        return q
    if q > p + 2 and (data[p + 1] == 110 or data[p + 1] == 116 or data[p + 1] == 114) and data[p + 2] < 97:  # \nThe
        return p + 2
    return p + 1


@inlined
def _is_option(data: Any, begin: Any, end: Any, first: Any, last: Any, number: Any) -> Any:
    """Whether the token data[first:last] is an option letter or a line's number: "A. ", "(b)", "3) "."""
    if last >= end or (not number and (data[first] | 32) > 104):
        return False
    after, before = data[last], np.uint8(10) if first == begin else data[first - 1]
    if after == 41:  # )
        return before == 40 or _is_space(before) or before == 91 or before == 42
    if (
        (after != 46 and after != 58)
        or not (_is_space(before) or before == 42)
        or (last + 1 < end and not (_is_space(data[last + 1]) or data[last + 1] == 42))
    ):
        return False
    return not number or before == 10


@compiled
def plain_words(
    data: Any, p: Any, end: Any, byte_kind: Any, numerals: Any, n: Any, apart: Any, hashes: Any, values: Any, starts: Any, ends: Any, capital: Any
) -> Any:
    """Take words of ASCII letters and numbers with nothing but separators around them: most of a text, in a loop of few variables.

    Return (number of tokens, place of what is no such word, whether more than blanks stands before it). Left to `walk` is what may be
    an option letter, a line's number or a number's word, a number that may go on behind its mark, and what there is no room for.
    """
    room = len(hashes)
    while True:
        while p < end and byte_kind[data[p]] == SEPARATOR:
            apart |= data[p] > 32 and data[p] != 62
            p += 1
        if p >= end or n == room:
            return n, p, apart
        first, h, kind = p, np.uint64(0), byte_kind[data[p]]
        if kind == LETTER:
            while p < end and byte_kind[data[p]] == LETTER:
                h = _mix(h, np.uint64(data[p] | 32))
                p += 1
        elif kind == DIGIT:
            while p < end and byte_kind[data[p]] == DIGIT:
                h = _mix(h, np.uint64(data[p]))
                p += 1
        if p >= end or byte_kind[data[p]] != SEPARATOR or ((kind == DIGIT or p == first + 1) and (data[p] in (41, 44, 46, 58))):
            return n, first, apart
        key = _finish(h)
        bit = key >> np.uint64(52)
        if kind == DIGIT:
            hashes[n], values[n], capital[n] = NUMBER, key | np.uint64(1), False
        elif (numerals[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & np.uint64(1):
            return n, first, apart
        else:
            hashes[n], values[n], capital[n] = key, 0, data[first] < 97
        starts[n], ends[n] = first, p
        n, apart = n + 1, False


@inlined
def walk(
    data: Any,
    begin: Any,
    end: Any,
    kind: Any,
    reading: Any,
    byte_kind: Any,
    keys: Any,
    slots: Any,
    numerals: Any,
    hashes: Any,
    values: Any,
    starts: Any,
    ends: Any,
    capital: Any,
) -> Any:
    """Fill the token arrays from data[begin:end]; return (number of tokens, where to go on).

    Stops before a token that the arrays have no room for, so that a walk can be taken up at the returned place.
    """
    n, p = np.int64(0), np.int64(begin)  # type: Any, Any
    h, letters, first, last = np.uint64(0), np.int64(0), p, p  # type: Any, Any, Any, Any  # the token in hand: its hash, length, place
    number, upper = False, False  # type: Any, Any
    apart = False  # whether more than blanks and hyphens stands before the token in hand
    pending: Any = np.int64(-1)  # the value of the number word that the last token was, for "twenty-five"
    while p <= end:
        if letters == 0 and p < end and byte_kind[data[p]] <= DIGIT:
            more, p, apart = plain_words(data, p, end, byte_kind, numerals, n, apart, hashes, values, starts, ends, capital)
            pending = np.int64(-1) if more > n else pending
            n = more
        if p < end and byte_kind[data[p]] <= APOSTROPHE:  # the common case, without a call
            k, code, size = np.int64(byte_kind[data[p]]), np.int64(data[p]), np.int64(1)
        else:
            k, code, size = _character(data, p, begin, end, kind, byte_kind, keys, slots, letters)
        inside = k == APOSTROPHE and letters and not number and p + size < end and (_is_letter(data[p + size]) or data[p + size] >= 128)
        if k == NOTHING or inside:
            p += size
            continue
        if letters and number and k == SEPARATOR and (code == 44 or code == 46) and p + 1 < end and _is_digit(data[p + 1]):
            if code == 46:
                h = _mix(h, np.uint64(46))
            p += 1
            continue
        if letters and (k in (SEPARATOR, SINGLE, APOSTROPHE) or (k == DIGIT) != number):
            if (letters > 1 and not number) or last - first > 2 or not _is_option(data, begin, end, first, last, number):
                if n == len(hashes):
                    return n, first
                hashes[n], values[n], starts[n], ends[n], capital[n] = _finish(h), 0, first, last, upper
                word = np.int64(_meaning(hashes[n], keys, slots)) if 2 < letters < 10 and not number else np.int64(-1)
                more, pending = _settle(n, number, word, pending, apart, last, hashes, values, ends) if number or word >= 0 else (n + 1, np.int64(-1))
                n = more
                apart = False
            letters = 0
        if k == SEPARATOR and code != 32 and code != 45 and code != 62 and not 9 <= code <= 13:
            apart = True
        if k == SINGLE:
            if n == len(hashes):
                return n, p
            letter = reading[code] if code < SIZE else np.uint64(code)
            hashes[n], values[n], starts[n], ends[n], capital[n] = _finish(_mix(np.uint64(0), letter)), 0, p, p + size, False
            pending = -1
            n += 1
        elif k in (LETTER, DIGIT):
            if letters == 0:
                h, first, number, upper = np.uint64(0), p, k == DIGIT, 65 <= code <= 90
            packed = reading[code] if code < SIZE else np.uint64(code)
            while packed:
                h = _mix(h, packed & np.uint64(0x1FFFFF))
                packed >>= np.uint64(21)
            letters += 1
            last = p + size
            if not number:  # the common case, in a tight loop
                while last < end and byte_kind[data[last]] == LETTER:
                    h = _mix(h, np.uint64(data[last] | 32))
                    letters += 1
                    last += 1
                p = last
                continue
        p += size
    return n, end


@inlined
def _character(data: Any, p: Any, begin: Any, end: Any, kind: Any, byte_kind: Any, keys: Any, slots: Any, letters: Any) -> Any:
    """Return (class, code point, length) of what stands at `p`, which is no plain ASCII character; a blank behind the end."""
    if p >= end:
        return np.int64(SEPARATOR), np.int64(32), np.int64(1)
    if data[p] < 128:
        return _markup(data, p, begin, end, np.int64(byte_kind[data[p]]), keys, slots, kind, letters)
    code, size = _decode(data, p, end)
    if code < SIZE:
        return np.int64(kind[code]), code, size
    return np.int64(SINGLE if code < 0x40000 else NOTHING if code >= 0xE0000 else SEPARATOR), code, size


@inlined
def _settle(n: Any, number: Any, word: Any, pending: Any, apart: Any, last: Any, hashes: Any, values: Any, ends: Any) -> Any:
    """Mark token `n` as a number; return (the number of tokens now, the value of the number word that the last one is, or -1).

    `word` is the value of a number word. One that makes one number with the word before it ("twenty-five", "two hundred")
    extends that token.
    """
    if number:
        values[n], hashes[n] = hashes[n] | np.uint64(1), NUMBER
        return n + 1, np.int64(-1)
    joined = np.int64(-1)
    if pending > 0 and not apart:
        if word >= 100:
            joined = pending * word
        elif pending > 19 and pending % 10 == 0 and 0 < word < 10:
            joined = pending + word
    if joined >= 0:
        ends[n - 1], values[n - 1] = last, _value(joined)
        return n, joined
    hashes[n], values[n] = NUMBER, _value(word)
    return n + 1, word


@inlined
def _markup(data: Any, p: Any, begin: Any, end: Any, k: Any, keys: Any, slots: Any, kind: Any, letters: Any) -> Any:
    """Return (class, code point, length) of the markup character at `p`."""
    if k == TAG:
        q, inline = _tag(data, p, end, keys, slots)
        if q > p:
            return np.int64(NOTHING if inline else SEPARATOR), np.int64(32), np.int64(q - p)
    elif k == ENTITY:
        code, size = _entity(data, p, end, keys, slots)
        if size:
            return np.int64(kind[code] if code < SIZE else SEPARATOR), np.int64(code), np.int64(size)
    elif k == COMMAND:
        return np.int64(SEPARATOR), np.int64(92), np.int64(_command(data, p, end, keys, slots) - p)
    elif k == HYPHEN:
        if letters and p + 2 < end and data[p + 1] == 10 and 97 <= data[p + 2] <= 122 and p > begin and _is_letter(data[p - 1]):
            return np.int64(NOTHING), np.int64(45), np.int64(2)
    elif k == BRACKET and p + 1 < end and data[p + 1] == 40:  # ](target)
        q, stop = p + 2, min(end, p + MAX_LINK_BYTES)
        while q < stop and not _is_space(data[q]) and data[q] != 40 and data[q] != 41:
            q += 1
        if q < stop and data[q] == 41:
            return np.int64(SEPARATOR), np.int64(93), np.int64(q + 1 - p)
    return np.int64(SEPARATOR), np.int64(data[p]), np.int64(1)


@compiled
def walk_pieces(
    data: Any,
    begins: Any,
    stops: Any,
    kind: Any,
    reading: Any,
    byte_kind: Any,
    keys: Any,
    slots: Any,
    numerals: Any,
    hashes: Any,
    values: Any,
    starts: Any,
    ends: Any,
    capital: Any,
    bounds: Any,
) -> Any:
    """Walk several texts; return (number of texts done, place in the next one where the room ended, or 0)."""
    n = 0
    for i in range(len(begins)):
        room = (hashes[n:], values[n:], starts[n:], ends[n:], capital[n:])
        more, at = walk(data, begins[i], stops[i], kind, reading, byte_kind, keys, slots, numerals, *room)
        bounds[i + 1] = n + more
        n += more
        if at < stops[i]:
            return i, at
    return len(begins), 0
