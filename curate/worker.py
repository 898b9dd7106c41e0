"""A worker process: reads one request a line, runs one task, answers one line. Started by curate.engine, never by hand.

It dies with its parent (end of its input, and a signal where the system has one), so a killed run leaves nothing behind. What
libraries print goes to the worker's log, since the pipe carries the protocol.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

if TYPE_CHECKING:
    from curate.tasks import Task

POSITION = struct.Struct("<qq")  # batch, row
BEATS = struct.Struct("<q")  # after it
WATCH_BYTES = POSITION.size + BEATS.size


class FileWatch:
    """A watch that the parent can read after this process is gone: three integers in a shared memory map."""

    def __init__(self, path: Path) -> None:
        self._beats = 0
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), WATCH_BYTES)

    def at(self, batch: int, row: int) -> None:
        """Say that row `row` of batch `batch` comes next."""
        POSITION.pack_into(self._map, 0, batch, row)

    def beat(self) -> None:
        """Say that work goes on at the same place."""
        self._beats += 1
        BEATS.pack_into(self._map, POSITION.size, self._beats)


def die_with_parent(parent: int) -> None:
    """End this process when `parent` ends, however it ends."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _single_threaded() -> None:
    """Keep every library to one thread: parallelism is the engine's, and sums must not depend on a thread count."""
    import pyarrow as pa

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)


def _differs(task: Task, request: dict[str, Any]) -> bool:
    """Tell whether a task of a plan that was read before is not the one that is asked for."""
    return bool(task.key != request["key"] or [list(seen) for seen in task.seen] != request["seen"])


def serve(requests: BinaryIO, answers: BinaryIO, watch: FileWatch) -> None:
    """Answer requests until there are no more."""
    from curate.errors import CurateError
    from curate.tasks import Plan, Suspects, run_task

    plans: dict[str, Plan] = {}
    for line in requests:
        request: dict[str, Any] = msgspec.json.decode(line)
        answer: dict[str, Any]
        try:
            name = request["plan"]
            if name not in plans or _differs(plans[name].tasks[request["task"]], request):
                plans[name] = msgspec.json.decode(Path(name).read_bytes(), type=Plan)
            suspects = msgspec.convert(request["suspects"], Suspects)
            watch.at(-1, -1)
            run_task(plans[name], request["task"], watch, suspects)
            answer = {"ok": True}
        except CurateError as error:
            answer = {"ok": False, "kind": type(error).__name__, "what": error.what, "where": error.where, "hint": error.hint}
        except BaseException as error:
            traceback.print_exc()
            answer = {"ok": False, "kind": "", "what": f"{type(error).__name__}: {error}", "where": "", "hint": ""}
        answers.write(msgspec.json.encode(answer) + b"\n")
        answers.flush()


def main() -> None:
    """Serve on the inherited pipes: requests on standard input, answers on what was standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    die_with_parent(int(sys.argv[2]))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print goes to the log
    _single_threaded()
    serve(sys.stdin.buffer, answers, FileWatch(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
