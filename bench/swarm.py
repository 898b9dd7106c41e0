"""How fast a swarm of proxies trains, and what a recommendation costs in operations.

    python bench/swarm.py                     8, 32 and 128 proxies of the default shape, synthetic tokens; about 20 minutes on two cores
    python bench/swarm.py --quick             4 proxies, one round
    python bench/swarm.py --runs 60 --tokens 4_000_000      what the last table compares RegMix's design with

Two ways, in turns on the same machine: as `curate mix train` runs a swarm (one single-threaded process per core, each training one proxy
after another with curate.mix.proxy), and plain PyTorch (the same model, whole logits, autograd, AdamW) in one process with all threads.
Tokens per second are of the wall clock, and mean little while other processes run. Tokens per CPU second, against plain PyTorch on one thread, is a
ratio that a busy machine changes less; threads share a step out at a loss, so that it is a lower bound of the gain.

The share of the matrix rate is in CPU seconds of the workers: operations of the model (6 per parameter and token, attention's causal half; the
optimizer not counted) over those that torch.mm does in float32 with squares of 1,024, of which each worker takes some before every step, so that
both saw the same clock: a core's may change by half within a tenth of a second. The last two columns are the fastest single square, and the share of that.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

VOCAB, SOURCES = 4096, ("code", "papers", "web")
SQUARES = 6  # before each step; a tenth of its time
REGMIX = {
    "vocab": 50_432,
    "layers": 2,
    "width": 256,
    "hidden": 512,
    "context": 2_048,
    "runs": 512,
    "tokens": 512 * 2_048 * 1_000,
}  # its published code


def write_tokens(folder: Path, count: int, vocab: int) -> None:
    """Write token shards of three sources with different frequencies of words: what is read, not what is learned, matters here."""
    from curate.tokens.shards import TokenWriter
    from curate.tokens.tokenizer import INDEX

    for s, name in enumerate(SOURCES):
        draw = np.random.default_rng(s)
        (folder / name).mkdir()
        tokens = np.minimum(draw.zipf(1.2 + 0.2 * s, count), vocab - 1).astype(np.uint16)
        writer = TokenWriter(folder / name / "0.npy", np.dtype(np.uint16))
        writer.write(tokens)
        writer.close()
        starts = np.arange(0, count, 1_000)
        sizes = np.diff(np.append(starts, count))
        ids = [f"{name}{i}" for i in range(len(starts))]
        pq.write_table(
            pa.Table.from_arrays([pa.array(ids), pa.array(starts), pa.array(sizes), pa.array(4 * sizes)], schema=INDEX), folder / name / "0.parquet"
        )


def runs_of(count: int, shape: dict[str, Any], steps: int) -> list[dict[str, Any]]:
    """Return the runs of a swarm with Dirichlet mixes."""
    mixes = np.random.default_rng(0).dirichlet(np.ones(len(SOURCES)), count)
    proxy = shape | {"tokens": steps * shape["batch_tokens"]}
    return [
        {"run": f"run-{i:03d}", "weights": dict(zip(SOURCES, mix.tolist(), strict=True)), "seed": 0, "pools": {}, "proxy": proxy}
        for i, mix in enumerate(mixes)
    ]


# ── as `mix train` does it ────────────────────────────────────────────────────────────────────────────────────────


class Squares:
    """Products of squares that a worker takes before each step: what the core could do then."""

    def __init__(self) -> None:
        import torch

        self.a, self.b, self.c = (torch.randn(1024, 1024) for _ in range(3))
        self.cpu: list[float] = []
        self.wall: list[float] = []

    def before(self, add_gradients: Any) -> Any:
        """Return `add_gradients` with SQUARES of them before it."""
        import torch

        def both(*given: Any) -> Any:
            for _ in range(SQUARES):
                wall, cpu = time.perf_counter(), time.process_time()
                torch.mm(self.a, self.b, out=self.c)
                self.cpu.append(time.process_time() - cpu)
                self.wall.append(time.perf_counter() - wall)
            return add_gradients(*given)

        return both


def prepare(_: int) -> None:
    """Import and compile what a worker of the engine has imported and compiled after its first task."""
    from curate.mix.proxy import single_thread
    from curate.mix.throughput import choose, tokens_per_second

    single_thread()
    tokens_per_second({"vocab": 300, "width": 32, "layers": 1, "heads": 2, "context": 32, "batch_tokens": 64}, 1, choose(1, "cpu"), steps=1)
    time.sleep(1)  # so that every worker takes one


def train_one(given: tuple[dict[str, Any], dict[str, list[str]], int]) -> tuple[float, list[float], float]:
    """Train a proxy; return its CPU seconds, those of each square that was taken between its steps, and the squares' seconds of the wall clock."""
    from curate.mix import throughput
    from curate.mix.proxy import train_group

    run, folders, vocab = given
    squares, gradients_of = Squares(), throughput.gradients_of
    throughput.gradients_of = lambda how: squares.before(gradients_of(how))
    try:
        start = time.process_time()
        train_group([run], folders, vocab, where="cpu")
        seconds = time.process_time() - start
    finally:
        throughput.gradients_of = gradients_of
    return seconds - sum(squares.cpu), squares.cpu, sum(squares.wall)


