"""The client against a real HTTP server: what may pass is tried again, what cannot pass stops with a hint, and no key leaks."""

from __future__ import annotations

import email.utils
import time
from pathlib import Path

import pytest
from chat_server import Reply, Request, completion, error, serving

from curate.endpoints import Endpoint, endpoint
from curate.errors import CurateError, SpecError
from curate.rephrase.client import Client, Completion, Failure
from curate.specs.workflow import Rephrase

KEY = "sk-very-secret-7f3a"


def options(**changes: object) -> Rephrase:
    return Rephrase(**{"model": "m", "concurrency": 4, "timeout_seconds": 10.0, "attempts": 3, "patience_seconds": 3.0} | changes)


def body(text: str) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": f"<<<TEXT\n{text}\nTEXT>>>"}]}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Client._backoff
    monkeypatch.setattr(Client, "_backoff", lambda self, key, attempt: real(self, key, attempt) / 50)


def asked(address: str, bodies: list[dict[str, object]], **changes: object) -> list[Completion | Failure]:
    with Client(Endpoint(address, KEY), options(**changes)) as client:
        return client.ask(bodies)


def test_answers_come_in_the_order_of_the_requests_and_concurrency_is_bounded() -> None:
    def late_first(request: Request) -> Reply:
        return completion(request.text.upper(), delay=0.15 if request.text in ("t0", "t1") else 0.01)

    with serving(late_first) as server:
        answers = asked(server.address, [body(f"t{i}") for i in range(20)])
    assert [answer.text for answer in answers] == [f"T{i}" for i in range(20)]
    assert server.most_in_flight <= 4
    assert server.connections <= 4  # reused
    assert {request.path for request in server.requests} == {"/v1/chat/completions"}
    assert {request.headers["Authorization"] for request in server.requests} == {f"Bearer {KEY}"}
    assert (answers[0].prompt_tokens, answers[0].completion_tokens, answers[0].model, answers[0].attempts) == (11, 7, "served", 1)


def test_connections_are_reused_between_calls() -> None:
    with serving(lambda request: completion("x")) as server, Client(Endpoint(server.address), options(concurrency=1)) as client:
        for i in range(5):
            client.ask([body(str(i))])
        assert server.connections == 1
        assert "Authorization" not in server.requests[0].headers  # no key, no header


def test_429_with_retry_after_is_honored_and_is_no_attempt() -> None:
    def busy(request: Request) -> Reply:
        return error(429, "slow down", {"Retry-After": "0.2"}) if request.times <= 4 else completion("done")

    with serving(busy) as server:
        start = time.monotonic()
        answers = asked(server.address, [body("a")], attempts=1)
    assert isinstance(answers[0], Completion)
    assert answers[0].attempts == 5
    assert time.monotonic() - start >= 0.8


def test_a_pause_holds_back_every_request() -> None:
    start = time.monotonic()
    arrivals: list[tuple[int, float]] = []

    def busy_once(request: Request) -> Reply:
        arrivals.append((request.number, time.monotonic() - start))
        return error(503, "loading", {"Retry-After": "0.4"}) if request.number == 0 else completion("x", delay=0.05)

    with serving(busy_once) as server:
        asked(server.address, [body(str(i)) for i in range(8)], concurrency=2)
    # The request already in flight may finish; nothing else starts before the pause ends.
    assert not [at for number, at in arrivals if number >= 2 and at < 0.38]


def test_retry_after_may_be_a_date() -> None:
    soon = email.utils.formatdate(time.time() + 1, usegmt=True)
    with serving(lambda r: error(429, "x", {"Retry-After": soon}) if r.times == 1 else completion("ok")) as server:
        answers = asked(server.address, [body("a")])
    assert isinstance(answers[0], Completion)


def test_patience_ends_as_a_failure_and_does_not_stop_the_others() -> None:
    def one_is_limited(request: Request) -> Reply:
        return error(429, "quota") if request.text == "limited" else completion("ok")

    with serving(one_is_limited) as server:
        answers = asked(server.address, [body("a"), body("limited"), body("b")], patience_seconds=0.3, concurrency=1)
    assert [type(answer).__name__ for answer in answers] == ["Completion", "Failure", "Completion"]
    assert answers[1].reason == "rate_limited"
    assert "quota" in answers[1].detail


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (error(500, "boom"), "server_error"),
        (error(503, "overloaded"), "server_error"),
        (Reply(200, b'{"choices": [{"mess'), "malformed_answer"),
        (Reply(200, b'{"choices": []}'), "malformed_answer"),
        (Reply(200, b'{"choices": [{"message": {"content": 5}}]}'), "malformed_answer"),
        (Reply(200, b"[1]"), "malformed_answer"),
        (Reply(200, b"[" * 200_000), "malformed_answer"),
        (Reply(reset=True), "connection_failed"),
        (completion("late", delay=0.8), "timeout"),
    ],
)
def test_what_may_pass_is_tried_again_and_then_a_failure(broken: Reply, reason: str) -> None:
    with serving(lambda r: completion("ok") if r.text == "recovers" and r.times == 3 else broken) as server:
        answers = asked(server.address, [body("recovers"), body("never")], timeout_seconds=0.5 if reason == "timeout" else 10.0)
    assert isinstance(answers[0], Completion)
    assert answers[0].attempts == 3
    assert isinstance(answers[1], Failure)
    assert (answers[1].reason, answers[1].attempts) == (reason, 3)
    assert len(server.requests) == 6


