"""The report: what is crawled stays text, what is missing is left out, and a real browser shows it."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from curate.corpus import Manifest, write_json
from curate.engine import Context, Inline
from curate.ledger import Ledger
from curate.report import write_report
from curate.report.charts import Axes, percent, short, ticks
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


def test_a_dropped_document_is_shown_as_it_was_judged(tmp_path: Path) -> None:
    for name in ("workflows", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "workflows/edited.yaml").write_text(
        "name: edited\nsources:\n  web:\n    - ingest: {jsonl: data/*.jsonl}\n    - edit: [drop_citations]\n"
        "    - annotate: [gopher]\n    - drop: {too_short: gopher.words < 50}\n"
    )
    (tmp_path / "data/a.jsonl").write_text(json.dumps({"text": "Known facts[1][2] here."}))
    Run(tmp_path / "workflows/edited.yaml", Context(Inline()), lambda line: None)()
    page = (tmp_path / "runs/edited/report.html").read_text(encoding="utf-8")
    assert "Known facts here." in page
    assert "facts[1][2]" not in page


def with_steps(run: Path, kind: str, file: str, contents: list[dict[str, Any]]) -> str:
    """Return the report of the run with steps over all sources that left these files."""
    state = json.loads((run / "run.json").read_text())
    for k, content in enumerate(contents, 4):
        state["stages"].append({"source": "web", "kind": kind, "folder": f"web/{k:02d}-{kind}", "key": ""})
        write_json(run / "together" / f"{k:02d}-{kind}" / file, content)
    write_json(run / "run.json", state)
    return write_report(run).read_text(encoding="utf-8")


def test_every_classifier_of_a_run_is_shown(run: Path) -> None:
    measured = {"curve": [], "calibration": [], "auc": 0.9, "auc_interval": [0.8, 1.0], "num_texts": 100}
    records = [{"spec": {"name": name}, "evaluation": measured, "data": {"num_train": 7}} for name in ("first", "second")]
    page = with_steps(run, "classify", "classifier.json", records)
    assert re.findall(r"<h3>(\w+) .*(\d\d-classify)", page) == [("first", "04-classify"), ("second", "05-classify")]


def test_every_decontamination_of_a_run_is_shown(run: Path) -> None:
    lists = {key: [] for key in ("worst", "bad_lines", "duplicate_ids", "probes", "tasks_without_clean_items")}
    mappings = {"benchmarks": {}, "removal": {}, "unscannable": {}, "calibration": {}, "inputs": {"corpora": {}, "settings": {"threshold": 0.5}}}
    summaries = [{**lists, **mappings, "matches": 0, "documents": 1000, "contaminated_documents": n, "meaning": "little"} for n in (11, 22)]
    page = with_steps(run, "decontaminate", "summary.json", summaries)
    assert re.findall(r"(\d+) of 1,000 documents hold items", page) == ["11", "22"]
    assert "<h3>05-decontaminate</h3>" in page


def test_documents_that_a_model_made_were_not_read(run: Path) -> None:
    state = json.loads((run / "run.json").read_text())
    state["stages"].append({"source": "told", "kind": "rephrase", "folder": "told/04-rephrase", "key": ""})
    write_json(run / "run.json", state)
    write_json(run / "told/04-rephrase/manifest.json", Manifest("", "rephrase", "told", [], Ledger(created=3, kept=3), {}))
    page = write_report(run).read_text(encoding="utf-8")
    assert "<dt>documents read</dt><dd>6</dd>" in page
    assert "<dt>made by a model</dt><dd>3</dd>" in page


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


def test_shares_have_a_minus_sign_and_no_exponent() -> None:
    assert [percent(v) for v in (None, 0.0, 0.12345, -0.225, -22.5, 1.0)] == ["–", "0 %", "12.3 %", "−22.5 %", "−2,250 %", "100 %"]


def test_charts_escape_their_titles() -> None:
    axes = Axes((0, 1), (0, 1), ("<x>", "y"), "<title>")
    axes.dot(0.5, 0.5, "<script>")
    assert "<script>" not in axes.svg()
    assert "&lt;script&gt;" in axes.svg()
