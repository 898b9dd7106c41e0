"""The decontaminate step as tasks: index once, weigh and calibrate on a sample, then scan shard by shard.

    SOURCE/NN-decontaminate/      what is kept; `matches/` has each shard's matches
    together/NN-decontaminate/    matches.parquet, items.parquet, summary.json, clean_ids/, lm_eval_samples.json, report.html

What the search needs on its way is in the folder `work` of the last:

    index/         the items, indexed (index.npz is mapped by the workers, index.json), and their positions
    counts/SOURCE/ document frequencies of the background sample, one file per shard
    weighted/      the index with weights from all counts
    scores/SOURCE/ evidence of the background sample, one file per shard
    calibrated/    the index with its thresholds
    probes/        which disguises of its items this index finds

The weights and thresholds depend on the sample, so another document in it scans every shard again; another action scans again
too, which costs little. The sample is chosen by a hash of the id and has about `background_documents` documents.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from curate import __version__
from curate.corpus import Corpus, Manifest, read_manifest, text_sizes
from curate.decontaminate.act import ACTIONS, REASON, VARIANTS, Policy, Verdicts, decide, recorded, settled, with_verdicts
from curate.decontaminate.items import files_of, read_benchmarks
from curate.engine import StagePlan, Work, checksums, complete, complete_all, make_plan, shard_work
from curate.errors import SpecError
from curate.project import resolve
from curate.specs.benchmarks import Benchmark, choose, load_benchmarks
from curate.specs.load import nearest, resolved
from curate.specs.workflow import Decontaminate, Semantic
from curate.tasks import Output, Task, code_version, hash_of

if TYPE_CHECKING:
    from curate.decontaminate.index import Index
    from curate.workflow import Arguments

_TELLING = ("diff", "evidence", "power", "publish", "tally")  # modules that only tell what was found: a change in them scans nothing again
_HERE, _PUBLISH = "curate.decontaminate.stage", "curate.decontaminate.publish"
WORK = "work"  # in the step's folder: what is only needed to do it
READ = ("text", "url", "source")  # what a scan needs of a document, beside its id


def decontaminate(options: Decontaminate, arguments: Arguments, *, copies: bool = True) -> dict[str, Manifest]:
    """Find the items of `options.against` in every source, and remove what `options.action` says; return what is kept.

    Without `copies`, documents are only searched, and what is kept of them is not written: there must be nothing to remove.
    """
    for action in (options.action, *options.actions.values()):
        if action not in ACTIONS:
            raise SpecError(f"'{action}' is no action", where="decontaminate.action", hint=nearest(action, list(ACTIONS)))
    for variant in options.actions:
        if variant not in VARIANTS:
            raise SpecError(f"'{variant}' is no variant", where="decontaminate.actions", hint=nearest(variant, list(VARIANTS)))
    code = _matching_code()
    scratch = arguments.scratch / WORK
    index = _single("index", scratch / "index", _index_work(options, arguments), arguments, code)
    share = _share(options, arguments)
    counted = _per_shard("count_shard", "counts", scratch / "index", index, share, arguments, code)
    work = Work("index", [str(scratch / "index"), *counted.folders], [_content(index), *counted.checksums])
    weighted = _single("weigh", scratch / "weighted", work, arguments, code)
    scored = _per_shard("score_shard", "scores", scratch / "weighted", weighted, share, arguments, code)
    bounds = {"threshold": options.threshold, "false_positives": options.false_positives}
    work = Work("index", [str(scratch / "weighted"), *scored.folders], [_content(weighted), *scored.checksums], bounds)
    calibrated = _single("calibrate", scratch / "calibrated", work, arguments, code)
    probes = Work("probes", [str(scratch / "calibrated")], [_content(calibrated)])
    probing = {**code, **code_version("curate.decontaminate.power", _PUBLISH)}
    probed = _single("probe", scratch / "probes", probes, arguments, probing, _PUBLISH)
    meaning = _meaning(options, arguments, index, code)
    manifests = _scanning(options, arguments, [calibrated, *([meaning] if meaning else [])], code, copies)
    _report(options, arguments, [index, calibrated, probed], manifests, code)
    arguments.say(_line(arguments.scratch))
    return manifests


def _matching_code() -> dict[str, str]:
    """Return the versions of all that decides what is found: every module of this package but those that only tell."""
    own = [f"curate.decontaminate.{path.stem}" for path in sorted(Path(__file__).parent.glob("*.py")) if path.stem not in (*_TELLING, "__init__")]
    return code_version(*own, "curate.kernels", "curate.specs.benchmarks")


class _Sampled(msgspec.Struct):
    folders: list[str]
    checksums: list[str]


def _content(manifest: Manifest) -> str:
    """Return what a folder's files stand for."""
    return json.dumps(manifest.files, sort_keys=True)