def test_a_server_that_drips_ends_at_the_timeout() -> None:
    import socket
    import threading

    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(5)

    def drip() -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                for _ in range(50):
                    connection.sendall(b" ")
                    time.sleep(0.1)
            except OSError:
                return

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    start = time.monotonic()
    answers = asked(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", [body("a")], attempts=1, timeout_seconds=0.5)
    assert answers[0].reason == "timeout"
    assert time.monotonic() - start < 2
    listener.close()
    thread.join(6)


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "CURATE_LLM_API_KEY"), (403, "CURATE_LLM_API_KEY"), (404, "CURATE_LLM_BASE_URL"), (307, "redirects")]
)
def test_a_wrong_setup_stops_at_once_with_a_hint_and_without_the_key(status: int, hint: str) -> None:
    refusal = error(status, f"Incorrect API key provided: {KEY}", {"Location": "http://elsewhere/"})
    with serving(lambda r: refusal) as server, pytest.raises(CurateError) as caught:
        asked(server.address, [body(str(i)) for i in range(50)])
    assert len(server.requests) <= 4
    assert hint in caught.value.hint
    assert KEY not in str(caught.value)
    assert KEY not in repr(Endpoint(server.address, KEY))


def test_a_refused_request_is_its_own_failure() -> None:
    with serving(lambda r: error(400, "too long for the context window") if r.text == "long" else completion("ok")) as server:
        answers = asked(server.address, [body("a"), body("long"), body("b")], concurrency=1)
    assert isinstance(answers[1], Failure)
    assert (answers[1].reason, answers[1].attempts) == ("refused_request", 1)
    assert "context window" in answers[1].detail
    assert isinstance(answers[2], Completion)


@pytest.mark.parametrize("status", [403, 404])
def test_a_text_that_is_moderated_is_its_own_failure(status: int) -> None:
    def moderated(request: Request) -> Reply:
        return error(status, "input flagged") if request.text == "bad" else completion("ok", delay=0.1)

    with serving(moderated) as server:  # the refusal comes before any answer
        answers = asked(server.address, [body(text) for text in ("bad", "a", "b", "bad", "c")], concurrency=2)
    assert [getattr(answer, "reason", "") for answer in answers] == ["refused_request", "", "", "refused_request", ""]
    assert "input flagged" in answers[0].detail


