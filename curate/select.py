"""Drop documents by named SQL conditions over their columns and annotations.

    drop:
      too_short: gopher.words < 50

DuckDB evaluates the conditions, in an empty database of its own with files, network and extensions off. All the conditions
that hold are recorded; the first one in the spec counts. A condition that is null (a measure is missing) does not hold: what is
unknown drops nothing. Rows are joined back by id, never by position. A condition sees one document: what depends on other rows
(aggregates, windows, subqueries), on chance or on the time would give another corpus with other batches, and is refused.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus import Corpus
from curate.errors import CurateError, InputError, SpecError
from curate.tasks import Output, Task, describe

_REASON = re.compile(r"[a-z][a-z0-9_]*")
_OPERATORS = {
    "COMPARE_LESSTHAN": "<", "COMPARE_LESSTHANOREQUALTO": "<=", "COMPARE_GREATERTHAN": ">", "COMPARE_GREATERTHANOREQUALTO": ">=",
    "COMPARE_EQUAL": "=", "COMPARE_NOTEQUAL": "<>", "COMPARE_DISTINCT_FROM": "is distinct from", "COMPARE_NOT_DISTINCT_FROM": "is not distinct from",
}  # fmt: skip
_DESCRIBED = 16  # so many of the failures in a batch are looked into, each with a query of its own
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_Row = TypeVar("_Row")


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
            check_condition(condition, schema.names, f"{where}.{reason}")
            try:
                kind = self._connection.execute(f"DESCRIBE SELECT ({condition}\n) AS hit FROM documents").fetchall()[0][1]
                self._connection.execute(f"SELECT ({condition}\n) AS hit FROM documents").fetchall()
            except duckdb.Error as error:
                raise SpecError(_first_line(error), where=f"{where}.{reason}", hint=_columns(schema)) from error
            if kind == "TUPLE":  # of nothing: a comment alone, too
                raise SpecError("is empty", where=f"{where}.{reason}", hint="write a condition, such as length(text) < 200")
            if kind != "BOOLEAN":
                raise SpecError(f"is a {kind}, not a condition: {condition}", where=f"{where}.{reason}", hint="compare it with something")
        # Names of our own, by position: a reason may be named as a column is.
        self._hits = [f"hit {i}" for i in range(len(rules))]
        hits = [(f"coalesce(({condition}\n), false)", hit) for hit, condition in zip(self._hits, rules.values(), strict=True)]
        self._query, self._trying = (
            f"SELECT {', '.join(['id AS document', *columns])} FROM documents"
            for columns in ([f'{value} AS "{hit}"' for value, hit in hits], [f'TRY({value}) AS "{hit}"' for value, hit in hits])
        )

    def decide(self, batch: pa.RecordBatch) -> list[list[str]]:
        """Return, for each row of `batch`, all the reasons to drop it, in the order of the spec; [] keeps it."""
        self._connection.register("documents", pa.Table.from_batches([batch]))
        table = self._connection.execute(self._query).fetchnumpy()
        hits = [table[hit].tolist() for hit in self._hits]
        rows = [[reason for reason, hit in zip(self._reasons, row, strict=True) if hit] for row in zip(*hits, strict=True)]
        return _in_order(table["document"].tolist(), rows, batch)

    def decide_each(self, batch: pa.RecordBatch) -> tuple[list[list[str]], dict[int, str]]:
        """Return what `decide` does, and row → error for those on which a condition fails: they have no reasons.

        Where many fail, the first are described, and the others by the first of them.
        """
        import duckdb

        try:
            return self.decide(batch), {}
        except CurateError:
            raise
        except Exception as error:
            if batch.num_rows == 1:
                return [[]], {0: describe(error)}
        try:
            self._connection.register("documents", pa.Table.from_batches([batch]))
            found = self._connection.execute(self._trying).fetchall()
        except duckdb.Error:
            return self._decide_halves(batch)  # what TRY does not catch
        hits = _in_order([key for key, *_ in found], [row for _, *row in found], batch)
        rows = [[reason for reason, hit in zip(self._reasons, row, strict=True) if hit] for row in hits]
        failed: dict[int, str] = {}
        for i in (i for i, row in enumerate(hits) if None in row):
            if len(failed) < _DESCRIBED:
                (rows[i],), errors = self.decide_each(batch.slice(i, 1))
                if errors:
                    failed[i] = errors[0]
            else:
                rows[i], failed[i] = [], f"fails, perhaps as another document did: {next(iter(failed.values()))}"
        return rows, failed

    def _decide_halves(self, batch: pa.RecordBatch) -> tuple[list[list[str]], dict[int, str]]:
        """A condition gives for a row the same whatever other rows come with it, so a batch that fails may be halved."""
        half = batch.num_rows // 2
        (first, failed), (second, others) = self.decide_each(batch.slice(0, half)), self.decide_each(batch.slice(half))
        return [*first, *second], failed | {half + row: error for row, error in others.items()}


def _in_order(ids: list[str], rows: list[_Row], batch: pa.RecordBatch) -> list[_Row]:
    """Return `rows`, which are of the documents `ids`, in the order of `batch`."""
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
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET lock_configuration = true")
    return connection


def check_reason(reason: str, where: str) -> None:
    """Raise SpecError unless `reason` is a fixed word such as `too_short`."""
    if not _REASON.fullmatch(reason):
        raise SpecError(f"'{reason}' is not a name for a reason", where=where, hint="lower-case letters, digits and _, such as too_short")


def check_condition(condition: str, columns: list[str], where: str) -> None:
    """Raise SpecError when `condition` is more than one condition over one row, or is not the same every time."""
    frame, _ = _parsed("SELECT (true\n)")
    found, conditions = _parsed(f"SELECT ({condition}\n)")
    if found is None:
        return  # not SQL at all, which DuckDB's own message says better
    if found != frame or len(conditions) != 1:
        raise SpecError(f"is not one condition: {condition}", where=where, hint="combine conditions with and, or")
    functions = _functions()
    for node in _nodes(conditions[0]):
        kind, name = node.get("class", ""), str(node.get("function_name", "")).lower()
        if kind in ("SUBQUERY", "WINDOW", "STAR", "POSITIONAL_REFERENCE", "PARAMETER"):
            what = {"SUBQUERY": "a subquery", "WINDOW": "a window function", "STAR": "a star"}.get(kind, "a reference by position")
            raise SpecError(f"{what} cannot stand in a rule", where=where, hint="a rule sees one document, by the names of its columns")
        if kind == "COLUMN_REF" and len(node["column_names"]) == 1 and node["column_names"][0].lower() not in map(str.lower, columns):
            name = str(node["column_names"][0]).lower()  # current_date and the like are written as columns are
            name = name if functions.get(name) == "varies" else ""
        trouble = functions.get(name)
        if trouble == "varies":
            hint = "a rule gives the same every time; to sample, compare hash(id), such as hash(id) % 100 < 10"
            raise SpecError(f"{name} is not the same every time", where=where, hint=hint)
        if trouble == "rows":
            raise SpecError(f"{name} looks at more than one row", where=where, hint="a rule sees one document; annotators measure")


def _parsed(query: str) -> tuple[Any, list[Any]]:
    """Return a query's tree without its conditions, and its conditions; (None, []) when it cannot be parsed."""
    tree = json.loads(_parser().execute("SELECT json_serialize_sql(?)", [query]).fetchall()[0][0])
    if tree["error"]:
        return None, []
    conditions = tree["statements"][0]["node"].pop("select_list", [])
    return tree, conditions


