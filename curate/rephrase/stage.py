"""The rephrase step: the chosen documents of the sources go to a language model; what passes becomes a source of its own.

One task per shard. A document enters the new source's ledger as `created` when it is asked for, and leaves it as kept,
dropped (by a gate) or errored. Answers are kept in `together/answers/INTO`, whatever the step's number, so that a killed task
pays for nothing twice, and changed gates ask for nothing again. A task that got no answer to some request (one that was not
refused) counts as done within this run only: the next one does it again, and asks for what is missing. The sources themselves
stay as they are.
"""

from __future__ import annotations

import contextlib
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from curate.corpus import DROPPED, Corpus, Manifest, read_manifest
from curate.documents import SCHEMA
from curate.endpoints import endpoint
from curate.engine import Work, checksums, complete, make_plan
from curate.errors import CurateError, InputError
from curate.rephrase.styles import style_named
from curate.specs.load import resolved
from curate.specs.workflow import Rephrase
from curate.tasks import Output, Plan, Task, code_version, read_receipt, receipt_path

if TYPE_CHECKING:
    from curate.rephrase.rephrase import Rephrased
    from curate.workflow import Arguments

_FEW_FAILURES, _FAILED_SHARE = 3, 0.05  # more requests without an answer fail the task
_UNANSWERED = "unanswered"  # the note of a task that got no answer to so many requests
# How to ask, not what for: changing these asks for nothing again.
_MANNERS = ("concurrency", "timeout_seconds", "attempts", "patience_seconds", "base_url_env", "api_key_env")


def rephrase(options: Rephrase, arguments: Arguments) -> dict[str, Manifest]:
    """Rephrase documents of the sources that `options` names; return the manifest of the new source, or nothing without an endpoint."""
    for name in options.styles:
        style_named(name).with_gates(options.gates)
    if endpoint(options) is None:
        arguments.say(f"rephrase: skipped, no endpoint is configured ({options.base_url_env} is not set)")
        return {}
    content = {name: value for name, value in resolved(options).items() if name not in _MANNERS}
    manners = {name: value for name, value in resolved(options).items() if name in _MANNERS}
    code = code_version("curate.rephrase", "curate.documents")
    work = []
    for source in options.sources or arguments.sources:
        corpus = arguments.sources[source]
        for shard in corpus.shards:
            given = {"source": source, "shard": shard}
            work.append(Work(f"{source}-{shard}", [str(corpus.folder), str(arguments.scratch)], checksums(corpus, shard), given, 0))
    target = arguments.project.run / options.into / arguments.scratch.name
    plan = make_plan("rephrase", "curate.rephrase.stage:rephrase_shard", target, {"rephrase": content, "seed": arguments.project.seed}, code, work)
    manners_file = arguments.scratch / "manners.json"
    manners_file.parent.mkdir(parents=True, exist_ok=True)
    manners_file.write_bytes(msgspec.json.encode(manners))
    _take_up_again(plan)
    manifest = complete(plan, arguments.context, source=options.into, code=code)
    missing = sum(notes.get(_UNANSWERED, 0) for notes in manifest.notes.values())
    if missing:
        arguments.say(f"warning: rephrase: {missing:,} requests got no answer; the next run asks for them again")
    return {options.into: manifest}


def _take_up_again(plan: Plan) -> None:
    """Forget that the tasks are done in which answers are missing."""
    folder = Path(plan.folder)
    with contextlib.suppress(InputError):  # incomplete: its receipts tell
        if not any(notes.get(_UNANSWERED) for notes in read_manifest(folder).notes.values()):
            return
    for task in plan.tasks:
        receipt = read_receipt(receipt_path(folder, task.name))
        if receipt is not None and receipt.notes.get(_UNANSWERED):
            (folder / "manifest.json").unlink(missing_ok=True)  # first: what is killed here must not look complete
            receipt_path(folder, task.name).unlink()


