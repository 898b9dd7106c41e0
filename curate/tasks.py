"""The task protocol: a plan is a list of tasks, each `input shards → one output shard`, idempotent.

`run_task(plan, i)` is all that an engine has to call, in any process on any machine that sees the files. It runs the
plan's function with an `Output`, writes under temporary names, renames, and leaves a receipt last. A receipt whose key
matches means that the task is done; nothing else does. What it trades away: a task's shard is written whole or not at all,
so work inside a killed task is done again.

A task function is `function(task: Task, options: dict, out: Output) -> None`. Through `out` it

    out.map(batches, f)      calls f(batch) under guard: a row that raises, or kills its process, is quarantined
    out.each(items, f)       the same for things that are not rows (records of a raw file)
    out.write(batch)         keeps rows (out.create(batch): rows that this stage made)
    out.drop(…)              drops rows, with reasons
    out.note(name, value)    something for the receipt and the manifest
    out.path(name)           a file of its own, such as a model: a temporary path, renamed on success
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus import DROPPED, ERRORS, Shard, ShardFile, flush_to_disk, have_sizes, sha256_of, text_sizes, write_json
from curate.errors import CurateError, SpecError
from curate.functions import find
from curate.ledger import Ledger

FORMAT = 1  # of what tasks write; raising it makes every stage run again

WHOLE, BETWEEN = -1, -2  # rows of a watch that are no rows

T = TypeVar("T")
R = TypeVar("R")


class Task(msgspec.Struct, frozen=True):
    """One unit of work. `name` names its shard; `key` is the hash of everything that its output depends on."""

    name: str
    inputs: list[str]  # paths: of corpora (whose shard `name` is read), or of files, as the stage's function expects
    key: str
    options: dict[str, Any] = {}
    rows: int | None = None  # documents in the input, where it is known: the ledger must agree
    seen: list[tuple[int, int]] = []  # of inputs that anybody may change: size and mtime_ns when they were hashed; in no key


class Plan(msgspec.Struct, frozen=True):
    """What to run: `function` over `tasks`, into `folder`."""

    stage: str
    function: str  # package.module:name
    folder: str
    options: dict[str, Any]
    tasks: list[Task]


class Receipt(msgspec.Struct, omit_defaults=True):
    """What a task did. `shard` is None for a task that writes no documents."""

    name: str
    key: str
    ledger: Ledger
    shard: Shard | None = None
    schema: list[str] = []
    files: dict[str, str] = {}  # relative path → sha256
    sizes: dict[str, int] = {}  # of these files, in bytes
    notes: dict[str, Any] = {}
    seconds: float = 0.0
    cpu_seconds: float = 0.0


class Watch(Protocol):
    """Where a task says which (batch, row) it is about to touch, so that its death can be blamed on the right record."""

    def at(self, batch: int, row: int) -> None:
        """Say that row `row` of batch `batch` comes next; row WHOLE: the whole batch at once.

        BETWEEN or less: reading or writing, which no record answers for; BETWEEN - n is said after n records.
        """

    def beat(self) -> None:
        """Say that work goes on at the same place, which may take long: a worker without a sign of life is stopped."""


class Unwatched:
    """The watch of a task that runs without a supervisor."""

    def at(self, batch: int, row: int) -> None:
        """Say nothing."""
        return

    def beat(self) -> None:
        """Say nothing."""
        return


class Suspects(msgspec.Struct, frozen=True):
    """What earlier attempts at a task have shown: batches to take row by row, and rows that kill their process."""

    isolate: list[int] = []
    poison: list[tuple[int, int, str]] = []  # batch, row, how it died


class Output:
    """What a task writes. Nothing is visible under its final name before `commit`."""

    def __init__(self, folder: Path, task: Task, watch: Watch, suspects: Suspects) -> None:
        self.folder, self.task, self.ledger = folder, task, Ledger()
        self._watch, self._suspects = watch, suspects
        self._files: dict[str, Path] = {}
        self._shards: dict[str, ShardFile] = {}
        self._notes: dict[str, Any] = {}
        self._schema: list[str] = []
        self._rows = 0
        self._next_batch = 0

    # ── guarded work ──────────────────────────────────────────────────────────────────────────────────────────

    def map(self, batches: Iterable[pa.RecordBatch], function: Callable[[pa.RecordBatch], R]) -> Iterator[tuple[pa.RecordBatch, R]]:
        """Yield (rows, function(rows)) for each batch; every row counts as entered.

        When a batch raises, or killed its process before, its rows go one at a time, and those that fail are quarantined. So
        `function` must give for a row the same whatever other rows come with it.
        """
        for batch in self._reading(batches):
            number, self._next_batch = self._next_batch, self._next_batch + 1
            self.ledger.entered += batch.num_rows
            self.ledger.entered_bytes += int(text_sizes(batch).sum())
            if batch.num_rows == 0:
                continue
            if number not in self._suspects.isolate:
                self._watch.at(number, WHOLE)
                try:
                    result = function(batch)
                except CurateError:
                    raise
                except (Exception, SystemExit):
                    result = None
                if result is not None:
                    self._watch.at(number, BETWEEN)
                    yield batch, result
                    continue
            rows = (batch.slice(row, 1) for row in range(batch.num_rows))
            yield from self._one_by_one(rows, number, function, self._quarantine_row)

    def each(self, items: Iterable[T], function: Callable[[T], R], place: Callable[[T], dict[str, Any]]) -> Iterator[tuple[T, R]]:
        """Yield (item, function(item)) under the same guard; `place(item)` gives the columns of ERRORS that locate it.

        Items do not count as entered by themselves: only the caller knows which of them are documents; one that fails
        counts as entered and errored.
        """
        number, self._next_batch = self._next_batch, self._next_batch + 1
        yield from self._one_by_one(items, number, function, lambda item, error: self.quarantine(error, **place(item)))

    def beat(self) -> None:
        """Say that the task is alive, from where one record takes long for good reasons and has limits of its own."""
        self._watch.beat()

    def _one_by_one(self, items: Iterable[T], number: int, function: Callable[[T], R], fail: Callable[[T, str], None]) -> Iterator[tuple[T, R]]:
        """Yield (item, function(item)); the watch is on an item only while the function has it."""
        poison = {row: how for batch, row, how in self._suspects.poison if batch == number}
        for row, item in enumerate(self._reading(items, number)):
            error = poison.get(row)
            if error is None:
                self._watch.at(number, row)
                try:
                    result = function(item)
                except CurateError:
                    raise
                except (Exception, SystemExit) as raised:
                    error = describe(raised)
            self._watch.at(number, BETWEEN - row - 1)
            if error is None:
                yield item, result
            else:
                fail(item, error)

    def _reading(self, items: Iterable[T], number: int | None = None) -> Iterator[T]:
        """Yield `items`; while the next one is read, and while the last one is written, no record is to blame."""
        iterator, row = iter(items), 0
        while True:
            if number is None:
                self._watch.at(self._next_batch, BETWEEN)
            else:
                self._watch.at(number, BETWEEN - row)
            try:
                item = next(iterator)
            except StopIteration:
                return
            row += 1
            yield item

    def _quarantine_row(self, row: pa.RecordBatch, error: str) -> None:
        values = row.select([n for n in ("id", "url", "origin") if n in row.schema.names]).to_pylist()[0]
        origin = values.pop("origin", None) or {}
        self.ledger.entered -= 1  # counted by map already; quarantine counts it again
        self.ledger.errored_bytes += int(text_sizes(row).sum())
        place: dict[str, Any] = values | {k: origin.get(k) for k in ("file", "offset", "length")}
        self.quarantine(error, **place)

    def quarantine(self, error: str, documents: int | None = 1, stored: int = 0, **place: Any) -> None:
        """Count `documents` as entered and errored, and record `error`; `place` has columns of ERRORS.

        None: a damaged region of `stored` input bytes that held nobody knows how many; it counts as one, and the budget estimates.
        """
        self.ledger.entered += 1 if documents is None else documents
        self.ledger.errored += 1 if documents is None else documents
        if documents is None:
            self.ledger.damaged += 1
            self.ledger.damaged_bytes += stored
        error = error.encode("utf-8", "backslashreplace").decode("utf-8")  # it may quote what no column can hold
        row = {name: place.get(name) for name in ERRORS.names} | {"error": error}
        self.table("errors", pa.RecordBatch.from_pylist([row], ERRORS))

    # ── documents ─────────────────────────────────────────────────────────────────────────────────────────────

    def write(self, batch: pa.RecordBatch) -> None:
        """Keep the rows of `batch`. All the batches of a task have one schema."""
        self.ledger.kept += batch.num_rows
        self.ledger.kept_bytes += int(text_sizes(batch).sum())
        self._rows += batch.num_rows
        self._schema = self._schema or [f"{f.name}: {f.type}" for f in batch.schema]
        self._shard("", batch.schema).write(batch)

    def create(self, batch: pa.RecordBatch) -> None:
        """Keep rows that this stage has made."""
        self.ledger.created += batch.num_rows
        self.write(batch)

    def empty(self, schema: pa.Schema) -> None:
        """Declare the schema, so that a task that keeps nothing leaves an empty shard."""
        self._schema = [f"{f.name}: {f.type}" for f in schema]
        self._shard("", schema)

    def drop(self, batch: pa.RecordBatch, reasons: list[list[str]], details: list[str | None] | None = None) -> None:
        """Drop the rows of `batch`; `reasons[i]` are all the reasons of row i, the first of which counts."""
        if batch.num_rows == 0:
            return
        sizes = text_sizes(batch)
        for size, row in zip(sizes.tolist(), reasons, strict=True):
            self.ledger.dropped[row[0]] = self.ledger.dropped.get(row[0], 0) + 1
            self.ledger.dropped_bytes[row[0]] = self.ledger.dropped_bytes.get(row[0], 0) + size
        names = batch.schema.names
        origin = batch.column("origin") if "origin" in names else None
        nothing = pa.nulls(batch.num_rows)
        columns = {
            "id": batch.column("id"),
            "url": batch.column("url") if "url" in names else nothing,
            "reason": pa.array([row[0] for row in reasons], pa.string()),
            "reasons": pa.array(reasons, pa.list_(pa.string())),
            "detail": pa.array(details, pa.string()) if details is not None else nothing,
            "bytes": pa.array(sizes),
            "file": pc.struct_field(origin, "file") if origin is not None else nothing,
            "offset": pc.struct_field(origin, "offset") if origin is not None else nothing,
        }
        arrays = [columns[f.name].cast(f.type) for f in DROPPED]
        self.table("dropped", pa.RecordBatch.from_arrays(arrays, schema=DROPPED))

    def drop_record(self, reason: str, **place: Any) -> None:
        """Drop one document that never became a row: it entered, and `reason` says why it went no further."""
        self.ledger.entered += 1
        size = int(place.get("bytes") or 0)
        self.ledger.entered_bytes += size
        self.ledger.dropped[reason] = self.ledger.dropped.get(reason, 0) + 1
        self.ledger.dropped_bytes[reason] = self.ledger.dropped_bytes.get(reason, 0) + size
        row = {name: place.get(name) for name in DROPPED.names} | {"reason": reason, "reasons": [reason], "bytes": size}
        self.table("dropped", pa.RecordBatch.from_pylist([row], DROPPED))

    # ── anything else ─────────────────────────────────────────────────────────────────────────────────────────

    def table(self, kind: str, batch: pa.RecordBatch) -> None:
        """Append rows to KIND/NAME.parquet: a table of this task beside its documents."""
        self._shard(kind, batch.schema).write(batch)

    def path(self, name: str) -> Path:
        """Return a temporary path; what is written there becomes `name` in the stage's folder when the task succeeds."""
        if name not in self._files:
            final = self.folder / name
            final.parent.mkdir(parents=True, exist_ok=True)
            self._files[name] = final.with_name(f".{final.name}.{os.getpid()}.tmp")
        return self._files[name]

    def note(self, name: str, value: Any) -> None:
        """Record a JSON value in the receipt and the manifest."""
        self._notes[name] = value

    def _shard(self, kind: str, schema: pa.Schema) -> ShardFile:
        if kind not in self._shards:
            name = f"{kind}/{self.task.name}.parquet" if kind else f"{self.task.name}.parquet"
            self._shards[kind] = ShardFile(self.path(name), schema)
        return self._shards[kind]

    def commit(self, seconds: float, cpu_seconds: float) -> Receipt:
        """Check the ledger, give every file its name, and write the receipt last."""
        where = f"{self.folder.parent.name}/{self.folder.name}, shard {self.task.name}"
        self.ledger.check(where, self.task.rows)
        for writer in self._shards.values():
            writer.close()
        path = receipt_path(self.folder, self.task.name)
        before = read_receipt(path)
        path.unlink(missing_ok=True)
        files, sizes = {}, {}
        for name, temporary in self._files.items():
            files[name], sizes[name] = sha256_of(temporary), temporary.stat().st_size
            flush_to_disk(temporary)  # or a crash of the machine could leave a receipt whose file is empty
            os.replace(temporary, self.folder / name)
        own = f"{self.task.name}.parquet"
        shard = Shard(self.task.name, self._rows, sizes.pop(own), files.pop(own)) if own in files else None
        for name in set(before.files if before else {}) - set(files):
            (self.folder / name).unlink(missing_ok=True)
        self.ledger.dropped = dict(sorted(self.ledger.dropped.items()))
        self.ledger.dropped_bytes = dict(sorted(self.ledger.dropped_bytes.items()))
        receipt = Receipt(
            name=self.task.name,
            key=self.task.key,
            ledger=self.ledger,
            shard=shard,
            schema=self._schema,
            files=dict(sorted(files.items())),
            sizes=dict(sorted(sizes.items())),
            notes=self._notes,
            seconds=seconds,
            cpu_seconds=cpu_seconds,
        )
        write_json(path, receipt)
        return receipt

    def abandon(self) -> None:
        """Remove the temporary files of a task that failed, whatever state they are in."""
        for writer in self._shards.values():
            writer.abandon()
        for temporary in self._files.values():
            with contextlib.suppress(OSError):
                temporary.unlink()


