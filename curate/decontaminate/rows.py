"""Files of benchmark items → rows: JSON lines, JSON, CSV and Parquet, compressed or not.

Every row is yielded with its number, or with the reason why it is none: a bad line never hides the lines after it. A JSON file
is read as a whole; the others row by row.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from curate.decontaminate.formats import channels_of, folded_name
from curate.errors import InputError
from curate.specs.benchmarks import Fields

MAX_LINE_BYTES = 64_000_000
KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
MMLU_COLUMNS = ["question", "A", "B", "C", "D", "answer"]  # of the original CSV files, which have no header
# Lists of objects that one item may have.
_OF_AN_ITEM = {
    *("choices", "options", "endings", "mc1_targets", "mc2_targets", "context_options", "candidates", "alternatives"),
    *("answer", "answers", "target", "targets", "rubrics", "steps", "tests", "test_cases", "test_list"),
    *("messages", "conversation", "conversations", "turns", "documents", "contexts", "evidence", "supporting_facts"),
}
Row = dict[str, Any]


def kind_of(path: Path) -> str:
    """Return which of KINDS a file is, by its name without .gz; JSON lines when the name does not say."""
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    return suffix if suffix in KINDS else ".jsonl"


def read_rows(path: Path, fields: Fields) -> Iterator[tuple[int, Row | str]]:
    """Yield (number from 1, row, or what is wrong with it); `fields` says what is an item, where a file may be one or hold some.

    Raises InputError when the file cannot be read to its end.
    """
    kind = kind_of(path)
    try:
        if kind == ".parquet":
            yield from _parquet(path)
            return
        with cast(IO[bytes], gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")) as file:
            if kind in (".csv", ".tsv"):
                yield from _csv(file, "\t" if kind == ".tsv" else ",")
            elif kind == ".json":
                yield from _json(file, fields)
            else:
                yield from _lines(file)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot be read to its end: {error}", where=str(path), hint="is the download complete?") from error


def _lines(file: IO[bytes]) -> Iterator[tuple[int, Row | str]]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        if line.strip():
            yield number, _decoded(line)


def _decoded(line: bytes) -> Row | str:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return f"is not UTF-8 at byte {error.start}"
    except json.JSONDecodeError as error:
        return f"is not JSON: {error.msg} at column {error.colno}"
    except (ValueError, RecursionError) as error:
        return f"is not JSON: {error}"
    return row if isinstance(row, dict) else "is not a JSON object"


def _json(file: IO[bytes], fields: Fields) -> Iterator[tuple[int, Row | str]]:
    """A list of objects, or an object that holds one and is no item itself, such as {"data": […]}; an item on its own is a list of one."""
    content = file.read()
    try:
        data = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        yield from _lines(io.BytesIO(content))  # JSON lines are often called .json
        return
    if isinstance(data, dict):
        lists = [value for value in data.values() if isinstance(value, list) and value and all(isinstance(v, dict) for v in value)]
        data = lists[0] if len(lists) == 1 and len(data) <= 4 and not _is_item(data, lists[0], fields) else [data]
    if not isinstance(data, list):
        yield 1, "is not a list of objects"
        return
    for number, row in enumerate(data, 1):
        if isinstance(row, dict) and isinstance(row.get("row"), dict):
            row = row["row"]  # as the hub's viewer writes them
        yield number, row if isinstance(row, dict) else "is not a JSON object"


def _is_item(row: Row, objects: list[Row], fields: Fields) -> bool:
    """Whether `row` is an item: the fields that the spec names are its own, or its list `objects` is one of choices, answers and the like.

    What else has a prompt or a passage holds items.
    """
    named = {folded_name(path.split(".")[0]) for path in msgspec.structs.astuple(fields) if path}
    own, inner = ({folded_name(key) for key in one} for one in (row, objects[0]))
    key = next(folded_name(key) for key, value in row.items() if value is objects)
    if key not in _OF_AN_ITEM and not (named & own) - inner:
        return False
    try:
        channels_of(row, fields)
    except (ValueError, RecursionError):
        return False
    return True


def _csv(file: IO[bytes], delimiter: str) -> Iterator[tuple[int, Row | str]]:
    """Rows by the names in the first line. Raises nothing: what is not UTF-8 ends the file with a bad row."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    reader = csv.reader(text, delimiter=delimiter)
    names: list[str] | None = None
    while True:
        try:
            cells = next(reader, None)
        except UnicodeDecodeError as error:
            yield reader.line_num + 1, f"is not UTF-8 here or soon after: {error.reason}"
            return
        except csv.Error as error:
            yield reader.line_num, f"is not CSV: {error}"
            continue
        number = reader.line_num
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if names is None:
            names = MMLU_COLUMNS if len(cells) == 6 and cells[5].strip() in set("ABCD") else cells
            if names is cells:
                continue
        if len(cells) > len(names):
            yield number, f"has {len(cells)} cells, the first line {len(names)}"
        else:
            yield number, {name: _cell(cell) for name, cell in zip(names, cells, strict=False)}


def _cell(cell: str) -> Any:
    """Return a cell; a list or an object that was written into it is read."""
    if cell[:1] in "[{" and cell[-1:] in "]}" and len(cell) > 1:
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell
    return cell


def _parquet(path: Path) -> Iterator[tuple[int, Row | str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pa.ArrowException as error:
        raise InputError(f"cannot be read to its end: {error}", where=str(path), hint="is the download complete?") from error
    except UnicodeDecodeError as error:
        raise InputError(f"row {number + 1} or one of the next holds text that is not UTF-8", where=str(path)) from error
