"""Load a YAML spec into a strict, frozen struct.

An unknown key, a wrong type or a duplicate key fails before anything runs, naming the file, the line, the path
and the nearest known key. The price of strictness: there is no place for free-form keys; comments serve for that.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from curate.errors import SpecError


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=False):
    """The base of every spec: frozen, and unknown keys are errors."""


MAX_VALUES, MAX_DEPTH = 100_000, 50
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq", "merge")}

T = TypeVar("T")


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys, and reads `no`, `on`, `2026-01-01` and the like as they are written."""

    def number(self, node: yaml.ScalarNode) -> int | float:
        """Return the number that a node holds; what fits into no 64 bits is an error, as what is none."""
        is_whole = node.tag.endswith(":int")
        try:
            value: int | float = self.construct_yaml_int(node) if is_whole else self.construct_yaml_float(node)
        except ValueError as error:
            raise yaml.constructor.ConstructorError(None, None, f"'{node.value[:40]}' is not a number", node.start_mark) from error
        if is_whole and not -(2**63) <= value < 2**63:
            raise yaml.constructor.ConstructorError(None, None, "a number that does not fit into 64 bits", node.start_mark)
        return value

    def truth(self, node: yaml.ScalarNode) -> bool:
        """Return the boolean that a node holds."""
        if node.value.lower() not in ("true", "false"):
            raise yaml.constructor.ConstructorError(None, None, f"'{node.value[:40]}' is neither true nor false", node.start_mark)
        return bool(node.value.lower() == "true")


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.number)
_Loader.add_constructor("tag:yaml.org,2002:bool", _Loader.truth)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":bool", ":float", ":value"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
# YAML 1.2 floats: 1e-3 is a number here, which YAML 1.1 reads as a string.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:(?:[0-9][0-9_]*)?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*\.?[eE][-+]?[0-9]+|[0-9][0-9_]*\.|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def load_spec(path: Path, kind: type[T]) -> T:
    """Read the YAML file at `path` as a `kind`.

    Raises SpecError, with file, line, path within the file, and the nearest known key, when it is not one.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SpecError("no such spec", where=str(path), hint=_neighbours(path)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot be read: {error}", where=str(path)) from error
    root, data = _parsed(text, path, kind)
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise _explained(str(error), path, kind, root) from error


def _parsed(text: str, path: Path, kind: Any) -> tuple[yaml.Node, Any]:
    """Return the nodes and the data of a YAML text, or raise SpecError."""
    try:
        root = yaml.compose(text, Loader=_Loader)
        if root is None:
            raise SpecError("is empty", where=str(path), hint=f"known keys: {', '.join(field_names(kind))}")
        _refuse_tricks(root, path, 0, [0])
        _refuse_duplicates(root, path, ())
        return root, _Loader("").construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise SpecError(f"is not YAML: {error.problem or error.context}", where=f"{path}:{mark.line + 1}" if mark else str(path)) from error
    except yaml.YAMLError as error:
        raise SpecError(f"is not YAML: {error}", where=str(path)) from error
    except RecursionError as error:
        raise SpecError(f"is nested deeper than {MAX_DEPTH} levels", where=str(path)) from error


def _refuse_tricks(node: yaml.Node, path: Path, depth: int, count: list[int]) -> None:
    """Refuse what no spec needs: tags, keys that are no words, values by the million (by aliases of aliases), endless nesting."""
    where = f"{path}:{node.start_mark.line + 1}"
    count[0] += 1
    if depth > MAX_DEPTH:
        raise SpecError(f"is nested deeper than {MAX_DEPTH} levels", where=where, hint="an alias cannot contain itself")
    if count[0] > MAX_VALUES:
        raise SpecError(f"holds more than {MAX_VALUES:,} values", where=where, hint="each alias counts with all that it stands for")
    if node.tag not in _TAGS:
        raise SpecError(f"the tag {node.tag.replace('tag:yaml.org,2002:', '!!')} is not allowed", where=where, hint="write plain values")
    if isinstance(node, yaml.ScalarNode):
        if "\0" in node.value:
            raise SpecError("holds a zero character", where=where)
        return
    for inner in node.value:
        for one in inner if isinstance(inner, tuple) else (inner,):
            _refuse_tricks(one, path, depth + 1, count)
        if isinstance(inner, tuple) and not isinstance(inner[0], yaml.ScalarNode):
            raise SpecError("a key must be a word", where=f"{path}:{inner[0].start_mark.line + 1}")


def line_of(path: Path, keys: Iterable[str | int]) -> int:
    """Return the line, from 1, of what `keys` and indices lead to in a spec that has been loaded; they are followed as far as they lead."""
    node, line = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader), 1
    for key in keys:
        if isinstance(node, yaml.SequenceNode) and isinstance(key, int):
            node = node.value[key]
            line = node.start_mark.line + 1
            continue
        pairs = [pair for pair in node.value if pair[0].value == key] if isinstance(node, yaml.MappingNode) else []
        if not pairs:
            break
        line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
    return line


def nearest(name: str, known: list[str]) -> str:
    """Return a hint that names the nearest of `known`, or all of them when none is near."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(known))}"


