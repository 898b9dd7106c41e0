"""A corpus on disk: a folder of Parquet shards and a `manifest.json`, written last, so that its presence means "complete".

    FOLDER/NAME.parquet           documents (or, for annotations, `id` and one struct column per annotator)
    FOLDER/dropped/NAME.parquet   what the stage dropped: id, reason, all reasons, detail
    FOLDER/errors/NAME.parquet    what failed, with its error
    FOLDER/receipts/NAME.json     what the task did (written by the engine)
    FOLDER/manifest.json          key, shards with checksums, ledger, provenance

Annotations lie beside the documents: their manifest names the corpus that they belong to as `base`, and reading
joins the two by id, so a text is not copied for a few numbers. A row that failed in annotation is absent from the view (and
counted there). Every file is written under a temporary name and renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.errors import InputError
from curate.ledger import Ledger

ROWS_PER_GROUP = 1024
BYTES_PER_GROUP = 16_000_000  # of text
ALL_BYTES_PER_GROUP = 64_000_000  # of all strings: of a web page, meta is a small part of it, but it may be anything

DROPPED = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("reason", pa.string(), nullable=False),  # the first rule that hit
        pa.field("reasons", pa.list_(pa.string()), nullable=False),  # all the rules that hit
        pa.field("detail", pa.string()),  # JSON: the survivor of a duplicate, the benchmark item of a match
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("file", pa.string()),
        pa.field("offset", pa.int64()),
    ]
)
ERRORS = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("url", pa.string()),
        pa.field("error", pa.string(), nullable=False),
        pa.field("file", pa.string()),
        pa.field("offset", pa.int64()),
        pa.field("length", pa.int64()),
    ]
)


class Shard(msgspec.Struct):
    """One Parquet file of a corpus."""

    name: str
    rows: int
    bytes: int  # of the file
    sha256: str


class Manifest(msgspec.Struct, omit_defaults=True):
    """What a stage wrote. Holds no time and no absolute path: equal work gives equal bytes."""

    key: str
    stage: str
    source: str
    shards: list[Shard]
    ledger: Ledger
    spec: dict[str, Any]
    schema: list[str] = []
    base: str | None = None  # the corpus that these annotations belong to, relative to this folder
    files: dict[str, str] = {}  # everything else that the stage wrote: relative path → sha256
    sizes: dict[str, int] = {}  # of these files, in bytes
    ledgers: dict[str, Ledger] = {}  # per shard
    notes: dict[str, Any] = {}
    provenance: dict[str, str] = {}

    @property
    def rows(self) -> int:
        """Number of documents in all shards."""
        return sum(shard.rows for shard in self.shards)


class Corpus:
    """An opened corpus. `shards` maps names to shards; `batches` reads one of them."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.shards = {shard.name: shard for shard in manifest.shards}

    @classmethod
    def open(cls, folder: Path | str) -> Corpus:
        """Open the corpus in `folder`. Raises InputError when it is missing or incomplete."""
        return cls(Path(folder), read_manifest(Path(folder)))

    @property
    def base(self) -> Corpus | None:
        """The corpus that these annotations belong to, or None for a corpus of documents."""
        return Corpus.open(os.path.normpath(self.folder / self.manifest.base)) if self.manifest.base else None

    def path(self, shard: str) -> Path:
        """The Parquet file of `shard`."""
        return self.folder / f"{shard}.parquet"

    def schema(self) -> pa.Schema:
        """The schema of the batches: documents, then the annotations in the order in which they were made."""
        own = pq.read_schema(self.path(next(iter(self.shards)))) if self.shards else pa.schema([])
        own = own.remove_metadata()
        base = self.base
        if base is None:
            return own
        names = set(own.names)
        return pa.schema([f for f in base.schema() if f.name == "id" or f.name not in names] + [f for f in own if f.name != "id"])

    def batches(self, shard: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the record batches of `shard`, one per row group of its documents, with the annotations joined by id.

        `columns` names what is wanted (default: all); `id` always comes.
        """
        base = self.base
        wanted = None if columns is None else list(dict.fromkeys(["id", *columns]))
        if base is None:
            yield from read_groups(self.path(shard), wanted)
            return
        own = _read(self.path(shard), wanted)
        overlaid = [name for name in own.column_names if name != "id"]
        lower = None if wanted is None else [name for name in wanted if name not in overlaid]
        done = 0
        rows: dict[str, int] | None = None
        for batch in base.batches(shard, lower):
            here = own.slice(done, batch.num_rows)
            if rows is None and not here.column("id").combine_chunks().equals(batch.column("id")):
                rows = {key: i for i, key in enumerate(own.column("id").to_pylist())}
                if len(rows) != own.num_rows:
                    raise InputError("two annotations have the same id", where=str(self.path(shard)))
            if rows is not None:
                at = [rows.get(key, -1) for key in batch.column("id").to_pylist()]
                batch = batch.filter(pa.array([i >= 0 for i in at]))
                here = own.take(pa.array([i for i in at if i >= 0], pa.int64()))
            done += batch.num_rows
            arrays = {name: batch.column(name) for name in batch.schema.names if name not in overlaid}
            arrays.update({name: here.column(name).combine_chunks() for name in overlaid})
            yield pa.RecordBatch.from_arrays([_flat(a) for a in arrays.values()], names=list(arrays))
        if done != own.num_rows:
            raise InputError(
                f"holds annotations of {own.num_rows:,} documents, but {done:,} of them are in {base.folder}",
                where=str(self.path(shard)),
                hint="run the workflow again; one of the two was changed by hand",
            )


def _flat(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _read(path: Path, columns: list[str] | None) -> pa.Table:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        return file.read(columns=None if columns is None else [c for c in columns if c in names], use_threads=False)


def read_groups(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield one record batch per row group of a Parquet file; columns that it does not have are left out."""
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        chosen = None if columns is None else [c for c in columns if c in names]
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=chosen, use_threads=False).combine_chunks()
            yield from table.to_batches()


