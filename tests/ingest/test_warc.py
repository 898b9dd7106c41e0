"""WARC files: every record of an intact file, every intact record of a damaged one, and where the damage lies."""

from __future__ import annotations

import gzip
import random
import tracemalloc
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from warc_files import PAGE, WARC, block, http, members, numbers, page, read_all, write, zstd

from curate.errors import InputError
from curate.ingest.compressed import PLAIN, open_stored
from curate.ingest.record import Record, Skipped, Unreadable
from curate.ingest.warc import fetch, read

PAGES = [page(i) for i in range(6)]
MEMBERS = members(PAGES)
OFFSETS = [0, *accumulate(map(len, MEMBERS))]


# ── intact files ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_records_carry_payload_address_date_and_place(tmp_path: Path) -> None:
    records, unreadable, skipped = read_all(write(tmp_path, b"".join(MEMBERS)))
    assert numbers(records) == [0, 1, 2, 3, 4, 5] and not unreadable and not skipped
    assert [(r.offset, r.length) for r in records] == [(OFFSETS[i], len(MEMBERS[i])) for i in range(6)]
    assert records[3].content == PAGE % 3
    assert (records[3].kind, records[3].date, records[3].meta) == ("html", "2024-05-17T23:31:22Z", {"http": {"content-type": "text/html"}})


def test_what_is_no_document_is_counted_by_type(tmp_path: Path) -> None:
    kinds = [b"warcinfo", b"request", b"request", b"metadata", b"revisit", b"continuation", b"strange"]
    dns = block(b"20240517\nexample.org. 300 IN A 127.0.0.1", kind=b"resource", url=b"dns:example.org", extra=b"Content-Type: text/dns\r\n")
    records, unreadable, skipped = read_all(write(tmp_path, b"".join(members([block(b"x", kind=k) for k in kinds] + [dns, PAGES[1]]))))
    assert numbers(records) == [1] and not unreadable
    assert skipped == {"continuation": 1, "dns": 1, "metadata": 1, "request": 2, "revisit": 1, "unknown": 1, "warcinfo": 1}


def test_conversions_and_resources_are_documents(tmp_path: Path) -> None:
    wet = block("Grüße aus dem Archiv.".encode(), kind=b"conversion")
    resource = block(PAGE % 7, kind=b"resource", extra=b"Content-Type: text/html; charset=utf-8\r\n")
    records, _, _ = read_all(write(tmp_path, gzip.compress(wet) + gzip.compress(resource)))
    assert [r.kind for r in records] == ["text", "html"]
    assert records[0].content == "Grüße aus dem Archiv.".encode()
    assert records[1].content == PAGE % 7


def test_a_plain_file_under_a_compressed_name_is_read(tmp_path: Path) -> None:
    for name in ("a.warc.gz", "a.warc.zst"):
        path = write(tmp_path, block(http(bytes(range(256)) * 9)) + b"".join(PAGES), name)
        records, unreadable, _ = read_all(path)
        assert numbers(records[1:]) == [0, 1, 2, 3, 4, 5] and not unreadable
        assert fetch(path, records[5].offset, records[5].length) == PAGES[4].rstrip(b"\r\n")


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz", "a.warc.zst", "whole.warc.gz", "whole.warc.zst", "no-suffix"])
def test_any_compression_gives_the_same_records_and_each_can_be_fetched(tmp_path: Path, name: str) -> None:
    whole = b"".join(PAGES)
    data = {
        "a.warc": whole,
        "a.warc.gz": b"".join(MEMBERS),
        "a.warc.zst": b"".join(zstd(p) for p in PAGES),
        "whole.warc.gz": gzip.compress(whole),
        "whole.warc.zst": zstd(whole),
        "no-suffix": b"".join(MEMBERS),
    }[name]
    path = write(tmp_path, data, name)
    records, unreadable, _ = read_all(path)
    assert numbers(records) == [0, 1, 2, 3, 4, 5] and not unreadable
    assert len({r.offset for r in records}) == 6
    for number in random.Random(1).sample(range(6), 6):
        assert fetch(path, records[number].offset, records[number].length) == PAGES[number].rstrip(b"\r\n")


def test_a_range_of_the_stored_file_is_enough_to_fetch_a_record(tmp_path: Path) -> None:
    whole = write(tmp_path, b"".join(MEMBERS))
    record = read_all(whole)[0][4]
    part = whole.read_bytes()[record.offset : record.offset + record.length]
    assert gzip.decompress(part) == PAGES[4]


