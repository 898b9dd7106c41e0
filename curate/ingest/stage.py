"""The ingest stage: raw files → documents. One shard per input file, or files spread over a fixed number of shards.

A shard is named after its file (`pages-00000-1f3a9c02`: the stem and a hash of the relative path), not numbered, so that an added
file leaves the names, and so the work, of all the others alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from curate.corpus import BYTES_PER_GROUP, ROWS_PER_GROUP
from curate.documents import SCHEMA, document_id
from curate.engine import StagePlan, Work, make_plan
from curate.ingest.record import Dropped, Record, Skipped, Unreadable
from curate.project import find, resolve, unchanged
from curate.specs.load import load_spec, resolved
from curate.specs.ocr import Ocr
from curate.specs.workflow import Ingest
from curate.tasks import Output, Task, code_version

if TYPE_CHECKING:
    from curate.workflow import Project

CODE = ("curate.ingest", "curate.extract", "curate.documents")
LIBRARIES = ("fastwarc", "resiliparse")
_HELD_TEXT = ("no_text_field", "text_not_a_string")  # a row whose text is somewhere else: its size tells how much


def plan(options: Ingest, source: str, target: Path, project: Project) -> StagePlan:
    """Plan the ingest of one source. Raises SpecError when a pattern matches nothing."""
    from curate.ingest.read import input_files

    kind = options.given()[0]
    patterns = getattr(options, kind)
    groups: dict[str, list[tuple[Path, str]]] = {}
    prepare = project.workflow.prepare
    prepared = resolve(prepare.into, project.root, project.beside) if prepare is not None else None
    for path, name in input_files(patterns, project.root, project.beside, prepared):
        groups.setdefault(_shard_name(name, options.shards), []).append((path, name))
    code = code_version(*CODE, libraries=[*LIBRARIES, *(["trafilatura"] if options.extract.engine == "trafilatura" else [])])
    settings: dict[str, Any] = resolved(options) | {"source": source}
    for key in ("warc", "pdf", "jsonl", "parquet", "files"):
        settings[key] = "" if key == kind else None  # which files there are is each task's own business
    if kind == "pdf":
        from curate.ocr import resolve_engine

        ocr = load_spec(find("ocr", options.ocr, project.root, project.beside), Ocr)
        settings["ocr_spec"] = resolved(msgspec.structs.replace(ocr, engine=resolve_engine(ocr)))
        code |= code_version("curate.ocr", libraries=("pymupdf", "rapidocr", "onnxruntime"))
    work = []
    for shard, files in sorted(groups.items()):
        paths = [path for path, _ in files]
        checksums = [project.fingerprints.of(path) for path in paths]
        seen = [project.fingerprints.seen(path) for path in paths]
        work.append(Work(shard, [str(path) for path in paths], checksums, {"names": [name for _, name in files]}, seen=seen))
    project.fingerprints.save()
    return StagePlan(make_plan("ingest", "curate.ingest.stage:ingest_shard", target, settings, code, work), source, code)


def _shard_name(file: str, shards: int | None) -> str:
    digest = hashlib.blake2b(file.encode(), digest_size=8).hexdigest()
    if shards is not None:
        return f"{int(digest, 16) % shards:05d}"
    stem = re.sub(r"[^a-z0-9]+", "-", file.rsplit("/", 1)[-1].split(".")[0].lower()).strip("-")[:40]
    return f"{stem or 'file'}-{digest[:8]}"


def ingest_shard(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: read the files of one shard. Every document in them is kept, dropped with a reason, or quarantined.

    Raises InputError when a file is not, to the end of its reading, what its checksum in the task's key was taken of.
    """
    from curate.ingest.read import column, to_document

    source = options["source"]
    ocr = options.get("ocr_spec")
    spec = msgspec.convert({key: value for key, value in options.items() if key not in ("source", "ocr_spec")}, Ingest)
    out.empty(SCHEMA)
    skipped: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    size = 0
    for path, name, seen in zip(map(Path, task.inputs), task.options["names"], task.seen, strict=True):
        out.ledger.input_bytes += seen[0]

        def place(item: Any, name: str = name) -> dict[str, Any]:
            offset = getattr(item, "offset", 0)
            found = {"file": name, "offset": offset, "length": getattr(item, "length", None)}
            return found | {"id": document_id(source, name, offset), "url": column(getattr(item, "url", None))}

        def convert(item: Any, name: str = name) -> Any:
            return to_document(item, source, name, spec) if isinstance(item, Record) else item

        with unchanged(path, seen):
            for item, result in out.each(_read(path, spec, ocr, out.beat), convert, place):
                if isinstance(result, Skipped):
                    for what, count in result.counts.items():
                        skipped[what] = skipped.get(what, 0) + count
                elif isinstance(result, Unreadable):
                    out.quarantine(result.error, result.documents, result.stored, **place(item))
                elif isinstance(result, Dropped):
                    size_of_text = result.bytes if result.reason in _HELD_TEXT else 0  # what never became text has no bytes of it
                    out.drop_record(result.reason, **place(item), bytes=size_of_text)
                elif _unsampled(result["id"], spec.sample):
                    out.drop_record("not_sampled", **place(item), bytes=len(result["text"].encode()))
                else:
                    rows.append(result)
                    size += len(result["text"]) + len(result["meta"]) + len(result["url"] or "")
                    if len(rows) >= ROWS_PER_GROUP or size >= BYTES_PER_GROUP:  # how rows are written together changes nothing in the shard
                        _write(rows, out)
                        rows, size = [], 0
    _write(rows, out)
    if skipped:
        out.note("skipped_records", dict(sorted(skipped.items())))


def _read(path: Path, spec: Ingest, ocr: dict[str, Any] | None, beat: Callable[[], None]) -> Iterator[Record | Unreadable | Skipped]:
    if ocr is not None:
        from curate.ingest.pdf import read as read_pdf

        return read_pdf(path, msgspec.convert(ocr, Ocr), beat)
    from curate.ingest.read import read

    return read(spec.given()[0], path, spec)


def _unsampled(document: str, share: float) -> bool:
    """Choose by the id's own hash, so that the choice is the same whatever the order of reading."""
    return share < 1.0 and int(document[:13], 16) >= share * 16**13


def _write(rows: list[dict[str, Any]], out: Output) -> None:
    if rows:
        batch = pa.RecordBatch.from_pylist(rows, SCHEMA)
        out.ledger.entered += batch.num_rows
        out.ledger.entered_bytes += sum(len(row["text"].encode()) for row in rows)
        out.write(batch)
