# SPDX-License-Identifier: Apache-2.0
"""TLS to upstreams (DestinationRule tls SIMPLE) through a real gateway: who is believed, and what the client gets otherwise."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from tests.interop.client import Answer, RawClient
from tests.interop.gateway import wait_for
from tests.interop.upstream import Exchange, Upstream

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.interop.gateway import Gateway, Service

FQDN = "web.default.svc.cluster.local"
GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"


class TlsUpstream(Upstream):
    """An upstream that shakes hands first.

    Attributes:
        asked: the server names of handshakes, None for none.
        versions, protocols: of handshakes that came to their end.
        failed: handshakes that did not.
    """

    def __init__(self, certificate: trustme.LeafCert) -> None:
        self.asked: list[str | None] = []
        self.versions: list[str | None] = []
        self.protocols: list[str | None] = []
        self.failed: list[str] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.set_alpn_protocols(["h2", "http/1.1"])
        self._context.sni_callback = lambda _, name, __: self.asked.append(name)
        certificate.configure_cert(self._context)
        super().__init__()

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            secure = self._context.wrap_socket(sock, server_side=True)
        except OSError as error:
            self.failed.append(str(error))
            return
        self.versions.append(secure.version())
        self.protocols.append(secure.selected_alpn_protocol())
        with self._changed:
            self._sockets[secure] = self._sockets.pop(sock)
        super()._serve(secure, number)


class PlainUpstream(Upstream):
    """An upstream that takes whatever comes for bad HTTP, and says so."""

    def _serve(self, sock: socket.socket, number: int) -> None:
        with sock:
            sock.recv(65536)
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def start(gateway: Gateway) -> Iterator[Callable[..., tuple[TlsUpstream, Service]]]:
    """Start an upstream with a certificate, and the gateway with a DestinationRule that says this of TLS."""
    started: list[TlsUpstream] = []

    def make(certificate: trustme.LeafCert, **tls: Any) -> tuple[TlsUpstream, Service]:
        upstream = TlsUpstream(certificate)
        started.append(upstream)
        service = gateway.add_service("web", {"v1": [upstream]})
        set_tls(gateway, **tls)
        gateway.start()
        return upstream, service

    yield make
    for upstream in started:
        upstream.stop()


def set_tls(gateway: Gateway, **tls: Any) -> None:
    gateway.apply({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"host": "web", "trafficPolicy": {"tls": {"mode": "SIMPLE", **tls}}},
    })  # fmt: skip


def ask(service: Service, data: bytes = GET) -> Answer:
    with RawClient(service.address) as client:
        client.send(data)
        return client.answer()


def check_refused(service: Service, upstream: TlsUpstream, gateway: Gateway) -> None:
    answer = ask(service)
    assert answer.status == 503
    assert answer.body == b"upstream connect error or disconnect/reset before headers. reset reason: connection failure"
    assert upstream.received == []
    lines = [line for line in gateway.get("/metrics").splitlines() if line.startswith("istio_requests_total{")]
    assert len(lines) == 1
    assert 'response_code="503"' in lines[0]
    assert 'response_flags="UF' in lines[0]


def test_requests_over_one_secure_connection(start: Callable[..., Any], authority: trustme.CA, ca_file: str) -> None:
    upstream, service = start(authority.issue_cert(FQDN), caCertificates=ca_file)
    with RawClient(service.address) as client:
        for size in (0, 1, 1_000_000):
            upstream.on("/", lambda exchange: exchange.answer(200, exchange.body()))
            client.send(GET.replace(b"GET", b"POST")[:-2] + b"Content-Length: %d\r\n\r\n" % size + bytes(size))
            answer = client.answer()
            assert answer.status == 200
            assert answer.body == bytes(size)
    assert upstream.asked == [FQDN]
    assert upstream.versions == ["TLSv1.3"]
    assert upstream.protocols == ["http/1.1"]
    assert [one.connection for one in upstream.received] == [1, 1, 1]


def test_the_name_that_is_asked_for(start: Callable[..., Any], authority: trustme.CA, ca_file: str) -> None:
    upstream, service = start(authority.issue_cert("api.example"), caCertificates=ca_file, sni="api.example")
    assert ask(service).status == 200
    assert upstream.asked == ["api.example"]


@pytest.mark.parametrize("names", [["api.example"], ["other.example", "api.example"]])
def test_names_that_the_certificate_may_have_instead(
    start: Callable[..., Any], authority: trustme.CA, ca_file: str, names: list[str]
) -> None:
    _, service = start(authority.issue_cert("api.example"), caCertificates=ca_file, subjectAltNames=names)
    assert ask(service).status == 200


def test_a_wildcard(start: Callable[..., Any], authority: trustme.CA, ca_file: str) -> None:
    certificate = authority.issue_cert("*.secure.example")
    _, service = start(certificate, caCertificates=ca_file, subjectAltNames=["api.secure.example"])
    assert ask(service).status == 200


class TestRefused:
    def test_a_certificate_for_another_name(
        self, start: Callable[..., Any], authority: trustme.CA, ca_file: str, gateway: Gateway
    ) -> None:
        upstream, service = start(authority.issue_cert("other.example"), caCertificates=ca_file)
        check_refused(service, upstream, gateway)

    def test_a_certificate_without_the_names_asked_for(
        self, start: Callable[..., Any], authority: trustme.CA, ca_file: str, gateway: Gateway
    ) -> None:
        upstream, service = start(authority.issue_cert(FQDN), caCertificates=ca_file, subjectAltNames=["api.example"])
        check_refused(service, upstream, gateway)

    def test_an_unknown_authority(self, start: Callable[..., Any], ca_file: str, gateway: Gateway) -> None:
        upstream, service = start(trustme.CA().issue_cert(FQDN), caCertificates=ca_file)
        check_refused(service, upstream, gateway)
        wait_for(lambda: upstream.failed, "the failure of the handshake")

    def test_an_authority_the_system_does_not_know(
        self, start: Callable[..., Any], authority: trustme.CA, gateway: Gateway
    ) -> None:
        upstream, service = start(authority.issue_cert(FQDN))
        check_refused(service, upstream, gateway)

    def test_a_file_that_is_missing(
        self, start: Callable[..., Any], authority: trustme.CA, gateway: Gateway, tmp_path: Path
    ) -> None:
        upstream, service = start(authority.issue_cert(FQDN), caCertificates=str(tmp_path / "none.pem"))
        check_refused(service, upstream, gateway)

    def test_an_endpoint_that_speaks_no_tls(self, gateway: Gateway, ca_file: str) -> None:
        with PlainUpstream() as upstream:
            service = gateway.add_service("web", {"v1": [upstream]})
            set_tls(gateway, caCertificates=ca_file)
            gateway.start()
            assert ask(service).status == 503


def test_without_any_check(start: Callable[..., Any]) -> None:
    _, service = start(trustme.CA().issue_cert("other.example"), insecureSkipVerify=True)
    assert ask(service).status == 200


def test_another_authority_takes_over(start: Callable[..., Any], authority: trustme.CA, ca_file: str) -> None:
    upstream, service = start(trustme.CA().issue_cert(FQDN), caCertificates=ca_file)
    assert ask(service).status == 503
    authority.issue_cert(FQDN).configure_cert(upstream._context)
    assert ask(service).status == 200


def test_an_answer_cut_off_is_cut_off(start: Callable[..., Any], authority: trustme.CA, ca_file: str) -> None:
    upstream, service = start(authority.issue_cert(FQDN), caCertificates=ca_file)

    def behave(exchange: Exchange) -> None:
        exchange.keep_alive = False
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")

    upstream.on("/cut", behave)
    with RawClient(service.address) as client:
        client.send(GET.replace(b"GET /", b"GET /cut"))
        assert client.head().headers["content-length"] == "100"
        assert client._reader.read() == b"abc"


def test_a_large_upload_that_is_refused_half_way(start: Callable[..., Any], authority: trustme.CA, ca_file: str) -> None:
    upstream, service = start(authority.issue_cert(FQDN), caCertificates=ca_file)

    def behave(exchange: Exchange) -> None:
        exchange.keep_alive = False
        exchange.answer(413, b"too large")

    upstream.on("/upload", behave)
    with RawClient(service.address) as client:
        client.send(b"POST /upload HTTP/1.1\r\nHost: web\r\nContent-Length: 10000000\r\n\r\n" + bytes(100_000))
        answer = client.answer()
    assert (answer.status, answer.body) == (413, b"too large")


def test_a_tunnel(start: Callable[..., Any], authority: trustme.CA, ca_file: str) -> None:
    upstream, service = start(authority.issue_cert(FQDN), caCertificates=ca_file)

    def behave(exchange: Exchange) -> None:
        exchange.keep_alive = False
        exchange.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nwelcome ")
        exchange.send(exchange.sock.recv(5))

    upstream.on("/", behave)
    with RawClient(service.address) as client:
        client.send(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert client.head().status == 101
        client.send(b"hello")
        assert client._exactly(13) == b"welcome hello"
