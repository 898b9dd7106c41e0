"""Annotators: pure functions from a batch of documents to a struct column. They measure; they never drop.

One file each, with a function `annotate(batch, *, options) -> pa.StructArray`, whose docstring lists the fields and
the published rules that they serve as SQL conditions. A user's own function stands beside them by
`./steps.py:name` or `package.module:name`. Nothing heavy is imported until an annotator runs.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.corpus import sha256_of
from curate.errors import CurateError
from curate.functions import checked_options, contents_of, find, label, sources

NAMES = ("c4", "characters", "consent", "fineweb", "gopher", "language", "license", "pii", "repetition", "site")

_SHIPPED = {name: f"curate.annotate.{name}:annotate" for name in NAMES}


def annotators() -> dict[str, Callable[..., pa.StructArray]]:
    """Return the shipped annotators, name → function, sorted by name."""
    return {name: find(name, _SHIPPED, None, "annotator") for name in NAMES}


def validate(name: str, options: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """Return the options of an annotator as it will get them: types converted, paths (relative to `folder`) absolute.

    Raises SpecError for an unknown annotator or option (naming the nearest), a wrong type, a missing file.
    """
    return checked_options(name, find(name, _SHIPPED, folder, "annotator"), options, folder)


def contents(name: str, options: Mapping[str, Any], folder: Path | None = None) -> list[str]:
    """Return what stands for the files that an annotator's result depends on: those that its options name, and the user's own code."""
    return [sha256_of(file) for file in sources(name, folder)] + contents_of(validate(name, options, folder), options)


def annotate(batch: pa.RecordBatch, name: str, options: Mapping[str, Any] | None = None, folder: Path | None = None) -> pa.StructArray:
    """Run one annotator over a batch. Return its struct column, one row per document, to be stored as `label(name)`.

    A NaN becomes null: it is no measure, and what is unknown drops nothing, where in DuckDB's order NaN is above all numbers.

    Raises SpecError as `validate` does; CurateError when a user's function returns something else than a struct
    array of the batch's length. What the function itself raises passes through.
    """
    function = find(name, _SHIPPED, folder, "annotator")
    result = function(batch, **checked_options(name, function, options or {}, folder))
    if not isinstance(result, pa.StructArray):
        raise CurateError(f"must return a pyarrow.StructArray, not {type(result).__name__}", where=name)
    if len(result) != batch.num_rows:
        raise CurateError(f"returned {len(result)} rows for {batch.num_rows} documents", where=name, hint="an annotator measures; it never drops")
    return _without_nan(result)


def _without_nan(array: pa.Array) -> pa.Array:
    """Return an array with null for NaN, in fields and lists too, which may all hold null then; an array without NaN as it is."""
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_struct(kind):
        columns = [array.field(k) for k in range(kind.num_fields)]
        cleaned = [_without_nan(column) for column in columns]
        if all(new is old and field.nullable for new, old, field in zip(cleaned, columns, kind, strict=True)):
            return array
        fields = [field.with_type(new.type).with_nullable(True) for field, new in zip(kind, cleaned, strict=True)]
        return pa.StructArray.from_arrays(cleaned, fields=fields, mask=array.is_null())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _lists_without_nan(array)
    if not pa.types.is_floating(kind):
        return array
    # Early versions of pyarrow have few kernels for half precision.
    unknown = pc.fill_null(pc.is_nan(array.cast(pa.float32()) if pa.types.is_float16(kind) else array), False)
    if not unknown.true_count:
        return array
    return array.take(pc.if_else(unknown, pa.scalar(None, pa.int64()), pa.array(range(len(array)), pa.int64())))


def _lists_without_nan(array: pa.Array) -> pa.Array:
    values = array.values
    cleaned = _without_nan(values)
    if cleaned is values and array.type.value_field.nullable:
        return array
    array = array.take(pa.array(range(len(array)), pa.int64()))  # of a slice, `values` are those of the whole
    cleaned = _without_nan(array.values)
    field = array.type.value_field.with_type(cleaned.type).with_nullable(True)
    if pa.types.is_fixed_size_list(array.type):
        return pa.FixedSizeListArray.from_arrays(cleaned, type=pa.list_(field, array.type.list_size), mask=array.is_null())
    kind = pa.large_list(field) if pa.types.is_large_list(array.type) else pa.list_(field)
    return type(array).from_arrays(array.offsets, cleaned, type=kind, mask=array.is_null())


def fields(name: str, folder: Path | None = None) -> dict[str, str]:
    """Return the fields of an annotator with their meaning, as its docstring lists them under `Fields:`."""
    documentation = inspect.getdoc(find(name, _SHIPPED, folder, "annotator")) or ""
    found: dict[str, str] = {}
    current = ""
    for line in documentation.partition("Fields:\n")[2].splitlines():
        if line and not line.startswith(" "):
            break
        entry = re.match(r"    (\w+): (.*)", line)
        if entry:
            current = entry[1]
            found[current] = entry[2]
        elif current and line.strip():
            found[current] += " " + line.strip()
    return found


__all__ = ["NAMES", "annotate", "annotators", "contents", "fields", "label", "validate"]
