"""Every command, option and spec key is documented, and the reference is up to date."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
assert _spec is not None
assert _spec.loader is not None
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)


@pytest.mark.parametrize("module", list(reference.SPECS))
def test_every_spec_key_has_a_text(module: str) -> None:
    for struct, text, keys in reference.spec_keys(module):
        assert text, f"{module}.{struct} has no docstring"
        silent = [f"{struct}.{key}" for key, _, _, about in keys if not about]
        assert silent == []


def test_every_spec_file_is_in_the_reference() -> None:
    modules = {path.stem for path in (ROOT / "curate" / "specs").glob("*.py")} - {"__init__", "load"}
    assert modules == set(reference.SPECS)


def test_every_command_has_help_an_example_and_described_options() -> None:
    for name, parser in reference.commands():
        assert parser.description, name
        assert "example:\n  curate " in (parser.epilog or ""), name
        undescribed = [a.dest for a in parser._actions if not a.help and not isinstance(a, argparse._SubParsersAction)]
        assert undescribed == [], name


def test_the_reference_is_up_to_date() -> None:
    assert reference.TARGET.read_text(encoding="utf-8") == reference.render(), "run: python docs/make_reference.py"


def test_every_annotator_documents_all_its_fields() -> None:
    import pyarrow as pa

    from curate.annotate import NAMES, annotate, fields
    from curate.documents import SCHEMA

    for name in NAMES:
        kind = annotate(pa.RecordBatch.from_pylist([], SCHEMA), name).type
        assert set(fields(name)) == {kind.field(i).name for i in range(kind.num_fields)}, name
