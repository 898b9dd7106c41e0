"""Which copy survives: every policy, ties by id, and the same whatever the order of rows."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest
from conftest import documents

from curate.dedup.policy import policy_order
from curate.dedup.signatures import signatures
from curate.errors import InputError, SpecError
from curate.specs.workflow import Dedup


def table() -> pa.Table:
    web = documents(["medium text", "a much longer text", "tiny", "tiny"], "web", "b.gz", date=["2021", "2023-05-05", None, "2020-01-01"])
    docs = documents(["medium text", "tiny"], "docs", "a.gz", date=["2024", "not a date"])
    return pa.Table.from_batches([signatures(web, None), signatures(docs, None)])


def ordered(options: Dedup, sources: list[str], rows: pa.Table) -> list[tuple[str, int]]:
    found = rows.take(pa.array(policy_order(rows, options, sources)))
    return list(zip(found["source"].to_pylist(), found["offset"].to_pylist(), strict=True))


EXPECTED = {
    "longest": [("web", 1), {("web", 0), ("docs", 0)}, {("web", 2), ("web", 3), ("docs", 1)}],
    "newest": [("docs", 0), ("web", 1), ("web", 0), ("web", 3), {("web", 2), ("docs", 1)}],
    "oldest": [("web", 3), ("web", 0), ("web", 1), ("docs", 0), {("web", 2), ("docs", 1)}],
    "first": [("web", 0), ("web", 1), ("web", 2), ("web", 3), ("docs", 0), ("docs", 1)],
}


@pytest.mark.parametrize("keep", EXPECTED)
def test_policies(keep: str) -> None:
    rows = table()
    found = ordered(Dedup(keep=keep), ["web", "docs"], rows)
    ids = {(row["source"], row["offset"]): row["id"] for row in rows.to_pylist()}
    expected = []
    for group in EXPECTED[keep]:
        expected += sorted(group, key=lambda place: ids[place]) if isinstance(group, set) else [group]
    assert found == expected


@pytest.mark.parametrize("keep", EXPECTED)
def test_the_order_of_rows_does_not_matter(keep: str) -> None:
    rows = table()
    expected = ordered(Dedup(keep=keep), ["web", "docs"], rows)
    for seed in range(5):
        shuffled = rows.take(pa.array(random.Random(seed).sample(range(rows.num_rows), rows.num_rows)))
        assert ordered(Dedup(keep=keep), ["web", "docs"], shuffled) == expected


def test_preferred_sources_come_before_all_others() -> None:
    found = ordered(Dedup(keep="longest", prefer=["docs"]), ["web", "docs"], table())
    assert [source for source, _ in found] == ["docs", "docs", "web", "web", "web", "web"]
    assert found[0] == ("docs", 0)


def test_first_goes_by_the_order_of_sources_in_the_workflow() -> None:
    assert ordered(Dedup(keep="first"), ["docs", "web"], table())[0] == ("docs", 0)


def test_one_id_in_two_sources_names_both() -> None:
    rows = table()
    same = rows.set_column(0, rows.schema.field(0), pa.array(["a", "b", "c", "d", "a", "f"]))
    with pytest.raises(InputError, match=r"id a: one of source 'docs', file a.gz, offset 0; one of source 'web', file b.gz, offset 0"):
        policy_order(same, Dedup(), ["web", "docs"])


def test_an_unknown_policy_is_named() -> None:
    with pytest.raises(SpecError, match="did you mean 'longest'"):
        policy_order(table(), Dedup(keep="longer"), [])
