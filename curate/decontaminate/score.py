"""The hot loops from candidates to scores: what a window of the document and a unit share, and what that says.

A candidate is scored by the runs of tokens that it shares with the unit (greedy tiling by longest run, Wise 1993, in two dimensions
and so free to be in any order). Runs go on across words that differ, such as typing errors and other names; runs that follow each
other closely make a chain, and gaps, jumps and a text's own beginning and end cost or say what they would in a log-likelihood
ratio. All of it is integer work and float32 sums in a fixed order, so results do not depend on batches.

A word that differs by one typing error (a letter more, less or other, or two changed over) goes on with the run, at most of what it says.

What is traded away: a plural counts as a typing error of its singular.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curate.kernels.compiled import compiled, inlined

Array = NDArray[Any]
MIN_ALIKE_BYTES, ALIKE_SHARE = 4, np.float32(0.8)  # a word so long can have a typing error; what it says then
ALIKE = -1  # in place of a run's length
MAX_MISSES = 2  # words that differ in a row, in a text that is taken to go on
NEAR = 8  # tokens between runs of one chain
EDGE, MAX_BREAK_BYTES = np.float32(0.35), 40  # a line or sentence begins at about one word in twelve
DIVERGE_COST = np.float32(0.25)  # one leak in six stands inside a sentence
GAP_COST, NAME_COST, JUMP_COST = np.float32(0.33), np.float32(0.1), np.float32(0.86)  # in weights of 7 nats: one word in ten, two, 400


class Stream(NamedTuple):
    """Tokens of some pieces of documents, one after another, as kernels read them; places are bytes in `data`."""

    data: Array  # uint8
    starts: Array  # int64
    ends: Array  # int64
    runs: Array  # uint64, hash of the n-gram at each token; 0 where there is none
    keys: Array  # uint64, what the token is
    values: Array  # uint64, of numbers
    capital: Array  # bool
    bounds: Array  # int64 [pieces + 1], where each piece's tokens begin
    piece_of: Array  # int64, the piece of each token


class Units(NamedTuple):
    """What kernels read of an index's view, and the texts that its units are of; see `index.View`."""

    unit_start: Array
    unit_text: Array
    text: Array
    text_start: Array
    token_from: Array
    token_to: Array
    token_run: Array
    token_key: Array
    token_value: Array
    token_capital: Array
    token_gram: Array
    token_alone: Array
    token_second: Array
    token_weight: Array
    gram_weight: Array


