"""Fitted laws on disk: they predict what they did, and are used for the numbers and the code that they come from only."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from curate.mix import fitted, stored
from curate.mix.fitted import FILES, LAWS, METRICS, RATIOS, STORED, fit_swarm, laws_in, read_fit, write_fit
from curate.mix.law import PREFERENCE, SuiteLaw, pick, try_law
from curate.mix.limits import free
from curate.mix.solve import Problem, resampled
from curate.mix.stored import read_laws, write_laws
from curate.mix.table import Swarm

Array = NDArray[np.float64]
SOURCES = ["code", "math", "web"]
UNSEEN = np.random.default_rng(5).dirichlet(np.ones(3), 20)


def table(runs: int = 24) -> Swarm:
    random = np.random.default_rng(0)
    mixes = random.dirichlet(np.ones(3), runs)
    docs = 0.9 + (mixes @ np.array([9.0, 1.0, 1.0])) ** -0.3 + 0.02 * (mixes[:, 0] > 0.3) + random.normal(0, 0.002, runs)
    sums = 0.8 + (mixes @ np.array([0.5, 8.0, 1.0])) ** -0.4 + random.normal(0, 0.002, runs)
    return Swarm([f"r{i:02d}" for i in range(runs)], SOURCES, mixes, {"a/docs": docs, "sums": sums})


def written(folder: Path, swarm: Swarm, law: str) -> dict[str, SuiteLaw]:
    laws = fit_swarm(swarm, law)
    folder.mkdir(exist_ok=True)
    write_fit({name: folder / name for name in FILES}, swarm, laws, law)
    return laws


@pytest.mark.parametrize("kind", [*PREFERENCE, "blend"])
def test_a_stored_law_predicts_and_is_refitted_as_it_was(kind: str, tmp_path: Path) -> None:
    swarm = table()
    tried = [try_law("sums", swarm.mixes, swarm.scores["sums"], one) for one in (("ridge", "power_gp", "gp") if kind == "blend" else (kind,))]
    law = pick(tried) if kind == "blend" else tried[0]
    assert law.full.kind == kind
    write_laws(tmp_path / "laws.npz", {"sums": law}, swarm.scores, kind)
    again = read_laws(tmp_path / "laws.npz", swarm.mixes, swarm.scores)["sums"]
    assert list(again.full.values) == list(law.full.values)  # a blend adds its laws in this order
    assert (again.errors, again.noise, again.why, again.suite) == (law.errors, law.noise, law.why, law.suite)
    for mine, theirs in zip(again.predict(UNSEEN), law.predict(UNSEEN), strict=True):
        assert np.array_equal(mine, theirs)

    def refits(one: SuiteLaw) -> Array:
        problem = Problem(SOURCES, swarm.mixes, {"sums": swarm.scores["sums"]}, {"sums": one}, {"sums": 1.0}, np.full(3, 1 / 3), free(SOURCES))
        return resampled(problem)["sums"].predict(UNSEEN)

    assert np.array_equal(refits(again), refits(law))


def test_solving_takes_the_stored_laws_and_fits_what_was_edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    laws = written(tmp_path, table(), "power")
    fits: list[str] = []
    choose = fitted.choose_law

    def counted(suite: str, *rest: object) -> SuiteLaw:
        fits.append(suite)
        return choose(suite, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(fitted, "choose_law", counted)
    found = read_fit(tmp_path)
    same = laws_in(tmp_path, found, found.swarm)
    assert fits == []
    assert all(np.array_equal(same[suite].predict(UNSEEN), laws[suite].predict(UNSEEN)) for suite in laws)
    (tmp_path / STORED).unlink()
    again = laws_in(tmp_path, found, found.swarm)
    assert all(np.array_equal(again[suite].predict(UNSEEN), laws[suite].predict(UNSEEN)) for suite in laws)
    write_laws(tmp_path / STORED, laws, found.swarm.scores, "power")
    fits.clear()

    rows = (tmp_path / METRICS).read_text().splitlines()
    run, docs, sums = rows[7].split(",")
    rows[7] = f"{run},{docs},{float(sums) + 0.01}"
    (tmp_path / METRICS).write_text("\n".join(rows) + "\n")
    found = read_fit(tmp_path)
    assert not np.allclose(laws_in(tmp_path, found, found.swarm)["sums"].predict(UNSEEN), laws["sums"].predict(UNSEEN), rtol=1e-6)
    assert fits == ["sums"]

    written(tmp_path, table(), "auto")
    ratios = (tmp_path / RATIOS).read_text().splitlines()
    (tmp_path / RATIOS).write_text("\n".join([*ratios[:3], ratios[3].split(",")[0] + ",0.2,0.3,0.5", *ratios[4:]]) + "\n")
    found, fits[:] = read_fit(tmp_path), []
    assert all(fitted.edited(found, suite) for suite in laws)
    assert all(law.why != "named in the spec" for law in laws_in(tmp_path, found, found.swarm).values())  # chosen anew
    assert fits == ["a/docs", "sums"]

    written(tmp_path, table(), "power")
    facts = json.loads((tmp_path / LAWS).read_text())
    facts["a/docs"]["law"] = "ridge"
    (tmp_path / LAWS).write_text(json.dumps(facts))
    found = read_fit(tmp_path)
    assert laws_in(tmp_path, found, found.swarm)["a/docs"].full.kind == "ridge"


def test_laws_of_other_code_other_runs_or_a_broken_file_are_fitted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swarm = table()
    written(tmp_path, swarm, "power")
    assert set(read_laws(tmp_path / STORED, swarm.mixes, swarm.scores)) == {"a/docs", "sums"}
    assert read_laws(tmp_path / STORED, swarm.mixes[::-1], swarm.scores) == {}
    assert read_laws(tmp_path / STORED, swarm.mixes[:20], swarm.scores) == {}
    assert read_laws(tmp_path / "nowhere.npz", swarm.mixes, swarm.scores) == {}
    assert set(read_laws(tmp_path / STORED, swarm.mixes, swarm.scores, "power")) == {"a/docs", "sums"}
    assert read_laws(tmp_path / STORED, swarm.mixes, swarm.scores, "auto") == {}
    whole = (tmp_path / STORED).read_bytes()
    method = bytearray(whole)
    method[whole.index(b"PK\x01\x02") + 10] = 99  # a way of compression that there is not
    np.save(tmp_path / "array.npy", swarm.mixes)
    for broken in (b"", b"no archive", whole[: len(whole) // 2], whole[:-1000], bytes(method), (tmp_path / "array.npy").read_bytes()):
        (tmp_path / "broken.npz").write_bytes(broken)
        assert read_laws(tmp_path / "broken.npz", swarm.mixes, swarm.scores) == {}
    monkeypatch.setattr(stored, "laws_code", lambda: "newer")
    assert read_laws(tmp_path / STORED, swarm.mixes, swarm.scores) == {}


def test_equal_laws_are_equal_bytes_and_the_noise_is_kept(tmp_path: Path) -> None:
    swarm = table()
    laws = fit_swarm(swarm, "power", {"sums": 0.002})
    for name in ("one", "two"):
        write_laws(tmp_path / name, dict(reversed(laws.items())) if name == "two" else laws, swarm.scores, "power")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert read_laws(tmp_path / "one", swarm.mixes, swarm.scores)["sums"].noise == 0.002
    assert msgspec.to_builtins(laws["sums"].errors) == read_laws(tmp_path / "one", swarm.mixes, swarm.scores)["sums"].errors
