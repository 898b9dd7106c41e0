"""Laws on swarms whose truth is known: how well each predicts, what its recommended mix loses, and how far proposals move. Tables.

    python bench/laws.py [--quick] [--seed N] [--suites N] [--sizes 8,12,20] [--most-runs N] [--only accuracy,stability,speed]
    python bench/laws.py --ratios ratios.csv --metrics metrics.csv        a published swarm: rank correlation on the runs that were not fitted

Truths, each drawn anew for every suite: `power`, a power law of data with interactions between sources; `saturating`, the same with tokens
that are worth less when they repeat; `steps`, a sum of small trees with sharp thresholds; `log_linear`; `skills`, a sum of three power laws.
A measurement has noise of 0.3, 1 or 3 % of the truth's spread, by suite. A cell says

    rank correlation × 100 on unseen mixes | root mean square error there, % of the truth's spread
    | unseen measurements inside the 90 % interval, % (unseen mixes of the swarm's own design; the d_optimal's are Dirichlet draws)
    | regret, %: by how much the mix that this law recommends for all suites together is worse than the best there is; `auto` recommends as
    `curate mix` does, from halves of the swarm (of which this takes fewer), a single law by its optimum for all runs, which costs less

Swarms, laws and mixes are those that `curate mix` uses. Everything follows from the seed, except CPU seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from threadpoolctl import threadpool_limits

from curate.mix import solve
from curate.mix.law import PREFERENCE, SuiteLaw, pick, try_law
from curate.mix.limits import Limits, limits_of
from curate.mix.sample import sample_mixes
from curate.mix.table import read_swarm
from curate.specs.mix import Constraints, Swarm

Array = NDArray[np.float64]
Truth = Callable[[Array], Array]
SHAPES = ("power", "saturating", "steps", "log_linear", "skills")
DESIGNS = ("dirichlet", "space_filling", "d_optimal")
LAWS = tuple(kind for kind in PREFERENCE if kind != "constant")
COLUMNS = ("auto", *LAWS)
NOISES = (0.003, 0.01, 0.03)
UNSEEN = 300
SWARMS = 5  # disjoint ones, whose proposals are compared
HALVES, FULL = 24, solve.RESAMPLES  # that a proposal comes from in the tables, and in `curate mix`


class World(msgspec.Struct, frozen=True):
    """Sources, and the truth of each suite."""

    tokens: dict[str, int]
    natural: Array
    truths: dict[str, Truth]
    noise: dict[str, float]  # in the scores' units
    limits: Limits


class Setting(msgspec.Struct, frozen=True):
    """One row of the table."""

    shape: str
    sources: int
    design: str
    runs: int
    seed: int


# ── truths ────────────────────────────────────────────────────────────────────────────────────────────────────────


def make_world(shape: str, sources: int, suites: int, seed: int) -> World:
    """Draw sources of unequal size and a truth for each suite."""
    random = np.random.default_rng([seed, sources, SHAPES.index(shape)])
    tokens = {f"s{i:02d}": int(1e9 * size) for i, size in enumerate(np.exp(random.normal(0, 1, sources)))}
    natural = np.array(list(tokens.values())) / sum(tokens.values())
    truths = {f"suite-{j:02d}": _TRUTHS[shape](random, natural) for j in range(suites)}
    around = sampled(tokens, "dirichlet", UNSEEN + sources + 2, seed + 10_000)[sources + 2 :]
    noise = {name: NOISES[j % len(NOISES)] * float(truth(around).std()) for j, (name, truth) in enumerate(truths.items())}
    return World(tokens, natural, truths, noise, limits_of(Constraints(), tokens, None))


def _worth(random: np.random.Generator, natural: Array, spread: float) -> Array:
    """Draw what a token of each source is worth; some sources are worth nothing. The natural mix is worth 1."""
    worth = np.exp(random.normal(0, spread, len(natural))) * (random.uniform(size=len(natural)) > 0.15)
    worth[int(np.argmax(natural))] += 0.1
    return np.asarray(worth / (worth @ natural))


def _power(random: np.random.Generator, natural: Array) -> Truth:
    worth, floor, power = _worth(random, natural, 1.3), random.uniform(0.6, 1.2), random.uniform(0.2, 0.7)
    pairs = [(*random.choice(len(natural), 2, replace=False), random.uniform(-0.5, 1.5)) for _ in natural]

    def truth(w: Array) -> Array:
        together = sum(size * np.sqrt(w[:, i] * w[:, j]) for i, j, size in pairs) * 1.5 / np.sqrt(len(natural))
        return np.asarray(floor + (np.maximum(w @ worth + together, 0) + 0.05) ** -power)

    return truth


def _saturating(random: np.random.Generator, natural: Array) -> Truth:
    """A source has some of the tokens that a run reads; repeated ones decay exponentially (Muennighoff 2023, with a faster decay)."""
    worth, floor, power = _worth(random, natural, 1.3), random.uniform(0.6, 1.2), random.uniform(0.2, 0.7)
    supply = natural * random.uniform(0.3, 0.8)

    def truth(w: Array) -> Array:
        again = np.maximum(w / supply - 1, 0)
        return np.asarray(floor + ((np.minimum(w, supply) + supply * 3 * (1 - np.exp(-again / 3))) @ worth + 0.05) ** -power)

    return truth


def _steps(random: np.random.Generator, natural: Array) -> Truth:
    count = 3 * len(natural)
    pairs = [random.choice(len(natural), 2, replace=False) for _ in range(count)]
    at = [natural[pair] * np.exp(random.normal(0, 0.7, 2)) for pair in pairs]
    size = random.normal(0, 1, (count, 3)) - np.array([0.7, 0.7, 0])
    floor = random.uniform(2.0, 3.0)

    def truth(w: Array) -> Array:
        total = np.zeros(len(w))
        for pair, where, (one, other, both) in zip(pairs, at, size, strict=True):
            above = w[:, pair] > where
            total += one * above[:, 0] + other * above[:, 1] + both * above.all(1)
        return np.asarray(floor + 0.1 / np.sqrt(count) * total)

    return truth


def _log_linear(random: np.random.Generator, natural: Array) -> Truth:
    slope, floor = random.uniform(0, 1, len(natural)) - random.gamma(1.0, 1.5, len(natural)), random.uniform(0.6, 1.2)
    return lambda w: np.asarray(floor + np.exp(w @ slope))


def _skills(random: np.random.Generator, natural: Array) -> Truth:
    floor = random.uniform(0.6, 1.2)
    parts = [(_worth(random, natural, 1.8), random.uniform(0.2, 0.7), random.uniform(0.2, 1.0) / 3) for _ in range(3)]
    return lambda w: np.asarray(floor + sum(size * (w @ worth + 0.03) ** -power for worth, power, size in parts))


_TRUTHS = {"power": _power, "saturating": _saturating, "steps": _steps, "log_linear": _log_linear, "skills": _skills}


# ── swarms and mixes ──────────────────────────────────────────────────────────────────────────────────────────────


def sampled(tokens: dict[str, int], design: str, runs: int, seed: int) -> Array:
    """Return the mixes of a swarm as `curate mix` would plan them, [runs, sources]."""
    limits = limits_of(Constraints(), tokens, None)
    return np.array([list(mix.values()) for mix in sample_mixes(Swarm(design=design, runs=runs, seed=seed), limits, tokens)])


def measured(world: World, mixes: Array, seed: int) -> dict[str, Array]:
    """Return suite → scores with noise."""
    random = np.random.default_rng([seed, 1])
    return {name: truth(mixes) + random.normal(0, world.noise[name], len(mixes)) for name, truth in world.truths.items()}


def recommended(world: World, mixes: Array, scores: dict[str, Array], laws: dict[str, SuiteLaw], whole: bool) -> Array:
    """Return the mix that `solve` recommends; unless `whole`, the optimum for all runs, without resampled swarms."""
    problem = problem_of(world, mixes, scores, laws)
    full = {suite: one.full for suite, one in laws.items()}
    return solve.solve(problem).weights if whole else solve.minimize(problem, solve.objective_of(problem, full, full), solve.starts_of(problem))


def problem_of(world: World, mixes: Array, scores: dict[str, Array], laws: dict[str, SuiteLaw]) -> solve.Problem:
    """Put together what `curate mix solve` would, with its defaults and equal weights."""
    importance = dict.fromkeys(scores, 1.0)
    return solve.Problem(sorted(world.tokens), mixes, scores, laws, importance, world.natural, world.limits, Constraints().natural_pull)


def true_loss(world: World, mixes: Array) -> Array:
    """Return the mean over suites of the truth relative to the natural mix, [mixes]."""
    mixes = np.maximum(mixes, 0.0)  # a solver's zero may be a hair below
    return np.asarray(np.mean([truth(mixes) / truth(world.natural[None]) for truth in world.truths.values()], axis=0))


def best_loss(world: World, starts: Array, seed: int) -> float:
    """Search for the smallest true loss: random steps around the best mix so far, which need no slope."""
    random = np.random.default_rng([seed, 2])
    pool = np.vstack([starts, random.dirichlet(np.ones(len(world.natural)), 500), random.dirichlet(5 * world.natural, 500)])
    best = pool[int(np.argmin(true_loss(world, pool)))]
    for strength in np.repeat(np.geomspace(10, 3000, 12), 12):
        tried = np.vstack([best, 0.9 * random.dirichlet(strength * best + 0.02, 64) + 0.1 * best])
        best = tried[int(np.argmin(true_loss(world, tried)))]
    return float(true_loss(world, best[None])[0])


# ── the tables ────────────────────────────────────────────────────────────────────────────────────────────────────


def correlation(a: Array, b: Array) -> float:
    """Return Spearman's rank correlation; 0 where one does not vary."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def laws_by_column(mixes: Array, scores: dict[str, Array], seconds: dict[str, float]) -> dict[str, dict[str, SuiteLaw]]:
    """Return column → suite → law, and add CPU seconds per column."""
    found: dict[str, dict[str, SuiteLaw]] = {column: {} for column in COLUMNS}
    for suite, values in scores.items():
        tried = []
        for kind in PREFERENCE:
            begin = time.process_time()
            tried.append(try_law(suite, mixes, values, kind))
            spent = time.process_time() - begin
            seconds["auto"] += spent
            if kind in LAWS:
                seconds[kind] += spent
                found[kind][suite] = tried[-1]
        found["auto"][suite] = pick(tried)
    return found


