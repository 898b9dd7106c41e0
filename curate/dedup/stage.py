"""The dedup step as tasks: sign each shard, compare everything in one task, remove shard by shard.

    together/NN-dedup/signatures/SOURCE/   one row per document (see `signatures`); a changed policy does not sign again
    together/NN-dedup/duplicates/          one list of copies per shard, SOURCE.SHARD.parquet, and the counts in the manifest
    SOURCE/NN-dedup/                       what is kept, with its annotations; `dropped/` names each copy's survivor

A shard is written again only when its own list of copies has changed. The comparison is one task on one core, since a copy may be
anywhere; what it costs is in `cluster`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.corpus import Corpus, Manifest
from curate.engine import StagePlan, Work, checksums, complete, complete_all, make_plan, shard_work
from curate.errors import LedgerError
from curate.specs.load import resolved
from curate.specs.workflow import Dedup, Minhash
from curate.tasks import Output, Plan, Task, code_version

if TYPE_CHECKING:
    from curate.workflow import Arguments

_CODE = ("curate.dedup", "curate.kernels")


def dedup(options: Dedup, arguments: Arguments) -> dict[str, Manifest]:
    """Remove the copies from every source; return the manifest of what each source keeps."""
    code = code_version(*_CODE)
    signed = dict(zip(arguments.sources, complete_all(_signing(options, arguments, code), arguments.context), strict=True))
    compared = complete(_comparing(options, arguments, signed, code), arguments.context, source="together", code=code)
    arguments.say(_line(compared.notes["duplicates"]))
    stages = []
    for source, corpus in arguments.sources.items():
        inputs = [str(arguments.scratch), str(_signatures(arguments.scratch, source))]
        work = [
            msgspec.structs.replace(
                one,
                inputs=[*one.inputs, *inputs],
                checksums=[*one.checksums, compared.files[_list(source, one.name)]],
                options={"source": source},
            )
            for one in shard_work(corpus)
        ]
        plan = make_plan("dedup", "curate.dedup.stage:remove_shard", arguments.targets[source], {}, code, work)
        stages.append(StagePlan(plan, source, code))
    return dict(zip(arguments.sources, complete_all(stages, arguments.context), strict=True))


def _signatures(scratch: Path, source: str) -> Path:
    return scratch / "signatures" / source


def _list(source: str, shard: str) -> str:
    """Where the list of a shard's copies lies; a source's name has no dot."""
    return f"duplicates/{source}.{shard}.parquet"


def _signing(options: Dedup, arguments: Arguments, code: dict[str, str]) -> list[StagePlan]:
    chosen = resolved(msgspec.structs.replace(options.minhash, verify=None)) if options.minhash else None
    stages = []
    for source, corpus in arguments.sources.items():
        folder = _signatures(arguments.scratch, source)
        plan = make_plan("sign", "curate.dedup.stage:sign_shard", folder, {"minhash": chosen}, code, shard_work(corpus))
        stages.append(StagePlan(plan, source, code))
    return stages


def _comparing(options: Dedup, arguments: Arguments, signed: dict[str, Manifest], code: dict[str, str]) -> Plan:
    """Return the plan of the one comparing task. Its inputs: for each source, its documents and its signatures."""
    sums, inputs = [], []
    for source, corpus in arguments.sources.items():
        inputs += [str(corpus.folder), str(_signatures(arguments.scratch, source))]
        for shard in signed[source].shards:
            sums += [source, shard.name, shard.sha256, *checksums(corpus, shard.name)]
    work = [Work("duplicates", inputs, sums, {"sources": list(arguments.sources)})]
    return make_plan("find_duplicates", "curate.dedup.stage:compare_task", arguments.scratch, resolved(options), code, work)


def _line(notes: dict[str, Any]) -> str:
    exact, near = notes["num_exact_duplicates"], notes["num_near_duplicates"]
    late = notes.get("num_uncompared", 0)
    line = f"dedup: {exact:,} exact and {near:,} near-duplicates among {notes['num_documents']:,} documents"
    return f"{line}; {late:,} documents in crowded buckets were not compared with all others there" if late else line


def sign_shard(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: sign one shard. `options`: {"minhash": Minhash or null}."""
    from curate.dedup import signatures as sign  # here, as below: whoever only plans need not load a compiler

    minhash = msgspec.convert(options["minhash"], Minhash | None)
    out.empty(sign.schema(minhash))
    corpus = Corpus.open(task.inputs[0])
    for _, rows in out.map(corpus.batches(task.name, sign.COLUMNS), lambda batch: sign.signatures(batch, minhash)):
        out.write(rows)


