"""Token shards and packing: mapped, checked, and in an order that depends on seed and ids alone."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import documents, write_corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.corpus import Corpus, verify
from curate.engine import Context, Inline
from curate.errors import InputError
from curate.project import Fingerprints
from curate.specs.workflow import Tokenize, Workflow
from curate.tokens.pack import Packed
from curate.tokens.shards import TokenShards, TokenWriter
from curate.tokens.stage import sample_texts, tokenize
from curate.tokens.tokenizer import INDEX, Encoder
from curate.workflow import Arguments, Project


def write_shard(folder: Path, name: str, tokens: dict[str, list[int]]) -> None:
    folder.mkdir(exist_ok=True)
    writer = TokenWriter(folder / f"{name}.npy", np.dtype(np.uint16))
    starts = [writer.write(np.array(values)) for values in tokens.values()]
    writer.close()
    sizes = [len(values) for values in tokens.values()]
    pq.write_table(pa.Table.from_arrays([list(tokens), starts, sizes, sizes], schema=INDEX), folder / f"{name}.parquet")


@settings(max_examples=25, deadline=None)
@given(parts=st.lists(st.lists(st.integers(0, 65535), max_size=9), max_size=5))
def test_a_shard_written_in_parts_is_the_file_that_numpy_saves(tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]]) -> None:
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    writer = TokenWriter(path, np.dtype(np.uint16))
    for part in parts:
        writer.write(np.array(part))
    writer.close()
    whole = io.BytesIO()
    np.save(whole, np.array([token for part in parts for token in part], np.uint16))
    assert path.read_bytes() == whole.getvalue()


def test_documents_are_found_over_all_shards(tmp_path: Path) -> None:
    write_shard(tmp_path, "b", {"p": [7, 0], "q": [8, 8, 0]})
    write_shard(tmp_path, "a", {"r": [9, 0]})
    write_shard(tmp_path, "c", {})
    shards = TokenShards(tmp_path)
    assert (shards.names, shards.ids, shards.total_tokens) == (["a", "b", "c"], ["r", "p", "q"], 7)
    assert [shards.document(row).tolist() for row in range(3)] == [[9, 0], [7, 0], [8, 8, 0]]
    assert isinstance(shards.document(0).base, np.memmap)


def test_a_shard_that_does_not_hold_what_its_index_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no token shards"):
        TokenShards(tmp_path)
    write_shard(tmp_path, "a", {"r": [9, 9, 0]})
    np.save(tmp_path / "a.npy", np.zeros(2, np.uint16))
    with pytest.raises(InputError, match=r"a\.parquet: speaks of 3 tokens, the shard holds 2"):
        TokenShards(tmp_path)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
    with pytest.raises(InputError, match=r"a\.npy: is not a token shard"):
        TokenShards(tmp_path)
    np.save(tmp_path / "a.npy", np.zeros(3, np.float32))
    with pytest.raises(InputError, match="1 dimensions of float32"):
        TokenShards(tmp_path)
    write_shard(tmp_path, "a", {"r": [9, 9, 0]})
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(InputError, match="index of this shard is missing"):
        TokenShards(tmp_path)


def test_the_order_within_a_source_depends_on_ids_and_seed_and_not_on_shards(tmp_path: Path) -> None:
    tokens = {f"d{i}": [i + 1] * 5 + [0] for i in range(40)}
    write_shard(tmp_path / "one", "a", tokens)
    ids = sorted(tokens, reverse=True)
    write_shard(tmp_path / "two", "a", {k: tokens[k] for k in ids[:13]})
    write_shard(tmp_path / "two", "b", {k: tokens[k] for k in ids[13:]})
    one, two = (Packed([tmp_path / name], 8, 3) for name in ("one", "two"))
    assert one.tokens.tolist() == two.tokens.tolist()
    assert sorted(one.tokens.tolist()) == sorted(token for values in tokens.values() for token in values)
    assert Packed([tmp_path / "one"], 8, 4).tokens.tolist() != one.tokens.tolist()
    assert Packed([tmp_path / "one"], 8, 3, max_tokens=50).tokens.tolist() == one.tokens[:50].tolist()


def test_every_token_is_predicted_once_per_epoch_and_epochs_differ(tmp_path: Path) -> None:
    write_shard(tmp_path, "a", {f"d{i}": [i + 1] * 7 + [0] for i in range(21)})
    packed = Packed([tmp_path], 8, 0)
    rows = packed.sequences(np.arange(len(packed)))
    assert rows[:, 1:].reshape(-1).tolist() == packed.tokens[1 : 1 + len(packed) * 8].tolist()
    assert rows[1:, 0].tolist() == rows[:-1, -1].tolist()
    draws = packed.draws(3 * len(packed))
    epochs = draws.reshape(3, -1)
    assert all(sorted(epoch) == list(range(len(packed))) for epoch in epochs.tolist())
    assert epochs[1].tolist() != epochs[2].tolist()
    assert draws[:30].tolist() == packed.draws(30).tolist()


def test_short_documents_can_stay_out(tmp_path: Path) -> None:
    write_shard(tmp_path, "a", {"short": [1] * 6 + [0], "long": [2] * 30 + [0], "longer": [3] * 40 + [0]})
    packed = Packed([tmp_path], 8, 0, min_document_tokens=31)
    assert sorted(packed.tokens.tolist()) == sorted([2] * 30 + [3] * 40 + [0, 0])
    with pytest.raises(InputError, match="0 tokens are too few"):
        Packed([tmp_path], 8, 0, min_document_tokens=42)


def test_a_source_too_small_for_one_sequence_is_named(tmp_path: Path) -> None:
    write_shard(tmp_path, "a", {"d": [1, 0]})
    with pytest.raises(InputError, match="2 tokens are too few for one sequence of 8"):
        Packed([tmp_path], 8, 0)


def arguments(tmp_path: Path, sources: dict[str, Corpus]) -> Arguments:
    workflow = msgspec.convert({"name": "w", "sources": {"web": [{"ingest": {"jsonl": "x"}}]}}, Workflow)
    project = Project(tmp_path, tmp_path, tmp_path / "run", 5, Fingerprints(tmp_path / "f.json"), workflow)
    targets = {name: tmp_path / "run" / name for name in sources}
    return Arguments(sources, targets, tmp_path / "run/together", project, Context(Inline()), print)


def test_the_stage_trains_on_equal_shares_and_counts_every_token(tmp_path: Path) -> None:
    web = write_corpus(
        tmp_path / "web", {"a": [documents([f"the web page number {i} says things" for i in range(300)])], "b": [documents([], file="b")]}
    )
    math = write_corpus(tmp_path / "math", {"a": [documents([f"{i} + {i} = {2 * i}" for i in range(30)], source="math")]}, source="math")
    given = arguments(tmp_path, {"web": web, "math": math})
    manifests = tokenize(Tokenize(vocab_size=300, train_megabytes=1), given)
    shards = {name: TokenShards(tmp_path / "run" / name) for name in manifests}
    assert {name: sum(note["num_tokens"] for note in m.notes.values()) for name, m in manifests.items()} == {
        n: s.total_tokens for n, s in shards.items()
    }
    assert manifests["web"].ledger.kept == 300
    assert manifests["web"].ledger.kept_bytes == int(shards["web"].num_bytes.sum())
    encoder = Encoder.open(tmp_path / "run/together/tokenizer.json")
    assert encoder.decode(shards["math"].document(7)[:-1]) == "7 + 7 = 14"
    assert verify(tmp_path / "run/web") == []
    before = (tmp_path / "run/web/a.npy").stat().st_mtime_ns
    tokenize(Tokenize(vocab_size=300, train_megabytes=1), given)
    assert (tmp_path / "run/web/a.npy").stat().st_mtime_ns == before
    tokenize(Tokenize(vocab_size=280, train_megabytes=1), given)
    assert (tmp_path / "run/web/a.npy").stat().st_mtime_ns != before


def test_the_training_sample_is_chosen_by_id(tmp_path: Path) -> None:
    texts = [f"text {i:03d}" for i in range(100)]
    one = write_corpus(tmp_path / "one", {"a": [documents(texts)]})
    whole = documents(texts)
    two = write_corpus(tmp_path / "two", {"a": [whole.slice(60)], "b": [whole.slice(0, 60)]})
    assert sorted(sample_texts(one, 160, 0)) == sorted(sample_texts(two, 160, 0))
    assert len(list(sample_texts(one, 160, 0))) == 20