def cell_numbers(world: World, laws: dict[str, SuiteLaw], unseen: Array, alike: Array, seed: int) -> tuple[float, float, float]:
    """Return rank correlation and error relative to the spread at `unseen`, and coverage at mixes `alike`: means over suites."""
    scores = measured(world, alike, seed + 3)
    rows = []
    for suite, law in laws.items():
        truth = world.truths[suite](unseen)
        mean = law.full.predict(unseen)[0]
        error = float(np.sqrt(np.mean((mean - truth) ** 2)) / truth.std())
        _, low, high = law.predict(alike)
        rows.append((correlation(mean, truth), error, float(np.mean((low <= scores[suite]) & (scores[suite] <= high)))))
    means = np.mean(rows, axis=0)
    return float(means[0]), float(means[1]), float(means[2])


def accuracy(settings: list[Setting], suites: int) -> None:
    """Print a row per setting and, at the end, the mean over all rows; CPU seconds are of one suite."""
    seconds = dict.fromkeys(COLUMNS, 0.0)
    total: dict[str, list[tuple[float, ...]]] = {column: [] for column in COLUMNS}
    print("rank correlation × 100 | error, % of the spread | inside the 90 % interval, % | regret, %\n")
    print(f"{'truth':11} {'sources':>7} {'design':13} {'runs':>4}  " + " ".join(f"{column:>20}" for column in COLUMNS))
    for at in settings:
        world = make_world(at.shape, at.sources, suites, at.seed)
        mixes = sampled(world.tokens, at.design, at.runs, at.seed)
        unseen = sampled(world.tokens, "dirichlet", UNSEEN + at.sources + 2, at.seed + 20_000)[at.sources + 2 :]
        same = "dirichlet" if at.design == "d_optimal" else at.design
        alike = sampled(world.tokens, same, UNSEEN + at.sources + 2, at.seed + 30_000)[at.sources + 2 :]
        scores = measured(world, mixes, at.seed)
        laws = laws_by_column(mixes, scores, seconds)
        proposals = {column: recommended(world, mixes, scores, laws[column], column == "auto") for column in COLUMNS}
        best = best_loss(world, np.array(list(proposals.values())), at.seed)
        texts = []
        for column in COLUMNS:
            rank, error, inside = cell_numbers(world, laws[column], unseen, alike, at.seed)
            regret = float(true_loss(world, proposals[column][None])[0]) - best
            total[column].append((100 * rank, 100 * error, 100 * inside, 100 * regret))
            texts.append(_cell(total[column][-1]))
        print(f"{at.shape:11} {at.sources:7} {at.design:13} {at.runs:4}  " + " ".join(f"{text:>20}" for text in texts), flush=True)
    print(f"{'mean':38}  " + " ".join(f"{_cell(tuple(np.mean(total[column], axis=0))):>20}" for column in COLUMNS))
    count = len(settings) * suites
    print(f"{'CPU seconds per suite':38}  " + " ".join(f"{seconds[column] / count:20.3f}" for column in COLUMNS))


