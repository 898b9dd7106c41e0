"""Sequential swarms against one-shot swarms, on synthetic truths: regret of the recommended mix by the number of runs.

    python bench/sequential.py [--quick] [--law power_gp]

A truth gives the bits per byte of a few suites for any mix; noise of 0.3 % is added. `regret` is how far the true objective (relative bits, and the
pull towards the natural mix) is above the best there is, in percent of what there is to gain over the natural mix. A sequential swarm begins with half of the runs of the
default design and adds batches where the laws are unsure. `stops` says after how many runs its rule would have ended it, with the regret there; `one shot
needs`, how many runs reach the same regret without asking, and the last column the same for all runs of the sequential swarm.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from curate.mix import sequential
from curate.mix.law import choose_law
from curate.mix.limits import free, limits_of, natural_weights
from curate.mix.objective import FLOOR, Problem
from curate.mix.sample import as_vector, sample_mixes
from curate.mix.solve import solve
from curate.specs.mix import Constraints, Swarm

Array = NDArray[np.float64]
Truth = Callable[[Array], Array]  # mixes [mixes, sources] → bits per byte [suites, mixes]
NOISE = 0.003
PULL = Constraints().natural_pull
TRUTHS = ("interacting", "saturating", "log-linear")


def truth_of(kind: str, sources: int, suites: int, seed: int) -> tuple[dict[str, int], Truth]:
    """Return the tokens of each source, and the truth."""
    random = np.random.default_rng([seed, sources, TRUTHS.index(kind)])
    tokens = {f"s{i:02d}": int(size) for i, size in enumerate(np.exp(random.normal(14, 1.2, sources)))}
    worth = np.exp(random.normal(0, 1, (suites, sources))) * np.where(random.uniform(size=(suites, sources)) < 0.15, 4, 1)
    worth /= worth.mean(1, keepdims=True)
    floor, power = random.uniform(0.5, 1.0, suites), random.uniform(0.15, 0.5, suites)
    pairs, help_each = random.integers(0, sources, (2, suites, 3)), np.abs(random.normal(0, 0.6, (suites, 3)))
    supply = np.maximum(as_vector(natural_weights(tokens), sorted(tokens)) * random.uniform(2, 8, sources), 0.02)

    def bits(mixes: Array) -> Array:
        if kind == "log-linear":
            return floor[:, None] + 0.6 * np.exp(-1.2 * power[:, None] * (worth @ mixes.T - 1))
        if kind == "saturating":
            data = worth @ (supply * (1 - np.exp(-mixes / supply))).T + 0.05
        else:
            both = np.sqrt(mixes[:, pairs[0]] * mixes[:, pairs[1]])  # [mixes, suites, 3]
            data = worth @ mixes.T + (both * help_each).sum(2).T + 0.05
        return floor[:, None] + 0.6 * data ** -power[:, None]

    return tokens, bits


class Case:
    """One truth, and what its runs have scored."""

    def __init__(self, kind: str, sources: int, suites: int, seed: int, law: str) -> None:
        self.tokens, self.truth = truth_of(kind, sources, suites, seed)
        self.names, self.seed, self.law = sorted(self.tokens), seed, law
        self.natural = as_vector(natural_weights(self.tokens), self.names)
        self.limits = limits_of(Constraints(), self.tokens, sum(self.tokens.values()))
        self.base = self.truth(self.natural[None])[:, 0]
        self.best = self._best()

    def first(self, runs: int) -> Array:
        swarm = Swarm(runs=runs, seed=self.seed)
        return np.array([list(mix.values()) for mix in sample_mixes(swarm, free(self.names), self.tokens)])

    def problem(self, mixes: Array) -> Problem:
        """Fit the laws to the runs; a run's noise depends on its place in the swarm alone."""
        luck = np.random.default_rng([self.seed, 1]).normal(size=(1000, len(self.base)))[: len(mixes)].T
        scores = {f"e{j:02d}": y for j, y in enumerate(self.truth(mixes) * (1 + NOISE * luck))}
        laws = {suite: choose_law(suite, mixes, y, self.law, NOISE * float(self.base[j])) for j, (suite, y) in enumerate(scores.items())}
        return Problem(self.names, mixes, scores, laws, dict.fromkeys(scores, 1.0), self.natural, self.limits, PULL)

    def regret(self, mix: Array) -> float:
        """Return the regret in percent of what there is to gain."""
        return 100 * (self._relative(mix) - self.best) / (1 - self.best)

    def _relative(self, mix: Array) -> float:
        """Return what the solver minimizes, under the truth: relative bits and the pull towards the natural mix."""
        away = float(np.sum(mix * np.log(np.maximum(mix, FLOOR) / self.natural)))
        return float(np.mean(self.truth(mix[None])[:, 0] / self.base)) + PULL * away

    def _best(self) -> float:
        from scipy.optimize import minimize

        limits, found = self.limits, []
        total = {"type": "eq", "fun": lambda w: w.sum() - 1}
        for start in (self.natural, np.full(len(self.names), 1 / len(self.names))):
            box = list(zip(limits.low, limits.high, strict=True))
            found.append(minimize(self._relative, start, method="SLSQP", bounds=box, constraints=[total], options={"maxiter": 300, "ftol": 1e-9}).fun)
        return float(min(found))


