"""The alignment kernel, against a slow and plain version of itself."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.decontaminate.align import FAR_TOKENS, LONG_RUN, SHORT_RUN, align
from curate.decontaminate.lookup import gram_hashes
from curate.decontaminate.normalize import read_only
from curate.decontaminate.score import ALIKE, Stream, Units, bridge, tile
from curate.kernels.compiled import compiled

RUN = 3
NUMBERS = range(1, 9)  # tokens that are numbers; all have the key 1
Places = dict[int, int]  # token of the unit → token of the document


@compiled
def bridged(stream: Any, units: Any, lengths: Any, targets: Any) -> None:
    bridge(stream, units, 0, 0, lengths, targets)


@compiled
def tiled(stream: Any, units: Any, lengths: Any, targets: Any) -> None:
    m, n = len(units.token_key), len(stream.keys)
    tile(units.token_run, stream.runs, 0, n, units.token_value, stream.values, RUN, lengths, targets, np.zeros(m + 1, np.int64))


def written(tokens: list[int]) -> tuple[Any, ...]:
    """Return (bytes, where tokens begin, where they end, keys, values): a number is its digit, another token a word that says its number."""
    words = [str(t).encode() if t in NUMBERS else b"".join(b"abcdefghij"[int(c) : int(c) + 1] * 2 for c in str(t)) for t in tokens]
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    keys = np.array([1 if t in NUMBERS else t for t in tokens], np.uint64)
    values = np.array([t if t in NUMBERS else 0 for t in tokens], np.uint64)
    return np.frombuffer(b" ".join(words), np.uint8), ends - np.array([len(word) for word in words]), ends, keys, values


def arrays_of(unit: list[int], capital: list[bool], document: list[int], upper: list[bool]) -> tuple[Stream, Units]:
    m, n = len(unit), len(document)
    data, starts, ends, keys, values = written(document)
    bounds = np.array([0, n])
    stream = Stream(data, starts, ends, gram_hashes(keys, bounds, RUN), keys, values, np.array(upper), bounds, np.zeros(n, np.int64))
    text, begins, stops, own, numbers = written(unit)
    starts = np.array([0, m])
    places = (begins.astype(np.int32), stops.astype(np.int32))
    weights = np.arange(1, m + 1).astype(np.float32)
    given = (starts, np.zeros(1, np.int32), text, np.array([0, len(text)]), *places, gram_hashes(own, starts, RUN), own, numbers, np.array(capital))
    return stream, Units(*(read_only(array) for array in (*given, np.full(m, -1, np.int32), *[weights] * 4)))


def runs_of(places: Places) -> list[list[int]]:
    runs: list[list[int]] = []
    for i in sorted(places):
        follows = runs and runs[-1][-1] == i - 1 and places[i] == places[i - 1] + 1
        runs = [*runs[:-1], [*runs[-1], i]] if follows else [*runs, [i]]
    return runs


def without_strays(lengths: Any, targets: Any) -> Places:
    """Return what is matched: longest runs first, each token of the document once, and short runs only where long ones lead to expect them."""
    places = {i: int(targets[i]) for i in range(len(lengths)) if lengths[i] > 0}
    matched: Places = {}
    for run in sorted(runs_of(places), key=len, reverse=True):
        free = [i for i in run if places[i] not in matched.values()]
        matched |= {i: places[i] for i in free if len(free) >= SHORT_RUN}
    matched = matched or places
    long = sorted(i for i in matched if lengths[i] >= LONG_RUN)
    for i in [i for i in sorted(matched) if lengths[i] < LONG_RUN and long]:
        beside = [max((j for j in long if j < i), default=None), min((j for j in long if j > i), default=None)]
        if all(j is None or abs(matched[j] - matched[i] - (j - i)) > FAR_TOKENS for j in beside):
            del matched[i]
    return matched


def extended(matched: Places, own: list[int], there: list[int]) -> Places:
    """Add single tokens that go on from matched ones, from the left and from the right, or that stand opposite each other."""
    result = dict(matched)
    for i, j in itertools.pairwise([-1, *sorted(matched), len(own)]):
        while i >= 0 and i + 1 < j and result[i] + 1 < len(there) and own[i + 1] == there[result[i] + 1]:
            result[i + 1] = result[i] + 1
            i += 1
        while j < len(own) and j - 1 > i and result[j] > 0 and own[j - 1] == there[result[j] - 1]:
            result[j - 1] = result[j] - 1
            j -= 1
        if i >= 0 and j < len(own) and result[j] - result[i] == j - i:
            result |= {k: result[i] + k - i for k in range(i + 1, j) if own[k] == there[result[i] + k - i]}
    return result


def trimmed(matched: Places, size: int, capital: list[bool], upper: list[bool]) -> Places:
    """Leave out one or two words behind a gap at either end, unless the gap is names."""
    groups = runs_of(matched)

    def stray(group: list[int], i: int, j: int) -> bool:
        names = matched[j] - matched[i] == j - i and all(capital[k] and upper[matched[i] + k - i] for k in range(i + 1, j))
        return len(group) < SHORT_RUN and not names

    while len(groups) > 1 and groups[0][0] > 0 and stray(groups[0], groups[0][-1], groups[1][0]):
        groups = groups[1:]
    while len(groups) > 1 and groups[-1][-1] < size - 1 and stray(groups[-1], groups[-2][-1], groups[-1][0]):
        groups = groups[:-1]
    return {i: matched[i] for group in groups for i in group}


@settings(max_examples=150)
@given(st.integers(0, 1_000_000))
def test_alignments_are_those_of_the_slow_version(seed: int) -> None:
    rng = random.Random(seed)
    unit = [rng.choice([rng.randint(1, 8), *[rng.randint(10, 400)] * 3]) for _ in range(rng.randint(6, 40))]
    document = [rng.randint(1, 400) for _ in range(5)] + unit[: rng.randint(4, 6)]
    while len(document) < 60:
        at = rng.randrange(len(unit))
        document += [t if rng.random() < 0.85 else rng.randint(1, 400) for t in unit[at : at + rng.randint(1, 14)]]
        document += [rng.randint(1, 400) for _ in range(rng.choice([0, 1, 2, 20]))]
    capital, upper = ([rng.random() < 0.4 for _ in tokens] for tokens in (unit, document))
    stream, units = arrays_of(unit, capital, document, upper)
    m = len(unit)
    matched, named, targets = np.zeros(m, np.bool_), np.zeros(m, np.bool_), np.full(m, -1, np.int64)
    numbers, alike, density, weights = align(stream, units, 0, 0, len(document), RUN, False, matched, targets, named)

    lengths, places = np.zeros(m, np.int64), np.full(m, -1, np.int64)
    tiled(stream, units, lengths, places)
    kept = without_strays(lengths, places)
    for i in set(range(m)) - set(kept):
        lengths[i], places[i] = 0, -1
    bridged(stream, units, lengths, places)
    keys, there = units.token_key.tolist(), stream.keys.tolist()
    expected = trimmed(extended({i: int(places[i]) for i in np.flatnonzero(lengths).tolist()}, keys, there), m, capital, upper)
    assert {int(i): int(targets[i]) for i in np.flatnonzero(matched)} == expected
    pairs = [(i, j) for i, j in itertools.pairwise(sorted(expected)) if expected[j] - expected[i] == j - i]
    names = [k for i, j in pairs for k in range(i + 1, j) if capital[k] and upper[expected[i] + k - i]]
    assert np.flatnonzero(named).tolist() == names
    assert alike == (lengths == ALIKE).any()
    at = sorted(expected)
    is_number = [unit[i] in NUMBERS and lengths[i] != ALIKE for i in at]
    compared = [i for k, i in enumerate(at) if is_number[k] and not (0 < k < len(at) - 1 and is_number[k - 1] and is_number[k + 1])]
    assert numbers == (len(compared), sum(document[expected[i]] == unit[i] for i in compared), True)
    long = [i for i in at if lengths[i] >= LONG_RUN] or at
    inside = [i for i in range(long[0], long[-1] + 1) if i not in names]
    assert density == sum(i in expected for i in inside) / len(inside)
    missing = [i for i in range(at[0], at[-1]) if i not in expected and i not in names]
    assert weights == pytest.approx((sum(i + 1 for i in at), m * (m + 1) / 2, sum(i + 1 for i in missing)))


def test_a_number_with_a_letter_at_it_is_a_typing_error() -> None:
    unit = [20, 30, 5, 40, 50]
    stream, units = arrays_of(unit, [False] * 5, [20, 30, 6, 40, 50], [False] * 5)
    text = bytes(stream.data).replace(b" 6 ", b"x6 ")
    for data, numbers in ((bytes(stream.data), (1, 0, True)), (text, (0, 0, False))):
        matched, named, targets = np.zeros(5, np.bool_), np.zeros(5, np.bool_), np.full(5, -1, np.int64)
        assert align(stream._replace(data=np.frombuffer(data, np.uint8)), units, 0, 0, 5, RUN, False, matched, targets, named)[0] == numbers
