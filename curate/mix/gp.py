"""A Gaussian process on log(w + ε), for a few hundred runs: around zero, or around the uncertain prediction of another law.

The kernel has three parts, with one length-scale per source in common. A linear one; a squared exponential of all sources, a function of which may be
anything and is known near the runs only; and one of functions of two sources at a time (curate.mix.pairs), which 64 runs of twenty sources can tell
something about (additive Gaussian processes, Duvenaud 2011): what one source does depends on another, seldom on all the others at once. Functions
of two may be shorter: their lengths are `ratio` times the others. ε, a share below which a source is as good as not there, is found with the
rest: large, and the features are nearly the shares themselves; small, and they are their logarithms.

Hyperparameters maximize the marginal likelihood times log-normal priors, by L-BFGS with the analytic gradient: with 16 runs and 4 sources
the likelihood alone would let lengths run to zero. A run of weight 0 is one with infinite noise, so leaving runs out and resampling
them are the same operation. Follows Rasmussen and Williams (2006), chapters 2 and 5; `around` is the covariance of section 2.7, which
tells the process what the other law may still explain.

Tried, and not better on synthetic truths: Matérn 5/2 and rational quadratic kernels, functions of one source beside those of two, lengths of
their own for these, other priors of lengths and ε, several starts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
JITTER = 1e-8
TAIL = 6  # hyperparameters after the lengths: log spread, log spread of pairs, log ratio, log noise, log linear spread, log ε
LENGTH = np.log(4.0)  # prior mean of a log length; its spread is 1
EPSILON = np.log(0.01)
SPREADS = np.array([1.0, 1.0, 0.0, 1.0, 1.0, 0.0])  # of the tail: what is in the scores' units
PRIOR_MEAN = np.array([np.log(0.5), np.log(0.5), np.log(0.2), np.log(0.05), np.log(0.5), EPSILON])  # relative to the scores' spread
PRIOR_SPREAD = np.array([1.0, 1.0, 0.7, 1.5, 1.0, 1.0])
LOWEST = np.array([np.log(0.001), np.log(0.001), np.log(0.05), np.log(1e-4), np.log(0.001), EPSILON - 4])
HIGHEST = np.array([np.log(20.0), np.log(20.0), np.log(3.0), np.log(2.0), np.log(20.0), EPSILON + 4])
ITERATIONS = 60  # of L-BFGS
AGAIN = 20  # of these, where the search begins near its end
ENOUGH = 1e-6  # a step that raises the log posterior by less than this share is the last
SOME = 128  # runs, or up to twice as many, are a small swarm
FEW = 4  # one run in so many is few to leave out


class Hyper(NamedTuple):
    """Hyperparameters, as the kernel uses them: variances, lengths and ε themselves."""

    lengths: Array  # [sources]
    spread: float
    pairs: float
    ratio: float
    noise: float
    linear: float
    epsilon: float


def named(hyper: Array) -> Hyper:
    """Return what `fit_hyper` found by name. The noise has a little of the variance, without which a matrix may not be invertible."""
    spread, pairs, ratio, noise, linear, epsilon = (float(value) for value in np.exp((1 + SPREADS) * hyper[-TAIL:]))
    return Hyper(np.exp(hyper[:-TAIL]), spread, pairs, ratio, noise + JITTER * (spread + pairs), linear, epsilon)


def features(mixes: Array, epsilon: float) -> Array:
    """Return log(w + ε)."""
    return np.asarray(np.log(np.maximum(mixes, 0.0) + epsilon))


def fit_hyper(mixes: Array, scores: Array, around: Array, scale: float, near: Array | None = None) -> Array:
    """Return the logarithms of [lengths (sources), spread, spread of pairs, ratio, noise, linear spread, ε], the spreads in the scores' units.

    `around` [runs, runs] is the covariance of what explains the scores besides the process; `scale` is the spread of the scores. `near`: what was
    found for nearly the same runs, where the search begins; else it begins at the middle of the priors, and in a large swarm, where a step
    takes as long as the cube of the runs, it looks at some of them first.
    """
    from scipy.optimize import minimize

    sources, every = mixes.shape[1], len(mixes) // SOME
    if near is None and every > 1:
        some = np.arange(0, len(mixes), every)
        near = fit_hyper(mixes[some], scores[some], around[np.ix_(some, some)], scale)
    units = np.concatenate([np.zeros(sources), SPREADS * np.log(scale)])
    begin = np.concatenate([np.full(sources, LENGTH), PRIOR_MEAN]) if near is None else near - units
    bounds = [(np.log(0.2), np.log(300.0))] * sources + list(zip(LOWEST, HIGHEST, strict=True))
    begin = np.clip(begin, *np.array(bounds).T)
    given = (mixes, scores / scale, around / scale**2)
    most = ITERATIONS if near is None else AGAIN
    found = minimize(objective, begin, args=given, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": most, "ftol": ENOUGH})
    return np.asarray(found.x + units, np.float64)


def objective(hyper: Array, mixes: Array, y: Array, around: Array) -> tuple[float, Array]:
    """Return the negative log posterior of the hyperparameters and its gradient, for scores of spread 1.

    Sums over pairs of runs are written as products: with W symmetric and r its row sums, Σ Wᵢⱼ (aᵢ − aⱼ)(bᵢ − bⱼ) = 2 (r · ab − a · W b).
    """
    from curate.mix import pairs

    at, sources = named(hyper), mixes.shape[1]
    inverse, short = at.lengths**-2.0, 1 / (at.ratio * at.lengths)
    off = features(mixes, at.epsilon) - features(mixes.mean(0), at.epsilon)
    both, scaled = (off * inverse) @ off.T, np.ascontiguousarray((off * short).T)
    own = np.diag(both)
    near = at.spread * np.exp(-0.5 * np.maximum(own[:, None] + own[None] - 2 * both, 0.0))
    straight = at.linear * both
    totals, together = np.empty((len(y), len(y))), np.empty((len(y), len(y)))
    pairs.pairs(scaled, scaled, True, totals, together)
    share = at.pairs / number_of_pairs(sources)
    covariance = around + near + straight + share * together
    covariance.flat[:: len(y) + 1] += at.noise
    found = _inverse(covariance)
    if found is None:
        return 1e12, np.zeros_like(hyper)
    precision, logdet = found
    alpha = precision @ y
    inner = np.outer(alpha, alpha) - precision  # d(log likelihood)/dK is half of it
    weighted = inner * near
    rows, trace = weighted.sum(1), float(np.trace(inner))
    by_epsilon = at.epsilon / (np.maximum(mixes, 0.0) + at.epsilon)  # of the features, by log ε
    off_by_epsilon = by_epsilon - at.epsilon / (mixes.mean(0) + at.epsilon)
    by_scaled, by_short = np.zeros_like(scaled), np.zeros(sources)
    pairs.pairs_back(scaled, totals, share * inner, by_scaled, by_short)
    by_length = rows @ off**2 - (off * (weighted @ off)).sum(0) - at.linear * (off * (inner @ off)).sum(0)
    change = rows @ (off * off_by_epsilon) - (off * (weighted @ off_by_epsilon)).sum(0)
    tail = [
        float(rows.sum()) + JITTER * at.spread * trace,
        share * float((inner * together).sum()) + JITTER * at.pairs * trace,
        0.5 * float(by_short.sum()),
        (at.noise - JITTER * (at.spread + at.pairs)) * trace,
        float((inner * straight).sum()),
        -float(change @ inverse)
        + at.linear * float((off_by_epsilon * (inner @ (off * inverse))).sum())
        + 0.5 * float((by_scaled.T * short * by_epsilon).sum()),
    ]
    away, aside = hyper[:sources] - LENGTH, (hyper[sources:] - PRIOR_MEAN) / PRIOR_SPREAD
    value = 0.5 * float(y @ alpha) + 0.5 * logdet + 0.5 * float(away @ away) + 0.5 * float(aside @ aside)
    gradient = np.concatenate([-by_length * inverse - 0.5 * by_short + away, -np.array(tail) + aside / PRIOR_SPREAD])
    return value, gradient


def number_of_pairs(sources: int) -> float:
    """Return the prior variance of a sum over pairs of sources, each of variance 1; at least 1."""
    return max(1.0, sources * (sources - 1) / 2)


def _inverse(covariance: Array) -> tuple[Array, float] | None:
    """Return the inverse and the log determinant, by Cholesky's method; None where the matrix is not positive definite."""
    from scipy.linalg import lapack

    factor, failed = lapack.dpotrf(covariance, lower=1)
    if failed:
        return None
    lower = np.tril(lapack.dpotri(factor, lower=1)[0])
    return lower + np.tril(lower, -1).T, 2 * float(np.log(np.diag(factor)).sum())


