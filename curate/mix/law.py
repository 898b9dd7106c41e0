"""Laws: from the share of each source to the score of one suite.

    ridge        b + a·w
    log_linear   c + exp(a·w)                     Data Mixing Laws (Ye 2024), here regularized
    power        c + (s·w)^−g,  s ≥ 0             s·w: how much a token of each source is worth to the suite
    gp           Gaussian process on log(w + ε), one length per source (curate.mix.gp)
    power_gp     power, and a Gaussian process on what it leaves

All laws are fitted many times at once, once per row of run weights: all ones for the law itself, one zero for each left-out run
(leave-one-out errors, and jackknife+ intervals, Barber 2021), counts for the bootstrap. `auto` takes the law with the smallest
leave-one-out error per suite, and prefers the earlier of two that differ by less than 2 %, the order being power, log_linear, ridge,
power_gp, gp: by how much proposals move between swarms. Weak priors keep what the runs do not determine near plausible values.

Scores are bits per byte (lower is better) or anything else that falls as a model gets better and is above 0.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from curate.errors import InputError
from curate.mix import gp

Array = NDArray[np.float64]
PREFERENCE = ("power", "log_linear", "ridge", "power_gp", "gp")
NEARLY_EQUAL = 1.02
STEPS = 80  # of Levenberg and Marquardt, at most
TOLERANCE = 1e-5  # a step that lowers the cost by less than this share is the last
RIDGES = 10.0 ** np.arange(-8, 3)
CHUNK = 32  # fits that are done at once
NOISE_SHARE = 0.02  # of the scores' spread: what the priors are weighed against


class Fit(msgspec.Struct, frozen=True):
    """B fits of one law to one suite. `values` have B as their first dimension; `fixed` is common to all."""

    kind: str
    values: dict[str, Array]
    fixed: dict[str, Array]

    def predict(self, mixes: Array) -> Array:
        """Return [B, len(mixes)] for shares [mixes, sources]."""
        return np.concatenate([_PREDICT[self.kind](self.fixed, part, np.atleast_2d(mixes)) for part in _parts(self.values)])

    def gradient(self, mix: Array) -> Array:
        """Return [B, sources]: the derivative of each fit at one mix."""
        return np.concatenate([_GRADIENT[self.kind](self.fixed, part, mix) for part in _parts(self.values)])

    def one(self, b: int) -> Fit:
        """Return fit `b` alone."""
        return Fit(self.kind, {name: value[b : b + 1] for name, value in self.values.items()}, self.fixed)


def _parts(values: dict[str, Array]) -> list[dict[str, Array]]:
    size = len(next(iter(values.values())))
    return [{name: value[a : a + CHUNK] for name, value in values.items()} for a in range(0, size, CHUNK)]


def fit(kind: str, mixes: Array, scores: Array, run_weights: Array | None = None, start: Fit | None = None) -> Fit:
    """Fit the law `kind` to `scores` [runs] at `mixes` [runs, sources], once per row of `run_weights` [B, runs] (default: ones).

    `start`, a fit to all runs, makes refits cheap: they begin there (and keep the hyperparameters of Gaussian processes).
    """
    weights = np.ones((1, len(scores))) if run_weights is None else np.atleast_2d(run_weights).astype(np.float64)
    if kind not in _FIT:
        raise InputError(f"unknown law '{kind}'", hint=f"known: {', '.join(_FIT)}")
    fits = [_FIT[kind](mixes, scores, weights[a : a + CHUNK], start) for a in range(0, len(weights), CHUNK)]
    return Fit(kind, {name: np.concatenate([f.values[name] for f in fits]) for name in fits[0].values}, fits[0].fixed)


class SuiteLaw(msgspec.Struct, frozen=True):
    """The law of one suite: the fit to all runs, its leave-one-out fits and residuals, and why it was chosen."""

    suite: str
    full: Fit
    left_out: Fit
    residuals: Array  # measured minus predicted when the run is left out, [runs]
    errors: dict[str, float]  # root mean square leave-one-out error of every law that was tried
    noise: float | None  # standard deviation of replicates, where there are any
    why: str

    def predict(self, mixes: Array, level: float = 0.9) -> tuple[Array, Array, Array]:
        """Return mean, low and high, each [mixes]: the jackknife+ interval for a new measurement, at least as wide as the noise."""
        mean = self.full.predict(mixes)[0]
        around = self.left_out.predict(mixes)
        size = np.abs(self.residuals)[:, None]
        count = len(self.residuals)
        rank = min(count, int(np.ceil(level * (count + 1)))) - 1
        low = -np.sort(-(around - size), axis=0)[rank]
        high = np.sort(around + size, axis=0)[rank]
        least = 1.645 * (self.noise or 0.0)
        return mean, np.minimum(low, mean - least), np.maximum(high, mean + least)


def choose_law(suite: str, mixes: Array, scores: Array, law: str = "auto", noise: float | None = None) -> SuiteLaw:
    """Fit `law`, or the best one, to a suite. Raises InputError when there are too few runs or a score is not a number."""
    if len(scores) < 4 or len(scores) != len(mixes):
        raise InputError(f"{len(scores)} scores at {len(mixes)} mixes are too few for a law", where=f"suite {suite}")
    if not np.isfinite(scores).all():
        raise InputError("a score is not a number", where=f"suite {suite}")
    tried = {}
    for kind in PREFERENCE if law == "auto" else (law,):
        full = fit(kind, mixes, scores)
        left_out, residuals = _leave_one_out(kind, mixes, scores, full)
        tried[kind] = (full, left_out, residuals, float(np.sqrt(np.mean(residuals**2))))
    best = min(error for *_, error in tried.values())
    chosen = next(kind for kind, (*_, error) in tried.items() if error <= best * NEARLY_EQUAL)
    errors = {kind: error for kind, (*_, error) in tried.items()}
    why = "named in the spec" if law != "auto" else _why(chosen, errors)
    full, left_out, residuals, _ = tried[chosen]
    return SuiteLaw(suite, full, left_out, residuals, errors, noise, why)


def _why(chosen: str, errors: dict[str, float]) -> str:
    best = min(errors, key=lambda kind: errors[kind])
    text = f"leave-one-out error {errors[chosen]:.4f}"
    if best != chosen:
        return f"{text}, within 2 % of {best}'s, and steadier"
    others = [kind for kind in errors if kind != chosen]
    second = min(others, key=lambda kind: errors[kind])
    return f"{text}, the smallest; next is {second} with {errors[second]:.4f}"


def _leave_one_out(kind: str, mixes: Array, scores: Array, full: Fit) -> tuple[Fit, Array]:
    """Refit without each run. Hyperparameters of Gaussian processes are refitted too, without each of eight groups of runs."""
    runs = len(scores)
    left_out = fit(kind, mixes, scores, 1.0 - np.eye(runs), full)
    guesses = np.diagonal(left_out.predict(mixes)).copy()
    if kind in ("gp", "power_gp"):
        groups = np.arange(runs) % min(8, runs)
        rest = scores - (Fit("power", {"p": full.fixed["p"]}, {}).predict(mixes)[0] if kind == "power_gp" else 0.0)
        for group in range(groups.max() + 1):
            inside = np.flatnonzero(groups == group)
            kept = np.flatnonzero(groups != group)
            hyper = gp.fit_hyper(mixes[kept], rest[kept], kind == "power_gp", full.fixed["hyper"])
            refit = Fit(kind, left_out.values, {**full.fixed, "hyper": hyper})
            again = fit(kind, mixes, scores, 1.0 - np.eye(runs)[inside], refit)
            guesses[inside] = again.predict(mixes[inside])[np.arange(len(inside)), np.arange(len(inside))]
    return left_out, scores - guesses


# ── ridge ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _fit_ridge(mixes: Array, scores: Array, weights: Array, start: Fit | None) -> Fit:
    """The penalty is chosen by leave-one-out error, in closed form, once; refits keep it."""
    penalty = start.fixed["penalty"] if start is not None else np.array(_best_penalty(mixes, scores))
    total = weights.sum(1, keepdims=True)
    middle, level = weights @ mixes / total, weights @ scores / total[:, 0]
    x, y = mixes[None] - middle[:, None], scores[None] - level[:, None]
    gram = np.einsum("bn,bni,bnj->bij", weights, x, x) + penalty * np.eye(mixes.shape[1]) * total[:, :, None]
    slope = np.linalg.solve(gram, np.einsum("bn,bni,bn->bi", weights, x, y)[..., None])[..., 0]
    return Fit("ridge", {"slope": slope, "level": level - (slope * middle).sum(1)}, {"penalty": penalty})


def _best_penalty(mixes: Array, scores: Array) -> float:
    x, y, runs = mixes - mixes.mean(0), scores - scores.mean(), len(scores)
    errors = []
    for penalty in RIDGES:
        hat = x @ np.linalg.solve(x.T @ x + penalty * runs * np.eye(x.shape[1]), x.T) + 1 / runs
        errors.append(float(np.mean(((y - hat @ y) / (1 - np.diagonal(hat))) ** 2)))
    return float(RIDGES[int(np.argmin(errors))])


# ── c + exp(a·w) and c + (s·w)^−g, by batched Levenberg-Marquardt ─────────────────────────────────────────────────
# Parameters, all unbounded: [log c, log g (power only), a or log s].


def _curve_log_linear(values: Array, mixes: Array) -> tuple[Array, Array]:
    """Return predictions [B, n] and their derivatives by the parameters [B, n, p]."""
    floor = np.exp(values[:, :1])
    rise = np.exp(np.clip(values[:, 1:] @ mixes.T, -50, 50))
    jacobian = np.concatenate([np.broadcast_to(floor[:, :, None], (*rise.shape, 1)), rise[:, :, None] * mixes[None]], 2)
    return floor + rise, jacobian


def _curve_power(values: Array, mixes: Array) -> tuple[Array, Array]:
    floor, power = np.exp(values[:, :1]), np.exp(values[:, 1:2])
    worth = np.exp(np.clip(values[:, 2:], -40, 40))
    data = np.maximum(worth @ mixes.T, 1e-12)
    rise = np.exp(np.clip(-power * np.log(data), -50, 50))
    slope = -power * rise / data
    columns = [np.broadcast_to(floor[:, :, None], (*rise.shape, 1)), (-power * np.log(data) * rise)[:, :, None]]
    return floor + rise, np.concatenate([*columns, slope[:, :, None] * worth[:, None, :] * mixes[None]], 2)


_CURVES = {"log_linear": (_curve_log_linear, 1), "power": (_curve_power, 2)}


def _fit_curve(kind: str, mixes: Array, scores: Array, weights: Array, start: Fit | None) -> Fit:
    curve, extra = _CURVES[kind]
    sources = mixes.shape[1]
    prior, precision = _prior(kind, scores, sources, extra)
    if start is not None:
        guess = np.repeat(start.values["p"][:1], len(weights), 0)
        return Fit(kind, {"p": _minimize(curve, guess, mixes, scores, weights, prior, precision)[0]}, {})
    best: Array | None = None
    best_cost = np.full(len(weights), np.inf)
    for shape in (0.3, 1.0) if kind == "power" else (1.0,):
        for share in (0.4, 0.9):
            guess = np.repeat(_guess(kind, mixes, scores, share, shape)[None], len(weights), 0)
            values, cost = _minimize(curve, guess, mixes, scores, weights, prior, precision)
            best = values if best is None else np.where((cost < best_cost)[:, None], values, best)
            best_cost = np.minimum(cost, best_cost)
    assert best is not None
    return Fit(kind, {"p": best}, {})


def _guess(kind: str, mixes: Array, scores: Array, share: float, shape: float) -> Array:
    """Start with a floor at a share of the lowest score, and the rest from a ridge regression in the law's own terms."""
    floor = share * float(scores.min())
    rest = np.log(scores - floor)
    linear = rest if kind == "log_linear" else np.exp(-(rest - rest.mean()) / shape)
    ridge = _fit_ridge(mixes, linear, np.ones((1, len(scores))), None).values
    each = ridge["level"][0] + ridge["slope"][0]
    if kind == "log_linear":
        return np.concatenate([[np.log(floor)], each])
    worth = np.log(np.maximum(each, 0.02 * np.abs(linear).max())) - rest.mean() / shape
    return np.concatenate([[np.log(floor), np.log(shape)], worth])


