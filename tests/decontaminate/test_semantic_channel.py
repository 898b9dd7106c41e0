"""The semantic channel against a real HTTP server, whose embeddings are bags of words in which synonyms and translations are one word."""

from __future__ import annotations

import json
import random
import re
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import documents, write_corpus
from test_finding_items import COMMON, QUESTIONS, prose

from curate.cli import main
from curate.decontaminate.embed import open_embedder
from curate.decontaminate.semantic import chunks, cost, threshold
from curate.errors import CurateError, MissingExtra, SpecError
from curate.specs.workflow import Semantic

# A paraphrase that shares no run of three words with its item, and the words that mean the same.
PARAPHRASE = (
    "Every dawn beside the port, Ana vends fourteen bronze lamps, but puts three aside for an isle's prelate. "
    "At seven bucks per lamp, what sum has she made once five days are over?"
)
PAIRS = (
    "ana marta, vends sells, bronze copper, lamps lanterns, lamp lanterns, lantern lanterns, port harbor, dawn morning, prelate bishop, "
    "isle's island, bucks dollars, sum much, made earn, puts keeps, fourteen 14, three 3, seven 7, five 5"
)
SAME = dict(pair.split() for pair in PAIRS.split(", "))
DIMENSIONS = 512


def embedding(text: str) -> list[float]:
    """A bag of hashed words, the common ones left out."""
    vector = np.zeros(DIMENSIONS)
    for word in re.findall(r"[\w']+", text.lower()):
        word = SAME.get(word, word)
        if word not in COMMON:
            vector[zlib.crc32(word.encode()) % DIMENSIONS] += 1
    return np.sqrt(vector).tolist()


Behavior = Callable[[dict[str, Any], int], tuple[int, Any, dict[str, str]]]


def well(body: dict[str, Any], number: int) -> tuple[int, Any, dict[str, str]]:
    rows = [{"index": i, "embedding": embedding(text)} for i, text in enumerate(body["input"])]
    return 200, {"data": rows[::-1], "model": body["model"], "usage": {}}, {}


@contextmanager
def serving(behavior: Behavior) -> Iterator[tuple[str, list[Any]]]:
    """Run an embeddings endpoint on a free port; yield its address and the requests that came in."""
    seen: list[Any] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                seen.append((self.path, self.headers.get("Authorization"), body))
                number = len(seen)
            status, data, headers = behavior(body, number)
            content = json.dumps(data).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def make(root: Path) -> None:
    """A corpus of clean pages with one paraphrase and one verbatim leak, and the benchmark."""
    rng = random.Random(3)
    texts = [prose(rng, 160) for _ in range(150)]
    texts.append(f"{prose(rng, 90)} {PARAPHRASE} {prose(rng, 90)}")
    texts.append(f"{prose(rng, 90)} {QUESTIONS[1]} {prose(rng, 90)}")
    urls = [f"https://site.example/{i}" for i in range(150)] + ["https://site.example/paraphrase", "https://site.example/verbatim"]
    write_corpus(root / "corpus", {"a": [documents(texts, url=urls)]})
    rows = [{"id": f"m{i}", "question": question} for i, question in enumerate(QUESTIONS)]
    (root / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def search(root: Path, output: str, *more: str) -> int:
    arguments = [str(root / "corpus"), "--against", str(root / "sums.jsonl"), "--output", str(root / output)]
    return main(["decontaminate", *arguments, "--workers", "0", "--action", "document", *more])


def test_a_paraphrase_is_proposed_and_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path)
    assert search(tmp_path, "lexical") == 0
    assert {row["url"][-8:] for row in pq.read_table(tmp_path / "lexical/matches.parquet").to_pylist()} == {"verbatim"}
    capsys.readouterr()
    with serving(well) as (address, seen):
        monkeypatch.setenv("CURATE_EMBEDDINGS_BASE_URL", address)
        monkeypatch.setenv("CURATE_EMBEDDINGS_API_KEY", "secret-key")
        assert search(tmp_path, "both", "--semantic", "bag-of-words") == 0
        asked = len(seen)
        assert search(tmp_path, "both", "--semantic", "bag-of-words") == 0
        assert len(seen) == asked, "a finished search asked again"
    said = capsys.readouterr().err
    assert "tokens, to 'bag-of-words'" in said
    assert said.index("semantic channel: about") < said.index("in, ")
    assert {(path, key, body["model"]) for path, key, body in seen} == {("/v1/embeddings", "Bearer secret-key", "bag-of-words")}
    rows = pq.read_table(tmp_path / "both/matches.parquet").to_pylist()
    found = {(row["url"].rpartition("/")[2], row["item_id"], row["variant"], row["counted"], row["survivor"]) for row in rows}
    assert found == {("paraphrase", "m0", "paraphrase", False, True), ("verbatim", "m1", "question_only", True, False)} or found == {
        ("paraphrase", "m0", "paraphrase", False, True),
        ("verbatim", "m1", "verbatim", True, False),
    }
    match = next(row for row in rows if row["variant"] == "paraphrase")
    assert match["score"] >= match["threshold"]
    assert "bronze lamps" in match["doc_excerpt"]
    ids = json.loads((tmp_path / "both/clean_ids/sums.json").read_text())
    assert (ids["proposed"], ids["contaminated"], ids["clean"]) == (["m0"], ["m1"], ["m2"])
    page = (tmp_path / "both/report.html").read_text()
    assert "embeddings propose 1 paraphrase" in page
    assert not any("secret-key" in path.read_text(errors="ignore") for path in (tmp_path / "both").rglob("*.json"))