def precision_of(hyper: Array, mixes: Array, weights: Array, level: float = 0.0) -> Array:
    """Return the inverse covariance of scores under run weights [B, runs]: [B, runs, runs]. `level`: variance of an unknown constant.

    A run of weight 0 has no part in it: its row and column are 0. Where few runs are left out, theirs are taken out of the inverse for all of
    them, since A⁻¹ without some rows of A is P − P_ij P_jj⁻¹ P_ji of P = A⁻¹, 64 times at 512 runs in an eighth of the time.
    """
    noise = named(hyper).noise
    together, runs = kernel(hyper, mixes, mixes, mixes) + level, np.arange(len(mixes))
    found = np.zeros((len(weights), len(mixes), len(mixes)))
    whole: Array | None = None
    for b, row in enumerate(weights):
        kept, out = runs[row > 0], runs[row <= 0]
        if len(out) * FEW <= len(mixes) and (row[kept] == 1).all():
            if whole is None:
                whole = np.asarray(np.linalg.inv(together + noise * np.eye(len(mixes))))
            found[b] = whole - whole[:, out] @ np.linalg.solve(whole[np.ix_(out, out)], whole[out])
            found[b, out], found[b, :, out] = 0.0, 0.0
        else:
            found[b][np.ix_(kept, kept)] = np.linalg.inv(together[np.ix_(kept, kept)] + np.diag(noise / row[kept]))
    return found


