"""The command `curate`: one verb per function: parse → load spec → one call. No logic, and no heavy import at the top.

Data goes to standard output, everything else to standard error. Exit codes: 0 fine; 1 failed; 2 a spec or the command line is
wrong; 3 an input cannot be used; 4 too many documents failed; 5 the ledger does not balance; 6 an extra is missing; 130 interrupted.
"""

from __future__ import annotations

import argparse
import codecs
import io
import json
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curate import __version__
from curate.errors import CurateError
from curate.verbs import number_of_workers


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    _write_whatever_can_be_written("replace")
    parsed = parser().parse_args(arguments)
    if getattr(parsed, "json", False):
        codecs.register_error("json", _escaped)
        _write_whatever_can_be_written("json")
    try:
        code = int(parsed.verb(parsed) or 0)
        sys.stdout.flush()
        return code
    except CurateError as error:
        return _complain(error)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except SystemExit as error:
        return _complain(CurateError(f"a function that the spec names called sys.exit({error.code!r})", hint="let it return, or raise an exception"))
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            return 0
        named = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return _complain(CurateError(error.strerror or str(error) or type(error).__name__, where=", ".join(named)))


def _write_whatever_can_be_written(otherwise: str) -> None:
    """Let no character end a command that has done its work, because standard output has no UTF-8; standard error escapes them as it is."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=otherwise)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Say in JSON, in ASCII, what an encoding cannot; all that is not ASCII stands in strings there."""
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _complain(error: CurateError) -> int:
    from curate.console import complain

    complain(error)
    return error.exit_code


def _reader_is_gone() -> bool:
    """Return whether nobody reads standard output any more (`| head` for example); then it leads nowhere from now on."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):
        return False
    poll = select.poll()
    poll.register(output, 0)
    gone = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return gone


def parser() -> argparse.ArgumentParser:
    """Return the parser with every verb, its help and an example."""
    top = argparse.ArgumentParser(
        prog="curate",
        description="From raw crawls and PDFs to pre-training data, and how much of each source to use.",
        epilog=_example("curate run workflows/quickstart.yaml"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"curate {__version__}")
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)

    verb = _verb(verbs, "init", init, "copy the shipped specs into a folder, to begin a project of your own", "curate init my-corpus")
    verb.add_argument("folder", type=Path, help="where the project goes; made if it does not exist")

    text = "check a workflow, and every spec that it names, without running anything"
    verb = _verb(verbs, "check", check, text, "curate check workflows/quickstart.yaml")
    verb.add_argument("spec", type=Path, help="a workflow spec")
    verb.add_argument("--resolved", action="store_true", help="print the spec as JSON with every default filled in")

    verb = _verb(verbs, "run", run, "run a workflow, or bring an earlier run of it up to date", "curate run workflows/quickstart.yaml --workers 8")
    verb.add_argument("spec", type=Path, help="a workflow spec")
    workers = "worker processes (default: one per core; 0: none, in this process)"
    verb.add_argument("--workers", type=number_of_workers, default=os.cpu_count() or 1, help=workers)
    verb.add_argument("--retry-failed", action="store_true", help="do the tasks with quarantined documents again, once their cause is mended")
    verb.add_argument("--quiet", action="store_true", help="print the funnel only")

    verb = _verb(verbs, "status", status, "show the funnel of a run, also while it works", "curate status runs/quickstart")
    verb.add_argument("run", type=Path, help="the folder of a run")
    _json(verb)

    text = "show the path of one document through every stage, with scores, rules and margins"
    verb = _verb(verbs, "explain", explain, text, "curate explain runs/quickstart https://example.org/page.html")
    verb.add_argument("run", type=Path, help="the folder of a run")
    verb.add_argument("document", help="an id, its first digits, or a URL")
    _json(verb)

    verb = _verb(verbs, "verify", verify, "recompute checksums and row counts of a run, or of one corpus", "curate verify runs/quickstart")
    verb.add_argument("folder", type=Path, help="the folder of a run or of a corpus")

    verb = _verb(verbs, "report", report, "write the report of a run again: one self-contained HTML file", "curate report runs/quickstart")
    verb.add_argument("run", type=Path, help="the folder of a run")
    verb.add_argument("--output", type=Path, help="the file to write (default: report.html in the run)")

    from curate.verbs import classifier, decontaminate, mix

    decontaminate.add(verbs, _verb)
    mix.add(verbs, _verb)
    classifier.add(verbs, _verb)
    return top


def _verb(verbs: Any, name: str, function: Callable[[Any], int | None], text: str, example: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = verbs.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", epilog=_example(example), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.set_defaults(verb=function)
    return made


def _example(command: str) -> str:
    return f"example:\n  {command}"


def _json(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", help="print the same as JSON, for programs")


def init(arguments: argparse.Namespace) -> None:
    """`curate init FOLDER`."""
    from curate.console import say
    from curate.project import init as init_project

    files = init_project(arguments.folder)
    say(f"wrote {len(files)} specs to {arguments.folder}; next: cd {arguments.folder} && curate run workflows/quickstart.yaml")


def check(arguments: argparse.Namespace) -> None:
    """`curate check SPEC`."""
    from curate.check import as_text, check_workflow
    from curate.console import counted, say
    from curate.specs.load import resolved
    from curate.workflow import open_project

    project = open_project(arguments.spec)
    others = check_workflow(project)
    if arguments.resolved:
        print(as_text(resolved(project.workflow)))
    named = f", and so {'is' if len(others) == 1 else 'are'} {counted(len(others), 'spec')} that it names" if others else ""
    say(f"{arguments.spec} is fine{named}")


def run(arguments: argparse.Namespace) -> None:
    """`curate run SPEC`."""
    from curate.console import Progress, print_funnel, say
    from curate.engine import Context, Inline, Local
    from curate.funnel import funnel
    from curate.workflow import Run, open_project

    project = open_project(arguments.spec)
    folder = project.run
    engine = Local(arguments.workers, folder / "logs") if arguments.workers else Inline()
    try:
        with Progress(arguments.quiet) as progress:
            Run(arguments.spec, Context(engine, progress, retry_failed=arguments.retry_failed), progress.say)()
    finally:
        engine.close()
    print_funnel(funnel(folder))
    for line in _mix_verdicts(folder / "mix") if project.workflow.mix is not None else []:
        print(f"\n{line}")
    say(f"\nreport: {folder / 'report.html'}")


def _mix_verdicts(folder: Path) -> list[str]:
    """Return the verdict of a workflow's mix and those of its later phases, in their order; [] without a mix."""
    from curate.verbs.mix_tables import read_result

    if not (folder / "result.json").is_file():
        return []
    result = read_result(folder)
    return [result["verdict"], *(f"phase {name}\n{phase['verdict']}" for name, phase in result.get("phases", {}).items())]


