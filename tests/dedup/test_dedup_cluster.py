"""All sources at once: against a slow reference over plain Python sets, in any order and any division into shards."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import documents
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.dedup.cluster import DUPLICATES, Found, duplicates, removals_of, verdicts
from curate.dedup.signatures import band_names, schema, signatures
from curate.errors import InputError
from curate.specs.workflow import Dedup, Minhash

SMALL = Minhash(ngram=2, bands=6, rows=2, verify=0.4)


def signed_by(table: pa.Table, minhash: Minhash | None) -> pa.Table:
    return pa.Table.from_batches([signatures(batch, minhash) for batch in table.to_batches()], schema(minhash))


def found_in(shards: dict[str, pa.Table], options: Dedup, sources: list[str] | None = None) -> Found:
    signed = {name: signed_by(table, options.minhash) for name, table in shards.items()}

    def texts(name: str, ids: pa.Array) -> Iterator[pa.RecordBatch]:
        yield from shards[name].select(["id", "text"]).to_batches(max_chunksize=3)

    return duplicates(signed, options, sources or ["web", "docs"], texts)


def one_batch(batches: list[pa.RecordBatch]) -> pa.Table:
    return pa.Table.from_batches(batches).combine_chunks()


def words_of(row: dict[str, Any], ngram: int) -> set[tuple[str, ...]]:
    words = row["text"].split()
    return {tuple(words[i : i + ngram]) for i in range(max(1, len(words) - ngram + 1))} if words else set()


def reference(table: pa.Table, options: Dedup) -> dict[str, tuple[str, float, str]]:
    """Return id → (survivor, similarity, method) by comparing everything with everything: `longest`, exact and verified."""
    assert options.minhash is not None
    rows = sorted(table.to_pylist(), key=lambda row: (-len(row["text"].encode()), row["id"]))
    signed = {row["id"]: row for row in signed_by(table, options.minhash).to_pylist()}
    bands = band_names(options.minhash)
    removed: dict[str, tuple[str, float, str]] = {}
    survivors: list[dict[str, Any]] = []
    firsts: dict[str, str] = {}
    for row in rows:
        if (same := " ".join(row["text"].split())) in firsts:
            removed[row["id"]] = (firsts[same], 1.0, "exact")
            continue
        firsts[same] = row["id"]
        mine = words_of(row, options.minhash.ngram)
        for other in survivors:
            theirs = words_of(other, options.minhash.ngram)
            shared = any(signed[row["id"]][b] == signed[other["id"]][b] is not None for b in bands)
            if shared and len(mine & theirs) / len(mine | theirs) >= options.minhash.verify:
                removed[row["id"]] = (other["id"], len(mine & theirs) / len(mine | theirs), "minhash")
                break
        else:
            survivors.append(row)
    for key, (survivor, _, _) in removed.items():
        if survivor in removed:
            removed[key] = removed[survivor]
    return removed


def as_dict(found: Found) -> dict[str, tuple[str, float, str]]:
    return {row["id"]: (row["survivor"], row["similarity"], row["method"]) for row in found.table.to_pylist()}


TEXT = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=12).map(" ".join)


@settings(max_examples=50, deadline=None)
@given(st.lists(TEXT, max_size=14), st.lists(TEXT, max_size=8), st.integers(0, 10**6))
def test_copies_are_those_of_the_reference_in_any_order_and_shards(web: list[str], docs: list[str], seed: int) -> None:
    options = Dedup(minhash=SMALL)
    table = one_batch([documents(web, "web", "w"), documents(docs, "docs", "d")])
    expected = reference(table, options)
    assert as_dict(found_in({"all": table}, options)) == expected
    rng = random.Random(seed)
    shuffled = table.take(pa.array(rng.sample(range(table.num_rows), table.num_rows), pa.int64()))
    cuts = sorted(rng.choices(range(table.num_rows + 1), k=3))
    parts = [shuffled.slice(a, b - a).combine_chunks() for a, b in zip([0, *cuts], [*cuts, table.num_rows], strict=True)]
    found = found_in({f"s{i}": part for i, part in enumerate(parts)}, options)
    assert as_dict(found) == expected
    for row in found.table.to_pylist():
        assert row["id"] in parts[int(row["shard"][1:])]["id"].to_pylist()
        assert row["survivor"] not in expected


def test_a_document_stays_when_only_a_removed_one_is_like_it() -> None:
    """A ~ B ~ C, but A is not like C: B goes, C stays."""
    a = [f"w{i}" for i in range(40)]
    b = a[8:] + ["x"]
    c = b[8:] + ["y"]
    table = one_batch([documents([" ".join(words) for words in (a, b, c)])])
    keys = table["id"].to_pylist()
    for shards in ({"all": table}, {"one": table.slice(2, 1).combine_chunks(), "two": table.slice(0, 2).combine_chunks()}):
        found = found_in(shards, Dedup(minhash=Minhash(ngram=1, bands=60, rows=1, verify=0.7)))
        assert [(row["id"], row["survivor"]) for row in found.table.to_pylist()] == [(keys[1], keys[0])]
        chained = found_in(shards, Dedup(minhash=Minhash(ngram=1, bands=60, rows=1, verify=None)))
        assert sorted(chained.table["id"].to_pylist()) == sorted(keys[1:])
        assert chained.table["similarity"].to_pylist() == [None, None]
        assert set(chained.table["survivor"].to_pylist()) == {keys[0]}


def test_an_exact_copy_of_a_near_duplicate_is_named_with_the_one_that_survives() -> None:
    words = [f"w{i}" for i in range(40)]
    table = one_batch([documents([" ".join([*words, "more"]), " ".join(words), "\n".join(words)])])
    first, *others = table["id"].to_pylist()
    found = found_in({"all": table}, Dedup(minhash=Minhash(), keep="first"))
    similarity = 36 / 37  # 36 runs of five words, and one more
    assert as_dict(found) == dict.fromkeys(others, (first, similarity, "minhash"))
    assert (found.notes["num_exact_duplicates"], found.notes["num_near_duplicates"]) == (0, 2)


def test_empty_texts_are_exact_copies_and_never_near_ones() -> None:
    table = one_batch([documents(["", " \n", "!!!", "???", "--"])])
    found = found_in({"all": table}, Dedup(minhash=Minhash()))
    assert found.table["method"].to_pylist() == ["exact"]
    assert found.notes["num_without_words"] == 5
    assert found_in({"all": table}, Dedup(exact=False, minhash=Minhash())).table.num_rows == 0


def test_without_exact_equal_texts_are_near_duplicates() -> None:
    table = one_batch([documents(["one two three four five six", "one two three four five six", "seven"])])
    found = found_in({"all": table}, Dedup(exact=False, minhash=Minhash()))
    assert found.table.select(["similarity", "method"]).to_pylist() == [{"similarity": 1.0, "method": "minhash"}]
    assert found_in({"all": table}, Dedup()).table["method"].to_pylist() == ["exact"]


def test_the_preferred_source_keeps_its_copy_and_the_notes_say_who_lost_to_whom() -> None:
    text = "one two three four five six seven eight"
    shards = {
        "web": one_batch([documents([f"{text} nine", text, "alone"], "web", "w")]),
        "docs": one_batch([documents([text], "docs", "d")]),
    }
    found = found_in(shards, Dedup(minhash=Minhash(verify=0.5), prefer=["docs"]))
    kept = shards["docs"]["id"][0].as_py()
    assert [(row["survivor"], row["shard"]) for row in found.table.to_pylist()] == [(kept, "web"), (kept, "web")]
    assert found.notes["between_sources"] == {"web → docs": 2}
    assert (found.notes["num_exact_duplicates"], found.notes["num_near_duplicates"]) == (1, 1)


def test_no_documents_at_all() -> None:
    for shards in ({}, {"none": one_batch([documents([])])}):
        found = found_in(shards, Dedup(minhash=Minhash()))
        assert found.table.num_rows == 0
        assert found.table.schema == DUPLICATES
        assert found.notes["num_documents"] == 0


def test_signatures_are_read_from_parquet_too(tmp_path: Path) -> None:
    table = one_batch([documents(["one two three", "one  two three", "four"])])
    signed = signed_by(table, Minhash())
    pq.write_table(signed, tmp_path / "a.parquet")
    found = duplicates({"a": tmp_path / "a.parquet"}, Dedup(minhash=Minhash()), ["web"], lambda _name, _ids: table.to_batches(), tmp_path)
    assert found.table.equals(found_in({"a": table}, Dedup(minhash=Minhash())).table)
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


@pytest.mark.parametrize(("times", "message"), [(0, "came 0 times, not once"), (2, "came 2 times, not once")])
def test_a_text_that_is_missing_or_comes_twice_is_an_error(times: int, message: str) -> None:
    table = one_batch([documents(["one two three four five", "one two three four five six"])])
    signed = signed_by(table, SMALL)
    with pytest.raises(InputError, match=message):
        duplicates({"a": signed}, Dedup(minhash=SMALL), ["web"], lambda _name, _ids: table.to_batches() * times)


def test_a_text_that_has_lost_its_words_is_an_error() -> None:
    table = one_batch([documents(["one two three four five", "one two three four five six"])])
    signed = signed_by(table, SMALL)
    changed = table.set_column(1, table.schema.field("text"), pa.array(["", "one"]))
    with pytest.raises(InputError, match="its documents have changed"):
        duplicates({"a": signed}, Dedup(minhash=SMALL), ["web"], lambda _name, _ids: changed.to_batches())


def test_signatures_made_under_other_options_are_an_error() -> None:
    table = one_batch([documents(["one two three"])])
    signed = signed_by(table, SMALL)
    with pytest.raises(InputError, match="lack band_06, band_07"):
        duplicates({"a": signed}, Dedup(minhash=Minhash(bands=8)), ["web"], lambda _name, _ids: [])


def test_verdicts_name_reason_survivor_and_similarity() -> None:
    rows = [("b", "a", 1.0, "exact"), ("c", "a", 0.91239, "minhash"), ("d", "a", None, "minhash")]
    table = pa.Table.from_pylist([dict(zip(DUPLICATES.names, (*row, "s"), strict=True)) for row in rows], DUPLICATES)
    found = verdicts(["a", "c", "b", "d"], removals_of(table))
    assert found[0] is None
    assert [one[0] for one in found if one] == ["near_duplicate", "exact_duplicate", "near_duplicate"]
    assert [json.loads(one[1])["similarity"] for one in found if one] == [0.9124, 1.0, None]
    with pytest.raises(InputError, match="stand twice"):
        removals_of(pa.concat_tables([table, table]))