def predict(hyper: Array, runs: Array, alpha: Array, mixes: Array) -> Array:
    """Return posterior means [B, mixes], for alpha = precision @ scores, [B, runs]."""
    return np.asarray(alpha @ kernel(hyper, runs, runs, mixes))


def kernel(hyper: Array, runs: Array, a: Array, b: Array) -> Array:
    """Return the covariance of the process between mixes `a` and `b`, [a, b]. `runs` place the origin of the linear part."""
    from curate.mix import pairs

    at = named(hyper)
    middle = features(runs.mean(0), at.epsilon)
    one, other = (features(a, at.epsilon) - middle) / at.lengths, (features(b, at.epsilon) - middle) / at.lengths
    both = one @ other.T
    totals, together = np.empty_like(both), np.empty_like(both)
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * both
    pairs.pairs(np.ascontiguousarray(one.T) / at.ratio, np.ascontiguousarray(other.T) / at.ratio, False, totals, together)
    share = at.pairs / number_of_pairs(runs.shape[1])
    return np.asarray(at.spread * np.exp(-0.5 * np.maximum(squares, 0.0)) + at.linear * both + share * together)


def variance_at(hyper: Array, runs: Array, mixes: Array) -> Array:
    """Return the prior variance of the process, [mixes]."""
    at = named(hyper)
    off = (features(mixes, at.epsilon) - features(runs.mean(0), at.epsilon)) / at.lengths
    return np.asarray(at.spread + at.pairs + at.linear * (off**2).sum(1))
