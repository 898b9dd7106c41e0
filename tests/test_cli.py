"""The command as a newcomer meets it: help, errors without tracebacks, exit codes, data on standard output."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

SPEC = """\
name: demo
sources:
  web:
    - ingest: {jsonl: data/*.jsonl}
    - annotate: [gopher]
    - drop: {too_short: gopher.words < 5}
"""


def curate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "curate.cli", *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows/demo.yaml").write_text(SPEC)
    (tmp_path / "data").mkdir()
    texts = ["one two three four five six", "short", "seven eight nine ten eleven twelve"]
    (tmp_path / "data/a.jsonl").write_text("".join(json.dumps({"text": t, "url": f"https://example.org/{i}"}) + "\n" for i, t in enumerate(texts)))
    return tmp_path


def test_help_is_quick_and_lists_every_verb(tmp_path: Path) -> None:
    seconds = []
    for _ in range(3):
        start = time.process_time(), time.monotonic()
        done = curate(tmp_path, "--help")
        seconds.append(time.monotonic() - start[1])
    assert done.returncode == 0
    for verb in ("init", "check", "run", "status", "explain", "verify", "report", "decontaminate", "mix", "classifier"):
        assert f"    {verb} " in done.stdout
    assert min(seconds) < 1.0  # 0.1 s on an idle machine; a heavy import at the top costs more than this on any


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys; from curate.cli import parser; parser(); print(sorted({'numpy', 'pyarrow', 'duckdb', 'torch', 'rich', 'numba', 'yaml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_check_names_the_mistake_and_runs_nothing(project: Path) -> None:
    assert curate(project, "check", "workflows/demo.yaml").returncode == 0
    (project / "workflows/demo.yaml").write_text(SPEC.replace("annotate", "anotate"))
    done = curate(project, "check", "workflows/demo.yaml")
    assert done.returncode == 2
    assert done.stderr.splitlines()[:2] == ["error: workflows/demo.yaml:5: unknown key 'anotate' at sources.web[1]", "hint: did you mean 'annotate'?"]
    assert not (project / "runs").exists()


def test_a_run_prints_its_funnel_on_standard_output(project: Path) -> None:
    done = curate(project, "run", "workflows/demo.yaml", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "too_short" in done.stdout
    assert "report: " in done.stderr
    again = curate(project, "run", "workflows/demo.yaml", "--workers", "1")
    assert again.stdout == done.stdout
    assert "3 stages were complete already" in again.stderr


def test_what_a_run_left_can_be_looked_at(project: Path) -> None:
    assert curate(project, "run", "workflows/demo.yaml", "--workers", "0", "--quiet").returncode == 0
    status = json.loads(curate(project, "status", "runs/demo", "--json").stdout)
    assert status["finished"]
    assert status["stages"][-1]["ledger"]["dropped"] == {"too_short": 1}
    assert "dropped as too_short" in curate(project, "explain", "runs/demo", "https://example.org/1").stdout
    assert json.loads(curate(project, "explain", "runs/demo", "https://example.org/0", "--json").stdout)[0]["events"][-1]["outcome"] == "kept"
    assert curate(project, "verify", "runs/demo").returncode == 0
    assert curate(project, "report", "runs/demo", "--output", "elsewhere.html").stdout.strip() == "elsewhere.html"
    shard = next((project / "runs/demo/web/03-drop").glob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-9] + b"something")
    damaged = curate(project, "verify", "runs/demo")
    assert damaged.returncode == 1
    assert "its bytes have changed" in damaged.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("run", "workflows/nowhere.yaml"), 2, "no such spec"),
        (("run", "workflows/demo.yaml", "--workers", "many"), 2, "invalid"),
        (("status", "runs/nowhere"), 3, "is not a run"),
        (("explain", "runs/nowhere", "x"), 3, "is not a run"),
        (("verify", "nowhere"), 3, "is not a run"),
        (("report", "runs/nowhere"), 3, "is not a run"),
        (("classifier", "train", "nowhere", "--output", "x"), 2, "no spec named"),
        (("decontaminate", "nowhere", "--against", "x.jsonl", "--output", "y"), 3, "no such corpus"),
        (("frobnicate",), 2, "invalid choice"),
    ],
)
def test_a_mistake_gives_a_message_and_no_traceback(project: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    done = curate(project, *arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_input_is_named_before_anything_is_written(project: Path) -> None:
    (project / "data/a.jsonl").unlink()
    done = curate(project, "run", "workflows/demo.yaml", "--workers", "0")
    assert done.returncode == 2
    assert "data/*.jsonl" in done.stderr
    assert "Traceback" not in done.stderr


def test_init_copies_the_shipped_specs_and_never_overwrites(tmp_path: Path) -> None:
    done = curate(tmp_path, "init", "mine")
    assert done.returncode == 0
    assert (tmp_path / "mine/workflows/quickstart.yaml").is_file()
    assert (tmp_path / "mine/ocr/default.yaml").is_file()
    again = curate(tmp_path, "init", "mine")
    assert again.returncode == 1
    assert "already exists" in again.stderr


def test_all_shipped_workflows_are_right(tmp_path: Path) -> None:
    curate(tmp_path, "init", "mine")
    for spec in sorted((tmp_path / "mine/workflows").glob("*.yaml")):
        if spec.stem != "benchmarks":
            done = curate(tmp_path / "mine", "check", f"workflows/{spec.name}")
            assert done.returncode == 0, done.stderr
