"""Task functions for the tests of the engine: what a stage's author would write, and documents that hurt."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus import Corpus
from curate.tasks import Output, Task


def shout(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Upper-case the text; documents that say so raise, die or sleep."""
    for text in batch.column("text").to_pylist():
        if text == "raise":
            raise ValueError("this document raises")
        if text == "sys.exit":
            sys.exit("this document is not what I want")
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


def fails_while(task: Task, options: dict, out: Output) -> None:
    """Fail for documents that need something, while there is a file `broken` beside the folder: a lexicon that is not mounted, say."""
    corpus = Corpus.open(task.inputs[0])
    out.empty(corpus.schema())

    def look(batch: pa.RecordBatch) -> pa.RecordBatch:
        if "needs it" in batch.column("text").to_pylist() and (out.folder.parent / "broken").exists():
            raise FileNotFoundError("lexicon.bin is not mounted")
        return batch

    for _, batch in out.map(corpus.batches(task.name), look):
        out.write(batch)


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


def say_and_die(task: Task, options: dict, out: Output) -> None:
    """Die before any record was touched, with a word in the log."""
    print("out of luck", file=sys.stderr, flush=True)
    os._exit(3)


def dies_while_reading(task: Task, options: dict, out: Output) -> None:
    """Die where the next batch or item is read, after one was handed out."""
    corpus = Corpus.open(task.inputs[0])
    out.empty(corpus.schema())

    def reading() -> Iterator[pa.RecordBatch]:
        for i, batch in enumerate(corpus.batches(task.name)):
            if i == 1:
                os._exit(9)
            yield batch

    if options["how"] == "map":
        for _, batch in out.map(reading(), lambda batch: batch):
            out.write(batch)
    else:
        for _ in out.each(reading(), lambda batch: batch, lambda batch: {"file": "a"}):
            out.note("seen", 1)


def reads_slowly(task: Task, options: dict, out: Output) -> None:
    """Take two seconds to read one item, with signs of life."""
    corpus = Corpus.open(task.inputs[0])
    out.empty(corpus.schema())

    def reading() -> Iterator[pa.RecordBatch]:
        for _ in range(20):
            out.beat()
            time.sleep(0.1)
        yield from corpus.batches(task.name)

    for _, batch in out.map(reading(), lambda batch: batch):
        out.write(batch)


def dies_while_writing(task: Task, options: dict, out: Output) -> None:
    """Die with a batch that its function has done well with."""
    corpus = Corpus.open(task.inputs[0])
    for _ in out.map(corpus.batches(task.name), lambda batch: batch):
        os._exit(9)


def killed_from_outside(task: Task, options: dict, out: Output) -> None:
    """Be killed as often as `options` says, at the second document, by something that it has no part in."""
    corpus, log = Corpus.open(task.inputs[0]), Path(options["log"])
    out.empty(corpus.schema())
    rows = [batch.slice(i, 1) for batch in corpus.batches(task.name) for i in range(batch.num_rows)]

    def slow(row: pa.RecordBatch) -> pa.RecordBatch:
        if row.column("text")[0].as_py() == "slow" and len(log.read_bytes()) < options["times"]:
            with log.open("ab") as file:
                file.write(b"x")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        return row

    for _, row in out.each(rows, slow, lambda row: {"file": "a"}):
        out.ledger.entered += 1
        out.write(row)
