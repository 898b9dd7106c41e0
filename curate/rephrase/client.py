"""A client for OpenAI's chat completions protocol: bounded concurrency, patient with a busy server, clear about a wrong setup.

What may pass is tried again with exponential backoff: connection errors, timeouts, 408, 409, 5xx and answers that are no JSON,
up to `attempts` times; "come back later" (429, or 503 with Retry-After) does not count as an attempt and holds back all
requests of this client, up to `patience_seconds` for each; when so many in a row have waited in vain, so will the others. What
cannot pass stops the run at once, with a hint: a wrong key (401), an account without money (402, 429 `insufficient_quota`), and an
endpoint that has refused the first requests without serving one. 403 and 404 say that key, address or model are wrong, unless
this endpoint serves this model: then, like any other refusal (400, 413, 422), they concern their own request (a moderated
text, say), which is returned as a failure.

Answers are kept in a journal, one JSON line each, under a hash of the request: a killed or changed run asks for nothing twice.
An empty file beside it, named by a hash of address and model, says that they have served: one client sees one shard only.
The key is held in memory only: it is in no journal, error or repr, and is removed from what the server says.
"""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import httpx
import msgspec

from curate.endpoints import Endpoint
from curate.errors import CurateError
from curate.specs.workflow import Rephrase

FAILURES = ("timeout", "connection_failed", "rate_limited", "server_error", "malformed_answer", "refused_request")
PASSING = frozenset(FAILURES) - {"refused_request"}  # what another run may get an answer to
_FIRST_FAILURES = 5  # so many requests may fail before any has succeeded, or wait in vain one after another
_MAX_BODY_BYTES = 8_000_000  # of one answer; a hundred thousand tokens are a tenth of it
_NO_MONEY = {"insufficient_quota", "billing_not_active", "billing_hard_limit_reached"}  # codes of a 429 that no waiting helps against
_MAX_PAUSE_SECONDS = 300.0
_MAX_BACKOFF_SECONDS = 60.0


class Completion(msgspec.Struct, frozen=True):
    """One answer. `attempts` counts the requests that it took, waiting included."""

    text: str
    finish_reason: str
    model: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    attempts: int = 1


class Failure(msgspec.Struct, frozen=True):
    """Why there is no answer: one of FAILURES, and what the server said."""

    reason: str
    detail: str
    attempts: int


class _Later(Exception):
    """The server asks to come back after `seconds` (None: it does not say when)."""

    def __init__(self, seconds: float | None, detail: str) -> None:
        super().__init__(detail)
        self.seconds = seconds


class _Denied(Exception):
    """Key, address or model are wrong, or this one request is not wanted: what became of other requests tells."""

    def __init__(self, detail: str, hint: str) -> None:
        super().__init__(detail)
        self.hint = hint


