"""Laws: from the share of each source to the score of one suite.

    constant     the mix does not matter
    ridge        b + a·w
    log_linear   c + exp(a·w)                     Data Mixing Laws (Ye 2024), here regularized (curate.mix.curves)
    power        c + (s·w)^−g,  s ≥ 0             s·w: how much a token of each source is worth to the suite (the same)
    gp           Gaussian process on log(w + ε), one length per source (curate.mix.gp)
    power_gp     power, and a Gaussian process on what it leaves; both fitted together
    trees        gradient-boosted trees with soft splits (curate.mix.trees)
    blend        weighted mean of those above with the smallest errors (curate.mix.blend); only `auto` makes one

All laws are fitted many times at once, once per row of run weights: all ones for the law itself, one zero for each left-out run
(leave-one-out errors), counts for the bootstrap. Weak priors keep what the runs do not determine near plausible values.

Scores are bits per byte (lower is better) or anything else that falls as a model gets better and is above 0.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from curate.errors import InputError
from curate.mix import blend, curves, gp, trees
from curate.mix.spread import spread

Array = NDArray[np.float64]
PREFERENCE = ("constant", "power", "log_linear", "ridge", "power_gp", "gp", "trees")
NEARLY_EQUAL = 1.02
SURE = 2.0  # standard errors by which a law must beat a constant
NO_DEPENDENCE = "this suite does not depend on the mix"
RIDGES = 10.0 ** np.arange(-8, 3)
CHUNK = 32  # fits that are done at once
ROUNDS = 2  # in which the power law and the process on what it leaves are fitted to each other
FOLDS = 8  # groups of runs without which hyperparameters are estimated again
ESTIMATED = ("log_linear", "power", "gp", "power_gp")  # laws that have some
TREE_FOLDS = 16  # groups of runs that trees are left without; one at a time would cost most of a fit's time


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

    `start`, a fit to all runs, makes refits cheap: they begin there, and keep what it found out about noise, lengths and penalties.
    """
    if kind not in _FIT:
        raise InputError(f"unknown law '{kind}'", hint=f"known: {', '.join(_FIT)}")
    ones = np.ones((1, len(scores)))
    full = _FIT[kind](mixes, scores, ones, None) if start is None else start
    if run_weights is None:
        return full if start is None else Fit(kind, _FIT[kind](mixes, scores, ones, start).values, full.fixed)
    weights = np.atleast_2d(run_weights).astype(np.float64)
    fits = [_FIT[kind](mixes, scores, weights[a : a + CHUNK], full) for a in range(0, len(weights), CHUNK)]
    return Fit(kind, {name: np.concatenate([f.values[name] for f in fits]) for name in fits[0].values}, fits[0].fixed)


class SuiteLaw(msgspec.Struct, frozen=True):
    """The law of one suite: the fit to all runs, its leave-one-out fits and residuals, and why it was chosen."""

    suite: str
    full: Fit
    left_out: Fit  # without each run, or each group of runs
    residuals: Array  # measured minus predicted when the run is left out, [runs]
    errors: dict[str, float]  # root mean square leave-one-out error of every law that was tried
    noise: float | None  # standard deviation of replicates, where there are any
    why: str
    mixes: Array  # of the runs, [runs, sources]
    scales: Array  # how uncertain the law without a run says that it is there, [runs]
    groups: NDArray[np.int64]  # the fit of `left_out` that is without the run, [runs]

    def predict(self, mixes: Array, level: float = 0.9) -> tuple[Array, Array, Array]:
        """Return mean, low and high, each [mixes]: the interval for a new measurement, at least as wide as the noise.

        Jackknife+ (Barber 2021), with residuals in units of what the law itself thinks of its uncertainty (Papadopoulos 2008).
        """
        at = np.atleast_2d(mixes)
        mean = self.full.predict(at)[0]
        around = self.left_out.predict(at)[self.groups]
        here = spread(self.full.kind, self.full.fixed, self.full.values, self.mixes, np.ones((1, len(self.mixes))), at)[0]
        size = (np.abs(self.residuals) / self.scales)[:, None] * here
        low, high = -_quantile(size - around, level), _quantile(around + size, level)
        least = 1.645 * (self.noise or 0.0)
        return mean, np.minimum(low, mean - least), np.maximum(high, mean + least)


