"""JSON lines and Parquet: a bad line or row costs itself, a broken stream what comes after the break."""

from __future__ import annotations

import bz2
import datetime
import gzip
import json
import lzma
import random
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from warc_files import zstd

from curate.errors import InputError, MissingExtra
from curate.ingest.document import json_of
from curate.ingest.read import read
from curate.ingest.record import Record, Skipped, Unreadable
from curate.specs.workflow import Columns, Ingest

LINES = [
    json.dumps({"id": f"n{i}", "text": f"Text {i} with ümlaut", "url": f"http://e/{i}", "score": i / 2}, ensure_ascii=False) for i in range(2000)
]
DATA = "".join(f"{line}\n" for line in LINES).encode()


def jsonl(path: Path, data: bytes, **columns: str) -> list[Any]:
    path.write_bytes(data)
    return list(read("jsonl", path, Ingest(jsonl="x", columns=Columns(**columns))))


@pytest.mark.parametrize(("name", "pack"), [("a.jsonl", bytes), ("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", zstd)])
def test_lines_become_records_at_their_place_in_the_text(tmp_path: Path, name: str, pack: Any) -> None:
    found = jsonl(tmp_path / name, pack(DATA))
    assert len(found) == 2000 and all(isinstance(r, Record) for r in found)
    one = found[1234]
    assert (one.content, one.url, one.meta) == ("Text 1234 with ümlaut", "http://e/1234", {"id": "n1234", "score": 617.0})
    assert DATA[one.offset : one.offset + one.length].decode() == LINES[1234]