def test_fetching_from_a_wrong_place_is_an_input_error(tmp_path: Path) -> None:
    path = write(tmp_path, b"".join(MEMBERS))
    for offset in (5, OFFSETS[-1], 3 << 40):
        with pytest.raises(InputError):
            fetch(path, offset, 100)


def test_zstd_with_a_dictionary_in_the_first_frame(tmp_path: Path) -> None:
    from fastwarc.stream_io import zstd_train_dictionary_from_samples

    raw = zstd_train_dictionary_from_samples([page(i) for i in range(100, 600)], 4000)
    for stored in (raw, zstd(raw)):
        first = b"\x5d\x2a\x4d\x18" + len(stored).to_bytes(4, "little") + stored
        path = write(tmp_path, first + b"".join(zstd(p, raw) for p in PAGES), "a.warc.zst")
        records, unreadable, _ = read_all(path)
        assert numbers(records) == [0, 1, 2, 3, 4, 5] and not unreadable
        assert fetch(path, records[5].offset, records[5].length) == PAGES[5].rstrip(b"\r\n")


def test_headers_with_bare_line_feeds_and_missing_last_blank_lines(tmp_path: Path) -> None:
    bare = page(1).replace(b"\r\n", b"\n").replace(b"Content-Length: ", b"Content-Length:  ")
    size = len(http(PAGE % 1).replace(b"\r\n", b"\n"))
    bare = bare.replace(b"%d" % len(http(PAGE % 1)), b"%d" % size, 1)
    records, unreadable, _ = read_all(write(tmp_path, b"".join(members([bare, page(2).rstrip(b"\r\n")]))))
    assert numbers(records) == [1, 2] and not unreadable
    assert [r.content for r in records] == [PAGE % 1, PAGE % 2]


# ── damaged files ─────────────────────────────────────────────────────────────────────────────────────────────────


def damaged(kind: str) -> tuple[bytes, int, int, list[int]]:
    """Return (file, start and end of the damaged region, pages that are intact) with page 2 damaged, or something before it."""
    before, after, middle = b"".join(MEMBERS[:2]), b"".join(MEMBERS[3:]), MEMBERS[2]
    half = len(middle) // 2
    bad = {
        "cut off": middle[:-30],
        "flipped byte": middle[:half] + bytes([middle[half] ^ 0xFF]) + middle[half + 1 :],
        "wrong checksum": middle[:-8] + b"\1\2\3\4" + middle[-4:],
        "overwritten with zeros": bytes(len(middle)),
        "magic overwritten": b"\0\0\0" + middle[3:],
        "length too large": gzip.compress(page(2, length=b"99999")),
        "length too small": gzip.compress(page(2, length=b"60")),
        "length not a number": gzip.compress(page(2, length=b"many")),
        "length negative": gzip.compress(page(2, length=b"-5")),
        "not WARC": gzip.compress(b"<html>something else</html>" * 20),
        "endless header": gzip.compress(b"WARC/1.0\r\nX: " + random.Random(2).randbytes(100_000).hex().encode()),
    }
    if kind in bad:
        return before + bad[kind] + after, len(before), len(before) + len(bad[kind]), [0, 1, 3, 4, 5]
    garbage = b"\x1f\x8bnot a member at all" * 9
    return before + garbage + middle + after, len(before), len(before) + len(garbage), [0, 1, 2, 3, 4, 5]