def _quantile(values: Array, level: float) -> Array:
    """Return the quantile of each column whose expected coverage of one more draw is `level`, between order statistics."""
    place = min(max(level * (len(values) + 1) - 1, 0.0), len(values) - 1.0)
    return np.asarray(np.quantile(values, place / (len(values) - 1), axis=0))


def choose_law(suite: str, mixes: Array, scores: Array, law: str = "auto", noise: float | None = None) -> SuiteLaw:
    """Fit `law`, or the best one, to a suite. Raises InputError when there are too few runs or a score is not a number."""
    if law != "auto":
        return try_law(suite, mixes, scores, law, noise)
    return pick([try_law(suite, mixes, scores, kind, noise) for kind in PREFERENCE])


def try_law(suite: str, mixes: Array, scores: Array, kind: str, noise: float | None = None) -> SuiteLaw:
    """Fit one law to a suite, with and without each run."""
    if len(scores) < 4 or len(scores) != len(mixes):
        raise InputError(f"{len(scores)} scores at {len(mixes)} mixes are too few for a law", where=f"suite {suite}")
    if not np.isfinite(scores).all():
        raise InputError("a score is not a number", where=f"suite {suite}")
    full = fit(kind, mixes, scores)
    left_out, residuals, scales, groups = _leave_out(kind, mixes, scores, full)
    errors = {kind: float(np.sqrt(np.mean(residuals**2)))}
    return SuiteLaw(suite, full, left_out, residuals, errors, noise, "named in the spec", mixes, scales, groups)


def pick(tried: list[SuiteLaw]) -> SuiteLaw:
    """Return the best of several laws of a suite (in the order of PREFERENCE), or their blend, with the errors of all, and why it is.

    A constant is best unless a law beats it by more than chance would. Else the blend is, if several laws have a share in it and its error is
    smaller than any law's; else of the laws within 2 % of the best, the first.
    """
    errors = {one.full.kind: one.errors[one.full.kind] for one in tried}
    best = min(tried, key=lambda one: errors[one.full.kind])
    constant = next((one for one in tried if one.full.kind == "constant"), None)
    if constant is not None and not _beats(best, constant):
        best_law = min((kind for kind in errors if kind != "constant"), key=lambda kind: errors[kind], default="constant")
        why = f"no law beats a constant (errors {errors[best_law]:.4f} and {errors['constant']:.4f}): as far as these runs show, {NO_DEPENDENCE}"
        return msgspec.structs.replace(constant, errors=errors, why=why)
    chosen = next(one for one in tried if errors[one.full.kind] <= errors[best.full.kind] * NEARLY_EQUAL)
    blended = _blend(tried, errors)
    if blended is not None and blended.errors["blend"] < errors[best.full.kind]:
        return blended
    return msgspec.structs.replace(chosen, errors=errors, why=_why(chosen.full.kind, errors))


def _beats(law: SuiteLaw, constant: SuiteLaw) -> bool:
    """Say whether a law's leave-one-out errors are smaller than a constant's by more than chance: a paired comparison over the runs."""
    less = np.abs(constant.residuals) - np.abs(law.residuals)
    spread_of_mean = float(less.std(ddof=1)) / np.sqrt(len(less))
    return bool(less.mean() > SURE * spread_of_mean)


def _blend(tried: list[SuiteLaw], errors: dict[str, float]) -> SuiteLaw | None:
    """Return the blend of the laws with the smallest errors, or None when it would be one law alone."""
    shares = blend.shares_of(errors)
    members = {one.full.kind: one for one in tried if one.full.kind in shares}
    if len(members) < 2:
        return None
    runs = np.arange(len(tried[0].residuals))
    fixed = blend.join({kind: {**one.full.fixed, "share": np.array(shares[kind])} for kind, one in members.items()})
    full = Fit("blend", blend.join({kind: one.full.values for kind, one in members.items()}), fixed)
    apart = {kind: {name: value[one.groups] for name, value in one.left_out.values.items()} for kind, one in members.items()}
    residuals: Array = np.sum([shares[kind] * one.residuals for kind, one in members.items()], axis=0)
    scales: Array = np.sum([shares[kind] * one.scales for kind, one in members.items()], axis=0)
    error = float(np.sqrt(np.mean(residuals**2)))
    parts = ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in sorted(shares.items(), key=lambda item: -item[1]))
    least = min(errors, key=lambda kind: errors[kind])
    why = f"leave-one-out error {error:.4f}, smaller than that of any law alone ({least} has {errors[least]:.4f}): {parts}"
    first = tried[0]
    return SuiteLaw(
        first.suite,
        full,
        Fit("blend", blend.join(apart), fixed),
        residuals,
        {**errors, "blend": error},
        first.noise,
        why,
        first.mixes,
        scales,
        runs,
    )


