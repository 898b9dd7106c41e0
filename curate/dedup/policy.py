"""Which of two copies survives: all documents in one order, best first. The first of any two copies stays.

    prefer    sources named there come before all others, in that order
    longest   more UTF-8 bytes of text first
    newest    later date first; documents whose date is unknown come last
    oldest    earlier date first; documents whose date is unknown come last
    first     as they lie in the input: sources as in the workflow, then by file name and offset

What ties is ordered by id, so the order is total, and the same however documents are spread over shards.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.errors import InputError, SpecError
from curate.specs.load import nearest
from curate.specs.workflow import Dedup

COLUMNS = ["id", "source", "file", "offset", "bytes", "seconds"]  # of signatures

_LAST = np.iinfo(np.int64).max


def policy_order(table: pa.Table, options: Dedup, sources: Sequence[str]) -> NDArray[np.int64]:
    """Return the row numbers of `table` (with COLUMNS), best first; `sources` is the workflow's order of them.

    Raises InputError, naming both, when two documents have the same id.
    """
    ids = pc.sort_indices(table.column("id")).to_numpy()
    _refuse_equal_ids(table, ids)
    rank = np.empty(len(ids), np.int64)
    rank[ids] = np.arange(len(ids))
    keys = [rank, *_keys(table, options, sources)[::-1], _place(table, options.prefer)]
    return np.lexsort(keys).astype(np.int64)


def _keys(table: pa.Table, options: Dedup, sources: Sequence[str]) -> list[NDArray[np.int64]]:
    """Return what the policy compares, the most important first; smaller is better."""
    if options.keep == "longest":
        return [-_numbers(table, "bytes", 0)]
    if options.keep == "oldest":
        return [_numbers(table, "seconds", _LAST)]
    if options.keep == "newest":
        return [-_numbers(table, "seconds", -_LAST)]
    if options.keep == "first":
        return [_place(table, sources), _alphabetical(table.column("file")), _numbers(table, "offset", _LAST)]
    raise SpecError(f"'{options.keep}' is unknown", where="keep", hint=nearest(options.keep, ["longest", "newest", "oldest", "first"]))


def _numbers(table: pa.Table, column: str, unknown: int) -> NDArray[np.int64]:
    values = pc.fill_null(table.column(column), unknown)
    return np.asarray(values.to_numpy(), np.int64)


def _place(table: pa.Table, names: Sequence[str]) -> NDArray[np.int64]:
    """Return, per row, the place of its source in `names`; sources that are not there come after them."""
    places = pc.index_in(table.column("source"), value_set=pa.array(list(names), pa.string()))
    return np.asarray(pc.fill_null(places, len(names)).to_numpy(), np.int64)


def _alphabetical(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return numbers that are ordered as the strings are; null is last."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    rank = np.empty(len(encoded.dictionary), np.int64)
    rank[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(len(rank))
    codes = np.asarray(pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), np.int64)
    return np.append(rank, _LAST)[codes]


def _refuse_equal_ids(table: pa.Table, order: NDArray[np.int64]) -> None:
    ids = table.column("id").take(pa.array(order)).combine_chunks()
    if len(ids) < 2:
        return
    equal = pc.equal(ids.slice(1), ids.slice(0, len(ids) - 1)).to_numpy(zero_copy_only=False)
    if equal.any():
        at = int(np.argmax(equal))
        one, other = (table.slice(int(order[i]), 1).to_pylist()[0] for i in (at, at + 1))
        places = sorted(f"source '{row['source']}', file {row['file']}, offset {row['offset']}" for row in (one, other))
        raise InputError(
            f"two documents have the id {one['id']}: one of {places[0]}; one of {places[1]}",
            where="dedup",
            hint="an id comes from source, file and offset: look for a shard that is read twice, or for a step that copies documents",
        )
