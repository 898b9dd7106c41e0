"""The command as a newcomer meets it: help, errors without tracebacks, exit codes, data on standard output."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from unittest.mock import Mock

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
        assert f"\n    {verb}" in done.stdout
    assert min(seconds) < 1.0  # 0.1 s on an idle machine; a heavy import at the top costs more than this on any


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys; from curate.cli import parser; parser(); print(sorted({'numpy', 'pyarrow', 'duckdb', 'torch', 'rich', 'numba', 'yaml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_with_nothing_to_do_loads_no_compiler(project: Path) -> None:
    """Workers compile; a plan only reads. So a second run takes a second, most of which are imports."""
    (project / "workflows/demo.yaml").write_text(SPEC + "together:\n  - dedup: {}\n")
    assert curate(project, "run", "workflows/demo.yaml").returncode == 0
    code = """
        import sys
        from curate.cli import main
        sys.argv = ["curate", "run", "workflows/demo.yaml"]
        try:
            main()
        finally:
            print("loaded", sorted({"numba", "torch", "httpx", "scipy", "sklearn"} & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "complete already" in done.stderr
    assert "loaded []" in done.stdout


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
    (project / "runs/demo/web/01-ingest/manifest.json").unlink()  # as in a run that was interrupted
    damaged = curate(project, "verify", "runs/demo")
    assert damaged.returncode == 1
    assert "01-ingest: is incomplete" in damaged.stdout and "its bytes have changed" in damaged.stdout
    assert "3 folders verified: 3 faults" in damaged.stderr


def test_a_terminal_without_utf_8_ends_no_command(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "data/a.jsonl").write_text('{"text": "größer 😀 ≈", "url": "https://example.org/ü😀"}\n')
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = curate(project, "run", "workflows/demo.yaml", "--workers", "0")
    assert (done.returncode, "?1" in done.stdout) == (0, True), done.stderr  # −1
    shown = curate(project, "explain", "runs/demo", "https://example.org/ü😀", "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)[0]["text"] == "größer 😀 ≈"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("run", "workflows/nowhere.yaml"), 2, "no such spec"),
        (("run", "workflows/demo.yaml", "--workers", "many"), 2, "'many': a whole number between 0 and 1024"),
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


def test_bars_on_a_terminal_do_not_stop_a_run(project: Path) -> None:
    import pty

    first, second = pty.openpty()
    command = [sys.executable, "-m", "curate.cli", "run", "workflows/demo.yaml", "--workers", "1"]
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL, stderr=second, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"})
    os.close(second)
    seen = b""
    with contextlib.suppress(OSError):  # how a terminal says that its last writer is gone
        while chunk := os.read(first, 65536):
            seen += chunk
    os.close(first)
    assert process.wait(timeout=60) == 0, seen.decode()
    assert b"1 dropped" in seen


def test_a_reader_that_goes_away_is_no_failure(project: Path) -> None:
    assert curate(project, "run", "workflows/demo.yaml", "--workers", "0", "--quiet").returncode == 0
    command = [sys.executable, "-m", "curate.cli", "status", "runs/demo", "--json"]
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert (process.stderr.read(), process.wait(timeout=60)) == (b"", 0)


def test_a_broken_pipe_elsewhere_is_a_failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from curate import cli

    monkeypatch.setattr(cli, "status", Mock(side_effect=BrokenPipeError(32, "Broken pipe")))
    assert cli.main(["status", "runs/demo"]) == 1
    assert capsys.readouterr().err == "error: Broken pipe\n"


def test_verify_reads_what_steps_over_all_sources_keep(project: Path) -> None:
    (project / "workflows/demo.yaml").write_text(SPEC + "together:\n  - dedup: {minhash: {}}\n")
    assert curate(project, "run", "workflows/demo.yaml", "--workers", "0", "--quiet").returncode == 0
    assert curate(project, "verify", "runs/demo").returncode == 0
    damaged = next((project / "runs/demo/together").rglob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    done = curate(project, "verify", "runs/demo")
    assert done.returncode == 1
    assert damaged.name in done.stdout
    (project / "runs/demo/manifest.json").write_bytes(next((project / "runs/demo").glob("*/01-*/manifest.json")).read_bytes())
    assert str(damaged.relative_to(project)) in curate(project, "verify", "runs/demo").stdout  # a run is verified as one, whatever else lies in it


def test_plain_mistakes_are_explained(project: Path) -> None:
    (project / "a-file").write_text("")
    spec = project / "workflows/demo.yaml"
    mistakes = [
        (SPEC + "run: a-file\n", ("run", "workflows/demo.yaml"), 2, "is a file"),
        (SPEC, ("init", "a-file"), 1, "is a file"),
        (SPEC, ("report", "runs/demo", "--output", "nowhere/report.html"), 1, "no such folder"),
        (SPEC.replace("[gopher]", "[./steps.py:empty]"), ("check", "workflows/demo.yaml"), 2, "fails on a batch without rows: IndexError"),
        (SPEC.replace("[gopher]", "[./steps.py:untyped]"), ("check", "workflows/demo.yaml"), 2, "the type of field 'x' cannot be told"),
        (SPEC.replace("[gopher]", "[./leaves.py:f]"), ("check", "workflows/demo.yaml"), 2, "leaves.py: cannot be loaded: SystemExit: 3"),
        (SPEC.replace("[gopher]", "[./steps.py:leave]"), ("check", "workflows/demo.yaml"), 2, "fails on a batch without rows: SystemExit: no"),
        ("prepare: {call: ./steps.py:leave, into: made}\n" + SPEC, ("run", "workflows/demo.yaml"), 1, "called sys.exit('no')"),
        (SPEC.replace("[gopher]", "[gopher, {gopher: {}}]"), ("check", "workflows/demo.yaml"), 2, "two annotators would write the column 'gopher'"),
    ]
    untyped = "import pyarrow as pa\ndef untyped(batch):\n    return pa.array([{'x': None}] * batch.num_rows, pa.struct([('x', pa.null())]))\n"
    leave = "import sys\ndef leave(batch):\n    sys.exit('no')\n"
    (project / "workflows/steps.py").write_text("def empty(batch):\n    return batch.column('text').to_pylist()[0]\n" + untyped + leave)
    (project / "workflows/leaves.py").write_text("import sys\nsys.exit(3)\n")
    for text, arguments, code, message in mistakes:
        spec.write_text(text)
        done = curate(project, *arguments)
        assert (done.returncode, message in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr


def test_numbers_of_two_digits_have_no_exponent_above_one() -> None:
    from curate.console import two_digits

    assert [two_digits(value) for value in (0, 0.0325, 1.25, 9.94, 84.4, 99.7, 100, 1234.5)] == [
        "0",
        "0.033",
        "1.2",
        "9.9",
        "84",
        "100",
        "100",
        "1,234",
    ]


def test_hostile_reasons_reach_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    from curate.console import print_funnel, say
    from curate.funnel import Row
    from curate.ledger import Ledger

    ledger = Ledger(entered=2, kept=1, dropped={"[/bold][red]x\x1b[2J": 1})
    print_funnel([Row("web", "web/01-[x]", "drop", ledger, kept_tokens=1, dropped_tokens={}, exact=True)])
    say("a\x1b[2Jb\nc")
    shown = capsys.readouterr()
    assert "[/bold][red]x" in shown.out
    assert "01-[x]" in shown.out
    assert "\x1b" not in shown.out + shown.err
