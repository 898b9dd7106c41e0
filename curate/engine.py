"""Run the tasks of a plan: the local engine, and what every engine shares (`complete`).

An engine is anything with `run(jobs, done)`. All of them call curate.tasks.run_task, so the bytes that come out do not
depend on which one it was. The local engine keeps a few worker processes of its own, rather than a process pool: a pool that
loses one process loses everything in flight, and cannot tell whose fault it was. Here a dead worker costs its own task, its
last position says which record it was at, and a record that kills its process twice is quarantined.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec

import curate.errors
from curate import __version__
from curate.corpus import Corpus, Manifest, have_sizes, read_manifest, write_json
from curate.errors import BudgetError, CurateError, InputError
from curate.ledger import Ledger, check_budget, total
from curate.specs.workflow import Budget
from curate.strangers import decoded, refuse_strangers, remove_strangers
from curate.tasks import BETWEEN, WHOLE, Plan, Receipt, Suspects, Task, finished, hash_of, read_receipt, receipt_path, relocatable, run_task
from curate.worker import BEATS, POSITION, WATCH_BYTES

HANG_SECONDS = 1800  # a worker that stays on one record for so long, without a beat, is stopped, as if the record had killed it
MAX_DEATHS = 4  # of one task, beyond those that a record has answered for
THREAD_VARIABLES = [f"{library}_NUM_THREADS" for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "NUMBA")]


class TaskError(CurateError):
    """A task failed for a reason that no single record answers for."""


Job = tuple[Plan, int]  # one task of a plan, which is stored as plan.json in its folder


class Engine(Protocol):
    """Something that runs tasks."""

    def run(self, jobs: list[Job], done: Callable[[Plan, Receipt], None]) -> None:
        """Run `jobs`, in any order; call `done` for each."""

    def close(self) -> None:
        """Let go of processes and connections."""


class Observer(Protocol):
    """Whoever shows progress."""

    def started(self, plan: Plan, source: str, num_tasks: int, num_done: int) -> None:
        """A stage begins."""

    def advanced(self, plan: Plan, receipt: Receipt) -> None:
        """One of its tasks is done."""

    def completed(self, manifest: Manifest, skipped: bool) -> None:
        """It is complete; `skipped`: it was complete before."""


class Silent:
    """The observer that shows nothing."""

    def started(self, plan: Plan, source: str, num_tasks: int, num_done: int) -> None:
        """Show nothing."""
        return

    def advanced(self, plan: Plan, receipt: Receipt) -> None:
        """Show nothing."""
        return

    def completed(self, manifest: Manifest, skipped: bool) -> None:
        """Show nothing."""
        return


class Context(msgspec.Struct):
    """How to run stages: none of this changes what comes out."""

    engine: Engine
    observer: Observer = msgspec.field(default_factory=Silent)
    budget: Budget = msgspec.field(default_factory=Budget)
    retry_failed: bool = False  # do tasks with quarantined documents again


class Work(msgspec.Struct, frozen=True):
    """What a stage's author says of one task: its inputs and the checksums that stand for their content."""

    name: str
    inputs: list[str]
    checksums: list[str]
    options: dict[str, Any] = {}
    rows: int | None = None
    seen: list[tuple[int, int]] = []


def shard_work(corpus: Corpus, **options: Any) -> list[Work]:
    """Return one piece of work per shard of `corpus`; the input is the corpus folder."""
    return [Work(name, [str(corpus.folder)], checksums(corpus, name), options, shard.rows) for name, shard in corpus.shards.items()]


def checksums(corpus: Corpus, shard: str) -> list[str]:
    """Return the checksums of a shard and of all that its view is joined from."""
    base = corpus.base
    return [corpus.shards[shard].sha256, *(checksums(base, shard) if base else [])]


def make_plan(stage: str, function: str, folder: Path, options: dict[str, Any], code: dict[str, str], work: list[Work]) -> Plan:
    """Return the plan whose task keys cover the function, its code, the options and the content of the inputs.

    Paths among the options count relative to `folder`, so that a project that was moved is not run again.
    """
    told = relocatable(options, folder)
    tasks = []
    for one in work:
        key = hash_of(stage, function, told, code, one.name, one.checksums, relocatable(one.options, folder))
        tasks.append(Task(one.name, one.inputs, key, one.options, one.rows, one.seen))
    names = [task.name for task in tasks]
    if len(set(names)) != len(names):
        raise InputError(f"two inputs would write the same shard of {stage}", where=str(folder))
    return Plan(stage, function, str(folder), options, tasks)