def test_over_budget_or_without_endpoint_nothing_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path)
    monkeypatch.delenv("CURATE_EMBEDDINGS_BASE_URL", raising=False)
    assert search(tmp_path, "out", "--semantic", "m") == 2
    assert "no endpoint" in capsys.readouterr().err
    with serving(well) as (address, seen):
        monkeypatch.setenv("CURATE_EMBEDDINGS_BASE_URL", address)
        monkeypatch.setattr("curate.decontaminate.semantic.TOKENS_PER_BYTE", 1e6)
        assert search(tmp_path, "out", "--semantic", "m") == 2
        assert seen == []
    assert "the spec allows 10,000,000" in capsys.readouterr().err


def test_what_may_pass_is_tried_again_and_what_cannot_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    options = Semantic(model="m", batch_size=2, concurrency=1, attempts=3)
    monkeypatch.setenv("CURATE_EMBEDDINGS_API_KEY", "secret-key")

    def patient(body: dict[str, Any], number: int) -> tuple[int, Any, dict[str, str]]:
        answers = {1: (429, {}, {"Retry-After": "0"}), 2: (200, {"data": []}, {})}
        return answers.get(number) or well(body, number)

    monkeypatch.setattr("curate.decontaminate.embed.time.sleep", lambda seconds: None)
    with serving(patient) as (address, seen):
        monkeypatch.setenv("CURATE_EMBEDDINGS_BASE_URL", address)
        vectors = open_embedder(options)(["copper lanterns", "", "meadow glacier"])
        assert len(seen) == 4
    assert np.linalg.norm(vectors, axis=1).round(5).tolist() == [1, 0, 1]
    with serving(lambda body, number: (401, {"error": "bad secret-key"}, {})) as (address, seen):
        monkeypatch.setenv("CURATE_EMBEDDINGS_BASE_URL", address)
        with pytest.raises(CurateError, match="HTTP 401") as error:
            open_embedder(options)(["text"])
        assert len(seen) == 1
        assert "secret-key" not in str(error.value)
    with serving(lambda body, number: (500, {}, {})) as (address, seen):
        monkeypatch.setenv("CURATE_EMBEDDINGS_BASE_URL", address)
        with pytest.raises(CurateError, match="no embeddings in 3 attempts"):
            open_embedder(options)(["text"])
        assert len(seen) == 3


def shorter(body: dict[str, Any], number: int) -> tuple[int, Any, dict[str, str]]:
    return 200, {"data": [{"index": i, "embedding": embedding(text)[:8]} for i, text in enumerate(body["input"])]}, {}


def test_an_endpoint_that_changes_the_length_of_its_vectors_stops_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path)
    with serving(lambda body, number: (well if number == 1 else shorter)(body, number)) as (address, _):
        monkeypatch.setenv("CURATE_EMBEDDINGS_BASE_URL", address)
        assert search(tmp_path, "out", "--semantic", "m") == 1
        assert "gives embeddings of different lengths: 8, 512" in capsys.readouterr().err
    with serving(well) as (address, _):
        monkeypatch.setenv("CURATE_EMBEDDINGS_BASE_URL", address)
        assert search(tmp_path, "out", "--semantic", "m", "--action", "record") == 0
    capsys.readouterr()
    with serving(shorter) as (address, _):  # the items are known, and the documents are searched again
        monkeypatch.setenv("CURATE_EMBEDDINGS_BASE_URL", address)
        assert search(tmp_path, "out", "--semantic", "m", "--action", "span") == 1
        assert "gives embeddings of different lengths: 8, 512" in capsys.readouterr().err


def test_wrong_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for address, message in {
        "ftp://host": "not an http address",
        "http://user:key@host": "user or password",
        "http://host:80a/v1": "not an http",
    }.items():
        monkeypatch.setenv("CURATE_EMBEDDINGS_BASE_URL", address)
        with pytest.raises(SpecError, match=message):
            open_embedder(Semantic(model="m"))
    monkeypatch.setenv("CURATE_EMBEDDINGS_BASE_URL", "http://host/v1")
    monkeypatch.setenv("CURATE_EMBEDDINGS_API_KEY", "se…cret")
    with pytest.raises(SpecError, match="cannot stand in a key"):
        open_embedder(Semantic(model="m"))
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(MissingExtra):
        open_embedder(Semantic(model="m", engine="sentence_transformers"))


def test_chunks_cover_every_word_twice_but_the_ends_and_long_lines_are_cut() -> None:
    text = " ".join(f"w{i}" for i in range(100))
    spans = chunks(text, 20)
    assert [len(text[a:b].split()) for a, b in spans] == [20] * 9
    assert text[spans[0][0] : spans[-1][1]] == text
    assert chunks("", 20) == []
    assert chunks("three words only", 20) == []
    assert all(b - a <= 20 * 40 for a, b in chunks("x" * 100_000 + " and some words that follow it here", 20))
    requests, tokens = cost(Semantic(model="m"), 1_000_000, 0)
    assert 50 < requests < 200
    assert 500_000 < tokens < 2_000_000


def test_the_threshold_follows_the_tail_of_the_background() -> None:
    margins = np.random.default_rng(0).normal(0.1, 0.05, 20_000)
    for rate in (1e-1, 1e-2, 1e-3):
        assert (margins > threshold(margins, rate)).mean() == pytest.approx(rate, rel=0.4)
    assert threshold(margins[:50], 1e-3) == float("inf")
    leaked = np.concatenate([margins, np.full(100, 0.9)])  # a contaminated background does not lift it far
    assert threshold(leaked, 1e-3) < 1.2 * threshold(margins, 1e-3)
