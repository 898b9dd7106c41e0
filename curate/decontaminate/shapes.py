"""Text → code tokens whose identifiers have no names, so that renaming them changes nothing.

A token is a keyword, a built-in name, an attribute (`.append`), a number, a string (all the same), a punctuation mark,
or an identifier. The n-gram at a token spells each identifier as the distance to its last use inside the n-gram
(Baker 1995, parameterized matching): `a = a + b` and `x = x + y` are equal, `x = y + y` is not. Comments after `#`,
triple-quoted strings, white space and line ends are left out, HTML entities of < > & " ' are read.

An n-gram with few marks of code is none, so prose has none, and text without marks is not walked at all (`spans_of_code`): what is
on a page without them costs a look at each byte. The keywords are
Python's and the common ones of C, Java, JavaScript, Go and Rust; comments of other languages stay in as if they were code.
"""

from __future__ import annotations

import builtins
import keyword
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from curate.decontaminate.lookup import seems_in
from curate.decontaminate.normalize import Bytes, Hashes, Places, read_only
from curate.decontaminate.walk import MULTIPLIER
from curate.kernels.compiled import compiled, inlined

IDENTIFIER, STRING = np.uint64(1), np.uint64(2)
MIN_MARKS = 3  # of code, in an n-gram
DENSE_MARKS, DENSE_BYTES, SPAN_MARGIN = 4, 64, 1500
MAX_STRING_BYTES, MAX_TRIPLE_BYTES = 300, 8000
OTHER_KEYWORDS = [
    "abstract",
    "boolean",
    "byte",
    "case",
    "catch",
    "char",
    "const",
    "default",
    "delete",
    "do",
    "double",
    "enum",
    "export",
    "extends",
    "extern",
    "final",
    "float",
    "fn",
    "func",
    "function",
    "goto",
    "implements",
    "int",
    "interface",
    "let",
    "long",
    "match",
    "mut",
    "namespace",
    "new",
    "null",
    "nullptr",
    "package",
    "private",
    "protected",
    "pub",
    "public",
    "select",
    "self",
    "short",
    "signed",
    "sizeof",
    "static",
    "struct",
    "super",
    "switch",
    "template",
    "this",
    "throw",
    "throws",
    "type",
    "typedef",
    "typeof",
    "union",
    "unsigned",
    "use",
    "using",
    "var",
    "virtual",
    "void",
    "volatile",
    "undefined",
    "true",
    "false",
    "List",
    "Dict",
    "Tuple",
    "Optional",
    "Any",
]


@dataclass(frozen=True, slots=True)
class Shapes:
    """Code tokens: `shapes` uint64 (what a token is), `names` uint64 (hash of its spelling), `starts`, `ends` (bytes)."""

    shapes: Hashes
    names: Hashes
    starts: Places
    ends: Places

    def __len__(self) -> int:
        return len(self.shapes)


def shapes_of_pieces(data: Bytes, begins: Places, ends: Places, capacity: int) -> tuple[Shapes, Places, int, int]:
    """Do for code what `normalize.tokenize_pieces` does for words; the same results."""
    room = int(min(capacity, (ends - begins + 1).sum()))
    shapes, names = np.empty(room, np.uint64), np.empty(room, np.uint64)
    starts, stops = np.empty(room, np.int64), np.empty(room, np.int64)
    bounds = np.zeros(len(begins) + 1, np.int64)
    done, place = walk_shapes(read_only(data), begins, ends, *_tables(), shapes, names, starts, stops, bounds)
    n = int(bounds[done + 1] if place else bounds[done])
    return Shapes(shapes[:n], names[:n], starts[:n], stops[:n]), bounds, done, place


@cache
def _tables() -> tuple[Any, ...]:
    """Return (hash table of literal names, class per byte: 0 space, 1 name, 2 digit, 3 mark, 4 other punctuation)."""
    literal = {*keyword.kwlist, *OTHER_KEYWORDS, *(n for n in dir(builtins) if n.islower())}
    keys = np.zeros(2048, np.uint64)
    for word in sorted(literal):
        h = 0
        for letter in word:
            h = ((h ^ ord(letter)) * int(MULTIPLIER)) & 0xFFFFFFFFFFFFFFFF
        h ^= h >> 29
        slot = h & 2047
        while keys[slot]:
            slot = (slot + 1) & 2047
        keys[slot] = h
    kind = np.zeros(256, np.uint8)
    for byte in range(128):
        char = chr(byte)
        if char.isalpha() or char == "_":
            kind[byte] = 1
        elif char.isdigit():
            kind[byte] = 2
        elif char in "=()[]{}<>+*/%|&^~@":
            kind[byte] = 3
        elif char in ".,:;!?-":
            kind[byte] = 4
    kind[0x80:] = 1
    keys.flags.writeable = kind.flags.writeable = False
    return keys, kind


