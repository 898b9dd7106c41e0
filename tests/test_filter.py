"""Blocks of datatrove, and a user's own functions, in a workflow."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import documents, write_corpus

from curate.corpus import Corpus
from curate.engine import Context, Inline, complete, complete_all
from curate.errors import CurateError, SpecError
from curate.filter import load_block, plan

LONG = "The people of the town have to go to the market and to that of the river with the baskets that they have. " * 12


@pytest.fixture(autouse=True)
def _own_modules(tmp_path: Path) -> Iterator[None]:
    """Forget the modules of a test, which in a run is a process of its own."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_a_datatrove_filter_drops_with_its_own_reason(tmp_path: Path) -> None:
    pytest.importorskip("datatrove")
    pytest.importorskip("spacy")
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["too short", LONG])]})
    step = plan({"datatrove.pipeline.filters.GopherQualityFilter": {"min_doc_words": 20}}, corpus, "web", tmp_path / "out", tmp_path)
    manifest = complete_all([step], Context(Inline()))[0]
    assert manifest.ledger.dropped == {"gopher_short_doc": 1}
    assert manifest.ledger.kept == 1


def test_a_datatrove_filter_that_rewrites_the_text_is_followed() -> None:
    pytest.importorskip("datatrove")
    block = load_block("datatrove.pipeline.filters.LambdaFilter", {"filter_function": lambda d: setattr(d, "text", d.text.upper()) is None})
    batch, reasons = block(documents(["quiet"]))
    assert batch.column("text").to_pylist() == ["QUIET"]
    assert reasons == [None]


def test_a_datatrove_formatter_rewrites_the_text() -> None:
    pytest.importorskip("datatrove")
    block = load_block("datatrove.pipeline.formatters.PIIFormatter", {})
    batch, reasons = block(documents(["write to jane@company.com today"]))
    assert "jane@company.com" not in batch.column("text").to_pylist()[0]
    assert reasons == [None]


def test_what_is_drawn_by_chance_is_drawn_by_the_seed_of_the_workflow(tmp_path: Path, context: Context) -> None:
    pytest.importorskip("datatrove")
    texts = [str(i) for i in range(100)]
    corpus = write_corpus(tmp_path / "in", {name: [documents(texts, file=name)] for name in "ab"})
    step = {"datatrove.pipeline.filters.SamplerFilter": {"rate": 0.5}}

    def drawn(name: str, how: Context, **seed: int) -> tuple[str, list[list[str]]]:
        stage = plan(step, corpus, "web", tmp_path / name, tmp_path, **seed)
        complete_all([stage], how)
        return stage.key, [pq.read_table(tmp_path / name / f"{shard}.parquet")["text"].to_pylist() for shard in "ab"]

    key, (first, second) = drawn("here", Context(Inline()))
    assert first != second
    assert 20 < len(first) < 80
    assert drawn("workers", context)[1] == [first, second]
    other = drawn("other", Context(Inline()), seed=1)
    assert other[0] != key and other[1] != [first, second]


def test_a_users_function_drops_with_its_reasons(tmp_path: Path) -> None:
    steps = tmp_path / "steps.py"
    steps.write_text("def calm(batch, mark='!'):\n    return ['shouting' if mark in t else True for t in batch.column('text').to_pylist()]\n")
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["hey!", "hello"])]})
    step = plan("./steps.py:calm", corpus, "web", tmp_path / "out", tmp_path)
    assert complete_all([step], Context(Inline()))[0].ledger.dropped == {"shouting": 1}
    assert pq.read_table(tmp_path / "out/a.parquet")["text"].to_pylist() == ["hello"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("datatrove.pipeline.filters.GopherQualityFilter", {"min_doc_wrds": 1}, "did you mean 'min_doc_words'"),
        ("datatrove.pipeline.filters.NoSuchFilter", {}, "no block"),
        ("datatrove.data.Document", {}, "neither a filter nor a formatter"),
        ("datatrove.pipeline.filters.RegexFilter", {"regex_exp": "("}, "cannot be made"),
        ("gopher", {}, "neither a datatrove block nor a function"),
    ],
)
def test_a_wrong_block_is_named(name: str, options: dict[str, object], message: str) -> None:
    pytest.importorskip("datatrove")
    with pytest.raises(SpecError) as caught:
        load_block(name, options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "answers", ["pc.less(pc.utf8_length(t), 4)", "np.array([True, False])", "[np.bool_(True), np.bool_(False)]", "pa.array([True, False])"]
)
def test_booleans_of_numpy_and_arrow_are_booleans(tmp_path: Path, answers: str) -> None:
    code = "import numpy as np\nimport pyarrow as pa\nimport pyarrow.compute as pc\n\ndef f(batch):\n    t = batch.column('text')\n    return "
    (tmp_path / "steps.py").write_text(code + answers)
    assert load_block("./steps.py:f", {}, tmp_path)(documents(["abc", "abcd"]))[1] == [None, "filtered"]


