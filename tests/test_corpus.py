"""Corpora: bytes depend on rows alone, annotations are joined by id, damage is found."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import documents, write_corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.corpus import Corpus, Manifest, Shard, ShardFile, sha256_of, verify, write_json
from curate.documents import SCHEMA
from curate.errors import InputError
from curate.ledger import Ledger


def annotations(folder: Path, ids: list[str], values: list[int], base: str = "../docs") -> Corpus:
    schema = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("gopher", pa.struct([("words", pa.int64())]))])
    folder.mkdir(parents=True)
    file = ShardFile(folder / "a.parquet", schema)
    file.write(pa.RecordBatch.from_pylist([{"id": i, "gopher": {"words": v}} for i, v in zip(ids, values, strict=True)], schema))
    file.close()
    shard = Shard("a", file.rows, (folder / "a.parquet").stat().st_size, sha256_of(folder / "a.parquet"))
    write_json(folder / "manifest.json", Manifest("k", "annotate", "web", [shard], Ledger(), {}, base=base))
    return Corpus.open(folder)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 2999), max_size=6))
def test_the_bytes_of_a_shard_do_not_depend_on_how_its_rows_arrive(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    folder = tmp_path_factory.mktemp("shards")
    batch = documents([f"text number {i}" for i in range(3000)])
    whole = ShardFile(folder / "whole.parquet", SCHEMA)
    whole.write(batch)
    whole.close()
    parts = ShardFile(folder / "parts.parquet", SCHEMA)
    edges = [0, *sorted(cuts), 3000]
    for start, end in zip(edges, edges[1:], strict=False):
        parts.write(batch.slice(start, end - start))
    parts.close()
    assert (folder / "whole.parquet").read_bytes() == (folder / "parts.parquet").read_bytes()


def test_row_groups_stay_small_when_texts_are_large(tmp_path: Path) -> None:
    file = ShardFile(tmp_path / "a.parquet", SCHEMA)
    file.write(documents(["x" * 6_000_000] * 7))
    file.close()
    assert [pq.read_metadata(tmp_path / "a.parquet").row_group(i).num_rows for i in range(3)] == [3, 3, 1]


def test_row_groups_stay_small_when_meta_is_large(tmp_path: Path) -> None:
    file = ShardFile(tmp_path / "a.parquet", SCHEMA)
    for _ in range(3):
        file.write(documents(["x"] * 4, meta=["y" * 18_000_000] * 4))
    file.close()
    assert [pq.read_metadata(tmp_path / "a.parquet").row_group(i).num_rows for i in range(3)] == [4, 4, 4]


def test_annotations_are_joined_to_their_documents(tmp_path: Path) -> None:
    batch = documents([f"text {i}" for i in range(2000)])
    write_corpus(tmp_path / "docs", {"a": [batch]})
    view = annotations(tmp_path / "scores", batch.column("id").to_pylist(), list(range(2000)))
    rows = [row for part in view.batches("a", ["text", "gopher"]) for row in part.to_pylist()]
    assert len(rows) == 2000
    assert all(row["text"] == f"text {row['gopher']['words']}" for row in rows)
    assert view.schema().names == [*SCHEMA.names, "gopher"]


def test_annotations_in_another_order_are_joined_by_id(tmp_path: Path) -> None:
    batch = documents([f"text {i}" for i in range(100)])
    write_corpus(tmp_path / "docs", {"a": [batch]})
    ids = batch.column("id").to_pylist()
    view = annotations(tmp_path / "scores", ids[::-1], list(range(99, -1, -1)))
    rows = [row for part in view.batches("a") for row in part.to_pylist()]
    assert [row["text"] for row in rows] == [f"text {row['gopher']['words']}" for row in rows] == [f"text {i}" for i in range(100)]


def test_a_document_whose_annotation_failed_is_absent_from_the_view(tmp_path: Path) -> None:
    batch = documents([f"text {i}" for i in range(3)])
    write_corpus(tmp_path / "docs", {"a": [batch]})
    ids = batch.column("id").to_pylist()
    view = annotations(tmp_path / "scores", [ids[0], ids[2]], [0, 2])
    assert [(r["text"], r["gopher"]["words"]) for p in view.batches("a") for r in p.to_pylist()] == [("text 0", 0), ("text 2", 2)]


def test_annotations_of_other_documents_are_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path / "docs", {"a": [documents(["one"])]})
    view = annotations(tmp_path / "scores", ["feedface"], [1])
    with pytest.raises(InputError, match="holds annotations of 1 documents, but 0"):
        list(view.batches("a"))


def test_verify_finds_changed_missing_and_unlisted_shards(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "in", {name: [documents([name], file=name)] for name in "abc"})
    assert verify(corpus.folder) == []
    corpus.path("a").write_bytes(corpus.path("a").read_bytes()[:-1] + b"!")
    corpus.path("b").unlink()
    (tmp_path / "in/d.parquet").write_bytes(corpus.path("c").read_bytes())
    wrong = "\n".join(verify(corpus.folder))
    assert "a.parquet: its bytes have changed" in wrong
    assert "b.parquet: is missing" in wrong
    assert "d.parquet: is not in the manifest" in wrong


def test_a_corpus_without_a_manifest_is_incomplete(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such corpus"):
        Corpus.open(tmp_path / "nowhere")
    (tmp_path / "half").mkdir()
    with pytest.raises(InputError, match="incomplete"):
        Corpus.open(tmp_path / "half")
