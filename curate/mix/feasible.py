"""The mixes that limits allow: whether there are any, and if not, which limits exclude each other; the nearest one; one in the middle.

Infeasible limits are found by a linear program (HiGHS), and cut down to a set of which none can be spared (deletion filter, Chinneck and
Dravnieks 1991). Where the limits of single sources are at fault, the message says so with its numbers. Projection is a least-distance
problem, solved by non-negative least squares on its dual (Lawson and Hanson 1974, chapter 23): finite, exact, deterministic. What stands for
a mix that is not allowed is another one: the nearest in relative entropy (Csiszár 1975), which leaves ratios alone that no limit is about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from curate.errors import SpecError
from curate.specs.mix import Constraints

if TYPE_CHECKING:
    from curate.mix.limits import Limit, Limits

Array = NDArray[np.float64]
TINY = 1e-9
WAYS_OUT = {  # kind of a limit → what to do where it allows too little
    "repeats": "raise max_repeats, lower target.tokens",
    "upsampling": "raise max_upsampling, lower target.tokens",
    "fixed": "raise a fixed share",
    "max": "raise a maximum",
    "synthetic": "raise max_synthetic",
}
NOTHING = 1e-6  # a share inside a logarithm is at least this


def violation(limits: Limits, w: Array) -> float:
    """Return by how much `w` breaks the limit that it breaks most; 0 when it is a feasible mix."""
    over = [abs(float(w.sum()) - 1), float((limits.low - w).max()), float((w - limits.high).max())]
    return max(0.0, *over, float((limits.rows @ w - limits.tops).max(initial=0.0)))


# ── the nearest mix ───────────────────────────────────────────────────────────────────────────────────────────────


def project(weights: Array, limits: Limits) -> Array:
    """Return the nearest feasible mix to `weights` (Euclidean), exact to 1e-9."""
    near = _between(weights, limits.low, limits.high)
    if not len(limits.rows) or violation(limits, near) <= TINY / 10:
        return near  # rows that do not bind change nothing
    return _least_distance(weights, limits)


def _between(weights: Array, low: Array, high: Array) -> Array:
    """Project onto bounds alone, by bisection on the common shift."""
    below, above = float(np.min(low - weights)) - 1, float(np.max(high - weights)) + 1
    for _ in range(100):
        shift = (below + above) / 2
        if np.clip(weights + shift, low, high).sum() < 1:
            below = shift
        else:
            above = shift
    result = np.clip(weights + (below + above) / 2, low, high)
    free = (result > low) & (result < high)
    if free.any():
        result[free] += (1 - result.sum()) / free.sum()
    return np.asarray(result, np.float64)


def _least_distance(weights: Array, limits: Limits) -> Array:
    """Minimize |w − weights| over equalities, by elimination, and inequalities, by Lawson and Hanson's least-distance dual."""
    from scipy.optimize import nnls

    equal, at, rows, tops = _split(limits)
    inverse = np.linalg.pinv(equal)
    start = weights - inverse @ (equal @ weights - at)
    _, sizes, right = np.linalg.svd(equal)
    basis = right[int((sizes > 1e-10).sum()) :].T  # of what the equalities leave open
    inner, need = -rows @ basis, rows @ start - tops
    length = np.linalg.norm(inner, axis=1)
    told = length > 1e-9  # the other rows follow from the equalities
    inner, need = inner[told] / length[told, None], need[told] / length[told]
    if need.max(initial=0.0) <= 0:
        return np.asarray(np.clip(start, limits.low, limits.high), np.float64)
    scale = max(1.0, float(np.abs(need).max(initial=0.0)))
    dual, _ = nnls(np.vstack([inner.T, need / scale]), np.eye(basis.shape[1] + 1)[-1], maxiter=100 * len(need))
    active = dual > 1e-12 * max(1.0, float(dual.max(initial=0.0)))
    moved = np.linalg.pinv(inner[active]) @ need[active] if active.any() else np.zeros(basis.shape[1])
    return np.asarray(np.clip(start + basis @ moved, limits.low, limits.high), np.float64)


def _split(limits: Limits) -> tuple[Array, Array, Array, Array]:
    """Return the limits as equalities (matrix, right side), and inequalities (matrix, tops)."""
    fixed, unit = limits.high - limits.low <= TINY, np.eye(len(limits.names))
    twice, single = _pairs(limits)
    equal = np.vstack([np.ones((1, len(unit))), unit[fixed], limits.rows[twice]])
    at = np.concatenate([[1.0], limits.low[fixed], limits.tops[twice]])
    rows = np.vstack([unit[~fixed], -unit[~fixed], limits.rows[single]])
    return equal, at, rows, np.concatenate([limits.high[~fixed], -limits.low[~fixed], limits.tops[single]])


