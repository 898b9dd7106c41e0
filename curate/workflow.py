"""spec → stages → plan → run: the one place that knows the order of things.

Step k of every source runs side by side, then the steps under `together:` one after another, each over all sources; then the mix.
Folders are numbered by step (`web/02-annotate`, and `together/04-dedup` for what a step over all sources keeps for itself). The run's
`run.json` lists them, so that `status`, `explain` and `report` need nothing but the run.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from curate.corpus import Corpus, Manifest, read_manifest, sha256_of, write_json
from curate.edit import named
from curate.engine import Context, StagePlan, complete_all, make_plan, shard_work
from curate.errors import InputError, SpecError
from curate.filter import block_of
from curate.functions import checked_options, contents_of, make_importable, sources
from curate.functions import find as find_function
from curate.ledger import describe_damage
from curate.lock import locked
from curate.project import Fingerprints, find, resolve, root_of
from curate.specs.load import load_spec, resolved
from curate.specs.workflow import Step, Workflow
from curate.tasks import code_version, hash_of

# Steps over all sources at once: kind → the function that runs them.
TOGETHER = {
    "dedup": "curate.dedup.stage:dedup",
    "classify": "curate.classify.stage:classify",
    "decontaminate": "curate.decontaminate.stage:decontaminate",
    "rephrase": "curate.rephrase.stage:rephrase",
    "tokenize": "curate.tokens.stage:tokenize",
}


class Stage(msgspec.Struct):
    """One stage of a run: a step of one source, or of all together (`source` is then "together")."""

    source: str
    kind: str
    folder: str  # relative to the run
    key: str = ""


class RunState(msgspec.Struct):
    """What `run.json` holds."""

    name: str
    spec_file: str
    spec: dict[str, Any]
    stages: list[Stage] = []
    finished: bool = False
    report: str = ""  # the hash of what report.html shows
    messages: list[str] = []
    checked: dict[str, str] = {}  # the specs that were checked, relative to the project → checksum


class Project(msgspec.Struct, frozen=True):
    """Where a workflow's paths lead."""

    root: Path
    beside: Path  # the folder of the workflow file
    run: Path
    seed: int
    fingerprints: Fingerprints
    workflow: Workflow
    file: Path | None = None  # the workflow's own, as the user names it


class Arguments(msgspec.Struct, frozen=True):
    """What a step over all sources is called with."""

    sources: dict[str, Corpus]
    targets: dict[str, Path]
    scratch: Path
    project: Project
    context: Context
    say: Any  # a function that takes one line for the user


def open_project(path: Path) -> Project:
    """Load the workflow at `path` and find its project, with the Python modules beside its own. Nothing is written."""
    spec = load_spec(path, Workflow)
    make_importable(_functions(spec), path.resolve().parent)
    root = root_of(path)
    run = resolve(spec.run or f"runs/{spec.name}", root, path.parent)
    taken = next((folder for folder in (run, *run.parents) if folder.exists() and not folder.is_dir()), None)
    if taken is not None:
        raise SpecError("is a file, where the folder of the run should be", where=str(taken), hint="name another folder under run:")
    return Project(root, path.resolve().parent, run, spec.seed, Fingerprints(run / ".fingerprints.json"), spec, path)


def _functions(spec: Workflow) -> Iterator[str]:
    """Yield the names of the functions that a workflow calls."""
    if spec.prepare is not None:
        yield spec.prepare.call
    for step in chain(*spec.sources.values(), spec.together):
        if step.kind in ("annotate", "edit"):
            yield from (name for name, _ in named(step.options))
        elif step.kind == "filter":
            yield block_of(step.options)[0]


