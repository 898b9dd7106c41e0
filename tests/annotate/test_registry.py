"""Names, options, users' own functions, and the documentation of fields."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from curate import annotate, edit
from curate.corpus import sha256_of
from curate.errors import CurateError, SpecError
from curate.select import Rules

BATCH = pa.record_batch(
    {"id": ["a", "b", "c"], "text": pa.array(["Some text, and the rest of it.", "", None]), "url": ["https://a.example/", None, "x"]}
)

STEPS = '''
import pyarrow as pa

def length(batch: pa.RecordBatch, *, scale: float = 1.0) -> pa.StructArray:
    """Measure.

    Fields:
        size: characters,
            scaled
    """
    return pa.StructArray.from_arrays([pa.array([scale * len(t or "") for t in batch.column("text").to_pylist()])], names=["size"])

def filtering(batch):
    return length(batch.slice(1))

def listing(batch):
    return [1, 2, 3]

def shout(batch, *, times: int):
    text = pa.array([(t or "").upper() + "!" * times for t in batch.column("text").to_pylist()])
    return batch.set_column(1, "text", text)

def dropping(batch):
    return batch.slice(1)

def dividing(batch):
    share = pa.array([float("nan"), 0.5, None][: batch.num_rows], pa.float64())
    inner = pa.StructArray.from_arrays([share], fields=[pa.field("share", pa.float64(), nullable=False)])
    return pa.StructArray.from_arrays([share, inner], names=["share", "inner"], mask=pa.array([False, False, True][: batch.num_rows]))

def listed(batch):
    values = [[float("nan"), 0.5], None, [0.25, float("nan")]]
    kinds = [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float64(), 2), pa.list_(pa.field("item", pa.float32(), nullable=False))]
    columns = [pa.array(values, kind) for kind in kinds]
    columns += [pa.array([[{"x": float("nan")}], None, [None]]), pa.array([float("nan"), None, 0.5], pa.float32()).cast(pa.float16())]
    return pa.StructArray.from_arrays(columns, names=list("abcdef")).slice(0 if batch.num_rows == 3 else 1, batch.num_rows)

def turning(batch, *, angle: complex = 1j):
    return batch
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "steps.py").write_text(STEPS)
    return tmp_path


@pytest.mark.parametrize("name", annotate.NAMES)
def test_every_field_is_documented_and_every_batch_measured(name: str) -> None:
    result = annotate.annotate(BATCH, name)
    assert len(result) == 3
    assert result.null_count == 0
    assert [field.name for field in result.type] == list(annotate.fields(name))
    assert all(meaning for meaning in annotate.fields(name).values())
    empty = annotate.annotate(BATCH.slice(0, 0), name)
    assert (len(empty), empty.type) == (0, result.type), "the type does not depend on the rows"


@pytest.mark.parametrize("name", annotate.NAMES)
def test_a_row_is_measured_alike_whatever_stands_around_it(name: str) -> None:
    whole = annotate.annotate(BATCH, name).to_pylist()
    assert [annotate.annotate(BATCH.slice(k, 1), name).to_pylist()[0] for k in range(3)] == whole


def test_names_are_known_without_importing_compilers() -> None:
    code = "import sys, curate.annotate as a; a.annotators(); a.validate('gopher', {}); print({'numba', 'py3langid', 'fasttext'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gophr", {}, "did you mean 'gopher'"),
        ("gopher", {"stopwords": []}, "did you mean 'stop_words'"),
        ("gopher", {"stop_words": "the"}, "stop_words"),
        ("fineweb", {"short_line_characters": "30"}, "Expected int"),
        ("characters", {"x": 1}, "has no options"),
        ("site", {"blocklist": "nowhere.txt"}, "no such file"),
        ("./nowhere.py:f", {}, "no such file"),
        ("./steps.py:lenght", {}, "did you mean 'length'"),
        ("./steps.py:length", {"scale": "much"}, "Expected"),
        ("./steps.py:shout", {}, "option 'times' of './steps.py:shout' is missing"),
        ("./steps.py:turning", {"angle": "1j"}, "option 'angle' of './steps.py:turning': options of type complex cannot be written in a spec"),
        ("no.such.package:function", {}, "cannot be imported"),
        ("json:no such", {}, "no function name"),
        (":f", {}, "no module name"),
    ],
)
def test_mistakes_are_named(folder: Path, name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        annotate.validate(name, options, folder)
    assert message in str(caught.value)


def test_a_users_own_annotator(folder: Path) -> None:
    assert annotate.annotate(BATCH, "./steps.py:length", {"scale": 2}, folder).to_pylist() == [{"size": 60.0}, {"size": 0.0}, {"size": 0.0}]
    assert annotate.label("./steps.py:length") == "length"
    assert annotate.fields("./steps.py:length", folder) == {"size": "characters, scaled"}
    assert annotate.contents("./steps.py:length", {}, folder) == [sha256_of(folder / "steps.py")]
    assert annotate.annotate(BATCH, "curate.annotate.characters:annotate").to_pylist() == annotate.annotate(BATCH, "characters").to_pylist()


def test_a_changed_file_is_loaded_again(folder: Path) -> None:
    import os

    annotate.annotate(BATCH, "./steps.py:length", {}, folder)
    (folder / "steps.py").write_text(STEPS.replace("scale * len", "1 + scale * len"))
    os.utime(folder / "steps.py", ns=(1, 1))
    assert annotate.annotate(BATCH, "./steps.py:length", {}, folder)[1].as_py() == {"size": 1.0}


def test_a_broken_file_is_the_users_mistake(folder: Path) -> None:
    (folder / "steps.py").write_text("import nowhere_to_be_found")
    with pytest.raises(SpecError, match="nowhere_to_be_found"):
        annotate.validate("./steps.py:length", {}, folder)


def test_an_annotator_must_measure_every_row(folder: Path) -> None:
    with pytest.raises(CurateError, match="2 rows for 3 documents"):
        annotate.annotate(BATCH, "./steps.py:filtering", {}, folder)
    with pytest.raises(CurateError, match="not list"):
        annotate.annotate(BATCH, "./steps.py:listing", {}, folder)


def test_a_users_own_edit(folder: Path) -> None:
    assert edit.edit(BATCH, "./steps.py:shout", {"times": 2}, folder).column("text").to_pylist()[1:] == ["!!", "!!"]
    assert edit.validate("./steps.py:shout", {"times": 2}, folder) == {"times": 2}
    with pytest.raises(CurateError, match="changed the rows"):
        edit.edit(BATCH, "./steps.py:dropping", {}, folder)
    with pytest.raises(SpecError, match="did you mean 'drop_lines'"):
        edit.validate("drop_line", {})


def test_listed_files_count_for_the_key(folder: Path) -> None:
    (folder / "blocked.txt").write_text("a.example\n")
    assert annotate.contents("site", {"blocklist": "blocked.txt"}, folder) == [sha256_of(folder / "blocked.txt")]
    assert annotate.contents("site", {}, folder) == []


def test_a_measure_that_is_not_a_number_is_unknown(folder: Path) -> None:
    found = annotate.annotate(BATCH, "./steps.py:dividing", None, folder)
    assert found.to_pylist() == [{"share": None, "inner": {"share": None}}, {"share": 0.5, "inner": {"share": 0.5}}, None]
    assert annotate.annotate(BATCH.slice(1, 1), "./steps.py:dividing", None, folder).type == found.type
    batch = BATCH.append_column("ours", found)
    assert Rules({"high": "ours.share > 0.9", "also": "ours.inner.share >= 0.9"}, batch.schema).decide(batch) == [[], [], []]


def test_nan_in_lists_and_in_half_precision_is_null_too(folder: Path) -> None:
    found = annotate.annotate(BATCH, "./steps.py:listed", None, folder)
    lists = {name: [[None, 0.5], None, [0.25, None]] for name in "abcd"}
    expected = lists | {"e": [[{"x": None}], None, [None]], "f": [None, None, 0.5]}
    assert {name: found.field(name).to_pylist() for name in "abcdef"} == expected
    part = annotate.annotate(BATCH.slice(1), "./steps.py:listed", None, folder)
    assert part.to_pylist() == found.to_pylist()[1:]
    assert annotate.annotate(BATCH.slice(0, 0), "./steps.py:listed", None, folder).type == found.type
