"""A real HTTP server that speaks the chat completions protocol, with the misbehavior of real ones on demand."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behavior = Callable[["Request"], "Reply"]


class Request:
    """What came in: the decoded body, the headers, and how often this very body came before."""

    def __init__(self, body: dict[str, Any], headers: Any, path: str, times: int, number: int) -> None:
        self.body, self.headers, self.path, self.times, self.number = body, headers, path, times, number

    @property
    def text(self) -> str:
        """The text between the markers of the prompt."""
        content: str = self.body["messages"][-1]["content"]
        return content.split("<<<TEXT\n", 1)[1].rsplit("\nTEXT>>>", 1)[0]


class Reply:
    """What goes out. `reset` closes the connection without an answer; `delay` is in seconds."""

    def __init__(
        self, status: int = 200, content: bytes = b"", headers: dict[str, str] | None = None, delay: float = 0.0, reset: bool = False
    ) -> None:
        self.status, self.content, self.headers, self.delay, self.reset = status, content, headers or {}, delay, reset


def completion(text: str | None, finish_reason: str = "stop", delay: float = 0.0) -> Reply:
    """A well-formed answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    return Reply(
        content=json.dumps({"id": "x", "object": "chat.completion", "model": "served", "choices": [choice], "usage": usage}).encode(), delay=delay
    )


def error(status: int, message: str, headers: dict[str, str] | None = None) -> Reply:
    """An error in the protocol's form."""
    return Reply(status, json.dumps({"error": {"message": message, "type": "error"}}).encode(), headers)


class Server:
    """What the tests see of a running server."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.requests: list[Request] = []
        self.connections = 0
        self.in_flight = 0
        self.most_in_flight = 0


@contextmanager
def serving(behavior: Behavior) -> Iterator[Server]:
    """Run a server on a free port of 127.0.0.1 whose answers `behavior` decides."""
    lock, seen = threading.Lock(), {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            with lock:
                state.connections += 1

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                seen[raw] = seen.get(raw, 0) + 1
                request = Request(json.loads(raw), self.headers, self.path, seen[raw], len(state.requests))
                state.requests.append(request)
                state.in_flight += 1
                state.most_in_flight = max(state.most_in_flight, state.in_flight)
            try:
                self._reply(behavior(request))
            finally:
                with lock:
                    state.in_flight -= 1

        def _reply(self, reply: Reply) -> None:
            time.sleep(reply.delay)
            if reply.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
                return
            try:
                self.send_response(reply.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(reply.content)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.content)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client has given up

        def log_message(self, *_: object) -> None:
            return

        def finish(self) -> None:
            try:
                super().finish()
            except (OSError, ValueError):
                return

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            return

    httpd = Quiet(("127.0.0.1", 0), Handler)
    state = Server(f"http://127.0.0.1:{httpd.server_address[1]}/v1")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