@pytest.mark.parametrize(("name", "pack"), [("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", zstd)])
def test_a_cut_off_stream_keeps_what_came_before_and_is_not_a_success(tmp_path: Path, name: str, pack: Any) -> None:
    data = b"".join(json.dumps({"text": f"{i * 7919 % 10007} " * 30}).encode() + b"\n" for i in range(30_000))
    packed = pack(data)
    found = jsonl(tmp_path / name, packed[: len(packed) // 2])
    *kept, last = found
    assert len(kept) > 3000 and all(isinstance(r, Record) for r in kept)
    assert isinstance(last, Unreadable) and "cut off" in last.error
    assert last.offset == kept[-1].offset + kept[-1].length + 1


def test_a_damaged_stream_keeps_what_came_before(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(DATA))
    packed[len(packed) // 2] ^= 0xFF
    *kept, last = jsonl(tmp_path / "a.jsonl.gz", bytes(packed))
    assert len(kept) > 300 and isinstance(last, Unreadable) and all(isinstance(r, Record | Unreadable) for r in kept)
    assert jsonl(tmp_path / "b.jsonl.gz", gzip.compress(DATA[:500]) + b"trailing garbage")[-1].error == "not a gzip member"


@pytest.mark.parametrize(("name", "pack"), [("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", zstd)])
def test_what_lies_beyond_the_damage_is_told_in_stored_bytes(tmp_path: Path, name: str, pack: Any) -> None:
    data = b"".join(json.dumps({"text": f"{i * 7919 % 10007} {random.Random(i).randbytes(20).hex()} " * 3}).encode() + b"\n" for i in range(30_000))
    packed = pack(data)
    at = len(packed) // 4
    last = jsonl(tmp_path / name, packed[:at] + b"\xff" * 400 + packed[at + 400 :])[-1]
    assert last.documents is None
    assert abs(last.stored / len(packed) - 0.75) < 0.1
    cut = jsonl(tmp_path / name, packed[:at])[-1]
    assert cut.documents is None and cut.stored < at // 100  # what is missing is in no file


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_text_that_a_client_has_decompressed_already_is_read_whatever_its_name(tmp_path: Path, name: str) -> None:
    assert len(jsonl(tmp_path / name, DATA)) == 2000
    assert jsonl(tmp_path / name, b"\0" + gzip.compress(DATA)[1:])[0].error.startswith("not a ")


def wide(data: bytes, window_log: int) -> bytes:
    """Compress as `zstd --long` does."""
    import zstandard

    parameters = zstandard.ZstdCompressionParameters(window_log=window_log, enable_ldm=True, write_checksum=True)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return stream.compress(data) + stream.flush()


@pytest.mark.parametrize("window_log", [27, 28, 31])
def test_zstd_frames_with_wide_windows_are_read(tmp_path: Path, window_log: int) -> None:
    packed = wide(DATA, window_log)
    assert len(jsonl(tmp_path / "a.jsonl.zst", packed + zstd(DATA))) == 4000
    cut = jsonl(tmp_path / "b.jsonl.zst", packed[:-9])[-1]
    assert (cut.error, cut.documents) == ("zstd frame is cut off", None)
    damaged = jsonl(tmp_path / "c.jsonl.zst", packed[:-1] + bytes([packed[-1] ^ 1]))[-1]
    assert damaged.error == "zstd frame is damaged"


def test_a_window_beyond_two_gigabytes_is_named(tmp_path: Path) -> None:
    packed = bytearray(wide(DATA, 31))
    packed[5] = 22 << 3  # the descriptor of a window of 4 GiB
    assert jsonl(tmp_path / "a.jsonl.zst", bytes(packed))[-1].error == "zstd window is larger than 2 GiB"


def test_a_wide_window_without_the_extra_stops_and_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = wide(DATA, 28)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingExtra, match=r"a window of 256 MB, needs the package zstandard\nhint: pip install 'curate-lm\[zstd\]'"):
        jsonl(tmp_path / "a.jsonl.zst", packed)


def test_members_in_a_row_are_one_text(tmp_path: Path) -> None:
    found = jsonl(tmp_path / "a.jsonl.gz", gzip.compress(DATA[:777]) + gzip.compress(DATA[777:]))
    assert len(found) == 2000


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b'{"text": "caf\xe9"}', "invalid UTF-8"),
        (b'{"text": "no end', "invalid JSON"),
        (b"not json", "invalid JSON"),
        (b'{"text": "a"} {"text": "b', "invalid JSON"),
        (b'{"text": "raw \0 NUL"}', "invalid JSON"),
        (b"\0" * 1000, "invalid JSON"),
        (b"[" * 100_000, "invalid JSON"),
        (b'{"text": "x", "n": ' + b"9" * 5000 + b"}", "invalid JSON"),
        (b'["text"]', "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"null", "not a JSON object"),
    ],
)
def test_a_bad_line_costs_only_itself(tmp_path: Path, line: bytes, error: str) -> None:
    before, bad, after = jsonl(tmp_path / "a.jsonl", b'{"text": "before"}\n' + line + b'\n{"text": "after"}')
    assert (before.content, after.content) == ("before", "after")
    assert bad == Unreadable(19, len(line), error)


MANY = [{"text": f"Text {i}"} for i in range(500)]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (json.dumps(MANY), "a JSON array, where one object per line is read"),
        (json.dumps({"version": 1, "data": MANY}), "an object around documents, where one per line is read"),
        ("\r".join(map(json.dumps, MANY)), "CR line ends, where LF is read"),
        (" ".join(map(json.dumps, MANY)), "several objects on one line, where one is read"),
    ],
)
def test_a_line_that_holds_many_documents_is_as_many_failures(tmp_path: Path, line: str, error: str) -> None:
    (bad,) = jsonl(tmp_path / "a.jsonl", line.encode())
    assert (bad.error, bad.documents) == (error, 500)
    *_, after = jsonl(tmp_path / "b.jsonl", line.encode() + b'\n{"text": "after"}\n')
    assert after.content == "after"


