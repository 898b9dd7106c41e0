"""MinHash: shingles are what they are said to be, the estimate has no bias, and recall follows the theory."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.dedup.minhash import Shingles, band_keys, chance, minima, parameters, shingles_of
from curate.kernels.words import words_of_strings
from curate.specs.workflow import Minhash

WORDS = st.lists(st.lists(st.sampled_from(["a", "b", "c", "dd", "eee", "Ünï", "中", "42"]), max_size=9), max_size=5)
MASK = (1 << 64) - 1


def rows_of(shingles: Shingles) -> list[list[int]]:
    return [shingles.hashes[a:b].tolist() for a, b in zip(shingles.offsets[:-1], shingles.offsets[1:], strict=True)]


@settings(max_examples=100, deadline=None)
@given(WORDS, st.integers(1, 6))
def test_shingles_are_runs_of_words_each_with_its_own_hash(texts: list[list[str]], ngram: int) -> None:
    found = rows_of(shingles_of(pa.array([" ".join(words) for words in texts], pa.string()), ngram))
    expected = [[tuple(words[i : i + ngram]) for i in range(max(1, len(words) - ngram + 1))] if words else [] for words in texts]
    assert [len(row) for row in found] == [len(row) for row in expected]
    pairs = {(run, h) for runs, row in zip(expected, found, strict=True) for run, h in zip(runs, row, strict=True)}
    assert len(pairs) == len({run for run, _ in pairs}) == len({h for _, h in pairs})


def test_case_and_punctuation_do_not_count_and_a_text_without_words_has_no_shingles() -> None:
    plain, loud, none, empty = rows_of(shingles_of(pa.array(["one two three", "ONE, two... 'Three'!", "?! — … $ +", ""]), 2))
    assert plain == loud
    assert len(plain) == 2
    assert none == empty == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, MASK), max_size=11), max_size=4))
def test_minima_are_those_of_big_integers(rows: list[list[int]]) -> None:
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    shingles = Shingles(np.array([h for row in rows for h in row], np.uint64), offsets)
    a, b = (values.tolist() for values in parameters(6))
    expected = [[min(((a[k] * h + b[k]) & MASK for h in row), default=0) for k in range(6)] for row in rows]
    assert minima(shingles, 6).tolist() == expected


def test_band_keys_agree_exactly_where_all_the_minima_of_the_band_do() -> None:
    pairs, _ = planted(400, 20, 0.7, np.random.default_rng(1))
    options = Minhash(bands=10, rows=3)
    keys, least = band_keys(pairs, options), minima(pairs, 30).reshape(-1, 10, 3)
    agree = (least[::2] == least[1::2]).all(axis=2)
    assert 0.1 < agree.mean() < 0.9
    assert ((keys[::2] == keys[1::2]) == agree).all()


def test_a_row_does_not_depend_on_its_batch() -> None:
    texts = ["one two three four five six seven", "", "one", "short text here", "word " * 50]
    whole = band_keys(shingles_of(pa.array(texts), 5), Minhash())
    for i, text in enumerate(texts):
        assert (band_keys(shingles_of(pa.array([text]), 5), Minhash())[0] == whole[i]).all()


def test_the_definition_is_fixed() -> None:
    """Stored signatures depend on these values: whoever changes them makes old and new signatures disagree in silence."""
    keys = band_keys(shingles_of(pa.array(["The quick brown fox jumps over the lazy dog."]), 5), Minhash(bands=2, rows=4))
    assert [f"{key:016x}" for key in keys[0].tolist()] == ["531ab8af6707e4cc", "efe1877d8d002b65"]


def planted(count: int, size: int, similarity: float, rng: np.random.Generator) -> tuple[Shingles, float]:
    """Return `count` pairs of sets (rows 2i and 2i + 1) of `size` hashes, and their exact Jaccard similarity."""
    common = round(2 * size * similarity / (1 + similarity))
    own = size - common
    h = rng.integers(0, MASK, (count, common + 2 * own), dtype=np.uint64, endpoint=True)
    pairs = np.stack([h[:, : common + own], np.concatenate([h[:, :common], h[:, common + own :]], axis=1)], axis=1)
    return Shingles(np.ascontiguousarray(pairs).reshape(-1), np.arange(2 * count + 1, dtype=np.int64) * size), common / (common + 2 * own)


@pytest.mark.parametrize("size", [5, 20, 200])
@pytest.mark.parametrize("similarity", [0.2, 0.5, 0.8])
def test_the_estimate_has_no_bias_and_no_more_scatter_than_independent_functions(size: int, similarity: float) -> None:
    count, functions = 4000, 112
    pairs, true = planted(count, size, similarity, np.random.default_rng(size))
    least = minima(pairs, functions)
    estimates = (least[::2] == least[1::2]).mean(axis=1)
    variance = true * (1 - true) / functions
    assert abs(estimates.mean() - true) < 4 * (variance / count) ** 0.5
    assert 0.88 < estimates.var() / variance < 1.12


@pytest.mark.parametrize("size", [8, 100])
@pytest.mark.parametrize(("similarity", "options"), [(0.5, Minhash()), (0.7, Minhash()), (0.8, Minhash()), (0.8, Minhash(bands=26, rows=11))])
def test_recall_follows_the_theory(size: int, similarity: float, options: Minhash) -> None:
    count = 3000
    pairs, true = planted(count, size, similarity, np.random.default_rng(size))
    keys = band_keys(pairs, options)
    found, expected = (keys[::2] == keys[1::2]).any(axis=1).mean(), chance(true, options.bands, options.rows)
    assert abs(found - expected) < 4 * (expected * (1 - expected) / count) ** 0.5 + 1 / count


def test_planted_copies_of_real_words_are_found_as_often_as_theory_says() -> None:
    rng = np.random.default_rng(3)
    vocabulary = [f"word{i}" for i in range(5000)]
    found, expected = [], []
    for _ in range(250):
        words = rng.choice(vocabulary, 120).tolist()
        copy = list(words)
        for i in rng.choice(120, int(rng.integers(1, 8)), replace=False):
            copy[i] = "changed"
        texts = pa.array([" ".join(words), " ".join(copy)])
        one, other = (set(row) for row in rows_of(shingles_of(texts, 5)))
        expected.append(chance(len(one & other) / len(one | other), 14, 8))
        keys = band_keys(shingles_of(texts, 5), Minhash())
        found.append((keys[0] == keys[1]).any())
    spread = sum(p * (1 - p) for p in expected) ** 0.5
    assert abs(sum(found) - sum(expected)) < 4 * spread
    assert 0.2 < np.mean(expected) < 0.9


def test_the_hash_of_a_word_is_the_one_that_kernels_share() -> None:
    """A shingle of one word is a hash of the word's hash, so equal words give equal shingles in every text."""
    words = words_of_strings(["alpha beta alpha"])
    row = rows_of(shingles_of(pa.array(["alpha beta alpha"]), 1))[0]
    assert row[0] == row[2] != row[1]
    assert words.hashes[0] == words.hashes[2]