def status(arguments: argparse.Namespace) -> None:
    """`curate status RUN`."""
    from curate.console import print_funnel, say
    from curate.funnel import as_data, funnel, open_run

    state, rows = open_run(arguments.run), funnel(arguments.run)
    if arguments.json:
        _print_json({"name": state.name, "finished": state.finished, "stages": as_data(rows)})
        return
    print_funnel(rows)
    say("finished" if state.finished else f"not finished: curate run {state.spec_file} goes on from here")


def explain(arguments: argparse.Namespace) -> None:
    """`curate explain RUN DOCUMENT`."""
    import msgspec

    from curate.console import say
    from curate.explain import as_text
    from curate.explain import explain as find

    traces = find(arguments.run, arguments.document, say)
    if arguments.json:
        _print_json(msgspec.to_builtins(traces))
    else:
        print("\n\n".join(as_text(trace) for trace in traces))


def verify(arguments: argparse.Namespace) -> int:
    """`curate verify FOLDER`."""
    from curate.console import counted, say
    from curate.corpus import verify as verify_corpus
    from curate.errors import InputError
    from curate.funnel import open_run

    folder = arguments.folder
    # Also what steps over all sources keep for themselves, which is no stage of any source, and the corpora that a search has cleaned.
    own = {path.parent for path in folder.rglob("manifest.json")}
    if (folder / "run.json").is_file() or folder not in own:
        own |= {folder / stage.folder for stage in open_run(folder).stages}
    folders, wrong = sorted(own), []
    for one in folders:
        try:
            wrong += verify_corpus(one)
        except InputError as error:  # its manifest was never written, or is damaged: the others have theirs
            wrong.append(f"{error.where}: {error.what}")
    for line in wrong:
        print(line)
    say(f"{counted(len(folders), 'folder')} verified: {counted(len(wrong), 'fault') if wrong else 'all is as it was written'}")
    return 1 if wrong else 0


def report(arguments: argparse.Namespace) -> None:
    """`curate report RUN`."""
    from curate.report import write_report

    if arguments.output is not None and not arguments.output.absolute().parent.is_dir():
        raise CurateError("no such folder", where=str(arguments.output.parent), hint="make it first")
    print(write_report(arguments.run, arguments.output))


def _print_json(data: Any) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n")


if __name__ == "__main__":
    sys.exit(main())
