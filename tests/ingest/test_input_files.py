"""Patterns → files with stable names, and plain files."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.errors import SpecError
from curate.ingest.read import input_files, read
from curate.ingest.record import Record, Unreadable
from curate.specs.workflow import Ingest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("b.txt", "a.txt", "sub/c.txt", "sub/deep/d.txt", "sub/e.md", "odd [1].txt", "other/a.txt"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("in/*.txt", ["a.txt", "b.txt", "odd [1].txt"]),
        ("in/**/*.txt", ["a.txt", "b.txt", "odd [1].txt", "other/a.txt", "sub/c.txt", "sub/deep/d.txt"]),
        ("in/s*/**/*", ["sub/c.txt", "sub/deep/d.txt", "sub/e.md"]),
        ("in/sub/c.txt", ["c.txt"]),
        ("in/odd [1].txt", ["odd [1].txt"]),
        ("in/../in/a.txt", ["a.txt"]),
        (["in/sub/*.txt", "in/**/c.*"], ["c.txt"]),
        (["in/b.txt", "in/a.txt"], ["a.txt", "b.txt"]),
    ],
)
def test_names_are_relative_to_the_part_without_wildcards(root: Path, pattern: str | list[str], names: list[str]) -> None:
    found = input_files(pattern, root)
    assert [name for _, name in found] == names
    assert all(path.is_absolute() and path.is_file() for path, _ in found)


def test_absolute_patterns_and_a_moved_root_give_the_same_names(root: Path, tmp_path: Path) -> None:
    assert input_files(str(root / "in/**/*.txt"), Path("/")) == input_files("in/**/*.txt", root)
    assert [n for _, n in input_files("**/*.txt", root / "in")] == [n for _, n in input_files("in/**/*.txt", root)]


def test_nothing_found_is_an_error_before_anything_runs(root: Path) -> None:
    with pytest.raises(SpecError, match=r"no file matches 'in/\*\.pdf'"):
        input_files(["in/*.txt", "in/*.pdf"], root)
    with pytest.raises(SpecError, match="write FOLDER"):
        input_files("in", root)


def test_two_files_of_one_name_are_an_error(root: Path) -> None:
    with pytest.raises(SpecError, match=r"same name 'a\.txt'"):
        input_files(["in/a.txt", "in/other/a.txt"], root)


def read_file(path: Path, data: bytes) -> Record | Unreadable:
    path.write_bytes(data)
    (found,) = read("files", path, Ingest(files="x"))
    assert isinstance(found, Record | Unreadable)
    return found


def test_a_file_is_one_document(tmp_path: Path) -> None:
    found = read_file(tmp_path / "a.py", "print('größer')\n".encode())
    assert isinstance(found, Record)
    assert (found.content, found.offset, found.length, found.url, found.meta) == ("print('größer')\n", 0, 18, None, {})


def test_bad_bytes_are_counted_and_binaries_refused(tmp_path: Path) -> None:
    found = read_file(tmp_path / "a.txt", b"caf\xe9 au lait")
    assert isinstance(found, Record)
    assert (found.content, found.meta) == ("caf\ufffd au lait", {"replaced_bytes": 1})
    assert read_file(tmp_path / "b.txt", b"ELF\0" * 100) == Unreadable(0, 400, "binary file")
