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
from curate.decontaminate.score import Stream, Units, score
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

    `rows` and `offsets` say which row of the batch each piece of `stream` is of, and at which of its bytes that row begins.
    `candidates` int64 [K, 3]: unit, first and last matched token. `found` float32 [K]. `units`: what the candidates are units of.
    """

    stream: Stream
    units: Units
    rows: Array
    offsets: Array
    candidates: Array
    found: Array


@dataclass(frozen=True, slots=True)
class _Search:
    """What is the same for all blocks: `needed` and `usual` float32 [U], see `_needed`, both as int32 in parts, and the units."""

    needed: Array
    usual: Array
    limits: tuple[Array, Array]
    units: Units


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


def blocks(batch: pa.RecordBatch, index: Index, view: View, counting: bool = False) -> Iterator[Block]:
    """Yield the blocks of `batch` in order; if `counting`, with candidates only of units that can reach their thresholds.

    The others, such as choices that are numbers, are half of what arithmetic would lead to; calibration looks at some of them.
    """
    data, offsets = text_buffer(batch)
    if view.num_units == 0 or batch.num_rows == 0:
        return
    row_of, begins, ends = spans_of_code(data, offsets) if view.is_code else (np.arange(batch.num_rows), offsets[:-1].copy(), offsets[1:])
    search = index.once(("search", view.gram, counting), lambda: _search(index, view, counting))
    room = np.zeros(view.num_units, np.int32), np.zeros(len(view.gram_weight), np.int32)
    piece = 0
    while piece < len(row_of):
        upto = piece + max(
            1, int(np.searchsorted((ends[piece : piece + BLOCK_TOKENS] - begins[piece : piece + BLOCK_TOKENS] + 1).cumsum(), BLOCK_BYTES))
        )
        begun = int(begins[piece])
        stream, done, place = _stream(data, begins[piece:upto], ends[piece:upto], view, index)
        rows = row_of[piece : piece + len(stream.bounds) - 1]
        candidates, found = _candidates(stream, view, search, room)
        yield Block(stream, search.units, rows, offsets[rows], candidates, found)
        if place and done == 0:
            begins[piece] = max(int(stream.starts[max(0, len(stream.keys) - OVERLAP_TOKENS)]), begun + 1)
        else:
            piece += len(rows)


def _search(index: Index, view: View, counting: bool) -> _Search:
    idle = index.thresholds(view) > 1 if counting else index.poor(view) & ~index.whole_only(view)
    needed, usual = (read_only(np.where(idle, np.inf, some).astype(np.float32)) for some in _needed(index, view))
    scaled = (np.minimum(np.floor((some.astype(np.float64) - 1e-6) * POST_WEIGHT), np.iinfo(np.int32).max) for some in (needed, usual))
    few, many = (read_only(some.astype(np.int32)) for some in scaled)
    own = {name: getattr(index if name in ("text", "text_start") else view, name) for name in Units._fields}
    return _Search(needed, usual, (few, many), Units(**own))


def _needed(index: Index, view: View) -> tuple[Array, Array]:
    """Return the weight, float32 [U], of a unit's n-grams that makes a window worth to be scored; and that but for short units."""
    if view.is_code:
        needed = (view.lead * np.float32(CANDIDATE_SHARE)).astype(np.float32)
        return needed, needed
    least = index.floors(view) + index.options.least_evidence
    common = np.maximum(LEAST_INFORMATION, least - COMMON_SHARE * (view.information - view.lead))  # most of a template's n-grams lead nowhere
    usual = np.minimum(np.minimum(CANDIDATE_INFORMATION * least, 0.5 * view.lead), common)
    needed = np.where(np.diff(view.unit_start) <= SHORT_TOKENS, np.minimum(usual, SHORT_INFORMATION), usual)
    usual, needed = (np.where(view.lead > 0, some, np.inf).astype(np.float32) for some in (usual, needed))
    return needed, usual


def _stream(data: Array, begins: Array, ends: Array, view: View, index: Index) -> tuple[Stream, int, int]:
    """Return (tokens, how many of the texts are there to their end, where the next one must go on or 0).

    A text that does not fit is left for the next block, unless it is the first.
    """
    tokens: Any
    if view is index.words:
        tokens, bounds, done, place = tokenize_pieces(data, begins, ends, BLOCK_TOKENS)
        keys, values, capital = tokens.hashes, tokens.values, tokens.capital
    else:
        tokens, bounds, done, place = shapes_of_pieces(data, begins, ends, BLOCK_TOKENS)
        keys, values, capital = tokens.shapes, tokens.names, np.zeros(len(tokens), np.bool_)
    kept = bounds[: done + 2] if place else bounds[: done + 1]
    runs = gram_hashes(keys, kept, view.gram) if view is index.words else gram_keys(tokens, kept, view.gram, view.coarse)
    bounds = kept[: max(1, done) + 1]
    n = int(bounds[-1])
    starts, ends = tokens.starts[:n], tokens.ends[:n]
    piece_of = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    return Stream(read_only(data), starts, ends, runs[:n], keys[:n], values[:n], capital[:n], bounds, piece_of), done, place


def _candidates(stream: Stream, view: View, search: _Search, room: tuple[Array, Array]) -> tuple[Array, Array]:
    sums, counts = room
    ordered, places, numbers = _events(stream, view, search, sums)
    n = len(ordered)
    if n == 0:
        return np.zeros((0, 3), np.int64), np.zeros(0, np.float32)
    candidates, weak = np.empty((n, 3), np.int64), np.empty(n, np.bool_)
    k = windows(
        ordered,
        places,
        numbers,
        stream.piece_of,
        stream.bounds,
        stream.keys,
        view.unit_start,
        view.unit_tips,
        view.gram_weight,
        search.needed,
        search.usual,
        counts,
        candidates,
        weak,
    )
    candidates, found = candidates[:k].copy(), np.zeros(k, np.float32)
    if k:
        score(candidates, stream, search.units, view.gram, view.is_code, found)
        sizes = view.unit_start[candidates[:, 0] + 1] - view.unit_start[candidates[:, 0]]
        shorter = candidates[:, 2] - candidates[:, 1] + 1 < sizes
        found[weak[:k] & shorter] = 0  # a part has all its n-grams, and a text with other words is as long as it was
    return candidates, np.minimum(found, view.information[candidates[:, 0]])


def _events(stream: Stream, view: View, search: _Search, sums: Array) -> tuple[Array, Array, Array]:
    """Return (events in order, uint64, places and numbers, int64, of the n-grams that they point to)."""
    places, payloads = np.empty(len(stream.runs) + 1, np.int64), np.empty(len(stream.runs), np.uint64)
    n = find(stream.runs, view.slots, view.bitmap, places, payloads)
    places, payloads, room = places[:n], payloads[:n], 4 * n
    own = (view.posts, view.unit_start, view.unit_tips, *search.limits, sums)
    fixed = (places, payloads, stream.piece_of, stream.bounds, stream.keys, *own)
    while True:
        found = np.empty(room, np.uint64)
        m = events(*fixed, found)
        if m >= 0:
            return np.sort(found[:m]), places, (payloads & np.uint64(0xFFFFFFFF)).astype(np.int64)
        room *= 4
