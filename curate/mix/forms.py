"""The forms of laws, each fitted many times at once: once per row of run weights.

All ones give the law itself, one zero each a run left out, counts or other weights the bootstrap. What a law estimates once for all rows
(penalties, noise, lengths of a Gaussian process, how far coefficients lie apart) is in `fixed`, and refits keep it. See curate.mix.law for
what the laws are.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from curate.errors import InputError
from curate.mix import blend, curves, gp, trees

Array = NDArray[np.float64]
RIDGES = 10.0 ** np.arange(-8, 3)
CHUNK, MOST_NUMBERS = 32, 8_000_000  # fits that are done at once, and what a matrix over runs for each of them may hold
FLOOR = 0.8  # of the lowest score: the floor above which a Gaussian process sees the logarithm of a score
NEAREST = 0.05  # a floor under the lowest score leaves at least this part of the way from there to the middle score
MOST_EXPONENT = 50.0  # of what a law may have above its floor
ROUNDS = 2  # in which the power law and the process on what it leaves are fitted to each other


class Fit(msgspec.Struct, frozen=True):
    """B fits of one law to one suite. `values` have B as their first dimension; `fixed` is common to all."""

    kind: str
    values: dict[str, Array]
    fixed: dict[str, Array]

    def predict(self, mixes: Array) -> Array:
        """Return [B, len(mixes)] for shares [mixes, sources]."""
        return np.concatenate([_PREDICT[self.kind](self.fixed, part, np.atleast_2d(mixes)) for part in _parts(self.values)])

    def members(self) -> list[tuple[float, Fit]]:
        """Return the laws of a blend with their shares, or the law itself with all of it."""
        return list(_members(self.fixed, self.values).values()) if self.kind == "blend" else [(1.0, self)]

    def one(self, b: int) -> Fit:
        """Return fit `b` alone."""
        return Fit(self.kind, {name: value[b : b + 1] for name, value in self.values.items()}, self.fixed)


def _parts(values: dict[str, Array]) -> list[dict[str, Array]]:
    size = len(next(iter(values.values())))
    return [{name: value[a : a + CHUNK] for name, value in values.items()} for a in range(0, size, CHUNK)]


def fit(kind: str, mixes: Array, scores: Array, run_weights: Array | None = None, start: Fit | None = None) -> Fit:
    """Fit the law `kind` to `scores` [runs] at `mixes` [runs, sources], once per row of `run_weights` [B, runs] (default: ones).

    `start`, a fit to all runs, makes refits cheap: they begin there, and keep what it found out about noise, lengths and penalties.
    """
    if kind not in _FIT:
        raise InputError(f"unknown law '{kind}'", hint=f"known: {', '.join(_FIT)}")
    ones = np.ones((1, len(scores)))
    full = _FIT[kind](mixes, scores, ones, None) if start is None else start
    if run_weights is None:
        return full if start is None else Fit(kind, _FIT[kind](mixes, scores, ones, start).values, full.fixed)
    weights = np.atleast_2d(run_weights).astype(np.float64)
    size = at_once(CHUNK, len(scores))
    fits = [_FIT[kind](mixes, scores, weights[a : a + size], full) for a in range(0, len(weights), size)]
    return Fit(kind, {name: np.concatenate([f.values[name] for f in fits]) for name in fits[0].values}, fits[0].fixed)


def at_once(most: int, runs: int) -> int:
    """Return how many fits, at most `most`, may have a matrix over the runs at the same time."""
    return max(1, min(most, MOST_NUMBERS // runs**2))


def estimate_near(kind: str, mixes: Array, scores: Array, full: Fit | None) -> Fit:
    """Estimate what refits keep, for a law of ESTIMATED, beginning at `full`, a fit to these runs and some more. It is a `start` for `fit`."""
    found: Fit = _ESTIMATE[kind](mixes, scores, full)
    return found


# ── constant and ridge ────────────────────────────────────────────────────────────────────────────────────────────


def _fit_constant(mixes: Array, scores: Array, weights: Array, start: Fit | None) -> Fit:
    return Fit("constant", {"level": weights @ scores / weights.sum(1)}, {})


def _fit_ridge(mixes: Array, scores: Array, weights: Array, start: Fit | None) -> Fit:
    """The penalty is chosen by leave-one-out error, in closed form, once; refits keep it."""
    penalty = start.fixed["penalty"] if start is not None else np.array(_best_penalty(mixes, scores))
    total = weights.sum(1, keepdims=True)
    middle, level = weights @ mixes / total, weights @ scores / total[:, 0]
    x, y = mixes[None] - middle[:, None], scores[None] - level[:, None]
    weighted = np.swapaxes(x * weights[:, :, None], 1, 2)
    gram = weighted @ x + penalty * np.eye(mixes.shape[1]) * total[:, :, None]
    slope = np.linalg.solve(gram, weighted @ y[..., None])[..., 0]
    return Fit("ridge", {"slope": slope, "level": level - (slope * middle).sum(1)}, {"penalty": penalty})


def _best_penalty(mixes: Array, scores: Array) -> float:
    x, y, runs = mixes - mixes.mean(0), scores - scores.mean(), len(scores)
    errors = []
    for penalty in RIDGES:
        hat = x @ np.linalg.solve(x.T @ x + penalty * runs * np.eye(x.shape[1]), x.T) + 1 / runs
        errors.append(float(np.mean(((y - hat @ y) / (1 - np.diagonal(hat))) ** 2)))
    return float(RIDGES[int(np.argmin(errors))])


# ── curves, Gaussian processes, and both ──────────────────────────────────────────────────────────────────────────


def _estimate_curve(kind: str, mixes: Array, scores: Array, near: Fit | None) -> Fit:
    p, rest, apart = curves.estimate(kind, mixes, scores, None if near is None else near.fixed["p"])
    return Fit(kind, {"p": p[None].copy()}, {"p": p, "rest": np.array(rest), "apart": np.array(apart), "least": np.array(scores.min())})


def _fit_curve(kind: str, mixes: Array, scores: Array, weights: Array, start: Fit | None) -> Fit:
    if start is None:
        return _estimate_curve(kind, mixes, scores, None)
    guess = np.repeat(start.fixed["p"][None], len(weights), 0)
    metric = weights / float(start.fixed["rest"]) ** 2
    return Fit(kind, {"p": curves.minimize(kind, guess, mixes, scores, metric, _prior(kind, start.fixed))[0]}, start.fixed)


def _prior(kind: str, fixed: dict[str, Array]) -> curves.Prior:
    return curves.prior_of(kind, float(fixed["least"]), len(fixed["p"]) - curves.EXTRA[kind], float(fixed["apart"]))


def _estimate_gp(mixes: Array, scores: Array, near: Fit | None) -> Fit:
    """The constant that the process varies around is uncertain by the spread of the scores."""
    floor = FLOOR * float(scores.min())
    y = above(scores, floor)
    scale, level = curves.size_of(y), y.mean()
    hyper = gp.fit_hyper(mixes, y - level, np.full((len(y), len(y)), scale**2), scale, _hyper(near))
    return Fit("gp", {}, {"hyper": hyper, "level": np.array(level), "variance": np.array(scale**2), "floor": np.array(floor)})


def _hyper(near: Fit | None) -> Array | None:
    return None if near is None else near.fixed["hyper"]


def _fit_gp(mixes: Array, scores: Array, weights: Array, start: Fit | None) -> Fit:
    fixed = {**(_estimate_gp(mixes, scores, None) if start is None else start).fixed, "mixes": mixes}
    precision = gp.precision_of(fixed["hyper"], mixes, weights, float(fixed["variance"]))
    alpha = precision @ (above(scores, float(fixed["floor"])) - fixed["level"])
    return Fit("gp", {"alpha": alpha, "level": fixed["level"] + fixed["variance"] * alpha.sum(1)}, fixed)


def above(scores: Array, floor: float) -> Array:
    """Return log(score − floor); a score that is not above the floor counts as one a little above it."""
    return np.log(np.maximum(scores - floor, 1e-3 * curves.size_of(scores)))


def _estimate_power_gp(kind: str, mixes: Array, scores: Array, near: Fit | None) -> Fit:
    """Generalized least squares: the power law is fitted under the covariance of the process, which is fitted to what it may leave.

    What the power law, linear around its fit, may explain from its prior alone is not the process's to explain. `power_times_gp` is the same
    for logarithms of scores above the floor that the power law alone finds.
    """
    curve, started = CURVE_OF[kind], None if near is None else near.fixed["began"]
    p, rest, apart = curves.estimate("power", mixes, scores, started)
    fixed: dict[str, Array] = {"p": p, "began": p, "rest": np.array(rest), "apart": np.array(apart), "least": np.array(scores.min())}
    y = scores
    if kind == "power_times_gp":
        room = max(NEAREST * float(np.median(scores) - scores.min()), 0.01 * curves.size_of(scores))
        floor = min(float(np.exp(p[0])), float(scores.min()) - room)
        y, fixed = above(scores, floor), {**fixed, "p": p[1:], "floor": np.array(floor)}
    if near is not None:
        fixed["p"] = near.fixed["p"]
    prior = _prior(curve, fixed)
    for _ in range(ROUNDS if near is None else 1):
        predicted, jacobian = curves.CURVES[curve](fixed["p"][None], mixes)
        target = y - predicted[0] - jacobian[0] @ (prior.mean - fixed["p"])
        around = jacobian[0] @ np.linalg.solve(prior.precision, jacobian[0].T)
        hyper = gp.fit_hyper(mixes, target, around, curves.size_of(y), _hyper(near))
        metric = gp.precision_of(hyper, mixes, np.ones((1, len(y))))
        fixed = {**fixed, "hyper": hyper, "p": curves.minimize(curve, fixed["p"][None], mixes, y, metric, prior)[0][0]}
    return Fit(kind, {}, fixed)


def _fit_power_gp(kind: str, mixes: Array, scores: Array, weights: Array, start: Fit | None) -> Fit:
    fixed = {**(_estimate_power_gp(kind, mixes, scores, None) if start is None else start).fixed, "mixes": mixes}
    y = above(scores, float(fixed["floor"])) if "floor" in fixed else scores
    metric = gp.precision_of(fixed["hyper"], mixes, weights)
    guess, curve = np.repeat(fixed["p"][None], len(weights), 0), CURVE_OF[kind]
    p = curves.minimize(curve, guess, mixes, y, metric, _prior(curve, fixed))[0]
    rest = y - curves.predict(curve, p, mixes)
    return Fit(kind, {"p": p, "alpha": (metric @ rest[..., None])[..., 0]}, fixed)


CURVE_OF = {"power_gp": "power", "power_times_gp": "log_power"}


def linear_of(kind: str, fixed: dict[str, Array], values: dict[str, Array], mixes: Array) -> Array:
    """Return what a law with a process predicts at mixes where its process is added: scores or, above a floor, their logarithms, [B, mixes]."""
    process = gp.predict(fixed["hyper"], fixed["mixes"], values["alpha"], mixes)
    return process + (values["level"][:, None] if kind == "gp" else curves.predict(CURVE_OF[kind], values["p"], mixes))


def _predict_process(kind: str, fixed: dict[str, Array], values: dict[str, Array], mixes: Array) -> Array:
    there = linear_of(kind, fixed, values, mixes)
    return fixed["floor"] + np.exp(np.clip(there, -MOST_EXPONENT, MOST_EXPONENT)) if "floor" in fixed else there


def _fit_blend(mixes: Array, scores: Array, weights: Array, start: Fit | None) -> Fit:
    if start is None:
        raise InputError("a blend cannot be fitted by itself", hint="law: auto makes one where it predicts better than any law alone")
    parts = {kind: fit(kind, mixes, scores, weights, part) for kind, (_, part) in _members(start.fixed, start.values).items()}
    return Fit("blend", blend.join({kind: part.values for kind, part in parts.items()}), start.fixed)


def _members(fixed: dict[str, Array], values: dict[str, Array]) -> dict[str, tuple[float, Fit]]:
    """Return law → its share in a blend, and its fits."""
    shares = blend.shares_in(fixed)
    own, common = blend.split(values, list(shares)), blend.split(fixed, list(shares))
    return {kind: (share, Fit(kind, own[kind], common[kind])) for kind, share in shares.items()}


_ESTIMATE: dict[str, Any] = {
    "log_linear": lambda *a: _estimate_curve("log_linear", *a),
    "power": lambda *a: _estimate_curve("power", *a),
    "gp": _estimate_gp,
    "power_gp": lambda *a: _estimate_power_gp("power_gp", *a),
    "power_times_gp": lambda *a: _estimate_power_gp("power_times_gp", *a),
}
ESTIMATED = tuple(_ESTIMATE)
_FIT: dict[str, Any] = {
    "constant": _fit_constant,
    "ridge": _fit_ridge,
    "log_linear": lambda *a: _fit_curve("log_linear", *a),
    "power": lambda *a: _fit_curve("power", *a),
    "gp": _fit_gp,
    "power_gp": lambda *a: _fit_power_gp("power_gp", *a),
    "power_times_gp": lambda *a: _fit_power_gp("power_times_gp", *a),
    "trees": lambda mixes, scores, weights, start: Fit("trees", trees.fit(mixes, scores, weights), {}),
    "blend": _fit_blend,
}
_PREDICT: dict[str, Any] = {
    "constant": lambda fixed, v, mixes: np.repeat(v["level"][:, None], len(mixes), 1),
    "ridge": lambda fixed, v, mixes: v["level"][:, None] + v["slope"] @ mixes.T,
    "log_linear": lambda fixed, v, mixes: curves.predict("log_linear", v["p"], mixes),
    "power": lambda fixed, v, mixes: curves.predict("power", v["p"], mixes),
    **{kind: partial(_predict_process, kind) for kind in ("gp", *CURVE_OF)},
    "trees": lambda fixed, v, mixes: trees.predict(v, mixes),
    "blend": lambda fixed, v, mixes: sum(share * part.predict(mixes) for share, part in _members(fixed, v).values()),
}