@functools.cache
def _parser() -> Any:
    """Return a connection to ask about SQL; opening one costs more than all the questions."""
    return connect()


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    for inner in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else []:
        yield from _nodes(inner)


@functools.cache
def _functions() -> dict[str, str]:
    """Return the functions that no rule may call: "varies" (by chance, time, session) or "rows" (it sees more than one, or makes some)."""
    columns = "function_name, list(DISTINCT function_type), list(DISTINCT stability), any_value(macro_definition)"
    query = f"SELECT {columns} FROM duckdb_functions() GROUP BY 1"
    refused, macros = {}, {}
    for name, kinds, stabilities, definition in _parser().execute(query).fetchall():
        if not {"scalar", "macro"} & set(kinds):
            refused[name] = "rows"
        elif "VOLATILE" in stabilities or stabilities == ["CONSISTENT_WITHIN_QUERY"]:  # some overloads of + vary with the time zone, which is fixed
            refused[name] = "varies"
        elif "macro" in kinds:
            macros[name] = set(re.findall(r"\w+", definition or ""))
    refused |= dict.fromkeys(("unnest", "age", "current_timestamp", "localtime", "localtimestamp", "current_time"), "varies") | {"unnest": "rows"}
    for name, words in macros.items():  # such as geomean, which is exp(avg(ln(x)))
        called = {refused[word] for word in words - {"list", "first", "last", "any_value", "mode"} if word in refused}
        if called and not name.startswith(("list_", "array_")):
            refused[name] = "varies" if "varies" in called else "rows"
    return refused


