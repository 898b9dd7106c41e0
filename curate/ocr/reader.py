"""Read PDFs in a process of their own: the parent's side. `read_pdf(data, options)` is all that others need.

One worker reads many PDFs. Where it dies (time, memory, a crash) or is killed here (resident size, wall clock), the page at fault becomes a gap
with its reason and a new worker goes on with the next page; a death that an earlier document may have caused is tried once more in
a fresh worker, so that what comes out does not depend on what was read before. Only a PDF that cannot be opened at all, or of which every
page is lost, is an error.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import msgspec

from curate.errors import CurateError, MissingExtra
from curate.ocr import layout, messages
from curate.ocr.engines import WALL_PER_CPU, resolve_engine
from curate.ocr.messages import PageRead
from curate.ocr.worker import stand_in
from curate.specs.ocr import Limits, Ocr

WATCH_SECONDS = 0.25
MAX_DEATHS = 8  # per PDF; the pages after that are a gap
PAGE_BREAK = "\n\n"


class PdfResult(msgspec.Struct):
    """What was read. `pages` has one entry per page: page (from 1), route, reasons, characters, start and end in `text`, furniture
    (lines removed), and where something was read engine, engine_version, and for OCR confidence (0–1) and rotation (degrees)."""

    text: str
    pages: list[dict[str, Any]]
    metadata: dict[str, Any]  # title, author, producer, creator, created, pages, encrypted, repaired
    error: str | None = None  # not a PDF, encrypted, broken: ..., empty file, no pages, exceeded 60 s, exceeded memory, crashed (signal 11)


class WorkerDied(Exception):
    """The worker ended. `reason` is a gap's reason, `error` the words for a user."""

    def __init__(self, reason: str, error: str) -> None:
        super().__init__(error)
        self.reason, self.error = reason, error


class PdfReader:
    """A worker, started when first needed. A context manager; not for use by several threads at once."""

    def __init__(self) -> None:
        self.beat: Callable[[], None] = lambda: None  # called while the worker works, within its limits
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._buffer = bytearray()
        self._pages_read = 0

    def __enter__(self) -> PdfReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, data: bytes, options: Ocr) -> PdfResult:
        """Read one PDF. Raises CurateError where no worker can be started at all, or the engine is not installed or does not start."""
        options = msgspec.structs.replace(options, engine=resolve_engine(options))
        return _Reading(self, data, options).run()

    def close(self) -> None:
        """End the worker."""
        process, self._process = self._process, None
        if process is None:
            return
        _kill(process)
        for pipe in (process.stdin, process.stdout, self._stderr):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was not flushed to a dead worker
                    continue

    @property
    def is_fresh(self) -> bool:
        """Whether the worker has read nothing yet."""
        return self._process is None or self._pages_read == 0

    def send(self, request: messages.Request) -> None:
        """Hand a request to the worker. Raises WorkerDied."""
        process = self._started()
        assert process.stdin is not None
        try:
            messages.write_frame(process.stdin, messages.encode(request))
        except BrokenPipeError:
            raise self._death(request.options.limits, "") from None

    def receive(self, limits: Limits) -> messages.Message:
        """Wait for the worker's next message. Raises WorkerDied, after killing it where it broke a limit."""
        process = self._started()
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        deadline = time.monotonic() + WALL_PER_CPU * limits.max_page_seconds
        while (frame := self._next_frame()) is None:
            self.beat()
            if select.select([pipe], [], [], WATCH_SECONDS)[0]:
                received = os.read(pipe, 1 << 20)
                if not received:
                    raise self._death(limits, "")
                self._buffer += received
            elif resident_megabytes(process.pid) > limits.max_megabytes:
                raise self._death(limits, "too_much_memory")
            elif time.monotonic() > deadline:
                raise self._death(limits, "too_slow")
        message: messages.Message = messages.decode_message(frame)
        self._pages_read += isinstance(message, PageRead)
        return message

    def _next_frame(self) -> bytes | None:
        size = int.from_bytes(self._buffer[: messages.HEADER_BYTES], "big")
        end = messages.HEADER_BYTES + size
        if len(self._buffer) < max(end, messages.HEADER_BYTES + 1):
            return None
        frame = bytes(self._buffer[messages.HEADER_BYTES : end])
        del self._buffer[:end]
        return frame

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "curate.ocr.worker", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=os.environ | _ONE_THREAD | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                start_new_session=True,  # Ctrl-C is the parent's; and its children can be killed with it
            )
            self._buffer, self._pages_read = bytearray(), 0
        return self._process

    def _death(self, limits: Limits, broke: str) -> WorkerDied:
        """End the worker, and say why it died: `broke` is the limit that it was killed for, or empty."""
        process = self._started()
        if broke:
            _kill(process)
        code = process.wait()
        said = self._last_words()
        self.close()
        if broke == "too_slow" or code == -signal.SIGXCPU:
            return WorkerDied("too_slow", f"exceeded {limits.max_page_seconds} s")
        if broke == "too_much_memory" or code == messages.EXIT_MEMORY:
            return WorkerDied("too_much_memory", "exceeded memory")
        if code < 0:
            return WorkerDied("crashed", f"crashed (signal {-code})")
        if self._pages_read == 0 and ("ModuleNotFoundError" in said or "ImportError" in said):
            raise CurateError("the process that reads PDFs does not start", hint=said)
        return WorkerDied("crashed", f"crashed (exit code {code})")

    def _last_words(self) -> str:
        assert self._stderr is not None
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - 2000))
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""