def swarm(pool: Any, cores: int, runs: list[dict[str, Any]], folders: dict[str, list[str]], vocab: int) -> dict[str, float]:
    """Train the runs on all cores; return tokens per second, and the share of the matrix rate. The squares' own time is not the swarm's."""
    from curate.mix.model import flops_per_token

    proxy = runs[0]["proxy"]
    start = time.perf_counter()
    found = pool.map(train_one, [(run, folders, vocab) for run in runs], chunksize=1)
    seconds = time.perf_counter() - start - sum(wall for _, _, wall in found) / cores
    spent = sum(cpu for cpu, _, _ in found)
    squares = [square for _, some, _ in found for square in some]
    tokens = len(runs) * proxy["tokens"]
    done = tokens * flops_per_token({**proxy, "vocab": vocab}, proxy["context"]) / spent
    mean, best = 2 * 1024**3 * len(squares) / sum(squares), 2 * 1024**3 / min(squares)
    return {
        "tokens_per_second": tokens / seconds,
        "tokens_per_cpu_second": tokens / spent,
        "matrix_gflops": mean / 1e9,
        "share": done / mean,
        "best_gflops": best / 1e9,
        "share_of_best": done / best,
    }


# ── one after another in plain PyTorch ────────────────────────────────────────────────────────────────────────────


def plain(given: tuple[list[dict[str, Any]], dict[str, list[str]], int, int]) -> tuple[float, float]:
    """Train the runs one after another, as one would write it down; return tokens per second, and per CPU second of all threads."""
    import torch

    runs, folders, vocab, threads = given
    torch.set_num_threads(threads)
    train_plainly(runs[0], folders, vocab, steps=1)
    start, spent = time.perf_counter(), time.process_time()
    for run in runs:
        train_plainly(run, folders, vocab)
    tokens = sum(run["proxy"]["tokens"] for run in runs)
    return tokens / (time.perf_counter() - start), tokens / (time.process_time() - spent)


