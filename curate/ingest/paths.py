"""Patterns of a spec → input files with stable names.

A file's name is its path below the part of the pattern that has no wildcard, so a moved input folder keeps its documents' ids.

Patterns mean what they do for Python's `glob`, which is not used because it passes over what it cannot read, follows a link to the
folder that holds it forty times, and would take the name of the project's own folder for a part of the pattern.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from curate.errors import InputError, SpecError
from curate.project import start_of

_WILDCARDS = frozenset("*?[")
_NARROWER = "mend it, or write a pattern that does not lead there"


def input_files(patterns: str | list[str], root: Path, beside: Path | None = None, prepared: Path | None = None) -> list[tuple[Path, str]]:
    """Return (path, stable name) of all files that the patterns match, ordered by name.

    Relative patterns start at `root`, those with `./` or `../` at `beside`, the folder of the spec; `**` goes into subfolders. A file that
    two patterns match has the name that the first gives it. Raises SpecError when a pattern matches nothing, when `*.parquet` matches a
    folder of which nothing is read (many tools write such), or when two files would have the same name; InputError for what cannot be read
    on the way (a link to nothing, a folder without permission) and for a name that is not UTF-8. `prepared` is the folder that the workflow's
    `prepare` has filled, for a hint.
    """
    named: dict[str, Path] = {}
    seen: set[Path] = set()
    folders: dict[Path, str] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        start = start_of(pattern, root, beside)
        base, matches, passed = _matches(pattern, start)
        folders |= dict.fromkeys(passed, pattern)
        if not matches and not passed:
            hint = "to read all files of a folder, write FOLDER/**/*" if (start / pattern).is_dir() else f"relative patterns start at {root}"
            if prepared is not None and base.is_relative_to(prepared) and not _holds_files(prepared):
                hint = f"{prepared} was filled once by prepare, and is not filled again: delete the folder, and it is"
            raise SpecError(f"no file matches '{pattern}'", where="ingest", hint=hint)
        for path in matches:
            if path in seen:
                continue
            seen.add(path)
            name = path.relative_to(base).as_posix()
            if not _is_text(str(path)):
                raise InputError(f"the name of this file is not UTF-8: {name!r}", where=f"ingest: {pattern}", hint="rename it")
            if name in named:
                what = f"two files have the same name '{name}': {named[name]} and {path}"
                raise SpecError(what, where="ingest", hint="give them one pattern with a common folder, or make them two sources")
            named[name] = path
    read = {folder for path in seen for folder in path.parents}
    for folder, pattern in sorted(folders.items()):
        if folder not in read:
            hint = f"to read what is in it, write {pattern}/*{folder.suffix}, too; to pass over it, write a pattern that does not match it"
            raise SpecError(f"'{pattern}' matches a folder, of which nothing is read: {folder}", where="ingest", hint=hint)
    return [(path, name) for name, path in sorted(named.items())]


def _matches(pattern: str, start: Path) -> tuple[Path, list[Path], list[Path]]:
    """Return the fixed folder of a pattern, the files that it matches, sorted, and the folders that it matches as if they were files.

    That is by the suffix that a pattern with wildcards ends in; a `**` has looked inside. Wildcards count in the pattern only, not in `start`.
    """
    written = Path(os.path.normpath(Path(pattern).expanduser()))
    whole = Path(os.path.abspath(start / written))
    if _is_file(whole):
        return whole.parent, [whole], []
    parts = written.parts or (whole.name,)
    fixed = next((i for i, part in enumerate(parts) if _WILDCARDS & set(part)), len(parts) - 1)
    base = Path(os.path.abspath(start.joinpath(*parts[:fixed])))
    above = frozenset(place for folder in (base, *base.parents) if (place := _place(folder)))
    found = sorted(set(_expand(base, parts[fixed:], above)))
    suffix = Path(parts[-1]).suffix
    as_files = suffix and not _WILDCARDS & set(suffix) and any(_WILDCARDS & set(part) for part in parts) and "**" not in parts
    return base, [path for path in found if _is_file(path)], [path for path in found if as_files and _place(path)]


def _expand(folder: Path, parts: tuple[str, ...], above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """Yield what the `parts` of a pattern match below `folder`; a path may come twice.

    A folder that is one of those `above` it, which only a link can be, is not entered: its files come without it.
    """
    name, rest = parts[0], parts[1:]
    if name == "**":
        yield from _expand(folder, rest or ("*",), above)
    for entry in _entries(folder, name):
        path = folder / entry
        if name != "**" and not rest:
            yield path
        elif (place := _place(path)) and place not in above:
            yield from _expand(path, parts if name == "**" else rest, above | {place})


def _entries(folder: Path, name: str) -> list[str]:
    """Return the names in `folder` that one part of a pattern matches; hidden ones only where the part begins with a dot."""
    try:
        if not _WILDCARDS & set(name):
            os.lstat(folder / name)
            return [name]
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        if folder.name == "lost+found":  # stands on every ext4 volume, for its repair, and only root may look inside
            return []
        raise InputError(f"this folder cannot be read: {error.strerror}", where=str(folder), hint=_NARROWER) from error
    return [one for one in names if (name[0] == "." or one[0] != ".") and (name == "**" or fnmatch.fnmatchcase(one, name))]


def _holds_files(prepared: Path) -> bool:
    """Tell whether a folder that was prepared holds any file but the note of that."""
    return any(path.is_file() and path.name != ".prepared.json" for path in prepared.rglob("*"))


def _place(path: Path) -> tuple[int, int] | None:
    """Return what identifies a folder, whatever links lead to it; None for anything else."""
    status = _status(path)
    return (status.st_dev, status.st_ino) if status and stat.S_ISDIR(status.st_mode) else None


def _is_file(path: Path) -> bool:
    status = _status(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def _status(path: Path) -> os.stat_result | None:
    """Return the status of what lies at `path`, None where nothing does. Raises InputError for a link to nothing, and without permission."""
    try:
        return path.stat()
    except OSError as error:
        linked = os.path.islink(path)
        if isinstance(error, FileNotFoundError | NotADirectoryError) and not linked:
            return None
        what = f"this link to '{os.readlink(path)}' cannot be followed" if linked else "cannot be read"
        raise InputError(f"{what}: {error.strerror}", where=str(path), hint=_NARROWER) from error


def _is_text(name: str) -> bool:
    """Tell whether a name can be written as UTF-8; the bytes of one that is not come as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