class StagePlan(msgspec.Struct, frozen=True):
    """A plan, and what its manifest says beside what its tasks did."""

    plan: Plan
    source: str
    code: dict[str, str]
    base: Path | None = None  # the corpus that the plan's annotations belong to

    @property
    def folder(self) -> Path:
        """The folder that the plan writes."""
        return Path(self.plan.folder)

    @property
    def key(self) -> str:
        """What the whole stage depends on."""
        return hash_of([task.key for task in self.plan.tasks], os.path.relpath(self.base, self.folder) if self.base else None)


def complete(plan: Plan, context: Context, *, source: str, code: dict[str, str], base: Path | None = None) -> Manifest:
    """Bring the folder of one plan up to date and return its manifest; see `complete_all`."""
    return complete_all([StagePlan(plan, source, code, base)], context)[0]


def complete_all(stages: list[StagePlan], context: Context) -> list[Manifest]:
    """Bring the folders of independent plans up to date, their tasks side by side, and return their manifests.

    This is the one entrance to all engines. Nothing is done for a stage whose manifest has the plan's key and whose files are
    there. Else the tasks without a matching receipt run, and where too many documents failed before, those with failed ones; the
    ledger and the error budget are checked; what belongs to no task any more is removed; the manifest comes last.
    """
    manifests = [_complete_already(stage, context) for stage in stages]
    jobs: list[Job] = []
    for stage, manifest in zip(stages, manifests, strict=True):
        if manifest is None:
            plan = stage.plan
            refuse_strangers(stage.folder, plan.stage, stage.source)
            stage.folder.mkdir(parents=True, exist_ok=True)
            (stage.folder / "manifest.json").unlink(missing_ok=True)
            write_json(stage.folder / "plan.json", plan)
            done = _still_done(stage, context)
            todo = [(plan, i) for i, task in enumerate(plan.tasks) if task.name not in done]
            context.observer.started(plan, stage.source, len(plan.tasks), len(plan.tasks) - len(todo))
            jobs += todo
        elif decoded(stage.folder / "plan.json", Plan) is None:  # somebody lost it, and `curate explain` reads it
            write_json(stage.folder / "plan.json", stage.plan)
    if jobs:
        context.engine.run(jobs, context.observer.advanced)
    result = []
    for stage, manifest in zip(stages, manifests, strict=True):
        fresh = manifest or _conclude(stage)
        check_budget(fresh.ledger, context.budget, f"{stage.source}/{stage.folder.name}", str(stage.folder / "errors"))
        if manifest is None:
            write_json(stage.folder / "manifest.json", fresh)
        context.observer.completed(fresh, manifest is not None)
        result.append(fresh)
    return result


def _conclude(stage: StagePlan) -> Manifest:
    """Add up the receipts of a stage whose tasks are all done, and clean its folder."""
    plan, folder = stage.plan, stage.folder
    receipts = []
    for task in plan.tasks:
        receipt = finished(folder, task)
        if receipt is None:
            raise TaskError("the engine returned, but this task left no receipt", where=f"{folder}, task {task.name}")
        receipts.append(receipt)
    manifest = Manifest(
        key=stage.key,
        stage=plan.stage,
        source=stage.source,
        shards=[receipt.shard for receipt in receipts if receipt.shard is not None],
        ledger=total(receipt.ledger for receipt in receipts),
        spec=relocatable(plan.options, folder),
        schema=_common_schema(receipts, folder),
        base=os.path.relpath(stage.base, folder) if stage.base else None,
        files={name: checksum for receipt in receipts for name, checksum in receipt.files.items()},
        sizes={name: size for receipt in receipts for name, size in receipt.sizes.items()},
        ledgers={receipt.name: receipt.ledger for receipt in receipts},
        notes={receipt.name: receipt.notes for receipt in receipts if receipt.notes},
        provenance={"curate": __version__, **stage.code},
    )
    remove_strangers(folder, manifest, {task.name for task in plan.tasks})
    return manifest


def _complete_already(stage: StagePlan, context: Context) -> Manifest | None:
    folder = stage.folder
    if not folder.is_dir():
        return None
    try:
        manifest = read_manifest(folder)
    except InputError:
        return None
    if manifest.key != stage.key or _must_retry(manifest.ledger, context):
        return None
    sizes = manifest.sizes | {f"{shard.name}.parquet": shard.bytes for shard in manifest.shards}
    return manifest if have_sizes(folder, [*sizes, *manifest.files], sizes) else None


def _must_retry(ledger: Ledger, context: Context) -> bool:
    """Tell whether failed documents are to be tried again: on demand, or where they stopped the stage and the cause may be mended."""
    try:
        check_budget(ledger, context.budget, "", "")
    except BudgetError:
        return True
    return context.retry_failed and ledger.errored > 0


