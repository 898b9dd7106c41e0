"""Read one PDF as one record: its text in reading order, and for every page which way it went and why.

The work is done by `curate.ocr` in a process of its own, under the limits of the OCR spec. A PDF that cannot be opened, or of which
no page can be read, is `Unreadable`; one bad page among good ones is a gap in the record's provenance.
`meta` holds `pdf` (title, author, producer, creator, created, pages, encrypted, repaired) and `pages` (one entry per page, as
`curate.ocr.reader.PdfResult` describes them).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from curate.ingest.record import Record, Unreadable
from curate.specs.ocr import Ocr

_DATE = re.compile(r"(?:D:)?(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:(Z)|([+-]\d\d)'?(\d\d)?)?")


def read(path: Path, options: Ocr, beat: Callable[[], None] | None = None) -> Iterator[Record | Unreadable]:
    """Yield the one record of a PDF, or the reason why there is none; `beat` is called all the while, which may be hours.

    Raises OSError where the file is not to be had: no fault of the PDF's.
    """
    from curate.ocr.reader import read_pdf

    size = path.stat().st_size
    if size > options.limits.max_megabytes * 2**20:
        yield Unreadable(0, size, "larger than max_megabytes")
        return
    data = path.read_bytes()
    found = read_pdf(data, options, beat)
    if found.error is not None:
        yield Unreadable(0, len(data), found.error)
        return
    date = iso_date(str(found.metadata.get("created", "")))
    yield Record(0, len(data), found.text, "pdf", date=date, meta={"pdf": found.metadata, "pages": found.pages}, size=len(data))


def iso_date(written: str) -> str | None:
    """Return a PDF's date (`D:20250130152056+01'00'`) as ISO 8601, or None where it is none; what is not said is left out."""
    match = _DATE.match(written)
    if match is None:
        return None
    year, month, day, hour, minute, second, utc, zone, zone_minutes = match.groups()
    date = "-".join(part for part in (year, month, day if month else None) if part)
    if day and hour and minute:
        zone_text = "Z" if utc else f"{zone}:{zone_minutes or '00'}" if zone else ""
        date += f"T{hour}:{minute}:{second or '00'}{zone_text}"
    try:
        datetime.fromisoformat(date if month and day else f"{year}-{month or '01'}-01")
    except ValueError:
        return None
    return date
