"""What lies in a stage's folder and is not its own: refused before the stage begins, or removed when it has ended."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from curate.corpus import Manifest
from curate.errors import InputError
from curate.tasks import Plan, read_receipt

T = TypeVar("T")


def refuse_strangers(folder: Path, stage: str, source: str) -> None:
    """Raise InputError where a stage would take files for its own that it did not write, such as a corpus that happens to lie there.

    What lies there must be from this stage of this source: another's documents would be removed as inputs that are gone.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError("is in the way: a folder of that name is to be written", where=str(folder), hint="choose another output folder")
    plan, manifest = decoded(folder / "plan.json", Plan), decoded(folder / "manifest.json", Manifest)
    theirs = [plan.stage] if plan is not None and plan.stage != stage else []
    if manifest is not None and (manifest.stage, manifest.source) != (stage, source):
        theirs = [f"{manifest.stage} of {manifest.source}"]
    if theirs:
        what = f"is in the way: it holds what the stage '{theirs[0]}' wrote, and '{stage} of {source}' is to be written"
        raise InputError(what, where=str(folder), hint="choose another output folder, or move it")
    if manifest is not None or (folder / "plan.json").exists():
        return
    for path in sorted([*folder.glob("manifest.json"), *folder.glob("*.parquet"), *folder.glob("*/*.parquet")]):
        what = "is in the way: it lies where this run would write, and no run wrote it"
        raise InputError(what, where=str(path), hint="choose another output folder, or move it")


def remove_strangers(folder: Path, manifest: Manifest, tasks: set[str]) -> None:
    """Remove shards and receipts of inputs that are gone, the temporary files of killed workers, and the folders that are empty then."""
    listed = {f"{shard.name}.parquet" for shard in manifest.shards} | set(manifest.files)
    for path in [*folder.glob("*.parquet"), *folder.glob("*/*.parquet")]:
        if path.relative_to(folder).as_posix() not in listed and not (path.parent / "manifest.json").exists():
            path.unlink()
    for path in [path for path in folder.glob("receipts/*.json") if path.stem not in tasks]:
        receipt = read_receipt(path)
        for name in set(receipt.files if receipt else {}) - listed:
            (folder / name).unlink(missing_ok=True)
        path.unlink()
    for path in [*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")]:
        path.unlink()
    for path in [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink() and not any(path.iterdir())]:
        path.rmdir()


def decoded(path: Path, kind: type[T]) -> T | None:
    """Return what the JSON file at `path` holds; None where it is missing, or is no `kind`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None
