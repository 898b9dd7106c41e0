"""The guide's examples: its specs load, its functions run, and what it shows of a run is what comes out."""

from __future__ import annotations

import gzip
import json
import os
import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from curate.cli import main
from curate.functions import find

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
WORDS = (
    "the of and to in is that it for on with as be at by this from have or one had not but what all were when we there can an your which their if do will "
    "granite ledger harvest turbine violin orchard estuary copper lantern glacier parliament enzyme cathedral tariff monsoon telescope archive saddle"
).split()
TOGETHER = ("dedup", "classify", "decontaminate", "rephrase", "tokenize")


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of a language, in the order of the guide."""
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


def shown_after(code: str) -> str:
    """Return the ```text block that follows a block of code; "" where there is none."""
    found = re.match(r"```\s*```text\n(.*?)^```$", GUIDE.partition(code)[2], re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


def prose(seed: int, sentences: int) -> str:
    """Return made-up English of `sentences` sentences, in paragraphs of five."""
    state, lines = seed * 2654435761 % 2**32 + 1, []
    for i in range(sentences):
        words = []
        for _ in range(12):
            state = (state * 1664525 + 1013904223) % 2**32
            words.append(WORDS[(state >> 8) % len(WORDS)])
        lines.append(" ".join(words).capitalize() + "." + ("\n\n" if i % 5 == 4 else " "))
    return "".join(lines).strip()


def write_data(root: Path) -> None:
    """Write the raw input that the guide's workflow names: forum posts, books and reports, each with what goes wrong in such files."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import pymupdf

    posts: list[dict[str, Any]] = [
        {"body": prose(i, 20), "link": f"https://forum.example/t/{i}", "posted": f"2024-0{1 + i % 9}-15", "votes": i} for i in range(40)
    ]
    posts[5]["body"] = "> " + prose(4, 1) + "\n" + posts[5]["body"]
    posts[6]["body"] = "This is short."
    posts[7]["body"] = prose(7, 20).upper()
    posts[8]["body"] = prose(8, 3).upper()
    posts[9]["body"] = posts[3]["body"]
    posts[10]["link"] = "https://spam.example/t/10"
    del posts[11]["body"]
    for k in range(2):
        path = root / "data" / "forum" / f"part-{k}.jsonl.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(post) for post in posts[20 * k : 20 * k + 20]]
        path.write_bytes(gzip.compress("\n".join(lines if k else [*lines, "{not JSON"]).encode(), mtime=0))
    books = [prose(100 + i, 30) for i in range(10)] + [posts[30]["body"].replace(".", ";", 1).replace("of", "at", 2)]
    (root / "data" / "books").mkdir()
    pq.write_table(pa.table({"text": books, "url": [f"https://books.example/{i}" for i in range(11)]}), root / "data" / "books" / "all.parquet")
    reports = root / "data" / "reports"
    reports.mkdir()
    with pymupdf.open() as document:
        document.new_page().insert_textbox((50, 50, 550, 800), prose(200, 20))
        document.new_page()
        document.save(reports / "annual.pdf")
    (reports / "broken.pdf").write_bytes(b"not a PDF")
    (root / "workflows" / "spam.txt").write_text("spam.example\n", encoding="utf-8")


def start(root: Path) -> Path:
    """Make the project of the guide in `root`, and return its workflow."""
    assert main(["init", str(root)]) == 0
    (steps,) = [block for block in blocks("python") if "def " in block]
    (root / "workflows" / "steps.py").write_text(steps, encoding="utf-8")
    write_data(root)
    for block in blocks("yaml"):
        if "\nsources:" in block:
            (root / "workflows" / f"{yaml.safe_load(block)['name']}.yaml").write_text(block, encoding="utf-8")
    return root / "workflows" / "mine.yaml"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guide's project, after its run."""
    root = tmp_path_factory.mktemp("guide") / "my-corpus"
    assert main(["run", str(start(root)), "--workers", "2", "--quiet"]) == 0
    return root


def test_every_workflow_passes_the_check(project: Path) -> None:
    names = [yaml.safe_load(block)["name"] for block in blocks("yaml") if "\nsources:" in block]
    assert "mine" in names
    for name in names:
        assert main(["check", str(project / "workflows" / f"{name}.yaml")]) == 0