@inlined
def tile(
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
    a, b = np.uint64(0), np.uint64(0)  # which values of two parts of a run's hash the unit has at all: most of a window has none of them
    for i in range(m):
        a |= np.uint64(1) << (unit_runs[i] >> np.uint64(58))
        b |= np.uint64(1) << ((unit_runs[i] >> np.uint64(52)) & np.uint64(63))
    clear = True  # whether `row` is all zeros
    for j in range(first, last):
        key = document_runs[j]
        if key == 0 or (a >> (key >> np.uint64(58))) & (b >> ((key >> np.uint64(52)) & np.uint64(63))) & np.uint64(1) == 0:
            if not clear:
                row[: m + 1], clear = 0, True
            continue
        clear = False
        before = row[0]
        for i in range(m):
            diagonal = before
            before = row[i + 1]
            if unit_runs[i] != key:
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
def _alike(a: Array, a_first: int, a_last: int, b: Array, b_first: int, b_last: int) -> Any:
    """Whether two words of ASCII differ by one typing error: a letter more, less or other, or two neighbors changed over."""
    m, n = a_last - a_first, b_last - b_first
    if min(m, n) < MIN_ALIKE_BYTES or abs(m - n) > 1 or a[a_first] < 65 or b[b_first] < 65:
        return False
    head, tail = 0, 0
    while head < min(m, n) and (a[a_first + head] | 32) == (b[b_first + head] | 32):
        head += 1
    while tail < min(m, n) - head and (a[a_last - 1 - tail] | 32) == (b[b_last - 1 - tail] | 32):
        tail += 1
    for i in range(max(m, n)):  # a letter of another script has several bytes
        if (i < m and a[a_first + i] >= 128) or (i < n and b[b_first + i] >= 128):
            return False
    if head + tail >= max(m, n) - 1:
        return True
    p, q = a_first + head, b_first + head
    return m == n and head + tail == m - 2 and (a[p] | 32) == (b[q + 1] | 32) and (a[p + 1] | 32) == (b[q] | 32)


@inlined
def bridge(stream: Stream, units: Units, unit: int, piece: int, lengths: Array, targets: Array) -> None:
    """Match single equal tokens too, on both sides of a run, where it would go on if MAX_MISSES words in a row did not differ.

    Two different words with capitals are no miss: another name. What is matched so has length 1, or ALIKE where there is a typing error.
    """
    a, b = units.unit_start[unit], units.unit_start[unit + 1]
    own, base = units.text, units.text_start[units.unit_text[unit]]
    first, last, m = stream.bounds[piece], stream.bounds[piece + 1], b - a
    for step in (1, -1):
        for at in range(m):
            i = at if step == 1 else m - 1 - at
            if lengths[i] < 2 or i + step < 0 or i + step >= m or lengths[i + step] > 1:
                continue
            shift, misses, k = targets[i] - i, 0, i + step
            while 0 <= k < m and lengths[k] < 2 and first <= k + shift < last and misses < MAX_MISSES:
                t = k + shift
                if units.token_key[a + k] == stream.keys[t]:
                    if lengths[k] == 0:
                        lengths[k], targets[k] = 1, t
                    misses = 0
                elif _alike(own, base + units.token_from[a + k], base + units.token_to[a + k], stream.data, stream.starts[t], stream.ends[t]):
                    if lengths[k] == 0:
                        lengths[k], targets[k] = ALIKE, t
                    misses = 0
                elif not (units.token_capital[a + k] and stream.capital[t]):
                    misses += 1
                k += step


@inlined
def _found_words(lengths: Array, targets: Array, alone: Array, second: Array, third: Array, unit_capital: Array, capital: Array) -> Any:
    """Return the information found: what each matched word says, given the matched words before it, less the costs of gaps.

    Runs that follow each other closely are one chain, at GAP_COST each; another chain, which may be anywhere, costs JUMP_COST.
    """
    total, chain, part, cost = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    before, behind = -1, 0
    for i in range(len(lengths)):
        if lengths[i] == 0:
            continue
        share = ALIKE_SHARE if lengths[i] == ALIKE else np.float32(1)
        if before == i - 1 and before >= 0 and targets[i] == targets[before] + 1:
            behind += 1
            part += (third[i] if behind > 1 else second[i]) * share
        else:
            chain += max(np.float32(0), part - cost)
            step = targets[i] - targets[before] if before >= 0 else 0
            if before >= 0 and 0 < step <= NEAR and i - before <= NEAR:
                cost = GAP_COST
                if step == i - before:
                    names = True
                    for k in range(before + 1, i):
                        names &= unit_capital[k] and capital[targets[before] + k - before]
                    cost = NAME_COST if names else GAP_COST
            else:
                total += max(np.float32(0), chain - JUMP_COST)
                chain, cost = np.float32(0), np.float32(0)
            behind, part = 0, alone[i] * share
        before = i
    chain += max(np.float32(0), part - cost)
    total += max(np.float32(0), chain - JUMP_COST)
    return total + JUMP_COST if total > 0 else np.float32(0)


@inlined
def _breaks(data: Array, begin: int, end: int) -> Any:
    """Whether a line or a sentence ends between two tokens: in the bytes data[begin:end]."""
    for p in range(begin, min(end, begin + MAX_BREAK_BYTES)):
        b = data[p]
        if b == 10 or b == 46 or b == 63 or b == 33 or b == 58 or b == 62:  # line end . ? ! : >
            return True
    return end - begin >= MAX_BREAK_BYTES


@inlined
def _edges(stream: Stream, low: int, high: int, piece: int, opens: bool, closes: bool) -> Any:
    """Return what it says where the matched tokens low..high begin and end in the document's piece.

    A leak, whole or cut, is mostly a text of its own, and a phrase that is shared by chance mostly stands in the middle of a sentence.
    Where the document goes on in the same sentence with other words than the unit (`opens`, `closes`: it has no more), it costs.
    """
    data, starts, ends = stream.data, stream.starts, stream.ends
    begun = low == stream.bounds[piece] or _breaks(data, ends[low - 1], starts[low])
    ended = high == stream.bounds[piece + 1] - 1 or _breaks(data, ends[high], starts[high + 1])
    total = np.float32(0)
    total += EDGE if begun else np.float32(0) if opens else -DIVERGE_COST
    total += EDGE if ended else np.float32(0) if closes else -DIVERGE_COST
    return total


@inlined
def _found_code(
    lengths: Array, targets: Array, unit_runs: Array, document_runs: Array, grams: Array, weight: Array, gram_weight: Array, gram: int
) -> Any:
    """Return the information found of code: each token's weight, times the rarest shared n-gram over it, times the share of the
    n-grams over it that are shared."""
    m, total = len(grams), np.float32(0)
    for i in range(m):
        if lengths[i] == 0:
            continue
        shift = targets[i] - i
        rarest, whole_grams, all_grams = np.float32(0), 0, 0
        for k in range(max(0, i - gram + 1), i + 1):
            if grams[k] < 0:
                continue
            whole = k + gram <= m and unit_runs[k] == document_runs[k + shift]
            for q in range(k, min(m, k + gram)):
                whole &= lengths[q] > 0 and targets[q] - q == shift
            all_grams += 1
            if whole:
                whole_grams += 1
                rarest = max(rarest, gram_weight[grams[k]])
        total += weight[i] * rarest * np.float32(whole_grams / max(1, all_grams))
    return total


@compiled
def score(candidates: Array, stream: Stream, units: Units, gram: int, is_code: bool, found: Array) -> None:
    """Fill found[c], float32, with the information of the unit that is in candidate c's window.

    Also narrows each candidate to the tokens that were matched: columns 1 and 2 become first and last token, inclusive.
    """
    unit_start, unit_text, bounds = units.unit_start, units.unit_text, stream.bounds
    longest = 0
    for c in range(len(candidates)):
        longest = max(longest, unit_start[candidates[c, 0] + 1] - unit_start[candidates[c, 0]])
    lengths, targets, row = np.zeros(longest, np.int64), np.zeros(longest, np.int64), np.zeros(longest + 1, np.int64)
    for c in range(len(candidates)):
        unit = candidates[c, 0]
        a, b = unit_start[unit], unit_start[unit + 1]
        m, piece = b - a, stream.piece_of[candidates[c, 1]]
        first = max(bounds[piece], candidates[c, 1] - m // 2 - 4)
        last = min(bounds[piece + 1], candidates[c, 2] + m // 2 + gram + 4)
        own, weight = units.token_run[a:b], units.token_weight[a:b]
        tile(own, stream.runs, first, last, units.token_value[a:b], stream.values, gram, lengths, targets, row)
        low, high = last, first
        if is_code:
            found[c] = _found_code(lengths[:m], targets[:m], own, stream.runs, units.token_gram[a:b], weight, units.gram_weight, gram)
        else:
            bridge(stream, units, unit, piece, lengths, targets)
            says = (units.token_alone[a:b], units.token_second[a:b], weight)
            found[c] = _found_words(lengths[:m], targets[:m], *says, units.token_capital[a:b], stream.capital)
        for i in range(m):
            if lengths[i]:
                low, high = min(low, targets[i]), max(high, targets[i])
        if not is_code and found[c] > 0:
            opens = lengths[0] != 0 and targets[0] == low and (unit == 0 or unit_text[unit - 1] != unit_text[unit])
            closes = lengths[m - 1] != 0 and targets[m - 1] == high and (unit + 1 == len(unit_text) or unit_text[unit + 1] != unit_text[unit])
            found[c] += _edges(stream, low, high, piece, opens, closes)
        candidates[c, 1], candidates[c, 2] = low, max(low, high)
