"""The process that reads PDFs: one after the other, page by page, within limits. Started by `curate.ocr.reader`.

    python -m curate.ocr.worker PARENT_PID

PDFs are hostile, and the libraries that read them are written in C: endless content streams, gigabytes in a kilobyte, crashes. So
the kernel keeps the limits, not this code: RLIMIT_CPU, moved forward before every page, kills with SIGXCPU; RLIMIT_DATA makes
allocations fail, which ends the process with EXIT_MEMORY (macOS does not enforce it; there the parent's watch on the resident size
does). The parent reports the page, starts another process and goes on. Several PDFs per process, since loading the OCR models costs seconds.

The process ends with its parent: at the end of the pipe when it is idle, by PR_SET_PDEATHSIG on Linux when it is busy, by RLIMIT_CPU
elsewhere. It has no business on the network, and an audit hook refuses every connection.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from typing import Any, BinaryIO

from curate.ocr import engines, layout, messages, route
from curate.ocr.messages import PageRead
from curate.ocr.pages import Fragment, Pdf, PdfError, is_memory_error, library_version, open_pdf, tells_of_loss
from curate.specs.ocr import Ocr

PR_SET_PDEATHSIG = 1


def main(parent: int) -> None:
    """Answer requests until the pipe ends."""
    requests, answers = _own_pipes()
    _die_with(parent)
    sys.addaudithook(_refuse_network)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while (frame := messages.read_frame(requests)) is not None:
        request = messages.decode_request(frame)
        del frame
        try:
            messages.write_frame(answers, messages.encode(_serve(request, answers)))
        except MemoryError:
            os._exit(messages.EXIT_MEMORY)
        except BrokenPipeError:
            return


def _serve(request: messages.Request, answers: BinaryIO) -> messages.Failed | messages.EngineFailed | messages.Done:
    """Send what a request asks for, and return the message that ends the answer."""
    options, limits = request.options, request.options.limits
    limit_memory(limits.max_megabytes)
    began = limit_time(limits.max_page_seconds) - request.spent_seconds
    try:
        pdf = open_pdf(request.data)
        opened = messages.Opened(pdf.num_pages, pdf.metadata())
    except PdfError as error:
        return messages.Failed(str(error))
    messages.write_frame(answers, messages.encode(opened))
    for page in range(request.start, min(pdf.num_pages, limits.max_pages)):
        start = limit_time(limits.max_page_seconds)
        if start - began > limits.max_seconds:
            break
        try:
            found = read_page(pdf, page, options, answers)
        except engines.EngineBroken as error:
            return messages.EngineFailed(str(error))
        found.seconds = cpu_seconds() - start
        messages.write_frame(answers, messages.encode(found))
    return messages.Done()


def read_page(pdf: Pdf, page: int, options: Ocr, answers: BinaryIO) -> PageRead:
    """Read one page by the way that its evidence points to. An error of the library makes it a gap. Raises EngineBroken.

    So does a warning of lost content where nothing was found: a page whose content is destroyed looks blank.
    """
    try:
        pdf.warnings()
        width, height = pdf.size(page)
        fragments, cut = pdf.fragments(page, options.limits.max_page_characters)
        evidence = route.measure(fragments, route.image_share(pdf.image_boxes(page), width, height), options.route)
        ink = 1.0
        if evidence.characters < options.route.min_characters:
            ink = route.ink_share(pdf.render(page, route.INK_DPI, options.limits.max_pixels)[0], fragments, width, height)
    except (RuntimeError, ValueError) as error:
        if is_memory_error(error):
            raise MemoryError from error
        return PageRead(page, "gap", ["unreadable_page"])
    way, reasons = route.decide(evidence, ink, options.route)
    library, version = library_version().split()
    layer = PageRead(page, way, reasons + ["text_cut_off"] * cut, layout.make_lines(fragments), height, library, version)
    if way == "text":
        return layer
    if way == "blank":
        if tells_of_loss(pdf.warnings()):
            return PageRead(page, "gap", ["unreadable_page"])
        return PageRead(page, "blank", layer.reasons, height=height)
    return _recognize(pdf, layer, fragments, options, answers)


def stand_in(layer: PageRead, reason: str) -> PageRead:
    """Return what becomes of a page whose OCR is not to be had, because of `reason`: its text layer, or a gap where that is noise."""
    reasons = [*layer.reasons, reason]
    if route.is_noise(layer.reasons):
        return PageRead(layer.page, "gap", reasons, height=layer.height)
    return PageRead(layer.page, "text", reasons, layer.lines, layer.height, layer.engine, layer.engine_version)


def _recognize(pdf: Pdf, layer: PageRead, fragments: list[Fragment], options: Ocr, answers: BinaryIO) -> PageRead:
    """Send a page to OCR, and choose between what was recognized and the text layer."""
    if options.engine == "none":
        return stand_in(layer, "ocr_is_off")
    messages.write_frame(answers, messages.encode(messages.OcrBegun(layer)))
    try:
        engines.start(options)
        image, dpi = pdf.render(layer.page, options.dpi, options.limits.max_pixels)
        found = engines.recognize(image, dpi, options)
    except engines.EngineBroken:
        raise
    except Exception as error:  # an engine may raise anything: cv2.error, onnxruntime's own, OSError
        if is_memory_error(error):
            raise MemoryError from error
        print(f"OCR failed on page {layer.page + 1}: {type(error).__name__}: {error}", file=sys.stderr)
        return stand_in(layer, "ocr_failed")
    reasons = layer.reasons + ["resolution_reduced"] * (dpi < options.dpi - 0.5)
    before, after = ("\n".join(fragment.text for fragment in side) for side in (fragments, found.fragments))
    if route.prefer(before, after, reasons) == "text":
        return PageRead(layer.page, "text", [*reasons, "ocr_no_better"], layer.lines, layer.height, layer.engine, layer.engine_version)
    if not found.fragments:
        return PageRead(layer.page, "blank", [*reasons, "nothing_recognized"], height=layer.height)
    height = layer.height if found.rotation in (0, 180) else pdf.size(layer.page)[0]
    lines = layout.make_lines(found.fragments)
    version = engines.engine_version(options.engine)
    return PageRead(layer.page, "ocr", reasons, lines, height, options.engine, version, round(found.confidence, 3), found.rotation)


def cpu_seconds() -> float:
    """Return the processor time of this process and of the programs that it ran."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def limit_time(seconds: int) -> float:
    """Let the kernel kill this process after `seconds` more of processor time. Returns the time used so far."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(own.ru_utime + own.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
    return cpu_seconds()


def limit_memory(megabytes: int) -> None:
    """Let allocations fail once this process has `megabytes` of private memory."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = megabytes * 2**20
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    except (ValueError, OSError):
        return  # a system without this limit: the parent watches the resident size


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Take over stdin and stdout for frames; whatever a library prints goes to stderr."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    return requests, answers


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _refuse_network(event: str, _: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        raise PermissionError("the process that reads PDFs has no network")


if __name__ == "__main__":
    main(int(sys.argv[1]))