def _single(stage: str, folder: Path, work: Work, arguments: Arguments, code: dict[str, str], module: str = _HERE) -> Manifest:
    """Complete a stage of one task that writes into `folder`."""
    plan = make_plan(stage, f"{module}:{stage}_task", folder, {}, code, [work])
    return complete(plan, arguments.context, source="together", code=code)


def _index_work(options: Decontaminate, arguments: Arguments) -> Work:
    project = arguments.project
    path = resolve(options.benchmarks, project.root, project.beside)
    chosen = choose(load_benchmarks(path), options.against, "decontaminate.against")
    sums: list[str] = []
    files: list[str] = []
    counts = {}
    for name, benchmark in chosen.items():
        own = files_of(name, benchmark, project.root)
        counts[name] = len(own)
        files += map(str, own)
        for file in own:
            sums += [name, file.name, project.fingerprints.of(file)]
    project.fingerprints.save()
    return Work("index", [str(project.root), *files], sums, {"benchmarks": resolved(chosen), "files": counts})


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
        plan = make_plan(folder, f"{_HERE}:{function}", arguments.scratch / WORK / folder / source, chosen, code, work)
        stages.append(StagePlan(plan, source, code))
    manifests = complete_all(stages, arguments.context)
    return _Sampled([stage.plan.folder for stage in stages], [_content(manifest) for manifest in manifests])


def _meaning(options: Decontaminate, arguments: Arguments, index: Manifest, code: dict[str, str]) -> Manifest | None:
    """Say what the semantic channel will cost, and learn the items and the background; None where the channel is off.

    Raises SpecError before anything is sent when it is over the spec's budget, or when there is no endpoint.
    """
    semantic = options.semantic
    if semantic is None:
        return None
    from curate.decontaminate.embed import required_endpoint
    from curate.decontaminate.semantic import cost

    where = f"to {required_endpoint(semantic).base_url}" if semantic.engine == "endpoint" else "on this machine"
    corpora = list(arguments.sources.values())
    item_bytes = len(_read(str(arguments.scratch / WORK / "index")).text)
    requests, tokens = cost(semantic, sum(text_bytes_of(corpus) for corpus in corpora), item_bytes)
    arguments.say(
        f"semantic channel: about {requests:,} requests with {tokens:,} tokens, to '{semantic.model}' {where}, unless they were made before"
    )
    if tokens > semantic.max_tokens:
        hint = f"raise max_tokens above {tokens:,}, search fewer documents, or remove `semantic`"
        raise SpecError(f"would send about {tokens:,} tokens; the spec allows {semantic.max_tokens:,}", where="decontaminate.semantic", hint=hint)
    sums = [_content(index), *(checksum for corpus in corpora for name in corpus.shards for checksum in checksums(corpus, name))]
    inputs = [str(arguments.scratch / WORK / "index"), *(str(corpus.folder) for corpus in corpora)]
    work = Work("meaning", inputs, sums, {"semantic": resolved(semantic), "seed": arguments.project.seed})
    return _single("meaning", arguments.scratch / WORK / "meaning", work, arguments, code)


def text_bytes_of(corpus: Corpus) -> int:
    """Return the bytes of text in a corpus, as the stage that wrote the text counted them."""
    return text_bytes_of(corpus.base) if corpus.base is not None else corpus.manifest.ledger.kept_bytes


def _scanning(options: Decontaminate, arguments: Arguments, made: list[Manifest], code: dict[str, str], copies: bool) -> dict[str, Manifest]:
    """Search every shard with what was `made`: the calibrated index, and what the items mean where that is asked for."""
    stages = []
    folders = [str(arguments.scratch / WORK / name) for name in ("calibrated", "meaning")][: len(made)]
    policy = Policy(
        options.action, {str(k): str(v) for k, v in options.actions.items()}, options.min_score, options.span_margin, options.min_characters
    )
    chosen = {"policy": msgspec.to_builtins(policy), "copies": copies, "semantic": resolved(options.semantic) if options.semantic else None}
    for source, corpus in arguments.sources.items():
        work = [
            msgspec.structs.replace(one, inputs=[*one.inputs, *folders], checksums=[*one.checksums, *map(_content, made)])
            for one in shard_work(corpus)
        ]
        plan = make_plan("decontaminate", f"{_HERE}:scan_shard", arguments.targets[source], chosen, code, work)
        stages.append(StagePlan(plan, source, code))
    return dict(zip(arguments.sources, complete_all(stages, arguments.context), strict=True))