@pytest.mark.parametrize(("name", "pack"), [("a.jsonl", bytes), ("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", zstd)])
def test_a_long_line_of_noise_is_told_in_stored_bytes(tmp_path: Path, name: str, pack: Any) -> None:
    """An array that breaks off, or zeros that a disk has left: nobody knows how many documents were there."""
    rows = [json.dumps({"text": random.Random(i).randbytes(50).hex()}).encode() for i in range(8000)]
    packed = pack(b"[" + b", ".join(rows[:6000]) + b"\n" + b"\n".join(rows[6000:]))
    *kept, bad = jsonl(tmp_path / name, packed)
    assert len(kept) == 2000 and (bad.offset, bad.error, bad.documents) == (0, "invalid JSON", None)
    assert abs(bad.stored / len(packed) - 0.75) < 0.01


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b'{"text": "' + b"book " * 40_000 + b'\xff and more"}', "invalid UTF-8"),
        (b'{"meta": [{"a": 1}, {"a": 2}], "text": "' + b"book " * 40_000, "invalid JSON"),
        (b'{"text": "he said "no" ' + b'and \\"text\\": this ' * 10_000 + b'"}', "invalid JSON"),
        (b'{"text": "' + b"book " * 40_000 + b'"} trailing', "invalid JSON"),
    ],
    ids=["invalid byte", "cut off", "quote", "trailing"],
)
def test_a_long_line_that_begins_one_document_is_one(tmp_path: Path, line: bytes, error: str) -> None:
    bad, good = jsonl(tmp_path / "a.jsonl", line + b'\n{"text": "next"}\n')
    assert (bad.error, bad.documents, good.content) == (error, 1, "next")


@pytest.mark.parametrize(
    "line",
    [
        b"[" + b", ".join(b'{"text": "book"}' for _ in range(20_000)),
        b'{"data": [' + b", ".join(b'{"text": "book"}' for _ in range(20_000)),
        b'{"text": "' + b"\0" * 200_000,
        b'{"text": "' + b"\xff" * 200_000,
        b'{"text": "' + random.Random(0).randbytes(200_000).replace(b"\n", b""),
        b"{" + b"x" * 200_000,
    ],
    ids=["array", "object around all", "zeros", "ones", "noise", "no object"],
)
def test_a_long_line_that_may_have_held_many_is_of_unknown_number(tmp_path: Path, line: bytes) -> None:
    good, bad = jsonl(tmp_path / "a.jsonl", line + b'\n{"text": "next"}\n')
    assert (bad.documents, good.content) == (None, "next")


@pytest.mark.parametrize("between", ["\r", " "])
def test_what_follows_a_bad_object_on_one_line_is_of_unknown_number_where_it_is_long(tmp_path: Path, between: str) -> None:
    rows = [json.dumps({"text": f"{i} " * 200}) for i in range(500)]
    (bad,) = jsonl(tmp_path / "a.jsonl", between.join([*rows[:2], '{"text": bad}', *rows[2:]]).encode())
    assert (bad.documents, bad.stored) == (None, bad.length)
    (bad,) = jsonl(tmp_path / "b.jsonl", between.join([*rows, '{"text": bad}']).encode())
    assert bad.documents == 500


def test_a_field_is_known_by_its_escaped_name_too(tmp_path: Path) -> None:
    line = json.dumps({"data": [{"\u672c\u6587": "book"} for _ in range(20_000)]})[:-20]
    assert "\\u672c" in line
    (bad,) = jsonl(tmp_path / "a.jsonl", line.encode(), text="\u672c\u6587")
    assert bad.documents is None


def test_objects_around_documents_are_as_many_failures_unless_documents_follow(tmp_path: Path) -> None:
    """An API's pages, one a line; and a first line about the file, before its documents."""
    pages = [json.dumps({"page": k, "results": [{"text": f"{k} {i}"} for i in range(50)]}) for k in range(90)]
    found = jsonl(tmp_path / "a.jsonl", "\n".join(["", *pages, '{"done": true}']).encode())
    assert sum(item.documents for item in found if isinstance(item, Unreadable)) == 4500
    assert [item.dropped for item in found if isinstance(item, Record)] == ["no_text_field"]
    found = jsonl(tmp_path / "b.jsonl", "\n".join([pages[0], '{"text": "one"}']).encode())
    assert sorted(item.dropped or "" for item in found) == ["", "no_text_field"]


