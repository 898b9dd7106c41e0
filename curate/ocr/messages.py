"""What the reading process and its parent say to each other: length-prefixed frames over two pipes, MessagePack inside.

    parent → worker   Request
    worker → parent   Failed; or Opened, then per page [OcrBegun] and PageRead, and Done, or EngineFailed instead of the rest

`OcrBegun` carries what is known of a page before the risky part, so that the page survives its worker.
"""

from __future__ import annotations

from typing import IO, Any

import msgspec

from curate.ocr.layout import Line
from curate.specs.ocr import Ocr

HEADER_BYTES = 8
EXIT_MEMORY = 77  # the worker's exit code when an allocation failed


class Request(msgspec.Struct, array_like=True):
    """Read the pages from `start` (counted from 0) of the PDF `data`."""

    data: bytes
    options: Ocr
    start: int
    spent_seconds: float  # processor time that went into this PDF before


class Opened(msgspec.Struct, tag="opened"):
    num_pages: int
    metadata: dict[str, Any]


class Failed(msgspec.Struct, tag="failed"):
    error: str


class EngineFailed(msgspec.Struct, tag="engine"):
    """The OCR engine does not start, whatever the page."""

    error: str


class PageRead(msgspec.Struct, tag="page"):
    """One page. `lines` in the file's order, not yet in reading order; `height` in points."""

    page: int
    route: str
    reasons: list[str]
    lines: list[Line] = []
    height: float = 0.0
    engine: str = ""
    engine_version: str = ""
    confidence: float | None = None
    rotation: int = 0
    seconds: float = 0.0  # processor time


class OcrBegun(msgspec.Struct, tag="ocr"):
    fallback: PageRead


class Done(msgspec.Struct, tag="done"):
    """All pages that the limits allow have been sent."""


Message = Opened | Failed | EngineFailed | PageRead | OcrBegun | Done
encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(Request).decode
decode_message = msgspec.msgpack.Decoder(Message).decode


def write_frame(pipe: IO[bytes], payload: bytes) -> None:
    """Write one frame and flush it. Raises BrokenPipeError where nobody reads any more."""
    pipe.write(len(payload).to_bytes(HEADER_BYTES, "big") + payload)
    pipe.flush()


def read_frame(pipe: IO[bytes]) -> bytes | None:
    """Read one frame, or None at the end of the pipe, an incomplete frame included."""
    header = pipe.read(HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        return None
    size = int.from_bytes(header, "big")
    payload = pipe.read(size)
    return payload if len(payload) == size else None
