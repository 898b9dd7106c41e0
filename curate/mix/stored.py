"""Fitted laws in a file, so that solving, under whatever limits, begins where fitting ended.

One `.npz` of plain arrays holds everything that a law predicts with: the fit to all runs, those without some of them, residuals, spreads. Tables
remain the truth (curate.mix.fitted): a stored law is taken when the code that fitted it and the numbers that it was fitted to are the same, and
else the law is fitted again. The price is disk: 2 MB for 64 runs and 13 suites, 7 MB for 512.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.errors import InputError
from curate.mix.forms import Fit
from curate.mix.law import SuiteLaw
from curate.tasks import code_version, hash_of

Array = NDArray[np.float64]
_CODE = (
    *(f"curate.mix.{name}" for name in ("stored", "law", "forms", "curves", "gp", "pairs", "trees", "blend", "spread")),
    "curate.kernels.compiled",
    "curate.kernels.exponential_64",
)
_SAME = 1e-9  # shares that differ by less are the same: reading a table makes each row add up to one again


def laws_code() -> str:
    """Return what identifies the code that laws are fitted and evaluated by."""
    return hash_of(code_version(*_CODE, libraries=("numpy", "scipy", "scikit-learn", "numba")))


def write_laws(path: Path, laws: Mapping[str, SuiteLaw], scores: Mapping[str, Array], asked: str) -> None:
    """Write laws of the same runs, the scores that they were fitted to, and which law was asked for. Equal laws give equal bytes."""
    arrays: dict[str, Array] = {}
    about = []
    for i, (suite, law) in enumerate(sorted(laws.items())):
        runs = [name for name in law.full.fixed if name.rpartition("/")[2] == "mixes"]  # the runs, which are stored once
        parts: dict[str, Mapping[str, Any]] = {
            "full": law.full.values,
            "left_out": law.left_out.values,
            "fixed": {name: array for name, array in law.full.fixed.items() if name not in runs},
            "own": {"residuals": law.residuals, "scales": law.scales, "groups": law.groups, "scores": scores[suite]},
        }
        # In their own order, in which a blend adds its laws.
        arrays |= {f"{i}/{part}/{name}": np.asarray(array) for part, named in parts.items() for name, array in named.items()}
        arrays["mixes"] = law.mixes
        about.append({"suite": suite, "kind": law.full.kind, "runs": runs, "errors": law.errors, "noise": law.noise, "why": law.why})
    header = json.dumps({"code": laws_code(), "asked": asked, "laws": about}).encode()
    with path.open("wb") as out:
        np.savez(out, allow_pickle=False, header=np.frombuffer(header, np.uint8), **arrays)


def holds_laws(path: Path) -> bool:
    """Say whether `write_laws` wrote the file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {"code", "asked", "laws"} <= set(json.loads(file["header"].tobytes()))
    except Exception:  # whatever a file that is no such archive does to NumPy
        return False


def read_laws(path: Path, mixes: Array, scores: Mapping[str, Array], asked: str | None = None) -> dict[str, SuiteLaw]:
    """Return suite → its law, for those suites whose law was fitted to these numbers by this code, and, where `asked` is given, as it says.

    A file that cannot be read, however it is broken, holds none.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(bytes(file["header"]))
            if header["code"] != laws_code() or asked not in (None, header["asked"]) or not _alike(file["mixes"], mixes):
                return {}
            arrays = {name: file[name] for name in file.files}
        return {
            about["suite"]: _law(about, _named(arrays, f"{i}/"), mixes)
            for i, about in enumerate(header["laws"])
            if about["suite"] in scores and np.array_equal(arrays[f"{i}/own/scores"], scores[about["suite"]])
        }
    except Exception:  # zip, npy and JSON have a dozen ways to be broken, and a law that is not there is only fitted again
        return {}


def gather_laws(files: Mapping[str, Path], mixes: Array, scores: Mapping[str, Array]) -> dict[str, SuiteLaw]:
    """Return suite → its law from suite → file, as tasks have just written them. Raises InputError when one is not what it was."""
    found: dict[str, SuiteLaw] = {}
    for suite, file in files.items():
        found |= read_laws(file, mixes, {suite: scores[suite]})
    lost = [str(file) for suite, file in files.items() if suite not in found]
    if lost:
        raise InputError(f"{len(lost)} fitted laws cannot be read", where=", ".join(lost), hint="delete these files and run again")
    return found


def _alike(stored: Array, mixes: Array) -> bool:
    return stored.shape == mixes.shape and bool(np.abs(stored - mixes).max(initial=0.0) < _SAME)


def _named(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _law(about: Mapping[str, Any], arrays: dict[str, Array], mixes: Array) -> SuiteLaw:
    own, fixed = _named(arrays, "own/"), _named(arrays, "fixed/") | dict.fromkeys(about["runs"], mixes)
    full, left_out = (Fit(about["kind"], _named(arrays, part), fixed) for part in ("full/", "left_out/"))
    groups = own["groups"].astype(np.int64)
    return SuiteLaw(about["suite"], full, left_out, own["residuals"], about["errors"], about["noise"], about["why"], mixes, own["scales"], groups)
