"""Two parametric laws, c + exp(a·w) and c + (s·w)^−g with s ≥ 0, fitted many times at once by damped least squares.

Parameters, all unbounded: [log c, log g (power only), a or log s]; `log_power` is the logarithm of the second without its floor c. Weak
priors keep what the runs do not determine near plausible values:
the floor near 0.6 of the best score, the power near 0.5, the coefficients near each other, and no s below a twentieth of their mean: with a
free exponent and worthless sources, a corner that no run shows was predicted to cost hundreds of bits. How much the runs weigh against the
priors is not fixed but estimated with the fit (empirical Bayes by expectation-maximization, MacKay 1992): the size of what the law leaves,
and how far the coefficients lie apart. A law that cannot express the truth then stays smooth, and does not chase it into the corners.

Sources: Ye 2024 (Data Mixing Laws) for the first; the second is a power law of data whose tokens count differently per source.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Curve = Callable[[Array, Array], tuple[Array, Array]]
STEPS = 60  # of Levenberg and Marquardt, at most
TOLERANCE = 1e-5  # a step that lowers the cost by less than this share is the last
ROUNDS = 6  # of expectation-maximization
LEAST_REST = 0.002  # of the scores' spread: what a law leaves is never taken to be smaller
APART = {"log_linear": 3.0, "power": 2.0, "log_power": 2.0}  # prior spread of the coefficients
APART_COUNT = 4.0  # how many coefficients that belief is worth
FLOOR_SPREAD, POWER_SPREAD, LEVEL_SPREAD = 0.7, 0.3, 20.0
LEAST_WORTH = 0.05  # of the mean over sources: a token of any source is worth that much
EXTRA = {"log_linear": 1, "power": 2, "log_power": 1}  # parameters before the coefficients


class Prior(msgspec.Struct, frozen=True):
    """Mean [p] and precision [p, p] of the parameters."""

    mean: Array
    precision: Array


def _log_linear(values: Array, mixes: Array) -> tuple[Array, Array]:
    floor = np.exp(values[:, :1])
    rise = np.exp(np.clip(values[:, 1:] @ mixes.T, -50, 50))
    jacobian = np.concatenate([np.broadcast_to(floor[:, :, None], (*rise.shape, 1)), rise[:, :, None] * mixes[None]], 2)
    return floor + rise, jacobian


def _log_power(values: Array, mixes: Array) -> tuple[Array, Array]:
    """Return the logarithm of what a power law has above its floor; parameters [log g, log s]."""
    power, worth = np.exp(values[:, :1]), np.exp(np.clip(values[:, 1:], -40, 40))
    every = LEAST_WORTH / mixes.shape[1] * mixes.sum(1, keepdims=True)
    data = np.maximum(worth @ (mixes + every).T, 1e-12)
    rise = -power * np.log(data)
    slope = (-power / data)[:, :, None] * worth[:, None, :] * (mixes + every)[None]
    return rise, np.concatenate([rise[:, :, None], slope], 2)


def _power(values: Array, mixes: Array) -> tuple[Array, Array]:
    floor = np.exp(values[:, :1])
    rise, jacobian = _log_power(values[:, 1:], mixes)
    above = np.exp(np.clip(rise, -50, 50))
    return floor + above, np.concatenate([np.broadcast_to(floor[:, :, None], (*rise.shape, 1)), above[:, :, None] * jacobian], 2)


CURVES: dict[str, Curve] = {"log_linear": _log_linear, "power": _power, "log_power": _log_power}


def predict(kind: str, values: Array, mixes: Array) -> Array:
    """Return predictions [B, mixes] for parameters [B, p]."""
    return CURVES[kind](values, mixes)[0]


def at(kind: str, values: Array, mix: Array) -> tuple[Array, Array]:
    """Return predictions at one mix, [B], and their derivatives by the shares, [B, sources]."""
    if kind == "log_linear":
        rise = np.exp(np.clip(values[:, 1:] @ mix, -50, 50))
        return np.exp(values[:, 0]) + rise, rise[:, None] * values[:, 1:]
    power, worth = np.exp(values[:, EXTRA[kind] - 1]), np.exp(np.clip(values[:, EXTRA[kind] :], -40, 40))
    worth = worth + LEAST_WORTH * worth.mean(1, keepdims=True)
    data = np.maximum(worth @ mix, 1e-12)
    rise, slope = -power * np.log(data), (-power / data)[:, None] * worth
    if kind == "log_power":
        return rise, slope
    above = np.exp(np.clip(rise, -50, 50))
    return np.exp(values[:, 0]) + above, above[:, None] * slope


def prior_of(kind: str, least: float, sources: int, apart: float) -> Prior:
    """Return the prior for suites whose smallest score is `least`."""
    extra = EXTRA[kind]
    mean, precision = np.zeros(extra + sources), np.zeros((extra + sources, extra + sources))
    if kind != "log_power":
        mean[0], precision[0, 0] = np.log(0.6 * least), 1 / FLOOR_SPREAD**2
    if kind != "log_linear":
        mean[extra - 1], precision[extra - 1, extra - 1] = np.log(0.5), 1 / POWER_SPREAD**2
    precision[extra:, extra:] = (np.eye(sources) - 1 / sources) / apart**2 + np.eye(sources) / LEVEL_SPREAD**2
    return Prior(mean, precision)


def size_of(scores: Array) -> float:
    """Return the spread of the scores, never nothing."""
    return max(float(scores.std()), 1e-4 * float(np.abs(scores).mean()), 1e-12)


def estimate(kind: str, mixes: Array, scores: Array, near: Array | None = None) -> tuple[Array, float, float]:
    """Fit to all runs. Return parameters [p], the size of what is left, and the spread of the coefficients.

    `near`: parameters of a fit to nearly the same runs; without them, several starts are tried.
    """
    sources, extra, spread = mixes.shape[1], EXTRA[kind], size_of(scores)
    rest, apart = 0.1 * spread, APART[kind]
    prior = prior_of(kind, float(scores.min()), sources, apart)
    metric = np.full((1, len(scores)), rest**-2)
    shapes = (0.3, 1.0) if kind == "power" else (1.0,)
    starts = [_guess(kind, mixes, scores, share, shape) for shape in shapes for share in (0.4, 0.9)] if near is None else [near]
    found = [minimize(kind, start[None], mixes, scores, metric, prior) for start in starts]
    values = min(found, key=lambda pair: float(pair[1][0]))[0]
    for _ in range(ROUNDS):
        predicted, jacobian = CURVES[kind](values, mixes)
        covariance = posterior(kind, values, mixes, metric, prior)[0]
        explained = float(np.einsum("ij,jk,ik->", jacobian[0], covariance, jacobian[0])) / rest**2
        left = float(((scores - predicted[0]) ** 2).sum()) / max(len(scores) - explained, 1 + 0.1 * len(scores))
        rest = max(float(np.sqrt(left)), LEAST_REST * spread)
        coefficients = values[0, extra:]
        around = float(((coefficients - coefficients.mean()) ** 2 + np.diag(covariance)[extra:]).sum())
        apart = float(np.sqrt((around + APART_COUNT * APART[kind] ** 2) / (sources + APART_COUNT)))
        prior, metric = prior_of(kind, float(scores.min()), sources, apart), np.full((1, len(scores)), rest**-2)
        values, _ = minimize(kind, values, mixes, scores, metric, prior)
    return values[0], rest, apart


def _guess(kind: str, mixes: Array, scores: Array, share: float, shape: float) -> Array:
    """Start with a floor at a share of the lowest score, and the rest from a ridge regression in the law's own terms."""
    floor = share * float(scores.min())
    rest = np.log(scores - floor)
    linear = rest if kind == "log_linear" else np.exp(-(rest - rest.mean()) / shape)
    middle = mixes.mean(0)
    x = mixes - middle
    slope = np.linalg.solve(x.T @ x + 1e-3 * len(x) * np.eye(x.shape[1]), x.T @ (linear - linear.mean()))
    each = linear.mean() + slope - slope @ middle
    if kind == "log_linear":
        return np.concatenate([[np.log(floor)], each])
    worth = np.log(np.maximum(each, 0.02 * np.abs(linear).max())) - rest.mean() / shape
    return np.concatenate([[np.log(floor), np.log(shape)], worth])


