"""Extraction engines side by side: `python bench/extraction.py FOLDER`.

FOLDER holds WARC files (`*.warc.gz`) and `gold.json.gz`: {url: {"with": [snippets that must be kept], "without": [snippets that
must not]}}. A snippet counts as found when the text contains it as it stands. Printed per engine: precision, recall and F1 over all snippets,
the share of pages that gave no text, and pages per CPU second on one core, decoding and parsing included.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from curate.extract import extract
from curate.ingest.decode import decode_page
from curate.ingest.read import input_files, read
from curate.ingest.record import Record
from curate.specs.workflow import Extract, Ingest


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    gold = {_key(url): snippets for url, snippets in json.loads(gzip.decompress((folder / "gold.json.gz").read_bytes())).items()}
    pages = _pages(folder, set(gold))
    print(f"{len(pages)} pages, {sum(map(len, pages.values())) / len(pages) / 1000:.0f} kB each")
    print(f"{'engine':<34}{'precision':>10}{'recall':>8}{'F1':>8}{'no text':>9}{'pages/s':>9}")
    for name, engine in _engines().items():
        print(f"{name:<34}" + _row(engine, pages, gold), flush=True)


def _engines() -> dict[str, Callable[[str], str]]:
    from resiliparse.extract.html2text import extract_plain_text

    engines: dict[str, Callable[[str], str]] = {
        "resiliparse, all text": lambda html: extract_plain_text(html),
        "resiliparse, main content": lambda html: extract_plain_text(html, main_content=True),
        "  comments, bullets, alt, meta off": lambda html: extract_plain_text(
            html, main_content=True, comments=False, list_bullets=False, alt_texts=False, post_meta=False
        ),
        "curate, resiliparse": lambda html: extract(html, Extract()),
    }
    try:
        import trafilatura
    except ImportError:
        return engines
    return engines | {
        "trafilatura, fast": lambda html: trafilatura.extract(html, fast=True, include_comments=False) or "",
        "curate, trafilatura": lambda html: extract(html, Extract(engine="trafilatura")),
    }


def _pages(folder: Path, wanted: set[str]) -> dict[str, bytes]:
    pages = {}
    for path, _ in input_files("*.warc.gz", folder):
        for record in read("warc", path, Ingest(warc=str(path))):
            if isinstance(record, Record) and isinstance(record.content, bytes) and record.url and _key(record.url) in wanted:
                pages[_key(record.url)] = record.content
    return pages


def _key(url: str) -> str:
    return unquote(url).strip()


def _row(engine: Callable[[str], str], pages: dict[str, bytes], gold: dict[str, dict[str, list[str]]]) -> str:
    start = time.process_time()
    texts = {url: engine(decode_page(page, None)[0]) for url, page in pages.items()}
    seconds = time.process_time() - start
    found = [snippet in texts[url] for url in texts for snippet in gold[url]["with"]]
    leaked = [snippet in texts[url] for url in texts for snippet in gold[url]["without"]]
    precision, recall = sum(found) / max(sum(found) + sum(leaked), 1), sum(found) / len(found)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    empty = sum(not text.strip() for text in texts.values()) / len(texts)
    return f"{precision:>10.3f}{recall:>8.3f}{f1:>8.3f}{empty:>9.1%}{len(pages) / seconds:>9.0f}"


if __name__ == "__main__":
    main()
