"""Train a byte-level BPE, and turn batches of documents into tokens.

Byte-level BPE (Sennrich 2016, Radford 2019) by Hugging Face's tokenizers: every text can be encoded and decoded without loss.
Digits stand alone, so that arithmetic does not depend on how numbers happen to be merged. Training is deterministic: it depends
on the multiset of texts, not on their order.

A document longer than MAX_PIECE characters is cut before it is encoded, since the encoder needs about a hundred bytes per
token. The cut falls between a letter and a white-space character: the splitting patterns in use (ours, GPT-2's, cl100k's,
Llama 3's) end a piece there whatever follows, so the tokens are the same as without the cut. Where a text has no such place
(50 MB of base64, say) it is cut after MAX_PIECE characters, and one or two tokens at the cut may differ from those of the whole.

The text of a special token inside a document is ordinary text: a crawled page cannot forge the end of a document.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.errors import InputError

EOS = "<|end|>"
KNOWN_EOS = (EOS, "<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")  # of tokenizers that users bring
MAX_PIECE = 1 << 18  # characters that are encoded at once
BATCH_CHARACTERS = 1 << 21  # characters that go to the encoder in one call

INDEX = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),  # first token of the document in the shard
        pa.field("num_tokens", pa.int64(), nullable=False),  # with the EOS
        pa.field("num_bytes", pa.int64(), nullable=False),  # UTF-8, without the EOS
    ]
)

# Words with one leading sign or space; single digits; runs of other signs; line ends with what precedes them; spaces.
PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SAFE = re.compile(r"(?<=[^\W\d_])\s")


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> str:
    """Train a byte-level BPE of at most `vocab_size` tokens and return it as the text of a tokenizer.json.

    The vocabulary always holds the 256 bytes and `EOS` (id 0), so `vocab_size` must be at least 257; it is smaller than asked
    for when the texts have too few distinct words. Raises InputError when there is no text at all.
    """
    if vocab_size < 257:
        raise InputError(f"a vocabulary of {vocab_size} tokens cannot hold the 256 bytes and the end of a document", hint="ask for 257 or more")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=[EOS], initial_alphabet=alphabet, show_progress=False)
    seen = _Seen(texts)
    tokenizer.train_from_iterator((piece for text in seen for piece in pieces(text)), trainer)
    if not seen.characters:
        raise InputError("there is no text to train a tokenizer on", hint="the sources are empty after the steps before 'tokenize'")
    return str(tokenizer.to_str())


class _Seen:
    """Pass texts on and count their characters."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts, self.characters = texts, 0

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            self.characters += len(text)
            yield text


class Encoder:
    """A tokenizer ready to encode: single-threaded, special tokens in texts taken as text.

    `vocab_size` counts ids; `eos` is the id that ends a document; `dtype` is the smallest that holds all ids.
    """

    def __init__(self, text: str, *, where: str = "tokenizer") -> None:
        """Read the text of a tokenizer.json. Raises InputError when it is not one or has no known end-of-document token."""
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from tokenizers import Tokenizer

        try:
            self._tokenizer: Any = Tokenizer.from_str(text)
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"is not a tokenizer: {error}", where=where) from error
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        ends = [self._tokenizer.token_to_id(name) for name in KNOWN_EOS]
        found = [end for end in ends if end is not None]
        if not found:
            raise InputError(f"has no token that ends a document; known are {', '.join(KNOWN_EOS)}", where=where)
        self.eos = int(found[0])
        self.vocab_size = max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self.dtype = np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)

    @classmethod
    def open(cls, path: Path) -> Encoder:
        """Read the tokenizer.json at `path`."""
        try:
            return cls(path.read_text(encoding="utf-8"), where=str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot be read: {error}", where=str(path)) from error

    def encode(self, texts: Iterable[str]) -> Iterator[NDArray[Any]]:
        """Yield the tokens of each text, without EOS."""
        waiting: list[str] = []
        counts: list[int] = []
        size = 0
        for text in texts:
            parts = list(pieces(text))
            waiting += parts
            counts.append(len(parts))
            size += len(text)
            if size >= BATCH_CHARACTERS:
                yield from self._flush(waiting, counts)
                waiting, counts, size = [], [], 0
        yield from self._flush(waiting, counts)

    def _flush(self, parts: list[str], counts: list[int]) -> Iterator[NDArray[Any]]:
        at = 0
        encoded: list[NDArray[Any]] = []
        for start in range(0, len(parts), 8):  # a few pieces at a time: an Encoding is far larger than its ids
            encodings = self._tokenizer.encode_batch_fast(parts[start : start + 8], add_special_tokens=False)
            encoded += [np.array(e.ids, self.dtype) for e in encodings]
        for count in counts:
            yield np.concatenate(encoded[at : at + count]) if count else np.zeros(0, self.dtype)
            at += count

    def decode(self, tokens: NDArray[Any]) -> str:
        """Return the text of `tokens`."""
        return str(self._tokenizer.decode(tokens.tolist(), skip_special_tokens=False))


def encode_batch(batch: pa.RecordBatch, tokenizer: Encoder) -> tuple[NDArray[Any], pa.Table]:
    """Return the tokens of all documents, each followed by EOS, and their index (see INDEX; `start` counts within the batch)."""
    texts = (value.as_py() for value in batch.column("text"))
    end = np.array([tokenizer.eos], tokenizer.dtype)
    parts, sizes = [], np.zeros(batch.num_rows, np.int64)
    for i, tokens in enumerate(tokenizer.encode(texts)):
        parts += [tokens, end]
        sizes[i] = len(tokens) + 1
    column = batch.column("text").cast(pa.large_binary())
    bounds = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1] if len(column) else np.zeros(1, np.int64)
    arrays = [batch.column("id"), pa.array(np.cumsum(sizes) - sizes), pa.array(sizes), pa.array(np.diff(bounds))]
    return np.concatenate(parts) if parts else np.zeros(0, tokenizer.dtype), pa.Table.from_arrays(arrays, schema=INDEX)


def pieces(text: str) -> Iterator[str]:
    """Cut a text into pieces of at most MAX_PIECE characters whose tokens, joined, are those of the text."""
    start = 0
    while len(text) - start > MAX_PIECE:
        cut = _last_safe_place(text, start, start + MAX_PIECE)
        yield text[start:cut]
        start = cut
    if start < len(text):
        yield text[start:]


def _last_safe_place(text: str, start: int, end: int) -> int:
    low = end
    while low > start + 1:
        low = max(start + 1, low - 4096)
        found = [match.start() for match in _SAFE.finditer(text, low, end)]
        if found:
            return found[-1]
    return end
