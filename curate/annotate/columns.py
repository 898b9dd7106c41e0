"""What annotators share: the text of a batch, its metadata as the ingest room wrote it, and struct columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

_json = msgspec.json.Decoder()


def text_of(batch: pa.RecordBatch) -> pa.StringArray:
    """Return the batch's text as an Arrow `string` array; large strings are converted."""
    text = batch.column("text")
    return text if pa.types.is_string(text.type) else text.cast(pa.string())


def struct_of(fields: Mapping[str, Any]) -> pa.StructArray:
    """Return a struct column of numpy arrays, Arrow arrays and lists, all of one length."""
    arrays = [value if isinstance(value, pa.Array) else pa.array(value) for value in fields.values()]
    return pa.StructArray.from_arrays(arrays, names=list(fields))


def ratio(part: Any, whole: Any) -> Any:
    """Return part / whole as float64, 0 where the whole is 0."""
    return part / np.maximum(whole, 1)


def strings_of(batch: pa.RecordBatch, column: str) -> list[str | None]:
    """Return a string column as Python values; all None where the batch has no such column."""
    if column not in batch.schema.names:
        return [None] * batch.num_rows
    values: list[str | None] = batch.column(column).to_pylist()
    return values


def metas_of(batch: pa.RecordBatch) -> Iterable[dict[str, Any]]:
    """Yield the metadata of each document; {} where there is none, or where it is not a JSON object."""
    for value in strings_of(batch, "meta"):
        try:
            meta = _json.decode(value) if value else {}
        except msgspec.DecodeError:
            meta = {}
        yield meta if isinstance(meta, dict) else {}


def mapping_at(meta: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the object at `key`, {} where there is none: crawled metadata is not trusted to have its shape."""
    value = meta.get(key)
    return value if isinstance(value, dict) else {}


def string_at(meta: Mapping[str, Any], key: str) -> str:
    """Return the string at `key`; several values joined by commas, as HTTP allows; "" where there is none."""
    value = meta.get(key)
    if isinstance(value, list):
        return ", ".join(v for v in value if isinstance(v, str))
    return value if isinstance(value, str) else ""
