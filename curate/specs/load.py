"""Load a YAML spec into a strict, frozen struct.

An unknown key, a wrong type or a duplicate key fails before anything runs, naming the file, the line, the path
and the nearest known key. The price of strictness: there is no place for free-form keys; comments serve for that.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from curate.errors import SpecError


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=False):
    """The base of every spec: frozen, and unknown keys are errors."""


T = TypeVar("T")


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys, and reads `no`, `on`, `2026-01-01` and the like as they are written."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":bool", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
# YAML 1.2 floats: 1e-3 is a number here, which YAML 1.1 reads as a string.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:(?:[0-9][0-9_]*)?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*\.?[eE][-+]?[0-9]+|[0-9][0-9_]*\.|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"),
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
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise SpecError(f"is not YAML: {error.problem}", where=place) from error
    except yaml.YAMLError as error:
        raise SpecError(f"is not YAML: {error}", where=str(path)) from error
    if root is None:
        raise SpecError("is empty", where=str(path), hint=f"known keys: {', '.join(field_names(kind))}")
    _refuse_duplicates(root, path, ())
    data = _Loader(text).construct_document(root)
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise _explained(str(error), path, kind, root) from error


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
    known = field_names(owner)
    if unknown:
        line = next((k.start_mark.line + 1 for k, _ in node.value if k.value == unknown[1]), line)
        return SpecError(f"unknown key '{unknown[1]}' at {at}", where=f"{path}:{line}", hint=nearest(unknown[1], known))
    what = re.sub(r"`([^`]*)`", r"\1", what).replace("Object missing required field", "missing key")
    what, _, hint = what.partition("\nhint: ")
    if what.startswith("missing key"):
        hint = f"known keys: {', '.join(known)}"
    return SpecError(f"{what} at {at}", where=f"{path}:{line}", hint=hint)


def _descend(node: yaml.Node, owner: Any, step: str) -> tuple[yaml.Node, Any, str]:
    """Follow one step of msgspec's path; `...` stands for some value of a mapping: find the one that is at fault."""
    if step.isdigit():
        return node.value[int(step)], _element(owner), f"[{step}]"
    if step == "...":
        inner = _element(owner)
        for key, value in node.value:
            try:
                msgspec.convert(_Loader("").construct_document(value), inner)
            except msgspec.ValidationError:
                return value, inner, f".{key.value}"
        return node, inner, ""  # a key of the mapping is at fault, not a value
    found = next(value for key, value in node.value if key.value == step)
    for part in [owner, *getattr(owner, "__args__", ())]:
        if isinstance(part, type) and issubclass(part, msgspec.Struct):
            return found, next(f.type for f in msgspec.structs.fields(part) if f.encode_name == step), f".{step}"
    return found, None, f".{step}"


def _element(kind: Any) -> Any:
    """Return the type of the elements of a list or of the values of a dict; unions are searched."""
    for part in [kind, *getattr(kind, "__args__", ())]:
        origin = getattr(part, "__origin__", None)
        if origin in (list, tuple):
            return part.__args__[0]
        if origin is dict:
            return part.__args__[1]
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