def sequential_swarm(case: Case, begin: int, batch: int, most: int) -> tuple[dict[int, float], int]:
    """Return runs → regret, and after how many runs the rule says to stop (`most`, if it does not before)."""
    mixes, regrets, stops = case.first(begin), {}, most
    while True:
        problem = case.problem(mixes)
        solution = solve(problem)
        regrets[len(mixes)] = case.regret(solution.weights)
        if stops == most and sequential.should_stop(problem, None, solution).stop:
            stops = len(mixes)
        if len(mixes) >= most:
            return regrets, stops
        mixes = np.vstack([mixes, *sequential.propose_runs(problem, min(batch, most - len(mixes)), solution)])


def runs_needed(regrets: dict[int, float], goal: float) -> float:
    """Return at how many runs the mean regret first gets down to the goal, between those that were tried; infinite if it never does."""
    runs = sorted(regrets)
    for before, after in pairwise(runs):
        if regrets[before] <= goal:
            return before
        if regrets[after] <= goal:
            return before + (after - before) * (regrets[before] - goal) / max(regrets[before] - regrets[after], 1e-12)
    return float("inf")


def compare(kind: str, sources: int, suites: int, seeds: int, law: str) -> str:
    """Return one row of the table."""
    begin, batch = round(1.5 * (sources + 1)), max(4, sources // 2)
    most = begin + 3 * batch
    grid = sorted({begin, 2 * (sources + 1), most, 2 * most})
    once: dict[int, list[float]] = {runs: [] for runs in grid}
    step_by_step: dict[int, list[float]] = {}
    stops = []
    for seed in range(seeds):
        case = Case(kind, sources, suites, seed, law)
        for runs in grid:
            once[runs].append(case.regret(solve(case.problem(case.first(runs))).weights))
        regrets, stop = sequential_swarm(case, begin, batch, most)
        stops.append(stop)
        for runs, regret in regrets.items():
            step_by_step.setdefault(runs, []).append(regret)
    mean, stepped = ({runs: float(np.mean(values)) for runs, values in one.items()} for one in (once, step_by_step))
    stop, there = float(np.mean(stops)), float(np.mean([step_by_step[at][seed] for seed, at in enumerate(stops)]))
    needs = [f"{needed:.0f}" if np.isfinite(needed := runs_needed(mean, goal)) else f"> {2 * most}" for goal in (there, stepped[most])]
    texts = [" ".join(f"{runs}: {value:.1f}" for runs, value in one.items()) for one in (mean, stepped)]
    return f"| {kind} | {sources} | {texts[0]} | {texts[1]} | {stop:.0f}: {there:.1f} | {needs[0]} | {needs[1]} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="eight sources, two suites, two seeds")
    parser.add_argument("--law", default="power_gp", help="as in a mix spec; auto is what a spec has by default, and slower")
    arguments = parser.parse_args()
    sizes, suites, seeds = ((8,), 2, 2) if arguments.quick else ((8, 14, 20), 4, 4)
    print("| truth | sources | regret, one shot (runs: %) | regret, sequential (runs: %) | stops | one shot needs | and to match the last |")
    print("|---|---|---|---|---|---|---|")
    for kind in TRUTHS:
        for sources in sizes:
            print(compare(kind, sources, suites, seeds, arguments.law), flush=True)
    print(f"law {arguments.law}, {suites} suites, {seeds} seeds, noise {100 * NOISE:.1f} %, {time.process_time():.0f} s of CPU", file=sys.stderr)


if __name__ == "__main__":
    main()
