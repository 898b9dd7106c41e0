"""Predicted gains on swarms whose truth is known: how far off they are, and how often their 90 % intervals hold the true gain. A table.

    python bench/gains.py [--seeds 0,1,2,3] [--sources 8] [--suites 2]

Truths are those of bench/laws.py. A measurement has noise of 1, 10, 30 or 100 % of the truth's spread over the mixes of a swarm; swarms have as many runs
as a spec takes by default (even seeds), or 64 (odd ones). Each is solved four times: freely, and with every share within 50, 20 and 5 % of its natural one,
since what is predicted of a mix near to the natural one should be known the better, the nearer it is. A row is a mean over truths and seeds, in
percent of the bits: the true gain of the proposal, what is predicted less the truth (with its sign, and without), the width of the interval, and in percent
of the proposals: the true gain inside of it, above it, below it, and intervals that hold zero though the true gain is above it. `steps` has rows of its own:
it jumps where shares pass a threshold, and no law is smooth enough to be sure of that or rough enough to see it.
"""

from __future__ import annotations

import argparse

import msgspec
import numpy as np
from laws import SHAPES, UNSEEN, World, make_world, measured, problem_of, sampled, true_loss
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from curate.mix import solve
from curate.mix.law import choose_law
from curate.mix.limits import limits_of
from curate.specs.mix import Constraints, SourceLimits, Swarm

Array = NDArray[np.float64]
NOISES = (0.01, 0.1, 0.3, 1.0)
BANDS = (None, 0.5, 0.2, 0.05)  # by how much, relative, a share may differ from its natural one


def noisy(shape: str, sources: int, suites: int, seed: int, noise: float) -> World:
    """Return a world in which the noise of all suites is the same share of their spread."""
    world = make_world(shape, sources, suites, seed)
    around = sampled(world.tokens, "dirichlet", UNSEEN + sources + 2, seed + 10_000)[sources + 2 :]
    return msgspec.structs.replace(world, noise={name: noise * float(truth(around).std()) for name, truth in world.truths.items()})


def within(world: World, band: float | None) -> World:
    """Return the world with limits around the natural mix."""
    if band is None:
        return world
    shares = dict(zip(sorted(world.tokens), world.natural.tolist(), strict=True))
    around = {name: SourceLimits(min=share * (1 - band), max=min(1.0, share * (1 + band))) for name, share in shares.items()}
    return msgspec.structs.replace(world, limits=limits_of(Constraints(sources=around), world.tokens, None))


def rows_of(world: World, runs: int, seed: int) -> list[tuple[float, ...]]:
    """Return for each band: the true gain, and what is predicted: mean, low, high; in percent."""
    mixes = sampled(world.tokens, Swarm().design, runs, seed)
    scores = measured(world, mixes, seed)
    laws = {suite: choose_law(suite, mixes, values) for suite, values in scores.items()}
    found = []
    for band in BANDS:
        near = within(world, band)
        solution = solve.solve(problem_of(near, mixes, scores, laws))
        true = 1 - float(true_loss(near, solution.weights[None])[0])
        found.append(tuple(100 * value for value in (true, *solution.gain)))
    return found


def print_row(name: str, rows: Array) -> None:
    """Print means over proposals [proposals, (true, mean, low, high)]."""
    true, mean, low, high = rows.T
    share = [100 * float(np.mean(what)) for what in ((low <= true) & (true <= high), true > high, true < low, (low <= 0) & (true > 0))]
    numbers = [true.mean(), (mean - true).mean(), np.abs(mean - true).mean(), (high - low).mean()]
    print(f"{name:32} " + " ".join(f"{value:8.2f}" for value in numbers) + " " + " ".join(f"{value:7.0f}" for value in share), flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", default="0,1,2,3")
    parser.add_argument("--sources", type=int, default=8)
    parser.add_argument("--suites", type=int, default=2)
    given = parser.parse_args()
    seeds = [int(seed) for seed in given.seeds.split(",")]
    smooth = [shape for shape in SHAPES if shape != "steps"]
    columns = ("true", "bias", "off by", "width", "inside", "above", "below", "unsure")
    print(f"{'':32} " + " ".join(f"{name:>8}" for name in columns[:4]) + " " + " ".join(f"{name:>7}" for name in columns[4:]))
    for shapes in (smooth, ["steps"]):
        for noise in NOISES:
            cells = []
            for shape in shapes:
                for seed in seeds:
                    world = noisy(shape, given.sources, given.suites, seed, noise)
                    cells.append(rows_of(world, 64 if seed % 2 else 3 * (given.sources + 1), 1000 * seed + int(100 * noise)))
            for i, band in enumerate(BANDS):
                where = "free" if band is None else f"within {100 * band:.0f} %"
                print_row(f"{'steps' if shapes == ['steps'] else 'the others'}, noise {100 * noise:.0f} %, {where}", np.array(cells)[:, i])


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
