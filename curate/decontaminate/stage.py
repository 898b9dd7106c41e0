"""The decontaminate step as tasks: index once, weigh and calibrate on a sample, then scan shard by shard.

    together/NN-decontaminate/index/              the items, indexed (index.npz is mapped by the workers, index.json)
    together/NN-decontaminate/counts/SOURCE/      document frequencies of the background sample, one file per shard
    together/NN-decontaminate/weighted/           the index with weights from all counts
    together/NN-decontaminate/scores/SOURCE/      evidence of the background sample, one file per shard
    together/NN-decontaminate/calibrated/         the index with its thresholds
    SOURCE/NN-decontaminate/                      what is kept; `matches/` has each shard's matches
    together/NN-decontaminate/                    matches.parquet, items.parquet, summary.json, clean_ids/BENCHMARK.json

The weights and thresholds depend on the sample, so another document in it scans every shard again; another action scans again
too, which costs little. The sample is chosen by a hash of the id and has about `background_documents` documents.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.corpus import Corpus, Manifest, read_manifest
from curate.decontaminate.act import ACTIONS, REASON, Verdicts, decide
from curate.decontaminate.items import files_of, read_benchmarks
from curate.engine import StagePlan, Work, complete, complete_all, make_plan, shard_work
from curate.errors import SpecError
from curate.project import resolve
from curate.specs.benchmarks import Benchmark, choose, load_benchmarks
from curate.specs.load import nearest, resolved
from curate.specs.workflow import Decontaminate
from curate.tasks import Output, Task, code_version

if TYPE_CHECKING:
    from curate.decontaminate.index import Index
    from curate.workflow import Arguments

_CODE = ("curate.decontaminate", "curate.kernels", "curate.specs.benchmarks")
_HERE = "curate.decontaminate.stage"


def decontaminate(options: Decontaminate, arguments: Arguments) -> dict[str, Manifest]:
    """Find the items of `options.against` in every source, and remove what `options.action` says; return what is kept."""
    if options.action not in ACTIONS:
        raise SpecError(f"'{options.action}' is no action", where="decontaminate.action", hint=nearest(options.action, list(ACTIONS)))
    code = code_version(*_CODE)
    scratch = arguments.scratch
    index = _single("index", scratch / "index", _index_work(options, arguments), arguments, code)
    share = _share(options, arguments)
    counted = _per_shard("count_shard", "counts", scratch / "index", index, share, arguments, code)
    work = Work("index", [str(scratch / "index"), *counted.folders], [_content(index), *counted.checksums])
    weighted = _single("weigh", scratch / "weighted", work, arguments, code)
    scored = _per_shard("score_shard", "scores", scratch / "weighted", weighted, share, arguments, code)
    bounds = {"threshold": options.threshold, "false_positives": options.false_positives}
    work = Work("index", [str(scratch / "weighted"), *scored.folders], [_content(weighted), *scored.checksums], bounds)
    calibrated = _single("calibrate", scratch / "calibrated", work, arguments, code)
    manifests = _scanning(options, arguments, calibrated, code)
    _report(arguments, calibrated, manifests, code)
    arguments.say(_line(scratch))
    return manifests


class _Sampled(msgspec.Struct):
    folders: list[str]
    checksums: list[str]


def _content(manifest: Manifest) -> str:
    """Return what a folder's files stand for."""
    return json.dumps(manifest.files, sort_keys=True)


def _single(stage: str, folder: Path, work: Work, arguments: Arguments, code: dict[str, str]) -> Manifest:
    """Complete a stage of one task that writes an index into `folder`."""
    plan = make_plan(stage, f"{_HERE}:{stage}_task", folder, {}, code, [work])
    return complete(plan, arguments.context, source="together", code=code)


def _index_work(options: Decontaminate, arguments: Arguments) -> Work:
    project = arguments.project
    path = resolve(options.benchmarks, project.root, project.beside)
    chosen = choose(load_benchmarks(path), options.against, "decontaminate.against")
    sums = []
    for name, benchmark in chosen.items():
        for file in files_of(name, benchmark, project.root):
            sums += [name, file.name, project.fingerprints.of(file)]
    project.fingerprints.save()
    return Work("index", [str(project.root)], sums, {"benchmarks": resolved(chosen)})


def _share(options: Decontaminate, arguments: Arguments) -> float:
    total = sum(corpus.manifest.rows for corpus in arguments.sources.values())
    return min(1.0, options.background_documents / max(1, total))