def train_plainly(run: dict[str, Any], folders: dict[str, list[str]], vocab: int, where: str = "cpu", steps: int | None = None) -> float:
    """Train one proxy in plain PyTorch, in bfloat16 on a GPU; return the seconds that its steps took."""
    import torch
    import torch.nn.functional as functional

    from curate.mix import model
    from curate.mix.stream import Stream

    torch.use_deterministic_algorithms(False)
    proxy, stream = run["proxy"], Stream(run, folders)
    kind = torch.float32 if where == "cpu" else torch.bfloat16
    p = {name: value.to(where) for name, value in model.init_parameters({**proxy, "vocab": vocab}, [run["seed"]]).items()}
    values = [value.requires_grad_() for value in p.values()]
    optimizer = torch.optim.AdamW(values, lr=proxy["learning_rate"], fused=True)
    start = time.perf_counter()
    for step in range(steps or stream.num_steps):
        optimizer.zero_grad()
        tokens = torch.from_numpy(stream.batch(step))[None].to(where)
        x = model.hidden_states(p, tokens[:, :, :-1], proxy["heads"], kind)[0].to(kind)
        loss = functional.cross_entropy((x @ p["embedding"][0].t().to(kind)).float(), tokens[0, :, 1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(values, 1.0)
        optimizer.step()
    loss.item()  # waits for the device
    return time.perf_counter() - start


# ── on a GPU ──────────────────────────────────────────────────────────────────────────────────────────────────────

GPU_SHAPES = ({}, {"width": 256, "layers": 6, "heads": 4}, {"width": 512, "layers": 8, "heads": 8})  # 1M, 6M, 27M parameters with 4k of vocabulary


def gpu_matrix_rate() -> float:
    """Return the operations per second of torch.mm in bfloat16, squares of 8,192."""
    import torch

    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for count in (3, 10):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            torch.mm(a, b)
        torch.cuda.synchronize()
    return 10 * 2 * 8192**3 / (time.perf_counter() - start)


def gpu_swarm(shape: dict[str, Any], count: int, steps: int, folders: dict[str, list[str]], vocab: int) -> tuple[float, float]:
    """Train `count` proxies as `curate mix train` does on a GPU; return tokens per second of further steps, and the seconds to the first ones."""
    from curate.mix.proxy import train_group

    seconds = []
    for some in (2, steps, 3 * steps):
        start = time.perf_counter()
        train_group(runs_of(count, shape, some), folders, vocab)
        seconds.append(time.perf_counter() - start)
    return count * 2 * steps * shape["batch_tokens"] / (seconds[2] - seconds[1]), seconds[0]


def gpu(shape: dict[str, Any], vocab: int, sizes: list[int], widths: list[int], steps: int, folders: dict[str, list[str]]) -> None:
    """Compare stacked groups with one proxy after another on a GPU, or say that there is none."""
    import torch

    if not torch.cuda.is_available():
        print("\nGPU: none here; the stacked path was not measured (tests run it on CPU tensors)")
        return
    from curate.mix.model import flops_per_token, num_parameters
    from curate.mix.throughput import choose_group_size

    peak = gpu_matrix_rate()
    print(f"\n{torch.cuda.get_device_name()}: {peak / 1e12:.0f} TFLOP/s in bfloat16 squares of 8,192; PyTorch {torch.__version__}")
    print(
        "| parameters | together | swarm, tokens/s | plain, one after another | times | share of the matrix rate, swarm | plain | seconds to start |"
    )
    print("|" + "---|" * 8)
    for one in (shape | change for change in GPU_SHAPES):
        if one["width"] not in widths:
            continue
        size, flops = num_parameters({**one, "vocab": vocab}), flops_per_token({**one, "vocab": vocab}, one["context"])
        run = runs_of(1, one, 100)[0]
        alone = 80 * one["batch_tokens"] / (train_plainly(run, folders, vocab, "cuda") - train_plainly(run, folders, vocab, "cuda", 20))
        chosen = choose_group_size({**one, "vocab": vocab})
        for count in dict.fromkeys([*(count for count in sizes if count < chosen), chosen]):
            torch.cuda.empty_cache()
            together, first = gpu_swarm(one, count, steps, folders, vocab)
            cells = [f"{size:,}", f"{count}{' (chosen)' if count == chosen else ''}", f"{together:,.0f}", f"{alone:,.0f}"]
            cells += [f"{together / alone:.1f}", f"{together * flops / peak:.0%}", f"{alone * flops / peak:.0%}", f"{first:.0f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


# ── what users pay ────────────────────────────────────────────────────────────────────────────────────────────────


def regmix_flops_per_token() -> int:
    """Return the operations of RegMix's 1M proxy on a token, counted as curate.mix.model counts them; its head is not tied."""
    width, context = REGMIX["width"], REGMIX["context"]
    matrices = REGMIX["vocab"] * width + REGMIX["layers"] * (4 * width * width + 3 * width * REGMIX["hidden"])
    return 6 * matrices + 6 * REGMIX["layers"] * width * context


def costs(shape: dict[str, Any], vocab: int, runs: int, tokens: int) -> None:
    """Print the operations of both designs."""
    from curate.mix.model import flops_per_token

    ours, theirs = flops_per_token({**shape, "vocab": vocab}, shape["context"]), regmix_flops_per_token()
    head = 6 * REGMIX["vocab"] * REGMIX["width"] / theirs
    total, other = ours * runs * tokens, theirs * REGMIX["runs"] * REGMIX["tokens"]
    print("\n| design | runs | tokens of each | MFLOP per token | FLOPs of the swarm |\n|---|---|---|---|---|")
    print(f"| this spec | {runs} | {tokens:,} | {ours / 1e6:.1f} | {total:.3g} |")
    print(f"| RegMix | {REGMIX['runs']} | {REGMIX['tokens']:,} | {theirs / 1e6:.1f}, {head:.0%} of it the head | {other:.3g} |")
    print(f"{other / total:,.0f} times fewer; with RegMix's tokens per run it would be {other / (ours * runs * REGMIX['tokens']):,.0f} times")


def main() -> None:
    """Measure and print."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from curate.specs.load import resolved
    from curate.specs.mix import Proxy

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proxies", type=int, nargs="*", default=[8, 32, 128])
    parser.add_argument("--steps", type=int, default=8, help="of each proxy")
    parser.add_argument("--gpu-proxies", type=int, nargs="*", default=[1, 8, 32], help="beside the number that would be chosen")
    parser.add_argument("--gpu-widths", type=int, nargs="*", default=[128, 256, 512], help="which of the shapes")
    parser.add_argument("--gpu-steps", type=int, default=30, help="of each proxy on a GPU: so many, and thrice as many; the difference counts")
    parser.add_argument("--baseline", type=int, default=4, help="proxies of a turn of plain PyTorch; its speed does not depend on their number")
    parser.add_argument("--vocab", type=int, default=VOCAB)
    parser.add_argument("--proxy", type=json.loads, default={}, help='fields of the spec, as {"width": 64}')
    parser.add_argument(
        "--runs", type=int, default=54, help="of a swarm until its recommendation is stable; default: 3 × (sources + 1) for RegMix's 17"
    )
    parser.add_argument("--tokens", type=int, default=Proxy().tokens, help="of each of these runs")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.proxies, arguments.steps, arguments.baseline = [4], 2, 2
    shape, cores = resolved(Proxy(**arguments.proxy)), os.cpu_count() or 1
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name, spawn.Pool(cores) as pool, spawn.Pool(1) as single:
        write_tokens(Path(name), max(200_000, max(2 * arguments.steps, 3 * arguments.gpu_steps) * shape["batch_tokens"]), arguments.vocab)
        folders = {source: [str(Path(name) / source)] for source in SOURCES}
        pool.map(prepare, range(cores), chunksize=1)
        print(f"{cores} cores, load {os.getloadavg()[0]:.1f}; {shape}; vocabulary {arguments.vocab}; {arguments.steps} steps each")
        print(
            "| proxies | swarm, tokens/s | plain, all threads | times | swarm, tokens per CPU second | plain, one thread | times"
            " | matrix GFLOP/s | share | fastest square | share of that |"
        )
        print("|" + "---|" * 11)
        for count in arguments.proxies:
            runs = runs_of(count, shape, arguments.steps)
            few, turns = runs[: arguments.baseline], []
            for part in np.array_split(np.arange(count), max(1, count // 16)):  # in turns, since a machine is rarely quiet for long
                wide, _ = single.apply(plain, ((few, folders, arguments.vocab, cores),))
                _, narrow = single.apply(plain, ((few[:1], folders, arguments.vocab, 1),))
                turn = swarm(pool, cores, [runs[i] for i in part], folders, arguments.vocab)
                times = {"times": turn["tokens_per_second"] / wide, "cpu_times": turn["tokens_per_cpu_second"] / narrow}
                turns.append(turn | times | {"wide": wide, "narrow": narrow})
            of = {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
            cells = [f"{of['tokens_per_second']:,.0f}", f"{of['wide']:,.0f}", f"{of['times']:.2f}", f"{of['tokens_per_cpu_second']:,.0f}"]
            cells += [f"{of['narrow']:,.0f}", f"{of['cpu_times']:.2f}", f"{of['matrix_gflops']:.0f}", f"{of['share']:.0%}"]
            cells += [f"{of['best_gflops']:.0f}", f"{of['share_of_best']:.0%}"]
            print(f"| {count} | {' | '.join(cells)} |", flush=True)
        gpu(shape, arguments.vocab, arguments.gpu_proxies, arguments.gpu_widths, arguments.gpu_steps, folders)
    costs(shape, arguments.vocab, arguments.runs, arguments.tokens)


if __name__ == "__main__":
    main()
