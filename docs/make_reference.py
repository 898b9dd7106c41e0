"""Write docs/reference.md: every command, spec key and annotator field, from the code itself.

    python docs/make_reference.py

The text of a spec key is the comment behind it in curate/specs/*.py, so that it is written once. A test fails when a key or a
command has no text, and when the file is not up to date.
"""

from __future__ import annotations

import argparse
import ast
import io
import tokenize
from pathlib import Path

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs" / "reference.md"
# Spec file → what it describes, in the order of the data's way.
SPECS = {
    "workflow": "workflows/NAME.yaml",
    "ocr": "ocr/NAME.yaml",
    "classifier": "classifiers/NAME.yaml",
    "benchmarks": "the benchmarks spec",
    "mix": "mixes/NAME.yaml",
}


def spec_keys(module: str) -> list[tuple[str, str, list[tuple[str, str, str, str]]]]:
    """Return (struct, its docstring, [(key, type, default, text)]) for each struct in curate/specs/MODULE.py."""
    source = (ROOT / "curate" / "specs" / f"{module}.py").read_text(encoding="utf-8")
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT}
    found = []
    for node in ast.parse(source).body:
        if not (isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Spec" for base in node.bases)):
            continue
        keys = []
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                default = "required" if item.value is None else _default(item.value)
                text = comments.get(item.end_lineno or item.lineno, "") or comments.get(item.lineno, "")
                keys.append((item.target.id, ast.unparse(item.annotation), default, text))
        found.append((node.name, ast.get_docstring(node) or "", keys))
    return found


def _default(value: ast.expr) -> str:
    text = ast.unparse(value)
    if text.startswith("field(default_factory="):
        inner = text[len("field(default_factory=") : -1]
        return inner.removeprefix("lambda: ") if inner.startswith("lambda") else "its defaults"
    return {"UNSET": "", "None": "null", "True": "true", "False": "false"}.get(text, text.strip("'"))


def commands() -> list[tuple[str, argparse.ArgumentParser]]:
    """Return every command with its parser, in order."""
    from curate.cli import parser

    found: list[tuple[str, argparse.ArgumentParser]] = []

    def walk(name: str, one: argparse.ArgumentParser) -> None:
        found.append((name, one))
        for action in one._actions:
            if isinstance(action, argparse._SubParsersAction):
                for verb, inner in action.choices.items():
                    walk(f"{name} {verb}", inner)

    walk("curate", parser())
    return found


def render() -> str:
    """Return the whole reference."""
    parts = ["# Reference\n\nMade by `python docs/make_reference.py` from the code; do not edit.\n", "## Commands\n"]
    for name, one in commands():
        if name == "curate":
            continue
        example = (one.epilog or "").partition("\n")[2].strip()
        lines = [f"### `{name}`\n", f"{one.description}\n", f"```\n{example}\n```\n"]
        for action in one._actions:
            if isinstance(action, (argparse._HelpAction, argparse._SubParsersAction)):
                continue
            label = ", ".join(action.option_strings) or action.metavar or action.dest
            lines.append(f"- `{label}`: {action.help}")
        parts.append("\n".join(lines) + "\n")
    parts.append("## Specs\n\nAn unknown or mistyped key is an error.\n")
    for module, title in SPECS.items():
        parts.append(f"### {title}\n")
        for struct, text, keys in spec_keys(module):
            parts.append(f"#### {struct}\n\n{text}\n")
            if keys:
                rows = [f"| `{key}` | `{_cell(kind)}` | {_code(default)} | {_cell(about)} |" for key, kind, default, about in keys]
                parts.append("\n".join(["| key | type | default | |", "|---|---|---|---|", *rows]) + "\n")
    parts.append("## Annotators\n\nEach becomes a column of this name; its fields are what drop rules compare.\n")
    from curate.annotate import NAMES, annotators, fields

    for name in NAMES:
        summary = (annotators()[name].__doc__ or "").strip().splitlines()[0]
        rows = [f"| `{name}.{key}` | {_cell(text)} |" for key, text in fields(name).items()]
        parts.append("\n".join([f"### {name}\n", f"{summary}\n", "| field | |", "|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _code(text: str) -> str:
    return f"`{_cell(text)}`" if text and text not in ("required", "its defaults") else text


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