def _per_shard(function: str, folder: str, index_folder: Path, index: Manifest, share: float, arguments: Arguments, code: dict[str, str]) -> _Sampled:
    """Complete a stage that measures the background sample of every shard; return its folders and their content."""
    stages = []
    chosen = {"share": share, "seed": arguments.project.seed}
    for source, corpus in arguments.sources.items():
        work = [
            msgspec.structs.replace(one, inputs=[*one.inputs, str(index_folder)], checksums=[*one.checksums, _content(index)], rows=None)
            for one in shard_work(corpus)
        ]
        plan = make_plan(folder, f"{_HERE}:{function}", arguments.scratch / folder / source, chosen, code, work)
        stages.append(StagePlan(plan, source, code))
    manifests = complete_all(stages, arguments.context)
    return _Sampled([stage.plan.folder for stage in stages], [_content(manifest) for manifest in manifests])


def _scanning(options: Decontaminate, arguments: Arguments, calibrated: Manifest, code: dict[str, str]) -> dict[str, Manifest]:
    stages = []
    action = {"action": options.action, "margin": options.span_margin, "min_characters": options.min_characters}
    for source, corpus in arguments.sources.items():
        work = [
            msgspec.structs.replace(
                one, inputs=[*one.inputs, str(arguments.scratch / "calibrated")], checksums=[*one.checksums, _content(calibrated)]
            )
            for one in shard_work(corpus)
        ]
        plan = make_plan("decontaminate", f"{_HERE}:scan_shard", arguments.targets[source], action, code, work)
        stages.append(StagePlan(plan, source, code))
    return dict(zip(arguments.sources, complete_all(stages, arguments.context), strict=True))


def _report(arguments: Arguments, calibrated: Manifest, manifests: dict[str, Manifest], code: dict[str, str]) -> None:
    sums = [_content(calibrated), *(f"{source} {_content(manifest)} {manifest.ledger.entered}" for source, manifest in manifests.items())]
    inputs = [str(arguments.scratch / "calibrated"), *(str(arguments.targets[source]) for source in manifests)]
    plan = make_plan("report_matches", f"{_HERE}:report_task", arguments.scratch, {}, code, [Work("report", inputs, sums)])
    complete(plan, arguments.context, source="together", code=code)


def _line(scratch: Path) -> str:
    found = json.loads((scratch / "summary.json").read_text(encoding="utf-8"))
    parts = [
        f"{name}: {b['contaminated']:,} of {b['scannable']:,} items in {b['documents']:,} documents"
        + (f" ({b['items'] - b['scannable']:,} unscannable)" if b["items"] > b["scannable"] else "")
        for name, b in found["benchmarks"].items()
    ]
    return "decontaminate: " + "; ".join(parts)


# ── task functions ────────────────────────────────────────────────────────────────────────────────────────────────


