"""From the signatures of all shards to the list of copies: which document is a copy of which survivor, how similar, how found.

    exact    equal hashes; the best in policy order survives
    minhash  among the survivors of that, by shared band keys, with the true similarity or without (see `buckets`)

An exact copy of a text that MinHash then removes is named with the survivor of that text, and its similarity: whoever is
named as a survivor is in the result. Work goes by document id and policy order, so shards, batches and workers do not matter.

Memory: signatures are read column by column, one band at a time. Measured on a million documents, three in ten of them candidates
(documents that share a band key with another one): 450 MB, and 6 seconds without verification. At 5 kB a document that is 90 MB for each
GB of text, so 100 GB of text need about 9 GB in this one step; and, with verification, disk space of up to 1.5 times the text of the
candidates while it runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curate.dedup import policy
from curate.dedup.buckets import MAX_LEADERS, assemble, chains, groups_of, stars
from curate.dedup.exact import HASH_BYTES
from curate.dedup.shingles import shingle_sets
from curate.dedup.signatures import band_names
from curate.errors import InputError
from curate.specs.workflow import Dedup, Minhash

DUPLICATES = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("survivor", pa.string(), nullable=False),
        pa.field("similarity", pa.float64()),  # Jaccard similarity of the shingle sets; null where nothing was verified
        pa.field("method", pa.string(), nullable=False),  # exact or minhash
        pa.field("shard", pa.string(), nullable=False),  # the name under which its signatures came
    ]
)
REASONS = {"exact": "exact_duplicate", "minhash": "near_duplicate"}

Signatures = Mapping[str, pa.Table | Path]  # by any name that the caller gives to a shard
Texts = Callable[[str, pa.Array], Iterable[pa.RecordBatch]]  # (shard, ids) → batches with id and text that hold at least these

_METHODS = ["kept", "exact", "minhash"]


@dataclass(frozen=True, slots=True)
class Found:
    """The copies, as DUPLICATES sorted by shard and id, and counts for people."""

    table: pa.Table
    notes: dict[str, Any]


@dataclass(slots=True)
class _State:
    """One entry per document, in policy order; survivors are their own."""

    order: NDArray[np.int64]  # row number in the concatenated signatures
    survivor: NDArray[np.int64]
    similarity: NDArray[np.float64]
    method: NDArray[np.int8]
    notes: dict[str, Any]


def duplicates(signatures: Signatures, options: Dedup, sources: Sequence[str], texts: Texts, folder: Path | None = None) -> Found:
    """Find the copies among all documents of `signatures`; `sources` is the workflow's order of them.

    `texts` is asked, once per shard, for the texts of the candidates of MinHash that are to be verified; `folder` is where their
    shingles lie meanwhile. Raises InputError for two documents with one id, for signatures made under other options, and
    for a text that `texts` does not give.
    """
    _check_columns(signatures, options)
    table = _columns(signatures, [*policy.COLUMNS, "shingles"])
    order = policy.policy_order(table, options, sources)
    count = len(order)
    state = _State(order, np.arange(count), np.ones(count), np.zeros(count, np.int8), {"num_documents": count})
    if options.exact:
        _exact(signatures, state)
    if options.minhash is not None:
        words = np.asarray(table.column("shingles").to_numpy() > 0)[order]
        _near(signatures, options.minhash, words, state, _reader(signatures, table, texts), folder)
        chained = (state.method == 1) & (state.survivor[state.survivor] != state.survivor)
        through = state.survivor[chained]
        state.survivor[chained], state.similarity[chained] = state.survivor[through], state.similarity[through]
        state.method[chained] = 2
    return _found(signatures, table, state)


def verdicts(ids: Iterable[str], removals: dict[str, tuple[str, str]]) -> list[tuple[str, str] | None]:
    """Return, for each id, (reason, detail as JSON) when it is to be removed, or None; see `removals_of`."""
    return [removals.get(key) for key in ids]


def removals_of(table: pa.Table) -> dict[str, tuple[str, str]]:
    """Return id → (drop reason, detail as JSON) for rows of DUPLICATES. Raises InputError when an id stands twice."""
    removals = {}
    for row in table.to_pylist():
        similarity = None if row["similarity"] is None else round(row["similarity"], 4)
        removals[row["id"]] = (REASONS[row["method"]], json.dumps({"survivor": row["survivor"], "similarity": similarity}))
    if len(removals) != table.num_rows:
        raise InputError(f"{table.num_rows - len(removals)} documents stand twice in the list of copies", where="dedup")
    return removals


def _check_columns(signatures: Signatures, options: Dedup) -> None:
    wanted = {*policy.COLUMNS, "hash", "shingles", *band_names(options.minhash)}
    for name, one in signatures.items():
        names = pq.read_schema(one).names if isinstance(one, Path) else one.schema.names
        if not wanted <= set(names):
            missing = ", ".join(sorted(wanted - set(names)))
            raise InputError(f"its signatures lack {missing}: they were made under other options", where=name, hint="sign the shard again")


def _columns(signatures: Signatures, names: list[str]) -> pa.Table:
    """Return these columns of all shards, one after another; `shard` is the number of the shard, ids have 64-bit offsets."""
    parts = []
    for number, one in enumerate(signatures.values()):
        part = pq.read_table(one, columns=names, use_threads=False) if isinstance(one, Path) else one.select(names)
        if "id" in names:
            part = part.set_column(part.schema.get_field_index("id"), "id", part.column("id").cast(pa.large_string()))
            part = part.append_column("shard", pa.array(np.full(part.num_rows, number, np.int32)))
        parts.append(part)
    return pa.concat_tables(parts) if parts else pa.table({**{name: pa.array([], _TYPES.get(name, pa.int64())) for name in names}, "shard": _NONE})


_TYPES = {"id": pa.large_string(), "source": pa.string(), "file": pa.string()}
_NONE = pa.array([], pa.int32())


def _exact(signatures: Signatures, state: _State) -> None:
    parts = [chunk for chunk in _columns(signatures, ["hash"]).column("hash").chunks if len(chunk)] if signatures else []
    raw = [np.frombuffer(c.buffers()[1], np.uint64, len(c) * HASH_BYTES // 8, c.offset * HASH_BYTES).reshape(-1, 2) for c in parts]
    if raw:
        rows, starts = groups_of(np.concatenate(raw)[state.order])
        state.survivor[rows] = np.repeat(rows[starts[:-1]], np.diff(starts))
        state.method[:] = state.survivor != np.arange(len(state.order))


Reader = Callable[[NDArray[np.int64]], Iterator[tuple[NDArray[np.int64], pa.StringArray]]]


def _near(signatures: Signatures, options: Minhash, words: NDArray[np.bool_], state: _State, read: Reader, folder: Path | None) -> None:
    """Find near-duplicates among the documents that survive so far and have words."""
    alive = np.flatnonzero((state.method == 0) & words)
    state.notes["num_without_words"] = int((~words).sum())
    groups = []
    for name in band_names(options) if signatures else []:
        keys = pc.fill_null(_columns(signatures, [name]).column(name), 0).to_numpy()
        groups.append(groups_of(keys[state.order[alive]]))
    candidates, buckets = assemble(groups, len(alive))
    members = alive[candidates]
    state.notes |= {"num_candidates": len(members), "largest_bucket": int(buckets.sizes.max(initial=0))}
    if options.verify is None:
        chosen = chains(buckets)
        state.similarity[members] = np.where(chosen == np.arange(len(members)), 1.0, np.nan)
    else:
        sets = shingle_sets(read(state.order[members]), len(members), options.ngram, folder)
        if (sets.starts == sets.ends).any():
            raise InputError("a text has no words, but its signature has", where="dedup", hint="its documents have changed; sign them again")
        result = stars(buckets, sets, options.verify, MAX_LEADERS)
        chosen = result.survivor
        state.similarity[members] = result.similarity
        state.notes |= {"num_compared": result.num_compared, "num_uncompared": result.num_uncompared}
    state.survivor[members] = members[chosen]
    state.method[members[chosen != np.arange(len(members))]] = 2


def _reader(signatures: Signatures, table: pa.Table, texts: Texts) -> Reader:
    """Return a function from row numbers of `table` to (places in that list, texts), shard after shard, each row exactly once."""

    def read(rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], pa.StringArray]]:
        shards = table.column("shard").to_numpy()[rows]
        by_shard = np.argsort(shards, kind="stable")
        bounds = np.searchsorted(shards[by_shard], np.arange(len(signatures) + 1))
        for number, name in enumerate(signatures):
            places = by_shard[bounds[number] : bounds[number + 1]]
            if len(places) == 0:
                continue
            ids = table.column("id").take(pa.array(rows[places])).combine_chunks().cast(pa.string())
            ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
            come = np.zeros(len(places), np.int64)
            for batch in texts(name, ids):
                at = pc.index_in(batch.column("id"), value_set=ids)
                wanted = at.is_valid()
                here = np.asarray(at.filter(wanted).to_numpy(), np.int64)
                np.add.at(come, here, 1)
                if len(here):
                    yield places[here], batch.column("text").filter(wanted)
            if (come != 1).any():
                bad = int(np.argmax(come != 1))
                what = f"the text of document {ids[bad].as_py()} came {come[bad]} times, not once"
                raise InputError(what, where=name, hint="its documents and its signatures do not belong together; sign the shard again")

    return read


def _found(signatures: Signatures, table: pa.Table, state: _State) -> Found:
    removed = np.flatnonzero(state.method)
    state.notes |= {f"num_{reason}s": int((state.method == code).sum()) for code, reason in ((1, "exact_duplicate"), (2, "near_duplicate"))}
    rows, survivors = pa.array(state.order[removed]), pa.array(state.order[state.survivor[removed]])
    similarity = state.similarity[removed]
    names = pa.array(list(signatures), pa.string())
    columns = {
        "id": table.column("id").take(rows).cast(pa.string()),
        "survivor": table.column("id").take(survivors).cast(pa.string()),
        "similarity": pa.array(similarity, mask=np.isnan(similarity)),
        "method": pa.array(_METHODS).take(pa.array(state.method[removed])),
        "shard": names.take(table.column("shard").take(rows).combine_chunks()),
    }
    result = pa.table(columns, schema=DUPLICATES).sort_by([("shard", "ascending"), ("id", "ascending")]).combine_chunks()
    pairs = pa.table({"removed": table.column("source").take(rows), "survivor": table.column("source").take(survivors)})
    counts = pairs.group_by(["removed", "survivor"]).aggregate([([], "count_all")]).to_pylist()
    state.notes["between_sources"] = dict(sorted((f"{c['removed']} → {c['survivor']}", c["count_all"]) for c in counts))
    return Found(result, state.notes)