def _cell(numbers: tuple[float, ...]) -> str:
    rank, error, inside, regret = numbers
    return f"{rank:5.1f}|{error:4.0f}|{inside:3.0f}|{regret:5.2f}"


def stability(shapes: tuple[str, ...], sizes: tuple[int, ...], runs: int, suites: int, seed: int) -> None:
    """Print how far the mixes from disjoint swarms lie apart: the mean total variation over pairs, and its largest."""
    print(f"\nTotal variation between the mixes recommended from {SWARMS} disjoint swarms of {runs} runs: mean of pairs (largest)\n")
    print(f"{'truth':11} {'sources':>7}  " + " ".join(f"{column:>14}" for column in COLUMNS))
    for shape in shapes:
        for sources in sizes:
            world = make_world(shape, sources, suites, seed)
            proposals: dict[str, list[Array]] = {column: [] for column in COLUMNS}
            for swarm in range(SWARMS):
                mixes = sampled(world.tokens, Swarm().design, runs, 100 * seed + swarm)
                scores = measured(world, mixes, 100 * seed + swarm)
                for column, laws in laws_by_column(mixes, scores, dict.fromkeys(COLUMNS, 0.0)).items():
                    proposals[column].append(recommended(world, mixes, scores, laws, column == "auto"))
            texts = []
            for column in COLUMNS:
                apart = [0.5 * np.abs(a - b).sum() for i, a in enumerate(proposals[column]) for b in proposals[column][:i]]
                texts.append(f"{np.mean(apart):.3f} ({np.max(apart):.3f})")
            print(f"{shape:11} {sources:7}  " + " ".join(f"{text:>14}" for text in texts), flush=True)