@inlined
def _known(key: Any, keys: Any) -> Any:
    slot = np.int64(key & np.uint64(2047))
    while keys[slot] != 0:
        if keys[slot] == key:
            return True
        slot = (slot + 1) & 2047
    return False


@inlined
def _string_end(data: Any, p: int, end: int) -> Any:
    """Return (place after the string that opens at `p`, whether it is triple-quoted); p when it does not close."""
    quote = data[p]
    if p + 2 < end and data[p + 1] == quote and data[p + 2] == quote:
        for q in range(p + 3, min(end - 2, p + MAX_TRIPLE_BYTES)):
            if data[q] == quote and data[q + 1] == quote and data[q + 2] == quote:
                return q + 3, True
        return p, True
    q = p + 1
    stop = min(end, p + MAX_STRING_BYTES)
    while q < stop and data[q] != 10:
        if data[q] == 92:
            q += 1
        elif data[q] == quote:
            return q + 1, False
        q += 1
    return p, False


@inlined
def _unescaped(data: Any, p: int, end: int) -> Any:
    """Return (byte, length) of the character at `p`, an HTML entity read as what it stands for."""
    if p + 3 < end and data[p] == 38:
        if data[p + 2] == 116 and data[p + 3] == 59:
            if data[p + 1] == 108:
                return 60, 4
            if data[p + 1] == 103:
                return 62, 4
        if p + 4 < end and data[p + 1] == 97 and data[p + 2] == 109 and data[p + 3] == 112 and data[p + 4] == 59:
            return 38, 5
        if p + 5 < end and data[p + 1] == 113 and data[p + 2] == 117 and data[p + 5] == 59:
            return 34, 6
        if p + 4 < end and data[p + 1] == 35 and data[p + 2] == 51 and data[p + 3] == 57 and data[p + 4] == 59:
            return 39, 5
    return np.int64(data[p]), 1


@inlined
def _is_mark(shape: Any) -> Any:
    """Whether a token is a mark of code, and none of `,` and `.`, which prose has as well."""
    return 256 < shape < 512 and shape != 256 + 44 and shape != 256 + 46


@inlined
def _back(shapes: Any, names: Any, begin: int, at: int, size: int) -> Any:
    """Return how many tokens before `at`, and at or behind `begin`, its identifier was last used; 0 for none within `size` tokens."""
    if shapes[at] == IDENTIFIER:
        for back in range(1, min(size, at - begin + 1)):
            if shapes[at - back] == IDENTIFIER and names[at - back] == names[at]:
                return back
    return 0


@compiled
def walk_shapes(data: Any, begins: Any, stops: Any, keys: Any, kind: Any, shapes: Any, names: Any, starts: Any, ends: Any, bounds: Any) -> Any:
    """Fill the arrays of code tokens; return (number of texts done, place in the next one where the room ended, or 0)."""
    n, room = 0, len(shapes)
    for i in range(len(begins)):
        p, end = begins[i], stops[i]
        while p < end:
            first, b, size = p, np.int64(data[p]), 1
            if b == 38:
                b, size = _unescaped(data, p, end)
            k = kind[b]
            p += size
            shape, name = np.uint64(0), np.uint64(0)
            if k >= 3:
                shape = np.uint64(256 + b)
            elif k:
                h = np.uint64(0)
                p = first
                while p < end and (kind[data[p]] == 1 or kind[data[p]] == 2 or (k == 2 and data[p] == 46)):
                    h = (h ^ np.uint64(data[p])) * MULTIPLIER
                    p += 1
                name = h ^ (h >> np.uint64(29))
                attribute = first > begins[i] and data[first - 1] == 46
                shape = name if k == 2 or attribute or _known(name, keys) else IDENTIFIER
            elif b == 35:  # a comment
                while p < end and data[p] != 10:
                    p += 1
            elif (b == 34 or b == 39) and (first == begins[i] or kind[data[first - 1]] != 1):
                q, triple = _string_end(data, first, end) if size == 1 else (first, False)
                if q > first:
                    p = q
                    shape = np.uint64(0) if triple else STRING
            if shape:
                if n == room:
                    bounds[i + 1] = n
                    return i, first
                shapes[n], names[n], starts[n], ends[n] = shape, name, first, p
                n += 1
        bounds[i + 1] = n
    return len(begins), 0


