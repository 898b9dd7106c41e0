"""Drop documents by named SQL conditions over their columns and annotations.

    drop:
      too_short: gopher.words < 50

DuckDB evaluates the conditions, in an empty database of its own with files, network and extensions off. All the conditions
that hold are recorded; the first one in the spec counts. A condition that is null (a measure is missing) does not hold: what is
unknown drops nothing. Rows are joined back by id, never by position.
"""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus import Corpus
from curate.errors import InputError, SpecError
from curate.tasks import Output, Task

_REASON = re.compile(r"^[a-z][a-z0-9_]*$")
_COMPARISON = re.compile(r"([a-z_][\w]*(?:\.[a-z_]\w*)*)\s*(<=|>=|<>|!=|<|>|=)\s*(-?\d+(?:\.\d+)?(?:e-?\d+)?|'[^']*'|true|false)", re.IGNORECASE)


class Rules:
    """Drop rules, ready to be evaluated: reason → SQL condition."""

    def __init__(self, rules: dict[str, str], schema: pa.Schema, where: str = "drop") -> None:
        """Compile `rules` against `schema`. Raises SpecError that names the rule which is wrong."""
        import duckdb

        self._connection = connect()
        self._reasons = list(rules)
        empty = schema.empty_table()
        self._connection.register("documents", empty)
        for reason, condition in rules.items():
            check_reason(reason, where)
            try:
                kind = self._connection.execute(f"DESCRIBE SELECT ({condition}\n) AS hit FROM documents").fetchall()[0][1]
                self._connection.execute(f"SELECT ({condition}\n) AS hit FROM documents").fetchall()
            except duckdb.Error as error:
                raise SpecError(_first_line(error), where=f"{where}.{reason}", hint=_columns(schema)) from error
            if kind != "BOOLEAN":
                raise SpecError(f"is a {kind}, not a condition: {condition}", where=f"{where}.{reason}", hint="compare it with something")
        hits = ", ".join(f'coalesce(({condition}\n), false) AS "{reason}"' for reason, condition in rules.items())
        self._query = f"SELECT id, {hits} FROM documents"

    def decide(self, batch: pa.RecordBatch) -> list[list[str]]:
        """Return, for each row of `batch`, all the reasons to drop it, in the order of the spec; [] keeps it."""
        self._connection.register("documents", pa.Table.from_batches([batch]))
        table = self._connection.execute(self._query).fetchnumpy()
        ids, hits = table["id"].tolist(), [table[reason].tolist() for reason in self._reasons]
        rows = [[reason for reason, hit in zip(self._reasons, row, strict=True) if hit] for row in zip(*hits, strict=True)]
        wanted = batch.column("id").to_pylist()
        if ids == wanted:
            return rows
        by_id = dict(zip(ids, rows, strict=True))
        if len(by_id) != len(wanted):
            raise InputError(f"{len(wanted) - len(by_id)} documents share an id with another one", where="drop")
        return [by_id[key] for key in wanted]


def connect() -> Any:
    """Return a DuckDB connection that can reach nothing: no file, no network, no extension, no Python variable."""
    import duckdb

    connection = duckdb.connect(
        ":memory:",
        config={
            "threads": 1,
            "enable_external_access": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
        },
    )
    connection.execute("SET lock_configuration = true")
    return connection


def check_reason(reason: str, where: str) -> None:
    """Raise SpecError unless `reason` is a fixed word such as `too_short`."""
    if not _REASON.match(reason):
        raise SpecError(f"'{reason}' is not a name for a reason", where=where, hint="lower-case letters, digits and _, such as too_short")


def comparisons(condition: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a condition compares, as far as it can be read off: column, value, operator, threshold, margin.

    `margin` is how far a number is from the threshold; negative where it is below. For people; nothing is decided by it.
    """
    found = []
    for column, operator, threshold in _COMPARISON.findall(condition):
        value: Any = row
        for part in column.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        try:
            margin = float(value) - float(threshold) if not isinstance(value, bool) else None
        except (TypeError, ValueError):
            margin = None
        found.append({"column": column, "value": value, "operator": operator, "threshold": threshold, "margin": margin})
    return found


def drop_shard(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: decide one shard. `options`: {"rules": reason → condition}."""
    corpus = Corpus.open(task.inputs[0])
    schema = corpus.schema()
    out.empty(schema)
    rules = Rules(options["rules"], schema)
    for batch, reasons in out.map(corpus.batches(task.name), rules.decide):
        keep = pa.array([not row for row in reasons], pa.bool_())
        out.write(batch.filter(keep))
        out.drop(batch.filter(pc.invert(keep)), [row for row in reasons if row])


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    candidates = [line for line in lines[1:] if "andidate" in line or "id you mean" in line]
    return " ".join([lines[0], *candidates]) if lines else type(error).__name__


def _columns(schema: pa.Schema) -> str:
    """Name the columns that a rule can use."""
    names = []
    for column in schema:
        if pa.types.is_struct(column.type):
            names += [f"{column.name}.{column.type.field(i).name}" for i in range(column.type.num_fields)]
        else:
            names.append(column.name)
    return f"columns: {', '.join(names)}"
