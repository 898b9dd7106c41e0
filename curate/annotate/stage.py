"""The annotate stage: documents → one struct column per annotator, beside the documents.

A column has a key of its own (annotator, options, code, input), kept in the receipt. When one annotator of a step changes, the
others' columns are taken over from the shard that is about to be replaced, and only the changed one is computed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.annotate import annotate, contents, label
from curate.corpus import Corpus, sha256_of
from curate.edit import named
from curate.engine import StagePlan, Work, checksums, make_plan
from curate.tasks import Output, Task, code_version, hash_of, read_receipt, receipt_path

LIBRARIES = ("py3langid", "fasttext-numpy2-wheel")


def plan(step: list[str | dict[str, dict[str, Any]]], corpus: Corpus, source: str, target: Path, beside: Path) -> StagePlan:
    """Plan the annotation of one source; `beside` is the folder of the spec, where the paths in options begin."""
    wanted = named(step)
    code = code_version("curate.annotate", "curate.kernels", libraries=LIBRARIES)
    content = {label(name): contents(name, options, beside) for name, options in wanted}
    work = []
    for name, shard in corpus.shards.items():
        inputs = checksums(corpus, name)
        columns = {label(a): hash_of(a, options, code, content[label(a)], inputs) for a, options in wanted}
        work.append(Work(name, [str(corpus.folder), str(beside)], inputs, {"columns": columns}, shard.rows))
    plan = make_plan("annotate", "curate.annotate.stage:annotate_shard", target, {"annotators": wanted}, code, work)
    return StagePlan(plan, source, code, corpus.folder)


def annotate_shard(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: annotate one shard. `options`: {"annotators": [[name, options], …]}."""
    corpus, beside = Corpus.open(task.inputs[0]), Path(task.inputs[1])
    keys: dict[str, str] = task.options["columns"]
    old, known = _reusable(out, task, keys)
    wanted = [(label(name), name, chosen) for name, chosen in options["annotators"]]

    def measure(batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = pa.array([known[key] for key in batch.column("id").to_pylist()], pa.int64()) if old is not None else None
        arrays = [batch.column("id")]
        for column, name, chosen in wanted:
            if old is not None and column in old.column_names:
                arrays.append(old.column(column).take(rows).combine_chunks())
            else:
                arrays.append(annotate(batch, name, chosen, beside))
        fields = [pa.field("id", pa.string(), nullable=False)]
        fields += [pa.field(column, array.type) for (column, _, _), array in zip(wanted, arrays[1:], strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    out.empty(measure(pa.RecordBatch.from_pylist([], corpus.schema())).schema)
    for _, measured in out.map(corpus.batches(task.name), measure):
        out.write(measured)
    out.note("columns", keys)


def _reusable(out: Output, task: Task, keys: dict[str, str]) -> tuple[pa.Table | None, dict[str, int]]:
    """Return the columns of the shard's earlier version that still hold, and where each id is in them."""
    before = read_receipt(receipt_path(out.folder, task.name))
    path = out.folder / f"{task.name}.parquet"
    if before is None or before.shard is None or before.ledger.errored or not path.is_file():
        return None, {}
    made = before.notes.get("columns", {})
    valid = [column for column, key in keys.items() if made.get(column) == key]
    if not valid or sha256_of(path) != before.shard.sha256:
        return None, {}
    table = pq.read_table(path, columns=["id", *valid], use_threads=False)
    return table, {key: i for i, key in enumerate(table.column("id").to_pylist())}
