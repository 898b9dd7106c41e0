"""Plant leaks in a large corpus, kill the search half-way with SIGKILL, go on, and compare with an undisturbed search.

    python bench/decontamination_resume.py --hosts web.jsonl.gz --benchmark gsm8k_test.jsonl.gz --folder /tmp/resume

The corpus is made of the sentences of the hosts ({"text"} per line), put together anew for each document; leaks are items of the
benchmark, verbatim and disguised. Prints how many leaks each search found, what was alarm beyond them, and whether every file of
data is byte-identical: matches, items, summary, report, lists of ids, and the shards that are left. Exits with 1 if one differs.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

WORKFLOW = "name: hosts\nsources:\n  web:\n    - ingest: {jsonl: data/*.jsonl.gz}\n"


def lines(path: Path) -> list[dict[str, object]]:
    """Return the objects of a JSON-lines file, plain or .gz."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def disguised(question: str, way: int, draw: random.Random) -> str:
    """Return a question in one of five forms."""
    words = question.split()
    if way == 1:
        return re.sub(r"\d+", lambda m: str(int(m[0]) + draw.randint(1, 9)), question)
    if way == 2:
        return " ".join(word[:2] + word[3:] if i % 10 == 4 and len(word) > 4 else word for i, word in enumerate(words))
    if way == 3:
        return question.upper().replace("O", "\N{GREEK CAPITAL LETTER OMICRON}")
    if way == 4:
        return "\n".join(" ".join(words[i : i + 7]) for i in range(0, len(words), 7))
    return question


def write_corpus(arguments: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Write the raw shards; return {address: item id} of the leaks."""
    draw = random.Random(arguments.seed)
    texts = [str(row["text"]) for path in arguments.hosts for row in lines(path)]
    sentences = [s for text in texts for s in re.split(r"(?<=[.!?])\s+", text) if 20 < len(s) < 400]
    items = [row for row in lines(arguments.benchmark) if len(str(row["question"]).split()) >= 20]
    chosen = dict(zip(sorted(draw.sample(range(arguments.documents), arguments.leaks)), draw.choices(items, k=arguments.leaks), strict=True))
    (folder / "data").mkdir(parents=True)
    planted = {}
    for shard in range(arguments.shards):
        with gzip.open(folder / f"data/part-{shard:02d}.jsonl.gz", "wt", compresslevel=1, encoding="utf-8") as file:
            for number in range(shard, arguments.documents, arguments.shards):
                parts = draw.choices(sentences, k=draw.randint(4, 24))
                url = f"https://host{number % 997}.example/{number}"
                if number in chosen:
                    item = chosen[number]
                    parts.insert(draw.randrange(len(parts)), "\n\n" + disguised(str(item["question"]), number % 5, draw) + "\n\n")
                    planted[url] = str(item.get("id", ""))
                file.write(json.dumps({"text": " ".join(parts), "url": url}) + "\n")
    return planted


def search(arguments: argparse.Namespace, folder: Path, output: Path) -> subprocess.Popen[bytes]:
    """Start a search, in a process group of its own."""
    command = [sys.executable, "-m", "curate.cli", "decontaminate", str(folder / "runs/hosts/web/01-ingest")]
    command += ["--against", str(arguments.benchmark), "--output", str(output), "--workers", str(arguments.workers)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for a search to end; stop here when it failed."""
    _, errors = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"the search failed: {errors.decode()[-2000:]}")


def kill_half_way(process: subprocess.Popen[bytes], output: Path, shards: int) -> int:
    """Kill the whole group with SIGKILL once half of the shards are done; return how many were."""
    while process.poll() is None:
        done = len(list(output.glob("sources/web/receipts/*.json")))
        if done >= shards // 2:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return done
        time.sleep(0.02)
    raise SystemExit("the search ended before half of its shards were seen: give it more shards")


def data(output: Path) -> dict[str, str]:
    """Return the checksum of every file but receipts and plans, which hold times and places, logs, and what the system keeps."""
    left_out = {"receipts", "logs"}
    found = [path for path in sorted(output.rglob("*")) if path.is_file() and not left_out & set(path.relative_to(output).parts)]
    found = [path for path in found if path.name != "plan.json" and not path.name.startswith(".")]
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def told(output: Path, planted: dict[str, str]) -> str:
    """Say in a line what a search found."""
    rows = pq.read_table(output / "matches.parquet", columns=["url", "item_id", "counted", "variant"]).to_pylist()
    found = {row["url"] for row in rows if row["counted"]}
    right = {row["url"] for row in rows if row["counted"] and row["item_id"] == planted.get(row["url"])}
    return f"{len(found & set(planted))} of {len(planted)} leaks found ({len(right)} as the item that it is), {len(found - set(planted))} other documents"


def main() -> None:
    """Make the corpus, search it twice, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=Path, nargs="+", required=True)
    parser.add_argument("--benchmark", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--leaks", type=int, default=500)
    parser.add_argument("--shards", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.benchmark, folder = arguments.benchmark.resolve(), arguments.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    planted = write_corpus(arguments, folder)
    (folder / "workflows").mkdir()
    (folder / "workflows/hosts.yaml").write_text(WORKFLOW)
    subprocess.run(
        [sys.executable, "-m", "curate.cli", "run", "workflows/hosts.yaml", "--workers", str(arguments.workers), "--quiet"],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    began = time.monotonic()
    finish(search(arguments, folder, folder / "whole"))
    print(f"undisturbed: {told(folder / 'whole', planted)}; {time.monotonic() - began:.0f} s", flush=True)
    done = kill_half_way(search(arguments, folder, folder / "killed"), folder / "killed", arguments.shards)
    print(f"killed with SIGKILL after {done} of {arguments.shards} shards", flush=True)
    finish(search(arguments, folder, folder / "killed"))
    print(f"resumed:     {told(folder / 'killed', planted)}")
    expected, found = data(folder / "whole"), data(folder / "killed")
    different = sorted(name for name in set(expected) | set(found) if expected.get(name) != found.get(name))
    print(f"{len(found)} files of data, {len(different)} differ{': ' + ', '.join(different[:10]) if different else ''}")
    raise SystemExit(1 if different else 0)


if __name__ == "__main__":
    main()
