"""Signatures: one row per document, dates read as they come, nothing that depends on the batch."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pytest
from conftest import documents
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.dedup.signatures import schema, seconds_of, signatures
from curate.specs.workflow import Minhash


def test_rows_do_not_depend_on_the_batch() -> None:
    texts = ["one two three", "", "e\u0301tude", "!!!", "four five six seven eight nine"]
    batch = documents(texts, date=["2024-05-01T10:00:00Z", None, "yesterday", "2023", "2024-13-01"])
    whole = signatures(batch, Minhash())
    assert whole.schema == schema(Minhash())
    parts = [signatures(batch.slice(i, 1), Minhash()) for i in range(len(texts))]
    assert pa.Table.from_batches(parts).equals(pa.Table.from_batches([signatures(batch, Minhash())]).combine_chunks())
    assert whole.column("shingles").to_pylist() == [1, 0, 1, 0, 2]
    assert whole.column("band_00").is_null().to_pylist() == [False, True, False, True, False]
    assert whole.column("bytes").to_pylist() == [13, 0, 7, 3, 30]
    assert whole.column("seconds").to_pylist()[1:] == [None, None, 1672531200, None]
    assert whole.column("offset").to_pylist() == [0, 1, 2, 3, 4]


def test_without_minhash_there_are_no_bands() -> None:
    found = signatures(documents(["one two"]), None)
    assert found.schema == schema(None)
    assert not [name for name in found.schema.names if name.startswith("band")]


def test_an_empty_batch() -> None:
    assert signatures(documents([]), Minhash()).num_rows == 0


def test_equal_words_in_different_unicode_forms_are_equal() -> None:
    one, other = signatures(documents(["caf\u00e9 au lait", "cafe\u0301  au\nlait"]), Minhash()).to_pylist()
    assert {name for name in one if one[name] != other[name]} == {"id", "offset", "bytes"}


@settings(max_examples=100, deadline=None)
@given(st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9999, 12, 30)), st.integers(-14 * 60, 14 * 60))
def test_dates_agree_with_the_standard_library(when: datetime.datetime, zone: int) -> None:
    when = when.replace(microsecond=0)
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    utc = when.replace(tzinfo=datetime.UTC)
    assert seconds_of(when.isoformat()) == seconds_of(when.isoformat() + "Z") == seconds_of(f"{when} UTC") == int((utc - epoch).total_seconds())
    local = when.replace(tzinfo=datetime.timezone(datetime.timedelta(minutes=zone)))
    assert seconds_of(local.isoformat()) == int((local - epoch).total_seconds())


@pytest.mark.parametrize(
    ("date", "same"),
    [("2024", "2024-01-01T00:00:00Z"), ("2024-07", "2024-07-01"), ("20240701", "2024-07-01"), ("2024-07-01T10:30", "2024-07-01 10:30:00")],
)
def test_short_forms(date: str, same: str) -> None:
    assert seconds_of(date) == seconds_of(same) is not None


@pytest.mark.parametrize(
    "date", [None, "", "soon", "01/02/2024", "2024-02-30", "0000", "2024-01-01T25:00", "٢٠٢٤", "2024-01-01T10:00:00Z" + "9" * 9999]
)
def test_what_is_no_date_is_unknown(date: str | None) -> None:
    assert seconds_of(date) is None
