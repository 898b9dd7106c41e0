"""Kill a workflow again and again, at random moments, and compare what is left at the end with an undisturbed run.

    python bench/kill.py PROJECT workflows/quickstart.yaml --kills 20

Half of the kills hit the main process, half a worker. Prints one line per kill, and whether the shards are byte-identical.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path


def shards(run: Path) -> dict[str, str]:
    """Return the checksum of every file of data in a run."""
    kinds = ("*.parquet", "*.npy", "*.bin", "*.npz", "*.safetensors", "manifest.json", "tokenizer.json", "solved.yaml")
    found = {path for kind in kinds for path in run.rglob(kind) if not {"input", "receipts"} & set(path.relative_to(run).parts)}
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(found)}


def start(project: Path, spec: str, workers: int) -> subprocess.Popen[bytes]:
    """Start the run."""
    command = [sys.executable, "-m", "curate.cli", "run", spec, "--workers", str(workers), "--quiet"]
    return subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for a run to end; stop here when it failed."""
    _, errors = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"the run failed: {errors.decode()[-2000:]}")


def compare(expected: dict[str, str], run: Path) -> str:
    """Say in a line how a run differs from the undisturbed one."""
    found = shards(run)
    different = sorted(name for name in set(expected) | set(found) if expected.get(name) != found.get(name))
    return f"{len(found)} files, {len(different)} differ{': ' + ', '.join(different[:10]) if different else ''}"


def main() -> None:
    """Run, kill, run again, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("spec")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    run = arguments.project / "runs" / Path(arguments.spec).stem
    draw = random.Random(arguments.seed)

    shutil.rmtree(run, ignore_errors=True)
    began = time.monotonic()
    finish(start(arguments.project, arguments.spec, arguments.workers))
    seconds = time.monotonic() - began
    expected = shards(run)
    print(f"undisturbed: {seconds:.0f} s, {len(expected)} files")

    shutil.rmtree(run)
    for kill in range(1, arguments.kills + 1):
        process = start(arguments.project, arguments.spec, arguments.workers)
        wait = draw.uniform(0.02, 0.25) * seconds
        try:
            process.wait(timeout=wait)
        except subprocess.TimeoutExpired:
            children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False).stdout.split()
            victim = int(draw.choice(children)) if kill % 2 == 0 and children else process.pid
            os.kill(victim, signal.SIGKILL)
            what = "main process" if victim == process.pid else "a worker"
            print(f"kill {kill}: {what} after {wait:.0f} s", flush=True)
            if victim != process.pid:  # the engine replaces a dead worker; let it go on for a while, then stop it as well
                try:
                    process.wait(timeout=0.05 * seconds)
                except subprocess.TimeoutExpired:
                    process.kill()
            process.wait()
        else:
            print(f"kill {kill}: came too late, the run had ended: {compare(expected, run)}; starting over", flush=True)
            shutil.rmtree(run)
    finish(start(arguments.project, arguments.spec, arguments.workers))
    print(compare(expected, run))
    raise SystemExit(shards(run) != expected)


if __name__ == "__main__":
    main()
