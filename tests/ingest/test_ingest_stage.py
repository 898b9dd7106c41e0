"""The ingest stage: what was read is what was fingerprinted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pymupdf
import pytest

from curate.corpus import Corpus
from curate.engine import Context, Inline, Local
from curate.errors import InputError
from curate.ingest import stage
from curate.project import Fingerprints
from curate.workflow import Run

LINES = "".join(json.dumps({"text": f"document {i}"}) + "\n" for i in range(3000))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for folder in ("workflows", "data", "ocr"):
        (tmp_path / folder).mkdir()
    (tmp_path / "workflows/w.yaml").write_text("name: w\nsources:\n  a:\n    - ingest: {jsonl: data/*.jsonl}\n")
    for name in "ab":
        (tmp_path / f"data/{name}.jsonl").write_text(LINES)
    return tmp_path


def run(project: Path, engine: Any = None) -> int:
    """Run the workflow; return how many documents came in."""
    Run(project / "workflows/w.yaml", Context(engine or Inline()), lambda line: None)()
    return Corpus.open(project / "runs/w/a/01-ingest").manifest.ledger.kept


def while_reading(monkeypatch: pytest.MonkeyPatch, name: str, change: Any, at: int = 10) -> None:
    """Call `change(path)` once, when record `at` of the file `name` has been read."""
    real, left = stage._read, [change]

    def reading(path: Path, *others: Any) -> Any:
        for i, item in enumerate(real(path, *others)):
            if path.name == name and i == at and left:
                left.pop()(path)
            yield item

    monkeypatch.setattr(stage, "_read", reading)


def shorten(path: Path) -> None:
    path.write_text("".join(LINES.splitlines(keepends=True)[:1500]))


def rewrite_and_hide_it(path: Path) -> None:
    before = path.stat()
    path.write_text(LINES.replace("document", "DOCUMENT"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    path.with_name("new").write_text(LINES + LINES)
    os.replace(path.with_name("new"), path)


@pytest.mark.parametrize("change", [shorten, rewrite_and_hide_it, replace, Path.unlink])
def test_a_file_that_changes_while_it_is_read_is_not_taken_for_what_it_was(project: Path, monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Downloaded again in place, for example: half of it is there, and in the end all of it, with the bytes that the key stands for."""
    while_reading(monkeypatch, "b.jsonl", change)
    with pytest.raises(InputError, match=r"b\.jsonl: (changed while it was read|cannot be read)") as caught:
        run(project)
    assert "run the same command again" in caught.value.hint
    done = [path.name for path in sorted((project / "runs/w/a/01-ingest/receipts").iterdir())]
    assert [name[0] for name in done] == ["a"]  # that of the other file is kept
    (project / "data/b.jsonl").write_text(LINES)
    assert run(project) == 6000


def test_a_file_that_changed_after_it_was_hashed_is_not_read(project: Path) -> None:
    class Late(Inline):
        def run(self, jobs: Any, done: Any) -> None:
            shorten(project / "data/b.jsonl")
            super().run(jobs, done)

    with pytest.raises(InputError, match=r"b\.jsonl: changed while it was read"):
        run(project, Late())
    assert run(project) == 4500


def test_a_file_that_changes_while_it_is_hashed_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(LINES)
    monkeypatch.setattr("curate.project.sha256_of", lambda path: path.write_text("half") and "the hash of something")
    with pytest.raises(InputError, match="changed while it was read"):
        Fingerprints(tmp_path / "known.json").of(file)


def test_what_was_hashed_before_a_file_that_changes_is_not_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, half = tmp_path / "whole.txt", tmp_path / "half.txt"
    whole.write_text("A text of some length.")
    half.write_text("A text of some len")
    prints = Fingerprints(tmp_path / "prints.json")
    known = prints.of(whole)
    monkeypatch.setattr("curate.project.sha256_of", lambda file: file.write_text("A text of some length.") and "x")
    with pytest.raises(InputError, match="changed while it was read"):
        prints.of(half)
    monkeypatch.setattr("curate.project.sha256_of", lambda file: "hashed again")
    assert Fingerprints(tmp_path / "prints.json").of(whole) == known
    assert Fingerprints(tmp_path / "prints.json").of(half) == "hashed again"


def test_a_file_that_was_only_touched_between_two_runs_is_not_read_again(project: Path) -> None:
    engine = Local(1, project / "logs")
    run(project, engine)
    receipts = project / "runs/w/a/01-ingest/receipts"
    before = {path: path.stat().st_mtime_ns for path in receipts.iterdir()}
    for name in "ab":
        os.utime(project / f"data/{name}.jsonl", ns=(10**18, 10**18))
    run(project, engine)
    assert {path: path.stat().st_mtime_ns for path in receipts.iterdir()} == before
    next(receipts.glob("b-*")).unlink()  # a worker that has read the plan before knows the new time too
    (project / "runs/w/a/01-ingest/manifest.json").unlink()
    assert run(project, engine) == 6000
    engine.close()


def test_a_file_that_is_replaced_by_one_of_its_size_and_time_is_read_again(project: Path) -> None:
    """As archives, package stores and reproducible builds leave them."""
    for name in "ab":
        os.utime(project / f"data/{name}.jsonl", ns=(10**18, 10**18))
    run(project)
    (project / "new").write_text(LINES.replace("document", "DOCUMENT"))
    os.utime(project / "new", ns=(10**18, 10**18))
    os.replace(project / "new", project / "data/b.jsonl")
    run(project)
    corpus = Corpus.open(project / "runs/w/a/01-ingest")
    assert sorted(next(corpus.batches(name, ["text"]))["text"][0].as_py() for name in corpus.shards) == ["DOCUMENT 0", "document 0"]


def test_a_pdf_that_is_moved_away_for_a_moment_is_not_quarantined(project: Path) -> None:
    (project / "ocr/default.yaml").write_text("engine: none\n")
    (project / "workflows/w.yaml").write_text("name: w\nsources:\n  a:\n    - ingest: {pdf: data/*.pdf}\n")
    document = pymupdf.open()
    document.new_page().insert_text((72, 72), "A line of text that a person wrote.\n" * 8)
    document.save(project / "data/z.pdf")

    class Away(Inline):
        def run(self, jobs: Any, done: Any) -> None:
            (project / "data/z.pdf").rename(project / "z.away")
            super().run(jobs, done)

    with pytest.raises(InputError, match=r"z\.pdf: cannot be read: No such file or directory"):
        run(project, Away())
    (project / "z.away").rename(project / "data/z.pdf")
    assert run(project) == 1
