"""What a solved mix hangs on: what to collect, which limits cost something, how far weights may move, what each suite pays.

    prices    what 10 % more tokens of a source at its repetition limit would be worth, and one percentage point more room at every other
              limit that binds; each by solving again, so it is the worth of the whole step and not of its first inch
    flat      how far the weight of each source may move, the others solved again, before the objective loses 0.1 %; and how much of one
              source may be traded for another
    suites    per suite: the best that the limits allow for it alone, and what it has under the solved and the natural mix
    curve     the pull towards the natural mix from none to strong: distance from natural, and predicted gain

All of it is as the laws see it. Results are plain data, with sentences for people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from curate.mix.feasible import linear_constraints, project
from curate.mix.limits import Limit, Limits, relaxed
from curate.mix.objective import Evaluate, Problem, apart, fewest_bits, full_fits, log_ratio, relative_bits
from curate.mix.solve import Solution, gain_intervals, gain_of, minimize, objective_of, protection, protects, starts_of

Array = NDArray[np.float64]
MORE = 0.1  # tokens that a source gets more
POINT = 0.01  # by which a limit on shares, or the bits of a protected suite, is relaxed
LOSS = 1e-3  # of the objective, that counts as flat
PULLS = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
NEAR = 1e-5  # a limit with less room than this binds
AT = 1e-4  # a share that is nearer to the most that it may have is at its limit
WORTH = 5e-5  # bits per byte that are told as a number
TRADES = 3  # that are named
REPETITION = ("repeats", "upsampling")


def analyze(problem: Problem, solution: Solution) -> dict[str, Any]:
    """Return {prices, flat, suites, curve, sentences, limited} as plain data; shares and relative gains are fractions, bits are per byte."""
    prices, flat = shadow_prices(problem, solution), flat_ranges(problem, solution)
    return {
        "prices": prices,
        "flat": flat,
        "suites": trade_offs(problem, solution),
        "curve": pull_curve(problem, solution),
        "sentences": [row["sentence"] for row in prices] + [row["sentence"] for row in flat["trades"]],
        "limited": limited(problem, solution),
    }


# ── prices ────────────────────────────────────────────────────────────────────────────────────────────────────────


def shadow_prices(problem: Problem, solution: Solution) -> list[dict[str, Any]]:
    """Return what it would be worth to relax each limit that binds, the most worth first.

    A row: {what, kind: tokens | limit | protect, subject, relative, bits, sentence}. `relative` is by how much the objective falls, `bits` how many
    bits per byte over the weighted suites fewer that is. Only limits that bind where the fit to all runs has its optimum have a row.
    """
    rows = []
    binding = [part for part in problem.limits.parts if part.top - float(part.row @ solution.optimum) < NEAR]
    for sources in _scarce([part for part in binding if part.kind in REPETITION]):
        together = " and ".join(sources)
        what, again = f"{100 * MORE:.0f} % more {together} tokens", _again(problem, solution, relaxed(problem.limits, _more_tokens(sources)))
        rows.append(_price(problem, solution, again, "tokens", together, what))
    for label, part in {part.label: part for part in binding if part.kind not in ("repeats", "quality")}.items():
        again = _again(problem, solution, relaxed(problem.limits, _more_room(label)))
        what = f'one percentage point more room at the limit "{label}"'
        if part.kind.endswith("fixed"):  # both ways are open to it
            what += f", for {'more' if float(np.abs(part.row) @ (again - solution.optimum)) > 0 else 'less'} of it,"
        rows.append(_price(problem, solution, again, "limit", part.subject, what))
    for suite in problem.protected:
        natural, mine = problem.laws[suite].full.predict(np.stack([problem.natural, solution.optimum]))[0]
        if mine > natural * (1 - 10 * NEAR):
            what = f"letting {suite} get {100 * POINT:.0f} % worse than under the natural mix"
            again = _again(problem, solution, problem.limits, {suite: POINT})
            rows.append(_price(problem, solution, again, "protect", suite, what))
    return sorted(rows, key=lambda row: (-row["relative"], row["what"]))


def _scarce(binding: Sequence[Limit]) -> list[list[str]]:
    """Return the sources of limits on repetition: those that bind the same reused block together, since more of one alone is worth nothing."""
    found: dict[Any, dict[str, None]] = {}
    for part in binding:
        at = np.flatnonzero(part.row)
        shared = len(at) == 1 and len({_source(other) for other in binding if np.array_equal(np.flatnonzero(other.row), at)}) > 1
        found.setdefault(int(at[0]) if shared else _source(part), {})[_source(part)] = None
    return [list(sources) for sources in found.values()]


def _more_tokens(sources: Sequence[str]) -> Callable[[Limit], float]:
    return lambda part: MORE * part.growth if part.kind in REPETITION and _source(part) in sources else 0.0


def _more_room(label: str) -> Callable[[Limit], float]:
    return lambda part: POINT if part.label == label else 0.0


def _source(part: Limit) -> str:
    """Return the source that a limit on repetition is about; buckets are called SOURCE.BUCKET."""
    return part.subject.rpartition(".")[0] if part.kind == "upsampling" else part.subject


def _again(problem: Problem, solution: Solution, limits: Limits, slack: Mapping[str, float] | None = None) -> Array:
    """Solve once more, from the optimum, under other limits."""
    return minimize(problem, objective_of(problem, full_fits(problem), solution.refits), [solution.optimum], limits, slack)


def _price(problem: Problem, solution: Solution, again: Array, kind: str, subject: str, what: str) -> dict[str, Any]:
    loss = fewest_bits(problem, full_fits(problem))
    relative = loss(solution.optimum)[0] - loss(again)[0]
    bits = float(-np.diff(mean_bits(problem, np.stack([solution.optimum, again])))[0])
    worth = f"{max(bits, 0.0):.4f} bits per byte" if bits >= WORTH else "less than 0.0001 bits per byte"
    return {"what": what, "kind": kind, "subject": subject, "relative": relative, "bits": bits, "sentence": f"{what} would be worth {worth}"}


def limited(problem: Problem, solution: Solution) -> list[str]:
    """Return a sentence for each source that is at the most that it may have, where a percentage point more is predicted to help."""
    limits, found = problem.limits, []
    for i, (name, share, low, high) in enumerate(zip(problem.names, solution.optimum, limits.low, limits.high, strict=True)):
        if high >= 1 or high - low <= AT or share <= high - AT:
            continue
        again = _again(problem, solution, msgspec.structs.replace(limits, high=limits.high + POINT * np.eye(len(limits.high))[i]))
        if -np.diff(mean_bits(problem, np.stack([solution.optimum, again])))[0] >= WORTH:
            found.append(f"{name} is at its limit of {100 * high:.1f} %: more of it is predicted to help")
    return found


def mean_bits(problem: Problem, mixes: Array) -> Array:
    """Return the predicted bits per byte of mixes [mixes, sources], the mean over suites by their importance, [mixes]."""
    total = sum(problem.importance[suite] for suite in problem.laws)
    parts = [problem.importance[suite] / total * fitted.full.predict(mixes)[0] for suite, fitted in problem.laws.items()]
    return np.asarray(np.sum(parts, axis=0))


# ── flat directions ───────────────────────────────────────────────────────────────────────────────────────────────


def flat_ranges(problem: Problem, solution: Solution) -> dict[str, Any]:
    """Return {loss, ranges: source → [low, high], trades: [{from, to, share, sentence}]}: what costs less than `loss` of the objective.

    Protected suites stay as good as they must be, on all of the way.
    """
    evaluate = fewest_bits(problem, full_fits(problem))
    most = evaluate(solution.weights)[0] * (1 + LOSS)
    ranges = {}
    for i, name in enumerate(problem.names):
        ends = [float(_farthest(problem, solution.weights, evaluate, most, sign * np.eye(len(problem.names))[i])[i]) for sign in (-1, 1)]
        ranges[name] = [min(ends[0], float(solution.weights[i])), max(ends[1], float(solution.weights[i]))]
    return {"loss": LOSS, "ranges": ranges, "trades": _trades(problem, solution.weights, most)}


def _farthest(problem: Problem, weights: Array, evaluate: Evaluate, most: float, along: Array) -> Array:
    """Return the mix that is farthest along a direction of those within the limits and with an objective of at most `most`."""
    from scipy.optimize import minimize as slsqp

    evaluate = _once(evaluate)
    straight = _last_good(problem, most, weights, project(weights + along, problem.limits))
    room = {"type": "ineq", "fun": lambda w: (most - evaluate(w)[0]) / LOSS, "jac": lambda w: -evaluate(w)[1] / LOSS}
    found = slsqp(
        lambda w: (-float(along @ w), -along),
        straight,
        jac=True,
        method="SLSQP",
        bounds=list(zip(problem.limits.low, problem.limits.high, strict=True)),
        constraints=[*linear_constraints(problem.limits), *protection(problem, problem.ceilings), room],
        options={"maxiter": 40, "ftol": 1e-5},
    )
    if not np.isfinite(found.x).all():
        return straight
    bent = _last_good(problem, most, weights, project(np.asarray(found.x), problem.limits))
    return bent if along @ bent > along @ straight else straight


def _once(evaluate: Evaluate) -> Evaluate:
    """Return the function with its last result kept: the solver asks for value and gradient apart."""
    last: list[tuple[bytes, tuple[float, Array]]] = []

    def remembered(w: Array) -> tuple[float, Array]:
        if not last or last[0][0] != w.tobytes():
            last[:] = [(w.tobytes(), evaluate(w))]
        return last[0][1]

    return remembered


def _last_good(problem: Problem, most: float, here: Array, there: Array) -> Array:
    """Return the last mix on the way from `here` that is good. All are within the limits, since the limits are convex."""
    first, last = 0.0, 1.0
    for _ in range(3):
        parts = np.linspace(first, last, 33)
        good = _good(problem, here + parts[:, None] * (there - here), most)
        good[0] = True
        if good.all():
            first = last
            break
        bad = int(np.argmin(good))
        first, last = float(parts[bad - 1]), float(parts[bad])
    return here + first * (there - here)


def _good(problem: Problem, mixes: Array, most: float) -> NDArray[np.bool_]:
    """Say of mixes [mixes, sources] whether they cost at most `most` of the objective `bits`, and leave protected suites what they must have."""
    pulls = problem.pull * (mixes * log_ratio(problem, mixes)).sum(1)
    costs = relative_bits(problem, full_fits(problem), mixes)[0] + pulls
    return np.asarray((costs <= most) & protects(problem, problem.ceilings, mixes))


def _trades(problem: Problem, weights: Array, most: float) -> list[dict[str, Any]]:
    """Return the largest trades of one source for another, a source in one trade only."""
    size = len(weights)
    pairs = [(i, j) for i in range(size) for j in range(size) if i != j and weights[i] > NEAR]
    steps = np.array([np.eye(size)[j] - np.eye(size)[i] for i, j in pairs])
    most_share = np.array([_room(problem.limits, weights, step) for step in steps])

    low, high = np.zeros(len(pairs)), most_share
    for _ in range(30):
        part = (low + high) / 2
        good = _good(problem, weights + part[:, None] * steps, most)
        low, high = np.where(good, part, low), np.where(good, high, part)
    used: set[int] = set()
    trades: list[dict[str, Any]] = []
    for k in np.argsort(-low, kind="stable"):
        i, j = pairs[k]
        if len(trades) < TRADES and low[k] >= POINT and not used & {i, j}:
            used |= {i, j}
            giver, taker, share = problem.names[i], problem.names[j], float(low[k])
            sentence = f"{100 * share:.1f} points of {giver} may be traded for {taker} at a cost of less than {100 * LOSS:.1f} %"
            trades.append({"from": giver, "to": taker, "share": share, "sentence": sentence})
    return trades


def _room(limits: Limits, weights: Array, step: Array) -> float:
    """Return how far one can go from `weights` along `step` within the limits."""
    rows = np.vstack([limits.rows, np.eye(len(step)), -np.eye(len(step))])
    slack = np.concatenate([limits.tops, limits.high, -limits.low]) - rows @ weights
    speed = rows @ step
    ahead = speed > 1e-12
    return max(0.0, float((slack[ahead] / speed[ahead]).min(initial=1.0)))


# ── trade-offs ────────────────────────────────────────────────────────────────────────────────────────────────────


def trade_offs(problem: Problem, solution: Solution) -> dict[str, dict[str, float]]:
    """Return suite → {natural, solved, best}: predicted bits per byte, `best` under the mix that the limits allow for this suite alone."""
    found = {}
    for suite, fitted in problem.laws.items():
        starts = [solution.weights, problem.natural, problem.mixes[int(np.argmin(problem.scores[suite]))]]
        alone = msgspec.structs.replace(problem, laws={suite: fitted}, importance={suite: 1.0}, pull=0.0, protected=())
        best = minimize(alone, fewest_bits(alone, {suite: fitted.full}), starts)
        row = fitted.full.predict(np.stack([problem.natural, solution.weights, best]))[0]
        found[suite] = dict(zip(("natural", "solved", "best"), row.tolist(), strict=True))
    return found


def pull_curve(problem: Problem, solution: Solution) -> list[dict[str, Any]]:
    """Return, from no pull to a strong one: {pull, distance, gain: [mean, low, high], weights}.

    Points are optima of the fit to all runs; the one of the problem's own pull is the proposal, which lies a little inside of their curve.
    `distance` is the share of tokens that have another source than in the natural mix. The winner's curse of the solved mix is taken off in
    proportion to the gain, as it would be if the objective were quadratic.
    """
    fits, start = full_fits(problem), [solution.optimum, *starts_of(problem)]
    solved = max(solution.gain_uncorrected, 1e-12)
    pulls, found = sorted({*PULLS, problem.pull}), []
    for pull in pulls:
        pulled = msgspec.structs.replace(problem, pull=pull)
        found.append(solution.weights if pull == problem.pull else minimize(pulled, objective_of(pulled, fits, solution.refits), start))
        start = [solution.optimum if pull == problem.pull else found[-1]]
    mixes = np.array(found)
    curses = [solution.curse * min(max(gain_of(problem, fits, mix) / solved, 0.0), 2.0) for mix in mixes]
    gains = gain_intervals(problem, solution.refits, mixes, problem.natural, curses)
    away = apart(mixes, problem.natural)
    return [
        {"pull": pull, "distance": float(far), "gain": list(gain), "weights": dict(zip(problem.names, mix.tolist(), strict=True))}
        for pull, far, gain, mix in zip(pulls, away, gains, mixes, strict=True)
    ]
