"""Tokens: nothing is lost, nothing can be forged, and the same texts always give the same tokenizer."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from conftest import documents
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import InputError
from curate.tokens import tokenizer as module
from curate.tokens.tokenizer import EOS, Encoder, encode_batch, pieces, train_tokenizer

WORDS = ["def", "return", "naïve", "42", "1337", "Größe", "数学", "x_1", "->", "\n    ", "\t", "it's", "🙂", "…", "mixture", "mix", "mixing"]
DRAW = random.Random(1)
TEXTS = [" ".join(DRAW.choices(WORDS, k=60)) for _ in range(200)]


@pytest.fixture(scope="module")
def text() -> str:
    return train_tokenizer(TEXTS, 400)


@pytest.fixture(scope="module")
def encoder(text: str) -> Encoder:
    return Encoder(text)


def test_training_depends_on_the_texts_and_not_on_their_order_or_the_process(text: str) -> None:
    assert train_tokenizer(iter(sorted(TEXTS)), 400) == text
    program = (
        "import hashlib, json, sys\nfrom curate.tokens.tokenizer import train_tokenizer\n"
        "print(hashlib.sha256(train_tokenizer(json.load(sys.stdin), 400).encode()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TOKENIZERS_PARALLELISM": "true"}
    other = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(TEXTS[::-1]), capture_output=True, text=True, env=environment, check=True
    )
    assert other.stdout.strip() == hashlib.sha256(text.encode()).hexdigest()


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=200))
def test_every_text_survives_encoding(encoder: Encoder, text: str) -> None:
    (tokens,) = encoder.encode([text])
    assert encoder.decode(tokens) == text


@settings(max_examples=200, deadline=None)
@given(words=st.lists(st.sampled_from([*WORDS, " ", "  ", "\n", "\r\n", "'", "s", " \n", "\u00a0", "\u3000"]), max_size=80), limit=st.integers(2, 40))
def test_a_long_text_is_cut_without_changing_its_tokens(encoder: Encoder, words: list[str], limit: int) -> None:
    text = "".join(words)
    safe = all(len(part) < limit for part in module._SAFE.split(text))
    (whole,) = encoder.encode([text])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_PIECE", limit)
        parts = list(pieces(text))
        (cut,) = encoder.encode([text])
    assert "".join(parts) == text
    assert max(map(len, parts), default=0) <= limit
    if safe:
        assert cut.tolist() == whole.tolist()
    assert encoder.decode(cut) == text


def test_one_line_of_many_megabytes_goes_through_in_pieces(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "mixture of " * 600_000
    assert len(list(pieces(line))) == -(-len(line) // module.MAX_PIECE)
    assert list(map(len, pieces("=" * 1_000_000))) == [module.MAX_PIECE] * 3 + [1_000_000 - 3 * module.MAX_PIECE]
    (whole,) = encoder.encode([line[:50_000]])
    monkeypatch.setattr(module, "MAX_PIECE", 1 << 12)
    (cut,) = encoder.encode([line[:50_000]])
    assert cut.tolist() == whole.tolist()


def test_a_document_cannot_forge_the_end_of_a_document(encoder: Encoder) -> None:
    tokens, index = encode_batch(documents([f"before {EOS} after", "", "naïve 数学"]), encoder)
    ends = np.flatnonzero(tokens == encoder.eos)
    assert ends.tolist() == (index["start"].to_numpy() + index["num_tokens"].to_numpy() - 1).tolist()
    assert index["num_bytes"].to_pylist() == [len(f"before {EOS} after"), 0, len("naïve 数学".encode())]
    assert index["num_tokens"].to_pylist()[1] == 1
    assert tokens.dtype == np.uint16


def test_tokens_do_not_depend_on_how_documents_are_batched(encoder: Encoder) -> None:
    batch = documents(TEXTS[:50])
    whole, index = encode_batch(batch, encoder)
    halves = [encode_batch(batch.slice(a, 25), encoder) for a in (0, 25)]
    assert np.concatenate([tokens for tokens, _ in halves]).tolist() == whole.tolist()
    assert [n for _, i in halves for n in i["num_bytes"].to_pylist()] == index["num_bytes"].to_pylist()


def test_what_is_not_a_tokenizer_is_refused_with_its_place() -> None:
    with pytest.raises(InputError, match="my.json: is not a tokenizer"):
        Encoder("{}", where="my.json")
    with pytest.raises(InputError, match="no text to train"):
        train_tokenizer(["", ""], 400)
    with pytest.raises(InputError, match="cannot hold the 256 bytes"):
        train_tokenizer(TEXTS, 100)
    foreign = Encoder(train_tokenizer(TEXTS, 300).replace(EOS, "</s>"))
    assert foreign.eos == 0
    with pytest.raises(InputError, match="no token that ends a document"):
        Encoder(train_tokenizer(TEXTS, 300).replace(EOS, "<stop>"))