def _prior(kind: str, scores: Array, sources: int, extra: int) -> tuple[Array, Array]:
    """Return mean [p] and precision [p, p]: floor near 0.6 of the best score, power near 0.5, coefficients near each other."""
    mean = np.zeros(extra + sources)
    precision = np.zeros((extra + sources, extra + sources))
    mean[0], precision[0, 0] = np.log(0.6 * float(scores.min())), 1 / 0.7**2
    if kind == "power":
        mean[1], precision[1, 1] = np.log(0.5), 1.0
    apart = np.eye(sources) - 1 / sources
    precision[extra:, extra:] = apart / 2.0**2 + np.eye(sources) * 1e-4
    return mean, precision


def _minimize(curve: Any, values: Array, mixes: Array, scores: Array, weights: Array, prior: Array, precision: Array) -> tuple[Array, Array]:
    """Minimize Σ weight · residual² / τ² + the prior for each row of `weights`; return parameters [B, p] and costs [B]."""
    scale = 1 / max(NOISE_SHARE * float(scores.std()), 1e-9) ** 2
    values, damping, active = values.copy(), np.full(len(values), 1e-2), np.arange(len(values))

    def cost_of(at: Array, counted: Array) -> Array:
        away = at - prior
        return np.asarray(scale * (counted * (scores - curve(at, mixes)[0]) ** 2).sum(1) + ((away @ precision) * away).sum(1))

    cost = cost_of(values, weights)
    for _ in range(STEPS):
        here, counted = values[active], weights[active]
        predicted, jacobian = curve(here, mixes)
        weighted = np.swapaxes(jacobian * (counted * scale)[:, :, None], 1, 2)
        gram = weighted @ jacobian + precision
        slope = (weighted @ (scores - predicted)[:, :, None])[:, :, 0] - (here - prior) @ precision
        damped = gram + damping[active, None, None] * np.diagonal(gram, axis1=1, axis2=2)[:, :, None] * np.eye(values.shape[1])
        step = np.clip(np.linalg.solve(damped, slope[..., None])[..., 0], -3, 3)
        tried = cost_of(here + step, counted)
        good = tried < cost[active]
        finished = np.where(good, cost[active] - tried <= TOLERANCE * tried, damping[active] > 1e5)
        moved = active[good]
        values[moved] += step[good]
        cost[moved] = tried[good]
        damping[active] = np.clip(np.where(good, damping[active] * 0.2, damping[active] * 5), 1e-9, 1e9)
        active = active[~finished]
        if not len(active):
            break
    return values, cost