def _still_done(stage: StagePlan, context: Context) -> set[str]:
    """Return the names of the tasks that need not run. A receipt that counts no more loses its key, and keeps the list of its files."""
    done = {task.name: receipt for task in stage.plan.tasks if (receipt := finished(stage.folder, task))}
    # A part of the stage says nothing of the budget: the first shards may be the worst.
    if context.retry_failed or (len(done) == len(stage.plan.tasks) and _must_retry(total(r.ledger for r in done.values()), context)):
        for name in [name for name, receipt in done.items() if receipt.ledger.errored]:
            write_json(receipt_path(stage.folder, name), msgspec.structs.replace(done.pop(name), key=""))
    return set(done)


def _common_schema(receipts: list[Receipt], folder: Path) -> list[str]:
    schemas = {tuple(receipt.schema) for receipt in receipts if receipt.schema}
    if len(schemas) > 1:
        a, b = sorted(schemas)[:2]
        raise TaskError(f"its shards differ in schema: {sorted(set(a) ^ set(b))}", where=str(folder))
    return list(schemas.pop()) if schemas else []


class Inline:
    """Run tasks in this process, one after another: for tests and debuggers. A record that kills its process kills this one."""

    def run(self, jobs: list[Job], done: Callable[[Plan, Receipt], None]) -> None:
        """Run the jobs in order."""
        for plan, i in jobs:
            done(plan, run_task(plan, i))

    def close(self) -> None:
        """Nothing to let go of."""
        return


class _Worker:
    """One worker process, its pipes, and the position that it last reported."""

    def __init__(self, number: int, scratch: Path, log: Path) -> None:
        self.job: int | None = None
        self.hung = False  # and was stopped for it
        self.moved = (time.monotonic(), (-1, -1, 0))
        path = scratch / f"watch-{number}"
        path.write_bytes(POSITION.pack(-1, -1) + BEATS.pack(0))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), WATCH_BYTES)
        self.log = log
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1"), "PYTHONHASHSEED": "0", "TOKENIZERS_PARALLELISM": "false"}
        # A worker finds modules where this process does, and nowhere else: not in the folder that the command happens to run in.
        environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
        with log.open("ab") as stderr:
            self._log_start = stderr.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "curate.worker", str(path), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def position(self) -> tuple[int, int]:
        batch, row = POSITION.unpack_from(self._map, 0)
        return batch, row

    def ask(self, number: int, job: Job, suspects: Suspects) -> None:
        self.job, self.moved = number, (time.monotonic(), (-1, -1, 0))
        POSITION.pack_into(self._map, 0, -1, -1)
        task = job[0].tasks[job[1]]
        request = {"plan": f"{job[0].folder}/plan.json", "key": task.key, "seen": task.seen, "task": job[1], "suspects": suspects}
        try:
            self.stdin.write(msgspec.json.encode(request) + b"\n")
            self.stdin.flush()
        except BrokenPipeError:
            return  # it is dead, which the end of its output will tell

    def hangs(self) -> bool:
        now, sign = time.monotonic(), (*self.position(), *BEATS.unpack_from(self._map, POSITION.size))
        if sign != self.moved[1] or sign[0] < 0:
            self.moved = (now, sign)
        return now - self.moved[0] > HANG_SECONDS

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.stdin, self.stdout):
            with contextlib.suppress(OSError):  # what was not sent cannot be flushed to a dead process
                pipe.close()

    def last_words(self) -> str:
        """Return the end of what this worker wrote to its log."""
        with self.log.open("rb") as file:
            file.seek(max(self._log_start, self.log.stat().st_size - 2000))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
        return "\n".join(lines[-5:])


