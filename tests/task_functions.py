"""Task functions for the tests of the engine: what a stage's author would write, and documents that hurt."""

from __future__ import annotations

import os
import signal
import time

import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus import Corpus
from curate.tasks import Output, Task


def shout(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Upper-case the text; documents that say so raise, die or sleep."""
    for text in batch.column("text").to_pylist():
        if text == "raise":
            raise ValueError("this document raises")
        if text == "die":
            os.kill(os.getpid(), signal.SIGSEGV)
        if text == "exit":
            os._exit(7)
        if text == "sleep":
            time.sleep(0.3)
    index = batch.schema.get_field_index("text")
    return batch.set_column(index, batch.schema.field("text"), pc.utf8_upper(batch.column("text")))


def shout_shard(task: Task, options: dict, out: Output) -> None:
    """Upper-case a shard, dropping what is empty."""
    corpus = Corpus.open(task.inputs[0])
    out.empty(corpus.schema())
    for _, batch in out.map(corpus.batches(task.name), shout):
        empty = pc.equal(batch.column("text"), "")
        out.drop(batch.filter(empty), [["empty"]] * (pc.sum(empty).as_py() or 0))
        out.write(batch.filter(pc.invert(empty)))


def lose_shard(task: Task, options: dict, out: Output) -> None:
    """Lose the first document of every batch, as a bug would."""
    corpus = Corpus.open(task.inputs[0])
    for _, batch in out.map(corpus.batches(task.name), shout):
        out.write(batch.slice(1))


def always_dies(task: Task, options: dict, out: Output) -> None:
    """Die before any record was touched."""
    os.kill(os.getpid(), signal.SIGKILL)


def always_raises(task: Task, options: dict, out: Output) -> None:
    """Fail for a reason that no record answers for."""
    raise RuntimeError("the disk is on fire")