def run_task(plan: Plan, i: int, watch: Watch | None = None, suspects: Suspects | None = None) -> Receipt:
    """Run task `i` of `plan`, unless its receipt says that it is done. Safe to call again, and from anywhere."""
    task, folder = plan.tasks[i], Path(plan.folder)
    done = finished(folder, task)
    if done is not None:
        return done
    function = find(plan.function, {}, None, "task function")
    out = Output(folder, task, watch or Unwatched(), suspects or Suspects())
    start, cpu = time.perf_counter(), time.process_time()
    try:
        function(task, plan.options, out)
        return out.commit(time.perf_counter() - start, time.process_time() - cpu)
    except BaseException as error:
        out.abandon()
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = f"{folder}, task {task.name}"  # Arrow does not say which file would not be written
        raise


def receipt_path(folder: Path, name: str) -> Path:
    """Where the receipt of the task `name` lies."""
    return folder / "receipts" / f"{name}.json"


def read_receipt(path: Path) -> Receipt | None:
    """Read a receipt; None when there is none, or when it is not whole."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Receipt)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def finished(folder: Path, task: Task) -> Receipt | None:
    """Return the receipt of `task` when it was done under the same key and its files are there."""
    receipt = read_receipt(receipt_path(folder, task.name))
    if receipt is None or receipt.key != task.key:
        return None
    sizes = receipt.sizes | ({f"{receipt.shard.name}.parquet": receipt.shard.bytes} if receipt.shard else {})
    return receipt if have_sizes(folder, [*receipt.files, *sizes], sizes) else None


def hash_of(*parts: Any) -> str:
    """Return the hash, 32 hex digits, of JSON-able parts; the order of mappings does not matter (write pairs where it does)."""
    text = json.dumps(msgspec.to_builtins(parts), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def relocatable(value: Any, folder: Path) -> Any:
    """Return JSON-able `value` with every absolute path in it made relative to `folder`."""
    if isinstance(value, dict):
        return {key: relocatable(inner, folder) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [relocatable(inner, folder) for inner in value]
    return os.path.relpath(value, folder) if isinstance(value, str) and value.startswith("/") and os.path.exists(value) else value


def code_version(*modules: str, libraries: Iterable[str] = ()) -> dict[str, str]:
    """Return what identifies the code that a stage runs: source hashes of modules, versions of libraries.

    A package counts with all its files. `./file.py` paths count as they are. The price of hashing sources: a changed
    comment runs a stage again; the gain: a changed line never goes unnoticed.
    """
    versions = {"format": str(FORMAT)}
    for module in modules:
        if module.endswith(".py"):
            files = [Path(module)]
        else:
            spec = importlib.util.find_spec(module)
            if spec is None or spec.origin is None:
                raise SpecError(f"no module named {module}")
            origin = Path(spec.origin)
            files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
        digest = hashlib.blake2b(digest_size=8)
        for file in files:
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
        versions[Path(module).name if module.endswith(".py") else module] = digest.hexdigest()
    return versions | {library: _installed(library) for library in libraries}


@functools.cache
def _installed(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def describe(error: BaseException) -> str:
    """Say in one line what failed and where, without the values that a traceback may hold."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else 'no message'}{place}"
