"""Laws: from the share of each source to the score of one suite, and which one to believe.

    constant     the mix does not matter
    ridge        b + a·w
    log_linear   c + exp(a·w)                     Data Mixing Laws (Ye 2024), here regularized (curate.mix.curves)
    power        c + (s·w)^−g,  s ≥ 0             s·w: how much a token of each source is worth to the suite (the same)
    gp           Gaussian process on log(w + ε), one length per source (curate.mix.gp)
    power_gp     power, and a Gaussian process on what it leaves; both fitted together
    trees        gradient-boosted trees with soft splits (curate.mix.trees)
    blend        weighted mean of those above with the smallest errors (curate.mix.blend); only `auto` makes one

`auto` fits all, and compares what each predicts for runs that it was not fitted to: every single run (trees: groups of runs). What a law
estimates once, such as the lengths of a Gaussian process, is then estimated without that run's group too. Errors are mean absolute ones: with
squares, the one run in a corner, which every law misses when it is left out, decided alone. A constant wins unless a law beats it clearly;
a blend wins when its error is the smallest; of single laws within 2 % of the best, the steadier wins.

Scores are bits per byte (lower is better) or anything else that falls as a model gets better and is above 0.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from curate.errors import InputError
from curate.mix import blend
from curate.mix.forms import ESTIMATED, Fit, estimate_near, fit
from curate.mix.spread import spread

__all__ = ["PREFERENCE", "Fit", "SuiteLaw", "choose_law", "fit", "pick", "try_law"]

Array = NDArray[np.float64]
PREFERENCE = ("constant", "power", "log_linear", "ridge", "power_gp", "gp", "trees")  # by how little proposals move between swarms
NEARLY_EQUAL = 1.02
SURE = 2.0  # standard errors by which a law must beat a constant
NO_DEPENDENCE = "this suite does not depend on the mix"
FOLDS = 8  # groups of runs without which hyperparameters are estimated again
TREE_FOLDS = 16  # groups of runs that trees are left without; one at a time would cost most of a fit's time


class SuiteLaw(msgspec.Struct, frozen=True):
    """The law of one suite: the fit to all runs, its leave-one-out fits and residuals, and why it was chosen."""

    suite: str
    full: Fit
    left_out: Fit  # without each run, or each group of runs
    residuals: Array  # measured minus predicted when the run is left out, [runs]
    errors: dict[str, float]  # mean absolute leave-one-out error of every law that was tried
    noise: float | None  # standard deviation of replicates, where there are any
    why: str
    mixes: Array  # of the runs, [runs, sources]
    scales: Array  # how uncertain the law without a run says that it is there, [runs]
    groups: NDArray[np.int64]  # the fit of `left_out` that is without the run, [runs]

    def scale_at(self, mixes: Array) -> Array:
        """Return how uncertain the law says that it is at mixes, in the units of `scales`, [mixes]."""
        ones = np.ones((1, len(self.mixes)))
        return np.asarray(spread(self.full.kind, self.full.fixed, self.full.values, self.mixes, ones, np.atleast_2d(mixes))[0])

    def predict(self, mixes: Array, level: float = 0.9) -> tuple[Array, Array, Array]:
        """Return mean, low and high, each [mixes]: the interval for a new measurement, at least as wide as the noise.

        Jackknife+ (Barber 2021), with residuals in units of what the law itself thinks of its uncertainty (Papadopoulos 2008).
        """
        at = np.atleast_2d(mixes)
        mean = self.full.predict(at)[0]
        around = self.left_out.predict(at)[self.groups]
        here = self.scale_at(at)
        size = (np.abs(self.residuals) / self.scales)[:, None] * here
        low, high = -_quantile(size - around, level), _quantile(around + size, level)
        least = 1.645 * (self.noise or 0.0)
        return mean, np.minimum(low, mean - least), np.maximum(high, mean + least)


def _quantile(values: Array, level: float) -> Array:
    """Return the quantile of each column whose expected coverage of one more draw is `level`, and half a rank more.

    The half is for the law having been chosen by these very values; whole ranks would take the largest of fifteen runs.
    """
    place = min(max(level * (len(values) + 1) - 0.5, 0.0), len(values) - 1.0)
    return np.asarray(np.quantile(values, place / (len(values) - 1), axis=0))


def choose_law(suite: str, mixes: Array, scores: Array, law: str = "auto", noise: float | None = None) -> SuiteLaw:
    """Fit `law`, or the best one, to a suite. Raises InputError when there are too few runs or a score is not a number.

    A blend exists only as what `auto` may find: asked for by that name, all laws are tried again, with the same result.
    """
    if law not in ("auto", "blend"):
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
    errors = {kind: float(np.mean(np.abs(residuals)))}
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
    error = float(np.mean(np.abs(residuals)))
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
        again = fit(kind, mixes, scores, without[inside], estimate_near(kind, mixes[kept], scores[kept], full))
        own = np.arange(len(inside))
        guesses[inside] = again.predict(mixes[inside])[own, own]
        spreads[inside] = spread(kind, again.fixed, again.values, mixes, without[inside], mixes[inside])[own, own]
    return left_out, scores - guesses, spreads, groups


def _without(groups: NDArray[np.int64]) -> Array:
    """Return run weights that are without each group, [groups, runs]."""
    return np.asarray(groups[None] != np.arange(groups.max() + 1)[:, None], np.float64)
