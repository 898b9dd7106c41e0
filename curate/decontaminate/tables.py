"""An index's counts: which n-grams, pairs and words the items have, how common each is among them, and which lead to which units.

Counts are of other items. Where many items are instances of one template, an n-gram has few different words before it, and counts
little (continuation counts, Kneser and Ney 1995); where it stands in many texts behind many words, it is a phrase, and counts much.
What is traded away: n-grams that stand in more than MAX_POSTINGS units do not lead to them, so a unit made of nothing else cannot
be found, and is listed so.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.decontaminate.lookup import POST_WEIGHT, fill_bitmap, fill_table

MAX_POSTINGS, RARE_POSTINGS = 96, 8
UNIT_SHARE = 0.1  # what one more item with an n-gram counts, in occurrences in the background
MAX_UNIT_TOKENS = 192  # longer channels are cut into pieces of about this size
Array = NDArray[Any]


def cut(bounds: Array) -> tuple[Array, Array]:
    """Cut texts into units of at most about MAX_UNIT_TOKENS; return (bounds int64 [U + 1], text of each unit)."""
    cuts, owners = [0], []
    for text in range(len(bounds) - 1):
        first, last = int(bounds[text]), int(bounds[text + 1])
        pieces = max(1, round((last - first) / MAX_UNIT_TOKENS))
        for piece in range(pieces):
            cuts.append(first + (last - first) * (piece + 1) // pieces)
            owners.append(text)
    return np.array(cuts, np.int64), np.array(owners, np.int64)


def tables_of(gram: int, grams: Array, pairs: Array, tokens: dict[str, Any], benchmark_of: Array) -> dict[str, Any]:
    """Number the distinct n-grams, pairs and words, count them, and make postings and tables: arrays of View by name.

    `grams` uint64 [T]: the hashes of `gram` tokens, 0 where there is none; `pairs` uint64 [T]: of two words, all 0 for code; `tokens`:
    the arrays of View that are known already.
    """
    starts = tokens["unit_start"]
    unit_of = np.repeat(np.arange(len(starts) - 1, dtype=np.int64), np.diff(starts))
    fresh = _fresh(tokens["token_key"], starts, tokens["unit_item"])[unit_of]
    words, token_word = _numbered(tokens["token_key"])
    pair_keys, token_pair = _numbered(pairs)
    keys, token_gram = _numbered(grams)
    post_start, post_unit = _postings(token_gram, unit_of, len(keys), gram)
    present = np.flatnonzero(token_gram >= 0)
    leads = np.diff(post_start) > 0
    payload = np.arange(len(keys), dtype=np.uint64) | np.where(leads, post_start[:-1], 0xFFFFFFFF).astype(np.uint64) << np.uint64(32)
    return {
        "token_run": grams,
        "token_gram": token_gram,
        "token_word": token_word,
        "token_pair": token_pair,
        "gram_seen": _seen(token_gram, token_word, starts, unit_of, fresh, len(keys)),
        "gram_share": np.zeros(0, np.float32)
        if len(pair_keys)
        else _shares(token_gram[present].astype(np.int64), tokens["unit_item"][unit_of[present]], benchmark_of, len(keys)),
        "pair_seen": _seen(token_pair, token_word, starts, unit_of, fresh, len(pair_keys)),
        "word_count": np.bincount(token_word[fresh], minlength=len(words)).astype(np.int32),
        "post_start": post_start,
        "post_unit": post_unit,
        "slots": fill_table(keys, payload),
        "bitmap": fill_bitmap(keys[leads]),
        "word_slots": fill_table(words),
        "pair_slots": fill_table(pair_keys),
    }


def _fresh(token_key: Array, starts: Array, unit_item: Array) -> Array:
    """Return which units, bool [U], are of the first item with its texts: a benchmark that is given twice must not make itself common."""
    seen: set[bytes] = set()
    result = np.zeros(len(starts) - 1, np.bool_)
    edges = np.flatnonzero(np.diff(unit_item, prepend=-1, append=-1))
    for first, last in itertools.pairwise(edges.tolist()):
        digest = hashlib.blake2b(token_key[starts[first] : starts[last]].tobytes(), digest_size=16).digest()
        result[first:last] = digest not in seen
        seen.add(digest)
    return result


def _numbered(keys: Array) -> tuple[Array, Array]:
    """Return (distinct keys but 0, the number of each token's key or -1 int32)."""
    present = np.flatnonzero(keys)
    distinct, number = np.unique(keys[present], return_inverse=True)
    numbers = np.full(len(keys), -1, np.int32)
    numbers[present] = number
    return distinct, numbers


def _seen(numbers: Array, token_word: Array, starts: Array, unit_of: Array, fresh: Array, num_kinds: int) -> Array:
    """Return, float32, how often other items have each n-gram: behind how many other words (Kneser and Ney 1995), and in how many units.

    Where many items are instances of one template, the same words stand before it, so units count little. One other item is not
    counted, so that an item and its near twin do not explain each other.
    """
    before = np.empty_like(token_word)
    before[1:] = token_word[:-1]
    before[starts[:-1][np.diff(starts) > 0]] = -1
    at = np.flatnonzero((numbers >= 0) & fresh)
    number = numbers[at].astype(np.int64) << 32
    types, units = (np.bincount(np.unique(number | other[at]) >> 32, minlength=num_kinds) for other in (before.astype(np.int64) + 1, unit_of))
    return (np.maximum(0, types - 1) + UNIT_SHARE * np.maximum(0, units - 2)).astype(np.float32)


def _postings(token_gram: Array, unit_of: Array, num_grams: int, gram: int) -> tuple[Array, Array]:
    """Return (post_start, post_unit): which n-grams lead to which units.

    N-grams of few units lead to them; those of up to MAX_POSTINGS only where a unit has no rarer one nearby.
    """
    at = np.flatnonzero(token_gram >= 0)
    pairs = np.unique(token_gram[at].astype(np.int64) << 32 | unit_of[at])
    units = np.bincount(pairs >> 32, minlength=num_grams)
    per_token = np.where(token_gram >= 0, units[token_gram] if num_grams else 0, MAX_POSTINGS + 1)
    kept = per_token <= MAX_POSTINGS
    if gram < 4:  # words, of which short n-grams are common
        rare = per_token <= RARE_POSTINGS
        covered = rare.copy()
        for step in range(1, gram + 1):
            same = unit_of[step:] == unit_of[:-step]
            covered[step:] |= rare[:-step] & same
            covered[:-step] |= rare[step:] & same
        kept &= rare | ~covered
    pairs = np.unique(token_gram[kept].astype(np.int64) << 32 | unit_of[kept])
    post_start = np.concatenate([[0], np.cumsum(np.bincount(pairs >> 32, minlength=num_grams))]).astype(np.int64)
    return post_start, (pairs & 0xFFFFFFFF).astype(np.int32)


def posts_of(post_start: Array, post_unit: Array, gram_weight: Array) -> Array:
    """Return the postings as `lookup.events` walks them, uint64 [P]: weight << 32 | whether it is its n-gram's last << 31 | unit."""
    weight = np.ceil(np.repeat(gram_weight.astype(np.float64), np.diff(post_start)) * POST_WEIGHT).astype(np.uint64)
    last = np.zeros(len(post_unit), np.uint64)
    last[post_start[1:][np.diff(post_start) > 0] - 1] = 1
    return weight << np.uint64(32) | last << np.uint64(31) | post_unit.astype(np.uint64)


def _shares(grams: Array, items: Array, benchmark_of: Array, num_grams: int) -> Array:
    """Return, per n-gram, the share of the other items of a benchmark that have it too, of the benchmark where it is largest."""
    pairs = np.unique(grams << 32 | items.astype(np.int64))
    sizes = np.bincount(benchmark_of)
    group, count = np.unique((pairs >> 32) * len(sizes) + benchmark_of[pairs & 0xFFFFFFFF], return_counts=True)
    result = np.zeros(num_grams, np.float32)
    np.maximum.at(result, group // max(1, len(sizes)), ((count - 1) / (sizes[group % max(1, len(sizes))] + 300.0)).astype(np.float32))
    return result
