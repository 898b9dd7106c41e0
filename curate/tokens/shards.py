"""Token shards: SHARD.npy, one row of tokens of all documents, and SHARD.parquet, which says where each document lies in it.

Plain NumPy files, so that any trainer can map them into memory without this package. A reader maps the files and touches only
the pages that it needs; the index is read whole (about 60 bytes per document).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curate.errors import InputError

IDS_AND_SIZES = ["id", "start", "num_tokens", "num_bytes"]


class TokenWriter:
    """Write the .npy file of one shard piece by piece, with the bytes that `np.save` of the whole would give."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.num_tokens = 0
        self._dtype = dtype
        self._file = path.open("wb")
        self._header()

    def _header(self) -> None:
        """Write the header; its length does not depend on the number of tokens (up to 10²⁰), so it can be written again."""
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": (self.num_tokens,)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def write(self, tokens: NDArray[Any]) -> int:
        """Append tokens; returns where they start."""
        start = self.num_tokens
        self._file.write(np.ascontiguousarray(tokens, self._dtype).tobytes())
        self.num_tokens += len(tokens)
        return start

    def close(self) -> None:
        """Complete the header and close the file."""
        self._file.seek(0)
        self._header()
        self._file.close()


class TokenShards:
    """The token shards of one source, opened for reading.

    `names` are sorted; `ids`, `starts`, `num_tokens`, `num_bytes` and `shard_of` are aligned over all documents, shard after shard.
    """

    def __init__(self, folder: Path | str) -> None:
        """Open every SHARD.npy in `folder`. Raises InputError when a shard has no index or does not hold what it says."""
        self.folder = Path(folder)
        paths = sorted(self.folder.glob("*.npy"))
        if not paths:
            raise InputError("holds no token shards (SHARD.npy)", where=str(self.folder), hint="run the step 'tokenize' first")
        self.names = [path.stem for path in paths]
        self._tokens = [_open(path) for path in paths]
        tables = [_index(path.with_suffix(".parquet"), len(tokens)) for path, tokens in zip(paths, self._tokens, strict=True)]
        self.shard_of = np.repeat(np.arange(len(paths)), [table.num_rows for table in tables])
        whole = pa.concat_tables(tables)
        self.ids: list[str] = whole["id"].to_pylist()
        self.starts, self.num_tokens, self.num_bytes = (whole[name].to_numpy() for name in IDS_AND_SIZES[1:])

    @property
    def total_tokens(self) -> int:
        """Tokens in all shards, EOS included."""
        return sum(len(tokens) for tokens in self._tokens)

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint16 or uint32."""
        return np.result_type(*(tokens.dtype for tokens in self._tokens))

    def document(self, row: int) -> NDArray[Any]:
        """Return the tokens of document `row`, with its EOS, as a view of the file."""
        start = int(self.starts[row])
        tokens: NDArray[Any] = self._tokens[self.shard_of[row]][start : start + int(self.num_tokens[row])]
        return tokens


def _open(path: Path) -> NDArray[Any]:
    try:
        tokens = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        if path.stat().st_size and _is_empty_shard(path):
            return np.zeros(0, np.uint16)
        raise InputError(f"is not a token shard: {error}", where=str(path)) from error
    if tokens.ndim != 1 or tokens.dtype not in (np.uint16, np.uint32):
        raise InputError(f"is not a token shard: {tokens.ndim} dimensions of {tokens.dtype}", where=str(path))
    return tokens  # type: ignore[no-any-return]


def _is_empty_shard(path: Path) -> bool:
    """An empty array cannot be mapped into memory on every system."""
    try:
        return bool(np.load(path, allow_pickle=False).size == 0)
    except (OSError, ValueError):
        return False


def _index(path: Path, num_tokens: int) -> pa.Table:
    if not path.is_file():
        raise InputError("the index of this shard is missing", where=str(path))
    try:
        table = pq.read_table(path, columns=IDS_AND_SIZES)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        raise InputError(f"is not the index of a token shard: {error}", where=str(path)) from error
    ends = table["start"].to_numpy() + table["num_tokens"].to_numpy()
    if len(ends) and (int(ends.max()) != num_tokens or int(table["num_tokens"].to_numpy().sum()) != num_tokens):
        raise InputError(f"speaks of {int(ends.max()):,} tokens, the shard holds {num_tokens:,}", where=str(path))
    return table