def index_task(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: index the benchmarks of `task.options`, whose files are relative to the task's input."""
    from curate.decontaminate.index import build_index

    benchmarks = msgspec.convert(task.options["benchmarks"], dict[str, Benchmark])
    items = read_benchmarks(benchmarks, Path(task.inputs[0]))
    _write(build_index(items), out)
    for place in [f"{bad.place}: {bad.reason}" for bad in items.bad][:20]:
        out.note(f"bad line {place.partition(' ')[0]}", place)


def _write(index: Index, out: Output) -> None:
    from curate.decontaminate.index import save_arrays, save_plain

    save_arrays(index, out.path("index.npz"))
    save_plain(index, out.path("index.json"))


def _read(folder: str) -> Index:
    from curate.decontaminate.index import load_index

    return load_index(Path(folder) / "index")


def sampled(batches: Iterator[pa.RecordBatch], share: float, seed: int) -> Iterator[pa.RecordBatch]:
    """Yield the documents (id, text) that a hash of (seed, id) chooses."""
    limit = int(share * 2**64)
    for batch in batches:
        names = batch.column("id").to_pylist()
        keep = [int.from_bytes(hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest(), "big") < limit for name in names]
        if any(keep):
            yield batch.select(["id", "text"]).filter(pa.array(keep))


def count_shard(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: count the n-grams of the items in the sample of one shard. `inputs`: the corpus, the index."""
    from curate.decontaminate.weigh import count_background, save_background

    batches = sampled(Corpus.open(task.inputs[0]).batches(task.name, ["text"]), options["share"], options["seed"])
    save_background(count_background(batches, _read(task.inputs[1])), out.path(f"{task.name}.npz"))


def weigh_task(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: add up all counts, and weigh the index. `inputs`: the index, the folders of the counts."""
    from curate.decontaminate.weigh import empty_background, load_background, weighted

    index = _read(task.inputs[0])
    total = empty_background(index)
    for path in _files(task.inputs[1:]):
        total = total + load_background(path, index)
    _write(weighted(index, total), out)
    out.note("background_documents", total.documents)


def score_shard(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: score the sample of one shard. `inputs`: the corpus, the weighted index."""
    from curate.decontaminate.weigh import score_background

    batches = sampled(Corpus.open(task.inputs[0]).batches(task.name, ["text"]), options["share"], options["seed"])
    scores = score_background(batches, _read(task.inputs[1]))
    np.save(out.path(f"{task.name}.npy").open("wb"), np.concatenate([[scores.documents, scores.suspects], scores.histogram]))


def calibrate_task(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: set the thresholds. `inputs`: the weighted index, the folders of the scores."""
    from curate.decontaminate.index import with_weights
    from curate.decontaminate.weigh import NUM_BINS, Scores, calibrated

    total = Scores(0, 0, np.zeros(NUM_BINS, np.int64))
    for path in _files(task.inputs[1:]):
        row = np.load(path)
        total = total + Scores(int(row[0]), int(row[1]), row[2:])
    index = calibrated(_read(task.inputs[0]), total, task.options["false_positives"])
    if task.options["threshold"] is not None:
        index = with_weights(index, {}, {}, threshold=task.options["threshold"])
    _write(index, out)
    out.note("calibration", index.calibration)


def _files(folders: list[str]) -> list[Path]:
    """Return the files that stages wrote, in the order of their manifests."""
    return [Path(folder) / name for folder in folders for name in read_manifest(Path(folder)).files]


def scan_shard(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: find the items in one shard, and act. `inputs`: the corpus, the calibrated index."""
    from curate.decontaminate.match import MATCHES, scan

    corpus, index = Corpus.open(task.inputs[0]), _read(task.inputs[1])
    out.empty(corpus.schema())
    out.table("matches", pa.RecordBatch.from_pylist([], MATCHES))

    def work(batch: pa.RecordBatch) -> tuple[pa.Table, Verdicts]:
        matches = scan(batch, index)
        return matches, decide(batch, matches, options["action"], margin=options["margin"], min_characters=options["min_characters"])

    cut = 0
    for batch, (matches, verdicts) in out.map(corpus.batches(task.name), work):
        for part in matches.to_batches():
            out.table("matches", part)
        kept = np.array(verdicts.kept)
        if any(verdicts.changed):
            texts = [new if new is not None else old for new, old in zip(verdicts.texts, batch.column("text").to_pylist(), strict=True)]
            at = batch.schema.get_field_index("text")
            cut += int((np.array(verdicts.changed) & kept).sum())
            batch = batch.set_column(at, batch.schema.field(at), pa.array(texts, batch.schema.field(at).type))
        out.write(batch.filter(pa.array(kept)))
        gone = np.flatnonzero(~kept).tolist()
        out.drop(batch.filter(pa.array(~kept)), [[REASON]] * len(gone), [verdicts.details[i] for i in gone])
    out.note("documents_cut", cut)


def report_task(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: gather the matches and say what they mean. `inputs`: the calibrated index, the sources' folders."""
    from curate.decontaminate.match import MATCHES
    from curate.decontaminate.tally import item_table, summarize

    index = _read(task.inputs[0])
    tables, documents = [], 0
    for folder in task.inputs[1:]:
        manifest = read_manifest(Path(folder))
        documents += manifest.ledger.entered - manifest.ledger.errored
        tables += [pq.read_table(Path(folder) / name, schema=MATCHES) for name in manifest.files if name.startswith("matches/")]
    matches = pa.concat_tables(tables) if tables else MATCHES.empty_table()
    pq.write_table(matches, out.path("matches.parquet"), compression="zstd")
    items = item_table(matches, index)
    pq.write_table(items, out.path("items.parquet"), compression="zstd")
    summary = summarize(matches, index, documents)
    out.path("summary.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False), encoding="utf-8")
    for name in index.names:
        own = [row for row in items.select(["benchmark", "item_id", "indexed", "matched"]).to_pylist() if row["benchmark"] == name]
        lists = {
            "clean": [r["item_id"] for r in own if r["indexed"] and not r["matched"]],
            "contaminated": [r["item_id"] for r in own if r["matched"]],
            "unscannable": [r["item_id"] for r in own if not r["indexed"] and not r["matched"]],
        }
        out.path(f"clean_ids/{name}.json").write_text(json.dumps(lists, indent=1, ensure_ascii=False), encoding="utf-8")