def _pairs(limits: Limits) -> tuple[list[int], list[int]]:
    """Return the rows whose opposite is a row too, one of each pair, and the other rows."""
    twice, paired = [], set()
    for i in range(len(limits.rows)):
        for j in range(i + 1, len(limits.rows)):
            if np.array_equal(limits.rows[i], -limits.rows[j]) and abs(limits.tops[i] + limits.tops[j]) <= TINY:
                twice.append(i)
                paired |= {i, j}
    return twice, [i for i in range(len(limits.rows)) if i not in paired]


def equalities(limits: Limits) -> tuple[Array, Array, Array, Array]:
    """Return what holds beside the bounds: independent equalities (matrix, right side), the sum among them, and inequalities (matrix, tops)."""
    twice, single = _pairs(limits)
    open_shares = limits.high - limits.low > TINY
    kept: list[Array] = []
    right: list[float] = []
    for row, top in zip([np.ones(len(limits.names)), *limits.rows[twice]], [1.0, *limits.tops[twice]], strict=True):
        if np.linalg.matrix_rank(np.array([*kept, row])[:, open_shares]) > len(kept):
            kept.append(row)
            right.append(float(top))
    return np.array(kept).reshape(len(kept), len(limits.names)), np.array(right), limits.rows[single], limits.tops[single]


def linear_constraints(limits: Limits) -> list[dict[str, Any]]:
    """Return the constraints that are no bounds, as SciPy's SLSQP takes them."""
    matrix, at, rows, tops = equalities(limits)
    found: list[dict[str, Any]] = []
    if len(matrix):
        found.append({"type": "eq", "fun": lambda w: matrix @ w - at, "jac": lambda w: matrix})
    if len(rows):
        found.append({"type": "ineq", "fun": lambda w: tops - rows @ w, "jac": lambda w: -rows})
    return found


def allowed(weights: Array, limits: Limits) -> Array:
    """Return the mix itself where the limits allow it, else the feasible one of least KL(w ‖ weights).

    Shares that no limit is about keep their ratios, as one would do it by hand; the Euclidean projection takes as much from each and leaves
    nothing of small sources. By its dual: the solution is w ∝ weights · exp(−prices @ limits), and the prices minimize a smooth convex function.
    """
    from scipy.optimize import minimize
    from scipy.special import logsumexp, softmax

    if violation(limits, weights) <= TINY:
        return weights
    equal, at, rows, tops = _split(limits)
    matrix, right = np.vstack([equal[1:], rows]), np.concatenate([at[1:], tops])  # that shares add up to one, the exponential form sees to
    logs = np.log(np.maximum(weights, NOTHING))

    def dual(prices: Array) -> tuple[float, Array]:
        off = logs - prices @ matrix
        return float(logsumexp(off) + prices @ right), right - matrix @ softmax(off)

    box = [(None, None)] * (len(equal) - 1) + [(0, None)] * len(rows)
    found = minimize(dual, np.zeros(len(right)), jac=True, method="L-BFGS-B", bounds=box, options={"maxiter": 5000, "maxfun": 20000, "ftol": 1e-15})
    return project(np.asarray(softmax(logs - found.x @ matrix)), limits)


def middle(limits: Limits) -> Array:
    """Return a mix within the limits and away from all that can be kept away from: the mean of those that are extreme in some share."""
    from scipy.optimize import linprog

    size = len(limits.names)
    found = []
    for sign in (1.0, -1.0):
        for i in range(size):
            rows = {"A_ub": limits.rows, "b_ub": limits.tops} if len(limits.rows) else {}
            box = list(zip(limits.low, limits.high, strict=True))
            one = linprog(sign * np.eye(size)[i], **rows, A_eq=np.ones((1, size)), b_eq=[1.0], bounds=box, method="highs-ds")
            found.append(one.x)
    return project(np.mean(found, axis=0), limits)


# ── infeasible limits ─────────────────────────────────────────────────────────────────────────────────────────────


class Facts(msgspec.Struct, frozen=True):
    """What messages need beside the limits."""

    constraints: Constraints
    tokens: Mapping[str, int]
    target: int | None


def checked(limits: Limits, facts: Facts | None = None) -> Limits:
    """Return the limits. Raises SpecError that names the limits that exclude each other when no mix satisfies them."""
    if facts is not None:
        _check_each(limits, facts)
        _check_sums(limits)
    if (len(limits.rows) or facts is None) and not _feasible(limits.names, limits.parts):
        _raise_conflict(limits, "constraints" if facts is not None else "reuse")
    return msgspec.structs.replace(limits, high=np.minimum(np.maximum(limits.high, limits.low), 1.0))