@compiled
def shape_grams(shapes: Any, names: Any, bounds: Any, size: int, coarse: Any, backs: Any, keys: Any) -> None:
    """Fill keys[i] with the hash of the `size` tokens at i, identifiers spelled by distance; 0 where it is not code.

    It is 0 too where `coarse` turns the n-gram away: a bitmap of hashes that all identifiers are equal in (`coarse_grams`), which go on
    from token to token. `backs`, uint8, is room for how far behind its last use each identifier is.
    """
    keys[:] = 0
    power = np.uint64(1)
    for _ in range(size - 1):
        power *= MULTIPLIER
    for piece in range(len(bounds) - 1):
        begin, last = bounds[piece], bounds[piece + 1] - size + 1
        marks, upto, rolled = 0, begin, np.uint64(0)
        for j in range(begin, min(begin + size - 1, bounds[piece + 1])):
            marks += _is_mark(shapes[j])
            rolled = rolled * MULTIPLIER + shapes[j]
        for i in range(begin, last):
            marks += _is_mark(shapes[i + size - 1])
            rolled = rolled * MULTIPLIER + shapes[i + size - 1]
            if marks >= MIN_MARKS and seems_in(coarse, rolled):
                for j in range(max(i, upto), i + size):
                    backs[j] = _back(shapes, names, begin, j, size)
                upto, h = i + size, np.uint64(0)
                for j in range(i, i + size):
                    code = shapes[j]
                    if code == IDENTIFIER:
                        code = np.uint64(512 + (backs[j] if backs[j] <= j - i else 0))
                    h = (h ^ code) * MULTIPLIER
                    h ^= h >> np.uint64(31)
                keys[i] = h | np.uint64(1)
            marks -= _is_mark(shapes[i])
            rolled -= shapes[i] * power


@compiled
def code_spans(data: Any, offsets: Any, kind: Any, rows: Any, begins: Any, ends: Any) -> int:
    """Write the spans that may hold code, with the row that each is of, as far as there is room; return how many there are.

    A span begins and ends SPAN_MARGIN bytes around places where DENSE_BYTES bytes have DENSE_MARKS marks of code, at a line's end.
    """
    n, room = 0, len(rows)
    places = np.empty(DENSE_MARKS, np.int64)  # of the last marks
    for row in range(len(offsets) - 1):
        first, last = offsets[row], offsets[row + 1]
        places[:] = first - DENSE_BYTES
        at, upto = 0, first  # `upto`: the end of the span in hand
        for here in range(first, last):
            if kind[data[here]] != 3:
                continue
            places[at] = here
            at = (at + 1) % DENSE_MARKS
            p = max(here, upto - SPAN_MARGIN)
            if p >= min(last, places[at] + DENSE_BYTES):  # the bytes from `here` on before which there are enough marks are in the span
                continue
            if upto == first or p - SPAN_MARGIN > upto:
                begin = max(upto, p - SPAN_MARGIN)
                while begin > upto and data[begin - 1] != 10 and p - begin < 2 * SPAN_MARGIN:
                    begin -= 1
                n += 1
                if n <= room:
                    rows[n - 1], begins[n - 1] = row, begin
            upto = min(last, p + SPAN_MARGIN + DENSE_BYTES)
            if n <= room:
                ends[n - 1] = upto
    return n


def spans_of_code(data: Bytes, offsets: Places) -> tuple[Places, Places, Places]:
    """Return (row, begin, end), int64, of each part of the texts data[offsets[i]:offsets[i + 1]] that may hold code, in order."""
    room = 2 * len(offsets) + 64
    while True:
        rows, begins, ends = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
        n = code_spans(read_only(data), offsets, _tables()[1], rows, begins, ends)
        if n <= room:
            return rows[:n], begins[:n], ends[:n]
        room = n


def gram_keys(shapes: Shapes, bounds: Places, size: int, coarse: Hashes) -> Hashes:
    """Return the n-gram key at each token of `shapes`, 0 where `coarse` turns it away; see `shape_grams`."""
    keys = np.empty(len(shapes), np.uint64)
    shape_grams(shapes.shapes, shapes.names, bounds, size, coarse, np.empty(len(shapes), np.uint8), keys)
    return keys


def coarse_grams(shapes: Hashes, places: Places, size: int) -> Hashes:
    """Return the hash of the `size` tokens at each place, all identifiers equal."""
    result = np.zeros(len(places), np.uint64)
    for step in range(size):
        result = result * MULTIPLIER + shapes[places + step]
    return result