class Run:
    """A workflow as it runs: the current corpus of each source, and the stages so far."""

    def __init__(self, path: Path, context: Context, say: Any) -> None:
        self.project = open_project(path)
        self.context, self.say = msgspec.structs.replace(context, budget=self.project.workflow.errors), self._tell(say)
        self.current: dict[str, Corpus] = {}
        self.tokens: dict[str, Path] = {}
        self.own: set[Path] = set()  # the folders under together/ of the steps that the workflow has
        self.tokenizer: Path | None = None
        self.state = RunState(self.project.workflow.name, str(path), resolved(self.project.workflow))

    def _tell(self, say: Any) -> Any:
        def tell(line: str) -> None:
            self.state.messages.append(line)
            say(line)

        return tell

    def __call__(self) -> RunState:
        """Bring the run up to date."""
        workflow, run = self.project.workflow, self.project.run
        before = _finished_state(run)
        # Checking compiles every rule; the same specs were checked before.
        if before is None or _ordered(before.spec) != _ordered(self.state.spec) or not before.checked or self._sums(before.checked) != before.checked:
            from curate.check import check_workflow

            files = [self.state.spec_file, *check_workflow(self.project)]
            self.state.checked = self._sums([os.path.relpath(file, self.project.root) for file in files])
        else:
            self.state.checked = before.checked
        with locked(run):
            write_json(run / "run.json", self.state)
            prepare(self.project, self.say)
            for k in range(max(len(steps) for steps in workflow.sources.values())):
                self._wave(k)
            first = max(len(steps) for steps in workflow.sources.values())
            for k, step in enumerate(workflow.together):
                self._together(step, first + k + 1)
            if workflow.mix is not None:
                self._mix(workflow.mix)
            self._remove_stale_stages()
            self._report(before)
        return self.state

    def _sums(self, files: Iterable[str]) -> dict[str, str]:
        paths = {file: self.project.root / file for file in files}
        return {file: sha256_of(path) if path.is_file() else "gone" for file, path in paths.items()}

    def _report(self, before: RunState | None) -> None:
        """Write the report, unless the one that is there shows the same. Killed before its hash is noted, it is written again."""
        from curate.report import write_report

        run = self.project.run
        shown = _shown_by_the_report(run, self.state)
        self.state.finished = True
        if before is None or before.report != shown or not (run / "report.html").is_file():
            write_json(run / "run.json", self.state)
            write_report(run)
        self.state.report = shown
        write_json(run / "run.json", self.state)

    # ── one step of each source, side by side ─────────────────────────────────────────────────────────────────

    def _wave(self, k: int) -> None:
        stages = {}
        for source, steps in self.project.workflow.sources.items():
            if k < len(steps):
                target = self.project.run / source / f"{k + 1:02d}-{steps[k].kind}"
                stages[source] = plan_step(steps[k], self.current.get(source), source, target, self.project)
        self._complete(stages)

    def _complete(self, stages: dict[str, StagePlan]) -> None:
        for source, stage in stages.items():
            self._begin(source, stage.plan.stage, stage.folder)
        manifests = complete_all(list(stages.values()), self.context)
        for (source, stage), manifest in zip(stages.items(), manifests, strict=True):
            self._record(source, stage.plan.stage, stage.folder, manifest)
            self.current[source] = Corpus(stage.folder, manifest)

    def _begin(self, source: str, kind: str, folder: Path) -> None:
        """Note a stage before it runs, so that `curate status` shows what is being worked on."""
        self.state.stages.append(Stage(source, kind, str(folder.relative_to(self.project.run))))
        write_json(self.project.run / "run.json", self.state)

    def _record(self, source: str, kind: str, folder: Path, manifest: Manifest) -> None:
        place = str(folder.relative_to(self.project.run))
        self.state.stages = [stage for stage in self.state.stages if stage.folder != place]
        self.state.stages.append(Stage(source, kind, place, manifest.key))
        write_json(self.project.run / "run.json", self.state)
        entered = manifest.ledger.entered + manifest.ledger.created
        if entered and not manifest.ledger.kept and "text: string" in manifest.schema:
            reasons = ", ".join(manifest.ledger.dropped) or "see errors/"
            self.say(f"warning: {place} keeps none of {entered:,} documents ({reasons})")
        if manifest.ledger.damaged:
            self.say(f"warning: {place}: {describe_damage(manifest.ledger)}, each counted as one; see errors/")

    # ── a step over all sources ───────────────────────────────────────────────────────────────────────────────

    def _together(self, step: Step, number: int) -> None:
        targets = {source: self.project.run / source / f"{number:02d}-{step.kind}" for source in self.current}
        if step.kind not in TOGETHER:
            self._complete({s: plan_step(step, self.current[s], s, targets[s], self.project) for s in self.current})
            return
        scratch = self.project.run / "together" / f"{number:02d}-{step.kind}"
        self.own.add(scratch)
        if step.kind != "rephrase":  # which may find that there is no endpoint, and leaves no stage then
            for source, target in targets.items():
                self._begin(source, step.kind, target)
        module, _, function = TOGETHER[step.kind].partition(":")
        stage = getattr(importlib.import_module(module), function)
        manifests = stage(step.options, Arguments(dict(self.current), targets, scratch, self.project, self.context, self.say))
        if step.kind == "rephrase":
            targets = {source: self.project.run / source / f"{number:02d}-{step.kind}" for source in manifests}
        for source, manifest in manifests.items():
            self._record(source, step.kind, targets[source], manifest)
            if step.kind == "tokenize":
                self.tokens[source] = targets[source]
                self.tokenizer = scratch / "tokenizer.json"
            else:
                self.current[source] = Corpus(targets[source], manifest)

    def _mix(self, name: str) -> None:
        from curate.mix.stage import run_mix

        assert self.tokenizer is not None  # as the spec makes sure
        spec = find("mixes", name, self.project.root, self.project.beside)
        run_mix(spec, self.tokens, self.tokenizer, self.project.run / "mix", self.context, self.say)

    def _remove_stale_stages(self) -> None:
        """Remove the folders of steps that the workflow no longer has: only what an earlier run of it wrote.

        What is rephrased counts as a source, and is gone when this run had no endpoint, which is said; the answers that it was made of
        stay, in together/answers. A source that the workflow no longer has, or has under another name, stays too: that would be hours of work for
        a typing error. But it is said, since queries over all sources count it.
        """
        live, workflow = {stage.folder for stage in self.state.stages}, self.project.workflow
        rephrased = {step.options.into for step in workflow.together if step.kind == "rephrase"}
        sources = {*workflow.sources, *rephrased}
        left = set()
        for plan in sorted(self.project.run.glob("*/[0-9][0-9]-*/plan.json")):
            folder = plan.parent.relative_to(self.project.run)
            if str(folder) in live or folder.parts[0] == "together":
                continue
            if folder.parts[0] not in sources:
                left.add(folder.parent)
                continue
            if folder.parts[0] in rephrased and (plan.parent / "manifest.json").exists():
                why = "no longer a step" if any(Path(place).parts[0] == folder.parts[0] for place in live) else "no endpoint"
                self.say(f"removed {folder}: {why}")
            _remove(plan.parent)
            with contextlib.suppress(OSError):  # it has other stages
                plan.parent.parent.rmdir()
        for folder in sorted(self.project.run.glob("together/[0-9][0-9]-*")):
            # Runs before 2026-11-27 kept answers with the step; they are paid for.
            if folder not in self.own and folder.name[3:] in TOGETHER and not (folder / "answers").exists():
                _remove(folder)
        for folder in sorted(left):
            self.say(f"note: {self.project.run / folder} is no part of this workflow any more; delete it, or queries over all sources count it")


