"""A batch of documents → blocks of tokens with scored candidates: what scanning, counting and calibrating share.

Texts are walked in place in Arrow's buffer. A block holds at most BLOCK_TOKENS tokens, so memory does not depend on the
batch or on a document's length; a document that is longer is cut into pieces that overlap by more than the longest window.
Where it is cut depends on the document alone, so results do not depend on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.decontaminate.index import Index, View
from curate.decontaminate.lookup import POST_WEIGHT, SLACK_TOKENS, events, find, gram_hashes, windows
from curate.decontaminate.normalize import read_only, tokenize_pieces
from curate.decontaminate.score import score
from curate.decontaminate.shapes import gram_keys, shapes_of_pieces, spans_of_code
from curate.decontaminate.tables import MAX_UNIT_TOKENS

BLOCK_TOKENS = 1 << 17
BLOCK_BYTES = 4 * BLOCK_TOKENS  # four bytes per token: rarely too many
OVERLAP_TOKENS = 8 * MAX_UNIT_TOKENS + 4 * SLACK_TOKENS
CANDIDATE_SHARE = 0.15  # of a code unit's lead must be in a window before it is scored
CANDIDATE_INFORMATION = 0.35  # of what is needed at least must be in a window's n-grams
SHORT_TOKENS, SHORT_INFORMATION = 20, 0.5  # and no more than this of a short unit, where changed words leave few n-grams; it costs little to score
COMMON_SHARE, LEAST_INFORMATION = 1.5, 1.0  # nor more than what common words, by this share of what they say, do not make up for
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Block:
    """Tokens of some documents in one view, and the candidates among them. K candidates.

    `starts`, `ends` (bytes in `data`) and `runs`, `values`: one element per token. `piece_of` numbers the token's piece,
    `rows` and `offsets` say which row of the batch a piece is of, and at which byte of `data` that row begins.
    `candidates` int64 [K, 3]: unit, first and last matched token. `found` float32 [K].
    """

    data: Array
    starts: Array
    ends: Array
    keys: Array
    runs: Array
    values: Array
    capital: Array
    bounds: Array
    piece_of: Array
    rows: Array
    offsets: Array
    candidates: Array
    found: Array


@dataclass(frozen=True, slots=True)
class _Search:
    """What is the same for all blocks: `needed` and `usual` float32 [U], see `_needed`, and both as int32 in parts; zeros; the items' texts."""

    needed: Array
    usual: Array
    limits: tuple[Array, Array]
    sums: Array
    counts: Array
    text: Array
    text_start: Array


def text_buffer(batch: pa.RecordBatch) -> tuple[Array, Array]:
    """Return (UTF-8 bytes, offsets int64 [rows + 1]) of the batch's texts, without a copy. A null text is empty."""
    column = batch.column("text")
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        column = column.cast(pa.large_string())
    _, offsets, data = column.buffers()
    kind = np.int64 if pa.types.is_large_string(column.type) else np.int32
    places = np.frombuffer(offsets, kind)[column.offset : column.offset + len(column) + 1] if len(column) else np.zeros(1, kind)
    values = np.frombuffer(data, np.uint8) if data is not None and data.size else np.frombuffer(b"\0", np.uint8)
    return values, places.astype(np.int64)


def blocks(batch: pa.RecordBatch, index: Index, view: View) -> Iterator[Block]:
    """Yield the blocks of `batch` in order."""
    data, offsets = text_buffer(batch)
    if view.num_units == 0 or batch.num_rows == 0:
        return
    row_of, begins, ends = spans_of_code(data, offsets) if view.is_code else (np.arange(batch.num_rows), offsets[:-1].copy(), offsets[1:])
    search, piece = _search(index, view), 0
    while piece < len(row_of):
        upto = piece + max(
            1, int(np.searchsorted((ends[piece : piece + BLOCK_TOKENS] - begins[piece : piece + BLOCK_TOKENS] + 1).cumsum(), BLOCK_BYTES))
        )
        begun = int(begins[piece])
        tokens, keys, runs, values, capital, bounds, done, place = _tokens(data, begins[piece:upto], ends[piece:upto], view, index)
        if place and done > 0:  # the last text did not fit: it begins the next block
            tokens, keys, runs, values, capital = _head(int(bounds[done]), tokens, keys, runs, values, capital)
        pieces = max(1, done) if place else done
        rows = row_of[piece : piece + pieces]
        yield _block(data, tokens, keys, runs, values, capital, bounds[: pieces + 1], rows, offsets[rows], view, search)
        if place and done == 0:
            begins[piece] = max(int(tokens[0][max(0, len(keys) - OVERLAP_TOKENS)]), begun + 1)
        else:
            piece += pieces


def _search(index: Index, view: View) -> _Search:
    needed, usual = _needed(index, view)
    scaled = (np.minimum(np.floor((some.astype(np.float64) - 1e-6) * POST_WEIGHT), np.iinfo(np.int32).max) for some in (needed, usual))
    few, many = (read_only(some.astype(np.int32)) for some in scaled)
    zeros = np.zeros(view.num_units, np.int32), np.zeros(len(view.gram_weight), np.int32)
    return _Search(needed, usual, (few, many), *zeros, index.text, index.text_start)