# ── Gaussian processes ────────────────────────────────────────────────────────────────────────────────────────────


def _fit_gp(mixes: Array, scores: Array, weights: Array, start: Fit | None) -> Fit:
    fixed = {**start.fixed, "mixes": mixes} if start is not None else {"mixes": mixes, "hyper": gp.fit_hyper(mixes, scores)}
    values = gp.condition(fixed["hyper"], mixes, np.repeat(scores[None], len(weights), 0), weights)
    return Fit("gp", values, fixed)


def _fit_power_gp(mixes: Array, scores: Array, weights: Array, start: Fit | None) -> Fit:
    base = _fit_curve("power", mixes, scores, weights, Fit("power", {"p": start.fixed["p"]}, {}) if start is not None else None)
    rest = scores[None] - base.predict(mixes)
    if start is not None:
        fixed = {**start.fixed, "mixes": mixes}
    else:
        fixed = {"mixes": mixes, "hyper": gp.fit_hyper(mixes, rest[0], around_zero=True), "p": base.values["p"][:1]}
    return Fit("power_gp", {"p": base.values["p"], **gp.condition(fixed["hyper"], mixes, rest, weights, around_zero=True)}, fixed)


def _predict_curve(kind: str, values: dict[str, Array], mixes: Array) -> Array:
    predicted: Array = _CURVES[kind][0](values["p"], mixes)[0]
    return predicted


