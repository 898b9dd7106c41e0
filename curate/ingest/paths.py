"""Patterns of a spec → input files with stable names.

A file's name is its path below the part of the pattern that has no wildcard, so a moved input folder keeps its documents' ids.
"""

from __future__ import annotations

import glob
import os
from pathlib import Path

from curate.errors import SpecError
from curate.project import start_of

_WILDCARDS = frozenset("*?[")


def input_files(patterns: str | list[str], root: Path, beside: Path | None = None) -> list[tuple[Path, str]]:
    """Return (path, stable name) of all files that the patterns match, ordered by name.

    Relative patterns start at `root`, those with `./` or `../` at `beside`, the folder of the spec; `**` goes into subfolders. A file that
    two patterns match has the name that the first gives it. Raises SpecError when a pattern matches nothing, or when two files would have
    the same name.
    """
    named: dict[str, Path] = {}
    seen: set[Path] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        base, matches = _matches(pattern, start_of(pattern, root, beside))
        if not matches:
            hint = "to read all files of a folder, write FOLDER/**/*" if base.joinpath(pattern).is_dir() else f"relative patterns start at {root}"
            raise SpecError(f"no file matches '{pattern}'", where="ingest", hint=hint)
        for path in matches:
            if path in seen:
                continue
            seen.add(path)
            name = path.relative_to(base).as_posix()
            if name in named:
                what = f"two files have the same name '{name}': {named[name]} and {path}"
                raise SpecError(what, where="ingest", hint="give them one pattern with a common folder, or make them two sources")
            named[name] = path
    return [(path, name) for name, path in sorted(named.items())]


def _matches(pattern: str, root: Path) -> tuple[Path, list[Path]]:
    """Return the fixed folder of a pattern, and the files that it matches, sorted."""
    whole = Path(os.path.abspath(root / Path(pattern).expanduser()))
    if whole.is_file():
        return whole.parent, [whole]
    fixed = 0
    while fixed < len(whole.parts) and not _WILDCARDS & set(whole.parts[fixed]):
        fixed += 1
    base = Path(*whole.parts[: min(fixed, len(whole.parts) - 1)])
    found = (Path(path) for path in glob.iglob(str(whole), recursive=True))
    return base, sorted(path for path in found if path.is_file())