class Local:
    """The local engine: `workers` single-threaded processes that live as long as the run."""

    def __init__(self, workers: int, logs: Path) -> None:
        self._limit, self._logs = workers, logs
        self._scratch = tempfile.TemporaryDirectory(prefix="curate-")
        self._workers: list[_Worker] = []
        self._started = 0

    def run(self, jobs: list[Job], done: Callable[[Plan, Receipt], None]) -> None:
        """Run `jobs`; raises what a task raised, after the other running tasks were stopped."""
        state = _Attempts(jobs)
        waiting = deque(range(len(jobs)))
        running = 0
        with selectors.DefaultSelector() as selector:
            for worker in self._workers:
                selector.register(worker.stdout, selectors.EVENT_READ, worker)
            try:
                while waiting or running:
                    for worker in self._idle(len(waiting), selector):
                        j = waiting.popleft()
                        worker.ask(j, jobs[j], state.suspects(j))
                        running += 1
                    for event, _ in selector.select(timeout=1.0):
                        j = event.data.job
                        running -= j is not None
                        if not self._answer(event.data, state, selector, done) and j is not None:
                            waiting.appendleft(j)
                    for worker in self._workers:
                        if worker.job is not None and worker.hangs():
                            worker.hung = True
                            worker.process.kill()
            except BaseException:
                self.close()
                raise

    def _answer(self, worker: _Worker, state: _Attempts, selector: selectors.BaseSelector, done: Callable[[Plan, Receipt], None]) -> bool:
        """Take one answer, or the death, of `worker`; return whether its job is done."""
        j, line = worker.job, worker.stdout.readline()
        if not line or j is None:
            selector.unregister(worker.stdout)
            self._workers.remove(worker)
            worker.stop()
            if j is not None:
                state.died(j, worker)
            return False
        worker.job = None
        if not state.answered(j, msgspec.json.decode(line), worker.log):
            return False
        plan, i = state.jobs[j]
        receipt = read_receipt(receipt_path(Path(plan.folder), plan.tasks[i].name))
        assert receipt is not None
        done(plan, receipt)
        return True

    def _idle(self, wanted: int, selector: selectors.BaseSelector) -> list[_Worker]:
        idle = [worker for worker in self._workers if worker.job is None]
        while len(idle) < wanted and len(self._workers) < self._limit:
            self._logs.mkdir(parents=True, exist_ok=True)
            worker = _Worker(self._started, Path(self._scratch.name), self._logs / f"worker-{self._started % self._limit}.log")
            self._started += 1
            self._workers.append(worker)
            selector.register(worker.stdout, selectors.EVENT_READ, worker)
            idle.append(worker)
        return idle[:wanted]

    def close(self) -> None:
        """Stop all the workers at once; tasks in flight leave no trace but temporary files."""
        for worker in self._workers:
            worker.stop()
        self._workers = []


class _Attempts:
    """What is known of the tasks that failed or died."""

    def __init__(self, jobs: list[Job]) -> None:
        self.jobs = jobs
        self._places: dict[int, list[tuple[int, int]]] = {}
        self._isolate: dict[int, list[int]] = {}
        self._poison: dict[int, list[tuple[int, int, str]]] = {}
        self._failures: dict[int, int] = {}

    def suspects(self, i: int) -> Suspects:
        return Suspects(self._isolate.get(i, []), self._poison.get(i, []))

    def answered(self, i: int, answer: dict[str, Any], log: Path) -> bool:
        """Return whether task `i` succeeded; raise when it should not be tried again."""
        if answer["ok"]:
            return True
        kind = getattr(curate.errors, answer["kind"], None) if answer["kind"] else None
        if kind is not None:
            raise kind(answer["what"], where=answer["where"], hint=answer["hint"])
        self._failures[i] = self._failures.get(i, 0) + 1
        if self._failures[i] > 1:
            raise TaskError(answer["what"], where=self._where(i), hint=answer["hint"] or f"its traceback is in {log}")
        return False

    def died(self, i: int, worker: _Worker) -> None:
        """Take note of where the worker of task `i` died; raise when no record can answer for it.

        A batch whose worker died twice is taken row by row; a row whose worker died twice is quarantined. A row that does it by
        SIGKILL or SIGTERM needs three deaths: these come from outside more often than from a record.
        """
        (batch, row), how = worker.position(), _how(worker)
        seen = self._places.setdefault(i, [])
        seen.append((batch, row))
        deaths = seen.count((batch, row))
        if batch >= 0 and row == WHOLE and deaths > 1:
            self._isolate.setdefault(i, []).append(batch)
            seen.clear()
        elif batch >= 0 and row >= 0 and deaths > (2 if _from_outside(worker) else 1):
            self._poison.setdefault(i, []).append((batch, row, how))
            seen.clear()
        if len(seen) >= MAX_DEATHS:
            where = f" while reading or writing after record {BETWEEN - row}" if row <= BETWEEN else ""
            hint = worker.last_words() if batch < 0 else ""
            hint = hint or f"the end of its log is in {worker.log}; if the machine ran out of memory, use fewer --workers"
            raise TaskError(f"its worker died {len(seen)} times; the last time it was {how}{where}", where=self._where(i), hint=hint)

    def _where(self, i: int) -> str:
        plan, task = self.jobs[i]
        return f"{plan.folder}, task {plan.tasks[task].name}"


def _how(worker: _Worker) -> str:
    if worker.hung:
        return f"stopped: no progress for {HANG_SECONDS} s"
    code = worker.process.returncode
    if code is not None and code < 0:
        return f"killed its process ({signal.Signals(-code).name})"
    return f"ended its process (exit code {code})"


def _from_outside(worker: _Worker) -> bool:
    return not worker.hung and worker.process.returncode in (-signal.SIGKILL, -signal.SIGTERM)
