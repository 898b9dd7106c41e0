"""The hot loops between tokens and matches: n-gram hashes, table lookups, candidate windows, scores.

A document's n-grams go through a bitmap (about one bit in eight is set) and an open-addressing table; what is found
becomes events (unit, place); a window of about twice the unit's length in which events weigh enough is a candidate; and a
candidate is scored by the runs of tokens that it shares with the unit (greedy tiling by longest run, Wise 1993, in two dimensions
and so free to be in any order). All of it is integer work and float32 sums in a fixed order, so results do not depend on batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.decontaminate.walk import MULTIPLIER
from curate.kernels.compiled import compiled, inlined

Array = NDArray[Any]
SLACK_TOKENS = 64  # a window is twice the unit and so much: room for an advertisement
CREDIT_3, CREDIT_4, CREDIT_5 = np.float32(0.3), np.float32(0.6), np.float32(0.85)  # of a token in a run of so many words; from six on, all of it


def fill_table(keys: Array) -> tuple[Array, Array, Array]:
    """Return (slot keys uint64, slot numbers int32, bitmap uint64) for distinct non-zero keys; the number is the place in `keys`."""
    size = 1 << max(4, int(len(keys) * 2).bit_length())
    bits = 1 << max(12, int(len(keys) * 6).bit_length())
    slot_key, slot_number, bitmap = np.zeros(size, np.uint64), np.zeros(size, np.int32), np.zeros(bits // 64, np.uint64)
    place(np.ascontiguousarray(keys, np.uint64), slot_key, slot_number, bitmap)
    return slot_key, slot_number, bitmap


@compiled
def place(keys: Array, slot_key: Array, slot_number: Array, bitmap: Array) -> None:
    """Put keys[i] → i into the table and the bitmap."""
    mask, bits = np.uint64(len(slot_key) - 1), np.uint64(len(bitmap) * 64 - 1)
    for i in range(len(keys)):
        slot = keys[i] & mask
        while slot_key[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        slot_key[slot], slot_number[slot] = keys[i], i
        bit = (keys[i] >> np.uint64(20)) & bits
        bitmap[bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))


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
def find(grams: Array, slot_key: Array, slot_number: Array, bitmap: Array, places: Array, numbers: Array) -> Any:
    """Write the places of known n-grams, and their numbers; return how many there are. `places` has room for all."""
    mask, bits = np.uint64(len(slot_key) - 1), np.uint64(len(bitmap) * 64 - 1)
    n = 0
    for i in range(len(grams)):
        key = grams[i]
        bit = (key >> np.uint64(20)) & bits
        if (bitmap[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & np.uint64(1) == 0 or key == 0:
            continue
        slot = key & mask
        while slot_key[slot] != 0:
            if slot_key[slot] == key:
                places[n], numbers[n] = i, slot_number[slot]
                n += 1
                break
            slot = (slot + np.uint64(1)) & mask
    return n


@compiled
def events(places: Array, numbers: Array, post_start: Array, post_unit: Array, result: Array) -> int:
    """Write (unit << 32 | index into places) for each known n-gram and each unit that has it; return how many."""
    n = 0
    for i in range(len(places)):
        for j in range(post_start[numbers[i]], post_start[numbers[i] + 1]):
            result[n] = np.uint64(post_unit[j]) << np.uint64(32) | np.uint64(i)
            n += 1
    return n


@compiled
def windows(
    sorted_events: Array,
    places: Array,
    numbers: Array,
    piece_of: Array,
    unit_start: Array,
    lead: Array,
    gram_weight: Array,
    needed: float,
    counts: Array,
    result: Array,
) -> int:
    """Write candidates (unit, first place, last place) int64 [:, 3]; return how many.

    A candidate is a window in which the distinct n-grams of the unit weigh at least `needed` of its lead. `counts` is int32
    zeros, one per n-gram, and is left so. After a window, the search goes on behind it.
    """
    n, e, total = 0, 0, len(sorted_events)
    low = np.uint64(0xFFFFFFFF)
    while e < total:
        unit = np.int64(sorted_events[e] >> np.uint64(32))
        piece = piece_of[places[np.int64(sorted_events[e] & low)]]
        stop = e
        while (
            stop < total and np.int64(sorted_events[stop] >> np.uint64(32)) == unit and piece_of[places[np.int64(sorted_events[stop] & low)]] == piece
        ):
            stop += 1
        length = 2 * (unit_start[unit + 1] - unit_start[unit]) + SLACK_TOKENS
        s, weight, best, best_s, best_e = e, np.float64(0), np.float64(0), -1, -1
        for t in range(e, stop + 1):
            ended = t == stop
            if not ended:
                at = np.int64(sorted_events[t] & low)
                ended = best_s >= 0 and places[at] - places[np.int64(sorted_events[best_s] & low)] > length
            if ended and best_s >= 0:
                result[n, 0], result[n, 1] = unit, places[np.int64(sorted_events[best_s] & low)]
                result[n, 2] = places[np.int64(sorted_events[best_e] & low)]
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
            if weight >= needed * lead[unit] and weight > best + 1e-9:
                best, best_s, best_e = weight, s, t
        while s < stop:
            number = numbers[np.int64(sorted_events[s] & low)]
            counts[number] = 0
            s += 1
        e = stop
    return n


@inlined
def _run_credit(length: int) -> Any:
    if length >= 6:
        return np.float32(1)
    return CREDIT_5 if length == 5 else CREDIT_4 if length == 4 else CREDIT_3


@inlined
def _tile(
    unit_runs: Array,
    document_runs: Array,
    first: int,
    last: int,
    unit_values: Array,
    values: Array,
    run: int,
    lengths: Array,
    targets: Array,
    row: Array,
) -> None:
    """For each token of the unit at which a shared run goes on, the length in tokens of the longest such run, and where it is.

    Between runs of one length the one whose number has the same value wins.
    """
    m = len(unit_runs)
    lengths[:m], targets[:m], row[: m + 1] = 0, -1, 0
    for j in range(first, last):
        key = document_runs[j]
        before = row[0]
        for i in range(m):
            diagonal = before
            before = row[i + 1]
            if key == 0 or unit_runs[i] != key:
                row[i + 1] = 0
                continue
            row[i + 1] = diagonal + 1
            if i + 1 < m and j + 1 < last and unit_runs[i + 1] == document_runs[j + 1] and unit_runs[i + 1] != 0:
                continue
            reach = diagonal + run  # tokens in the run that ends here
            for k in range(i - diagonal, i + run):
                target = j - i + k
                if reach > lengths[k] or (
                    reach == lengths[k] and unit_values[k] != 0 and values[targets[k]] != unit_values[k] and values[target] == unit_values[k]
                ):
                    lengths[k], targets[k] = reach, target


@inlined
def _found(
    lengths: Array,
    targets: Array,
    unit_runs: Array,
    document_runs: Array,
    grams: Array,
    token_weight: Array,
    gram_weight: Array,
    run: int,
    gram: int,
) -> Any:
    """Return the information found: each token's weight times the rarest shared n-gram over it, times a credit.

    The credit of a word is for the length of its run; of a code token, the share of the n-grams over it that are shared.
    """
    m, total = len(grams), np.float32(0)
    for i in range(m):
        if lengths[i] == 0:
            continue
        shift = targets[i] - i
        rarest, whole_grams, all_grams = np.float32(0), 0, 0
        for k in range(max(0, i - gram + 1), i + 1):
            if grams[k] < 0:
                continue
            whole = k + gram <= m
            for q in range(k, min(m, k + gram)):
                whole &= lengths[q] > 0 and targets[q] - q == shift
            if gram == run:  # code: tokens may be covered by n-grams that are equal while others are not
                whole &= unit_runs[k] == document_runs[k + shift]
            all_grams += 1
            if whole:
                whole_grams += 1
                rarest = max(rarest, gram_weight[grams[k]])
        if rarest == 0 and lengths[i] == 3:  # a run shorter than an n-gram: the commonest n-gram over it
            rarest = np.float32(1)
            for k in range(max(0, i - gram + 1), i + 1):
                if grams[k] >= 0:
                    rarest = min(rarest, gram_weight[grams[k]])
        credit = np.float32(whole_grams / max(1, all_grams)) if gram == run else _run_credit(lengths[i])
        total += token_weight[i] * rarest * credit
    return total


@compiled
def score(
    candidates: Array,
    document_runs: Array,
    values: Array,
    bounds: Array,
    piece_of: Array,
    unit_start: Array,
    token_run: Array,
    token_value: Array,
    token_gram: Array,
    token_weight: Array,
    gram_weight: Array,
    run: int,
    gram: int,
    found: Array,
) -> None:
    """Fill found[c], float32, with the information of the unit that is in candidate c's window.

    Also narrows each candidate to the tokens that were matched: columns 1 and 2 become first and last token, inclusive.
    """
    longest = 0
    for c in range(len(candidates)):
        longest = max(longest, unit_start[candidates[c, 0] + 1] - unit_start[candidates[c, 0]])
    lengths, targets, row = np.zeros(longest, np.int64), np.zeros(longest, np.int64), np.zeros(longest + 1, np.int64)
    for c in range(len(candidates)):
        unit = candidates[c, 0]
        a, b = unit_start[unit], unit_start[unit + 1]
        m, piece = b - a, piece_of[candidates[c, 1]]
        first = max(bounds[piece], candidates[c, 1] - m // 2 - 4)
        last = min(bounds[piece + 1], candidates[c, 2] + m // 2 + gram + 4)
        _tile(token_run[a:b], document_runs, first, last, token_value[a:b], values, run, lengths, targets, row)
        found[c] = _found(lengths[:m], targets[:m], token_run[a:b], document_runs, token_gram[a:b], token_weight[a:b], gram_weight, run, gram)
        low, high = candidates[c, 2], candidates[c, 1]
        for i in range(m):
            if lengths[i]:
                low, high = min(low, targets[i]), max(high, targets[i])
        candidates[c, 1], candidates[c, 2] = low, max(low, high)


@compiled
def align(
    document_runs: Array, values: Array, first: int, last: int, unit_runs: Array, unit_values: Array, run: int, lengths: Array, targets: Array
) -> None:
    """Fill `lengths` and `targets`, int64 [tokens of the unit], for one unit and document tokens [first, last)."""
    row = np.zeros(len(unit_runs) + 1, np.int64)
    _tile(unit_runs, document_runs, first, last, unit_values, values, run, lengths, targets, row)
