"""Where a text may hold an e-mail address, a number that identifies somebody, or a bank account.

A cheap scan of the bytes that misses nothing and promises little: each span found is then checked by exact rules
(`curate.annotate.pii`). Few documents have any, so that nearly all text is read only once, by this.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from curate.kernels.compiled import compiled, inlined

EMAIL, NUMBER, ACCOUNT = 0, 1, 2

_DIGIT, _UPPER, _LETTER, _LOCAL, _DOMAIN, _SEPARATOR = 1, 2, 4, 8, 16, 32


@functools.cache
def _classes() -> NDArray[np.uint8]:
    classes = np.zeros(256, np.uint8)
    for flag, characters in (
        (_DIGIT, "0123456789"),
        (_UPPER, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        (_LETTER, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"),
        (_LOCAL, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+/=?^_`{|}~-."),
        (_DOMAIN, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-."),
        (_SEPARATOR, " .()-/"),
    ):
        for character in characters:
            classes[ord(character)] |= flag
    classes[128:] |= _LETTER  # part of some letter or symbol: what follows is not the beginning of a number
    classes.flags.writeable = False
    return classes


def candidates(data: NDArray[np.uint8], starts: NDArray[np.int32], ends: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return int64[candidates, 4]: row, first byte, byte after the last one, and EMAIL, NUMBER or ACCOUNT; by row."""
    found = np.zeros((0, 4), np.int64)
    total = _scan(data, starts, ends, _classes(), found)
    if total:
        found = np.zeros((total, 4), np.int64)
        _scan(data, starts, ends, _classes(), found)
    return found


@inlined
def _number_end(data, i, end, classes):  # type: ignore[no-untyped-def]
    """Follow digits and what separates their groups. Return (end after the last digit, digits, full stops)."""
    last, digits, stops, gap = i, 0, 0, 0
    while i < end and gap <= 3:
        kind = classes[data[i]]
        if kind & _DIGIT:
            digits += 1
            gap = 0
            last = i + 1
        elif kind & _SEPARATOR or data[i] == 43:
            gap += 1
            stops += data[i] == 46
        else:
            break
        i += 1
    return last, digits, stops


@inlined
def _account_end(data, i, end, classes):  # type: ignore[no-untyped-def]
    """Follow capitals and digits in groups with single spaces between. Return (end, characters without spaces)."""
    last, count = i, 0
    while i < end and count < 34:
        if classes[data[i]] & (_DIGIT | _UPPER):
            count += 1
            last = i + 1
        elif data[i] != 32 or data[i - 1] == 32:
            break
        i += 1
    return last, count


@compiled
def _scan(data, starts, ends, classes, found):  # type: ignore[no-untyped-def]
    """Write the candidates that `found` has room for. Return how many there are."""
    n = 0
    for r in range(len(starts)):
        begin, end = np.int64(starts[r]), np.int64(ends[r])
        i = begin
        while i < end:
            b = data[i]
            kind = classes[b]
            left, right, what = i, i, -1
            inside = i > begin and classes[data[i - 1]] & (_DIGIT | _LETTER) != 0
            if b == 64:
                while left > begin and i - left < 64 and classes[data[left - 1]] & _LOCAL:
                    left -= 1
                right = i + 1
                while right < end and right - i < 255 and classes[data[right]] & _DOMAIN:
                    right += 1
                if left < i and right > i + 3:
                    what = EMAIL
                right = i + 1 if what < 0 else right
            elif not inside and (kind & _DIGIT or ((b == 43 or b == 40) and i + 1 < end and (classes[data[i + 1]] & _DIGIT or data[i + 1] == 43))):
                right, digits, stops = _number_end(data, i, end, classes)
                if digits >= 7 or (digits >= 4 and stops >= 3):
                    what = NUMBER
            elif (
                not inside
                and kind & _UPPER
                and i + 3 < end
                and classes[data[i + 1]] & _UPPER
                and classes[data[i + 2]] & classes[data[i + 3]] & _DIGIT
            ):
                right, count = _account_end(data, i, end, classes)
                if count >= 15:
                    what = ACCOUNT
                right = i + 1
                if what == ACCOUNT:
                    right, _ = _account_end(data, i, end, classes)
            if what >= 0:
                if n < len(found):
                    found[n, 0], found[n, 1], found[n, 2], found[n, 3] = r, left, right, what
                n += 1
            i = max(right, i + 1)
    return n
