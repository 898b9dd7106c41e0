"""The one place that turns a Python function into machine code.

Kernels are compiled by numba on their first call, and kept in the user's cache folder under a digest of all kernel
sources: numba itself only notices a change of the file that a kernel stands in, not of the helpers that it inlines.
Where that folder cannot be written, as in a read-only container, every process compiles again (about 10 s in all).
Every array argument that comes from Arrow is read-only, so that each kernel is compiled for one signature only.
Helpers that kernels of other rooms inline belong into this folder, for the digest's sake.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numba
import numba.core.config

_lock = threading.Lock()


def compiled(function: Callable[..., Any], fastmath: frozenset[str] = frozenset()) -> Callable[..., Any]:
    """Compile `function` on its first call, to run without the interpreter lock; integer arithmetic wraps as in C.

    `fastmath`: which liberties LLVM may take with floating-point numbers; none, unless said.
    """
    folder = _cache_folder()
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(fastmath)}
    if folder is None:
        return cast("Callable[..., Any]", numba.njit(function, **options))
    settings: Any = numba.core.config
    with _lock:  # numba reads the folder from its global configuration when the decorator runs
        before = settings.CACHE_DIR
        settings.CACHE_DIR = folder
        try:
            return cast("Callable[..., Any]", numba.njit(function, cache=True, **options))
        finally:
            settings.CACHE_DIR = before


def reassociated(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile as `compiled` does, for sums of floating-point numbers that may be taken in lanes, and products that may be added in one rounding.

    A sum in order takes the time of an addition for each number; in lanes it is as fast as memory. The same machine gives the same bits, another
    kind may not. Not-a-numbers stay what they are.
    """
    return compiled(function, frozenset({"reassoc", "contract"}))


def inlined(function: Callable[..., Any], fastmath: frozenset[str] = frozenset()) -> Callable[..., Any]:
    """Compile a helper that kernels call; it becomes part of each of them, so it is not cached by itself. `fastmath` is its own, as in `compiled`."""
    return cast("Callable[..., Any]", numba.njit(function, nogil=True, error_model="numpy", forceinline=True, fastmath=set(fastmath)))


def contracted(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `inlined`, for a helper whose products may be added in one rounding; the order of its sums is kept, whatever the kernel around it allows."""
    return inlined(function, frozenset({"contract"}))


@functools.cache
def _cache_folder() -> str | None:
    """Return a folder, made if need be, for the machine code of exactly these sources; None if none can be written."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    for root in _roots():
        folder = root / digest.hexdigest()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".probe-{os.getpid()}-{threading.get_ident()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError:
            continue
        return str(folder)
    return None


def _roots() -> list[Path]:
    """Return the folders to try: numba's own setting, then the platform's cache folder of the user."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    if given:
        return [Path(given) / "curate"]
    try:
        home = Path.home()
    except RuntimeError:  # a user without a home
        return []
    if sys.platform == "darwin":
        return [home / "Library" / "Caches" / "curate" / "kernels"]
    return [Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "curate" / "kernels"]
