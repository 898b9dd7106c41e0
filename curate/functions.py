"""Functions named in a spec: find them, check their options against their signature, call them.

A name is one of the shipped ones, `./steps.py:name` (relative to the spec's folder) or `package.module:name`.
Options are the function's keyword arguments; their types come from its annotations. An option of type `Path` is
relative to the spec's folder and must exist. The price of trusting signatures: a user's function needs annotations,
or its options are passed as they are written.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from curate.corpus import sha256_of
from curate.errors import SpecError
from curate.specs.load import nearest


def label(name: str) -> str:
    """Return the short name of a function: of `./steps.py:name` and of `package.module:name` it is `name`."""
    return name.rpartition(":")[2]


def find(name: str, shipped: Mapping[str, str], folder: Path | None, what: str) -> Callable[..., Any]:
    """Return the function called `name`.

    `shipped` maps short names to `module:function`; `folder` is that of the spec; `what` names the kind for errors.
    Raises SpecError when there is no such function.
    """
    if name in shipped:
        module, _, function = shipped[name].partition(":")
        return typing.cast("Callable[..., Any]", getattr(importlib.import_module(module), function))
    module, colon, function = name.rpartition(":")
    if not colon:
        raise SpecError(f"unknown {what} '{name}'", hint=nearest(name, list(shipped)))
    if not re.fullmatch(r"[A-Za-z_]\w*", function):
        raise SpecError(f"'{function}' in '{name}' is no function name", hint="write ./steps.py:name or package.module:name")
    if module.endswith(".py"):
        path = ((folder or Path()) / module).resolve()
        if not path.is_file():
            raise SpecError(f"no such file: {path}", where=name, hint="the path is relative to the folder of the spec")
        loaded = _module_at(path, path.stat().st_mtime_ns)
    else:
        loaded = _module_named(module, name)
    found = getattr(loaded, function, None)
    if not callable(found):
        known = [key for key, value in vars(loaded).items() if inspect.isfunction(value) and not key.startswith("_")]
        raise SpecError(f"there is no function '{function}' in {module}", where=name, hint=nearest(function, known) if known else "")
    return typing.cast("Callable[..., Any]", found)


def make_importable(names: Iterable[str], folder: Path) -> None:
    """Let Python find what lies beside the files that `names`, of functions in a spec in `folder`, name.

    All of a spec at once and in alphabetical order, so that which modules are found does not depend on which file is loaded first.
    """
    files = [(folder / name.rpartition(":")[0]).resolve() for name in names if name.rpartition(":")[0].endswith(".py")]
    for beside in sorted({file.parent for file in files if file.is_file()}):
        _append(beside)


def _append(folder: Path) -> None:
    """Put a folder on the search path: last, so that a file of the user's never stands in for a module that others import."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