KINDS = [
    "cut off", "flipped byte", "wrong checksum", "overwritten with zeros", "magic overwritten", "length too large", "length too small",
    "length not a number", "length negative", "not WARC", "endless header", "garbage between members",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_damage_costs_only_what_it_hit(tmp_path: Path, kind: str) -> None:
    data, start, end, intact = damaged(kind)
    path = write(tmp_path, data)
    records, unreadable, _ = read_all(path)
    assert numbers(records) == intact
    assert [(u.offset, u.offset + u.length) for u in unreadable] == [(start, end)]
    for record in records:
        assert fetch(path, record.offset, record.length).endswith(bytes(record.content))


@pytest.mark.parametrize("cut", [1, 8, 9, 40, 190])
def test_a_file_that_breaks_off_in_its_last_member(tmp_path: Path, cut: int) -> None:
    records, unreadable, _ = read_all(write(tmp_path, b"".join(MEMBERS)[:-cut]))
    assert numbers(records) == [0, 1, 2, 3, 4]
    assert [(u.offset, u.length) for u in unreadable] == [(OFFSETS[5], len(MEMBERS[5]) - cut)]
    assert unreadable[0].error == "gzip member is cut off"


@pytest.mark.parametrize("length", [b"99999", b"60", b"x"])
def test_a_wrong_length_in_a_plain_file_costs_one_record(tmp_path: Path, length: bytes) -> None:
    bad = page(2, length=length)
    records, unreadable, _ = read_all(write(tmp_path, b"".join([*PAGES[:2], bad, *PAGES[3:]]), "a.warc"))
    assert numbers(records) == [0, 1, 3, 4, 5]
    assert [(u.offset, u.length) for u in unreadable] == [(len(PAGES[0] + PAGES[1]), len(bad))]


def test_a_length_that_reaches_exactly_over_the_next_record_swallows_nothing(tmp_path: Path) -> None:
    inside = len(http(PAGE % 2)) + 4 + len(PAGES[3]) - 40
    records, unreadable, _ = read_all(write(tmp_path, b"".join([PAGES[1], page(2, length=b"%d" % inside), *PAGES[3:]]), "a.warc"))
    assert numbers(records) == [1, 3, 4, 5] and len(unreadable) == 1


@pytest.mark.parametrize("fill", [b"\xff", b" ", b"\n", b"\xe9t\xe9 "])
@pytest.mark.parametrize("name", ["a.warc.gz", "a.warc.zst"])
def test_a_file_whose_start_was_overwritten_keeps_its_other_members(tmp_path: Path, name: str, fill: bytes) -> None:
    pages = [page(i) for i in range(4)]
    stored = [zstd(one) for one in pages] if name.endswith("zst") else members(pages)
    noise = (fill * 8192)[:8192]
    records, unreadable, _ = read_all(write(tmp_path, noise + b"".join(stored), name))
    assert numbers(records) == [0, 1, 2, 3]
    assert [item.stored for item in unreadable] == [len(noise)]


@pytest.mark.parametrize("cut", range(4))
def test_text_under_a_compressed_name_is_text_wherever_the_first_look_ends(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path, b"x" * (4096 - cut) + "\N{GRINNING FACE} and more".encode(), "a.txt.gz")
    with path.open("rb") as file:
        assert open_stored(file, path).codec == PLAIN


def test_a_member_with_many_records_keeps_those_before_the_damage(tmp_path: Path) -> None:
    pages = [block(http(PAGE % i + random.Random(i).randbytes(300).hex().encode()), url=b"http://e/%d" % i) for i in range(400)]
    whole = gzip.compress(b"".join(pages))
    bad = whole[: len(whole) // 2] + b"\xff" * 40 + whole[len(whole) // 2 + 40 :]
    path = write(tmp_path, bad + MEMBERS[5])
    records, unreadable, _ = read_all(path)
    found = numbers(records)
    assert found == [*range(len(found) - 1), 5] and 150 < len(found) < 260
    assert len(unreadable) == 1 and unreadable[0].length == len(whole)
    assert len({r.offset for r in records} | {unreadable[0].offset}) == len(records) + 1
    assert fetch(path, records[100].offset, records[100].length) == pages[100].rstrip(b"\r\n")


def test_damaged_regions_tell_how_many_stored_bytes_they_take(tmp_path: Path) -> None:
    def lost(data: bytes, name: str) -> list[tuple[int | None, int]]:
        return [(u.documents, u.stored) for u in read_all(write(tmp_path, data, name))[1]]

    assert lost(b"".join([*MEMBERS[:2], bytes(5000), *MEMBERS[2:]]), "a.warc.gz") == [(None, 5000)]
    assert lost(b"".join([*PAGES[:2], b"x" * 5000, *PAGES[2:]]), "a.warc") == [(None, 5000)]
    ((documents, stored),) = lost(gzip.compress(b"".join([*PAGES[:2], random.Random(1).randbytes(9000), *PAGES[2:]])), "a.warc.gz")
    assert documents is None and 7000 < stored < 10_000
    whole = gzip.compress(b"".join(block(http(PAGE % i + random.Random(i).randbytes(200).hex().encode())) for i in range(4000)))
    found = lost(whole[: len(whole) // 2] + b"\xff" * 40 + whole[len(whole) // 2 + 40 :], "a.warc.gz")
    assert 0.3 < sum(stored for _, stored in found) / len(whole) < 0.6  # a rate is all that is known inside of a member
    ((documents, stored),) = lost(whole[: len(whole) // 2], "a.warc.gz")
    assert documents is None and stored < len(whole) // 100  # what is missing is in no file


def test_damaged_zstd_frames(tmp_path: Path) -> None:
    frames = [zstd(p) for p in PAGES]
    bad = frames[2][:40] + bytes([frames[2][40] ^ 0xFF]) + frames[2][41:]
    records, unreadable, _ = read_all(write(tmp_path, b"".join([*frames[:2], bad, *frames[3:5], frames[5][:-9]]), "a.warc.zst"))
    assert numbers(records) == [0, 1, 3, 4] and len(unreadable) == 2
    garbage = b"".join([*frames[:2], b"garbage!" * 5, *frames[2:]])
    records, unreadable, _ = read_all(write(tmp_path, garbage, "b.warc.zst"))
    assert numbers(records) == [0, 1, 2, 3, 4, 5] and [u.length for u in unreadable] == [40]


@pytest.mark.parametrize(("data", "name"), [(b"", "a.warc.gz"), (b"hello " * 999, "a.warc"), (b"hello " * 999, "a.warc.gz"), (bytes(9999), "a.warc")])
def test_a_file_that_is_no_warc_is_one_unreadable_region(tmp_path: Path, data: bytes, name: str) -> None:
    records, unreadable, _ = read_all(write(tmp_path, data, name))
    assert not records and [(u.offset, u.length) for u in unreadable] == [(0, len(data))]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_damage_raises_and_all_untouched_members_are_read(tmp_path: Path, data: st.DataObject) -> None:
    stored = bytearray(b"".join(MEMBERS))
    touched = set()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(stored) - 1))
        stored[at] ^= data.draw(st.integers(1, 255))
        touched.add(max(i for i in range(6) if OFFSETS[i] <= at))
    records, unreadable, skipped = read_all(write(tmp_path, bytes(stored)))
    assert set(range(6)) - touched <= set(numbers(records))
    assert len(records) + sum(skipped.values()) + len(unreadable) >= 1
    places = [r.offset for r in records] + [u.offset for u in unreadable]
    assert len(set(places)) == len(places)
    for record in records:
        assert PAGES[numbers([record])[0]].rstrip(b"\r\n").endswith(bytes(record.content))


# Any bytes but the beginning of a skippable zstd frame, which is no noise: it says that what follows is to be skipped.
NOISE = st.binary(max_size=300).filter(lambda noise: b"\x2a\x4d" not in noise and noise[:2] not in (b"\x1f\x8b", b"\x28\xb5"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NOISE, st.sampled_from(["a.warc", "a.warc.gz", "a.warc.zst"]), st.integers(0, 3))
def test_arbitrary_bytes_are_accounted_for(tmp_path: Path, noise: bytes, name: str, at: int) -> None:
    packed = [{"a.warc": lambda p: p, "a.warc.gz": gzip.compress, "a.warc.zst": zstd}[name](p) for p in PAGES[:3]]
    items = list(read(write(tmp_path, b"".join([*packed[:at], noise, *packed[at:]]), name), WARC))
    assert numbers([i for i in items if isinstance(i, Record)]) == [0, 1, 2]
    lost = sum(i.length for i in items if isinstance(i, Unreadable))
    assert lost <= len(noise) and (lost > 0 or not noise.strip(b"\r\n") or name.endswith("zst"))
    assert all(isinstance(i, Record | Unreadable | Skipped) for i in items)


# ── size ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_memory_stays_flat(tmp_path: Path) -> None:
    huge = page(1, length=b"%d" % (120 << 20)).split(b"\r\n\r\n")[0] + b"\r\n\r\n" + http(b"")
    with gzip.open(tmp_path / "a.warc.gz", "wb", compresslevel=1) as file:
        for _ in range(40):
            file.write(block(http(b"<p>" + bytes(1 << 20)), url=b"http://e/0"))
        file.write(huge)
        for _ in range(120):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    for item in read(tmp_path / "a.warc.gz", WARC):
        del item
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 << 20


def test_a_page_over_the_limit_is_told_without_its_content(tmp_path: Path) -> None:
    from curate.specs.workflow import Extract, Ingest

    options = Ingest(warc="x", extract=Extract(max_bytes=1000))
    large = block(http(b"<p>" + b"x" * 2000), url=b"http://e/1")
    larger = block(http(b"<p>" + b"x" * (3 << 20)), url=b"http://e/2")
    bomb = block(http(gzip.compress(b"<p>" + b"x" * 5000), b"Content-Type: text/html\r\nContent-Encoding: gzip\r\n"), url=b"http://e/3")
    records, unreadable, _ = read_all(write(tmp_path, b"".join(members([large, larger, bomb, PAGES[4]]))), options)
    assert [r.dropped for r in records] == ["page_too_large"] * 3 + [""] and not unreadable
    assert all(r.content == b"" for r in records[:3])