def _gradient_curve(kind: str, values: dict[str, Array], mix: Array) -> Array:
    p = values["p"]
    rise = _predict_curve(kind, values, mix[None]) - np.exp(p[:, :1])
    if kind == "log_linear":
        return np.asarray(rise * p[:, 1:])
    worth = np.exp(np.clip(p[:, 2:], -40, 40))
    return np.asarray(-np.exp(p[:, 1:2]) * rise / np.maximum(worth @ mix, 1e-12)[:, None] * worth)


_FIT: dict[str, Any] = {
    "ridge": _fit_ridge,
    "log_linear": lambda *a: _fit_curve("log_linear", *a),
    "power": lambda *a: _fit_curve("power", *a),
    "gp": _fit_gp,
    "power_gp": _fit_power_gp,
}
_PREDICT: dict[str, Any] = {
    "ridge": lambda fixed, v, mixes: v["level"][:, None] + v["slope"] @ mixes.T,
    "log_linear": lambda fixed, v, mixes: _predict_curve("log_linear", v, mixes),
    "power": lambda fixed, v, mixes: _predict_curve("power", v, mixes),
    "gp": lambda fixed, v, mixes: gp.predict(fixed, v, mixes),
    "power_gp": lambda fixed, v, mixes: _predict_curve("power", v, mixes) + gp.predict(fixed, v, mixes),
}
_GRADIENT: dict[str, Any] = {
    "ridge": lambda fixed, v, mix: v["slope"],
    "log_linear": lambda fixed, v, mix: _gradient_curve("log_linear", v, mix),
    "power": lambda fixed, v, mix: _gradient_curve("power", v, mix),
    "gp": lambda fixed, v, mix: gp.gradient(fixed, v, mix),
    "power_gp": lambda fixed, v, mix: _gradient_curve("power", v, mix) + gp.gradient(fixed, v, mix),
}
