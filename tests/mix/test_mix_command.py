"""`curate mix fit`: laws from two CSV files, for swarms that were trained elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from curate.mix.law import PREFERENCE


def test_fit_from_csv_by_the_command(tmp_path: Path) -> None:
    mixes = np.random.default_rng(0).dirichlet(np.ones(3), 20)
    scores = 0.9 + (mixes @ np.array([9.0, 1.0, 1.0])) ** -0.3
    rows = [f"r{i},{','.join(f'{w:.6f}' for w in mix)}" for i, mix in enumerate(mixes)]
    (tmp_path / "ratios.csv").write_text("run,code,math,web\n" + "\n".join(rows) + "\n")
    (tmp_path / "metrics.csv").write_text("run,docs\n" + "\n".join(f"r{i},{y:.6f}" for i, y in reversed(list(enumerate(scores)))) + "\n")
    command = [sys.executable, "-m", "curate.cli", "mix", "fit", "--ratios", "ratios.csv", "--metrics", "metrics.csv", "--output", "laws", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["laws"]["docs"]["law"] in PREFERENCE
    lines = (tmp_path / "laws/predictions.csv").read_text().splitlines()
    assert lines[0] == "run,suite,mean,low,high"
    predicted = {line.split(",")[0]: float(line.split(",")[2]) for line in lines[1:]}
    assert max(abs(predicted[f"r{i}"] - y) for i, y in enumerate(scores)) < 0.02
    (tmp_path / "metrics.csv").write_text("run,docs\nr0,1.0\n")
    refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert refused.returncode == 3
    assert "the run ids do not match" in refused.stderr
    assert "Traceback" not in refused.stderr