@functools.cache
def _module_at(path: Path, changed: int) -> Any:
    """Load a user's file as a module of its own; `changed` is part of the cache's key only.

    It finds what lies beside it (see `make_importable`).
    """
    _append(path.parent)
    key = "curate_steps_" + hashlib.blake2b(str(path).encode(), digest_size=8).hexdigest()
    spec = importlib.util.spec_from_file_location(key, path)
    if spec is None or spec.loader is None:
        raise SpecError("cannot be loaded as Python", where=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module  # dataclasses and pickle look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[key]
        _refuse_hidden(path)
        raise SpecError(f"cannot be loaded: {type(error).__name__}: {error}", where=str(path)) from error
    _refuse_hidden(path)
    return module


def _refuse_hidden(path: Path) -> None:
    """Raise SpecError when the file at `path` imports what lies beside it, and Python would find another module of that name."""
    for name in sorted({name.partition(".")[0] for name in _names_imported(path)}):
        beside = [path.with_name(f"{name}.py"), path.parent / name / "__init__.py"]
        if not any(file.is_file() for file in beside):
            continue
        try:
            found = importlib.util.find_spec(name)
        except ValueError:  # a module without a spec, such as __main__
            found = None
        origin = found.origin if found is not None else None
        if origin is None or not any(file.is_file() and file.samefile(origin) for file in beside if Path(origin).is_file()):
            hint = f"rename the one beside it, and import it as something like {name}_of_mine"
            raise SpecError(f"'import {name}' finds {origin or 'another module'}, and not the one beside it", where=str(path), hint=hint)


def _module_named(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except (ImportError, SystemExit) as error:
        raise SpecError(f"the module cannot be imported: {error}", where=name, hint="is its package installed?") from error
    except ValueError as error:  # an empty or relative name
        raise SpecError(f"'{module}' is no module name", where=name) from error


def checked_options(name: str, function: Callable[..., Any], options: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """Return the options converted to the types that the function's signature asks for, paths made absolute, with the defaults of the others.

    Raises SpecError for an unknown or missing option (naming the nearest), a wrong type, and a path that does not exist.
    """
    parameters = list(inspect.signature(function).parameters.values())[1:]
    known = {p.name: p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for option in options:
        if option not in known and not open_ended:
            hint = nearest(option, list(known)) if known else f"'{label(name)}' has no options"
            raise SpecError(f"unknown option '{option}' of '{name}'", hint=hint)
    missing = [p.name for p in known.values() if p.default is p.empty and p.name not in options]
    if missing:
        raise SpecError(f"option '{missing[0]}' of '{name}' is missing")
    result = {p.name: p.default for p in known.values() if p.default is not p.empty}  # which may name files, too
    for option, value in options.items():
        kind = _type_of(known[option], function, name) if option in known else Any
        try:
            result[option] = msgspec.convert(value, kind, dec_hook=functools.partial(_path, folder or Path()))
        except msgspec.ValidationError as error:
            reason = re.sub(r"`([^`]*)`", r"\1", str(error))
            raise SpecError(f"option '{option}' of '{name}': {reason}") from error
    return result


def _type_of(parameter: inspect.Parameter, function: Callable[..., Any], name: str) -> Any:
    """Return the type of an option. Others in the signature may be known to type checkers only, as under `if TYPE_CHECKING:`."""
    if parameter.annotation is parameter.empty:
        return Any
    inner = inspect.unwrap(function)
    known = getattr(inner, "__globals__", None) or vars(sys.modules.get(getattr(inner, "__module__", ""), typing))
    signature = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        return typing.get_type_hints(signature, globalns=known)[parameter.name]
    except Exception as error:  # an annotation is any expression
        what = f"the type of option '{parameter.name}' of '{name}' cannot be told: {type(error).__name__}: {error}"
        raise SpecError(what, hint="import it outside of `if TYPE_CHECKING:`") from error


def _path(folder: Path, kind: type, value: Any) -> Any:
    if kind is not Path:
        raise ValueError(f"options of type {getattr(kind, '__name__', kind)} cannot be written in a spec; str, int, float, bool, lists and Path can")
    if not isinstance(value, str):
        raise ValueError(f"Expected str, got {type(value).__name__}")
    path = (folder / value).resolve()
    if not path.exists():
        raise ValueError(f"no such file: {path}")
    return path


def contents_of(options: Mapping[str, Any], written: Collection[str]) -> list[str]:
    """Return what stands for the files that checked options name, in lists and folders too, in a stage's key.

    That is the checksum of each, after its name where it lies in a folder that is named. Of the defaults, those not `written` in the spec,
    only files that are there count: a folder may be one that the function writes to, a cache, and what is missing may become one.
    """
    named = _paths_in({option: value for option, value in options.items() if option in written})
    contents = []
    for path in sorted(named | {path for path in _paths_in(options) if path.is_file()}):
        if path.is_dir():
            contents += [part for file in _files_in(path) for part in (file.relative_to(path).as_posix(), sha256_of(file))]
        else:
            contents.append(sha256_of(path))
    return contents


def _paths_in(options: Any) -> set[Path]:
    if isinstance(options, Path):
        return {options}
    inner = options.values() if isinstance(options, Mapping) else options if isinstance(options, (list, tuple, set, frozenset)) else []
    return {path for value in inner for path in _paths_in(value)}


def _files_in(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the files in a folder in the order of their names. Links are followed, but not back to a folder that they lie in."""
    real = folder.resolve()
    for path in sorted(folder.iterdir()) if real not in above else []:
        if path.is_dir():
            yield from _files_in(path, (*above, real))
        elif path.is_file():
            yield path


def sources(name: str, folder: Path | None) -> list[Path]:
    """Return the Python files that a user's function is made of; [] for a shipped one.

    These are its module, its module's package, and what they import from beside them; installed packages that are
    imported from there are not followed. A function that imports by a computed name is beyond this.
    """
    module, colon, _ = name.rpartition(":")
    if not colon:
        return []
    if module.endswith(".py"):
        return _imported([((folder or Path()) / module).resolve()])
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return []
    path = Path(spec.origin).resolve()
    within = path.name == "__init__.py" or "." in module
    return sorted(path.parent.rglob("*.py")) if within else _imported([path])


def _imported(found: list[Path]) -> list[Path]:
    """Return `found` and the files beside them, or in a package beside them, that they import, and so on."""
    first = found[0].parent
    for path in found:  # grows
        roots = {first, path.parent, *(Path(entry).resolve() for entry in sys.path if path.is_relative_to(Path(entry).resolve()))}
        for name in sorted(_names_imported(path)):
            for root in sorted(roots):
                module = root.joinpath(*name.split("."))
                inside = [module.with_name(f"{module.name}.py"), *(sorted(module.rglob("*.py")) if (module / "__init__.py").is_file() else [])]
                found += [file for file in inside if file.is_file() and file not in found]
    return sorted(found)


def _names_imported(path: Path) -> set[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return set()  # loading it says what is wrong
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = f"{node.module}." if node.module else ""
            names |= {base + alias.name for alias in node.names} | ({node.module} if node.module else set())
    return {part for name in names for part in (name, name.partition(".")[0]) if "*" not in part}
