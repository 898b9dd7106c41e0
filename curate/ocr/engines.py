"""Optical character recognition: RapidOCR and Tesseract behind one call, `recognize`.

RapidOCR runs PP-OCR's ONNX models that lie in its wheel. It is set to one thread and one line per batch: one line at a time is
also faster on a CPU (no padding to the longest line of a batch: 11.0 s instead of 13.2 s for a page of 102 lines), and makes a
line's text independent of its neighbors. Tesseract is the program of that name, where it is installed; its TSV output has boxes
and confidences. A page that lies on its side or head is turned and read again.

The engine `auto` is resolved before a run and stored with it, since what a machine happens to have must not decide unseen what
comes out: `resolve_engine`.
"""

from __future__ import annotations

import csv
import functools
import importlib.metadata
import importlib.util
import logging
import os
import re
import shutil
import subprocess
from typing import Any, NamedTuple

import numpy as np

from curate.errors import CurateError, MissingExtra
from curate.ocr.pages import POINTS_PER_INCH, Fragment, Image, is_memory_error
from curate.specs.ocr import Ocr

WALL_PER_CPU = 10  # wall clock granted per second of processor time: machines are shared
MAX_SIDE_PIXELS = 2000  # RapidOCR looks for lines in an image of at most this side
CONFIDENT = 0.75  # print reads at 0.8 and above with either engine, a page turned the wrong way well below
TURN_GAIN = 1.2  # a turned reading must be this much better than the upright one
UPRIGHT_HEIGHT = 1.5  # a box this many times higher than wide is a line of turned text


class Recognized(NamedTuple):
    """What an engine read on a page. Boxes are in points of the page after it was turned by `rotation`."""

    fragments: list[Fragment]
    confidence: float  # 0–1: mean over all characters, those that were left out included; 0 where nothing was found
    rotation: int  # degrees clockwise by which the page was turned before reading: 0, 90, 180, 270


def resolve_engine(spec: Ocr) -> str:
    """Return the engine that `spec` means on this machine: rapidocr, tesseract or none.

    `auto` is RapidOCR where it is installed, Tesseract otherwise: on four clean rendered pages RapidOCR 3.10 finds 0.99 of
    the words (F1) at 150 dpi, Tesseract 5.3 0.87 (0.94 at 200 dpi), at 9.8 against 3.5 (4.4) seconds of processor time a page.
    Raises MissingExtra or CurateError where the engine asked for is not installed.
    """
    if spec.engine == "none":
        return "none"
    if spec.engine != "tesseract" and importlib.util.find_spec("rapidocr") is not None:
        return "rapidocr"
    if spec.engine == "rapidocr":
        raise MissingExtra("the OCR engine rapidocr needs the package rapidocr", hint="pip install rapidocr, or engine: tesseract in the OCR spec")
    missing = [language for language in spec.languages if language not in tesseract_languages()]
    if missing:
        what = f"tesseract has no language {', '.join(missing)}" if tesseract_languages() else "tesseract is not installed"
        packages = " ".join(f"tesseract-ocr-{language}" for language in missing)
        raise CurateError(what, hint=f"apt install tesseract-ocr {packages}, or engine: rapidocr in the OCR spec")
    return "tesseract"


class EngineBroken(Exception):
    """The engine does not start on this machine, which is no fault of a page."""


def start(spec: Ocr) -> None:
    """Start the engine, once per process. `spec.engine` must be resolved. Raises EngineBroken or MemoryError."""
    try:
        if spec.engine == "rapidocr":
            _rapidocr()
        elif missing := set(spec.languages) - tesseract_languages():  # it has none at all where it does not run
            raise RuntimeError(f"it has no language {', '.join(sorted(missing))}")
    except Exception as error:  # ImportError of a library of C, a model that is gone, whatever else a constructor raises
        if is_memory_error(error) and not isinstance(error, ImportError):
            raise MemoryError from error
        raise EngineBroken(_in_one_line(error)) from error


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"


@functools.cache
def engine_version(engine: str) -> str:
    """Return the version of a resolved engine, for keys and provenance; empty for none."""
    if engine == "rapidocr":
        return importlib.metadata.version("rapidocr")
    if engine == "tesseract":
        return (_tesseract("--version").splitlines() or ["unknown"])[0].removeprefix("tesseract ").strip()
    return ""


@functools.cache
def tesseract_languages() -> frozenset[str]:
    """Return the languages that the installed Tesseract has; empty where it is not installed."""
    if shutil.which("tesseract") is None:
        return frozenset()
    return frozenset(_tesseract("--list-langs").splitlines()[1:])


