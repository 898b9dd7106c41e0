"""The trainer and its file format: repeatable, as good as the library, and the library reads what it writes."""

from __future__ import annotations

import hashlib
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.classify import fasttext, logistic
from curate.classify.evaluate import auc
from curate.classify.text import prepare
from curate.errors import CurateError, InputError
from curate.specs.classifier import Classifier, Examples, Features

SOME = [Examples(jsonl="x")]


def spec(**changes: object) -> Classifier:
    features = {"buckets": 2000, "dim": 8, "min_count": 1} | {k: changes.pop(k) for k in list(changes) if k in Features.__struct_fields__}
    return Classifier(**{"name": "q", "positive": SOME, "negative": SOME, "features": Features(**features)} | changes)


def texts_and_labels(num: int, seed: int = 0) -> tuple[list[str], list[bool]]:
    """Texts of two kinds that share most of their words; some labels are wrong, so that nothing separates them wholly."""
    rng = random.Random(seed)
    shared = [f"word{i}" for i in range(300)]
    own = {True: [f"gain{i}" for i in range(40)], False: [f"loss{i}" for i in range(40)]}
    texts, labels = [], []
    for _ in range(num):
        kind = rng.random() < 0.5
        texts.append(" ".join(rng.choices(shared, k=25) + rng.choices(own[kind], k=2)))
        labels.append(kind if rng.random() < 0.9 else not kind)
    return texts, labels


def test_training_is_repeatable_in_any_process() -> None:
    texts, labels = texts_and_labels(300)
    first = [hashlib.sha256(engine.train(texts, labels, spec())[0]).hexdigest() for engine in (fasttext, logistic)]
    assert [hashlib.sha256(engine.train(texts, labels, spec())[0]).hexdigest() for engine in (fasttext, logistic)] == first
    code = (
        "import sys, hashlib; sys.path.insert(0, sys.argv[1]); from test_fasttext import *; "
        "print([hashlib.sha256(engine.train(*texts_and_labels(300), spec())[0]).hexdigest() for engine in (fasttext, logistic)])"
    )
    # Memory that is handed out full of a pattern instead of zeros: what is not initialized would show.
    environment = {**os.environ, "PYTHONHASHSEED": "77", "MALLOC_PERTURB_": "63"}
    done = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == str(first), done.stderr


@pytest.mark.parametrize("ngrams", [1, 2, 3])
def test_the_library_reads_the_file_and_predicts_the_same(ngrams: int, tmp_path: Path) -> None:
    library = pytest.importorskip("fasttext")
    texts, labels = texts_and_labels(300)
    content, losses = fasttext.train(texts, labels, spec(word_ngrams=ngrams))
    (tmp_path / "m.bin").write_bytes(content)
    loaded = library.load_model(str(tmp_path / "m.bin"))
    assert losses[-1] < losses[0]
    assert np.isfinite(loaded.get_input_matrix()).all()
    assert loaded.get_labels() == list(fasttext.LABELS)
    unseen = ["", "é 漢字 unknown", "gain1 " * 200, "__label__positive </s> gain3", *texts_and_labels(30, 1)[0]]
    prepared = prepare(pa.array(unseen), 5000)
    ours = fasttext.read(content).probabilities(prepared)
    for row, text in zip(ours, prepared.to_pylist(), strict=True):
        theirs = {label: p for p, label in loaded.f.predict(text + "\n", 2, 0.0, "strict")}
        # The library reports exp(log(p + 1e-5)).
        assert row[0] == pytest.approx(theirs["__label__positive"] - 1e-5, abs=1e-6)
        assert row[1] == pytest.approx(theirs["__label__negative"] - 1e-5, abs=1e-6)


def test_it_is_as_good_as_the_library(tmp_path: Path) -> None:
    library = pytest.importorskip("fasttext")
    texts, labels = texts_and_labels(1200)
    test_texts, test_labels = texts_and_labels(600, 1)
    (tmp_path / "t").write_text("".join(f"__label__{'positive' if y else 'negative'} {x}\n" for x, y in zip(texts, labels, strict=True)))
    # From 11 threads on the library initializes all of its matrix.
    theirs = library.train_supervised(str(tmp_path / "t"), dim=8, epoch=5, lr=0.5, wordNgrams=2, bucket=2000, thread=12, verbose=0)
    ours = fasttext.read(fasttext.train(texts, labels, spec())[0])
    truth = np.array(test_labels)
    their_scores = np.array([{b: a for a, b in theirs.f.predict(x + "\n", 2, 0.0, "strict")}["__label__positive"] for x in test_texts])
    area = auc(ours.probabilities(prepare(pa.array(test_texts), 5000))[:, 0], truth)
    assert area > auc(their_scores, truth) - 0.015
    assert area > 0.8


@pytest.mark.parametrize("engine", [fasttext, logistic])
def test_scores_do_not_depend_on_the_batch(engine: object) -> None:
    texts, labels = texts_and_labels(200)
    model = engine.read(engine.train(texts, labels, spec())[0])  # type: ignore[attr-defined]
    prepared = prepare(pa.array(texts), 5000)
    whole = model.probabilities(prepared)
    single = np.concatenate([model.probabilities(prepared.slice(i, 1)) for i in range(len(texts))])
    np.testing.assert_array_equal(whole, single)
    np.testing.assert_array_equal(model.probabilities(prepare(pa.array(texts[::-1]), 5000)), whole[::-1])
    assert model.probabilities(prepared.slice(0, 0)).shape == (0, 2)
    np.testing.assert_allclose(whole.sum(axis=1), 1)