class _Passing(Exception):
    """An error that may pass."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Client:
    """Ask an endpoint. Use as a context manager; `ask` answers a list of requests in their order.

    `journal` is where answers are kept; those in the journals `older` are known too.
    """

    def __init__(self, target: Endpoint, options: Rephrase, seed: int = 0, journal: Path | None = None, older: Iterable[Path] = ()) -> None:
        self._target, self._options, self._seed = target, options, seed
        self._known = {key: answer for path in [*older, *([journal] if journal else [])] for key, answer in _read_journal(path)}
        self._journal = None if journal is None else _open_journal(journal)
        served = hashlib.blake2b(f"{target.base_url}\0{options.model}".encode(), digest_size=8).hexdigest()
        self._marker = None if journal is None else journal.with_name(f".served-{served}")
        self._runner = asyncio.Runner()
        self._http: httpx.AsyncClient | None = None
        self._resume, self._served, self._failed = 0.0, False, 0
        self._under_way = 0  # requests that were sent and not answered yet
        self._in_vain = 0  # requests that ran out of patience since the last answer
        self.num_requests = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        if self._http is not None:
            self._runner.run(self._http.aclose())
        self._runner.close()
        if self._journal is not None:
            self._journal.close()

    def ask(self, bodies: list[dict[str, Any]]) -> list[Completion | Failure]:
        """Send each request body; return an answer or a failure for each, in the order of `bodies`.

        Raises CurateError when the endpoint cannot be used at all.
        """
        return self._runner.run(self._ask_all(bodies))

    async def _ask_all(self, bodies: list[dict[str, Any]]) -> list[Completion | Failure]:
        if self._http is None:
            limit = httpx.Limits(max_connections=self._options.concurrency, max_keepalive_connections=self._options.concurrency)
            headers = {"Authorization": f"Bearer {self._target.key}"} if self._target.key else {}
            self._http = httpx.AsyncClient(limits=limit, timeout=self._options.timeout_seconds, headers=headers)
        results: list[Completion | Failure | None] = [None] * len(bodies)
        waiting = iter(range(len(bodies)))

        async def work() -> None:
            for i in waiting:
                results[i] = await self._answer(bodies[i])

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._options.concurrency, len(bodies))):
                    group.create_task(work())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [result for result in results if result is not None]

    async def _answer(self, body: dict[str, Any]) -> Completion | Failure:
        """Answer one request from the journal, or by asking until it succeeds, cannot succeed, or patience ends."""
        key = hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()
        if key in self._known:
            return self._known[key]
        tries, attempts, since = 0, 0, time.monotonic()
        while True:
            await self._pause()
            tries += 1
            try:
                completion = await self._send(body, tries)
            except _Later as later:
                waited = time.monotonic() - since
                pause = self._backoff(key, tries) if later.seconds is None else min(later.seconds, _MAX_PAUSE_SECONDS)
                if waited + pause > self._options.patience_seconds:
                    return self._out_of_patience(Failure("rate_limited", f"{later}, for {self._options.patience_seconds:g} seconds", tries))
                self._resume = max(self._resume, time.monotonic() + pause)
            except _Passing as passing:
                attempts += 1
                if attempts >= self._options.attempts:
                    return self._give_up(Failure(passing.reason, str(passing), tries))
                await asyncio.sleep(self._backoff(key, attempts))
            except _Denied as denied:
                while self._under_way and not self._serves():
                    await asyncio.sleep(0.02)  # one of the others may be served
                if not self._serves():
                    raise CurateError(f"the endpoint refuses: {denied}", where=self._target.base_url, hint=denied.hint) from None
                return Failure("refused_request", str(denied), tries)
            else:
                if isinstance(completion, Failure):
                    return self._give_up(completion)
                self._answered(key, completion)
                return completion

    async def _send(self, body: dict[str, Any], tries: int) -> Completion | Failure:
        assert self._http is not None
        self.num_requests += 1
        self._under_way += 1
        try:
            # httpx limits the time between two reads; a server that drips must end too.
            async with asyncio.timeout(self._options.timeout_seconds):
                async with self._http.stream("POST", f"{self._target.base_url}/chat/completions", json=body) as response:
                    content = await _body(response)
        except (TimeoutError, httpx.TimeoutException):
            raise _Passing("timeout", f"no answer within {self._options.timeout_seconds:g} seconds") from None
        except (httpx.HTTPError, OSError) as error:
            raise _Passing("connection_failed", self._scrubbed(f"{type(error).__name__}: {error}")) from None
        finally:
            self._under_way -= 1
        if response.status_code == 200:
            return _parse(content, tries)
        return self._refusal(response, content, tries)

    def _refusal(self, response: httpx.Response, content: bytes, tries: int) -> Failure:
        """Sort an answer that is none: raise what may pass, and what concerns every request; return what concerns this one."""
        status, (message, codes) = response.status_code, _said(content)
        said = self._scrubbed(message)
        detail = f"HTTP {status}{f': {said}' if said else ''}"
        if status == 402 or (status == 429 and codes & _NO_MONEY):
            hint = f"no waiting helps: add to the account of {self._options.api_key_env}; the answers that came are kept: run again"
            raise CurateError(f"the endpoint wants money: {detail}", where=self._target.base_url, hint=hint)
        after = _retry_after(response.headers.get("Retry-After"))
        if status == 429 or (status == 503 and after is not None):
            raise _Later(after, detail)
        if status in (408, 409, 425) or status >= 500:
            raise _Passing("server_error", detail)
        if status in (403, 404):
            hints = {
                403: f"the key in {self._options.api_key_env} may not use this endpoint or model",
                404: f"check {self._options.base_url_env} (it usually ends in /v1) and whether the endpoint serves the model '{self._options.model}'",
            }
            raise _Denied(detail, hints[status])
        if status == 401 or 300 <= status < 400:
            hint = f"set {self._options.api_key_env} to a valid key"
            hint = hint if status == 401 else f"{self._options.base_url_env} redirects; set it to the final address"
            raise CurateError(f"the endpoint refuses: {detail}", where=self._target.base_url, hint=hint)
        return Failure("refused_request", detail, tries)

    def _give_up(self, failure: Failure) -> Failure:
        """Return a failure; raise instead when the endpoint has not served a single request and the first ones have failed."""
        self._failed += 1
        if self._failed >= _FIRST_FAILURES and not self._serves():
            hint = f"check that the server runs, {self._options.base_url_env}, and that it serves '{self._options.model}' with these options"
            what = f"the first {self._failed} requests failed; the last: {failure.detail}"
            raise CurateError(what, where=self._target.base_url, hint=hint)
        return failure

    def _out_of_patience(self, failure: Failure) -> Failure:
        """Return the failure of a request that waited in vain; raise instead when so many in a row did, or one where nothing was ever served."""
        self._in_vain += 1
        if self._in_vain >= (_FIRST_FAILURES if self._serves() else 1):
            what = f"the endpoint serves nothing and only says: {failure.detail}"
            hint = "the answers that came are kept: run again when the endpoint serves again, with less concurrency or more patience_seconds"
            raise CurateError(what, where=self._target.base_url, hint=hint)
        return failure

    def _serves(self) -> bool:
        """Return whether this endpoint has served this model, here or (as the file beside the journal says) anywhere in the run."""
        self._served = self._served or (self._marker is not None and self._marker.exists())
        return self._served

    def _answered(self, key: str, completion: Completion) -> None:
        """Note an answer that has come."""
        if not self._served and self._marker is not None:
            self._marker.touch()
        self._served, self._in_vain = True, 0
        self._known[key] = completion
        if self._journal is not None:
            self._journal.write(msgspec.json.encode({"request": key, "answer": completion}) + b"\n")
            self._journal.flush()

    async def _pause(self) -> None:
        """Wait until the server wants requests again."""
        while (left := self._resume - time.monotonic()) > 0:
            await asyncio.sleep(left)

    def _backoff(self, key: str, attempt: int) -> float:
        """Return seconds to wait: doubling, and spread by a hash of request and attempt so that requests do not come back in step."""
        digest = hashlib.blake2b(f"{self._seed}\0{key}\0{attempt}".encode(), digest_size=4).digest()
        spread = 0.5 + int.from_bytes(digest, "big") / 2**33
        return float(min(_MAX_BACKOFF_SECONDS, 0.5 * 2 ** min(attempt, 16)) * spread)

    def _scrubbed(self, text: str) -> str:
        """Return `text` on one line without the key."""
        line = " ".join(text.split())[:300]
        return line.replace(self._target.key, "[key]") if self._target.key else line


def _open_journal(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab")
    if file.tell():
        file.write(b"\n")  # ends a line that a kill cut short; blank lines are skipped
    return file


def _read_journal(path: Path) -> Iterator[tuple[str, Completion]]:
    """Yield the answers of an earlier run; lines that were cut short are passed over."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                entry = msgspec.json.decode(line, type=_Entry)
            except (msgspec.DecodeError, msgspec.ValidationError):
                continue
            yield entry.request, entry.answer


