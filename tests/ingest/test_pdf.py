import json
from pathlib import Path

import pymupdf
import pytest

from curate.errors import SpecError
from curate.ingest.pdf import iso_date, read
from curate.ingest.record import Record, Unreadable
from curate.specs.load import load_spec, resolved
from curate.specs.ocr import Limits, Ocr

SHIPPED = Path(__file__).parents[2] / "ocr" / "default.yaml"
TEXT = "The committee met in the spring to consider how the old library should be repaired, and agreed to ask a builder for an opinion."


def write_pdf(path, *pages):
    document = pymupdf.open()
    for text in pages:
        document.new_page().insert_textbox((60, 150, 535, 700), text, fontsize=11)
    document.set_metadata({"title": "Minutes", "creationDate": "D:20250130152056+01'00'"})
    document.save(path)
    return path


def test_a_pdf_is_one_record_with_the_provenance_of_its_pages(tmp_path):
    path = write_pdf(tmp_path / "minutes.pdf", TEXT, "The second page. " + TEXT)
    (record,) = read(path, Ocr(engine="none"))
    assert isinstance(record, Record)
    assert record.content == f"{TEXT}\n\nThe second page. {TEXT}"
    assert (record.kind, record.offset, record.length, record.size) == ("pdf", 0, path.stat().st_size, path.stat().st_size)
    assert record.date == "2025-01-30T15:20:56+01:00"
    assert record.meta["pdf"]["title"] == "Minutes"
    assert [(page["route"], page["reasons"]) for page in record.meta["pages"]] == [("text", ["sound_text_layer"])] * 2
    json.dumps(record.meta)


def test_the_same_pdf_gives_the_same_record_whatever_was_read_before(tmp_path):
    path = write_pdf(tmp_path / "minutes.pdf", TEXT)
    before = list(read(path, Ocr(engine="none")))
    (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.7 nothing")
    assert isinstance(next(read(tmp_path / "bad.pdf", Ocr(engine="none"))), Unreadable)
    assert list(read(path, Ocr(engine="none"))) == before


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"", "empty file"), (b"<html>" + b" " * 2000, "not a PDF"), (b"%PDF-1.7 nothing", "broken: ")],
    ids=["empty", "html", "broken"],
)
def test_what_cannot_be_read_is_reported_with_its_size(tmp_path, data, error):
    path = tmp_path / "file.pdf"
    path.write_bytes(data)
    (found,) = read(path, Ocr(engine="none"))
    assert isinstance(found, Unreadable)
    assert found.error.startswith(error)
    assert (found.offset, found.length) == (0, len(data))


def test_an_enormous_file_is_reported_and_a_missing_one_is_no_fault_of_its_own(tmp_path):
    with pytest.raises(FileNotFoundError):  # moved for a moment, or its volume is: nothing to be quarantined for ever
        list(read(tmp_path / "missing.pdf", Ocr(engine="none")))
    with (tmp_path / "huge.pdf").open("wb") as file:
        file.truncate(129 * 2**20)
    (huge,) = read(tmp_path / "huge.pdf", Ocr(engine="none", limits=Limits(max_megabytes=128)))
    assert huge == Unreadable(0, 129 * 2**20, "larger than max_megabytes")


@pytest.mark.parametrize(
    ("written", "date"),
    [
        ("D:20250130152056+01'00'", "2025-01-30T15:20:56+01:00"),
        ("D:20240913201611Z00'00'", "2024-09-13T20:16:11Z"),
        ("20150721144805-05'00'", "2015-07-21T14:48:05-05:00"),
        ("D:20240913", "2024-09-13"),
        ("D:202409", "2024-09"),
        ("D:1999", "1999"),
        ("D:20241399", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_dates_are_written_as_iso_8601(written, date):
    assert iso_date(written) == date


def test_the_shipped_spec_sets_every_field_and_sets_it_to_the_default():
    shipped = load_spec(SHIPPED, Ocr)
    assert resolved(shipped) == resolved(Ocr())
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    written = {line.strip().split(":")[0] for line in lines if line.strip() and not line.startswith("#")}
    fields = {*Ocr.__struct_fields__, *Ocr().limits.__struct_fields__, *Ocr().route.__struct_fields__}
    assert written == fields
    assert all("#" in line for line in lines if line.startswith("  "))


@pytest.mark.parametrize("line", ["engine: abbyy", "dpi: 5000", "limits: {max_page: 3}", "route: {min_letter_bits: 2}", "languages: [../../x]"])
def test_a_wrong_ocr_spec_is_refused(tmp_path, line):
    path = tmp_path / "mine.yaml"
    path.write_text(line)
    with pytest.raises(SpecError):
        load_spec(path, Ocr)
