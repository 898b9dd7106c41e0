"""Groups of proxies on a real GPU, where there is one; the kernels also in Triton's interpreter, where Triton is installed.

Each test has a process of its own: the other tests see no GPU.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from test_proxies import data, folders, run, suites  # noqa: F401

from curate.mix.proxy import evaluate_run, train_runs
from curate.mix.stage import num_gpus

CHILD = str(Path(__file__).with_name("gpu_child.py"))
SEEING = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
on_gpu = pytest.mark.skipif(not list(Path("/dev").glob("nvidia[0-9]*")), reason="needs a GPU")


def request(data: Path, folder: Path, runs: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:  # noqa: F811
    folder.mkdir()
    files = [str(folder / f"{i}.safetensors") for i in range(len(runs))]
    where = {name: [str(path) for path in paths] for name, paths in folders(data).items()}
    given = {"runs": runs, "folders": where, "tokenizer": str(data / "tokenizer.json"), "files": files, "suites": suites(data)}
    return given | {"checkpoint": str(folder / "checkpoint.pt"), "checkpoint_seconds": math.inf} | changes


def child(*arguments: str, **environment: str) -> Any:
    done = subprocess.run([sys.executable, CHILD, *arguments], env=SEEING | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


RUNS = [run({"abc": 0.9, "sums": 0.1}), run({"abc": 0.2, "sums": 0.8}, seed=1), run({"abc": 0.0, "sums": 1.0})]


def test_no_other_test_sees_a_gpu() -> None:
    assert num_gpus() == 0


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
def test_the_kernels_are_the_definition() -> None:
    worst = child("kernels", "cpu", TRITON_INTERPRET="1")
    assert worst["float32"] < 1e-5
    assert worst["bfloat16"] < 0.01


@on_gpu
def test_the_kernels_are_the_definition_on_a_gpu() -> None:
    worst = child("kernels", "cuda")
    assert worst["float32"] < 1e-3  # products in TF32 would be 1e-3
    assert worst["bfloat16"] < 0.01


@on_gpu
def test_a_member_of_a_group_on_a_gpu_is_what_it_is_alone_and_on_a_cpu(data: Path, tmp_path: Path) -> None:  # noqa: F811
    together = child("train", json.dumps(request(data, tmp_path / "all", RUNS)))
    for k, one in enumerate(RUNS):
        file = tmp_path / f"cpu-{k}.safetensors"
        (report,) = train_runs([one], folders(data), data / "tokenizer.json", [file])
        scores = evaluate_run(file, data / "tokenizer.json", suites(data), tmp_path / "scores.parquet")
        assert "compiled, bfloat16" in together["reports"][k]["trained_on"]
        assert together["reports"][k]["realized_tokens"] == report["realized_tokens"]
        assert together["reports"][k]["final_loss"] == pytest.approx(report["final_loss"], abs=0.03)
        for suite, score in scores.items():
            assert together["scores"][k][suite] == pytest.approx(score, rel=0.03)
    alone = child("train", json.dumps(request(data, tmp_path / "one", RUNS[1:2])))
    assert alone["reports"][0]["final_loss"] == pytest.approx(together["reports"][1]["final_loss"], abs=0.02)


@on_gpu
def test_a_group_that_was_killed_on_a_gpu_goes_on_to_the_same_bits(data: Path, tmp_path: Path) -> None:  # noqa: F811
    runs = [one | {"proxy": one["proxy"] | {"tokens": 200 * 256}} for one in RUNS]
    given = request(data, tmp_path / "killed", runs, checkpoint_seconds=0.0)
    killed = subprocess.Popen([sys.executable, CHILD, "train", json.dumps(given)], env=SEEING)
    while not Path(given["checkpoint"]).exists() and killed.poll() is None:
        time.sleep(0.001)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert Path(given["checkpoint"]).exists()
    whole = request(data, tmp_path / "whole", runs)
    assert child("train", json.dumps(given | {"checkpoint_seconds": math.inf})) == child("train", json.dumps(whole))
    for a, b in zip(given["files"], whole["files"], strict=True):
        assert Path(a).read_bytes() == Path(b).read_bytes()
