# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from acmgproxy.access_log import AccessLog, AccessLogOptions
from acmgproxy.access_log.lines import _timestamp
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
    assert AccessLog.open(AccessLogOptions(), lambda: 0.0) is None


def json_of(world: World, path: Path) -> list[dict[str, Any]]:
    assert world.plane.access_log is not None
    world.plane.access_log.close()
    world.check()
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_json_has_the_same_fields_under_istio_s_names(tmp_path: Path) -> None:
    path = tmp_path / "log"
    world = World(rule("all", action=forward("web")), access_log=str(path), access_log_format="json")
    client = world.client().send(request("POST", "/a?b", 'User-Agent: a "b"', "X-Forwarded-For: 1.1.1.1", body=b"abcde"))
    world.advance(0.25)
    world.upstream().feed(answer(body=b"abc"))
    assert client.take()
    assert json_of(world, path) == [
        {
            "start_time": "2023-11-14T22:13:19.750Z",
            "method": "POST",
            "path": "/a?b",
            "protocol": "HTTP/1.1",
            "response_code": 200,
            "response_flags": "-",
            "response_code_details": "via_upstream",
            "connection_termination_details": None,
            "upstream_transport_failure_reason": None,
            "bytes_received": 5,
            "bytes_sent": 3,
            "duration": 250,
            "upstream_service_time": 250,
            "x_forwarded_for": "1.1.1.1",
            "user_agent": 'a "b"',
            "request_id": ID,
            "authority": HOST,
            "upstream_host": "10.0.0.1:8080",
            "upstream_cluster": "web",
            "upstream_local_address": None,
            "downstream_local_address": "10.2.0.1:20000",
            "downstream_remote_address": "10.1.0.1:51000",
            "requested_server_name": None,
            "route_name": "all",
        }
    ]


def test_json_of_what_was_no_request_and_of_what_failed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    world = World(rule("all", action=forward("web", retry=RetrySpec(attempts=0))), access_log=str(path), access_log_format="json")
    world.refuse()
    world.client().send(request("GET", "/"))
    world.client().send(b"GET / HTTP/1.1\r\n\r\n")
    failed, refused = json_of(world, path)
    assert (failed["response_flags"], failed["user_agent"]) == ("UF", None)
    assert failed["upstream_transport_failure_reason"].endswith("Connection refused}")
    assert failed.keys() == refused.keys()
    assert (refused["response_code"], refused["method"]) == (400, None)
    assert refused["upstream_transport_failure_reason"] == "missing Host"


@pytest.mark.parametrize(
    ("options", "logged"),
    [
        (AccessLogOptions(), ["200", "200 slow", "0", "503"]),
        (AccessLogOptions(min_status=400), ["0", "503"]),
        (AccessLogOptions(slower_than_s=1.0), ["200 slow"]),
        (AccessLogOptions(min_status=500, slower_than_s=1.0), ["200 slow", "503"]),
        (AccessLogOptions(sampled=0.4), []),
        (AccessLogOptions(sampled=0.6), ["200", "200 slow", "0", "503"]),
        (AccessLogOptions(sampled=0.6, min_status=500), ["200", "200 slow", "0", "503"]),
        (AccessLogOptions(sampled=0.4, min_status=500), ["503"]),
        (AccessLogOptions(sampled=0.0), []),
    ],
)
def test_what_is_logged(options: AccessLogOptions, logged: list[str]) -> None:
    log = AccessLog(options, mock.Mock(), lambda: 0.5)
    cases = {"200": (200, 0.1), "200 slow": (200, 1.0), "0": (0, 0.1), "503": (503, 0.1)}
    assert [name for name, case in cases.items() if log._logs_all or log._is_wanted(*case)] == logged


def test_the_filter_holds_for_refused_heads_too(tmp_path: Path) -> None:
    path = tmp_path / "log"
    world = World(access_log=str(path), access_log_min_status=500)
    world.client().send(b"GET / HTTP/1.1\r\n\r\n")
    assert json_of(world, path) == []


def test_a_new_second_has_a_new_text() -> None:
    assert [_timestamp(moment) for moment in (0.25, 0.999, 1.0, 59.5, 1.0)] == [
        "1970-01-01T00:00:00.250Z",
        "1970-01-01T00:00:00.999Z",
        "1970-01-01T00:00:01.000Z",
        "1970-01-01T00:00:59.500Z",
        "1970-01-01T00:00:01.000Z",
    ]