def _remove(folder: Path) -> None:
    """Remove a folder with all that is in it; of a link to one, such as to another disk, the link alone."""
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder)


def _finished_state(run: Path) -> RunState | None:
    """Return the state that an earlier, finished run left in the folder."""
    try:
        state = msgspec.json.decode((run / "run.json").read_bytes(), type=RunState)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return state if state.finished else None


def _ordered(spec: dict[str, Any]) -> str:
    """Return a spec as text in which the order of its keys counts: the first drop rule is the reason that counts."""
    return msgspec.json.encode(spec).decode()


def _shown_by_the_report(run: Path, state: RunState) -> str:
    """Return the hash of all that the report shows: the stages, what they keep for themselves, and the mix with its later phases."""
    together = [read_manifest(path.parent).key for path in sorted((run / "together").rglob("manifest.json"))]
    mix = {path.relative_to(run).as_posix(): sha256_of(path) for name in ("*.json", "phases/*/*.json") for path in sorted((run / "mix").glob(name))}
    # Answers that came late are in no key.
    asked = [sha256_of(run / stage.folder / "manifest.json") for stage in state.stages if stage.kind == "rephrase"]
    return hash_of([stage.key for stage in state.stages], together, mix, asked, _ordered(state.spec), code_version("curate.report"))


def prepare(project: Project, say: Any) -> None:
    """Call the workflow's `prepare` function, unless the folder was filled by the same code with the same options."""
    step = project.workflow.prepare
    if step is None:
        return
    target = resolve(step.into, project.root, project.beside)
    function = find_function(step.call, {}, project.beside, "function")
    options = checked_options(step.call, function, step.options, project.beside)
    code = [*(sha256_of(file) for file in sources(step.call, project.beside)), *contents_of(options, step.options)]
    key = hash_of(step.call, step.options, code)
    marker, begun, old = target / ".prepared.json", target / ".preparing", target.with_name(f".{target.name}.curate-old")
    # Whenever this is killed, either the marker tells the truth, or `.preparing` says that the folder is ours to clear.
    if old.exists():
        shutil.rmtree(old)
    if marker.is_file() and msgspec.json.decode(marker.read_bytes()) == {"key": key}:
        begun.unlink(missing_ok=True)
        return
    if target.exists() and any(target.iterdir()):
        if not marker.is_file() and not begun.is_file():
            raise InputError("is not empty, and was not made by this workflow", where=str(target), hint="choose another folder for prepare.into")
        begun.touch()
        target.rename(old)
        shutil.rmtree(old)
    say(f"preparing {step.into} with {step.call}")
    target.mkdir(parents=True, exist_ok=True)
    begun.touch()
    function(target, **options)
    write_json(marker, {"key": key})
    begun.unlink()


def plan_step(step: Step, corpus: Corpus | None, source: str, target: Path, project: Project) -> StagePlan:
    """Plan a step that works shard by shard."""
    if step.kind == "ingest":
        from curate.ingest.stage import plan as plan_ingest

        return plan_ingest(step.options, source, target, project)
    assert corpus is not None
    if step.kind == "annotate":
        from curate.annotate.stage import plan as plan_annotate

        return plan_annotate(step.options, corpus, source, target, project.beside)
    if step.kind == "drop":
        code = code_version("curate.select", libraries=["duckdb"])
        plan = make_plan("drop", "curate.select:drop_shard", target, {"rules": list(step.options.items())}, code, shard_work(corpus))
        return StagePlan(plan, source, code)
    if step.kind == "edit":
        from curate.edit import plan as plan_edit

        return plan_edit(step.options, corpus, source, target, project.beside)
    if step.kind == "filter":
        from curate.filter import plan as plan_filter

        return plan_filter(step.options, corpus, source, target, project.beside, project.seed)
    raise SpecError(f"'{step.kind}' cannot stand in a source", where=source, hint=f"move '{step.kind}' under together:")