def speed(sources: int, suites: int, runs: int, seed: int) -> None:
    """Print the CPU seconds of `auto` for all suites, and of the solution with its resamples."""
    solve.RESAMPLES = FULL
    world = make_world("skills", sources, suites, seed)
    mixes = sampled(world.tokens, "dirichlet", runs, seed)
    scores = measured(world, mixes, seed)
    begin = time.process_time()
    laws = {suite: pick([try_law(suite, mixes, values, kind) for kind in PREFERENCE]) for suite, values in scores.items()}
    fitted = time.process_time()
    solve.solve(problem_of(world, mixes, scores, laws))
    solved = time.process_time()
    print(f"\n{sources} sources, {suites} suites, {runs} runs, law auto: fit {fitted - begin:.1f} s, solve {solved - fitted:.1f} s of CPU")


def published(ratios: Path, metrics: Path, seed: int, repeats: int = 3) -> None:
    """Print the mean rank correlation over suites on the runs of a swarm that were not fitted, and coverage."""
    swarm = read_swarm(ratios, metrics)
    count = len(swarm.runs)
    sizes = [size for size in (32, 64, 128, 256, 512) if len(swarm.sources) + 2 <= size <= count - 20] or [count * 3 // 4]
    print(f"{count} runs, {len(swarm.sources)} sources, {len(swarm.scores)} suites; runs fitted at random, {repeats} times")
    print("rank correlation × 100 on the other runs | inside the 90 % interval, %\n")
    print(f"{'runs':>5}  " + " ".join(f"{column:>12}" for column in COLUMNS))
    for size in sizes:
        found: dict[str, list[tuple[float, float]]] = {column: [] for column in COLUMNS}
        for repeat in range(repeats):
            order = np.random.default_rng([seed, size, repeat]).permutation(count)
            kept, unseen = order[:size], order[size:]
            laws = laws_by_column(swarm.mixes[kept], {s: y[kept] for s, y in swarm.scores.items()}, dict.fromkeys(COLUMNS, 0.0))
            for column in COLUMNS:
                for suite, law in laws[column].items():
                    mean, low, high = law.predict(swarm.mixes[unseen])
                    measured_there = swarm.scores[suite][unseen]
                    found[column].append((correlation(mean, measured_there), float(np.mean((low <= measured_there) & (measured_there <= high)))))
        means = {column: np.mean(rows, axis=0) for column, rows in found.items()}
        print(f"{size:5}  " + " ".join(f"{100 * means[column][0]:6.1f} | {100 * means[column][1]:3.0f}" for column in COLUMNS), flush=True)


def main() -> None:
    """Print the tables."""
    solve.RESAMPLES = HALVES
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="three truths of 8 sources, two suites each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--suites", type=int, default=3, help="per truth, in the first table; the second has twice as many")
    parser.add_argument("--sizes", default="8,12,20", help="numbers of sources")
    parser.add_argument("--most-runs", type=int, default=128, help="leave out larger swarms")
    parser.add_argument("--only", default="accuracy,stability,speed", help="the tables")
    parser.add_argument("--ratios", type=Path, help="a published swarm: run, then the share of each source")
    parser.add_argument("--metrics", type=Path, help="and: run, then the score of each suite")
    given = parser.parse_args()
    if given.ratios or given.metrics:
        if not (given.ratios and given.metrics):
            parser.error("--ratios and --metrics go together")
        published(given.ratios, given.metrics, given.seed)
        return
    if given.quick:
        given.suites, shapes, sizes, designs = 2, SHAPES[:3], (8,), [("dirichlet", 32), ("dirichlet", 64)]
    else:
        shapes, sizes = SHAPES, tuple(int(size) for size in given.sizes.split(","))
        designs = [("dirichlet", 32), *((design, 64) for design in DESIGNS), ("dirichlet", 128)]
    if "accuracy" in given.only:
        rows = [Setting(shape, size, *at, given.seed) for shape in shapes for size in sizes for at in designs if at[1] <= given.most_runs]
        accuracy(rows, given.suites)
    if "stability" in given.only:
        stability(shapes, sizes, 64, given.suites if given.quick else 2 * given.suites, given.seed)
    if "speed" in given.only:
        speed(*((8, 3) if given.quick else (20, 13)), 64, given.seed)


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
