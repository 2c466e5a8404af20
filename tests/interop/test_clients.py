# SPDX-License-Identifier: Apache-2.0
"""Clients that people use, through a real gateway to a real upstream: each side gets what the other one sent."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
import pytest
import requests

from tests.interop.client import RawClient
from tests.interop.gateway import Gateway, Service
from tests.interop.upstream import Exchange, Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

_TOOL_TIMEOUT_S = 60
_PACKAGES = {"ab": "apache2-utils", "h2load": "nghttp2-client"}
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    gateway: Gateway
    service: Service
    upstream: Upstream

    def count(self, target: str) -> int:
        """How many requests for `target` reached the upstream."""
        return sum(request.target == target for request in self.upstream.received)


def _echo(exchange: Exchange) -> None:
    body = exchange.body()
    exchange.answer(200, body, headers=[("X-Size", str(len(body)))])


def _echo_chunked(exchange: Exchange) -> None:
    body = exchange.body()
    exchange.answer_chunked([body[:1], body[1:10], body[10:]])


def _close_delimited(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil ")
    exchange.send(b"the end")
    exchange.keep_alive = False


def _say_target(exchange: Exchange) -> None:
    body = exchange.body()
    exchange.answer(200, f"{exchange.request.method} {exchange.request.target} {body.decode()}".encode())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as stack:
        upstream = stack.enter_context(Upstream("v1"))
        upstream.on("/echo", _echo)
        upstream.on("/echo-chunked", _echo_chunked)
        upstream.on("/close-delimited", _close_delimited)
        upstream.on("/204", lambda exchange: exchange.answer(204))
        upstream.on("/304", lambda exchange: exchange.answer(304, headers=[("ETag", '"7"')]))
        gateway = Gateway(tmp_path_factory.mktemp("clients"))
        stack.callback(gateway.stop)
        service = gateway.add_service("helloworld", {"v1": [upstream]})
        gateway.start()
        yield Site(gateway=gateway, service=service, upstream=upstream)


def _run(*argv: str | Path) -> str:
    """Run a command line tool and return what it printed; not installed is a failure, not a skip."""
    name = str(argv[0])
    if shutil.which(name) is None:
        pytest.fail(f"{name} is not installed; on Debian and Ubuntu: apt-get install {_PACKAGES.get(name, name)}")
    done = subprocess.run(
        [str(a) for a in argv], capture_output=True, text=True, timeout=_TOOL_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{name} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


# --- curl -----------------------------------------------------------------------------------------------------------------


def test_curl_gets_status_headers_and_body(site: Site) -> None:
    head, _, body = _run("curl", "-sS", "-i", site.service.url("/curl")).partition("\n\n")
    assert head.startswith("HTTP/1.1 200")
    assert "content-length: 3" in head.lower()
    assert body == "v1\n"
    assert site.count("/curl") == 1


def test_curl_keeps_its_connection(site: Site, tmp_path: Path) -> None:
    urls = [site.service.url("/a"), site.service.url("/b"), site.service.url("/204"), site.service.url("/c")]
    outputs = [argument for _ in urls for argument in ("-o", tmp_path / "out")]
    connects = _run("curl", "-sS", "-w", "%{http_code}:%{num_connects} ", *outputs, *urls)
    assert connects.split() == ["200:1", "200:0", "204:0", "200:0"]


@pytest.mark.parametrize("path", ["/echo", "/echo-chunked"])
@pytest.mark.parametrize("sent", ["content-length", "chunked"])
def test_curl_posts_a_body(site: Site, tmp_path: Path, path: str, sent: str) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"0123456789abcdef" * 20_000)
    framing = ["-H", "Transfer-Encoding: chunked"] if sent == "chunked" else []
    _run("curl", "-sS", "-f", "--data-binary", f"@{body}", *framing, "-o", tmp_path / "out", site.service.url(f"{path}?{sent}"))
    assert (tmp_path / "out").read_bytes() == body.read_bytes()
    (got,) = [request for request in site.upstream.received if request.target == f"{path}?{sent}"]
    assert got.values("transfer-encoding") == (["chunked"] if sent == "chunked" else [])
    assert got.values("content-length") == ([] if sent == "chunked" else [str(body.stat().st_size)])


def test_curl_head_has_no_body(site: Site) -> None:
    answer = _run("curl", "-sS", "-I", site.service.url("/head")).lower()
    assert answer.startswith("http/1.1 200")
    assert "content-length: 3" in answer


def test_curl_waits_for_100_continue(site: Site, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(bytes(range(256)) * 8192)
    expect = ["-H", "Expect: 100-continue", "--expect100-timeout", str(_TOOL_TIMEOUT_S)]
    said = _run(
        "curl", "-v", "-sS", *expect, "--data-binary", f"@{body}", "-o", tmp_path / "out", site.service.url("/echo?expect")
    )
    assert "HTTP/1.1 100 " in said
    assert (tmp_path / "out").read_bytes() == body.read_bytes()


# --- Python ---------------------------------------------------------------------------------------------------------------


def test_requests_uses_one_connection_for_everything(site: Site) -> None:
    with requests.Session() as session:
        assert session.get(site.service.url("/r")).text == "v1\n"
        assert session.post(site.service.url("/echo"), data=b"length").content == b"length"
        assert session.post(site.service.url("/echo-chunked"), data=iter([b"in ", b"chunks, 12"])).content == b"in chunks, 12"
        assert session.head(site.service.url("/r")).headers["content-length"] == "3"
        assert session.get(site.service.url("/204")).status_code == 204
        not_modified = session.get(site.service.url("/304"))
        assert (not_modified.status_code, not_modified.headers["etag"], not_modified.content) == (304, '"7"', b"")
        assert session.get(site.service.url("/r")).text == "v1\n"
        pools = session.get_adapter("http://").poolmanager.pools  # type: ignore[attr-defined]
        assert [pools[key].num_connections for key in pools.keys()] == [1]  # noqa: SIM118 - no mapping


def test_requests_reads_an_answer_delimited_by_close(site: Site) -> None:
    assert requests.get(site.service.url("/close-delimited"), timeout=20).text == "until the end"


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_requests_notices_a_broken_answer(site: Site, framing: str) -> None:
    def break_off(exchange: Exchange) -> None:
        exchange.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nhello\r\n".encode())
        exchange.keep_alive = False

    path = f"/broken-{framing[0]}"
    site.upstream.on(path, break_off)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        requests.get(site.service.url(path), timeout=20)


async def test_aiohttp_sends_and_reads_at_once(site: Site) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"a" * 10
        await asyncio.sleep(0)
        yield b"b" * 70_000

    async def post(session: aiohttp.ClientSession, number: int) -> bytes:
        path = "/echo" if number % 2 else "/echo-chunked"
        async with session.post(site.service.url(path), data=parts() if number % 3 else b"c" * number) as answer:
            assert answer.status == 200
            return await answer.read()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=8)) as session:
        bodies = await asyncio.gather(*(post(session, number) for number in range(60)))
    for number, body in enumerate(bodies):
        assert body == (b"a" * 10 + b"b" * 70_000 if number % 3 else b"c" * number)


# --- load generators ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["-m", "POST", "-d", "some body"], ["-disable-keepalive"]], ids=["get", "post", "close"])
def test_hey_counts_only_200(site: Site, options: list[str]) -> None:
    path = f"/hey-{len(options)}"
    said = _run("hey", "-n", "200", "-c", "10", *options, site.service.url(path))
    assert "[200]\t200 responses" in said
    assert "Error distribution" not in said
    assert site.count(path) == 200


@pytest.mark.parametrize("keep_alive", [False, True])
@pytest.mark.parametrize("path", ["/ab", "/echo-chunked"])
def test_ab_speaks_http_1_0(site: Site, tmp_path: Path, path: str, keep_alive: bool) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"twenty bytes of body")
    target = f"{path}?{keep_alive}"
    options = ["-k"] if keep_alive else []
    said = _run("ab", "-q", "-n", "200", "-c", "5", *options, "-p", body, "-T", "text/plain", site.service.url(target))
    numbers = {name: value.split()[0] for name, _, value in (line.partition(":") for line in said.splitlines()) if value.strip()}
    assert (numbers["Complete requests"], numbers["Failed requests"]) == ("200", "0")
    assert "Non-2xx responses" not in numbers
    assert numbers["HTML transferred"] == str(200 * (len(body.read_bytes()) if path == "/echo-chunked" else len("v1\n")))
    if keep_alive and path == "/ab":
        assert numbers["Keep-Alive requests"] == "200"
    assert site.count(target) == 200


def test_wrk_sees_no_error(site: Site) -> None:
    said = _run("wrk", "-t1", "-c8", "-d1s", site.service.url("/wrk"))
    (counted,) = [line.split()[0] for line in said.splitlines() if " requests in " in line]
    assert "Non-2xx" not in said
    assert "Socket errors" not in said
    assert 0 < int(counted) <= site.count("/wrk")


def test_h2load_sees_no_error(site: Site) -> None:
    said = _run("h2load", "--h1", "-n", "200", "-c", "8", site.service.url("/h2load"))
    assert "200 total, 200 started, 200 done, 200 succeeded, 0 failed, 0 errored, 0 timeout" in said
    assert "status codes: 200 2xx, 0 3xx, 0 4xx, 0 5xx" in said
    assert site.count("/h2load") == 200


# --- what only a bare socket can do ---------------------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order(site: Site) -> None:
    for path in ("/p/1", "/p/2", "/p/3", "/p/5"):
        site.upstream.on(path, _say_target)
    host = b"Host: helloworld\r\n"
    with RawClient(site.service.address) as client:
        client.send(
            b"GET /p/1 HTTP/1.1\r\n" + host + b"\r\n"
            b"POST /p/2 HTTP/1.1\r\n" + host + b"Content-Length: 3\r\n\r\ntwo"
            b"POST /p/3 HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\n2\r\nth\r\n3\r\nree\r\n0\r\n\r\n"
            b"HEAD /p/1 HTTP/1.1\r\n" + host + b"\r\n"
            b"GET /204 HTTP/1.1\r\n" + host + b"\r\n"
            b"GET /p/5 HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n"
        )
        assert client.answer().body == b"GET /p/1 "
        assert client.answer().body == b"POST /p/2 two"
        assert client.answer().body == b"POST /p/3 three"
        assert client.answer("HEAD").headers["content-length"] == str(len("HEAD /p/1 "))
        assert client.answer().status == 204
        assert client.answer().body == b"GET /p/5 "
        assert client.is_closed()


def test_a_hundred_pipelined_requests_are_answered_in_order(site: Site) -> None:
    site.upstream.on("/many", _say_target)
    with RawClient(site.service.address) as client:
        client.send(b"".join(b"GET /many?%d HTTP/1.1\r\nHost: helloworld\r\n\r\n" % number for number in range(100)))
        assert [client.answer().body for _ in range(100)] == [b"GET /many?%d " % number for number in range(100)]


@pytest.mark.parametrize("path", ["/1.0", "/echo-chunked", "/close-delimited"])
def test_http_1_0_without_host_is_answered_and_closed(site: Site, path: str) -> None:
    with RawClient(site.service.address) as client:
        client.send(f"POST {path} HTTP/1.0\r\nContent-Length: 12\r\n\r\ntwelve bytes".encode())
        answer = client.answer()
        assert answer.status == 200
        assert "transfer-encoding" not in answer.headers
        assert answer.body == {"/1.0": b"v1\n", "/echo-chunked": b"twelve bytes"}.get(path, b"until the end")
        assert client.is_closed()


def test_interim_answers_reach_http_1_1_clients_only(site: Site) -> None:
    def hint(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
        exchange.answer(200, b"done")

    site.upstream.on("/hint", hint)
    with RawClient(site.service.address) as client:
        client.send(b"GET /hint HTTP/1.1\r\nHost: helloworld\r\n\r\n")
        answer = client.answer()
        assert (answer.interim, answer.body) == ([103], b"done")
    with RawClient(site.service.address) as client:
        client.send(b"GET /hint HTTP/1.0\r\n\r\n")
        answer = client.answer()
        assert (answer.interim, answer.body) == ([], b"done")


def test_an_early_answer_arrives_while_the_body_still_comes(site: Site) -> None:
    def refuse(exchange: Exchange) -> None:
        next(exchange.chunks())
        exchange.answer(413, b"too large", headers=[("Connection", "close")])
        exchange.keep_alive = False

    site.upstream.on("/early", refuse)
    with RawClient(site.service.address) as client:
        client.send(b"POST /early HTTP/1.1\r\nHost: helloworld\r\nContent-Length: %d\r\n\r\n" % (64 * _MIB))
        client.send(bytes(_MIB // 4))
        answer = client.answer()
        assert (answer.status, answer.body) == (413, b"too large")


def test_curl_shows_an_early_answer(site: Site, tmp_path: Path) -> None:
    def refuse(exchange: Exchange) -> None:
        exchange.answer(413, b"too large", headers=[("Connection", "close")])
        exchange.keep_alive = False

    site.upstream.on("/early-curl", refuse)
    body = tmp_path / "body"
    with body.open("wb") as file:
        file.truncate(64 * _MIB)
    options = ["-H", "Expect:", "-w", " %{http_code}", "--data-binary", f"@{body}"]
    assert _run("curl", "-sS", *options, site.service.url("/early-curl")) == "too large 413"


def test_an_expectation_can_be_refused_without_the_body(site: Site) -> None:
    """The client must not have to send a body that the upstream does not want; a 100 before the refusal is allowed."""

    def refuse(exchange: Exchange) -> None:
        exchange.answer(413, b"no", headers=[("Connection", "close")])
        exchange.keep_alive = False

    site.upstream.on("/refuse", refuse)
    with RawClient(site.service.address) as client:
        client.send(b"POST /refuse HTTP/1.1\r\nHost: helloworld\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n")
        answer = client.answer()
        assert (answer.status, answer.body) == (413, b"no")
        assert answer.interim in ([], [100])