def test_what_another_shard_was_served_counts_for_a_refusal(tmp_path: Path) -> None:
    with serving(lambda r: error(404, "no") if r.text == "bad" else completion("ok")) as server:

        def one(shard: str, text: str, **changes: object) -> Completion | Failure:
            with Client(Endpoint(server.address, KEY), options(**changes), journal=tmp_path / f"{shard}.jsonl") as client:
                return client.ask([body(text)])[0]

        with pytest.raises(CurateError, match="the endpoint refuses"):
            one("0", "bad")
        assert isinstance(one("1", "good"), Completion)
        assert one("0", "bad").reason == "refused_request"
        with pytest.raises(CurateError, match="the endpoint refuses"):
            one("0", "bad", model="another")
    assert KEY not in "".join(path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize(("status", "code"), [(429, "insufficient_quota"), (402, "x")])
def test_an_account_without_money_stops_at_once(status: int, code: str) -> None:
    content = f'{{"error": {{"message": "You exceeded your current quota", "type": "{code}", "code": 7}}}}'.encode()
    with serving(lambda r: completion("ok") if r.number < 3 else Reply(status, content)) as server, pytest.raises(CurateError) as caught:
        asked(server.address, [body(str(i)) for i in range(50)], patience_seconds=900.0, concurrency=1)
    assert len(server.requests) == 4
    assert "You exceeded your current quota" in str(caught.value)
    assert "run again" in caught.value.hint


@pytest.mark.parametrize("served", [0, 1])
def test_an_endpoint_that_only_says_later_stops_after_a_few_requests(served: int) -> None:
    with serving(lambda r: completion("ok") if r.number < served else error(429, "later")) as server:
        with pytest.raises(CurateError, match="serves nothing and only says: HTTP 429: later, for 0.2 seconds"):
            asked(server.address, [body(str(i)) for i in range(200)], patience_seconds=0.2, concurrency=2)
        assert len({request.text for request in server.requests}) <= 7


def test_one_request_that_is_always_too_much_stops_no_run_of_an_endpoint_that_serves(tmp_path: Path) -> None:
    with serving(lambda r: error(429, "too large") if r.text == "big" else completion("ok")) as server:
        for _ in range(2):  # the second asks for this one only
            with Client(Endpoint(server.address, KEY), options(patience_seconds=0.1), journal=tmp_path / "a.jsonl") as client:
                answers = client.ask([*(body(str(i)) for i in range(3)), body("big")])
            assert [type(answer) for answer in answers] == [Completion] * 3 + [Failure]
            assert answers[3].reason == "rate_limited"


def test_an_answer_without_end_is_not_kept() -> None:
    with serving(lambda r: completion("x" * 9_000_000) if r.text == "endless" else completion("x" * 90_000)) as server:
        answers = asked(server.address, [body("endless"), body("long")], attempts=1)
    assert (answers[0].reason, "8,000,000" in answers[0].detail) == ("malformed_answer", True)
    assert isinstance(answers[1], Completion)


def test_an_endpoint_that_refuses_everything_stops_with_its_own_words() -> None:
    with serving(lambda r: error(400, "unknown model m")) as server, pytest.raises(CurateError) as caught:
        asked(server.address, [body(str(i)) for i in range(50)])
    assert len(server.requests) < 15
    assert "unknown model m" in str(caught.value)
    assert "serves 'm'" in caught.value.hint


def test_nobody_listens() -> None:
    with pytest.raises(CurateError, match="the first 5 requests failed"):
        asked("http://127.0.0.1:9/v1", [body(str(i)) for i in range(8)], attempts=2)


def test_the_journal_asks_for_nothing_twice_and_survives_a_cut_line(tmp_path: Path) -> None:
    journal = tmp_path / "answers" / "a.jsonl"
    with serving(lambda r: completion(f"{r.text} {r.number}")) as server:
        with Client(Endpoint(server.address, KEY), options(), journal=journal) as client:
            first = client.ask([body("a"), body("b")])
        content = journal.read_bytes()
        assert KEY.encode() not in content
        journal.write_bytes(content[:-20])  # killed while writing the last line
        with Client(Endpoint(server.address, KEY), options(), journal=journal) as client:
            again = client.ask([body("a"), body("b"), body("c")])
        with Client(Endpoint(server.address, KEY), options(), journal=journal) as client:
            assert client.ask([body("a"), body("b"), body("c")]) == again
            assert client.num_requests == 0
    same = [x == y for x, y in zip(first, again, strict=False)]
    assert sorted(same) == [False, True]  # the cut one was asked for again
    assert len(server.requests) == 4


def test_endpoint_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CURATE_LLM_BASE_URL", raising=False)
    assert endpoint(options()) is None
    monkeypatch.setenv("CURATE_LLM_BASE_URL", "http://127.0.0.1:8000/v1/")
    monkeypatch.setenv("CURATE_LLM_API_KEY", KEY)
    assert endpoint(options()) == Endpoint("http://127.0.0.1:8000/v1", KEY)
    strange = ("http://[::1/v1", "http://host:port/v1", "http://host:99999/v1", "http://ho\x01st/v1", "http://a..b/v1", "http://host/v1?x=1")
    for wrong in ("127.0.0.1:8000", "ftp://x/v1", f"http://user:{KEY}@host/v1", *strange):
        monkeypatch.setenv("CURATE_LLM_BASE_URL", wrong)
        with pytest.raises(SpecError) as caught:
            endpoint(options())
        assert KEY not in str(caught.value)


@pytest.mark.parametrize("mistake", ["“", "\n", "\x00"])
def test_a_key_that_cannot_be_sent_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch, mistake: str) -> None:
    monkeypatch.setattr("os.environ", {"CURATE_LLM_BASE_URL": "http://host/v1", "CURATE_LLM_API_KEY": f"{KEY}{mistake}x"})
    with pytest.raises(SpecError, match="CURATE_LLM_API_KEY") as caught:
        endpoint(options())
    assert KEY not in str(caught.value)


def test_backoff_doubles_and_depends_on_seed_and_request_only() -> None:
    with Client(Endpoint("http://x"), options(), seed=1) as one, Client(Endpoint("http://x"), options(), seed=1) as same:
        waits = [one._backoff("k", attempt) * 50 for attempt in range(1, 12)]
        assert waits == [same._backoff("k", attempt) * 50 for attempt in range(1, 12)]
        assert one._backoff("other", 1) != one._backoff("k", 1)
    for attempt, wait in enumerate(waits, 1):
        assert 0.5 * min(60, 0.5 * 2**attempt) <= wait <= min(60, 0.5 * 2**attempt)
