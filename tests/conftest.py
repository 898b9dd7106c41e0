"""Shared fixtures: small corpora, and an engine with real worker processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import settings

from curate.corpus import Corpus, Manifest, Shard, ShardFile, sha256_of, write_json
from curate.documents import SCHEMA, document_id
from curate.engine import Context, Local
from curate.ledger import Ledger

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the tests are about one machine's arithmetic; test_gpu.py looks for a GPU itself

settings.register_profile("shared", deadline=None)  # the machine may be busy; no test is about time
settings.load_profile("shared")


def documents(texts: list[str], source: str = "web", file: str = "a.warc.gz", **columns: list[str | None]) -> pa.RecordBatch:
    """Return a batch of documents with these texts, offsets 0, 1, 2, …"""
    rows = []
    for i, text in enumerate(texts):
        row = dict.fromkeys(SCHEMA.names) | {name: values[i] for name, values in columns.items()}
        origin = {"file": file, "offset": i, "length": 1}
        rows.append(row | {"id": document_id(source, file, i), "text": text, "source": source, "origin": origin, "meta": row["meta"] or "{}"})
    return pa.RecordBatch.from_pylist(rows, SCHEMA)


def write_corpus(folder: Path, shards: dict[str, list[pa.RecordBatch]], source: str = "web") -> Corpus:
    """Write a corpus as a stage would have left it."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for name, batches in shards.items():
        path = folder / f"{name}.parquet"
        file = ShardFile(path, SCHEMA)
        for batch in batches:
            file.write(batch)
        file.close()
        listed.append(Shard(name, file.rows, path.stat().st_size, sha256_of(path)))
    write_json(folder / "manifest.json", Manifest("key", "ingest", source, listed, Ledger(), {}))
    return Corpus.open(folder)


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    """A context whose engine has two real worker processes."""
    engine = Local(2, tmp_path / "logs")
    yield Context(engine)
    engine.close()