def test_seeds_differ_and_diverging_is_an_error() -> None:
    texts, labels = texts_and_labels(100)
    assert fasttext.train(texts, labels, spec(seed=1))[0] != fasttext.train(texts, labels, spec(seed=2))[0]
    with pytest.raises(CurateError, match="diverged") as caught:
        fasttext.train(texts, labels, spec(learning_rate=1e30))
    assert "learning_rate" in caught.value.hint
    for engine in (fasttext, logistic):
        with pytest.raises(CurateError, match="one of the two is missing"):
            engine.train(texts, [True] * 100, spec())


def test_rare_words_are_left_to_their_ngrams() -> None:
    content, _ = fasttext.train(["a b c a", "a b d e"], [True, False], spec(min_count=2, epochs=1))
    model = fasttext.read(content)
    words = bytes(model.vocabulary[1])
    assert words in (b"a</s>b", b"ab</s>")
    assert model.matrix.shape == (3 + 2000, 8)


def test_files_that_are_no_models_are_refused() -> None:
    texts, labels = texts_and_labels(50)
    content, _ = fasttext.train(texts, labels, spec())
    for broken in (b"", b"x" * 10, b"\0" * 500, content[:60], content[: len(content) // 2], content[:-1]):
        with pytest.raises(InputError):
            fasttext.read(broken, "m.bin")
    subwords = content[:48] + struct.pack("<i", 3) + content[52:]  # maxn
    with pytest.raises(InputError, match="subwords"):
        fasttext.read(subwords, "m.bin")
    other, _ = logistic.train(texts, labels, spec(engine="logistic"))
    for broken in (b"", b"{}", b"[]\n", other[:-4], b'{"format": "pickle"}\n' + other):
        with pytest.raises(InputError):
            logistic.read(broken, "m.bin")


# ── preparation ───────────────────────────────────────────────────────────────────────────────────────────────


def prepared(text: str, most: int = 1000) -> str:
    result: str = prepare(pa.array([text]), most)[0].as_py()
    return result


def test_preparation() -> None:
    assert prepared("Don’t STOP, e.g.\tat 3.14!\n\nÉtude") == "don ' t stop , e . g . at 3 . 14 ! étude"
    assert prepared("漢字かな") == "漢 字 か な"
    assert prepared("a\u200bb\u00adc\ufeff a\u00a0b\u2028c\x00d") == "abc a b c d"
    assert prepared("</s> __label__good") == "< / s > _ _ label _ _ good"
    assert prepared("abc def", 5) == "abc d"
    assert prepared(" .") == "."
    assert prepare(pa.array([None, "", " \n "], pa.string()), 10).to_pylist() == ["", "", ""]
    assert prepare(pa.array([], pa.string()), 10).to_pylist() == []
    assert prepare(pa.array(["skipped", "Kept One", "skipped"]).slice(1, 1), 10).to_pylist() == ["kept one"]
    assert prepare(pa.array(["Large"], pa.large_string()), 10).to_pylist() == ["large"]


@settings(max_examples=300)
@given(st.lists(st.text(), max_size=5), st.integers(1, 30))
def test_prepared_text_is_one_line_of_single_spaces(texts: list[str], most: int) -> None:
    array = prepare(pa.array(texts, pa.string()), most)
    array.validate(full=True)
    for text, line in zip(texts, array.to_pylist(), strict=True):
        assert line == prepared(text[:most], most)
        assert line == line.strip(" ")
        assert "  " not in line
        assert not set(line) & set("\n\r\t\v\f\0\x1c\x85\u2028\u00a0")
        assert "</s>" not in line
        assert "__label__" not in line
        assert prepared(line, 10_000) == line  # preparing twice changes nothing


def reference(text: str, vocabulary: list[str], ngrams: int, buckets: int) -> list[int]:
    """fastText's features, written as plainly as they can be."""

    def fnv(word: bytes) -> int:
        h = 2166136261
        for byte in word:
            h = ((h ^ (byte if byte < 128 else byte + 0xFFFFFF00)) * 16777619) & 0xFFFFFFFF
        return h if h < 2**31 else h - 2**32

    words = [*text.split(" "), "</s>"] if text else ["</s>"]
    rows = [vocabulary.index(word) for word in words if word in vocabulary]
    hashes = [fnv(word.encode()) for word in words]
    for i, h in enumerate(hashes):
        for other in hashes[i + 1 : i + ngrams]:
            h = (h * 116049371 + other) % 2**64
            rows.append(len(vocabulary) + h % 2**64 % buckets)
    return rows


@given(st.text(alphabet="ab é漢.A\n", max_size=40), st.integers(2, 4))
def test_features_match_the_plain_reference(text: str, ngrams: int) -> None:
    from curate.classify.kernel import all_features
    from curate.classify.text import string_buffers

    vocabulary = ["</s>", "a", "ab", "é", "."]
    line = prepare(pa.array([text]), 100)
    offsets, data = string_buffers(line)
    packed = fasttext._vocabulary([word.encode() for word in vocabulary], ngrams, 997)
    rows, ends = all_features(data, offsets, packed)
    assert rows.tolist() == reference(line[0].as_py(), vocabulary, ngrams, 997)
    assert ends.tolist() == [0, len(rows)]