def _why(chosen: str, errors: dict[str, float]) -> str:
    best = min(errors, key=lambda kind: errors[kind])
    text = f"leave-one-out error {errors[chosen]:.4f}"
    if best != chosen:
        return f"{text}, within 2 % of {best}'s, and steadier"
    others = [kind for kind in errors if kind not in (chosen, "constant")]
    second = min(others, key=lambda kind: errors[kind], default=chosen)
    return f"{text}, the smallest; next is {second} with {errors[second]:.4f}"


def _leave_out(kind: str, mixes: Array, scores: Array, full: Fit) -> tuple[Fit, Array, Array, NDArray[np.int64]]:
    """Refit without each run (trees: without each of a few groups).

    Return the fits, the residuals, the spreads at the runs, and the fit that is without each run. What a law estimates once (noise, lengths,
    how far coefficients lie apart) is estimated again without each of a few groups of runs, or residuals would be too small.
    """
    runs = len(scores)
    groups = np.arange(runs) % (min(TREE_FOLDS, runs) if kind == "trees" else runs)
    without = _without(groups)
    left_out = fit(kind, mixes, scores, without, full)
    if kind not in ESTIMATED:
        spreads = spread(kind, left_out.fixed, left_out.values, mixes, without, mixes)
        return left_out, scores - left_out.predict(mixes)[groups, np.arange(runs)], spreads[groups, np.arange(runs)], groups
    guesses, spreads = np.zeros(runs), np.zeros(runs)
    folds = np.arange(runs) % min(FOLDS, runs)
    for fold in range(folds.max() + 1):
        inside, kept = np.flatnonzero(folds == fold), folds != fold
        again = fit(kind, mixes, scores, without[inside], fit(kind, mixes[kept], scores[kept]))
        own = np.arange(len(inside))
        guesses[inside] = again.predict(mixes[inside])[own, own]
        spreads[inside] = spread(kind, again.fixed, again.values, mixes, without[inside], mixes[inside])[own, own]
    return left_out, scores - guesses, spreads, groups


def _without(groups: NDArray[np.int64]) -> Array:
    """Return run weights that are without each group, [groups, runs]."""
    return np.asarray(groups[None] != np.arange(groups.max() + 1)[:, None], np.float64)


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


def _fit_curve(kind: str, mixes: Array, scores: Array, weights: Array, start: Fit | None) -> Fit:
    if start is None:
        p, rest, apart = curves.estimate(kind, mixes, scores)
        return Fit(kind, {"p": p[None]}, {"p": p, "rest": np.array(rest), "apart": np.array(apart), "least": np.array(scores.min())})
    guess = np.repeat(start.fixed["p"][None], len(weights), 0)
    metric = weights / float(start.fixed["rest"]) ** 2
    return Fit(kind, {"p": curves.minimize(kind, guess, mixes, scores, metric, _prior(kind, start.fixed))[0]}, start.fixed)


def _prior(kind: str, fixed: dict[str, Array]) -> curves.Prior:
    return curves.prior_of(kind, float(fixed["least"]), len(fixed["p"]) - curves.EXTRA[kind], float(fixed["apart"]))


def _fit_gp(mixes: Array, scores: Array, weights: Array, start: Fit | None) -> Fit:
    """The constant that the process varies around is uncertain by the spread of the scores."""
    if start is None:
        fixed = {"mixes": mixes, "level": np.array(scores.mean()), "variance": np.array(scores.var() or 1e-18)}
        fixed["hyper"] = _hyper("gp", mixes, scores, np.ones(len(scores), bool), Fit("gp", {}, fixed))
    else:
        fixed = {**start.fixed, "mixes": mixes}
    precision = gp.precision_of(fixed["hyper"], mixes, weights, float(fixed["variance"]))
    alpha = precision @ (scores - fixed["level"])
    return Fit("gp", {"alpha": alpha, "level": fixed["level"] + fixed["variance"] * alpha.sum(1)}, fixed)


