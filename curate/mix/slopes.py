"""What laws say at one mix, and how that changes with each share: what a solver asks thousands of times.

Fits of the same form are evaluated together, whatever the suite, and all that does not depend on the mix is computed once: logarithms of the
runs' shares, lengths, products with the runs' weights. A call for thirteen suites, each a blend of five laws, takes 1 ms, where a call for
every law took 9. The price: the formulas of `curate.mix.forms` and `curate.mix.gp` stand here a second time (a test compares them).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from curate.mix import curves, gp, trees
from curate.mix.forms import CURVE_OF, MOST_EXPONENT, Fit

Array = NDArray[np.float64]
AtMix = Callable[[Array], tuple[Array, Array]]  # mix → values [fits, B], slopes [fits, B, sources]


def weighted(fits: Sequence[tuple[float, Fit]]) -> AtMix:
    """Return the function mix → Σ weight · prediction, [B], and its derivatives by the shares, [B, sources]. All fits have the same B."""
    kinds: dict[str, list[tuple[float, Fit]]] = {}
    for weight, one in fits:
        for share, part in one.members():
            kinds.setdefault(part.kind, []).append((weight * share, part))
    groups = [(np.array([weight for weight, _ in group]), at_mix([part for _, part in group])) for group in kinds.values()]

    def evaluate(mix: Array) -> tuple[Array, Array]:
        value: Array = np.zeros(1)
        slope: Array = np.zeros((1, len(mix)))
        for weights, group in groups:
            here, climb = group(mix)
            value = value + weights @ here
            slope = slope + np.tensordot(weights, climb, 1)
        return value, slope

    return evaluate


def at_mix(fits: Sequence[Fit]) -> AtMix:
    """Return the function that evaluates fits of one form, which is no blend, at a mix."""
    kind = fits[0].kind
    if kind in ("gp", *CURVE_OF):
        return _processes(kind, fits)
    values = {name: np.concatenate([one.values[name] for one in fits]) for name in fits[0].values}
    plain = _PLAIN[kind]

    def evaluate(mix: Array) -> tuple[Array, Array]:
        value, slope = plain(values, mix)
        return value.reshape(len(fits), -1), slope.reshape(len(fits), -1, len(mix))

    return evaluate


def _processes(kind: str, fits: Sequence[Fit]) -> AtMix:
    """A Gaussian process, with or without a curve below it: `gp.predict` and its derivative, over all fits at once."""
    runs = fits[0].fixed["mixes"]  # all laws of a swarm have the same runs
    alpha = np.array([one.values["alpha"] for one in fits])
    hyper, sources = [gp.named(one.fixed["hyper"]) for one in fits], runs.shape[1]
    inverse, epsilon = 1 / np.array([one.lengths for one in hyper]), np.array([[one.epsilon] for one in hyper])
    parts = [(one.spread, one.pairs / gp.number_of_pairs(sources), one.ratio**-2, one.linear) for one in hyper]
    spread, pairs, square, linear = np.array(parts).T[..., None, None]
    middle = np.array([gp.features(runs.mean(0), one.epsilon) for one in hyper])
    scaled = np.array([gp.features(runs, one.epsilon) for one in hyper]) * inverse[:, None]  # [fits, runs, sources]
    straight = linear * (alpha @ (scaled - (middle * inverse)[:, None]))  # [fits, B, sources]
    floor = np.array([float(one.fixed["floor"]) if "floor" in one.fixed else np.nan for one in fits])[:, None]
    level = np.array([one.values["level"] for one in fits]) if kind == "gp" else None
    curve = np.concatenate([one.values["p"] for one in fits]) if kind in CURVE_OF else None

    def evaluate(mix: Array) -> tuple[Array, Array]:
        share = np.maximum(mix, 0.0) + epsilon
        here = np.log(share)
        away = scaled - (here * inverse)[:, None]
        squares = away * away
        near = spread * np.exp(-0.5 * squares.sum(2, keepdims=True))  # [fits, runs, 1]
        one = np.exp(-0.5 * square * squares)
        two = pairs * one * (one.sum(2, keepdims=True) - one)  # of each pair of sources, twice
        value = (alpha @ (near + 0.5 * two.sum(2, keepdims=True)))[:, :, 0] + (straight @ ((here - middle) * inverse)[:, :, None])[:, :, 0]
        slope = (alpha @ ((near + square * two) * away) + straight) * (inverse / share)[:, None]
        if level is not None:
            value = value + level
        if curve is not None:
            below, climb = curves.at(CURVE_OF[kind], curve, mix)
            value, slope = value + below.reshape(value.shape), slope + climb.reshape(slope.shape)
        if np.isnan(floor[0, 0]):
            return value, slope
        above = np.exp(np.clip(value, -MOST_EXPONENT, MOST_EXPONENT))
        return floor + above, above[:, :, None] * slope

    return evaluate


_PLAIN: dict[str, Callable[[dict[str, Array], Array], tuple[Array, Array]]] = {
    "constant": lambda v, mix: (v["level"], np.zeros((len(v["level"]), len(mix)))),
    "ridge": lambda v, mix: (v["level"] + v["slope"] @ mix, v["slope"]),
    "log_linear": lambda v, mix: curves.at("log_linear", v["p"], mix),
    "power": lambda v, mix: curves.at("power", v["p"], mix),
    "trees": lambda v, mix: (trees.predict(v, mix[None])[:, 0], trees.gradient(v, mix)),
}
