"""The hot loops from tokens to candidates: n-gram hashes, table look-ups, events, windows.

A document's n-grams go through a bitmap that turns most of them away and an open-addressing table; what is found becomes events
(unit, place), but for units of which the document has too little; and a window of about twice the unit's length in which events weigh
enough is a candidate, to be scored (`score`). What costs here is waiting for memory: so a key stands beside what it leads to. All of it
is integer work and sums in a fixed order, so results do not depend on batches.

What is traded away: a text of which no three words in a row are left is not seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.decontaminate.normalize import read_only
from curate.decontaminate.walk import MULTIPLIER
from curate.kernels.compiled import compiled, inlined

Array = NDArray[Any]
POST_WEIGHT = 256  # parts of a weight, as postings have it, rounded up
SLACK_TOKENS = 64  # a window is twice the unit and so much: room for an advertisement


def fill_table(keys: Array, payload: Array | None = None) -> Array:
    """Return a table, uint64 [2 · slots], of distinct non-zero keys, each followed by its payload: its place in `keys`, unless told.

    Key and payload stand side by side, as what a look-up costs is how often it has to wait for memory.
    """
    table = np.zeros(2 << max(4, int(len(keys) * 2).bit_length()), np.uint64)
    place(np.ascontiguousarray(keys, np.uint64), np.arange(len(keys), dtype=np.uint64) if payload is None else payload, table)
    return table


def fill_bitmap(keys: Array) -> Array:
    """Return a bitmap, uint64, of two bits per key in one of its words: one in fifteen other keys seems to be in it, or less."""
    bitmap = np.zeros((1 << max(12, int(len(keys) * 6).bit_length())) // 64, np.uint64)
    at = ((keys >> np.uint64(20)) & np.uint64(len(bitmap) - 1)).astype(np.int64)
    np.bitwise_or.at(bitmap, at, np.uint64(1) << (keys >> np.uint64(58)) | np.uint64(1) << ((keys >> np.uint64(52)) & np.uint64(63)))
    return bitmap


def everything() -> Array:
    """Return a bitmap that turns nothing away."""
    return read_only(np.full(1, 0xFFFFFFFFFFFFFFFF, np.uint64))


@compiled
def place(keys: Array, payload: Array, table: Array) -> None:
    """Put keys[i] → payload[i] into the table."""
    mask = np.uint64(len(table) // 2 - 1)
    for i in range(len(keys)):
        slot = keys[i] & mask
        while table[slot + slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        table[slot + slot], table[slot + slot + np.uint64(1)] = keys[i], payload[i]


@inlined
def seems_in(bitmap: Array, key: Any) -> Any:
    """Return 1 for a key that `bitmap` has, and for some others, else 0."""
    word = bitmap[(key >> np.uint64(20)) & np.uint64(len(bitmap) - 1)]
    return (word >> (key >> np.uint64(58))) & (word >> ((key >> np.uint64(52)) & np.uint64(63))) & np.uint64(1)


def gram_hashes(keys: Array, bounds: Array, size: int) -> Array:
    """Return the hash, uint64, of the `size` tokens at each place; 0 where the piece of `bounds` has no more so many."""
    result = np.zeros(len(keys), np.uint64)
    hash_grams(keys, bounds, size, result)
    return result


@compiled
def hash_grams(keys: Array, bounds: Array, size: int, result: Array) -> None:
    """Fill `result` with n-gram hashes, never across a bound."""
    for piece in range(len(bounds) - 1):
        for i in range(bounds[piece], bounds[piece + 1] - size + 1):
            h = keys[i]
            for j in range(i + 1, i + size):
                h = h * MULTIPLIER + keys[j]
            h = (h ^ (h >> np.uint64(32))) * MULTIPLIER
            result[i] = (h ^ (h >> np.uint64(29))) | np.uint64(1)
        for i in range(max(bounds[piece], bounds[piece + 1] - size + 1), bounds[piece + 1]):
            result[i] = 0


@compiled
def find(grams: Array, table: Array, bitmap: Array, places: Array, payloads: Array) -> Any:
    """Write the places of known n-grams, and their payloads; return how many there are. `places` has room for one more than all."""
    mask = np.uint64(len(table) // 2 - 1)
    n, some = 0, 0  # type: Any, Any
    for i in range(len(grams)):  # without a branch, as a processor cannot guess it
        places[some] = i
        some += np.int64(seems_in(bitmap, grams[i]))
    for k in range(some):
        i = places[k]
        key = grams[i]
        slot = key & mask
        while key != 0 and table[slot + slot] != 0:
            if table[slot + slot] == key:
                places[n], payloads[n] = i, table[slot + slot + np.uint64(1)]
                n += 1
                break
            slot = (slot + np.uint64(1)) & mask
    return n


@inlined
def _spanned(tips: Array, unit: Any, m: int, keys: Array, low: int, high: int, first: int, last: int) -> Any:
    """Whether a text as long as a unit of `m` tokens, with the matched n-grams low..high in it, may begin and end as the unit does.

    It may also begin or end with the unit's second or last but one token. The document's piece is keys[first:last].
    """
    at, begins, ends = np.int64(unit) * 4, False, False
    for t in range(max(first, high - m), low + 1):
        begins |= keys[t] == tips[at] or keys[t] == tips[at + 1]
    if begins:
        for t in range(high, min(last, low + m + 1)):
            ends |= keys[t] == tips[at + 2] or keys[t] == tips[at + 3]
    return ends


@compiled
def events(
    places: Array,
    payloads: Array,
    piece_of: Array,
    bounds: Array,
    keys: Array,
    posts: Array,
    unit_start: Array,
    tips: Array,
    limits: Array,
    usual: Array,
    sums: Array,
    result: Array,
) -> int:
    """Write (unit << 32 | index into places) for each known n-gram and each unit that it leads to, where a piece has enough of the unit's.

    Return how many, or -1 when there is no room. Enough is `usual`, int32 [U], in POST_WEIGHT parts: most units of a piece have less. It is
    `limits` where a text of the unit's length may begin and end as it does. `payloads`, `posts` and `tips` are those of `View`. `sums` is
    int32 [U] zeros, and is left so.
    """
    n, i, room = 0, 0, len(result)
    low, unit_bits = np.uint64(0xFFFFFFFF), np.uint64(0x7FFFFFFF)
    while i < len(places):
        piece, m = piece_of[places[i]], n
        fits = True
        while i < len(places) and piece_of[places[i]] == piece:
            j = payloads[i] >> np.uint64(32)
            while j != low:
                post = posts[j]
                if m == room:
                    fits = False
                    break
                sums[post & unit_bits] += np.int32(post >> np.uint64(32))
                result[m] = (post & unit_bits) << np.uint64(32) | np.uint64(i)
                m += 1
                j = low if post & np.uint64(0x80000000) else j + np.uint64(1)
            i += 1
        first = n
        for k in range(first, m):
            event = result[k]
            unit = np.int64(event >> np.uint64(32))
            if sums[unit] < limits[unit]:
                continue
            if sums[unit] < usual[unit]:
                place, size = places[np.int64(event & low)], unit_start[unit + 1] - unit_start[unit]
                if not _spanned(tips, unit, size, keys, place, place, bounds[piece], bounds[piece + 1]):
                    continue
            result[k], result[n] = result[n], event
            n += 1
        for k in range(first, m):
            sums[result[k] >> np.uint64(32)] = 0
        if not fits:
            return -1
    return n


@compiled
def windows(
    sorted_events: Array,
    places: Array,
    numbers: Array,
    piece_of: Array,
    bounds: Array,
    keys: Array,
    unit_start: Array,
    tips: Array,
    gram_weight: Array,
    needed: Array,
    usual: Array,
    counts: Array,
    result: Array,
    weak: Array,
) -> int:
    """Write candidates (unit, first place, last place) int64 [:, 3]; return how many.

    A candidate is a window in which the distinct n-grams of the unit weigh at least `needed`, float32 [U]. `counts` is int32
    zeros, one per n-gram, and is left so. After a window, the search goes on behind it. `weak`, bool, says which weigh less than `usual`:
    they are left out unless they are in a text that begins and ends as the unit does.
    """
    n, e, total = 0, 0, len(sorted_events)
    low = np.uint64(0xFFFFFFFF)
    while e < total:
        unit, first = np.int64(sorted_events[e] >> np.uint64(32)), np.int64(sorted_events[e] & low)
        piece, all_weight = piece_of[places[first]], np.float64(gram_weight[numbers[first]])
        stop = e + 1
        while stop < total and np.int64(sorted_events[stop] >> np.uint64(32)) == unit:
            at = np.int64(sorted_events[stop] & low)
            if piece_of[places[at]] != piece:
                break
            all_weight += gram_weight[numbers[at]]
            stop += 1
        if all_weight < needed[unit] - 1e-6:  # most: no window can have enough
            e = stop
            continue
        length = 2 * (unit_start[unit + 1] - unit_start[unit]) + SLACK_TOKENS
        s, weight, best, best_s, best_e = e, np.float64(0), np.float64(0), -1, -1
        for t in range(e, stop + 1):
            ended = t == stop
            if not ended:
                at = np.int64(sorted_events[t] & low)
                ended = best_s >= 0 and places[at] - places[np.int64(sorted_events[best_s] & low)] > length
            if ended and best_s >= 0:
                low_place, high_place = places[np.int64(sorted_events[best_s] & low)], places[np.int64(sorted_events[best_e] & low)]
                weak[n] = best < usual[unit]
                size = unit_start[unit + 1] - unit_start[unit]
                if not weak[n] or _spanned(tips, unit, size, keys, low_place, high_place, bounds[piece], bounds[piece + 1]):
                    result[n, 0], result[n, 1], result[n, 2] = unit, low_place, high_place
                    n += 1
                while s < t and s <= best_e:
                    number = numbers[np.int64(sorted_events[s] & low)]
                    counts[number] -= 1
                    if counts[number] == 0:
                        weight -= gram_weight[number]
                    s += 1
                best, best_s = np.float64(0), -1
            if t == stop:
                break
            at = np.int64(sorted_events[t] & low)
            number = numbers[at]
            if counts[number] == 0:
                weight += gram_weight[number]
            counts[number] += 1
            while places[at] - places[np.int64(sorted_events[s] & low)] > length:
                number = numbers[np.int64(sorted_events[s] & low)]
                counts[number] -= 1
                if counts[number] == 0:
                    weight -= gram_weight[number]
                s += 1
            if weight >= needed[unit] and weight > best + 1e-9:
                best, best_s, best_e = weight, s, t
        while s < stop:
            number = numbers[np.int64(sorted_events[s] & low)]
            counts[number] = 0
            s += 1
        e = stop
    return n
