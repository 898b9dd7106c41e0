"""The report of a search: evidence marked on both sides, what the settings can find, and hostile text that stays text."""

from __future__ import annotations

import html.parser
import json
import random
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import documents, write_corpus
from test_finding_items import DISGUISES, ITEMS, QUESTIONS, SOLUTION, batch_of, prose

from curate.decontaminate import stage
from curate.decontaminate.evidence import evidence
from curate.decontaminate.index import build_index
from curate.decontaminate.match import MATCHES, scan
from curate.decontaminate.power import Probe, probe, smallest_share
from curate.decontaminate.tally import NUM_PER_KIND, item_table, worst_rows
from curate.engine import Context, Inline
from curate.project import Fingerprints
from curate.specs.workflow import Decontaminate
from curate.workflow import Arguments

HOSTILE = "<script>document.title='owned'</script> \"quoted\" </pre></mark><img src=x onerror=alert(1)> \x1b[31m\u202egnirts {{ 7 * 7 }}"


def marked(part: dict[str, Any], kind: str = "shared") -> list[str]:
    return [part["text"][start:end] for start, end in part[kind]]


def shown(document: str, texts: dict[str, str]) -> dict[str, Any]:
    return evidence({"doc_excerpt": document}, texts)


def test_what_is_shared_is_marked_through_disguises_and_numbers_that_differ_are_kept_apart() -> None:
    item = "Marta sells 14 copper lanterns at the harbor every morning."
    found = shown("Well: **M\u0430rta** sells 15 cop\u200bper LANTERNS at the harbor every morning, she said.", {"question": item, "answer": "14"})
    assert marked(found["document"], "changed") == ["15"]
    assert marked(found["item"][0], "changed") == ["14"]
    (first, second) = marked(found["document"])
    assert first.endswith("sells")
    assert second == "cop\u200bper LANTERNS at the harbor every morning"
    assert marked(found["item"][0]) == ["Marta sells", "copper lanterns at the harbor every morning"]
    assert found["item"][1] == {"channel": "answer", "text": "14", "shared": [], "changed": []}


def test_code_is_marked_although_its_names_differ() -> None:
    mine = "for a in range(len(xs)):\n    if xs[a] > best:\n        best = xs[a]\n"
    found = shown("def f():\n" + re.sub(r"\b(a|xs|best)\b", lambda m: "q_" + m[0], mine), {"code": mine})
    assert found["item"][0]["shared"] == [(0, len(mine.rstrip()))]


def test_worst_matches_are_of_every_kind_and_not_of_one() -> None:
    index = build_index(ITEMS)
    matches = scan(batch_of([DISGUISES["verbatim"]] * 9 + [DISGUISES["numbers_changed"], DISGUISES["split"], "clean"]), index)
    kinds = [matches["variant"][row].as_py() for row in worst_rows(matches)]
    assert kinds.count("verbatim") == NUM_PER_KIND
    assert {"numbers_changed", "split"} <= set(kinds)
    assert worst_rows(MATCHES.empty_table()) == []


def test_probes_tell_what_the_very_settings_find() -> None:
    index = build_index(ITEMS)
    probes = probe(index, item_table(MATCHES.empty_table(), index).to_pylist())
    sums = {p.disguise: p for p in probes if p.benchmark == "sums"}
    assert sums["the question alone"].found == sums["the question alone"].tried == 2
    assert sums["numbers changed"].found == 2
    assert sums["first 20% of the question"].found < 2
    assert [p.found for p in probe(index, item_table(MATCHES.empty_table(), index).to_pylist())] == [p.found for p in probes]
    assert not any(p.benchmark == "empty" for p in probes)