def comparisons(condition: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a condition compares: column (or expression), value, operator, threshold, margin; and limit, where the threshold is no constant.

    `margin` is how far a number is from the threshold, or from `limit`, the threshold's value; negative where it is below.
    What `row` does not have is None. For people; nothing is decided by it.
    """
    tree, conditions = _parsed(f"SELECT ({condition}\n)")
    return [_compared(tree, node, row) for node in _comparisons_in(conditions)]


def _comparisons_in(nodes: list[Any]) -> Iterator[dict[str, Any]]:
    """Yield the comparisons that and, or and not combine, not those within functions and cases."""
    for node in nodes:
        if node["class"] == "COMPARISON" and node["type"] in _OPERATORS:
            yield node
        elif node["class"] == "CONJUNCTION" or node["type"] == "OPERATOR_NOT":
            yield from _comparisons_in(node["children"])


def _compared(tree: dict[str, Any], node: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    left, right, operator = node["left"], node["right"], _OPERATORS[node["type"]]
    if _is_constant(left) and not _is_constant(right):
        left, right, operator = right, left, _TURNED.get(operator, operator)
    value, limit = _valued(_written(tree, left), _written(tree, right), row)
    numbers = all(isinstance(side, int | float) and not isinstance(side, bool) for side in (value, limit))
    margin = float(value) - float(limit) if numbers else None
    found = {"column": _shown(tree, left), "value": value, "operator": operator, "threshold": _shown(tree, right), "margin": margin}
    return found if _is_constant(right) else found | {"limit": limit}


def _is_constant(tree: dict[str, Any]) -> bool:
    return not any(node.get("class") == "COLUMN_REF" for node in _nodes(tree))


def _written(tree: dict[str, Any], expression: dict[str, Any]) -> str:
    """Return an expression of a parsed query as SQL."""
    node = tree["statements"][0]["node"] | {"select_list": [expression]}
    query = json.dumps({"error": False, "statements": [{"node": node}]})
    return str(_parser().execute("SELECT json_deserialize_sql(?::JSON)", [query]).fetchall()[0][0]).removeprefix("SELECT ")


def _shown(tree: dict[str, Any], expression: dict[str, Any]) -> str:
    """Return an expression as people write it: a column without quotes, arithmetic without parentheses around all of it."""
    if expression["class"] == "COLUMN_REF":
        return ".".join(expression["column_names"])
    text = _written(tree, expression)
    return text[1:-1] if expression.get("is_operator") and text[0] + text[-1] == "()" else text


def _valued(left: str, right: str, row: dict[str, Any]) -> tuple[Any, Any]:
    """Return the values of two expressions over a row; (None, None) if it does not have what they need."""
    import duckdb

    try:
        _parser().register("row", pa.Table.from_pylist([row]))
        value, limit = _parser().execute(f"SELECT ({left}), ({right}) FROM row AS documents").fetchall()[0]
    except (duckdb.Error, pa.ArrowException):
        return None, None
    return (float(value) if isinstance(value, Decimal) else value), (float(limit) if isinstance(limit, Decimal) else limit)


def drop_shard(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: decide one shard. `options`: {"rules": [[reason, condition], …]}, in the order in which they count."""
    corpus = Corpus.open(task.inputs[0])
    schema = corpus.schema()
    out.empty(schema)
    rules = Rules(dict(options["rules"]), schema)
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