def posterior(kind: str, values: Array, mixes: Array, metric: Array, prior: Prior) -> Array:
    """Return the covariance of the parameters, linearized, [B, p, p]."""
    jacobian = CURVES[kind](values, mixes)[1]
    return np.asarray(np.linalg.inv(np.swapaxes(jacobian, 1, 2) @ _apply(metric, jacobian) + prior.precision))


def _apply(metric: Array, columns: Array) -> Array:
    """Return metric @ columns [B, runs, k] for precisions per run [B, runs] or full ones [B, runs, runs]."""
    return metric[:, :, None] * columns if metric.ndim == 2 else np.asarray(metric @ columns)


def minimize(kind: str, values: Array, mixes: Array, scores: Array, metric: Array, prior: Prior) -> tuple[Array, Array]:
    """Minimize residualᵀ · metric · residual + the prior, from `values` [B, p]; return parameters [B, p] and costs [B].

    `metric`: precisions of the runs, [B, runs], or the inverse of their covariance, [B, runs, runs].
    """
    curve = CURVES[kind]
    values, damping, active = values.copy(), np.full(len(values), 1e-2), np.arange(len(values))

    def cost_of(at: Array, precision: Array) -> Array:
        away, rest = at - prior.mean, (scores - curve(at, mixes)[0])[:, :, None]
        return np.asarray((rest * _apply(precision, rest)).sum((1, 2)) + ((away @ prior.precision) * away).sum(1))

    cost = cost_of(values, metric)
    for _ in range(STEPS):
        here, precision = values[active], metric if len(active) == len(metric) else metric[active]  # large: copied for need only
        predicted, jacobian = curve(here, mixes)
        weighted = np.swapaxes(_apply(precision, jacobian), 1, 2)
        gram = weighted @ jacobian + prior.precision
        slope = (weighted @ (scores - predicted)[:, :, None])[:, :, 0] - (here - prior.mean) @ prior.precision
        damped = gram + damping[active, None, None] * np.diagonal(gram, axis1=1, axis2=2)[:, :, None] * np.eye(values.shape[1])
        step = np.clip(np.linalg.solve(damped, slope[..., None])[..., 0], -3, 3)
        tried = cost_of(here + step, precision)
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
