"""Python's own standard library as text: which modules there are, what each is used for, and what they say.

Source is read and parsed, not imported, so nothing runs and a Python without tkinter serves as well as one with it.
Modules written in C have no source; the docstrings of a short list of harmless ones are read from the interpreter.
What a source becomes is decided per package by a hash of its name: `evals` and `labels` are held out from everything
else, `papers` become PDFs, and the rest is `web`. Left out: tests, games, generated tables, and the build's own paths.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import sysconfig
import warnings
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from curate.errors import InputError
from curate.quickstart.draw import hashed
from curate.quickstart.prose import Block, blocks, prose_length

LICENSE = "PSF-2.0"
MIN_MODULES = 8

_LEFT_OUT_FOLDERS = frozenset({"test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages"})
_LEFT_OUT_FOLDERS |= {"__pycache__", "lib-dynload", "ensurepip", "pydoc_data", "encodings", "__phello__"}
_LEFT_OUT_MODULES = frozenset(
    {"this", "antigravity", "sitecustomize", "usercustomize", "turtle", "_osx_support", "_aix_support", "_bootsubprocess", "__hello__"}
)
_IN_C: tuple[str, ...] = (
    "_bisect",
    "_codecs",
    "_collections",
    "_csv",
    "_datetime",
    "_decimal",
    "_functools",
    "_heapq",
    "_io",
    "_json",
    "_operator",
    "_pickle",
    "_random",
)
_IN_C += ("_socket", "_sre", "_struct", "_thread", "array", "binascii", "builtins", "cmath", "gc", "itertools", "marshal", "math", "posix", "nt")
_IN_C += ("pyexpat", "select", "sys", "time", "unicodedata", "zlib")
# Packages that describe the same things in other words or in the same ones: they must fall on the same side.
_SAME = {"posix": "os", "nt": "os", "posixpath": "os", "ntpath": "os", "genericpath": "os", "collections_abc": "collections", "weakrefset": "weakref"}
_SAME |= {"sre": "re", "sre_compile": "re", "sre_constants": "re", "sre_parse": "re", "cProfile": "profile", "strptime": "time", "markupbase": "html"}
_SAME |= {"asyncore": "asynchat", "smtpd": "smtplib", "cgitb": "cgi", "pickletools": "pickle", "copyreg": "copy", "threading_local": "threading"}
_SAME |= {"thread": "threading", "dummy_thread": "threading", "builtins": "os", "sys": "os", "pyexpat": "xml", "opcode": "dis", "bdb": "pdb"}
_ALWAYS_WEB = "os"  # with the interpreter's own types and functions, which the help topics describe as well
_ALWAYS_WEB_BYTES = 260_000  # a package this large would fill a held-out set alone


@dataclass(frozen=True)
class Module:
    """One module: its dotted name, its file within the library (None: written in C), and the role of its package."""

    name: str
    package: str
    path: Path | None
    file: str
    num_bytes: int
    role: str = ""


@dataclass(frozen=True)
class Entry:
    """A documented function, method or class; `members` only for a class."""

    name: str
    signature: str
    blocks: tuple[Block, ...]
    members: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Remark:
    """A long comment, and the lines of code that it stands above."""

    blocks: tuple[Block, ...]
    code: str


@dataclass(frozen=True)
class Documentation:
    """What one module says about itself."""

    module: Module
    blocks: tuple[Block, ...]
    functions: tuple[Entry, ...]
    classes: tuple[Entry, ...]
    remarks: tuple[Remark, ...]


def modules(library: Path | None, seed: int) -> list[Module]:
    """Return the modules below `library` (None: this Python's own), sorted by name, each with its role.

    Raises InputError when there are too few to make anything of.
    """
    root = library or Path(sysconfig.get_paths()["stdlib"])
    found = [m for path in _files(root) if (m := _module(root, path)) is not None]
    if len(found) < MIN_MODULES:
        hint = "the quickstart is built from the standard library's source; use a Python that has it"
        raise InputError(f"holds {len(found)} usable modules, and {MIN_MODULES} are needed", where=str(root), hint=hint)
    if library is None:
        found += [Module(name, _package(name), None, "", 0) for name in _IN_C]
    roles = _roles(found, seed)
    if not {"web", "papers", "labels", "evals"} <= set(roles.values()):
        raise InputError(
            "holds modules of too few packages to set some of them apart", where=str(root), hint="give a folder like Python's own library"
        )
    return sorted((replace(m, role=roles[m.package]) for m in found), key=lambda m: m.name)


def source(module: Module) -> str:
    """Return the module's source with \\n line ends; empty when it has none or is not UTF-8."""
    if module.path is None:
        return ""
    try:
        return module.path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def documentation(module: Module) -> Documentation:
    """Return what the module says about itself; empty parts where it says nothing or cannot be read."""
    return _compiled(module) if module.path is None else _parsed(module)


def shelf(found: Iterable[Module], role: str, seed: int, *, enough: float) -> list[Documentation]:
    """Read modules of one role, in the order of a hash, until they say `enough` characters of prose."""
    taken: list[Documentation] = []
    total = 0
    for module in sorted((m for m in found if m.role == role), key=lambda m: hashed(seed, "shelf", m.name)):
        if total >= enough:
            break
        said = documentation(module)
        total += prose_length(said.blocks) + sum(prose_length(e.blocks) for e in entries(said)) + sum(prose_length(r.blocks) for r in said.remarks)
        taken.append(said)
    return taken


def topics() -> list[tuple[str, tuple[Block, ...]]]:
    """Return the topics of Python's interactive help, (name, blocks) sorted by name; none where it lacks them."""
    try:
        from pydoc_data.topics import topics as texts
    except ImportError:
        return []
    return [(name, tuple(blocks(text))) for name, text in sorted(texts.items())]


def entries(said: Documentation) -> Iterable[Entry]:
    """Yield every documented function, class and method."""
    yield from said.functions
    for kind in said.classes:
        yield kind
        yield from kind.members


def _files(root: Path) -> Iterable[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT_FOLDERS and "-" not in name)
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".py"))