def field_names(kind: Any) -> list[str]:
    """Return the keys of a struct, or of all structs in a union; [] for anything else."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [field.encode_name for field in msgspec.structs.fields(kind)]
    return [name for part in getattr(kind, "__args__", ()) for name in field_names(part)]


def resolved(spec: Any) -> Any:
    """Return a spec as plain data with every default filled in: what is stored with a run, and hashed."""
    return msgspec.to_builtins(spec)


def _explained(message: str, path: Path, kind: Any, root: yaml.Node) -> SpecError:
    """Turn msgspec's message into one with the line, the whole path and the nearest known key."""
    what, _, place = message.partition(" - at `")
    unknown = re.match(r"Object contains unknown field `(.*)`", what)
    node, owner, named = root, kind, ""
    for name, index in re.findall(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]", place.rstrip("`")):
        node, owner, label = _descend(node, owner, name or index)
        named += label
    at, line = named.lstrip(".") or "the top level", node.start_mark.line + 1
    key = _unnamed(node, owner) if place.startswith("key` in") else None
    if key is not None:
        what, line = f"{what}, got '{key.value}'", key.start_mark.line + 1
    known = field_names(owner)
    if unknown:
        line = next((k.start_mark.line + 1 for k, _ in node.value if k.value == unknown[1]), line)
        return SpecError(f"unknown key '{unknown[1]}' at {at}", where=f"{path}:{line}", hint=nearest(unknown[1], known))
    what = re.sub(r"`([^`]*)`", r"\1", what).replace("Object missing required field", "missing key")
    what, _, hint = what.partition("\nhint: ")
    if what.startswith("missing key"):
        hint = f"known keys: {', '.join(known)}"
    return SpecError(f"{what} at {at}", where=f"{path}:{line}", hint=hint)


def _unnamed(node: yaml.Node, owner: Any) -> Any:
    """Return the first key of a mapping that the type of its keys does not allow; None when that is not known."""
    kinds = [part.__args__[0] for part in [owner, *getattr(owner, "__args__", ())] if getattr(part, "__origin__", None) is dict]
    for key, _ in node.value if kinds else ():
        try:
            msgspec.convert(key.value, kinds[0])
        except msgspec.ValidationError:
            return key
    return None


def _descend(node: yaml.Node, owner: Any, step: str) -> tuple[yaml.Node, Any, str]:
    """Follow one step of msgspec's path; `...` stands for some value of a mapping: find the one that is at fault."""
    if step.isdigit():
        return node.value[int(step)], _element(owner, (list, tuple)), f"[{step}]"
    if step == "...":
        inner = _element(owner, (dict,))
        for key, value in node.value:
            try:
                msgspec.convert(_Loader("").construct_document(value), inner)
            except msgspec.ValidationError:
                return value, inner, f".{key.value}"
        return node, inner, ""  # a key of the mapping is at fault, not a value
    found = next((value for key, value in reversed(node.value) if key.value == step), node)  # the last: merged keys come first
    for part in [owner, *getattr(owner, "__args__", ())]:
        if isinstance(part, type) and issubclass(part, msgspec.Struct):
            return found, next(f.type for f in msgspec.structs.fields(part) if f.encode_name == step), f".{step}"
    return found, None, f".{step}"


def _element(kind: Any, origins: tuple[type, ...]) -> Any:
    """Return the type of the elements of a list, or of the values of a dict: of the first of `origins` in a union."""
    for part in [kind, *getattr(kind, "__args__", ())]:
        if getattr(part, "__origin__", None) in origins:
            return part.__args__[-1 if dict in origins else 0]
    return None


def _refuse_duplicates(node: yaml.Node, path: Path, at: tuple[str, ...]) -> None:
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            _refuse_duplicates(item, path, (*at, str(i)))
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, value in node.value:
        if key.value in seen:
            where, hint = f"{path}:{key.start_mark.line + 1}", f"first on line {seen[key.value]}"
            raise SpecError(f"key '{key.value}' stands twice at {'.'.join(at) or 'the top level'}", where=where, hint=hint)
        seen[key.value] = key.start_mark.line + 1
        _refuse_duplicates(value, path, (*at, str(key.value)))


def _neighbours(path: Path) -> str:
    known = sorted(p.stem for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    return nearest(path.stem, known) if known else "give the path of a YAML spec"
