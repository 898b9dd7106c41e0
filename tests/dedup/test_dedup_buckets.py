"""Survivors against slow, obvious references: all pairs, sets, and a plain graph search."""

from __future__ import annotations

import itertools
import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.dedup.buckets import Buckets, assemble, chains, groups_of, stars
from curate.dedup.shingles import Sets

KEYS = st.integers(1, 8).flatmap(lambda bands: st.lists(st.lists(st.integers(0, 3), min_size=bands, max_size=bands), max_size=14))


def buckets_of(keys: list[list[int]]) -> tuple[list[int], Buckets]:
    columns = [np.array(column, np.uint64) for column in zip(*keys, strict=True)]
    candidates, buckets = assemble([groups_of(column) for column in columns], len(keys))
    return candidates.tolist(), buckets


def sets_of(members: list[set[int]]) -> Sets:
    bounds = np.cumsum([0, *map(len, members)]).astype(np.int64)
    hashes = np.array([h for one in members for h in sorted(one)], np.uint64)
    hashes.flags.writeable = False
    return Sets(hashes, bounds[:-1], bounds[1:])


def share(one: list[int], other: list[int]) -> bool:
    return any(a == b for a, b in zip(one, other, strict=True))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=20))
def test_groups_are_the_rows_with_equal_keys(keys: list[tuple[int, int]]) -> None:
    wide = np.array(keys, np.uint64).reshape(-1, 2)
    rows, starts = groups_of(wide)
    found = sorted(rows[a:b].tolist() for a, b in itertools.pairwise(starts))
    groups = [[i for i, one in enumerate(keys) if one == key] for key in set(keys)]
    assert found == sorted(group for group in groups if len(group) > 1)
    rows, starts = groups_of(wide[:, 0].copy())
    firsts = [[i for i, one in enumerate(keys) if one[0] == key] for key in {key for key, _ in keys}]
    assert sorted(rows[a:b].tolist() for a, b in itertools.pairwise(starts)) == sorted(g for g in firsts if len(g) > 1)


@settings(max_examples=100, deadline=None)
@given(KEYS)
def test_chains_are_connected_components_and_their_best_document_survives(keys: list[list[int]]) -> None:
    candidates, buckets = buckets_of(keys)
    best = list(range(len(keys)))
    for _ in keys:  # as many rounds as the longest chain can be
        best = [min(best[j] for j in range(len(keys)) if j == i or share(keys[i], keys[j])) for i in range(len(keys))]
    chosen = chains(buckets).tolist()
    assert [candidates[c] for c in chosen] == [best[i] for i in candidates]
    assert [i for i in range(len(keys)) if best[i] != i] == [i for i, c in zip(candidates, chosen, strict=True) if candidates[c] != i]


@settings(max_examples=100, deadline=None)
@given(KEYS, st.data(), st.sampled_from([0.0, 0.3, 0.5, 0.75, 1.0]))
def test_stars_remove_what_is_like_an_earlier_survivor_and_name_it(keys: list[list[int]], data: st.DataObject, verify: float) -> None:
    members = [data.draw(st.sets(st.integers(0, 6), min_size=1)) for _ in keys]
    candidates, buckets = buckets_of(keys)
    survivor: list[int] = []
    similarity = []
    for i, key in enumerate(keys):
        like = [len(members[i] & members[j]) / len(members[i] | members[j]) for j in range(i)]
        fitting = [j for j in range(i) if survivor[j] == j and share(key, keys[j]) and like[j] >= verify]
        survivor.append(fitting[0] if fitting else i)
        similarity.append(like[fitting[0]] if fitting else 1.0)
    found = stars(buckets, sets_of([members[i] for i in candidates]), verify)
    assert [candidates[c] for c in found.survivor] == [survivor[i] for i in candidates]
    assert found.similarity.tolist() == [similarity[i] for i in candidates]
    assert found.num_uncompared == 0


@settings(max_examples=100, deadline=None)
@given(KEYS, st.data())
def test_with_few_leaders_less_is_found_but_never_something_wrong(keys: list[list[int]], data: st.DataObject) -> None:
    members = [data.draw(st.sets(st.integers(0, 6), min_size=1)) for _ in keys]
    candidates, buckets = buckets_of(keys)
    members = [members[i] for i in candidates]
    found = stars(buckets, sets_of(members), 0.5, max_leaders=1)
    for d, s in enumerate(found.survivor.tolist()):
        assert found.survivor[s] == s
        assert s <= d
        assert len(members[d] & members[s]) / len(members[d] | members[s]) == found.similarity[d]
        assert s == d or found.similarity[d] >= 0.5


def test_a_similarity_that_equals_the_threshold_counts() -> None:
    """Also where a product would be rounded up: 0.28 · 25 > 7, but 7 / 25 is 0.28."""
    for common, whole in ((7, 10), (7, 25), (29, 50), (57, 100)):
        members = [set(range(whole)), set(range(common))]
        _, buckets = buckets_of([[1], [1]])
        assert stars(buckets, sets_of(members), common / whole).survivor.tolist() == [0, 0]


def test_a_giant_bucket_of_copies_is_compared_once_each() -> None:
    count = 50_000
    _, buckets = buckets_of([[5]] * count)
    sets = Sets(sets_of([set(range(100))]).hashes, np.zeros(count, np.int64), np.full(count, 100, np.int64))
    found = stars(buckets, sets, 0.7)
    assert found.num_compared == count - 1
    assert not found.survivor.any()


def test_a_giant_bucket_of_different_texts_is_not_quadratic_and_loses_nothing() -> None:
    count, size = 20_000, 20
    _, buckets = buckets_of([[5]] * count)
    hashes = np.arange(count * size, dtype=np.uint64)
    hashes.flags.writeable = False
    bounds = np.arange(count + 1, dtype=np.int64) * size
    begin = time.process_time()
    found = stars(buckets, Sets(hashes, bounds[:-1], bounds[1:]), 0.7)
    assert time.process_time() - begin < 5  # 200 million pairs would take a minute
    assert found.num_compared <= 64 * count
    assert found.num_uncompared == count - 64
    assert (found.survivor == np.arange(count)).all()


def test_chains_over_a_long_path_end() -> None:
    count = 20_000
    keys = np.arange(count)
    _, buckets = buckets_of(np.stack([keys // 2, (keys + 1) // 2], axis=1).tolist())
    assert not chains(buckets).any()
