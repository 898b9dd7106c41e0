"""The PDF room: which pages have text that can be trusted, which need optical character recognition, and doing both.

- `pages`: a PDF as pages of fragments and images; the only module that knows PyMuPDF
- `plausibility`: is this text, or the noise of a broken font? By `letter_pairs`, a table of figures
- `route`: per page, its text layer, OCR or nothing, and why
- `engines`: RapidOCR and Tesseract behind one call
- `layout`: fragments → lines → columns → paragraphs → text
- `worker`, `messages`, `reader`: pages are read in a subprocess under limits; the parent survives its death
"""

from curate.ocr.engines import engine_version, resolve_engine

__all__ = ["engine_version", "resolve_engine"]
