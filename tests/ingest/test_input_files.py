"""Patterns → files with stable names, and plain files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from curate.errors import InputError, SpecError
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


def test_wildcards_count_in_the_pattern_and_not_in_the_folder_where_it_starts(tmp_path: Path) -> None:
    for folder in ("crawl[12]", "crawl1"):
        (tmp_path / folder / "data").mkdir(parents=True)
        (tmp_path / folder / "data/a.txt").write_text(folder)
    (tmp_path / "crawl[12]/workflows").mkdir()
    here = tmp_path / "crawl[12]"
    for pattern in ("data/*.txt", "**/*.txt", "../data/*.txt", "./../data/a.*", "data/a.txt"):
        ((path, name),) = input_files(pattern, here, here / "workflows")
        assert (path.read_text(), name.rpartition("/")[2]) == ("crawl[12]", "a.txt")
    (tmp_path / "crawl[12]/data/a.txt").unlink()
    with pytest.raises(SpecError, match="no file matches"):
        input_files("data/*.txt", here)


@pytest.mark.parametrize("pattern", ["in/*.txt", "in/**/*.txt", "in/**/*", "in/lost.txt", "in/*/x.txt", "in/**/x.txt"])
def test_a_link_to_nothing_is_not_passed_over(root: Path, pattern: str) -> None:
    """It may be a volume that is not mounted: a file or a folder of them."""
    (root / "in/lost.txt").symlink_to("/nonexistent/volume/c.txt")
    with pytest.raises(InputError, match=r"lost\.txt: this link to '/nonexistent/volume/c\.txt' cannot be followed: No such file"):
        input_files(pattern, root)
    assert len(input_files(["in/a.txt", "in/sub/**/*.txt"], root)) == 3


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
@pytest.mark.parametrize("pattern", ["in/**/*.txt", "in/s*/*.txt", "in/*/c.txt", "in/sub/*"])
def test_a_folder_that_cannot_be_read_is_not_passed_over(root: Path, pattern: str) -> None:
    (root / "in/sub").chmod(0)
    try:
        with pytest.raises(InputError, match=r"in/sub.*: .*cannot be read: Permission denied"):
            input_files(pattern, root)
    finally:
        (root / "in/sub").chmod(0o755)


def test_a_refusal_to_list_a_folder_is_not_passed_over(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for tests that run as root."""
    real = os.listdir

    def refusing(folder: Path) -> list[str]:
        if folder.name in ("sub", "lost+found"):
            raise PermissionError(13, "Permission denied")
        return real(folder)

    (root / "in/lost+found").mkdir()
    monkeypatch.setattr(os, "listdir", refusing)
    with pytest.raises(InputError, match=r"in/sub: this folder cannot be read: Permission denied"):
        input_files("in/**/*.txt", root)
    assert [name for _, name in input_files("in/[lo]*/*.txt", root)] == ["other/a.txt"]  # every ext4 volume has a lost+found of root's


def test_a_link_to_a_folder_above_multiplies_nothing_and_other_links_are_followed(root: Path, tmp_path: Path) -> None:
    plain = [name for _, name in input_files("in/**/*.txt", root)]
    (root / "in/sub/loop").symlink_to(".")
    (root / "in/sub/up").symlink_to(root)
    (root / "in/sub/deep/back").symlink_to("..")
    assert [name for _, name in input_files("in/**/*.txt", root)] == plain
    assert [name for _, name in input_files("in/*/*/*.txt", root)] == ["sub/deep/d.txt"]
    (root / "elsewhere").mkdir()
    (root / "elsewhere/f.txt").write_text("f")
    (root / "in/linked").symlink_to(root / "elsewhere")
    (root / "in/other/g.txt").symlink_to(root / "elsewhere/f.txt")
    assert [name for _, name in input_files("in/**/*.txt", root)] == sorted([*plain, "linked/f.txt", "other/g.txt"])


@pytest.mark.parametrize(
    "pattern", ["*", "*.txt", "**", "**/*", "**/.*", ".*/*", "**/**/*.txt", "in/**", "in/[a-b].txt", "in/?.txt", "i*/s*/**/*.md", "in/**/deep/*"]
)
def test_patterns_mean_what_they_mean_to_glob(root: Path, pattern: str) -> None:
    import glob

    for name in ("in/.hidden.txt", "in/.git/config.txt", "in/sub/.deep/e.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(name)
    expected = sorted({str(root / path) for path in glob.glob(pattern, root_dir=root, recursive=True) if (root / path).is_file()})
    found = [str(path) for path, _ in input_files([pattern, "in/a.txt"], root)] if expected else []
    assert sorted({*found, str(root / "in/a.txt")}) == sorted({*expected, str(root / "in/a.txt")})


@pytest.mark.parametrize("pattern", [".", "./", "..", "in/", "/"])
def test_a_folder_is_no_pattern(root: Path, pattern: str) -> None:
    with pytest.raises(SpecError, match=r"write FOLDER/\*\*/\*"):
        input_files(pattern, root)


def test_a_folder_that_is_named_as_the_files_are_is_not_passed_over(tmp_path: Path) -> None:
    """Spark writes a table as a folder of part files."""
    (tmp_path / "data/spark.parquet").mkdir(parents=True)
    (tmp_path / "data/spark.parquet/part-0.parquet").write_text("x")
    for one in ("alone", "beside x.parquet"):
        with pytest.raises(
            SpecError, match=r"matches a folder, of which nothing is read: .*/spark\.parquet\nhint: .* data/\*\.parquet/\*\.parquet, too"
        ):
            input_files("data/*.parquet", tmp_path)
        (tmp_path / "data/x.parquet").write_text(one)
    names = ["spark.parquet/part-0.parquet", "x.parquet"]
    for patterns in ("data/**/*.parquet", ["data/*.parquet", "data/*.parquet/*.parquet"]):
        assert [name for _, name in input_files(patterns, tmp_path)] == names
    assert [name for _, name in input_files("data/*", tmp_path)] == ["x.parquet"]


def test_a_folder_that_is_named_like_a_file_is_a_folder_where_the_pattern_names_it_or_looks_inside(tmp_path: Path) -> None:
    for place in ("data/v1.0/a.txt", "data/v2.0/b.txt", "data/crawl.txt/sub/c.csv"):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_text("x")
    with pytest.raises(SpecError, match=r"no file matches 'data/v1\.0'\nhint: .* write FOLDER/\*\*/\*"):
        input_files("data/v1.0", tmp_path)
    (tmp_path / "data/v2.0/crawl.txt").write_text("x")
    (tmp_path / "data/other/crawl.txt").mkdir(parents=True)
    with pytest.raises(SpecError, match=r"'data/\*/crawl.txt' matches a folder, of which nothing is read: .*/other/crawl\.txt\n"):
        input_files("data/*/crawl.txt", tmp_path)
    (tmp_path / "data/v2.0/crawl.txt").unlink()
    assert [name for _, name in input_files("data/**/*.txt", tmp_path)] == ["v1.0/a.txt", "v2.0/b.txt"]


@pytest.mark.skipif(os.uname().sysname == "Darwin", reason="names are UTF-8 there")
def test_a_name_that_is_not_utf_8_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "ok.txt").write_text("x")
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    with pytest.raises(InputError, match=r"not UTF-8: 'caf\\udce9\.txt'\nhint: rename it"):
        input_files("*.txt", tmp_path)


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
