"""The code source: a selection of the standard library's files, as JSON lines."""

from __future__ import annotations

from collections.abc import Sequence

from curate.quickstart.draw import hashed
from curate.quickstart.library import LICENSE, Module, source

MIN_BYTES, MAX_BYTES = 600, 110_000  # of one file: neither stubs nor tables
NUM_FILES, TOTAL_BYTES = 250, 6_000_000  # at scale 1
NUM_SHARDS = 2


def code(modules: Sequence[Module], *, seed: int, scale: float) -> list[dict[str, str]]:
    """Return rows of id (the module's name), text, license and path, in the order of a hash, up to the scale's number and size."""
    rows: list[dict[str, str]] = []
    total = 0
    for module in sorted((m for m in modules if m.role in ("web", "papers")), key=lambda m: hashed(seed, "code", m.name)):
        if len(rows) >= max(4, NUM_FILES * scale) or total >= TOTAL_BYTES * scale:
            break
        text = source(module)
        if MIN_BYTES <= len(text.encode()) <= MAX_BYTES:
            rows.append({"id": module.name, "text": text, "license": LICENSE, "path": module.file})
            total += len(text)
    return rows