def _module(root: Path, path: Path) -> Module | None:
    parts = path.relative_to(root).with_suffix("").parts
    if not all(part.isidentifier() for part in parts) or parts[0] in _LEFT_OUT_MODULES or parts[0].startswith(("_sysconfigdata", "test_")):
        return None
    name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
    return Module(name, _package(name), path, path.relative_to(root).as_posix(), path.stat().st_size)


def _package(name: str) -> str:
    first = name.partition(".")[0].lstrip("_")
    first = first.removeprefix("py") if name.startswith("_py") else first
    return _SAME.get(first, first)


def _roles(found: list[Module], seed: int) -> dict[str, str]:
    """Give each package a role: by size, in the order of a hash, at least one package for each role."""
    sizes: dict[str, int] = defaultdict(int)
    for module in found:
        sizes[module.package] += module.num_bytes
    total = sum(sizes.values())
    small = sorted(
        (p for p, size in sizes.items() if 0 < size < min(_ALWAYS_WEB_BYTES, total / 4) and p != _ALWAYS_WEB), key=lambda p: hashed(seed, "role", p)
    )
    roles, order = dict.fromkeys(sizes, "web"), iter(small)
    for role, share in (("evals", 0.17), ("labels", 0.12), ("papers", 0.05)):
        taken = 0
        for package in order:
            roles[package] = role
            taken += sizes[package]
            if taken >= share * total:
                break
    return roles


def _parsed(module: Module) -> Documentation:
    text = source(module)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in old sources
            tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return Documentation(module, (), (), (), ())
    functions, classes = [], []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (entry := _function(node)):
            functions.append(entry)
        elif isinstance(node, ast.ClassDef):
            members = [e for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) if (e := _function(n))]
            said = tuple(blocks(ast.get_docstring(node) or ""))
            if said or members:
                classes.append(Entry(node.name, ", ".join(map(ast.unparse, node.bases)), said, tuple(members)))
    return Documentation(module, tuple(blocks(ast.get_docstring(tree) or "")), tuple(functions), tuple(classes), tuple(_remarks(text)))


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Entry | None:
    said = ast.get_docstring(node)
    return Entry(node.name, f"{node.name}({ast.unparse(node.args)})", tuple(blocks(said))) if said else None


_COMMENT = re.compile(r"(?:^([ \t]*)#[^\n]*\n)(?:^\1#[^\n]*\n){3,}((?:^[ \t]*[^#\s][^\n]*\n){0,12})", re.MULTILINE)
_NOT_PROSE = re.compile(r"copyright|all rights reserved|licensed|permission to|-\*-|pragma|warrant", re.IGNORECASE)


def _remarks(text: str) -> Iterable[Remark]:
    """Yield the comments of four lines or more that read as prose, each with the code below it."""
    for found in _COMMENT.finditer(text):
        comment = found[0][: len(found[0]) - len(found[2])]
        said = blocks("\n".join(re.sub(r"^[ \t]*#+ ?", "", line) for line in comment.splitlines()))
        if prose_length(said) >= 150 and not _NOT_PROSE.search(comment):
            yield Remark(tuple(said), inspect.cleandoc(" \n" + found[2]) if found[2] else "")


def _compiled(module: Module) -> Documentation:
    """Read the docstrings of a module written in C; values are never looked at, since they differ from machine to machine."""
    try:
        loaded = importlib.import_module(module.name)
    except ImportError:
        return Documentation(module, (), (), (), ())
    functions, classes = [], []
    for name, thing in sorted(vars(loaded).items()):
        if name.startswith("_") and module.name != "builtins":
            continue
        if inspect.isclass(thing):
            own = [(key, value) for key, value in sorted(vars(thing).items()) if callable(value) and not key.startswith("__")]
            members = _distinct(entry for key, value in own if (entry := _routine(key, value)))
            said = tuple(blocks(thing.__doc__ if isinstance(thing.__doc__, str) else ""))
            if said or members:
                classes.append(Entry(name, "", said, tuple(members)))
        elif inspect.isroutine(thing) and (entry := _routine(name, thing)):
            functions.append(entry)
    return Documentation(module, tuple(blocks(loaded.__doc__ or "")), tuple(_distinct(functions)), tuple(_distinct(classes)), ())


def _distinct(found: Iterable[Entry]) -> list[Entry]:
    """Return entries without those that say what an earlier one says: aliases."""
    kept: dict[tuple[Block, ...], Entry] = {}
    for entry in found:
        kept.setdefault(entry.blocks, entry)
    return list(kept.values())


def _routine(name: str, thing: object) -> Entry | None:
    said = thing.__doc__
    if not isinstance(said, str):
        return None
    try:
        signature = f"{name}{inspect.signature(thing)}"  # type: ignore[arg-type]
    except (TypeError, ValueError):
        signature = name
    return Entry(name, name if " at 0x" in signature else signature, tuple(blocks(said)))
