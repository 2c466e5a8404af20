# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from acmgproxy import access_log
from acmgproxy.access_log import AccessLog
from routing.specs import RetrySpec
from tests.protocol.world import REQUEST_ID, World, answer, request
from tests.unit.routing.table_kit import HOST, forward, rule

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START = "[2023-11-14T22:13:20.000Z]"
ID = REQUEST_ID.decode()
PEERS = "10.2.0.1:20000 10.1.0.1:51000"


class Logged:
    """A world whose log goes to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.world = World(rule("all", action=forward("web", retry=RetrySpec(attempts=0))), access_log=str(path))

    def lines(self) -> list[str]:
        """Stop logging and return what was logged."""
        assert self.world.plane.access_log is not None
        self.world.plane.access_log.close()
        return self.path.read_text().splitlines()


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Logged]:
    logged = Logged(tmp_path / "access.log")
    yield logged
    logged.world.check()


def test_a_line_has_istio_s_fields_in_their_order(logged: Logged) -> None:
    client = logged.world.client().send(
        request("POST", "/a?b", 'User-Agent: a "b" \\c', "X-Forwarded-For: 1.1.1.1", body=b"abcde")
    )
    logged.world.advance(0.25)
    logged.world.upstream().feed(answer(body=b"abc"))
    assert client.take()
    assert logged.lines() == [
        f'[2023-11-14T22:13:19.750Z] "POST /a?b HTTP/1.1" 200 - via_upstream - "-" 5 3 250 250 "1.1.1.1" "a \\"b\\" \\\\c" '
        f'"{ID}" "{HOST}" "10.0.0.1:8080" web - {PEERS} - all'
    ]


def test_a_failure_says_why(logged: Logged) -> None:
    logged.world.refuse()
    logged.world.client().send(request("GET", "/"))
    detail = "upstream_reset_before_response_started{connection_failure|[Errno_111]_Connection_refused}"
    reason = "upstream_reset_before_response_started{connection_failure|[Errno 111] Connection refused}"
    assert logged.lines() == [
        f'{START} "GET / HTTP/1.1" 503 UF {detail} - "{reason}" 0 91 0 - "-" "-" "{ID}" "{HOST}" '
        f'"10.0.0.1:8080" web - {PEERS} - all'
    ]


def test_a_client_that_has_gone_is_still_named(logged: Logged) -> None:
    logged.world.client().send(request()).transport.reset()
    assert logged.lines() == [
        f'{START} "GET / HTTP/1.1" 0 DC downstream_remote_disconnect - "-" 0 0 0 - "-" "-" "{ID}" "{HOST}" '
        f'"10.0.0.1:8080" web - {PEERS} - all'
    ]


def test_a_request_without_a_route(logged: Logged) -> None:
    logged.world.apply(removed={"virtual_hosts": tuple(logged.world.plane.table._virtual_hosts)})
    logged.world.client().send(request())
    assert logged.lines() == [
        f'{START} "GET / HTTP/1.1" 404 NR route_not_found - "-" 0 0 0 - "-" "-" "{ID}" "{HOST}" "-" - - {PEERS} - -'
    ]


def test_what_was_no_request(logged: Logged) -> None:
    logged.world.client().send(b"GET / HTTP/1.1\r\n\r\n")
    slow = logged.world.client().send(b"GET /")
    logged.world.advance(11.0)
    assert slow.take().startswith(b"HTTP/1.1 408 ")
    assert logged.lines() == [
        f'{START} "- - HTTP/1.1" 400 DPE http1.codec_error - "missing Host" 0 0 0 - "-" "-" "-" "-" "-" - - {PEERS} - -',
        f'{START} "- - HTTP/1.1" 408 SI request_header_timeout - "request head did not come in time" '
        f'0 0 0 - "-" "-" "-" "-" "-" - - {PEERS} - -',
    ]


def test_a_target_cannot_end_its_quotes(logged: Logged) -> None:
    logged.world.client().send(request("GET", '/"x"')).transport.reset()
    assert '"GET /\\"x\\" HTTP/1.1" 0 DC ' in logged.lines()[0]


def test_an_unknown_peer_is_a_dash(logged: Logged) -> None:
    client = logged.world.client()
    client.protocol._peername = None
    client.send(b"nonsense\r\n\r\n")
    assert logged.lines()[0].endswith(" 10.2.0.1:20000 - - -")


def test_off_is_none() -> None:
    assert AccessLog.open("off") is None


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    log = AccessLog.open("-")
    assert log is not None
    log._put("a line\n")
    log.close()
    assert capfd.readouterr().out == "a line\n"


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Is a directory"):
        AccessLog.open(str(tmp_path))


def test_all_lines_are_written_whole_and_in_order() -> None:
    reader, writer = os.pipe()
    log = AccessLog(writer)
    for number in range(1000):
        log._put(f"{number}\n")
    log.close()
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert [int(line) for line in pipe] == list(range(1000))
    assert log.dropped == 0


def test_a_sink_that_does_not_keep_up_costs_lines_and_not_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "_MAX_WAITING", 10)
    reader, writer = os.pipe()
    log = AccessLog(writer)
    line = "x" * 1000 + "\n"
    for _ in range(2000):
        log._put(line)
    assert log.dropped > 0
    assert len(log._lines) <= 10
    assert f"dropped={log.dropped}" in repr(log)
    os.set_blocking(reader, False)
    read = 0
    while log._thread.is_alive() or read % len(line):
        log._stopping = True
        log._wake.set()
        try:
            read += len(os.read(reader, 1 << 20))
        except BlockingIOError:
            log._thread.join(timeout=0.01)
    log.close()
    os.close(reader)
    os.close(writer)


def test_a_sink_that_is_gone_costs_lines_only() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    log = AccessLog(writer)
    log._put("one\n")
    log._put("two\n")
    log.close()
    os.close(writer)
    assert log.dropped == 2