def _check_each(limits: Limits, facts: Facts) -> None:
    for i, name in enumerate(limits.names):
        if limits.low[i] <= limits.high[i] + TINY:
            continue
        floor, ceiling = _binding(limits, i)
        where = f"constraints.sources.{name}"
        if ceiling.kind not in ("repeats", "upsampling") or not facts.target:
            raise SpecError(f"{floor.label}, and {ceiling.label}", where=where, hint="no share satisfies both: change one of them")
        word = "fixed" if floor.kind == "fixed" else "min"
        key, most = ("max_upsampling", facts.constraints.max_upsampling) if ceiling.kind == "upsampling" else ("max_repeats", _most(ceiling, facts))
        before = f" beside {ceiling.label}" if "earlier phases" in ceiling.label else ""
        repeats = limits.low[i] * facts.target / facts.tokens[name]
        raise SpecError(
            f"{word} {limits.low[i]:g} of the target's {facts.target:,} tokens needs {repeats:.3g} repeats of {facts.tokens[name]:,} tokens; "
            f"{key} is {most:g}{before}",
            where=where,
            hint=f"lower the share, raise {key}, or collect more of this source",
        )


def _most(part: Limit, facts: Facts) -> float:
    assert facts.target is not None
    return part.growth * facts.target / facts.tokens[part.subject]


def _binding(limits: Limits, i: int) -> tuple[Limit, Limit]:
    """Return the parts that give share `i` its lower and its upper bound."""
    alone = [part for part in limits.parts if len(np.flatnonzero(part.row)) == 1 and part.row[i]]
    floors, ceilings = [p for p in alone if p.row[i] < 0], [p for p in alone if p.row[i] > 0]
    return max(floors, key=lambda p: p.top / p.row[i]), min(ceilings, key=lambda p: p.top / p.row[i])


def _check_sums(limits: Limits) -> None:
    if limits.low.sum() > 1 + TINY:
        parts = ", ".join(f"{name} {share:g}" for name, share in zip(limits.names, limits.low, strict=True) if share > 0)
        raise SpecError(f"the minimum and fixed shares add up to {limits.low.sum():g}, more than 1: {parts}", where="constraints.sources")
    if limits.high.sum() < 1 - TINY:
        shares = [f"{name} {limits.high[i]:.3g} ({_why(limits, i)})" for i, name in enumerate(limits.names)]
        raise SpecError(
            f"the highest shares allowed add up to {limits.high.sum():.3g}, less than 1: {', '.join(shares)}",
            where="constraints",
            hint=_way_out({_ceiling(limits, i).kind.removeprefix("group_") for i in range(len(limits.names))}),
        )


def _way_out(kinds: set[str]) -> str:
    """Return the hint where limits of these kinds allow too little."""
    ways = [way for kind, way in WAYS_OUT.items() if kind in kinds]
    return ", ".join([*ways, "or add sources" if ways else "add sources"])


def _ceiling(limits: Limits, i: int) -> Limit:
    """Return the part that gives share `i` its upper bound."""
    ceilings = [p for p in limits.parts if p.row[i] > 0 and len(np.flatnonzero(p.row)) == 1]
    return min(ceilings, key=lambda p: p.top / p.row[i])


def _why(limits: Limits, i: int) -> str:
    part = _ceiling(limits, i)
    if part.kind not in ("repeats", "upsampling"):
        return part.kind
    return part.label.rpartition("(")[2].split(" of ")[0] + (", less what earlier phases read" if "earlier phases" in part.label else "")


def _feasible(names: Sequence[str], parts: Sequence[Limit]) -> bool:
    """Say whether shares that add up to one satisfy all parts: the smallest common excess is zero."""
    from scipy.optimize import linprog

    size = len(names)
    if not parts:
        return True
    rows = np.hstack([np.array([part.row for part in parts]), -np.ones((len(parts), 1))])
    found = linprog(
        np.eye(size + 1)[-1],
        A_ub=rows,
        b_ub=[part.top for part in parts],
        A_eq=np.append(np.ones(size), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, 1)] * size + [(0, None)],
        method="highs-ds",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    return bool(found.status == 0 and found.fun <= 1e-8)


def _raise_conflict(limits: Limits, where: str) -> None:
    """Leave out one limit after the other; what cannot be left out without making the rest feasible is the conflict."""
    labels = list(dict.fromkeys(part.label for part in limits.parts))
    # limits in a user's own numbers are the last to be left out, so that the message is about those
    kept = sorted(labels, key=lambda label: next(part.kind in ("repeats", "upsampling", "quality") for part in limits.parts if part.label == label))
    for label in list(reversed(kept)):
        rest = [part for part in limits.parts if part.label in kept and part.label != label]
        if not _feasible(limits.names, rest):
            kept.remove(label)
    kinds = {part.kind for part in limits.parts if part.label in kept}
    hints = ["raise max_repeats, lower target.tokens or collect more of the source"] if "repeats" in kinds else []
    hints += ["raise max_upsampling"] if "upsampling" in kinds else []
    hints += ["solve without reuse"] if where == "reuse" else []
    hints += ["change a minimum, maximum or fixed share"] if kinds - {"repeats", "upsampling", "quality"} else []
    raise SpecError(
        f"these limits exclude each other, and dropping any one of them would do: {'; '.join(sorted(kept, key=labels.index))}",
        where=where,
        hint=", or ".join(hints),
    )