class ShardFile:
    """Write a Parquet file whose bytes depend on its rows alone, however they arrive.

    Rows are regrouped: a row group ends at ROWS_PER_GROUP rows, BYTES_PER_GROUP bytes of text, or ALL_BYTES_PER_GROUP bytes of strings.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.rows = 0
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", compression_level=3)
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = self._waiting_bytes = self._waiting_all = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Append the rows of `batch`."""
        if not batch.schema.equals(self._schema):
            batch = batch.select(self._schema.names).cast(self._schema)
        self.rows += batch.num_rows
        sizes, all_sizes = text_sizes(batch), string_sizes(batch)
        start = 0
        while start < batch.num_rows:
            space = ROWS_PER_GROUP - self._waiting_rows
            full = np.searchsorted(np.cumsum(sizes[start : start + space]), BYTES_PER_GROUP - self._waiting_bytes)
            heavy = np.searchsorted(np.cumsum(all_sizes[start : start + space]), ALL_BYTES_PER_GROUP - self._waiting_all)
            count = min(space, int(full) + 1, int(heavy) + 1, batch.num_rows - start)
            self._waiting.append(batch.slice(start, count))
            self._waiting_rows += count
            self._waiting_bytes += int(sizes[start : start + count].sum())
            self._waiting_all += int(all_sizes[start : start + count].sum())
            start += count
            whole = self._waiting_rows >= ROWS_PER_GROUP or self._waiting_bytes >= BYTES_PER_GROUP
            if whole or self._waiting_all >= ALL_BYTES_PER_GROUP:
                self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting, self._schema).combine_chunks())
        self._waiting, self._waiting_rows, self._waiting_bytes, self._waiting_all = [], 0, 0, 0

    def close(self) -> None:
        """Write what is left, and the footer."""
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        """Let go of the file, which nobody will read; what goes wrong here (a full disk) has been reported already."""
        self._waiting = []
        with contextlib.suppress(OSError, pa.ArrowException):
            self._writer.close()


def text_sizes(batch: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the UTF-8 bytes of each row's text, int64 [rows]; zeros where a batch has no text."""
    return _lengths(batch.column("text")) if "text" in batch.schema.names else np.zeros(batch.num_rows, np.int64)


def string_sizes(batch: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the bytes of all string columns of each row, int64 [rows]; strings inside of structs and lists do not count."""
    sizes = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        if pa.types.is_string(column.type) or pa.types.is_binary(column.type) or pa.types.is_large_string(column.type):
            sizes += _lengths(column)
    return sizes


def _lengths(column: pa.Array) -> np.ndarray[Any, np.dtype[np.int64]]:
    lengths = pc.fill_null(pc.binary_length(column), 0)
    return np.asarray(lengths.to_numpy(zero_copy_only=False), np.int64)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_to_disk(path: Path) -> None:
    """Return when the bytes of `path` are on the disk, and not only in the memory of the machine."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def have_sizes(folder: Path, names: Iterable[str], sizes: dict[str, int]) -> bool:
    """Return whether all of `names` are files in `folder`, of the sizes that are known."""
    for name in names:
        try:
            size = (folder / name).stat().st_size
        except OSError:
            return False
        if sizes.get(name, size) != size:
            return False
    return True


def write_json(path: Path, data: Any) -> None:
    """Write `data` as JSON, atomically: under a temporary name, flushed to disk, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(data), indent=1) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of `folder`. Raises InputError when the corpus is missing, incomplete or unreadable."""
    path = folder / "manifest.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError as error:
        what = "is incomplete: its manifest was never written" if folder.is_dir() else "no such corpus"
        raise InputError(what, where=str(folder), hint="run the workflow that writes it") from error
    except (msgspec.DecodeError, json.JSONDecodeError) as error:
        raise InputError(f"is not a manifest: {error}", where=str(path)) from error


def verify(folder: Path) -> list[str]:
    """Recompute every checksum and row count of the corpus in `folder`; return what is wrong, one line each."""
    manifest = read_manifest(folder)
    wrong = []
    listed = {f"{shard.name}.parquet": shard.sha256 for shard in manifest.shards} | manifest.files
    for name, checksum in listed.items():
        path = folder / name
        if not path.is_file():
            wrong.append(f"{path}: is missing")
        elif sha256_of(path) != checksum:
            wrong.append(f"{path}: its bytes have changed since it was written")
    for shard in manifest.shards:
        path = folder / f"{shard.name}.parquet"
        if not path.is_file():
            continue
        try:
            rows = pq.read_metadata(path).num_rows
        except (pa.ArrowInvalid, OSError) as error:
            wrong.append(f"{path}: is not Parquet: {error}")
            continue
        if rows != shard.rows:
            wrong.append(f"{path}: has {rows:,} rows, the manifest says {shard.rows:,}")
    known = set(listed)
    for path in sorted(folder.glob("*.parquet")):
        if path.name not in known:
            wrong.append(f"{path}: is not in the manifest")
    return wrong
