"""The repository's habits: ruff, mypy in strict mode, and the size of files and functions."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy", "--no-error-summary"]], ids=lambda c: " ".join(c[:2]))
def test_the_tools_are_content(command: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


def test_files_and_functions_stay_small() -> None:
    large = []
    for path in sorted((ROOT / "curate").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if source.count("\n") > 500:
            large.append(f"{path.relative_to(ROOT)}: {source.count(chr(10))} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > 80:
                large.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines")
    assert large == []


def test_every_module_says_what_it_does() -> None:
    silent = [
        str(p.relative_to(ROOT)) for p in sorted((ROOT / "curate").rglob("*.py")) if not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_pymupdf_stays_behind_its_interface() -> None:
    users = [str(p.relative_to(ROOT)) for p in sorted((ROOT / "curate").rglob("*.py")) if "import pymupdf" in p.read_text(encoding="utf-8")]
    assert users == ["curate/ocr/pages.py", "curate/quickstart/papers.py"]
