"""The report of a run: one self-contained HTML file, written from the files that the stages left.

No script, no font, no request: a content security policy forbids them, so crawled text can only ever be text, and the file can be
mailed and opened in ten years. The price: charts do not react to the mouse, beyond the titles that browsers show.
"""

from __future__ import annotations

import os
from pathlib import Path

from curate import __version__


def write_report(run: Path, output: Path | None = None) -> Path:
    """Write the report of the run in folder `run` to `output` (default: RUN/report.html); return where it is."""
    import jinja2

    from curate.report import charts
    from curate.report.collect import collect

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("curate.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=charts.count, short=charts.short, percent=charts.percent, number=charts.number, signed=charts.signed, visible=charts.visible
    )
    page = environment.get_template("report.html").render(version=__version__, charts=charts, **collect(run))
    path = output or run / "report.html"
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(page, encoding="utf-8")
    os.replace(temporary, path)
    return path