def _needed(index: Index, view: View) -> tuple[Array, Array]:
    """Return the weight, float32 [U], of a unit's n-grams that makes a window worth to be scored; and that but for short units."""
    if view.is_code:
        needed = read_only((view.lead * np.float32(CANDIDATE_SHARE)).astype(np.float32))
        return needed, needed
    least = index.floors(view) + index.options.least_evidence
    common = np.maximum(LEAST_INFORMATION, least - COMMON_SHARE * (view.information - view.lead))  # most of a template's n-grams lead nowhere
    usual = np.minimum(np.minimum(CANDIDATE_INFORMATION * least, 0.5 * view.lead), common)
    needed = np.where(np.diff(view.unit_start) <= SHORT_TOKENS, np.minimum(usual, SHORT_INFORMATION), usual)
    usual, needed = (read_only(np.where(view.lead > 0, some, np.inf).astype(np.float32)) for some in (usual, needed))
    return needed, usual


def _tokens(data: Array, begins: Array, ends: Array, view: View, index: Index) -> tuple[Any, ...]:
    if view is index.words:
        words, bounds, done, place = tokenize_pieces(data, begins, ends, BLOCK_TOKENS)
        kept = bounds[: done + 2] if place else bounds[: done + 1]
        grams = gram_hashes(words.hashes, kept, view.gram)
        return (words.starts, words.ends), words.hashes, grams, words.values, words.capital, bounds, done, place
    code, bounds, done, place = shapes_of_pieces(data, begins, ends, BLOCK_TOKENS)
    kept = bounds[: done + 2] if place else bounds[: done + 1]
    grams = gram_keys(code, kept, view.gram, view.coarse)
    return (code.starts, code.ends), code.shapes, grams, code.names, np.zeros(len(code), np.bool_), bounds, done, place


def _head(n: int, tokens: Any, keys: Array, runs: Array, values: Array, capital: Array) -> tuple[Any, ...]:
    return (tokens[0][:n], tokens[1][:n]), keys[:n], runs[:n], values[:n], capital[:n]


def _block(
    data: Array,
    tokens: Any,
    keys: Array,
    runs: Array,
    values: Array,
    capital: Array,
    bounds: Array,
    rows: Array,
    offsets: Array,
    view: View,
    search: _Search,
) -> Block:
    piece_of = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    candidates, found = _candidates(piece_of, (read_only(data), *tokens, runs, keys, values, capital), bounds, view, search)
    return Block(
        data=data,
        starts=tokens[0],
        ends=tokens[1],
        keys=keys,
        runs=runs,
        values=values,
        capital=capital,
        bounds=bounds,
        piece_of=piece_of,
        rows=rows,
        offsets=offsets,
        candidates=candidates,
        found=found,
    )


def _candidates(piece_of: Array, tokens: tuple[Array, ...], bounds: Array, view: View, search: _Search) -> tuple[Array, Array]:
    ordered, places, numbers = _events(tokens[3], tokens[4], piece_of, bounds, view, search)
    n = len(ordered)
    if n == 0:
        return np.zeros((0, 3), np.int64), np.zeros(0, np.float32)
    candidates, weak = np.empty((n, 3), np.int64), np.empty(n, np.bool_)
    k = windows(
        ordered,
        places,
        numbers,
        piece_of,
        bounds,
        tokens[4],
        view.unit_start,
        view.unit_tips,
        view.gram_weight,
        search.needed,
        search.usual,
        search.counts,
        candidates,
        weak,
    )
    candidates, found = candidates[:k].copy(), np.zeros(k, np.float32)
    if k:
        score(
            candidates,
            *tokens,
            bounds,
            piece_of,
            view.unit_start,
            view.unit_text,
            search.text,
            search.text_start,
            view.token_from,
            view.token_to,
            view.token_run,
            view.token_key,
            view.token_value,
            view.token_capital,
            view.token_gram,
            view.token_alone,
            view.token_second,
            view.token_weight,
            view.gram_weight,
            view.gram,
            view.is_code,
            found,
        )
        sizes = view.unit_start[candidates[:, 0] + 1] - view.unit_start[candidates[:, 0]]
        shorter = candidates[:, 2] - candidates[:, 1] + 1 < sizes
        found[weak[:k] & shorter] = 0  # a part has all its n-grams, and a text with other words is as long as it was
    return candidates, np.minimum(found, view.information[candidates[:, 0]])


def _events(runs: Array, keys: Array, piece_of: Array, bounds: Array, view: View, search: _Search) -> tuple[Array, Array, Array]:
    """Return (events in order, uint64, places and numbers, int64, of the n-grams that they point to)."""
    places, payloads = np.empty(len(runs) + 1, np.int64), np.empty(len(runs), np.uint64)
    n = find(runs, view.slots, view.bitmap, places, payloads)
    places, payloads, room = places[:n], payloads[:n], 4 * n
    fixed = (places, payloads, piece_of, bounds, keys, view.posts, view.unit_start, view.unit_tips, *search.limits, search.sums)
    while True:
        found = np.empty(room, np.uint64)
        m = events(*fixed, found)
        if m >= 0:
            return np.sort(found[:m]), places, (payloads & np.uint64(0xFFFFFFFF)).astype(np.int64)
        room *= 4