def test_a_reason_is_made_a_fixed_word(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text("def f(batch):\n    return ['Only 3.5 [bold]words\\x1b[2J']")
    assert load_block("./steps.py:f", {}, tmp_path)(documents(["x"]))[1] == ["only_bold_words_j"]


@pytest.mark.parametrize("answers", ["[None]", "[1]", "['']", "None", "[True, True]", "[0.0]", "[[True]]"])
def test_an_answer_that_is_neither_a_boolean_nor_a_reason_stops_the_stage(tmp_path: Path, answers: str) -> None:
    (tmp_path / "steps.py").write_text(f"def f(batch):\n    return {answers}")
    with pytest.raises(CurateError, match="answered"):
        load_block("./steps.py:f", {}, tmp_path)(documents(["x"]))


def key(folder: Path, corpus: Corpus, step: dict[str, dict[str, object]]) -> str:
    return plan(step, corpus, "web", folder / "out", folder).key


def test_whatever_a_function_depends_on_is_in_the_key(tmp_path: Path) -> None:
    (tmp_path / "lists/more").mkdir(parents=True)
    (tmp_path / "package").mkdir()
    for name in ("words.txt", "other.txt", "lists/more/a.txt"):
        (tmp_path / name).write_text("a")
    (tmp_path / "package/__init__.py").write_text("")
    for name in ("helper.py", "deeper.py", "package/part.py", "unused.py"):
        (tmp_path / name).write_text("X = 1\n" + ("import deeper\n" if name == "helper.py" else ""))
    code = "from pathlib import Path\nimport helper\nfrom package import part\n"
    signature = "def f(batch, *, words: Path, several: list[Path], folder: Path):\n    return [True] * batch.num_rows\n"
    (tmp_path / "steps.py").write_text(code + signature)
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["x"])]})
    step = {"./steps.py:f": {"words": "words.txt", "several": ["other.txt"], "folder": "lists"}}
    seen = [key(tmp_path, corpus, step)]
    for name in ("words.txt", "other.txt", "lists/more/a.txt", "helper.py", "deeper.py", "package/part.py", "steps.py"):
        with (tmp_path / name).open("a") as file:
            file.write("Y = 2\n")
        seen.append(key(tmp_path, corpus, step))
    assert len(set(seen)) == len(seen)
    (tmp_path / "unused.py").write_text("Z = 3\n")
    assert key(tmp_path, corpus, step) == seen[-1]


def test_what_lies_in_folders_and_the_files_of_defaults_are_in_the_key(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "real").mkdir()
    (tmp_path / "lists/linked").symlink_to("../real")
    (tmp_path / "lists/a.txt").write_text("a")
    (tmp_path / "real/back").symlink_to("../lists")
    (tmp_path / "steps.py").write_text(
        "from pathlib import Path\ndef f(batch, *, folder: Path, hosts: Path = Path(__file__).parent / 'hosts.txt', n: int = 1):\n"
        "    return [True] * batch.num_rows\n"
    )
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["x"])]})
    step = {"./steps.py:f": {"folder": "lists"}}
    seen = [key(tmp_path, corpus, step)]
    for file, text in (("hosts.txt", "here"), ("hosts.txt", "there"), ("real/b.txt", "b"), ("real/b.txt", "c")):
        (tmp_path / file).write_text(text)
        seen.append(key(tmp_path, corpus, step))
    (tmp_path / "lists/a.txt").rename(tmp_path / "lists/z.txt")
    seen.append(key(tmp_path, corpus, step))
    assert len(set(seen)) == 6
    assert key(tmp_path, corpus, step) == seen[-1]