def test_many_documents_of_which_a_byte_is_invalid_are_many(tmp_path: Path) -> None:
    for line in (json.dumps(MANY), "\r".join(map(json.dumps, MANY))):
        (bad,) = jsonl(tmp_path / "a.jsonl", line.encode().replace(b"Text 7", b"Text \xff", 1))
        assert (bad.error, bad.documents) == ("invalid UTF-8", 500)


def test_a_first_line_that_describes_the_file_is_no_object_around_all_documents(tmp_path: Path) -> None:
    first = json.dumps({"parts": MANY}).encode()
    head, *kept = jsonl(tmp_path / "a.jsonl", first + b"\n" + DATA)
    assert head.dropped == "no_text_field" and len(kept) == 2000
    skipped = jsonl(tmp_path / "b.jsonl", first + b"\n\n\n")
    assert skipped[0].documents == 500


def test_lines_that_were_counted_are_no_part_of_what_a_broken_stream_lost(tmp_path: Path) -> None:
    counted = "\r".join(map(json.dumps, MANY)).encode()
    packed = gzip.compress(counted + b"\n" + DATA)
    first, *_, last = jsonl(tmp_path / "a.jsonl.gz", packed[:-4])
    assert first.documents == 500 and "cut off" in last.error
    assert last.stored < len(packed) // 50


@pytest.mark.parametrize(("name", "pack"), [("bzip2", bz2.compress), ("xz", lzma.compress)])
def test_a_compression_that_is_not_read_stops_the_run(tmp_path: Path, name: str, pack: Any) -> None:
    with pytest.raises(InputError, match=rf"a\.jsonl: is compressed by {name}, which is not read\nhint: compress it by gzip or zstd"):
        jsonl(tmp_path / "a.jsonl", pack(DATA))


