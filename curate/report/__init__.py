"""The report of a run: one self-contained HTML file, written from the files that the stages left.

No script, no font, no request: a content security policy forbids them, so crawled text can only ever be text, and the file can be
mailed and opened in ten years. The price: charts do not react to the mouse, beyond the titles that browsers show.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from curate import __version__


def write_report(run: Path, output: Path | None = None) -> Path:
    """Write the report of the run in folder `run` to `output` (default: RUN/report.html); return where it is."""
    from curate.report.collect import collect

    return render("report.html", output or run / "report.html", collect(run))


def write_mix_report(folder: Path) -> Path:
    """Write the report of a finished mix that belongs to no workflow to FOLDER/report.html; return where it is."""
    from curate.report.mixing import mix

    return render("mix_alone.html", folder / "report.html", {"mix": mix(folder)})


def render(template: str, path: Path, values: dict[str, Any]) -> Path:
    """Fill a template and write it to `path`, atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(page(template, values), encoding="utf-8")
    os.replace(temporary, path)
    return path


def page(template: str, values: dict[str, Any]) -> str:
    """Return a template with its values filled in. Equal values give an equal page."""
    import jinja2

    from curate.report import charts

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("curate.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("count", "short", "percent", "number", "signed", "visible")
    environment.filters.update({name: getattr(charts, name) for name in names})
    return environment.get_template(template).render(version=__version__, charts=charts, **values)
