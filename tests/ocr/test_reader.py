import os
import signal
import subprocess
import sys
import textwrap
import time
import zlib

import pymupdf
import pytest
from pdf_files import PROSE, destroyed_pdf, encrypted, hostile_pdf, page_pdf, scan_pdf, shift, text_pdf

from curate.corpus import Corpus
from curate.engine import Context, Local
from curate.errors import CurateError, MissingExtra
from curate.ocr import messages
from curate.ocr import reader as reading
from curate.ocr.reader import PdfReader
from curate.specs.ocr import Limits, Ocr
from curate.workflow import Run

TEXT_ONLY = Ocr(engine="none", limits=Limits(max_page_seconds=1, max_megabytes=400))


@pytest.fixture(scope="module")
def reader():
    with PdfReader() as one:
        yield one


def routes(result):
    return [(page["route"], page["reasons"]) for page in result.pages]


def test_a_text_layer_is_read_and_every_page_says_where_it_came_from(reader):
    result = reader.read(text_pdf(PROSE, "A second page. " + PROSE), TEXT_ONLY)
    assert result.error is None
    assert [page["page"] for page in result.pages] == [1, 2]
    assert routes(result) == [("text", ["sound_text_layer"])] * 2
    spans = [result.text[page["start"] : page["end"]] for page in result.pages]
    assert spans == [PROSE, "A second page. " + PROSE]
    assert "\n\n".join(spans) == result.text
    assert result.pages[0]["engine"] == "pymupdf"
    assert result.metadata["pages"] == 2
    assert not result.metadata["repaired"]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "empty file"),
        (b"<!doctype html><title>404</title>" + b"<p>not here</p>" * 200, "not a PDF"),
        (b"%PDF-1.4 and nothing else", "broken: "),
        (encrypted(text_pdf(PROSE), "secret"), "encrypted"),
    ],
    ids=["empty", "html", "broken", "encrypted"],
)
def test_what_cannot_be_opened_is_an_error_and_the_next_is_read(reader, data, error):
    result = reader.read(data, TEXT_ONLY)
    assert result.error is not None
    assert result.error.startswith(error)
    assert (result.text, result.pages) == ("", [])
    assert reader.read(text_pdf(PROSE), TEXT_ONLY).text == PROSE


def test_an_empty_password_opens(reader):
    result = reader.read(encrypted(text_pdf(PROSE), ""), TEXT_ONLY)
    assert (result.text, result.metadata["encrypted"]) == (PROSE, True)


def test_a_truncated_file_is_repaired_and_says_so(reader):
    whole = text_pdf(PROSE, PROSE)
    result = reader.read(whole[: whole.rindex(b"xref")], TEXT_ONLY)
    assert result.error is None
    assert result.metadata["repaired"]
    assert PROSE in result.text


def test_a_page_whose_content_is_destroyed_is_a_gap_and_a_blank_one_is_blank(reader):
    result = reader.read(destroyed_pdf(PROSE, PROSE, "", at=1), TEXT_ONLY)
    assert routes(result) == [("text", ["sound_text_layer"]), ("gap", ["unreadable_page"]), ("blank", ["no_ink"])]
    assert (result.text, result.error) == (PROSE, None)
    alone = reader.read(destroyed_pdf("", PROSE, at=1), TEXT_ONLY)
    assert (alone.text, alone.error) == ("", "no page could be read: unreadable_page")
    assert routes(reader.read(text_pdf(""), TEXT_ONLY)) == [("blank", ["no_ink"])]


BLANK = {
    "unknown operator": page_pdf(b"foo\n1 0 0 1 0 0 cm"),
    "bad number": page_pdf(b"1.2.3 0 0 1 0 0 cm"),
    "missing graphics state": page_pdf(b"/GS0 gs"),
    "missing color space": page_pdf(b"/CS0 cs"),
    "missing picture": page_pdf(b"/X0 Do"),
    "broken color profile": page_pdf(b"/CS0 cs 0 0 0 sc", resources=b"<</ColorSpace<</CS0[/ICCBased 4 0 R]>>>>"),
    "wrong length": page_pdf(b"q Q", stream=b"/Length 9"),
}
LOST = {
    "unknown filter": page_pdf(b"q Q", stream=b"/Filter/Nope"),
    "bad compression": page_pdf(b"q Q", stream=b"/Filter/FlateDecode"),
    "bad LZW": page_pdf(b"\xff" * 50, stream=b"/Filter/LZWDecode"),
    "cut off": page_pdf(zlib.compress(b"BT (some text) Tj ET")[:12], stream=b"/Filter/FlateDecode"),
    "noise": page_pdf(b"\xff)>>]" * 50),
    "lost picture": page_pdf(b"/X0 Do", resources=b"<</XObject<</X0 4 0 R>>>>"),
    "no content": page_pdf(b"q Q").replace(b"\n4 0 obj", b"\n9 0 obj"),
}


