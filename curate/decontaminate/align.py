"""The hot loops from a candidate to its alignment: where each token of one unit is in the stream.

`score` says how much of a unit is there, for very many candidates; this says what is where, for those that may be matches, so that
`variant` can tell how they differ. Runs come first (`score.tile`); what stands alone, words beside runs, and words that go on from
them are decided one after another here. On a training split of a benchmark nearly every document holds an instance of some template,
so it is machine code as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.decontaminate.score import ALIKE, Stream, Units, bridge, tile
from curate.kernels.compiled import compiled, inlined

Array = NDArray[Any]
SHORT_RUN, LONG_RUN = 3, 5
FAR_TOKENS = 16  # a gap of so many document tokens is something in between


@compiled
def align(
    stream: Stream, units: Units, unit: int, low: int, high: int, gram: int, is_code: bool, matched: Array, targets: Array, named: Array
) -> Any:
    """Align a unit with the document's tokens [low, high): fill `matched`, `named` and `targets` of `variant.Alignment`.

    `matched` and `named` are all false before. Return what else an alignment has:
    ((numbers, those that are equal, whether none has a typing error), whether any word has one, density, weights as `_weights` has them).
    """
    a, b = units.unit_start[unit], units.unit_start[unit + 1]
    m, piece = b - a, stream.piece_of[low]
    begin, end = stream.bounds[piece], stream.bounds[piece + 1]
    lengths, alike = np.zeros(m, np.int64), np.zeros(m, np.bool_)
    first, last = max(begin, low), min(end, high)
    tile(units.token_run[a:b], stream.runs, first, last, units.token_value[a:b], stream.values, gram, lengths, targets, np.zeros(m + 1, np.int64))
    _leave_strays(lengths, targets, first, np.zeros(last - first + gram, np.bool_), matched)
    if not is_code:
        for i in range(m):
            if not matched[i]:
                lengths[i], targets[i] = 0, -1
        bridge(stream, units, unit, piece, lengths, targets)
        for i in range(m):
            matched[i], alike[i] = lengths[i] != 0, lengths[i] == ALIKE
        _extend(matched, targets, units.token_key[a:b], stream.keys, begin, end)
        _trim(matched, targets, units.token_capital[a:b], stream.capital)
    for i in range(m):
        if not matched[i]:
            targets[i] = -1
    _name(matched, targets, units.token_capital[a:b], stream.capital, named)
    numbers = (0, 0, True) if is_code else _numbers(stream, units, unit, matched, targets, alike)
    return numbers, alike.any(), _density(matched, named, lengths), _weights(units.token_weight[a:b], matched, named)


@inlined
def _run_end(matched: Array, targets: Array, i: int) -> Any:
    """Return the end of the run of tokens at `i` that follow each other in both texts."""
    j = i + 1
    while j < len(matched) and matched[j] and targets[j] == targets[j - 1] + 1:
        j += 1
    return j


@inlined
def _leave_strays(lengths: Array, targets: Array, first: int, used: Array, matched: Array) -> None:
    """Fill `matched`: which tokens are in runs, each token of the document once.

    Longer runs come first; of a run that shares the document's tokens with a longer one, the rest stays if it is a run. Short runs
    stay where the long runs beside them lead to expect them. `used`: room for the document's tokens from `first` on, all false.
    """
    m = len(lengths)
    begins, sizes = np.empty(m, np.int64), np.empty(m, np.int64)
    n, i = 0, 0
    in_run = lengths > 0
    while i < m:
        if not in_run[i]:
            i += 1
            continue
        j = _run_end(in_run, targets, i)
        begins[n], sizes[n] = i, j - i
        n, i = n + 1, j
    for k in np.argsort(-sizes[:n], kind="mergesort"):
        free = 0
        for i in range(begins[k], begins[k] + sizes[k]):
            free += not used[targets[i] - first]
        for i in range(begins[k], begins[k] + sizes[k] if free >= SHORT_RUN else begins[k]):
            if not used[targets[i] - first]:
                matched[i] = used[targets[i] - first] = True
    if not matched.any():  # a number in each has drawn it apart
        matched[:] = in_run
    before, behind = -1, 0  # the long ones beside a short one
    for i in range(m):
        if matched[i] and lengths[i] >= LONG_RUN:
            before = i
            continue
        while behind < m and (behind < i or not matched[behind] or lengths[behind] < LONG_RUN):
            behind += 1
        if matched[i] and (before >= 0 or behind < m):
            shift = targets[i] - i
            near = before >= 0 and abs(targets[before] - before - shift) <= FAR_TOKENS
            matched[i] = near or (behind < m and abs(targets[behind] - behind - shift) <= FAR_TOKENS)


@inlined
def _extend(matched: Array, targets: Array, unit_keys: Array, keys: Array, first: int, last: int) -> None:
    """Match single equal tokens too, where they go on from a matched one or stand opposite each other in a gap of equal length."""
    m = len(matched)
    at = np.flatnonzero(matched)
    for n in range(len(at) + 1):
        i, j = at[n - 1] if n else -1, at[n] if n < len(at) else m
        if i >= 0:
            while i + 1 < j and targets[i] + 1 < last and unit_keys[i + 1] == keys[targets[i] + 1]:
                matched[i + 1], targets[i + 1] = True, targets[i] + 1
                i += 1
        if j < m:
            while j - 1 > i and targets[j] - 1 >= first and unit_keys[j - 1] == keys[targets[j] - 1]:
                matched[j - 1], targets[j - 1] = True, targets[j] - 1
                j -= 1
        if i >= 0 and j < m and targets[j] - targets[i] == j - i:
            for k in range(i + 1, j):
                if unit_keys[k] == keys[targets[i] + k - i]:
                    matched[k], targets[k] = True, targets[i] + k - i


@inlined
def _names_between(i: int, j: int, targets: Array, unit_capital: Array, capital: Array) -> Any:
    """Whether names stand between two matched tokens, as many in both texts and nothing else."""
    names = targets[j] - targets[i] == j - i
    for k in range(i + 1, j if names else i):
        names &= unit_capital[k] and capital[targets[i] + k - i]
    return names


@inlined
def _trim(matched: Array, targets: Array, unit_capital: Array, capital: Array) -> None:
    """Leave out one or two words behind a gap at either end, inside the unit, unless the gap is names: where a part ends, any text goes on."""
    m = len(matched)
    low, high = 0, m - 1
    while low < m and not matched[low]:
        low += 1
    while high > 0 and not matched[high]:
        high -= 1
    while low > 0:
        stop = _run_end(matched, targets, low)
        follows = stop
        while follows <= high and not matched[follows]:
            follows += 1
        if stop - low >= SHORT_RUN or follows > high or _names_between(stop - 1, follows, targets, unit_capital, capital):
            break
        matched[low:stop] = False
        low = follows
    while high < m - 1:
        begin = high
        while begin > low and matched[begin - 1] and targets[begin] == targets[begin - 1] + 1:
            begin -= 1
        before = begin - 1
        while before >= low and not matched[before]:
            before -= 1
        if high + 1 - begin >= SHORT_RUN or before < low or _names_between(before, begin, targets, unit_capital, capital):
            break
        matched[begin : high + 1] = False
        high = before


@inlined
def _name(matched: Array, targets: Array, unit_capital: Array, capital: Array, named: Array) -> None:
    """Fill `named`: tokens that are names with another name in their place, in gaps of equal length."""
    before = -1
    for j in range(len(matched)):
        if matched[j]:
            if 0 <= before < j - 1 and targets[j] - targets[before] == j - before:
                for k in range(before + 1, j):
                    named[k] = unit_capital[k] and capital[targets[before] + k - before]
            before = j


@inlined
def _numbers(stream: Stream, units: Units, unit: int, matched: Array, targets: Array, alike: Array) -> Any:
    """Return (how many numbers are matched, how many of them have the same value, whether none has a typing error).

    In lists of numbers it is not known which is which, so a number between two others does not count.
    """
    first, text = units.unit_start[unit], units.unit_text[unit]
    base = units.text_start[text]
    own = units.text[base : units.text_start[text + 1]]
    at = np.flatnonzero(matched)
    number = np.zeros(len(at) + 2, np.bool_)
    for k in range(len(at)):
        number[k + 1] = units.token_value[first + at[k]] != 0 and not alike[at[k]]  # not a number word with a typing error
    count, equal, clean = 0, 0, True
    for k in range(len(at)):
        if not number[k + 1] or (number[k] and number[k + 2]):
            continue
        token, place = first + at[k], targets[at[k]]
        same = stream.values[place] == units.token_value[token]
        if not same and _is_typo(stream.data, stream.starts[place], stream.ends[place], own, units.token_from[token], units.token_to[token]):
            clean = False
            continue
        count, equal = count + 1, equal + same
    return count, equal, clean


@inlined
def _letter(data: Array, p: int) -> Any:
    """Return the letter of ASCII at `p`, or 0."""
    return data[p] if 0 <= p < len(data) and 97 <= (data[p] | 32) <= 122 else np.uint8(0)


@inlined
def _is_typo(data: Array, start: int, end: int, own: Array, own_start: int, own_end: int) -> Any:
    """Whether a number has letters at it that the unit's has not, as in "1b2" for "12": a typing error, and no other number."""
    before, behind = _letter(data, start - 1), _letter(data, end)
    return (before != 0 or behind != 0) and not (before == _letter(own, own_start - 1) and behind == _letter(own, own_end))


@inlined
def _density(matched: Array, named: Array, lengths: Array) -> Any:
    """Return the share of the tokens, but for names, that are matched between the first and the last run of LONG_RUN tokens, or any without one."""
    first, last = -1, -1
    for least in (LONG_RUN, -1):  # a single word has a length of -1 or more
        for i in range(len(matched)):
            if matched[i] and lengths[i] >= least:
                first, last = i if first < 0 else first, i
        if first >= 0:
            break
    count, total = 0, 0
    for i in range(first, last + 1):
        count, total = count + matched[i], total + (not named[i])
    return count / total


@inlined
def _weights(weights: Array, matched: Array, named: Array) -> Any:
    """Return the weights of what is matched, of all, and of what is missing between matched tokens but for names."""
    found, whole, replaced, gap = 0.0, 0.0, 0.0, 0.0
    seen = False
    for i in range(len(weights)):
        whole += weights[i]
        if matched[i]:
            found, replaced, gap, seen = found + weights[i], replaced + gap, 0.0, True
        elif seen and not named[i]:
            gap += weights[i]
    return found, whole, replaced
