"""Laws: from the share of each source to the score of one suite, and which one to believe.

    constant     the mix does not matter
    ridge        b + a·w
    log_linear   c + exp(a·w)                     Data Mixing Laws (Ye 2024), here regularized (curate.mix.curves)
    power        c + (s·w)^−g,  s ≥ 0             s·w: how much a token of each source is worth to the suite (the same)
    gp           Gaussian process on log(w + ε), of all sources and of every two, for log(score − floor) (curate.mix.gp)
    power_gp     power, and a Gaussian process on what it leaves; both fitted together
    power_times_gp  c + (s·w)^−g · exp(process): what data is worth depends on the mix; fitted to the logarithms above the floor
    trees        gradient-boosted trees with soft splits (curate.mix.trees)
    blend        weighted mean of those above with the smallest errors (curate.mix.blend); only `auto` makes one

`auto` fits all, and compares what each predicts for runs that it was not fitted to: every single run (trees: groups of runs). What a law
estimates once, such as the lengths of a Gaussian process, is then estimated without that run's group too. Errors are mean absolute ones, in
which a run counts the less, the less the other runs tell of it (`counts_of`): a run that is alone in its corner is missed by every law when it is
left out, and what that says is which law extrapolates least badly. With squares and equal counts such a run decided alone.
The laws are blended unless one of them alone is clearly better than their blend. A constant counts in the blend the more, the less clearly the
best law beats it: with few runs a law that is barely better than a constant is neither to be believed nor to be thrown away.

Scores are bits per byte (lower is better) or anything else that falls as a model gets better and is above 0.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from curate.errors import InputError
from curate.mix import blend
from curate.mix.forms import ESTIMATED, Fit, estimate_near, fit
from curate.mix.spread import leverage, spread
from curate.mix.threads import one_thread

__all__ = ["PREFERENCE", "Fit", "SuiteLaw", "choose_law", "fit", "pick", "try_law"]

Array = NDArray[np.float64]
PREFERENCE = ("constant", "power", "log_linear", "ridge", "power_times_gp", "power_gp", "gp", "trees")  # by how little proposals move between swarms
NEARLY_EQUAL = 1.02
UNSURE, SURE = 0.5, 2.0  # standard errors by which a law must beat a constant to count at all, and to count alone
NO_DEPENDENCE = "this suite does not depend on the mix"
LEAST_COUNT = 0.1  # of a run in the error of a law
PENALTY = 1e-3  # of the regression whose leverage says how much the other runs tell of one
SMALL = 24  # runs, of which hyperparameters that saw all of them still know the one that is left out
FOLDS, LARGE_FOLDS = 8, 4  # groups of runs without which hyperparameters are estimated again: what takes most of a large swarm's time
LARGE = 256  # runs, of which three quarters tell hyperparameters as well as seven eighths do
GROUPS = 64  # of runs that are left out one after the other: single runs up to so many, for more the rest hardly differs
TREE_FOLDS = 16  # groups of runs that trees are left without; one at a time would cost most of a fit's time


class SuiteLaw(msgspec.Struct, frozen=True):
    """The law of one suite: the fit to all runs, its leave-one-out fits and residuals, and why it was chosen."""

    suite: str
    full: Fit
    left_out: Fit  # without each run, or each group of runs
    residuals: Array  # measured minus predicted when the run is left out, [runs]
    errors: dict[str, float]  # mean absolute leave-one-out error of every law that was tried, runs counted by `counts_of`
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


@one_thread()
def try_law(suite: str, mixes: Array, scores: Array, kind: str, noise: float | None = None) -> SuiteLaw:
    """Fit one law to a suite, with and without each run."""
    check(suite, mixes, scores)
    full = fit(kind, mixes, scores)
    left_out, residuals, scales, groups = _leave_out(kind, mixes, scores, full)
    errors = {kind: float(counts_of(mixes) @ np.abs(residuals))}
    return SuiteLaw(suite, full, left_out, residuals, errors, noise, "named in the spec", mixes, scales, groups)


def counts_of(mixes: Array) -> Array:
    """Return how much each run's error counts in a law's, [runs], 1 in all: by one minus its leverage in a ridge regression on the shares.

    So do generalized cross-validation and its kin (Golub 1979), where the leave-one-out errors of far runs would be the whole criterion.
    """
    own = leverage(mixes, np.ones((1, len(mixes))), mixes, PENALTY)[0]
    counts = np.maximum(1 - own, LEAST_COUNT)
    return np.asarray(counts / counts.sum())


def check(suite: str, mixes: Array, scores: Array) -> None:
    """Raise InputError when there are too few runs for a law, or a score is no number above 0."""
    if len(scores) < 4 or len(scores) != len(mixes):
        raise InputError(f"{len(scores)} scores at {len(mixes)} mixes are too few for a law", where=f"suite {suite}")
    if not np.isfinite(scores).all():
        raise InputError("a score is not a number", where=f"suite {suite}")
    if scores.min() <= 0:
        what = f"the lowest score is {scores.min():.4g}; laws are of scores above 0 that fall as a model gets better"
        raise InputError(what, where=f"suite {suite}", hint="such as bits per byte, or a loss; turn log-likelihoods around")


def pick(tried: list[SuiteLaw]) -> SuiteLaw:
    """Return the best of several laws of a suite (in the order of PREFERENCE), or a blend, with the errors of all, and why it is.

    Of laws that depend on the mix, a blend is best when its error is within 2 % of the smallest; else of those within 2 % of it, the first. How
    much a constant counts beside depends on by how many standard errors the best law beats it: alone up to half a one, not at all from two on.
    """
    errors = {one.full.kind: one.errors[one.full.kind] for one in tried}
    constant = next((one for one in tried if one.full.kind == "constant"), None)
    laws = [one for one in tried if one is not constant and np.isfinite(errors[one.full.kind])]
    if not laws:
        return constant or tried[0]
    best = min(laws, key=lambda one: errors[one.full.kind])
    lead = SURE if constant is None else _lead(best, constant)
    if constant is not None and lead <= UNSURE:
        both = f"errors {errors[best.full.kind]:.4f} and {errors['constant']:.4f}"
        why = f"no law beats a constant ({both}): as far as these runs show, {NO_DEPENDENCE}"
        return msgspec.structs.replace(constant, errors=errors, why=why)
    shares = blend.shares_of({one.full.kind: errors[one.full.kind] for one in laws})
    found = _blend(laws, shares, errors)
    if len(shares) == 1 or found.errors["blend"] > errors[best.full.kind] * NEARLY_EQUAL:
        chosen = next(one for one in laws if errors[one.full.kind] <= errors[best.full.kind] * NEARLY_EQUAL)
        shares, found = {chosen.full.kind: 1.0}, msgspec.structs.replace(chosen, errors=errors, why=_why(chosen.full.kind, errors))
    if constant is None or lead >= SURE:
        return found
    trust = (lead - UNSURE) / (SURE - UNSURE)
    found = _blend(tried, {**{kind: trust * share for kind, share in shares.items()}, "constant": 1 - trust}, errors)
    why = f"{found.why}; a constant is among them since the best law beats it by only {lead:.1f} standard errors"
    return msgspec.structs.replace(found, why=why)


def _lead(law: SuiteLaw, constant: SuiteLaw) -> float:
    """Return by how many standard errors a law's leave-one-out errors are smaller than a constant's: a paired comparison over the runs."""
    less, counts = np.abs(constant.residuals) - np.abs(law.residuals), counts_of(law.mixes)
    mean, alike = float(counts @ less), 1 / float(counts @ counts)  # as many runs that count the same would be as sure (Kish 1965)
    return mean / max(float(np.sqrt(counts @ (less - mean) ** 2 / (alike - 1))), 1e-12)


def _blend(tried: list[SuiteLaw], shares: dict[str, float], errors: dict[str, float]) -> SuiteLaw:
    """Return the blend of laws with these shares. Each law's spread is brought to the size of its own errors before they are added."""
    members = {one.full.kind: one for one in tried if one.full.kind in shares}
    count, runs = min(GROUPS, len(tried[0].residuals)), np.arange(len(tried[0].residuals))
    sizes = {kind: float(np.mean(np.abs(one.residuals)) / np.mean(one.scales)) for kind, one in members.items()}
    given = {kind: {"share": np.array(shares[kind]), "size": np.array(sizes[kind])} for kind in members}
    fixed = blend.join({kind: {**one.full.fixed, **given[kind]} for kind, one in members.items()})
    full = Fit("blend", blend.join({kind: one.full.values for kind, one in members.items()}), fixed)
    apart = {kind: {name: value[one.groups[:count]] for name, value in one.left_out.values.items()} for kind, one in members.items()}
    residuals: Array = np.sum([shares[kind] * one.residuals for kind, one in members.items()], axis=0)
    scales: Array = np.sum([shares[kind] * sizes[kind] * one.scales for kind, one in members.items()], axis=0)
    error = float(counts_of(tried[0].mixes) @ np.abs(residuals))
    parts = ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in sorted(shares.items(), key=lambda item: -item[1]))
    least = min(errors, key=lambda kind: errors[kind])
    why = f"leave-one-out error {error:.4f} ({least}, the best law alone, has {errors[least]:.4f}): {parts}"
    left_out = Fit("blend", blend.join(apart), fixed)
    together = {**errors, "blend": error}
    return SuiteLaw(tried[0].suite, full, left_out, residuals, together, tried[0].noise, why, tried[0].mixes, np.maximum(scales, 1e-12), runs % count)