@pytest.mark.parametrize(("data", "route"), [*((x, "blank") for x in BLANK.values()), *((x, "gap") for x in LOST.values())], ids=[*BLANK, *LOST])
def test_a_page_that_shows_nothing_is_a_gap_only_where_content_was_lost(reader, data, route):
    assert [page["route"] for page in reader.read(data, TEXT_ONLY).pages] == [route]


def test_pages_that_a_download_has_lost_are_gaps(reader):
    whole = text_pdf(*[PROSE] * 20)
    result = reader.read(whole[: len(whole) // 2], TEXT_ONLY)
    found = [page["route"] for page in result.pages]
    assert set(found) == {"text", "gap"} and found.index("gap") == found.count("text") > 5


def test_pages_over_the_limit_are_a_gap(reader):
    result = reader.read(text_pdf(*[f"Page number {n}. {PROSE}" for n in range(40)]), Ocr(engine="none", limits=Limits(max_pages=3)))
    assert routes(result) == [("text", ["sound_text_layer"])] * 3 + [("gap", ["over_page_limit"])] * 37
    assert result.error is None
    assert "Page number 2." in result.text
    assert "Page number 3." not in result.text


def test_text_over_the_limit_is_cut_and_says_so(reader):
    result = reader.read(text_pdf(PROSE), Ocr(engine="none", limits=Limits(max_page_characters=200)))
    assert result.pages[0]["reasons"] == ["sound_text_layer", "text_cut_off"]
    assert 0 < len(result.text) <= 200


def test_a_page_that_takes_for_ever_is_a_gap_and_the_pages_after_it_are_read(reader):
    result = reader.read(hostile_pdf("fan_out", good_pages=2), TEXT_ONLY)
    assert routes(result) == [("gap", ["too_slow"])] + [("text", ["sound_text_layer"])] * 2
    assert result.text == "Sound page 2\n\nSound page 3"
    assert result.error is None


def test_a_page_that_does_not_fit_into_memory_is_an_error_and_the_next_pdf_is_read(reader):
    result = reader.read(hostile_pdf("text"), Ocr(engine="none", limits=Limits(max_page_seconds=60, max_megabytes=300)))
    assert (routes(result), result.error) == ([("gap", ["too_much_memory"])], "exceeded memory")
    assert reader.read(text_pdf(PROSE), TEXT_ONLY).text == PROSE


class Crashing(PdfReader):
    """A reader whose worker crashes whenever it has opened a PDF."""

    def receive(self, limits):
        message = super().receive(limits)
        if isinstance(message, messages.Opened):
            os.kill(self._process.pid, signal.SIGSEGV)
        return message


def test_a_crash_is_reported_with_its_signal():
    with Crashing() as reader:
        result = reader.read(hostile_pdf("fan_out"), Ocr(engine="none", limits=Limits(max_page_seconds=60)))
    assert (routes(result), result.error) == ([("gap", ["crashed"])], "crashed (signal 11)")


def test_a_pdf_whose_every_page_crashes_is_given_up(monkeypatch):
    monkeypatch.setattr(reading, "MAX_DEATHS", 2)
    document = pymupdf.open("pdf", hostile_pdf("fan_out"))
    for _ in range(2):
        document.insert_pdf(pymupdf.open("pdf", hostile_pdf("fan_out")))
    with Crashing() as reader:
        result = reader.read(document.tobytes(), Ocr(engine="none", limits=Limits(max_page_seconds=60)))
    assert routes(result) == [("gap", ["crashed"])] * 2 + [("gap", ["gave_up"])]


def test_a_worker_that_died_between_two_pdfs_is_replaced(reader):
    before = reader.read(text_pdf(PROSE), TEXT_ONLY)
    os.kill(reader._process.pid, signal.SIGKILL)
    time.sleep(0.1)
    assert reader.read(text_pdf(PROSE), TEXT_ONLY) == before


def test_the_time_limit_of_a_whole_pdf_makes_the_rest_a_gap(reader, monkeypatch):
    started = []
    send = PdfReader.send

    def late(self, request):
        started.append(request.start)
        send(self, type(request)(request.data, request.options, request.start, request.spent_seconds + 1e6))

    monkeypatch.setattr(PdfReader, "send", late)
    result = reader.read(text_pdf(PROSE, PROSE), TEXT_ONLY)
    assert started == [0]
    assert routes(result) == [("gap", ["over_time_limit"])] * 2
    assert result.error == "no page could be read: over_time_limit"


def test_without_ocr_noise_is_a_gap_and_short_text_stays(reader):
    document = pymupdf.open("pdf", text_pdf(PROSE, shift(PROSE, 1)))
    document.insert_pdf(pymupdf.open("pdf", scan_pdf("A scanned line", hidden="A scanned line")))
    document.new_page()
    result = reader.read(document.tobytes(), TEXT_ONLY)
    assert routes(result) == [
        ("text", ["sound_text_layer"]),
        ("gap", ["shifted_letters", "ocr_is_off"]),
        ("text", ["few_characters", "image_covers_page", "ocr_is_off"]),
        ("blank", ["no_ink"]),
    ]
    assert result.text == f"{PROSE}\n\nA scanned line"


def test_ocr_reads_a_scan_a_shifted_font_and_a_page_on_its_side():
    document = pymupdf.open("pdf", scan_pdf("Clear print on paper", "a second line of it"))
    shifted = pymupdf.open("pdf", document.tobytes())
    shifted[0].insert_textbox(shifted[0].rect, shift(PROSE, 1), fontsize=5, render_mode=3)
    document.insert_pdf(shifted)
    document.insert_pdf(pymupdf.open("pdf", scan_pdf("Turned on its side", turn=90, height=60)))
    with PdfReader() as reader:
        result = reader.read(document.tobytes(), Ocr())
    assert [page["route"] for page in result.pages] == ["ocr"] * 3
    assert [page["reasons"][0] for page in result.pages] == ["no_text_layer", "shifted_letters", "no_text_layer"]
    spans = [" ".join(result.text[page["start"] : page["end"]].split()) for page in result.pages]
    assert spans == ["Clear print on paper a second line of it"] * 2 + ["Turned on its side"]
    assert [page["rotation"] for page in result.pages] == [0, 0, 270]
    assert all(page["engine"] == "rapidocr" and page["confidence"] > 0.9 and page["engine_version"] for page in result.pages)


def test_an_engine_that_does_not_start_stops_the_run_and_is_no_gap_of_a_page(tmp_path, monkeypatch):
    """Such as OpenCV on a machine without libGL: once that is mended, the page must be read."""
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    document = pymupdf.open("pdf", text_pdf(PROSE))
    document.insert_pdf(pymupdf.open("pdf", scan_pdf("Clear print on paper")))
    monkeypatch.syspath_prepend(tmp_path)
    with PdfReader() as reader:
        with pytest.raises(MissingExtra, match=r"rapidocr does not start: ImportError: libGL\.so\.1") as caught:
            reader.read(document.tobytes(), Ocr())
        assert "the same command goes on" in caught.value.hint
        assert reader.read(text_pdf(PROSE), Ocr()).text == PROSE  # which needs no engine


def test_a_library_of_pdfs_that_does_not_load_stops_the_run(tmp_path, monkeypatch):
    (tmp_path / "pymupdf.py").write_text("raise ImportError('libstdc++.so.6: version not found')")
    monkeypatch.syspath_prepend(tmp_path)
    with PdfReader() as reader, pytest.raises(CurateError, match="does not start"):
        reader.read(text_pdf(PROSE), TEXT_ONLY)


def test_the_worker_ends_when_its_parent_is_killed(tmp_path):
    (tmp_path / "hostile.pdf").write_bytes(hostile_pdf("fan_out"))
    script = textwrap.dedent("""
        import sys, threading, time
        from pathlib import Path
        from curate.ocr.reader import PdfReader
        from curate.specs.ocr import Limits, Ocr
        reader = PdfReader()
        def tell():
            while reader._process is None:
                time.sleep(0.01)
            time.sleep(1)
            print(reader._process.pid, flush=True)
        threading.Thread(target=tell, daemon=True).start()
        reader.read(Path(sys.argv[1]).read_bytes(), Ocr(engine="none", limits=Limits(max_page_seconds=100)))
    """)
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "hostile.pdf")], stdout=subprocess.PIPE)
    worker = int(parent.stdout.readline())
    assert reading.resident_megabytes(worker) > 0
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while _is_running(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_running(worker)


def test_a_pdf_within_its_limits_is_no_hanging_worker(tmp_path, monkeypatch):
    """A document may take hours where a worker without a sign of life is stopped after half of one."""
    monkeypatch.setattr("curate.engine.HANG_SECONDS", 0.5)
    for folder in ("workflows", "ocr"):
        (tmp_path / folder).mkdir()
    (tmp_path / "workflows/w.yaml").write_text("name: w\nsources:\n  a:\n    - ingest: {pdf: ./../slow.pdf}\n")
    (tmp_path / "ocr/default.yaml").write_text("engine: none\nlimits: {max_page_seconds: 1}\n")
    (tmp_path / "slow.pdf").write_bytes(hostile_pdf("fan_out", good_pages=1))
    engine = Local(1, tmp_path / "logs")
    try:
        Run(tmp_path / "workflows/w.yaml", Context(engine), lambda line: None)()
    finally:
        engine.close()
    corpus = Corpus.open(tmp_path / "runs/w/a/01-ingest")
    ((shard, _),) = corpus.shards.items()
    assert [row["text"] for batch in corpus.batches(shard) for row in batch.to_pylist()] == ["Sound page 2"]


def test_the_worker_has_no_network():
    code = "import sys, socket; from curate.ocr import worker; sys.addaudithook(worker._refuse_network); socket.create_connection(('127.0.0.1', 9))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "no network" in run.stderr


def _is_running(pid):
    """A process that has ended and waits for its parent to notice is not running."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return subprocess.run(["ps", "-p", str(pid)], capture_output=True, check=False).returncode == 0 if sys.platform == "darwin" else False
