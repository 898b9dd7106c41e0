"""The quickstart's input as a whole: the same bytes each time, and everything planted where the summary says."""

from __future__ import annotations

import gzip
import hashlib
import html
import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curate.errors import InputError
from curate.quickstart import write

SCALE = 0.04


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("quickstart")
    return folder, write(folder, seed=3, scale=SCALE)


def rows(path: Path) -> list[dict[str, str]]:
    data = path.read_bytes()
    return [json.loads(line) for line in (gzip.decompress(data) if path.suffix == ".gz" else data).decode().splitlines()]


def gzip_members(data: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield each gzip member's content and whether it is whole, going on at the next magic number after a broken one."""
    position = 0
    while position >= 0 and position < len(data):
        reader, content, whole = zlib.decompressobj(31), b"", False
        try:
            content, whole = reader.decompress(data[position:]), reader.eof
        except zlib.error:
            content = b""
        yield content, whole
        position = len(data) - len(reader.unused_data) if whole else data.find(b"\x1f\x8b\x08", position + 1)


def responses(folder: Path) -> dict[str, tuple[bytes, bytes]]:
    """Return the HTTP head and body of every whole response by its address, read without any WARC library."""
    found = {}
    for path in sorted((folder / "web").glob("*.warc.gz")):
        for content, whole in gzip_members(path.read_bytes()):
            head, _, block = content.partition(b"\r\n\r\n")
            if whole and b"WARC-Type: response" in head:
                length = int(re.search(rb"\nContent-Length: (\d+)", head)[1])
                http, _, body = block[:length].partition(b"\r\n\r\n")
                found[re.search(rb"WARC-Target-URI: (\S+)", head)[1].decode()] = (http, body)
    return found


def shown(page: bytes) -> str:
    """Return what a page shows, roughly, with white space normalized."""
    text = re.sub(r"<(script|style).*?</\1>", " ", page.decode("utf-8", "replace"), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_same_seed_gives_same_bytes_in_another_process(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, summary = made
    program = f"from curate.quickstart import write; write({str(tmp_path)!r}, seed=3, scale={SCALE})"
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONHASHSEED": "7", "LC_ALL": "C", "TZ": "Asia/Tokyo"})
    written = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    again = {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert [name for name in written if written[name] != again.get(name)] == []
    assert sorted(written) == sorted(again) == sorted(["summary.json", *summary["files"]])


def test_summary_names_every_file_with_its_checksum(made: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = made
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in summary["files"]} == summary["files"]
    assert {name.partition("/")[0] for name in summary["files"]} == {"web", "papers", "code", "math", "benchmarks", "evals", "labels"}


def test_archives_have_request_response_and_metadata_and_are_damaged_where_said(made: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = made
    damaged = {d["kind"]: d["url"] for d in summary["web"]["damaged"]}
    read = responses(folder)
    assert set(damaged) == {"truncated_member", "cut_off_end"}
    assert len(read) == summary["web"]["responses"] - 2
    assert not set(damaged.values()) & set(read)
    kinds = [re.search(rb"WARC-Type: (\w+)", c)[1] for c, whole in gzip_members((folder / "web/pages-00000.warc.gz").read_bytes()) if whole]
    assert kinds == [b"warcinfo", *[b"request", b"response", b"metadata"] * ((len(kinds) - 1) // 3)]
    states = [whole for _, whole in gzip_members((folder / "web/pages-00001.warc.gz").read_bytes())]
    assert states.count(False) == 1
    assert states[-1]  # good members follow the broken one
    assert [whole for _, whole in gzip_members((folder / "web/pages-00003.warc.gz").read_bytes())][-1] is False


def test_fastwarc_reads_the_undamaged_files_with_valid_digests(made: tuple[Path, dict[str, Any]]) -> None:
    warc = pytest.importorskip("fastwarc.warc")
    folder, _ = made
    mine = responses(folder)
    for number in (0, 2):
        path = folder / f"web/pages-{number:05d}.warc.gz"
        found = {}
        for record in warc.ArchiveIterator(str(path), record_types=warc.WarcRecordType.response, verify_digests=True):
            found[record.headers["WARC-Target-URI"]] = record.reader.read()
        assert found
        assert all(body == mine[url][1] for url, body in found.items())
        assert len(found) == sum(b"WARC-Type: response" in content for content, _ in gzip_members(path.read_bytes()))


def test_defects_are_where_the_summary_says(made: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = made
    kinds, pages = summary["web"]["kinds"], responses(folder)

    def of(kind: str) -> list[tuple[bytes, bytes]]:
        return [pages[url] for url in kinds[kind] if url in pages]

    for status in (301, 403, 404, 500):
        assert all(head.startswith(b"HTTP/1.1 %d" % status) for head, _ in of(f"http_{status}"))
    assert all(b"noai" in body for _, body in of("noai_meta"))
    assert all(b"X-Robots-Tag: noai" in head for head, _ in of("noai_header"))
    assert all(
        b"<script>alert(1)</script>" in html.unescape(body.decode()).encode() and b"<script>alert(1)" not in body for _, body in of("script_text")
    )
    assert all(not body.strip() for _, body in of("empty_body"))
    assert all("lorem ipsum" in shown(body).lower() for _, body in of("lorem_ipsum"))
    assert all(len(shown(body).split()) < 40 for _, body in of("short"))
    assert any(re.search("[ÃÂâ][\x80-\xbf]", body.decode()) for _, body in of("mojibake"))
    assert any(b"\nContent-Type: image/png" in head and body.startswith(b"\x89PNG") for head, body in of("not_html"))
    for head, body in of("legacy_charset"):
        name = re.search(rb"charset=([\w-]+)", head)[1].decode()
        assert body.decode(name).count("<p>") >= 3
    wrong = [(head, body) for head, body in of("wrong_charset") if b"charset=utf-8" in head]
    assert all(body != body.decode("utf-8", "replace").encode() for _, body in wrong)


def test_exact_copies_have_the_bytes_of_a_page_at_another_address(made: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = made
    pages = responses(folder)
    pairs = [(url, url.partition("?")[0]) for url in summary["web"]["kinds"]["exact_copy"]]
    both = [(copy, original) for copy, original in pairs if copy in pages and original in pages]
    assert both
    assert all(pages[copy][1] == pages[original][1] for copy, original in both)


def test_near_copies_share_most_five_grams_with_their_original_but_not_all(made: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = made
    pages = {url: body for url, (_, body) in responses(folder).items()}

    def grams(url: str) -> set[tuple[str, ...]]:
        words = " ".join(re.findall(r"<(?:p|pre|li|h\d)>(.*?)</(?:p|pre|li|h\d)>", pages[url].decode(), re.DOTALL | re.IGNORECASE)).split()
        return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}

    similar = []
    for url in set(summary["web"]["kinds"]["near_copy"]) & set(pages):
        path = url.removeprefix("https://mirror.example.edu/pub/")
        for original in [u for u in pages if u.partition("://")[2].partition("/")[2] == path]:
            a, b = grams(url), grams(original)
            similar.append(len(a & b) / len(a | b))
    assert similar
    assert all(0.6 < share < 1 for share in similar)


def test_leaked_items_are_on_their_pages_and_nowhere_else(made: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = made
    pages = {url: shown(body) for url, (_, body) in responses(folder).items()}
    items = {row["id"]: row for row in rows(folder / "benchmarks/word_problems.jsonl")}
    leaks = [leak for leak in summary["web"]["leaks"] if leak["url"] in pages]
    assert {leak["change"] for leak in summary["web"]["leaks"]} == {"verbatim", "question_only", "numbers_changed", "markup"}
    for leak in leaks:
        question, steps = items[leak["item"]]["question"], items[leak["item"]]["answer"].partition("\n####")[0]
        text = pages[leak["url"]]
        if leak["change"] == "numbers_changed":
            assert question not in text
            assert re.search(re.sub(r"\d+", r"\\d+", re.escape(question)), text)
        else:
            squeezed = text.replace(" ", "")
            assert question.replace(" ", "") in squeezed
            assert (steps.replace(" ", "") in squeezed) == (leak["change"] != "question_only")
    leaking = {leak["url"] for leak in leaks}
    assert not [url for url, text in pages.items() if url not in leaking and any(row["question"] in text for row in items.values())]


def test_suites_share_no_sentence_with_pages_and_no_definition_with_code(made: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = made
    web = " ".join(shown(body) for _, body in responses(folder).values())
    suite = [row["text"] for row in rows(folder / "evals/docs.jsonl")]
    assert all(500 <= len(text) <= 3000 for text in suite)
    paragraphs = [" ".join(p.split()) for text in suite for p in text.split("\n\n")]
    assert [p for p in paragraphs if len(p) >= 100 and p in web] == []
    sources = rows(folder / "code/stdlib-0.jsonl.gz") + rows(folder / "code/stdlib-1.jsonl.gz")
    code = [row["text"] for row in rows(folder / "evals/code.jsonl")]
    assert code
    assert not [text for text in code if any(text.strip() in source["text"] for source in sources)]
    assert all(source["license"] == "PSF-2.0" and source["path"].endswith(".py") for source in sources)


def test_math_suite_is_the_benchmark_in_the_layout_of_the_training_problems(made: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = made
    suite, items = rows(folder / "evals/math.jsonl"), rows(folder / "benchmarks/word_problems.jsonl")
    assert [f"Question: {i['question']}\nAnswer: {i['answer']}" for i in items] == [row["context"] + row["continuation"] for row in suite]
    training = rows(folder / "math/problems.jsonl.gz")
    assert all(re.fullmatch(r"Question: .+\nAnswer: .+\n#### \d+", row["text"]) for row in training)
    assert len(training) > len({row["text"] for row in training})  # a few repeat another one


def test_labels_are_balanced_and_distinct(made: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = made
    labels = rows(folder / "labels/quality.jsonl")
    assert len({row["text"] for row in labels}) == len(labels)
    assert sum(row["label"] == "good" for row in labels) >= len(labels) * 0.4
    assert {row["label"] for row in labels} == {"good", "bad"}


def library_of(folder: Path, packages: int) -> Path:
    for number in range(packages):
        body = f'"""Module {number}.\n\nIt says something about number {number}, in a sentence that is long enough to be prose."""\n\n\n'
        body += f"def work_{number}(value):\n"
        body += f'    """Return the value {number} times, and explain at length why that is what one wants."""\n    return {number} * value\n'
        (folder / f"module{number}.py").write_text(body)
    (folder / "broken.py").write_text("def broken(:\n")
    (folder / "binary.py").write_bytes(b"\xff\xfe\x00")
    return folder


def test_library_of_few_modules_that_say_little_is_enough(tmp_path: Path) -> None:
    library, target = tmp_path / "library", tmp_path / "input"
    library.mkdir()
    summary: Any = write(target, scale=0.01, library=library_of(library, 14))
    assert len(summary["web"]["kinds"]) > 25
    assert rows(target / "labels/quality.jsonl")
    assert len(responses(target)) == summary["web"]["responses"] - 2


def test_library_with_too_few_modules_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="usable modules") as error:
        write(tmp_path / "input", library=library_of(tmp_path, 2))
    assert error.value.hint
    assert not (tmp_path / "input").exists()


def test_scale_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="scale"):
        write(tmp_path, scale=0)


def test_files_of_an_earlier_call_are_removed_and_others_kept(tmp_path: Path) -> None:
    library, target, outside = tmp_path / "library", tmp_path / "input", tmp_path / "outside.txt"
    library.mkdir()
    library_of(library, 14)
    (target / "papers").mkdir(parents=True)
    for path in (outside, target / "papers/paper-99.pdf", target / "papers/mine.pdf"):
        path.write_text("text")
    (target / "summary.json").write_text(json.dumps({"files": {"papers/paper-99.pdf": "", "../outside.txt": ""}}))
    write(target, scale=0.01, library=library)
    assert outside.exists()
    assert (target / "papers/mine.pdf").exists()
    assert not (target / "papers/paper-99.pdf").exists()
