"""A Gaussian process on log(w + ε), with one length-scale per source, for a few hundred runs.

Hyperparameters (lengths, spread, noise) maximize the marginal likelihood times log-normal priors, by L-BFGS with the analytic gradient:
with 16 runs and 4 sources the likelihood alone would let lengths run to zero. The mean is a constant, estimated with the rest.
A run of weight 0 is one with infinite noise, so leaving runs out and resampling them are the same operation.
Follows Rasmussen and Williams (2006), chapters 2 and 5.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
EPSILON = 0.003  # a share below this is as good as none
JITTER = 1e-8
LENGTH, LENGTH_SPREAD = np.log(4.0), 1.0  # prior of log length; log(w + ε) spans about 5.8
NOISE, NOISE_SPREAD = np.log(0.05), 1.5  # prior of log noise, relative to the scores' spread
STARTS = (0.0, -1.0)  # added to the lengths' prior mean


def features(mixes: Array) -> Array:
    """Return log(w + ε)."""
    return np.asarray(np.log(np.maximum(mixes, 0.0) + EPSILON))


def fit_hyper(mixes: Array, scores: Array, around_zero: bool = False, start: Array | None = None) -> Array:
    """Return [log lengths (sources), log spread, log noise], the latter two in the scores' units.

    `start` is what such a fit to more or less the same runs returned.
    """
    from scipy.optimize import minimize

    scale = float(np.sqrt(np.mean(scores**2)) if around_zero else scores.std()) or 1.0
    y = scores / scale if around_zero else (scores - scores.mean()) / scale
    x = features(mixes)
    squares = (x[:, None, :] - x[None, :, :]) ** 2
    best_value, best = np.inf, np.zeros(0)
    sources = mixes.shape[1]
    bounds = [(np.log(0.2), np.log(100.0))] * sources + [(np.log(0.05), np.log(20.0)), (np.log(1e-4), np.log(2.0))]
    if start is not None:
        starts = [np.concatenate([start[:sources], start[-2:] - np.log(scale)])]
    else:
        starts = [np.concatenate([np.full(sources, LENGTH + shift), [0.0, NOISE]]) for shift in STARTS]
    for begin in starts:
        found = minimize(_objective, begin, args=(squares, y, around_zero), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 120})
        if found.fun < best_value:
            best_value, best = float(found.fun), found.x
    best = np.array(best, np.float64)
    best[-2:] += np.log(scale)
    return best


def _objective(hyper: Array, squares: Array, y: Array, around_zero: bool) -> tuple[float, Array]:
    """Return the negative log posterior and its gradient."""
    sources = squares.shape[2]
    inverse = np.exp(-2 * hyper[:sources])
    kernel = np.exp(2 * hyper[-2] - 0.5 * squares @ inverse)
    noise = np.exp(2 * hyper[-1])
    covariance = kernel + (noise + JITTER) * np.eye(len(y))
    precision = np.linalg.inv(covariance)
    sign, logdet = np.linalg.slogdet(covariance)
    if sign <= 0:
        return 1e12, np.zeros_like(hyper)
    rest = y
    if not around_zero:
        ones = precision.sum(0)
        rest = y - float(ones @ y) / float(ones.sum())
    alpha = precision @ rest
    inner = np.outer(alpha, alpha) - precision  # d(log likelihood)/dK is half of it; the mean is at its optimum
    weighted = inner * kernel
    by_length = 0.5 * np.einsum("ij,ijs->s", weighted, squares) * inverse
    away = hyper[:sources] - LENGTH
    off = hyper[-1] - NOISE
    value = (
        0.5 * float(rest @ alpha)
        + 0.5 * logdet
        + 0.5 * float(away @ away) / LENGTH_SPREAD**2
        + 0.5 * (off / NOISE_SPREAD) ** 2
        + 0.5 * hyper[-2] ** 2
    )
    by_spread = float(weighted.sum())
    by_noise = noise * float(np.trace(inner))
    gradient = np.concatenate([-by_length + away / LENGTH_SPREAD**2, [-by_spread + hyper[-2], -by_noise + off / NOISE_SPREAD**2]])
    return value, gradient


def condition(hyper: Array, mixes: Array, scores: Array, weights: Array, around_zero: bool = False) -> dict[str, Array]:
    """Return {alpha [B, runs], mean [B]} for `scores` [B, runs] with run weights [B, runs]."""
    x = features(mixes)
    kernel = _kernel(hyper, x, x)
    noise = np.exp(2 * hyper[-1]) + JITTER * np.exp(2 * hyper[-2])
    covariance = kernel[None] + np.eye(len(x)) * (noise / np.maximum(weights, 1e-9))[:, :, None]
    if around_zero:
        return {"alpha": np.linalg.solve(covariance, scores[..., None])[..., 0], "mean": np.zeros(len(scores))}
    both = np.linalg.solve(covariance, np.stack([scores, np.ones_like(scores)], 2))
    mean = both[:, :, 0].sum(1) / both[:, :, 1].sum(1)
    return {"alpha": both[:, :, 0] - mean[:, None] * both[:, :, 1], "mean": mean}


def predict(fixed: dict[str, Array], values: dict[str, Array], mixes: Array) -> Array:
    """Return the posterior means, [B, mixes]."""
    kernel = _kernel(fixed["hyper"], features(fixed["mixes"]), features(mixes))
    return np.asarray(values["mean"][:, None] + values["alpha"] @ kernel)


def gradient(fixed: dict[str, Array], values: dict[str, Array], mix: Array) -> Array:
    """Return the derivative of the posterior means by the shares at one mix, [B, sources]."""
    at, runs = features(mix), features(fixed["mixes"])
    kernel = _kernel(fixed["hyper"], runs, at[None])[:, 0]
    inverse = np.exp(-2 * fixed["hyper"][:-2])
    by_feature = kernel[:, None] * (runs - at[None]) * inverse[None]
    return np.asarray((values["alpha"] @ by_feature) / (np.maximum(mix, 0.0) + EPSILON)[None])


def _kernel(hyper: Array, a: Array, b: Array) -> Array:
    lengths = np.exp(hyper[:-2])
    scaled_a, scaled_b = a / lengths, b / lengths
    squares = (scaled_a**2).sum(1)[:, None] + (scaled_b**2).sum(1)[None] - 2 * scaled_a @ scaled_b.T
    return np.asarray(np.exp(2 * hyper[-2] - 0.5 * np.maximum(squares, 0.0)))