@pytest.mark.parametrize(
    ("row", "reason"),
    [({"body": "x"}, "no_text_field"), ({"text": None}, "no_text"), ({"text": 5}, "text_not_a_string"), ({"text": ["a"]}, "text_not_a_string")],
)
def test_a_row_without_text_is_dropped_by_reason(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    assert jsonl(tmp_path / "a.jsonl", DATA[:1000].rsplit(b"\n", 1)[0] + b"\n" + json.dumps(row).encode())[-1].dropped == reason


def test_a_misnamed_text_field_is_an_error_that_names_the_fields(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.jsonl: has no column 'body'; it has id, score, text"):
        jsonl(tmp_path / "a.jsonl", DATA, text="body")


def test_columns_are_taken_as_named_and_the_rest_is_meta(tmp_path: Path) -> None:
    row = {"body": "words", "link": "http://e/", "added": "2020-01-02", "lang": "de", "rights": "CC0", "url": "kept in meta", "id": 7}
    (found,) = jsonl(tmp_path / "a.jsonl", json.dumps(row).encode(), text="body", url="link", date="added", language="lang", license="rights")
    assert (found.content, found.url, found.date, found.language, found.license) == ("words", "http://e/", "2020-01-02", "de", "CC0")
    assert found.meta == {"url": "kept in meta", "id": 7}


def test_blank_lines_are_skipped_and_counted_and_a_mark_is_dropped(tmp_path: Path) -> None:
    found = jsonl(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"text": "a"}\r\n\n  \n{"text": "b"}')
    assert [r.content for r in found[:2]] == ["a", "b"]
    assert found[2] == Skipped({"blank_line": 2})


def test_a_line_of_50_megabytes(tmp_path: Path) -> None:
    first, second = jsonl(tmp_path / "a.jsonl", b'{"text": "' + b"x" * 50_000_000 + b'"}\n{"text": "next"}\n')
    assert len(first.content) == 50_000_000 and second.content == "next"


def test_a_line_without_end_is_unreadable_and_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.ingest.tables._MAX_LINE_BYTES", 1_000_000)
    good, bad = jsonl(tmp_path / "a.jsonl", b"x" * 5_000_000 + b'\n{"text": "next"}\n')
    assert bad == Unreadable(0, 5_000_000, "line is too long", None, 5_000_000) and good.content == "next"


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "warc", "files"])
def test_an_empty_file_is_unreadable(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert list(read(kind, path, Ingest(files="x"))) == [Unreadable(0, 0, "empty file")]


# ── Parquet ───────────────────────────────────────────────────────────────────────────────────────────────────────


def parquet(path: Path, table: pa.Table, group: int = 300, **columns: str) -> list[Any]:
    pq.write_table(table, path, row_group_size=group)
    return list(read("parquet", path, Ingest(parquet="x", columns=Columns(**columns))))


def table(rows: int = 1000) -> pa.Table:
    day = datetime.datetime(2024, 1, 2, 3, 4, 5)
    return pa.table({"text": [f"row {i}" for i in range(rows)], "id": list(range(rows)), "date": [day] * rows, "tags": [["a", "b"]] * rows})


def test_rows_become_records_by_their_number(tmp_path: Path) -> None:
    found = parquet(tmp_path / "a.parquet", table())
    assert [r.offset for r in found] == list(range(1000))
    assert (found[700].content, found[700].length, found[700].date) == ("row 700", 1, "2024-01-02T03:04:05")
    assert found[700].meta == {"id": 700, "tags": ["a", "b"]}


def test_a_missing_column_names_file_column_and_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.parquet: has no column 'content'; it has text, id, date, tags"):
        parquet(tmp_path / "a.parquet", table(), text="content")
    with pytest.raises(InputError, match="no column 'link'"):
        parquet(tmp_path / "a.parquet", table(), url="link")


@pytest.mark.parametrize("name", ["text", "tags"])
def test_two_columns_of_one_name_are_an_error(tmp_path: Path, name: str) -> None:
    whole = table()
    with pytest.raises(InputError, match=rf"a\.parquet: has two columns '{name}'\nhint: .*rename"):
        parquet(tmp_path / "a.parquet", whole.append_column(name, whole[name]))


@pytest.mark.parametrize("data", [b"PAR1 nonsense PAR1", b"x" * 1000])
def test_what_is_no_parquet_is_unreadable(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(data)
    assert list(read("parquet", path, Ingest(parquet="x"))) == [Unreadable(0, len(data), "not a Parquet file", None, len(data))]


def test_a_damaged_row_group_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(table(), path, row_group_size=300, compression="zstd", use_dictionary=False)
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 60] = b"\xff" * 60
    path.write_bytes(data)
    found = list(read("parquet", path, Ingest(parquet="x")))
    assert [r.offset for r in found if isinstance(r, Record)] == [*range(300), *range(600, 1000)]
    assert [u for u in found if isinstance(u, Unreadable)] == [Unreadable(300, 300, "row group is damaged", documents=300)]


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_page_whose_checksum_fails_is_damaged(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(table(), path, row_group_size=300, compression=compression, use_dictionary=False, write_page_checksum=True)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 9] ^= 1
    path.write_bytes(data)
    found = list(read("parquet", path, Ingest(parquet="x")))
    assert [r.content for r in found if isinstance(r, Record)] == [f"row {i}" for i in (*range(300), *range(600, 1000))]


def test_a_row_with_invalid_utf8_costs_only_itself(tmp_path: Path) -> None:
    values = pa.array([b"good", b"bad \xff\xfe", b"also good"], pa.binary()).view(pa.string())
    found = parquet(tmp_path / "a.parquet", pa.table({"text": values}))
    assert [r.content for r in found if isinstance(r, Record)] == ["good", "also good"]
    assert [u for u in found if isinstance(u, Unreadable)] == [Unreadable(1, 1, "invalid value")]


def test_a_table_without_rows_yields_nothing(tmp_path: Path) -> None:
    assert parquet(tmp_path / "a.parquet", table(0)) == []


# ── times in Parquet ──────────────────────────────────────────────────────────────────────────────────────────────


def metas(path: Path, values: pa.Array) -> list[Any]:
    """Return what comes to the documents' meta from a column beside the text; no document may be lost."""
    found = parquet(path, pa.table({"text": ["text"] * len(values), "seen": values}))
    assert [r.content for r in found] == ["text"] * len(values)
    return [json.loads(json_of(r.meta))["seen"] for r in found]


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        # as they always were
        (pa.timestamp("us"), [0, 1_700_000_000_000_001, None], ["1970-01-01T00:00:00", "2023-11-14T22:13:20.000001", None]),
        (pa.timestamp("s", "Europe/Berlin"), [1_700_000_000], ["2023-11-14T23:13:20+01:00"]),
        (pa.timestamp("ms", "-03:30"), [0], ["1969-12-31T20:30:00-03:30"]),
        (pa.timestamp("ns"), [1_000, -1_000], ["1970-01-01T00:00:00.000001", "1969-12-31T23:59:59.999999"]),
        (pa.date32(), [19_000], ["2022-01-08"]),
        (pa.date64(), [86_400_000], ["1970-01-02"]),
        (pa.time64("us"), [3_600_000_001], ["01:00:00.000001"]),
        (pa.duration("s"), [90_000], ["1 day, 1:00:00"]),
        # these stopped the run, or cost the document
        (pa.timestamp("us"), [0, 10**18, -(10**17)], ["1970-01-01T00:00:00", None, None]),
        (pa.date32(), [0, 10**8], ["1970-01-01", None]),
        (pa.timestamp("us", "Mars/Phobos"), [1], ["1970-01-01T00:00:00.000001+00:00"]),
        (pa.timestamp("ns"), [1_700_000_000_123_456_789, -1], ["2023-11-14T22:13:20.123456789", "1969-12-31T23:59:59.999999999"]),
        (pa.timestamp("ns", "Asia/Tokyo"), [1], ["1970-01-01T09:00:00.000000001+09:00"]),
        (pa.time64("ns"), [1], ["00:00:00.000000001"]),
        (pa.duration("ns"), [86_400_000_000_001], ["1 day, 0:00:00.000000001"]),
    ],
)
def test_times_become_strings_and_never_cost_a_document(tmp_path: Path, kind: pa.DataType, values: list[Any], expected: list[Any]) -> None:
    integers = pa.array(values, pa.int32() if kind == pa.date32() else pa.int64())
    assert metas(tmp_path / "a.parquet", integers.cast(kind)) == expected


def test_times_inside_of_lists_structs_and_maps(tmp_path: Path) -> None:
    moment = pa.timestamp("ns")
    kind = pa.struct([("seen", pa.list_(moment)), ("by", pa.map_(pa.string(), pa.date32())), ("n", pa.int32())])
    values = [{"seen": [1, None], "by": [("a", 10**8), ("b", 0)], "n": 7}, None]
    first = {"seen": ["1970-01-01T00:00:00.000000001", None], "by": [["a", None], ["b", "1970-01-01"]], "n": 7}
    assert metas(tmp_path / "a.parquet", pa.array(values, kind)) == [first, None]


def test_a_date_column_with_nanoseconds_is_a_date(tmp_path: Path) -> None:
    (found,) = parquet(tmp_path / "a.parquet", pa.table({"text": ["text"], "date": pa.array([1_700_000_000_000_000_001], pa.timestamp("ns"))}))
    assert (found.date, found.meta) == ("2023-11-14T22:13:20.000000001", {})
