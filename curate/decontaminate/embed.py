"""Texts → embeddings, from an endpoint that speaks OpenAI's embeddings protocol, or from sentence-transformers on this machine.

The endpoint's address and key come from the environment, since they belong to a machine and not to a spec. What may pass (connection
errors, timeouts, 408, 409, 425, 429, 5xx, answers that are none) is tried again, with the pause that the server asks for or a
doubling one; what cannot pass (a wrong key, address or model, a refused request) stops the step with a hint. The key is in no error
and no record. No answer is kept beyond its shard: a killed shard asks again.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.endpoints import Endpoint, endpoint
from curate.errors import CurateError, MissingExtra, SpecError
from curate.specs.workflow import Semantic

Vectors = NDArray[np.float32]
Embedder = Callable[[list[str]], Vectors]
_MAX_PAUSE_SECONDS = 60.0
_PASSING = (408, 409, 425, 429)


def open_embedder(options: Semantic, dimensions: int | None = None) -> Embedder:
    """Return a function from texts to unit vectors, float32 [texts, dimensions]; a text without any gets zeros.

    An endpoint must give vectors of `dimensions`, those of the items, or of one length all along. Raises SpecError when the environment
    names no endpoint, MissingExtra when the package is missing.
    """
    if options.engine == "sentence_transformers":
        return _local(options)
    found = required_endpoint(options)
    return _Endpoint(found.base_url, found.key, options, dimensions)


def required_endpoint(options: Semantic) -> Endpoint:
    """Return the endpoint that the environment names. Raises SpecError when there is none, or none that can be asked."""
    found = endpoint(options)
    if found is None:
        hint = "set it to the endpoint's address, such as http://127.0.0.1:8000/v1; or remove `semantic`"
        raise SpecError("the semantic channel has no endpoint", where=f"environment variable {options.base_url_env}", hint=hint)
    return found


def _local(options: Semantic) -> Embedder:
    try:
        package = importlib.import_module("sentence_transformers")
    except ImportError as error:
        raise MissingExtra.named("sentence-transformers", "semantic", "`engine: sentence_transformers`") from error
    model = package.SentenceTransformer(options.model)

    def embed(texts: list[str]) -> Vectors:
        return _unit(np.asarray(model.encode(texts, batch_size=options.batch_size, show_progress_bar=False), np.float32))

    return embed


class _Endpoint:
    """Ask an endpoint for embeddings, `batch_size` texts a request, `concurrency` requests at once."""

    def __init__(self, address: str, key: str, options: Semantic, dimensions: int | None) -> None:
        import httpx

        self._dimensions = dimensions
        self._address, self._key, self._options = f"{address}/embeddings", key, options
        self._http = httpx.Client(timeout=options.timeout_seconds, headers={"Authorization": f"Bearer {key}"} if key else {})

    def __call__(self, texts: list[str]) -> Vectors:
        size = self._options.batch_size
        parts = [texts[i : i + size] for i in range(0, len(texts), size)]
        with ThreadPoolExecutor(max_workers=self._options.concurrency) as pool:
            rows = list(pool.map(self._ask, parts))
        lengths = {len(vector) for part in rows for vector in part} | ({self._dimensions} if self._dimensions is not None else set())
        if len(lengths) > 1:
            what = f"gives embeddings of different lengths: {', '.join(map(str, sorted(lengths)))}"
            raise CurateError(what, where=self._address, hint="does it route to different models?")
        self._dimensions = next(iter(lengths), None)
        return _unit(np.array([vector for part in rows for vector in part], np.float32))

    def _ask(self, texts: list[str]) -> list[list[float]]:
        """Return one vector per text, trying again while that may help."""
        import httpx

        body, failure = {"model": self._options.model, "input": texts}, ""
        for attempt in range(self._options.attempts):
            pause = min(_MAX_PAUSE_SECONDS, 0.5 * 2**attempt)
            try:
                response = self._http.post(self._address, json=body)
            except (httpx.HTTPError, OSError) as error:
                failure = f"{type(error).__name__}: {error}"
            else:
                if response.status_code == 200:
                    found = _vectors(response.content, len(texts))
                    if not isinstance(found, str):
                        return found
                    failure = found
                elif response.status_code in _PASSING or response.status_code >= 500:
                    failure = f"HTTP {response.status_code}"
                    pause = _asked(response.headers.get("Retry-After"), pause)
                else:
                    raise self._refused(response.status_code, response.text)
            if attempt + 1 < self._options.attempts:
                time.sleep(pause)
        hint = "check that the server runs; the same command goes on from here"
        raise CurateError(f"gave no embeddings in {self._options.attempts} attempts: {self._scrubbed(failure)}", where=self._address, hint=hint)

    def _refused(self, status: int, text: str) -> CurateError:
        hints = {
            401: f"set {self._options.api_key_env} to a valid key",
            403: f"the key in {self._options.api_key_env} may not use this endpoint or model",
            404: f"check {self._options.base_url_env} (it usually ends in /v1) and whether the endpoint serves the model '{self._options.model}'",
        }
        hint = hints.get(status, f"does '{self._options.model}' take {self._options.batch_size} texts of {self._options.chunk_words} words?")
        return CurateError(f"refuses: HTTP {status}: {self._scrubbed(text)}", where=self._address, hint=hint)

    def _scrubbed(self, text: str) -> str:
        line = " ".join(text.split())[:300]
        return line.replace(self._key, "[key]") if self._key else line


def _vectors(content: bytes, expected: int) -> list[list[float]] | str:
    """Read the vectors of an answer, in the order of the texts; or say why it is no answer."""
    try:
        rows: list[dict[str, Any]] = sorted(json.loads(content)["data"], key=lambda row: int(row["index"]))
        vectors = [[float(value) for value in row["embedding"]] for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        return f"the answer holds no embeddings ({type(error).__name__})"
    return vectors if len(vectors) == expected else f"{expected} texts were sent, and {len(vectors)} embeddings came back"


def _asked(header: str | None, otherwise: float) -> float:
    try:
        return min(_MAX_PAUSE_SECONDS, max(0.0, float(header or "")))
    except ValueError:
        return otherwise


def _unit(vectors: Vectors) -> Vectors:
    """Return the vectors at length one; zeros, and what is not finite, as zeros."""
    if vectors.size == 0:
        return np.zeros((len(vectors), 0), np.float32)
    vectors = np.where(np.isfinite(vectors), vectors, 0)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = np.divide(vectors, length, out=np.zeros_like(vectors, np.float32), where=length > 0).astype(np.float32)
    return unit