def test_the_workflow_of_the_readme_passes_the_check_once_its_benchmark_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workflow,) = re.findall(r"^```yaml\n(name: .*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert "benchmarks.yaml" in workflow
    assert main(["init", str(tmp_path / "mine")]) == 0
    path, benchmarks = tmp_path / "mine/workflows/of-readme.yaml", tmp_path / "mine/workflows/benchmarks.yaml"
    path.write_text(workflow, encoding="utf-8")
    assert main(["check", str(path)]) == 2
    assert "gsm8k" in capsys.readouterr().err
    benchmarks.write_text(re.sub(r"^# (gsm8k:\n)# ", r"\1", benchmarks.read_text(encoding="utf-8"), flags=re.MULTILINE), encoding="utf-8")
    assert main(["check", str(path)]) == 0


def test_every_fragment_passes_the_check(project: Path) -> None:
    fragments = [yaml.safe_load(block) for block in blocks("yaml") if block.startswith("- ")]
    assert len(fragments) >= 5
    for number, steps in enumerate(fragments):
        first = next(iter(steps[0]))
        begin = [] if first == "ingest" else [{"ingest": {"files": "data/*"}}, {"annotate": ["gopher", "language"]}]
        together = steps if first in TOGETHER else []
        spec = {"name": f"fragment-{number}", "sources": {"web": begin if together else begin + steps}, "together": together}
        path = project / "workflows" / f"fragment-{number}.yaml"
        path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
        assert main(["check", str(path)]) == 0, steps


def test_the_other_specs_load(project: Path) -> None:
    from curate.specs.benchmarks import load_benchmarks
    from curate.specs.classifier import Classifier
    from curate.specs.load import load_spec

    others = [block for block in blocks("yaml") if "\nsources:" not in block and not block.startswith("- ")]
    for number, block in enumerate(others):
        path = project / f"other-{number}.yaml"
        path.write_text(block, encoding="utf-8")
        if "positive:" in block:
            assert load_spec(path, Classifier).positive
        else:
            assert load_benchmarks(path)
    assert len(others) >= 2


def test_the_functions_do_what_the_guide_says(project: Path) -> None:
    import duckdb

    run = project / "runs" / "mine"
    dropped = dict(duckdb.sql(f"SELECT url, reasons FROM '{run}/forum/*/dropped/*.parquet' WHERE NOT starts_with(reason, 'n')").fetchall())
    assert dropped["https://spam.example/t/10"] == ["blocked_host"]
    assert dropped["https://forum.example/t/8"] == ["too_short", "shouting"]
    (text,) = duckdb.sql(f"SELECT text FROM '{run}/forum/02-edit/*.parquet' WHERE url = 'https://forum.example/t/5'").fetchall()[0]
    assert text == prose(5, 20)
    annotate = find("./steps.py:capitals", {}, project / "workflows", "annotator")
    assert "share" in (annotate.__doc__ or "")


def cells(box: str) -> list[list[str]]:
    """Return the rows of a table as DuckDB prints it."""
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in box.splitlines() if line.startswith("│")]
    return lines[2:]


def test_the_queries_show_what_the_guide_shows(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import duckdb

    monkeypatch.chdir(project)
    compared = 0
    for query in blocks("sql"):
        ours = "runs/mine" in query
        # The quickstart is run by a test of its own; here its query meets the PDFs of this project.
        relation = duckdb.sql(query if ours else query.replace("runs/quickstart/papers", "runs/mine/reports"))
        rows = [["NULL" if value is None else str(value) for value in row] for row in relation.fetchall()]
        assert rows or not ours
        if ours:
            assert rows == cells(shown_after(query)), query
            compared += 1
    assert compared >= 4


def test_explain_shows_what_the_guide_shows(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(project)
    command = next(line for block in blocks("console") for line in block.splitlines() if line.startswith("$ curate explain "))
    shown = next(block for block in blocks("console") if command in block).partition(command + "\n")[2]
    capsys.readouterr()
    assert main(command.split()[2:]) == 0
    said = capsys.readouterr().out.splitlines()
    for line in shown.splitlines():
        beginning = line.removesuffix("…")
        assert any(one.startswith(beginning) for one in said), line


def test_the_tokens_are_read_as_the_guide_says(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    (reading,) = [block for block in blocks("python") if "mmap_mode" in block]
    (project / "reading.py").write_text(reading, encoding="utf-8")
    names = runpy.run_path("reading.py")
    assert names["text"].startswith(prose(0, 1)[:20])
    assert names["text"].endswith("<|end|>")


def test_the_layout_is_that_of_a_run(project: Path) -> None:
    run = project / "runs" / "mine"
    listed = re.findall(r"^  ([a-z{},./0-9-]+?)/?(?:  .*)?$", next(block for block in blocks("text") if block.startswith("runs/mine/")), re.MULTILINE)
    assert len(listed) >= 8
    for name in listed:
        assert list(run.glob(name)), name


def test_a_moved_project_is_not_run_again(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(project, moved)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main(["run", os.path.join("elsewhere", "workflows", "mine.yaml"), "--workers", "1"]) == 0
    captured = capsys.readouterr()
    assert "stages were complete already" in captured.err
    assert " in, " not in captured.err  # the line of a stage that ran