def _fit_power_gp(mixes: Array, scores: Array, weights: Array, start: Fit | None) -> Fit:
    """Generalized least squares: the power law is fitted under the covariance of the process, which is fitted to what it may leave."""
    if start is None:
        fixed = {**_fit_curve("power", mixes, scores, weights, None).fixed, "mixes": mixes}
        for _ in range(ROUNDS):
            fixed["hyper"] = _hyper("power_gp", mixes, scores, np.ones(len(scores), bool), Fit("power_gp", {}, fixed))
            metric = gp.precision_of(fixed["hyper"], mixes, weights)
            fixed["p"] = curves.minimize("power", fixed["p"][None], mixes, scores, metric, _prior("power", fixed))[0][0]
    else:
        fixed = {**start.fixed, "mixes": mixes}
    metric = gp.precision_of(fixed["hyper"], mixes, weights)
    guess = np.repeat(fixed["p"][None], len(weights), 0)
    p = curves.minimize("power", guess, mixes, scores, metric, _prior("power", fixed))[0]
    rest = scores - curves.predict("power", p, mixes)
    return Fit("power_gp", {"p": p, "alpha": (metric @ rest[..., None])[..., 0]}, fixed)


def _hyper(kind: str, mixes: Array, scores: Array, kept: NDArray[np.bool_], full: Fit) -> Array:
    """Return the hyperparameters of the process, from the runs `kept`, starting at those that `full` has, if it has any."""
    fixed, scale = full.fixed, float(scores.std()) or 1e-9
    if kind == "gp":
        target, around = scores - fixed["level"], np.full((len(scores), len(scores)), float(fixed["variance"]))
    else:  # what the power law, linear around its fit, may explain from its prior alone is not the process's to explain
        prior = _prior("power", fixed)
        predicted, jacobian = curves.CURVES["power"](fixed["p"][None], mixes)
        target = scores - predicted[0] - jacobian[0] @ (prior.mean - fixed["p"])
        around = jacobian[0] @ np.linalg.solve(prior.precision, jacobian[0].T)
    return gp.fit_hyper(mixes[kept], target[kept], around[np.ix_(kept, kept)], scale, fixed.get("hyper"))


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


_FIT: dict[str, Any] = {
    "constant": _fit_constant,
    "ridge": _fit_ridge,
    "log_linear": lambda *a: _fit_curve("log_linear", *a),
    "power": lambda *a: _fit_curve("power", *a),
    "gp": _fit_gp,
    "power_gp": _fit_power_gp,
    "trees": lambda mixes, scores, weights, start: Fit("trees", trees.fit(mixes, scores, weights), {}),
    "blend": _fit_blend,
}
_PREDICT: dict[str, Any] = {
    "constant": lambda fixed, v, mixes: np.repeat(v["level"][:, None], len(mixes), 1),
    "ridge": lambda fixed, v, mixes: v["level"][:, None] + v["slope"] @ mixes.T,
    "log_linear": lambda fixed, v, mixes: curves.predict("log_linear", v["p"], mixes),
    "power": lambda fixed, v, mixes: curves.predict("power", v["p"], mixes),
    "gp": lambda fixed, v, mixes: v["level"][:, None] + gp.predict(fixed["hyper"], fixed["mixes"], v["alpha"], mixes),
    "power_gp": lambda fixed, v, mixes: curves.predict("power", v["p"], mixes) + gp.predict(fixed["hyper"], fixed["mixes"], v["alpha"], mixes),
    "trees": lambda fixed, v, mixes: trees.predict(v, mixes),
    "blend": lambda fixed, v, mixes: sum(share * part.predict(mixes) for share, part in _members(fixed, v).values()),
}
_GRADIENT: dict[str, Any] = {
    "constant": lambda fixed, v, mix: np.zeros((len(v["level"]), len(mix))),
    "ridge": lambda fixed, v, mix: v["slope"],
    "log_linear": lambda fixed, v, mix: curves.gradient("log_linear", v["p"], mix),
    "power": lambda fixed, v, mix: curves.gradient("power", v["p"], mix),
    "gp": lambda fixed, v, mix: gp.gradient(fixed["hyper"], fixed["mixes"], v["alpha"], mix),
    "power_gp": lambda fixed, v, mix: curves.gradient("power", v["p"], mix) + gp.gradient(fixed["hyper"], fixed["mixes"], v["alpha"], mix),
    "trees": lambda fixed, v, mix: trees.gradient(v, mix),
    "blend": lambda fixed, v, mix: sum(share * part.gradient(mix) for share, part in _members(fixed, v).values()),
}