def compare_task(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: find the copies among all documents, and write one list per shard. `options`: the Dedup spec."""
    from curate.dedup.cluster import duplicates

    sources: list[str] = task.options["sources"]
    documents = dict(zip(sources, map(Corpus.open, task.inputs[0::2]), strict=True))
    signed = dict(zip(sources, map(Corpus.open, task.inputs[1::2]), strict=True))
    places = {_list(source, name): (source, name) for source, corpus in signed.items() for name in corpus.shards}
    tables = {key: signed[source].path(name) for key, (source, name) in places.items()}

    def texts(key: str, ids: pa.Array) -> Iterator[pa.RecordBatch]:
        source, name = places[key]
        return documents[source].batches(name, ["text"])

    (out.folder / "duplicates").mkdir(parents=True, exist_ok=True)
    found = duplicates(tables, msgspec.convert(options, Dedup), sources, texts, out.folder)
    of_shard = _runs(found.table)
    for key in tables:
        begin, length = of_shard.get(key, (0, 0))
        pq.write_table(found.table.slice(begin, length), out.path(key), compression="zstd")
    for name, value in found.notes.items():
        out.note(name, value)


def _runs(table: pa.Table) -> dict[str, tuple[int, int]]:
    """Return, for each shard in DUPLICATES (sorted by shard), where its rows begin and how many they are."""
    runs, begin = {}, 0
    encoded = pc.run_end_encode(table.column("shard").combine_chunks())
    for name, end in zip(encoded.values.to_pylist(), encoded.run_ends.to_pylist(), strict=True):
        runs[name] = (begin, end - begin)
        begin = end
    return runs


def remove_shard(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: remove the copies from one shard. `inputs`: the corpus, the folder of the lists, the signatures.

    A document without a signature (its signing failed) was compared with nothing: it is quarantined here too. Raises LedgerError
    when a document of the list is not in the shard.
    """
    from curate.dedup.cluster import DUPLICATES, removals_of, verdicts

    corpus, lists, signed = Corpus.open(task.inputs[0]), Path(task.inputs[1]), Corpus.open(task.inputs[2])
    removals = removals_of(pq.read_table(lists / _list(task.options["source"], task.name), schema=DUPLICATES, use_threads=False))
    known = pq.read_table(signed.path(task.name), columns=["id"], use_threads=False)
    compared = set(known.column("id").to_pylist())

    def decide(batch: pa.RecordBatch) -> list[tuple[str, str] | None]:
        ids = batch.column("id").to_pylist()
        if not compared.issuperset(ids):
            raise ValueError("was not compared, since its signing failed; the errors of together/…-dedup/signatures say why")
        return verdicts(ids, removals)

    out.empty(corpus.schema())
    met = 0
    for batch, decided in out.map(corpus.batches(task.name), decide):
        keep = pa.array([one is None for one in decided], pa.bool_())
        dropped = [one for one in decided if one is not None]
        met += len(dropped)
        out.write(batch.filter(keep))
        out.drop(batch.filter(pc.invert(keep)), [[reason] for reason, _ in dropped], [detail for _, detail in dropped])
    if met != len(removals):
        what = f"{met:,} of the {len(removals):,} documents that the list of copies names are in this shard"
        raise LedgerError(what, where=str(corpus.path(task.name)))