def recognize(image: Image, dpi: float, spec: Ocr) -> Recognized:
    """Read a page. `spec.engine` must be resolved. Raises RuntimeError (or what the engine raises) when it fails."""
    read = functools.partial(_read_rapidocr if spec.engine == "rapidocr" else _read_tesseract, dpi=dpi, spec=spec)
    best, rotation = read(image), 0
    if _confidence(best) < CONFIDENT or _mostly_turned(best):
        least = 0.0 if _mostly_turned(best) else _weight(best) * TURN_GAIN
        for turn in _turns(image, best, dpi, spec):
            turned = read(np.rot90(image, -turn // 90))
            if _weight(turned) > least:
                best, rotation, least = turned, turn, _weight(turned)
                if _confidence(turned) >= CONFIDENT:
                    break
    kept = _joined([piece for piece in best if piece.confidence >= spec.min_confidence])
    scale = POINTS_PER_INCH / dpi
    for f in kept:
        f.x0, f.y0, f.x1, f.y1, f.size = (value * scale for value in (f.x0, f.y0, f.x1, f.y1, f.size))
    return Recognized(kept, _confidence(best), rotation)


class _Piece(NamedTuple):
    """A recognized line or word, in pixels. Words of one line share `line`."""

    fragment: Fragment
    confidence: float
    line: tuple[int, ...]


def _turns(image: Image, upright: list[_Piece], dpi: float, spec: Ocr) -> tuple[int, ...]:
    """Return by how many degrees clockwise a page that reads badly may have to be turned, the likeliest first."""
    if spec.engine == "rapidocr":
        return (90, 270) if _mostly_turned(upright) else (180,)
    if "osd" not in tesseract_languages():
        return (90, 270, 180)
    try:  # Tesseract's own guess at the orientation; it refuses pages with few letters
        said = _run_tesseract(image, dpi, spec, "-l", "osd", "--psm", "0")
    except RuntimeError:
        return ()
    found = re.search(r"^Rotate: (90|180|270)$", said, re.MULTILINE)
    return (int(found[1]),) if found else ()


def _joined(pieces: list[_Piece]) -> list[Fragment]:
    """Join the words of a line, unless a column's gap lies between."""
    fragments: list[Fragment] = []
    before: tuple[int, ...] | None = None
    for piece in pieces:
        f, last = piece.fragment, fragments[-1] if fragments else None
        if last and piece.line == before and f.x0 - last.x1 < 1.5 * max(f.size, last.size):
            last.text += " " + f.text
            last.x1, last.y0, last.y1 = max(last.x1, f.x1), min(last.y0, f.y0), max(last.y1, f.y1)
            last.size = max(last.size, f.size)
        else:
            fragments.append(f)
        before = piece.line
    return fragments


def _confidence(pieces: list[_Piece]) -> float:
    total = sum(len(piece.fragment.text) for piece in pieces)
    return sum(piece.confidence * len(piece.fragment.text) for piece in pieces) / total if total else 0.0


def _weight(pieces: list[_Piece]) -> float:
    return sum(piece.confidence * len(piece.fragment.text) for piece in pieces)


def _mostly_turned(pieces: list[_Piece]) -> bool:
    """Tell whether most of the text, by the length of its lines, runs up or down the page."""
    boxes = [(p.fragment.x1 - p.fragment.x0, p.fragment.y1 - p.fragment.y0) for p in pieces if len(p.fragment.text) > 2]
    return sum(high for wide, high in boxes if high > UPRIGHT_HEIGHT * wide) > 0.5 * sum(max(box) for box in boxes)


@functools.cache
def _rapidocr() -> Any:
    from rapidocr import RapidOCR

    one_thread = {"EngineConfig.onnxruntime.intra_op_num_threads": 1, "EngineConfig.onnxruntime.inter_op_num_threads": 1}
    as_rendered = {"Det.limit_type": "max", "Det.limit_side_len": MAX_SIDE_PIXELS}  # by default small pages are blown up, and their lines torn
    engine = RapidOCR(params={"Global.use_cls": False, "Global.text_score": 0.0, "Rec.rec_batch_num": 1, **one_thread, **as_rendered})
    logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)
    return engine


def _read_rapidocr(image: Image, dpi: float, spec: Ocr) -> list[_Piece]:
    found = _rapidocr()(np.ascontiguousarray(image[:, :, ::-1]))  # OpenCV's order: blue, green, red
    if found.txts is None:
        return []
    pieces: list[_Piece] = []
    for box, text, score in zip(found.boxes, found.txts, found.scores, strict=True):
        (x0, y0), (x1, y1) = np.min(box, axis=0).tolist(), np.max(box, axis=0).tolist()
        if text.strip():
            pieces.append(_Piece(Fragment(text.strip(), x0, y0, x1, y1, min(x1 - x0, y1 - y0) * 0.75), float(score), (len(pieces),)))
    return pieces


def _read_tesseract(image: Image, dpi: float, spec: Ocr) -> list[_Piece]:
    said = _run_tesseract(image, dpi, spec, "-l", "+".join(spec.languages), "--psm", "3", "tsv")
    pieces: list[_Piece] = []
    for row in csv.DictReader(said.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE):
        text = (row.get("text") or "").strip()
        if row.get("level") == "5" and text:
            x0, y0, wide, high = (float(row[name]) for name in ("left", "top", "width", "height"))
            line = tuple(int(row[name]) for name in ("block_num", "par_num", "line_num"))
            pieces.append(_Piece(Fragment(text, x0, y0, x0 + wide, y0 + high, high * 0.9), float(row["conf"]) / 100, line))
    return pieces


def _run_tesseract(image: Image, dpi: float, spec: Ocr, *arguments: str) -> str:
    height, width = image.shape[:2]
    picture = b"P6 %d %d 255\n" % (width, height) + np.ascontiguousarray(image).tobytes()
    command = ["tesseract", "stdin", "stdout", "--dpi", str(round(dpi)), *arguments]
    seconds = WALL_PER_CPU * spec.limits.max_page_seconds
    run = subprocess.run(command, input=picture, capture_output=True, timeout=seconds, env=os.environ | {"OMP_THREAD_LIMIT": "1"}, check=False)
    if run.returncode:
        raise RuntimeError(f"tesseract: {run.stderr.decode('utf-8', 'replace').strip()[-200:] or run.returncode}")
    return run.stdout.decode("utf-8", "replace")


def _tesseract(argument: str) -> str:
    run = subprocess.run(["tesseract", argument], capture_output=True, text=True, timeout=30, check=False)
    return run.stdout or run.stderr
