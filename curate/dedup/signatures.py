"""Signatures: one row per document with everything that finding its copies needs, so that texts are read once.

    id · source · file · offset   which document
    bytes · seconds               of its text (UTF-8); its date, in seconds since 1970, null where there is none or it cannot be read
    hash                          of its normalized text (see `exact`)
    shingles                      how many; 0: it has no words, so it has no near-duplicates either
    band_00 … band_13             its MinHash band keys, null without shingles; absent without MinHash

About 150 bytes per document on disk with 14 bands. A row depends on its document and the MinHash options alone, never on its batch;
a change of what survives, or of `verify`, leaves signatures as they are.
"""

from __future__ import annotations

import datetime
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus import text_sizes
from curate.dedup.exact import HASH, composed, content_hashes
from curate.dedup.minhash import band_keys, shingles_of
from curate.specs.workflow import Minhash

COLUMNS = ["text", "source", "date", "origin"]  # of a document, beside its id

_FIELDS = [
    pa.field("id", pa.string(), nullable=False),
    pa.field("source", pa.string(), nullable=False),
    pa.field("file", pa.string()),
    pa.field("offset", pa.int64()),
    pa.field("bytes", pa.int64(), nullable=False),
    pa.field("seconds", pa.int64()),
    pa.field("hash", HASH, nullable=False),
    pa.field("shingles", pa.int64(), nullable=False),
]
_DATE = re.compile(
    r"(\d{4})(?:-?(\d{2})(?:-?(\d{2})(?:[T ](\d{2}):?(\d{2})(?::?(\d{2})(?:[.,]\d+)?)?\s*(?:(Z|UTC|GMT)|([+-])(\d{2}):?(\d{2})?)?)?)?)?",
    re.ASCII | re.IGNORECASE,
)
_EPOCH = datetime.date(1970, 1, 1).toordinal()


def schema(minhash: Minhash | None) -> pa.Schema:
    """Return the schema of signatures under these options."""
    return pa.schema([*_FIELDS, *(pa.field(name, pa.uint64()) for name in band_names(minhash))])


def band_names(minhash: Minhash | None) -> list[str]:
    """Return the names of the columns that hold band keys."""
    return [f"band_{i:02d}" for i in range(minhash.bands)] if minhash else []


def signatures(batch: pa.RecordBatch, minhash: Minhash | None) -> pa.RecordBatch:
    """Return the signatures of the documents of `batch`, in their order; it needs `id` and COLUMNS.

    Raises UnicodeDecodeError when a text is not UTF-8.
    """
    text = composed(batch.column("text"))
    origin = batch.column("origin")
    columns = [
        batch.column("id"),
        batch.column("source"),
        pc.struct_field(origin, "file"),
        pc.struct_field(origin, "offset"),
        pa.array(text_sizes(batch)),
        pa.array([seconds_of(date) for date in batch.column("date").to_pylist()], pa.int64()),
        content_hashes(text),
    ]
    if minhash is None:
        columns.append(pa.array(np.zeros(batch.num_rows, np.int64)))
    else:
        shingles = shingles_of(text, minhash.ngram)
        counts = np.diff(shingles.offsets)
        keys = band_keys(shingles, minhash)
        columns += [pa.array(counts), *(pa.array(keys[:, band], mask=counts == 0) for band in range(minhash.bands))]
    wanted = schema(minhash)
    return pa.RecordBatch.from_arrays([column.cast(field.type) for column, field in zip(columns, wanted, strict=True)], schema=wanted)


def seconds_of(date: str | None) -> int | None:
    """Return an ISO 8601 date or time as seconds since 1970 (UTC where it names no zone); None when it is not one.

    A date without a day or time is its beginning: "2024" is 1 January 2024, 0:00.
    """
    found = _DATE.fullmatch(date.strip()) if date else None
    if found is None:
        return None
    year, month, day, hour, minute, second, _, sign, zone_hours, zone_minutes = found.groups()
    try:
        days = datetime.date(int(year), int(month or 1), int(day or 1)).toordinal() - _EPOCH
    except ValueError:  # 30 February
        return None
    clock = [int(part or 0) for part in (hour, minute, second)]
    if clock[0] > 24 or clock[1] > 59 or clock[2] > 60:
        return None
    zone = (int(zone_hours or 0) * 60 + int(zone_minutes or 0)) * 60 * (-1 if sign == "-" else 1)
    return days * 86400 + clock[0] * 3600 + clock[1] * 60 + clock[2] - zone
