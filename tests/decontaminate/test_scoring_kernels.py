"""The kernels between tokens and matches, against slow and plain versions of themselves."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.decontaminate.lookup import POST_WEIGHT, events, everything, fill_bitmap, fill_table, find, gram_hashes
from curate.decontaminate.match import character_marks, characters_before
from curate.decontaminate.normalize import read_only
from curate.decontaminate.score import (
    ALIKE_SHARE,
    DIVERGE_COST,
    EDGE,
    GAP_COST,
    JUMP_COST,
    MAX_MISSES,
    MIN_ALIKE_BYTES,
    NAME_COST,
    NEAR,
    Stream,
    Units,
    score,
)
from curate.decontaminate.shapes import (
    DENSE_BYTES,
    DENSE_MARKS,
    SPAN_MARGIN,
    coarse_grams,
    gram_keys,
    shapes_of_pieces,
    spans_of_code,
)
from curate.decontaminate.tables import posts_of

RUN = 3


def tiled(unit: list[int], document: list[int]) -> tuple[list[int], list[int]]:
    """Return per token of the unit the length of the longest shared run over it, and where the first such run is."""
    lengths, targets = [0] * len(unit), [-1] * len(unit)
    for end in range(len(document)):
        for last in range(len(unit)):
            length = 0
            while length <= min(end, last) and unit[last - length] == document[end - length]:
                length += 1
            goes_on = last + 1 < len(unit) and end + 1 < len(document) and unit[last + 1] == document[end + 1]
            if length < RUN or goes_on:
                continue
            for k in range(last - length + 1, last + 1):
                if length > lengths[k]:
                    lengths[k], targets[k] = length, end - last + k
    return lengths, targets


def spelled(token: int) -> str:
    """Return the word of a token: that of the next one, if its number is even, with another letter at the end."""
    letters = "".join("aeiou"[token // 2 // 5**place % 5] for place in range(4))
    return letters * (1 + token // 2 % 2) + "st"[token % 2]


def one_error(a: str, b: str) -> bool:
    """Whether one of the letters, or the order of two neighbors, is wrong: by trying all that can be."""
    if min(len(a), len(b)) < MIN_ALIKE_BYTES or a == b:
        return False
    tried = {a[:i] + a[i + 1 :] for i in range(len(a))}
    tried |= {a[:i] + c + a[i + k :] for i in range(len(a) + 1) for c in "aeioust" for k in (0, 1)}
    tried |= {a[:i] + a[i + 1] + a[i] + a[i + 2 :] for i in range(len(a) - 1)}
    return b in tried


def bridged(unit: list[int], capital: list[bool], document: list[int], upper: list[bool]) -> tuple[list[int], list[bool]]:
    """Return per token of the unit where it is in the document, or -1: in a run, or in a gap beside one; and whether it has a typing error."""
    lengths, targets = tiled(unit, document)
    in_run, alike = [length >= RUN for length in lengths], [False] * len(unit)
    for step in (1, -1):
        for i in range(len(unit))[::step]:
            if not in_run[i]:
                continue
            k, misses = i + step, 0
            while 0 <= k < len(unit) and not in_run[k] and 0 <= (t := targets[i] - i + k) < len(document) and misses < MAX_MISSES:
                error = one_error(spelled(unit[k]), spelled(document[t]))
                if unit[k] == document[t] or error:
                    alike[k] = error if targets[k] < 0 else alike[k]
                    targets[k] = t if targets[k] < 0 else targets[k]
                    misses = 0
                else:
                    misses += not (capital[k] and upper[t])
                k += step
    return targets, alike


def information(targets: list[int], weights: list[list[float]], capital: list[bool], upper: list[bool]) -> float:
    """Return what chains of runs say, less what their gaps and jumps cost."""
    at = [i for i, t in enumerate(targets) if t >= 0]
    chains: list[list[tuple[float, float]]] = []  # of (what a run says, what the gap before it costs)
    behind = 0
    for n, i in enumerate(at):
        before = at[n - 1] if n else -99
        if n and before == i - 1 and targets[i] == targets[before] + 1:
            behind += 1
            said, cost = chains[-1][-1]
            chains[-1][-1] = (said + weights[min(behind, 2)][i], cost)
            continue
        behind, step = 0, targets[i] - targets[before] if n else 0
        if n and 0 < step <= NEAR and i - before <= NEAR:
            gap = range(before + 1, i)
            names = step == i - before and all(capital[k] and upper[targets[before] + k - before] for k in gap)
            chains[-1].append((weights[0][i], float(NAME_COST if names else GAP_COST)))
        else:
            chains.append([(weights[0][i], 0.0)])
    total = sum(max(0.0, sum(max(0.0, said - cost) for said, cost in chain) - float(JUMP_COST)) for chain in chains)
    return total + float(JUMP_COST) if total > 0 else 0.0


def edges(targets: list[int], size: int) -> float:
    """Return what a match's ends say in a document of one sentence: much at the document's ends, and less than nothing in the middle."""
    matched = [t for t in targets if t >= 0]
    low, high = min(matched), max(matched)
    begun = float(EDGE) if low == 0 else 0.0 if targets[0] == low else -float(DIVERGE_COST)
    return begun + (float(EDGE) if high == size - 1 else 0.0 if targets[-1] == high else -float(DIVERGE_COST))


def written(tokens: list[int]) -> tuple[Any, Any, Any]:
    """Return (bytes of the words with blanks between them, where each begins, where each ends)."""
    words = [spelled(token).encode() for token in tokens]
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    return np.frombuffer(b" ".join(words), np.uint8), ends - np.array([len(word) for word in words]), ends


def kernel_score(unit: list[int], capital: list[bool], document: list[int], upper: list[bool], weights: list[list[float]]) -> Any:
    m, n = len(unit), len(document)
    units, doc = np.array(unit, np.uint64), np.array(document, np.uint64)
    bounds, unit_start = np.array([0, n]), np.array([0, m])
    candidates, found = np.array([[0, 0, n - 1]]), np.zeros(1, np.float32)
    own, text_from, text_to = written(unit)
    frozen = [np.array(w, np.float32) for w in weights]
    arrays: list[Any] = [*written(document), gram_hashes(doc, bounds, RUN), doc, np.zeros(n, np.uint64)]
    arrays += [np.array(upper), bounds, np.zeros(n, np.int64), unit_start, np.zeros(1, np.int32), own, np.array([0, len(own)])]
    arrays += [text_from.astype(np.int32), text_to.astype(np.int32), gram_hashes(units, unit_start, RUN), units]
    arrays += [np.zeros(m, np.uint64), np.array(capital), np.full(m, -1, np.int32), *frozen, np.zeros(1, np.float32)]
    for array in arrays[8:]:
        array.flags.writeable = False
    score(candidates, Stream(*arrays[:9]), Units(*arrays[9:]), RUN, False, found)
    return float(found[0]), candidates[0].tolist()


@settings(max_examples=60)
@given(st.integers(0, 1_000_000))
def test_scores_are_those_of_the_slow_version(seed: int) -> None:
    rng = random.Random(seed)
    unit = [rng.randint(1, 400) for _ in range(rng.randint(4, 24))]
    document: list[int] = []
    while len(document) < 40:
        if rng.random() < 0.5:
            document += [rng.randint(1, 400) for _ in range(rng.randint(1, 5))]
        else:
            i = rng.randrange(len(unit))
            document += [w if rng.random() < 0.8 else rng.choice([w ^ 1, rng.randint(1, 400)]) for w in unit[i : i + rng.randint(1, 9)]]
    capital, upper = ([rng.random() < 0.3 for _ in tokens] for tokens in (unit, document))
    weights = [[rng.random() for _ in unit] for _ in range(3)]
    found, (_, low, high) = kernel_score(unit, capital, document, upper, weights)
    targets, alike = bridged(unit, capital, document, upper)
    shares = [float(ALIKE_SHARE) if error else 1.0 for error in alike]
    expected = information(targets, [[w * share for w, share in zip(row, shares, strict=True)] for row in weights], capital, upper)
    expected += edges(targets, len(document)) if expected > 0 else 0.0
    assert found == pytest.approx(expected, abs=1e-4)
    matched = [t for t in targets if t >= 0]
    if matched:
        assert (low, high) == (min(matched), max(matched))


def test_all_of_a_text_says_what_its_words_say() -> None:
    unit, flags = list(range(2, 62, 2)), [False] * 30
    weights = [[1.0] * 30, [0.6] * 30, [0.4] * 30]
    assert kernel_score(unit, flags, unit, flags, weights)[0] == pytest.approx(1 + 0.6 + 28 * 0.4 + 2 * float(EDGE))
    assert kernel_score(unit, flags, unit[:2] + [99] + unit[3:5], [False] * 5, weights)[0] == 0
    one_wrong = unit[:9] + [unit[9] ^ 1] + unit[10:]
    expected = 1 + 0.6 + (27 + float(ALIKE_SHARE)) * 0.4 + 2 * float(EDGE)
    assert kernel_score(unit, flags, one_wrong, flags, weights)[0] == pytest.approx(expected)


@given(
    st.lists(
        st.sampled_from(["words of prose, and more of it. ", "x = f(a[0]) + {b: c}\n", "\n", "(see below) ", "a" * 700, "if (a < b) {c = d;}\n"]),
        max_size=30,
    )
)
def test_every_dense_place_is_in_a_span(parts: list[str]) -> None:
    texts = ["".join(parts).encode(), b"", "".join(parts[::-1]).encode()]
    offsets = np.cumsum([0, *map(len, texts)])
    data = np.frombuffer(b"".join(texts) or b"\0", np.uint8)
    rows, begins, ends = spans_of_code(data, offsets)
    assert (rows[1:] >= rows[:-1]).all()
    assert ((begins[1:] >= ends[:-1]) | (rows[1:] > rows[:-1])).all()
    assert (begins < ends).all()
    assert (begins >= offsets[rows]).all()
    assert (ends <= offsets[rows + 1]).all()
    for row, text in enumerate(texts):
        marks = [byte in b"=()[]{}<>+*/%|&^~@" for byte in text]
        for p in range(len(text)):
            if sum(marks[max(0, p + 1 - DENSE_BYTES) : p + 1]) >= DENSE_MARKS:
                place = offsets[row] + p
                assert ((rows == row) & (begins <= place) & (place < ends)).any()
    assert [*zip(rows.tolist(), ends.tolist(), strict=True)] == slow_ends(texts, offsets.tolist())


def slow_ends(texts: list[bytes], offsets: list[int]) -> list[tuple[int, int]]:
    """Return (row, end) of the spans, looking at every byte."""
    spans: list[tuple[int, int]] = []
    for row, text in enumerate(texts):
        marks, upto = [byte in b"=()[]{}<>+*/%|&^~@" for byte in text], 0
        for p in range(len(text)):
            if sum(marks[max(0, p + 1 - DENSE_BYTES) : p + 1]) < DENSE_MARKS or p < upto - SPAN_MARGIN:
                continue
            if upto and p - SPAN_MARGIN <= upto:
                spans.pop()
            upto = min(len(text), p + SPAN_MARGIN + DENSE_BYTES)
            spans.append((row, offsets[row] + upto))
    return spans


@given(st.integers(0, 1_000_000))
def test_known_keys_are_found_and_no_others(seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys = np.unique(rng.integers(1, 2**64, int(rng.integers(0, 200)), np.uint64))
    asked = np.concatenate([rng.permutation(keys)[: len(keys) // 2], rng.integers(0, 2**64, 100, np.uint64), np.zeros(3, np.uint64)])
    known = {key: i for i, key in enumerate(keys.tolist())}
    expected = [(place, known[key]) for place, key in enumerate(asked.tolist()) if key in known]
    for bitmap in (fill_bitmap(keys), everything()):
        places, payloads = np.empty(len(asked) + 1, np.int64), np.empty(len(asked), np.uint64)
        n = find(asked, read_only(fill_table(keys)), read_only(bitmap), places, payloads)
        assert [*zip(places[:n].tolist(), payloads[:n].tolist(), strict=True)] == expected


@given(st.integers(0, 1_000_000))
def test_events_are_of_units_that_a_piece_has_enough_of(seed: int) -> None:
    rng = random.Random(seed)
    units, size = 6, 4
    keys = [[rng.randint(1, 9) for _ in range(size)] for _ in range(units)]
    posts = [sorted(rng.sample(range(units), rng.randint(0, 3))) for _ in range(8)]
    weights = [rng.choice([0.25, 0.5, 1.0]) for _ in posts]
    starts = np.cumsum([0, *map(len, posts)])
    packed = posts_of(starts, np.array([unit for own in posts for unit in own], np.int32), np.array(weights, np.float32))
    pieces = [[rng.randint(1, 9) for _ in range(rng.randint(1, 12))] for _ in range(3)]
    bounds = np.cumsum([0, *map(len, pieces)])
    known = [(place, rng.randrange(8)) for place in range(int(bounds[-1])) if rng.random() < 0.7]
    limits, usual = [rng.choice([0.5, 1.0]) for _ in range(units)], [rng.choice([1.0, 2.0]) for _ in range(units)]
    expected = []
    for piece, tokens in enumerate(pieces):
        inside = [(at, place - int(bounds[piece]), gram) for at, (place, gram) in enumerate(known) if bounds[piece] <= place < bounds[piece + 1]]
        for unit in range(units):
            own = [(at, place) for at, place, gram in inside if unit in posts[gram]]
            total = sum(weights[gram] for _, _, gram in inside if unit in posts[gram])
            for at, place in own:
                begins = set(tokens[max(0, place - size) : place + 1]) & set(keys[unit][:2])
                ends = set(tokens[place : place + size + 1]) & set(keys[unit][-2:])
                if total >= usual[unit] or (total >= limits[unit] and begins and ends):
                    expected.append(unit << 32 | at)
    payloads = np.array([(int(starts[g]) if posts[g] else 0xFFFFFFFF) << 32 | g for _, g in known], np.uint64)
    arrays = [np.array([place for place, _ in known], np.int64), payloads, np.repeat(np.arange(3), np.diff(bounds)), bounds]
    arrays += [np.array([t for tokens in pieces for t in tokens], np.uint64), packed, np.arange(units + 1) * size]
    arrays += [np.array([k for own in keys for k in (*own[:2], *own[-2:])], np.uint64)]
    arrays += [(np.array(some) * POST_WEIGHT).astype(np.int32) for some in (limits, usual)]
    sums, result = np.zeros(units, np.int32), np.empty(200, np.uint64)
    n = events(*(read_only(array) for array in arrays), sums, result)
    assert sorted(result[:n].tolist()) == sorted(expected)
    assert not sums.any()
    if expected:
        assert events(*(read_only(array) for array in arrays), sums, np.empty(len(expected) - 1, np.uint64)) == -1
        assert not sums.any()


@given(st.lists(st.sampled_from(["x = f(a[0]) + {b: c}\n", "y = g(b[0]) + {b: y}\n", "for k in range(3):\n", "total += k * (k - 1)\n", "# no\n"])))
def test_n_grams_of_code_are_the_same_behind_a_coarse_look(lines: list[str]) -> None:
    """Those that the coarse bitmap is made of, however identifiers are called; of the others most are turned away."""
    data = np.frombuffer("".join([*lines, "if (p < q) {return [p];}"]).encode(), np.uint8)
    shapes, bounds, _, _ = shapes_of_pieces(data, np.zeros(1, np.int64), np.array([len(data)], np.int64), 10_000)
    every = gram_keys(shapes, bounds, 8, everything())
    places = np.flatnonzero(every)
    coarse = read_only(fill_bitmap(coarse_grams(shapes.shapes, places[::2], 8)))
    kept = gram_keys(shapes, bounds, 8, coarse)
    assert (kept[places[::2]] == every[places[::2]]).all()
    assert ((kept == every) | (kept == 0)).all()


@given(st.text(alphabet="aé中😀 \n", max_size=300), st.integers(1, 40))
def test_places_are_counted_in_characters(text: str, repeat: int) -> None:
    text *= repeat
    data = np.frombuffer(text.encode(), np.uint8)
    marks = character_marks(data)
    for characters in {0, 1, len(text) // 3, len(text)}:
        part = text[:characters]
        assert characters_before(data, marks, len(part.encode())) == len(part)