class _Reading:
    """One PDF on its way through workers that may die."""

    def __init__(self, reader: PdfReader, data: bytes, options: Ocr) -> None:
        self.reader, self.data, self.options = reader, data, options
        self.opened: messages.Opened | None = None
        self.pages: list[PageRead] = []
        self.seconds = 0.0
        self.lost: list[str] = []  # a user's words for every page that was lost with its worker
        self.begun: messages.OcrBegun | None = None

    def run(self) -> PdfResult:
        retried = -1  # the page that was already tried again in a fresh worker
        for _ in range(MAX_DEATHS):
            start, fresh = len(self.pages), self.reader.is_fresh
            try:
                error = self._converse(start)
            except WorkerDied as death:
                page = len(self.pages)
                if death.reason != "too_slow" and retried != page and not (fresh and page == start):
                    retried = page
                    continue
                if self.opened is None:
                    return PdfResult("", [], {}, death.error)
                self._lose(page, death)
                if len(self.pages) < min(self.opened.num_pages, self.options.limits.max_pages):
                    continue
                error = None
            return PdfResult("", [], {}, error) if error else self._result("over_time_limit")
        return self._result("gave_up") if self.opened else PdfResult("", [], {}, "crashed too often")

    def _converse(self, start: int) -> str | None:
        """Have the worker read from page `start` on. Returns an error where the PDF cannot be opened."""
        self.begun = None
        self.reader.send(messages.Request(self.data, self.options, start, self.seconds))
        while True:
            message = self.reader.receive(self.options.limits)
            if isinstance(message, messages.Failed):
                return message.error
            if isinstance(message, messages.Opened):
                self.opened = message
            elif isinstance(message, messages.OcrBegun):
                self.begun = message
            elif isinstance(message, messages.EngineFailed):
                if self.reader.is_fresh:
                    raise _broken(self.options.engine, message.error)
                self.reader.close()  # what it has read may be to blame, by the memory that it took
                raise WorkerDied("crashed", message.error)
            elif isinstance(message, PageRead):
                self.pages.append(message)
                self.seconds += message.seconds
            else:
                return None

    def _lose(self, page: int, death: WorkerDied) -> None:
        """Put what is left of a page that killed its worker."""
        self.lost.append(death.error)
        if death.reason == "too_slow":
            self.seconds += self.options.limits.max_page_seconds
        known = self.begun and self.begun.fallback
        self.pages.append(stand_in(known, death.reason) if known and known.page == page else PageRead(page, "gap", [death.reason]))

    def _result(self, rest: str) -> PdfResult:
        """Put the pages together; those that were never reached are gaps, over the page limit or because of `rest`."""
        assert self.opened is not None
        limit = self.options.limits.max_pages
        pages = self.pages + [PageRead(n, "gap", ["over_page_limit" if n >= limit else rest]) for n in range(len(self.pages), self.opened.num_pages)]
        text, entries = assemble(pages, self.options.furniture == "remove")
        gaps = [page for page in pages if page.route == "gap"]
        lost = bool(gaps) and all(page.route in ("gap", "blank") for page in pages)
        error = (self.lost[0] if self.lost else f"no page could be read: {gaps[0].reasons[-1]}") if lost else None
        return PdfResult("" if error else text, entries, self.opened.metadata, error)


def assemble(pages: list[PageRead], remove_furniture: bool) -> tuple[str, list[dict[str, Any]]]:
    """Return the text of a document and the provenance of its pages."""
    furniture = layout.find_furniture([page.lines for page in pages], [page.height for page in pages]) if remove_furniture else [set() for _ in pages]
    parts: list[str] = []
    entries: list[dict[str, Any]] = []
    length = 0
    for page, removed in zip(pages, furniture, strict=True):
        text = layout.page_text([line for i, line in enumerate(page.lines) if i not in removed])
        if text and parts:
            length += len(PAGE_BREAK)
        entry: dict[str, Any] = {"page": page.page + 1, "route": page.route, "reasons": page.reasons}
        entry |= {"characters": len(text), "start": length, "end": length + len(text), "furniture": len(removed)}
        if page.engine and page.route in ("text", "ocr"):
            entry |= {"engine": page.engine, "engine_version": page.engine_version}
        if page.route == "ocr":
            entry |= {"confidence": page.confidence, "rotation": page.rotation}
        entries.append(entry)
        length += len(text)
        if text:
            parts.append(text)
    return PAGE_BREAK.join(parts), entries


def read_pdf(data: bytes, options: Ocr, beat: Callable[[], None] | None = None) -> PdfResult:
    """Read one PDF with this process's own worker, which is started when first needed and ends with the process.

    `beat` is called about four times a second while the worker works within its limits of time.
    """
    reader = _readers.get(os.getpid())
    if reader is None:
        reader = _readers[os.getpid()] = PdfReader()
        atexit.register(reader.close)
    reader.beat = beat or (lambda: None)
    return reader.read(data, options)


def _broken(engine: str, error: str) -> MissingExtra:
    hint = "mend its installation, or name another engine in the OCR spec; the same command goes on from here"
    return MissingExtra(f"the OCR engine {engine} does not start: {error}", hint=hint)


def resident_megabytes(pid: int) -> float:
    """Return the resident size of a process, 0 where it is gone."""
    try:
        statm = Path(f"/proc/{pid}/statm")
        if statm.exists():
            return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        found = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, timeout=10, check=False)
        return int(found.stdout.strip() or 0) / 1024
    except (OSError, ValueError, IndexError):
        return 0.0


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker and the programs that it runs."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.poll()
    process.wait()


_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_THREAD_LIMIT": "1"}
_readers: dict[int, PdfReader] = {}  # by process: a forked child must not talk to its parent's worker
