"""A project: a folder with `workflows/`, `mixes/`, `classifiers/` and `ocr/`, each holding specs that people edit.

Where paths lead: one that begins with `./` or `../` is relative to the file that names it; any other relative path is
relative to the project's root, wherever the command is run from.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from curate.corpus import sha256_of, write_json
from curate.errors import CurateError, InputError, SpecError
from curate.specs.load import nearest

FOLDERS = ("workflows", "mixes", "classifiers", "ocr")


def root_of(spec: Path) -> Path:
    """Return the root of the project that the spec file belongs to: beside its folder, or its folder."""
    folder = spec.resolve().parent
    return folder.parent if folder.name in FOLDERS else folder


def find(kind: str, name: str, root: Path, beside: Path | None = None) -> Path:
    """Return the file of the spec `name`: a path, or the name of a file in the folder `kind` of the project.

    Raises SpecError that names the nearest spec there is.
    """
    if name.endswith((".yaml", ".yml")):
        path = resolve(name, root, beside)
        if path.is_file():
            return path
        raise SpecError("no such file", where=str(path))
    folder = root / kind
    path = folder / f"{name}.yaml"
    if path.is_file():
        return path
    known = sorted(p.stem for p in folder.glob("*.yaml"))
    raise SpecError(f"no spec named '{name}' in {folder}", hint=nearest(name, known) if known else f"write {path}")


def resolve(path: str, root: Path, beside: Path | None = None) -> Path:
    """Return where `path`, as a spec names it, leads; `beside` is the folder of the spec."""
    return Path(os.path.normpath(start_of(path, root, beside) / Path(path).expanduser()))


def start_of(path: str, root: Path, beside: Path | None) -> Path:
    """Return the folder that a path or pattern of a spec starts at."""
    return beside if path.startswith(("./", "../")) and beside is not None else root


def starter() -> Path:
    """Return the folder of the shipped specs: inside the installed package, or the root of its repository."""
    inside = Path(__file__).parent / "starter"
    return inside if inside.is_dir() else Path(__file__).parent.parent


def init(target: Path) -> list[Path]:
    """Copy the shipped specs into `target`; existing files are left alone, and an error if any would be overwritten."""
    if target.exists() and not target.is_dir():
        raise CurateError("is a file", where=str(target), hint="choose a folder")
    files = {path: target / path.relative_to(starter()) for folder in FOLDERS for path in sorted((starter() / folder).rglob("*.yaml"))}
    taken = [path for path in files.values() if path.exists()]
    if taken:
        raise CurateError(f"already exists: {', '.join(map(str, taken[:3]))}", where=str(target), hint="choose an empty folder")
    for source, path in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
    return list(files.values())


class Fingerprints:
    """Checksums of input files, remembered by size, modification time and the time of the last change of the inode, as Git's index does.

    Keys of stages are made of content and never of times, so a copied or touched input costs a hash and changes nothing. Programs that copy
    and unpack set the modification time to an old one; nothing sets the inode's.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._changed = path, False
        try:
            self._known = msgspec.json.decode(path.read_bytes(), type=dict[str, tuple[int, int, int, str]])
        except (FileNotFoundError, msgspec.DecodeError):
            self._known = {}

    def of(self, file: Path) -> str:
        """Return the SHA-256 of `file`. Raises InputError where it changes meanwhile: that of a half would stand for the whole.

        Whatever stops it, what was learned of other files is written first: hashing a large corpus takes hours.
        """
        try:
            return self._of(file)
        except BaseException:
            self.save()
            raise

    def _of(self, file: Path) -> str:
        seen = (*_size_and_time(file), _status(file).st_ctime_ns)
        known = self._known.get(str(file))
        if known is not None and known[:3] == seen:
            return known[3]
        checksum = sha256_of(file)
        if (*_size_and_time(file), _status(file).st_ctime_ns) != seen:
            raise changed(file)
        self._known[str(file)] = (*seen, checksum)
        self._changed = True
        return checksum

    def seen(self, file: Path) -> tuple[int, int]:
        """Return the size and the modification time, in nanoseconds, that `file` had when its checksum was taken (see `of`)."""
        return self._known[str(file)][:2]

    def save(self) -> None:
        """Write what was learned."""
        if self._changed:
            write_json(self._path, self._known)
            self._changed = False


@contextmanager
def unchanged(file: Path, seen: tuple[int, int]) -> Iterator[None]:
    """Watch over the reading of `file`, whose size and modification time were `seen` when its checksum was taken.

    Raises InputError where what is read may be something else than what the checksum stands for, be it while or before it is read,
    whatever its reader said of it. The time of the last change of the inode is looked at too, since a program that copies a file in place
    often sets the modification time back.
    """
    if _size_and_time(file) != seen:
        raise changed(file)
    before = _status(file).st_ctime_ns
    try:
        yield
    finally:
        if (_size_and_time(file), _status(file).st_ctime_ns) != (seen, before):
            raise changed(file)


def changed(file: Path) -> InputError:
    """Return the error of an input that is not what it was when the run looked at it first."""
    return InputError("changed while it was read", where=str(file), hint="nothing of it was kept: when it is complete, run the same command again")


def _size_and_time(file: Path) -> tuple[int, int]:
    status = _status(file)
    return status.st_size, status.st_mtime_ns


def _status(file: Path) -> os.stat_result:
    try:
        return file.stat()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(file), hint="when it is there again, run the same command again") from error