def rephrase_shard(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: rephrase the chosen documents of one shard. `inputs`: the corpus, and the step's own folder."""
    from curate.rephrase.client import Client
    from curate.rephrase.rephrase import rephrase as rephrase_batch

    corpus, scratch = Corpus.open(task.inputs[0]), Path(task.inputs[1])
    manners = msgspec.json.decode((scratch / "manners.json").read_bytes())
    spec = msgspec.convert(options["rephrase"] | manners, Rephrase)
    target = endpoint(spec)
    if target is None:
        raise RuntimeError(f"{spec.base_url_env} is set in the main process, but not in this worker")
    out.empty(SCHEMA)
    failed: list[str] = []
    journal = scratch.parent / "answers" / spec.into / f"{task.name}.jsonl"
    # Of this source under another name, whose requests are the same; and runs before 2026-11-27 kept them with the step. They stay where they
    # are, since several steps may have had the number, and another source may be made of them.
    folders = [folder for pattern in ("answers/*", "*-rephrase/answers") for folder in sorted(scratch.parent.glob(pattern))]
    older = [folder / journal.name for folder in folders if folder != journal.parent]
    with Client(target, spec, options["seed"], journal, older) as client:
        for batch in corpus.batches(task.options["shard"]):
            rows = _choose(batch, corpus, spec, options["seed"], out)
            if rows.num_rows:
                made = rephrase_batch(rows, spec, client, options["seed"], language_of)
                _write(made, rows, out)
                failed += made.unanswered
    if len(failed) > max(_FEW_FAILURES, _FAILED_SHARE * out.ledger.created):
        what = f"{len(failed):,} of {out.ledger.created:,} requests got no answer; the last: {failed[-1]}"
        raise CurateError(what, where=f"rephrase, {task.name}", hint="the answers that came are kept: run again to ask for the others only")
    if failed:
        out.note(_UNANSWERED, len(failed))


def _choose(batch: pa.RecordBatch, corpus: Corpus, spec: Rephrase, seed: int, out: Output) -> pa.RecordBatch:
    """Return the rows of `batch` that the hash chooses and that `where` holds for; where it fails on one, that one is quarantined."""
    from curate.rephrase.rephrase import chosen

    rows = batch.filter(pa.array(chosen(batch.column("id").to_pylist(), spec.share, seed), pa.bool_()))
    if spec.where is None or not rows.num_rows:
        return rows
    from curate.select import Rules

    hits, failed = Rules({"chosen": spec.where}, corpus.schema(), "rephrase.where").decide_each(rows)
    places = rows.select(["id", "url", "origin"]).to_pylist() if failed else []
    for row, error in failed.items():
        _quarantine(f"rephrase.where: {error}", places[row]["id"], places[row]["url"], places[row]["origin"], out)
    return rows.filter(pa.array([bool(hit) for hit in hits], pa.bool_()))


def _quarantine(error: str, id: str, url: str | None, origin: dict[str, Any], out: Output) -> None:
    out.quarantine(error, id=id, url=url, **origin)
    out.ledger.entered -= 1  # it did not enter: it was created, and failed
    out.ledger.created += 1


def _write(made: Rephrased, rows: pa.RecordBatch, out: Output) -> None:
    out.create(made.documents)
    origins, urls = rows.column("origin").to_pylist(), rows.column("url").to_pylist()
    if made.rejected:
        out.ledger.created += len(made.rejected)
        for one in made.rejected:
            reason, size = one["reason"], one["bytes"]
            out.ledger.dropped[reason] = out.ledger.dropped.get(reason, 0) + 1
            out.ledger.dropped_bytes[reason] = out.ledger.dropped_bytes.get(reason, 0) + size
        table = [
            {
                "id": one["id"],
                "url": urls[one["row"]],
                "reason": one["reason"],
                "reasons": [one["reason"]],
                "detail": json.dumps({"parent": one["parent"], "measured": one["detail"]}, sort_keys=True),
                "bytes": one["bytes"],
                "file": origins[one["row"]]["file"],
                "offset": origins[one["row"]]["offset"],
            }
            for one in made.rejected
        ]
        out.table("dropped", pa.RecordBatch.from_pylist(table, DROPPED))
    for one in made.errors:
        _quarantine(f"{one['reason']}: {one['detail']}", one["id"], urls[one["row"]], origins[one["row"]], out)


@functools.lru_cache(maxsize=1024)
def language_of(text: str) -> str | None:
    """Return the language code of a text, or None where it is too short or too mixed to tell."""
    from curate.annotate.language import annotate

    if len(text) < 100:
        return None
    batch = pa.RecordBatch.from_arrays([pa.array([text[:2000]], pa.string())], names=["text"])
    found = annotate(batch).to_pylist()[0]
    return found["code"] if found["score"] >= 0.8 else None