def _why(chosen: str, errors: dict[str, float]) -> str:
    best = min(errors, key=lambda kind: errors[kind])
    text = f"leave-one-out error {errors[chosen]:.4f}"
    if best != chosen:
        return f"{text}, within 2 % of {best}'s, and steadier"
    others = [kind for kind in errors if kind not in (chosen, "constant")]
    second = min(others, key=lambda kind: errors[kind], default=chosen)
    return f"{text}, the smallest; next is {second} with {errors[second]:.4f}"


def _leave_out(kind: str, mixes: Array, scores: Array, full: Fit) -> tuple[Fit, Array, Array, NDArray[np.int64]]:
    """Refit without each run; without groups of them where there are more than GROUPS, and for trees.

    Return the fits, the residuals, the spreads at the runs, and the fit that is without each run. What a law estimates once (noise, lengths,
    how far coefficients lie apart) is estimated again without each of a few groups of runs, or residuals would be too small.
    """
    runs = len(scores)
    groups = np.arange(runs) % min(TREE_FOLDS if kind == "trees" else GROUPS, runs)
    without = _without(groups)
    left_out = fit(kind, mixes, scores, without, full)
    if kind not in ESTIMATED:
        spreads = spread(kind, left_out.fixed, left_out.values, mixes, without, mixes)
        return left_out, scores - left_out.predict(mixes)[groups, np.arange(runs)], spreads[groups, np.arange(runs)], groups
    guesses, spreads = np.zeros(runs), np.zeros(runs)
    folds = np.arange(runs) % (LARGE_FOLDS if runs >= LARGE else min(FOLDS, runs))  # each a union of groups
    for fold in range(folds.max() + 1):
        inside = np.flatnonzero(folds == fold)
        here, own = np.unique(groups[inside], return_inverse=True)
        begin = estimate_near(kind, mixes[folds != fold], scores[folds != fold], full if runs > SMALL else None)
        again = fit(kind, mixes, scores, without[here], begin)
        guesses[inside] = again.predict(mixes[inside])[own, np.arange(len(inside))]
        spreads[inside] = spread(kind, again.fixed, again.values, mixes, without[here], mixes[inside])[own, np.arange(len(inside))]
    return left_out, scores - guesses, spreads, groups


def _without(groups: NDArray[np.int64]) -> Array:
    """Return run weights that are without each group, [groups, runs]."""
    return np.asarray(groups[None] != np.arange(groups.max() + 1)[:, None], np.float64)
