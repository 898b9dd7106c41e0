"""What a person sees: progress while a run works, and its funnel at the end.

Bars where there is a terminal, plain lines where there is none. All of it goes to standard error, except what was asked for
(the funnel, tables), which goes to standard output. Nothing here needs color to be understood.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from curate.corpus import Manifest
from curate.errors import CurateError
from curate.funnel import Row
from curate.tasks import Plan, Receipt


def say(line: str) -> None:
    """Print text for the user; control characters in it, which may come from crawled pages, are shown and not sent."""
    print(visible(line), file=sys.stderr, flush=True)


def visible(text: str) -> str:
    """Replace control characters, except for line ends and tabs."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, in the plural unless it is one."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def two_digits(value: float) -> str:
    """Return a number in two digits, whole above ten: `.2g` writes 100 as 1e+02."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def complain(error: CurateError) -> None:
    """Print an error that the user can act on."""
    first, *rest = str(error).splitlines()
    say(f"error: {first}")
    for line in rest:
        say(line)


class Progress:
    """Shows stages as they run: a bar each on a terminal, else a line when one begins to work and when it is complete."""

    def __init__(self, quiet: bool = False) -> None:
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._begun: dict[str, float] = {}
        self._skipped = 0
        self._quiet = quiet

    def __enter__(self) -> Progress:
        if sys.stderr.isatty() and not self._quiet:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bars

            columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn())
            self._bars = Bars(*columns, console=Console(stderr=True), transient=True)
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bars is not None:
            self._bars.stop()
        if self._skipped and not self._quiet:
            say(f"{counted(self._skipped, 'stage')} {'was' if self._skipped == 1 else 'were'} complete already")

    def say(self, line: str) -> None:
        """Print a line without breaking the bars."""
        if self._bars is not None:
            self._bars.console.print(visible(line), markup=False, highlight=False)
        elif not self._quiet:
            say(line)

    def started(self, plan: Plan, source: str, num_tasks: int, num_done: int) -> None:
        """A stage begins."""
        self._begun[plan.folder] = time.monotonic()
        if self._bars is not None:
            self._tasks[plan.folder] = self._bars.add_task(_label(source, plan), total=num_tasks, completed=num_done)

    def advanced(self, plan: Plan, receipt: Receipt) -> None:
        """One of its tasks is done."""
        if self._bars is not None:
            self._bars.advance(self._tasks[plan.folder])

    def completed(self, manifest: Manifest, skipped: bool) -> None:
        """A stage is complete."""
        if skipped:
            self._skipped += 1
            return
        finished = {task.id for task in self._bars.tasks if task.finished} if self._bars is not None else set()
        for folder in [folder for folder, task in self._tasks.items() if task in finished]:
            self._bars.remove_task(self._tasks.pop(folder))
        ledger = manifest.ledger
        parts = [f"{ledger.entered + ledger.created:,} in", f"{ledger.kept:,} kept"]
        if ledger.dropped:
            parts.append(f"{sum(ledger.dropped.values()):,} dropped")
        if ledger.errored:
            parts.append(f"{ledger.errored:,} failed (quarantined)")
        if manifest.base or "text: string" in manifest.schema:  # indexes and signatures have nothing to tell
            self.say(f"  {manifest.source:<12} {manifest.stage:<16} {', '.join(parts)}")


def _label(source: str, plan: Plan) -> str:
    return f"{source} · {plan.stage}"


def print_funnel(rows: list[Row]) -> None:
    """Print the funnel: for each source, each stage and the reasons why documents left."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("documents", justify="right")
    table.add_column("tokens", justify="right")
    table.add_column("")
    source = ""
    for row in rows:
        if row.source != source:
            source = row.source
            table.add_row(f"[bold]{escape(visible(source))}[/bold]", "", "", "")
        stage = escape(row.folder.rpartition("/")[2])
        if not row.complete:
            table.add_row(f"  {stage}", "", "", "not complete")
            continue
        sign = "" if row.exact else "≈"
        created = f"+{row.ledger.created:,} created" if row.ledger.created else ""
        table.add_row(f"  {stage}", f"{row.ledger.kept:,}", f"{sign}{row.kept_tokens:,}", created)
        for reason, count in sorted(row.ledger.dropped.items(), key=lambda item: (-item[1], item[0])):
            table.add_row(f"     {escape(visible(reason))}", f"−{count:,}", f"≈−{row.dropped_tokens.get(reason, 0):,}", "")
        if row.ledger.errored:
            damaged = f"{row.ledger.damaged:,} of unknown size" if row.ledger.damaged else ""
            table.add_row("     failed (quarantined)", f"−{row.ledger.errored:,}", "", damaged)
    Console(width=None if sys.stdout.isatty() else 100, highlight=False).print(table)


def print_table(columns: list[str], rows: list[list[Any]]) -> None:
    """Print a table of plain values; numbers to the right."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(columns):
        numeric = all(isinstance(row[i], (int, float)) for row in rows) and rows
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(f"{v:,}" if isinstance(v, int) else f"{v:.4g}" if isinstance(v, float) else escape(str(v)) for v in row))
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(table)