def test_the_smallest_share_ends_at_the_first_that_is_missed() -> None:
    shares = {1.0: 100, 0.8: 98, 0.6: 60, 0.4: 97, 0.2: 0}
    probes = [Probe("b", str(share), 100, found, share) for share, found in shares.items()]
    assert smallest_share(probes, "b") == 0.8
    assert smallest_share(probes, "b", 0.5) == 0.4
    assert smallest_share(probes, "other") is None
    assert smallest_share([Probe("b", "x", 10, 9, 1.0)], "b") is None


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search through hostile pages, for hostile items."""
    root = tmp_path_factory.mktemp("search")
    (root / "workflows").mkdir()
    (root / "workflows/benchmarks.yaml").write_text("sums: {file: sums.jsonl}\nempty: {file: empty.jsonl}\n")
    rows = [{"id": HOSTILE, "question": HOSTILE + " " + QUESTIONS[0], "solution": SOLUTION}, {"id": "short", "question": "<b>Why</b>?"}]
    (root / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{<script>\n" + json.dumps(rows[1]) + "\n")
    (root / "empty.jsonl").write_text("")
    rng = random.Random(1)
    texts = [prose(rng, 80) for _ in range(30)] + [
        f"{prose(rng, 40)} {HOSTILE} {QUESTIONS[0]} {HOSTILE} {prose(rng, 40)}",
        f"{HOSTILE} {QUESTIONS[0]} {SOLUTION}",
    ]
    urls = [f"https://site.example/<script>{i}</script>" for i in range(len(texts))]
    urls[-1] = "http://[not-an-address"
    corpus = write_corpus(root / "web", {"a": [documents(texts, url=urls)]})
    project: Any = SimpleNamespace(root=root, beside=root / "workflows", seed=0, fingerprints=Fingerprints(root / ".fingerprints.json"))
    arguments = Arguments({"web": corpus}, {"web": root / "kept"}, root / "out", project, Context(Inline()), lambda line: None)
    stage.decontaminate(Decontaminate(against=["sums", "empty"], action="span"), arguments)
    return root / "out"


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not any(name.startswith("on") or name == "src" for name, _ in attrs)
        assert not any(name == "href" and not (value or "").startswith("#") for name, value in attrs)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_hostile_text_stays_text(report: Path) -> None:
    page = (report / "report.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert not tags.seen & {"script", "img", "iframe", "link", "form", "object"}
    assert "default-src 'none'" in page
    text = "".join(tags.text)
    assert "<script>document.title='owned'</script>" in text
    assert "{{ 7 * 7 }}" in text
    assert "\u202e" not in page
    assert "\x1b" not in page


def test_the_page_says_what_was_found_what_it_costs_and_what_was_not_looked_for(report: Path) -> None:
    page = (report / "report.html").read_text(encoding="utf-8")
    summary = json.loads((report / "summary.json").read_text(encoding="utf-8"))
    assert summary["benchmarks"]["sums"]["contaminated"] == 1
    assert "2 of 32 documents hold items" in page
    assert "empty: the file has no item" in page
    assert "too short" in page
    assert "is not JSON" in page
    assert "the question alone" in page
    assert "not looked for" in page
    removal = summary["removal"]
    stored = pq.read_table(report / "matches.parquet").to_pylist()
    assert removal["documents"] == len({row["doc_id"] for row in stored if not row["survivor"]})
    assert removal["documents"] + removal["documents_cut"] == 2
    assert removal["bytes"] > len(QUESTIONS[0])
    assert f"{removal['cut_bytes']:,}" in page


def test_the_lists_of_clean_items_fit_the_harness(report: Path) -> None:
    ids = json.loads((report / "clean_ids/sums.json").read_text(encoding="utf-8"))
    assert ids == {"clean": [], "contaminated": [HOSTILE], "proposed": [], "unscannable": ["short", "short#2"]}
    # An empty list would make the harness evaluate everything, so the task is left out, and named.
    assert json.loads((report / "lm_eval_samples.json").read_text()) == {}
    assert json.loads((report / "summary.json").read_text(encoding="utf-8"))["tasks_without_clean_items"] == ["sums"]
    assert "leave this task out of an evaluation: sums" in (report / "report.html").read_text(encoding="utf-8")


def browser() -> str | None:
    return next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


@pytest.mark.skipif(browser() is None, reason="no Chromium on this machine")
def test_a_real_browser_shows_it_without_errors_or_sideways_scrolling(report: Path, tmp_path: Path) -> None:
    page = (report / "report.html").read_text(encoding="utf-8")
    probe = "<script>document.body.dataset.wide = document.documentElement.scrollWidth; document.body.dataset.name = document.title</script>"
    copy = tmp_path / "probe.html"
    copy.write_text(page.replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'").replace("</body>", probe + "</body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--enable-logging=stderr", "--v=0"]
    command = [str(browser()), *flags, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=500,900", "--dump-dom", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    assert "CONSOLE" not in done.stderr
    assert 'data-name="Decontamination · curate"' in done.stdout, "a crawled script ran"
    measured = re.search(r'data-wide="(\d+)"', done.stdout)
    assert measured is not None
    assert int(measured[1]) <= 500