def test_a_folder_that_a_default_names_is_not_in_the_key_unless_the_spec_names_it(tmp_path: Path) -> None:
    """It may be one that the function writes to."""
    (tmp_path / "steps.py").write_text(
        "from pathlib import Path\ndef f(batch, *, cache: Path = Path(__file__).parent / 'cache'):\n    return [True] * batch.num_rows\n"
    )
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["x"])]})
    alone, named = {"./steps.py:f": {}}, {"./steps.py:f": {"cache": "cache"}}
    before = key(tmp_path, corpus, alone)
    (tmp_path / "cache").mkdir()
    assert key(tmp_path, corpus, alone) == before
    empty = key(tmp_path, corpus, named)
    (tmp_path / "cache/a").write_text("a")
    assert key(tmp_path, corpus, alone) == before
    assert key(tmp_path, corpus, named) != empty


@pytest.mark.parametrize("lazily", [False, True])
def test_a_function_imports_what_lies_beside_it_here_and_in_workers(tmp_path: Path, context: Context, lazily: bool) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/__init__.py").write_text("")
    (tmp_path / "inner/limits.py").write_text("import beside_deeper\nLIMIT = beside_deeper.LIMIT\n")
    (tmp_path / "beside_deeper.py").write_text("LIMIT = 3\n")
    line = "from inner import limits"
    code = f"{'' if lazily else line}\ndef f(batch):\n    {line if lazily else ''}\n    return [len(t) > limits.LIMIT for t in batch['text'].to_pylist()]\n"
    (tmp_path / "steps.py").write_text(code)
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["x", "long"])], "b": [documents(["y"])]})
    stage = plan({"./steps.py:f": {}}, corpus, "web", tmp_path / "out", tmp_path)
    manifest = complete(stage.plan, context, source="web", code=stage.code)
    assert (manifest.ledger.kept, manifest.ledger.dropped) == (1, {"filtered": 2})


def test_a_module_that_hides_the_one_beside_a_function_is_named(tmp_path: Path) -> None:
    (tmp_path / "pyarrow.py").write_text("LIMIT = 3\n")
    (tmp_path / "steps.py").write_text("import pyarrow\ndef f(batch):\n    return [True] * batch.num_rows\n")
    with pytest.raises(SpecError, match=r"'import pyarrow' finds .*site-packages") as caught:
        load_block("./steps.py:f", {}, tmp_path)
    assert "rename" in caught.value.hint


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
def test_types_that_only_a_type_checker_knows_are_no_option_s_business(tmp_path: Path, future: str) -> None:
    batch = "batch: pa.RecordBatch" if future else "batch: 'pa.RecordBatch'"
    code = f"{future}from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pyarrow as pa\n    from pathlib import Path as P\n"
    (tmp_path / "steps.py").write_text(
        f"{code}def f({batch}, *, n: int = 0, p: 'P | None' = None):\n    return [len(t) > n for t in batch['text'].to_pylist()]\n"
    )
    assert load_block("./steps.py:f", {"n": 3}, tmp_path)(documents(["x", "long"]))[1] == ["filtered", None]
    with pytest.raises(SpecError, match="option 'n'"):
        load_block("./steps.py:f", {"n": "many"}, tmp_path)
    with pytest.raises(SpecError, match="the type of option 'p' of './steps.py:f' cannot be told: NameError") as caught:
        load_block("./steps.py:f", {"p": "words.txt"}, tmp_path)
    assert "TYPE_CHECKING" in caught.value.hint


def test_a_module_of_the_users_own_is_in_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_here").mkdir()
    (tmp_path / "mine_here/__init__.py").write_text("")
    (tmp_path / "mine_here/steps.py").write_text("def f(batch):\n    return [True] * batch.num_rows\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["x"])]})
    before = key(tmp_path, corpus, {"mine_here.steps:f": {}})
    (tmp_path / "mine_here/other.py").write_text("X = 1\n")
    assert key(tmp_path, corpus, {"mine_here.steps:f": {}}) != before
