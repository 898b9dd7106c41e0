"""What a mix would cost, before anything is trained: counted operations, and a short measurement on this machine."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from curate.mix import flow
from curate.mix.data import gather
from curate.mix.setting import Setting, as_mix, baseline
from curate.mix.stage import kept_by, num_gpus, plan_phases, rivals_of
from curate.mix.suites import measure_suite
from curate.specs.load import load_spec, resolved
from curate.specs.mix import Mix, Proxy

BYTES_PER_PARAMETER = 16  # weight, gradient and two moments, in float32


def estimate(spec_file: Path) -> dict[str, Any]:
    """Return what `curate mix run` would train, and for how long on all cores, or GPUs, of this machine: {summary, natural, runs}.

    `summary` has a value per row of the table, but for what is zero: memory is in bytes, and `natural` says why the natural mix is another one,
    if it is. Suites are read, but not tokenized. Trains a few steps on noise. Later phases are checked, but not counted. What further rounds
    of a sequential swarm may cost stands apart.
    """
    from curate.mix.model import flops_per_token, num_parameters
    from curate.tokens.tokenizer import Encoder

    spec = load_spec(spec_file, Mix)
    data = gather(spec, spec_file, {}, None)
    setting = Setting(spec, data.tokens, data.traits, kept=kept_by(spec, spec_file, data))
    runs = flow.plan_runs(setting)
    phases = plan_phases(spec, spec_file, data, rivals_of(spec, spec_file, setting.leaves))
    suites = _measured(data.suites)
    later = {phase.name: _measured(inside.suites) for phase, (_, inside) in zip(spec.phases, phases, strict=True) if phase.evals}
    vocab = Encoder.open(data.tokenizer).vocab_size
    confirm = spec.confirm.seeds * (1 + len(spec.confirm.rivals))
    larger = spec.confirm.proxy or spec.proxy
    parts = [(len(runs), spec.proxy, spec.proxy.tokens), (confirm, larger, spec.confirm.tokens or larger.tokens)]
    speed = functools.cache(lambda proxy, at_once: _tokens_per_second(resolved(proxy) | {"vocab": vocab}, spec.swarm.group, at_once))
    flops, seconds, most = 0.0, 0.0, 0
    for count, proxy, tokens in parts:
        shape = resolved(proxy) | {"vocab": vocab}
        flops += count * tokens * flops_per_token(shape, proxy.context)
        seconds += count * tokens / speed(proxy, count if num_gpus() else 1)
        most = max(most, num_parameters(shape))
    further = _further(setting, runs)
    summary = {
        "sources": dict(sorted(data.tokens.items())),
        "suites": suites,
        "proxies in the swarm": len(runs),
        "further runs, at most": further,
        "proxies to confirm": confirm,
        "parameters of the largest proxy": most,
        "tokens in all": sum(count * tokens for count, _, tokens in parts),
        "floating-point operations": flops,
        "memory of a worker": 400_000_000 + most * BYTES_PER_PARAMETER + 4 * spec.proxy.tokens,
        "minutes on this machine": round(seconds / 60, 1),
        "minutes are an upper bound": num_gpus() > 0,
        **(_cost_of_further(setting, further, vocab, speed) if further else {}),
        "later phases, not counted": len(spec.phases),
        "suites of later phases": later,
        "natural": "; ".join(baseline(setting)[1]),
    }
    planned = [{"run": run["run"], "weights": run["weights"], "seed": run["seed"]} for run in runs]
    natural = as_mix(setting, baseline(setting)[0])
    return {"summary": {what: value for what, value in summary.items() if value not in ("", {})}, "natural": natural, "runs": planned}


def _measured(suites: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Return suite → {items, bytes}, sorted. Raises InputError for a suite that cannot be read."""
    return {name: measure_suite(name, suite) for name, suite in sorted(suites.items())}


def _tokens_per_second(shape: dict[str, Any], group: int | None, count: int) -> float:
    """Return the speed of all cores, or of all GPUs; there without compilation, which makes the real one about twice as fast."""
    import torch

    from curate.mix import throughput
    from curate.mix.proxy import single_thread

    single_thread()  # as workers are: a rate of all threads is not the rate of a core
    with throughput.claimed() as where:
        if where == "cpu":
            return (os.cpu_count() or 1) * throughput.tokens_per_second(shape, 1, throughput.choose(1, where))
        size = min(count, group or throughput.choose_group_size(shape, where))
        how = msgspec.structs.replace(throughput.choose(size, where), is_compiled=False)
        return torch.cuda.device_count() * throughput.tokens_per_second(shape, size, how)


def _further(setting: Setting, planned: list[flow.Run]) -> int:
    """Return how many runs may follow those that are planned, at most."""
    swarm = setting.spec.swarm
    if swarm.batch is None:
        return 0
    return max(0, flow.most_runs(setting) - len([run for run in planned if run["seed"] == swarm.seed]))


def _cost_of_further(setting: Setting, count: int, vocab: int, speed: Callable[[Proxy, int], float]) -> dict[str, Any]:
    """Return rows of what `count` further runs would cost, were the swarm never to stop before. `speed`: of a proxy, so many at once.

    Rounds follow each other, so that a round of fewer runs than there are cores, or GPUs, leaves some of them without work.
    """
    from curate.mix.model import flops_per_token

    spec = setting.spec
    shape, at_once, workers = resolved(spec.proxy) | {"vocab": vocab}, min(spec.swarm.batch or count, count), num_gpus() or os.cpu_count() or 1
    waves = -(-count // at_once) * -(-at_once // workers)  # in each, every worker trains one run or none
    seconds = waves * workers * spec.proxy.tokens / speed(spec.proxy, at_once if num_gpus() else 1)
    return {
        "tokens of further runs, at most": count * spec.proxy.tokens,
        "floating-point operations of further runs, at most": count * spec.proxy.tokens * flops_per_token(shape, spec.proxy.context),
        "minutes of further runs, at most": math.ceil(seconds / 6) / 10,
    }
