"""How uncertain a law is at a mix, as the law itself sees it: the standard deviation of a new measurement there.

Each law has its own: leverage for ridge (and for trees, which have none of their own), the linearized posterior for the two curves
(MacKay 1992), the posterior for Gaussian processes, with the uncertainty of the curve below one (Rasmussen and Williams 2.7). None of
them need be right in size: intervals are scaled by leave-one-out residuals (curate.mix.law). They say *where* a law knows less: far from the
runs, in a corner that a single run shows. Residuals in units of this are alike; raw ones are not, and the one extreme run of a small swarm
would make all intervals as wide as its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.mix import blend, curves, forms, gp

Array = NDArray[np.float64]
Values = dict[str, Array]
CHUNK = 16  # fits at once


def spread(kind: str, fixed: Values, values: Values, mixes: Array, weights: Array, at: Array) -> Array:
    """Return [B, at]: the spread of each of B fits to runs at `mixes` under run weights [B, runs]."""
    parts = []
    size = forms.at_once(CHUNK, len(mixes))
    for first in range(0, len(weights), size):
        part = {name: value[first : first + size] for name, value in values.items()}
        parts.append(np.sqrt(np.maximum(_VARIANCE[kind](fixed, part, mixes, weights[first : first + size], at), 1e-18)))
    return np.concatenate(parts)


def _constant(fixed: Values, values: Values, mixes: Array, weights: Array, at: Array) -> Array:
    return np.repeat(1 + 1 / weights.sum(1, keepdims=True), len(at), 1)


def leverage(mixes: Array, weights: Array, at: Array, penalty: float) -> Array:
    """Return [B, at]: how much a ridge regression on runs at `mixes` under run weights [B, runs] would follow a run at each of `at`."""
    total = weights.sum(1, keepdims=True)
    middle = weights @ mixes / total
    x, away = mixes[None] - middle[:, None], at[None] - middle[:, None]
    gram = np.swapaxes(x * weights[:, :, None], 1, 2) @ x + penalty * np.eye(mixes.shape[1]) * total[:, :, None]
    return np.asarray(1 / total + (np.swapaxes(np.linalg.solve(gram, np.swapaxes(away, 1, 2)), 1, 2) * away).sum(2))


def _ridge(fixed: Values, values: Values, mixes: Array, weights: Array, at: Array) -> Array:
    return 1 + leverage(mixes, weights, at, float(fixed["penalty"]))


def _trees(fixed: Values, values: Values, mixes: Array, weights: Array, at: Array) -> Array:
    return 1 + leverage(mixes, weights, at, 1e-3)


def _curve(kind: str) -> Any:
    def variance(fixed: Values, values: Values, mixes: Array, weights: Array, at: Array) -> Array:
        prior = curves.prior_of(kind, float(fixed["least"]), mixes.shape[1], float(fixed["apart"]))
        rest = float(fixed["rest"]) ** 2
        covariance = curves.posterior(kind, values["p"], mixes, weights / rest, prior)
        jacobian = curves.CURVES[kind](values["p"], at)[1]
        return np.asarray(rest + ((jacobian @ covariance) * jacobian).sum(2))

    return variance


def _process(hyper: Array, mixes: Array, precision: Array, at: Array, level: float) -> tuple[Array, Array]:
    """Return the posterior variance with noise [B, at], and the weights of the runs in each prediction [B, at, runs]."""
    across = gp.kernel(hyper, mixes, at, mixes) + level
    used = across[None] @ precision
    return gp.variance_at(hyper, mixes, at) + level - (used * across).sum(2) + gp.named(hyper).noise, used


def _gp(fixed: Values, values: Values, mixes: Array, weights: Array, at: Array) -> Array:
    level = float(fixed["variance"])
    variance = _process(fixed["hyper"], mixes, gp.precision_of(fixed["hyper"], mixes, weights, level), at, level)[0]
    return variance * _rise("gp", fixed, values, at) ** 2


def _curve_and_process(kind: str) -> Any:
    def variance(fixed: Values, values: Values, mixes: Array, weights: Array, at: Array) -> Array:
        curve, precision = forms.CURVE_OF[kind], gp.precision_of(fixed["hyper"], mixes, weights)
        prior = curves.prior_of(curve, float(fixed["least"]), mixes.shape[1], float(fixed["apart"]))
        own, used = _process(fixed["hyper"], mixes, precision, at, 0.0)
        covariance = curves.posterior(curve, values["p"], mixes, precision, prior)
        slope = curves.CURVES[curve](values["p"], at)[1] - used @ curves.CURVES[curve](values["p"], mixes)[1]
        return np.asarray((own + ((slope @ covariance) * slope).sum(2)) * _rise(kind, fixed, values, at) ** 2)

    return variance


def _rise(kind: str, fixed: Values, values: Values, at: Array) -> Array:
    """Return by how much a score changes where its logarithm above the floor changes by one; 1 for a law of the score itself, [B, at]."""
    return np.exp(np.clip(forms.linear_of(kind, fixed, values, at), -50, 50)) if "floor" in fixed else np.ones((1, 1))


def _blend(fixed: Values, values: Values, mixes: Array, weights: Array, at: Array) -> Array:
    """As if the errors of its laws went together: they saw the same runs. `size` brings a law's spread to the size of its errors."""
    shares = blend.shares_in(fixed)
    own, common = blend.split(values, list(shares)), blend.split(fixed, list(shares))
    parts = [
        share * float(common[kind]["size"]) * np.sqrt(np.maximum(_VARIANCE[kind](common[kind], own[kind], mixes, weights, at), 0.0))
        for kind, share in shares.items()
    ]
    return np.asarray(sum(parts) ** 2)


_VARIANCE: dict[str, Any] = {
    "constant": _constant,
    "ridge": _ridge,
    "log_linear": _curve("log_linear"),
    "power": _curve("power"),
    "gp": _gp,
    "power_gp": _curve_and_process("power_gp"),
    "power_times_gp": _curve_and_process("power_times_gp"),
    "trees": _trees,
    "blend": _blend,
}