class _Entry(msgspec.Struct):
    request: str
    answer: Completion


def _parse(content: bytes, tries: int) -> Completion:
    """Read the body of a completion; what is not one may be an answer cut short, so it counts as passing."""
    try:
        data = json.loads(content)
        choice = data["choices"][0]
        text, usage = choice["message"]["content"], data.get("usage") or {}
        if not isinstance(text, str | None):
            raise TypeError("content is not a text")
        return Completion(
            (text or "").encode("utf-8", "replace").decode(),
            str(choice.get("finish_reason") or ""),
            str(data.get("model") or ""),
            _count(usage.get("prompt_tokens")),
            _count(usage.get("completion_tokens")),
            tries,
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise _Passing("malformed_answer", f"the answer is no completion ({type(error).__name__}: {error})"[:200]) from None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


async def _body(response: httpx.Response) -> bytes:
    """Return the body of an answer; one that does not end soon is malformed."""
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > _MAX_BODY_BYTES:
            raise _Passing("malformed_answer", f"the answer is longer than {_MAX_BODY_BYTES:,} bytes")
    return bytes(content)


def _said(content: bytes) -> tuple[str, set[str]]:
    """Return what the server says, its error message or the beginning of the body, and the error's code and type."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return content[:1200].decode("utf-8", "replace")[:300], set()
    inner = data.get("error", data) if isinstance(data, dict) else data
    if not isinstance(inner, dict):
        return str(inner), set()
    return str(inner.get("message") or inner.get("detail") or inner), {str(inner.get("code")), str(inner.get("type"))}


def _retry_after(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which may be a date; None when there is none that can be read."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