def _report(options: Decontaminate, arguments: Arguments, made: list[Manifest], manifests: dict[str, Manifest], code: dict[str, str]) -> None:
    scratch = arguments.scratch
    sums = [*map(_content, made), *(f"{source} {_content(manifest)} {manifest.ledger.entered}" for source, manifest in manifests.items())]
    inputs = [str(scratch / WORK / name) for name in ("index", "calibrated", "probes")] + [str(arguments.targets[source]) for source in manifests]
    settings = {name: value for name, value in resolved(options).items() if name not in ("against", "benchmarks")}
    corpora = {
        source: {"documents": corpus.manifest.rows, "content": hash_of([shard.sha256 for shard in corpus.manifest.shards])}
        for source, corpus in arguments.sources.items()
    }
    told = {"settings": settings, "corpora": corpora, "code": {"curate": __version__, **code}}
    templates = sorted((Path(__file__).parent.parent / "report" / "templates").glob("decontamination*"))
    page = {"templates": hash_of([path.read_text(encoding="utf-8") for path in templates])}
    code = {**code, **page, **code_version(*(f"curate.decontaminate.{name}" for name in _TELLING), "curate.report.charts", "curate.report.sections")}
    plan = make_plan("report_matches", f"{_PUBLISH}:report_task", scratch, {}, code, [Work("report", inputs, sums, told)])
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
    """Task function: index the benchmarks of `task.options`. `inputs`: the project, and their files, benchmark after benchmark."""
    from curate.decontaminate.index import build_index
    from curate.decontaminate.publish import write_positions

    benchmarks = msgspec.convert(task.options["benchmarks"], dict[str, Benchmark])
    root, *paths = (Path(name) for name in task.inputs)
    rest = iter(paths)
    files = {name: list(itertools.islice(rest, count)) for name, count in task.options["files"].items()}
    items = read_benchmarks(benchmarks, root, files)
    _write(build_index(items), out)
    write_positions(items, out)
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
    """Task function: find the items in one shard, and act. `inputs`: the corpus, the calibrated index, and what the items mean."""
    from curate.decontaminate.match import MATCHES, scan

    propose = _proposer(task.inputs[2], options["semantic"]) if options["semantic"] else None
    corpus, index = Corpus.open(task.inputs[0]), _read(task.inputs[1])
    policy, copies = Policy(**options["policy"]), options["copies"]
    if copies:
        out.empty(corpus.schema())
    out.table("matches", pa.RecordBatch.from_pylist([], recorded(MATCHES)))

    def work(batch: pa.RecordBatch) -> tuple[pa.Table, Verdicts]:
        matches = scan(batch, index)
        if propose is not None:
            matches = propose(batch, index, matches)
        verdicts = settled(batch, decide(batch, matches, policy), lambda part: scan(part, index), policy)
        return with_verdicts(matches, batch, verdicts, policy), verdicts

    cut = 0
    for batch, (matches, verdicts) in out.map(corpus.batches(task.name, None if copies else list(READ)), work):
        for part in matches.to_batches():
            out.table("matches", part)
        if copies:
            cut += _keep(batch, verdicts, out)
        else:
            out.ledger.kept += batch.num_rows
            out.ledger.kept_bytes += int(text_sizes(batch).sum())
    out.note("documents_cut", cut)


def _proposer(folder: str, options: dict[str, Any]) -> Callable[[pa.RecordBatch, Index, pa.Table], pa.Table]:
    """Return a function that adds the paraphrases in a batch to its matches."""
    from curate.decontaminate import semantic
    from curate.decontaminate.embed import open_embedder

    spec = msgspec.convert(options, Semantic)
    meaning = semantic.load(Path(folder) / "meaning.npz")
    embed = open_embedder(spec, meaning.vectors.shape[1] if len(meaning.items) else None)
    return lambda batch, index, matches: semantic.merged(matches, semantic.propose(batch, index, meaning, embed, spec))


def meaning_task(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: embed the items and a sample of chunks. `inputs`: the index, the corpora."""
    from curate.decontaminate import semantic
    from curate.decontaminate.embed import open_embedder

    spec = msgspec.convert(task.options["semantic"], Semantic)
    corpora = [Corpus.open(folder) for folder in task.inputs[1:]]
    batches = (batch for corpus in corpora for name in corpus.shards for batch in corpus.batches(name, ["text"]))
    background = semantic.sample_chunks(batches, spec, task.options["seed"])
    meaning = semantic.learn(_read(task.inputs[0]), background, open_embedder(spec), spec)
    semantic.save(meaning, out.path("meaning.npz"))
    out.note("items", len(meaning.items))
    out.note("background_chunks", len(background))
    out.note("threshold", round(meaning.threshold, 6))


def _keep(batch: pa.RecordBatch, verdicts: Verdicts, out: Output) -> int:
    """Write what is kept of a batch and what is dropped; return how many documents were cut."""
    kept, cut = np.array(verdicts.kept), 0
    if any(verdicts.changed):
        texts = [new if new is not None else old for new, old in zip(verdicts.texts, batch.column("text").to_pylist(), strict=True)]
        at = batch.schema.get_field_index("text")
        cut = int((np.array(verdicts.changed) & kept).sum())
        batch = batch.set_column(at, batch.schema.field(at), pa.array(texts, batch.schema.field(at).type))
    out.write(batch.filter(pa.array(kept)))
    gone = np.flatnonzero(~kept).tolist()
    out.drop(batch.filter(pa.array(~kept)), [[REASON]] * len(gone), [verdicts.details[i] for i in gone])
    return cut
