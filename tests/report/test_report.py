"""The report: what is crawled stays text, what is missing is left out, and a real browser shows it."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from curate.engine import Context, Inline
from curate.report import write_report
from curate.report.charts import Axes, short, ticks
from curate.workflow import Run

HOSTILE = "<script>document.title='owned'</script> \"quoted\" </pre><img src=x onerror=alert(1)> \x1b[31m\u202egnirts"
SPEC = """\
name: hostile
description: "<b>bold</b>"
sources:
  web:
    - ingest: {jsonl: data/*.jsonl}
    - annotate: [gopher]
    - drop: {too_short: gopher.words < 50}
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows/hostile.yaml").write_text(SPEC)
    (tmp_path / "data").mkdir()
    rows = [{"text": f"{HOSTILE} {i}", "url": f"https://example.org/?q=<script>{i}</script>"} for i in range(5)]
    rows += [{"text": "the people of the town have to go " * 10}]
    (tmp_path / "data/a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Run(tmp_path / "workflows/hostile.yaml", Context(Inline()), lambda line: None)()
    return tmp_path / "runs/hostile"


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        assert not any(value and re.match(r"\s*(?:https?:|javascript:|//)", value) for name, value in attrs if name in ("src", "href"))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_crawled_text_stays_text(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert tags.seen.isdisjoint({"script", "img", "iframe", "object", "link"})
    text = "".join(tags.text)
    assert "<script>document.title='owned'</script>" in text
    assert "<b>bold</b>" in text
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_the_report_shows_the_funnel_and_leaves_out_what_there_is_not(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "−5 too_short" in page
    assert 'id="mix"' not in page
    assert 'id="decontamination"' not in page


def test_the_report_is_the_same_when_it_is_written_again(run: Path, tmp_path: Path) -> None:
    assert write_report(run, tmp_path / "again.html").read_bytes() == (run / "report.html").read_bytes()


def browser() -> str | None:
    return next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


@pytest.mark.skipif(browser() is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_real_browser_shows_it_without_errors_or_sideways_scrolling(run: Path, tmp_path: Path, width: int) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    # The probe is the only script, allowed for this copy alone; it writes what the browser measured into the document.
    probe = "<script>document.body.dataset.wide = document.documentElement.scrollWidth; document.body.dataset.name = document.title</script>"
    copy = tmp_path / "probe.html"
    copy.write_text(page.replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'").replace("</body>", probe + "</body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--enable-logging=stderr", "--v=0"]
    command = [str(browser()), *flags, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", "--dump-dom", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    assert "CONSOLE" not in done.stderr
    assert 'data-name="hostile · curate"' in done.stdout, "a crawled script ran"
    measured = re.search(r'data-wide="(\d+)"', done.stdout)
    assert measured is not None
    assert int(measured[1]) <= max(width, 500)  # headless Chromium makes no window narrower than 500 pixels


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(2.31, 2.36) == [2.31, 2.32, 2.33, 2.34, 2.35, 2.36]
    assert ticks(3, 3) == [3]


def test_numbers_are_short() -> None:
    assert [short(v) for v in (0, 12, 1234, 2.5e6, 3e12)] == ["0", "12", "1.23k", "2.5M", "3T"]


def test_charts_escape_their_titles() -> None:
    axes = Axes((0, 1), (0, 1), ("<x>", "y"), "<title>")
    axes.dot(0.5, 0.5, "<script>")
    assert "<script>" not in axes.svg()
    assert "&lt;script&gt;" in axes.svg()
