# SPDX-License-Identifier: Apache-2.0
"""Secure connections to endpoints, as far as the pool and the connection care; real handshakes are in tests/interop."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest

from routing.specs import TlsSpec
from tests.protocol.world import BEFORE_HEADERS, World, answer, forwarded, local, relayed, request
from tests.unit.routing.table_kit import HOST

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_REACHED = local("503 Service Unavailable", BEFORE_HEADERS + b"connection failure")
CERTIFICATE = {"subjectAltName": (("DNS", "api.example"),)}


@pytest.fixture
def secure(make_world: Callable[..., World]) -> Callable[..., World]:
    def make(**tls: Any) -> World:
        limits = {name: tls.pop(name) for name in ("max_connections", "proxy_protocol") if name in tls}
        world = make_world(cluster_options={"tls": TlsSpec(**tls), **limits})
        world.loop.handshake = CERTIFICATE
        return world

    return make


@pytest.mark.parametrize(("sni", "name"), [("", HOST), ("api.example", "api.example")])
def test_the_server_name(secure: Callable[..., World], sni: str, name: str) -> None:
    world = secure(sni=sni)
    client = world.client().send(request() * 2)
    assert world.loop.handshakes == [name]
    assert world.upstream().take() == forwarded()
    world.upstream().feed(answer())
    world.upstream().feed(answer())
    assert client.take() == relayed() * 2
    assert len(world.accepted) == 1


def test_a_preamble_comes_before_the_handshake(secure: Callable[..., World]) -> None:
    world = secure(proxy_protocol=1)
    world.loop.handshake = ssl.SSLError("no")
    world.client().send(request())
    assert world.loop.sockets[0].sent.startswith(b"PROXY TCP4 ")


def test_a_handshake_that_fails(secure: Callable[..., World]) -> None:
    world = secure()
    world.loop.handshake = ssl.SSLCertVerificationError("self-signed certificate")
    client = world.client().send(request())
    assert client.take() == NOT_REACHED
    assert all(sock.closed for sock in world.loop.sockets)
    assert world.counted() == {(503, "UF,URX"): 1}


@pytest.mark.parametrize("names", [("api.example",), ("x", "api.example")])
def test_a_certificate_with_one_of_the_names(secure: Callable[..., World], names: tuple[str, ...]) -> None:
    world = secure(subject_alt_names=names)
    client = world.client().send(request())
    world.upstream().feed(answer())
    assert client.take() == relayed()


def test_a_certificate_with_none_of_them(secure: Callable[..., World]) -> None:
    world = secure(subject_alt_names=("other.example",), max_connections=1)
    clients = [world.client().send(request()) for _ in range(3)]
    assert [client.take() for client in clients] == [NOT_REACHED] * 3
    assert all(transport.aborted and not transport.sent for transport in world.accepted)


def test_a_file_of_authorities_that_is_not_there(secure: Callable[..., World]) -> None:
    world = secure(ca_file="/nowhere/ca.pem")
    assert world.client().send(request()).take() == NOT_REACHED


def test_what_the_socket_holds_after_a_reset_is_no_answer(secure: Callable[..., World]) -> None:
    world = secure()
    client = world.client().send(request("POST", "/", body=b"abc"))
    world.upstream().feed(answer("200 OK", "content-length: 100", body=b"abc"))
    world.loop.sockets[0].readable = b"\x17\x03\x03ciphertext"
    world.upstream().reset()
    assert client.take() == relayed("200 OK", framing="content-length: 100", body=b"abc")
    assert client.transport.lost
