# SPDX-License-Identifier: Apache-2.0
"""WebSocket through a real gateway, with the `websockets` library at both ends, and with bare sockets where bytes matter."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import pytest
import uvloop
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from acmgproxy.dataplane import DataPlane
from acmgproxy.settings import ProxySettings
from tests.interop.client import RawClient
from tests.interop.gateway import Gateway, Service, wait_for
from tests.interop.upstream import Address, Exchange, Upstream, free_address
from tests.unit.routing.table_kit import KEY, cluster, diff, endpoint, listener, virtual_host

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from websockets.asyncio.client import ClientConnection
    from websockets.http11 import Request, Response

CONNECTIONS = 1000
AT_ONCE = 50
ASK = b"GET /chat HTTP/1.1\r\nHost: ws\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class Pod:
    """A WebSocket server that says back what it hears, fragment by fragment.

    Attributes:
        closed: close codes and reasons of connections that have ended.
    """

    def __init__(self) -> None:
        self.address: Address = free_address()
        self.closed: list[tuple[int | None, str | None]] = []
        self.connections: set[ServerConnection] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Pod]:
        options = {"compression": None, "max_size": None, "close_timeout": 2.0}
        async with serve(self._serve, *self.address, process_request=self._admit, **options):  # type: ignore[arg-type]
            yield self

    async def _serve(self, connection: ServerConnection) -> None:
        self.connections.add(connection)
        try:
            while True:
                await connection.send(connection.recv_streaming())
        except ConnectionClosed:
            self.closed.append((connection.close_code, connection.close_reason))
        finally:
            self.connections.discard(connection)

    @staticmethod
    def _admit(connection: ServerConnection, asked: Request) -> Response | None:
        if asked.path == "/forbidden":
            return connection.respond(403, "not you\n")
        return connection.respond(200, "hello\n") if asked.path == "/ok" else None


def open_client(service: Service, path: str = "/") -> connect:
    url = service.url(path).replace("http://", "ws://")
    return connect(url, compression=None, max_size=None, close_timeout=5.0, open_timeout=30.0, proxy=None)


async def until(condition: Callable[[], object], what: str) -> None:
    async with asyncio.timeout(20.0):
        while not condition():
            await asyncio.sleep(0.01)
    assert condition(), what


@pytest.fixture
def pod() -> Pod:
    return Pod()


@pytest.fixture
def service(gateway: Gateway, pod: Pod) -> Service:
    service = gateway.add_service("ws", {"v1": [cast("Upstream", pod)]})
    gateway.start()
    return service


def random_message(rng: random.Random) -> str | bytes | list[str] | list[bytes]:
    size = rng.choice((0, 1, 125, 126, 127, 1000, 65535, 65536, rng.randrange(200_000)))
    if rng.random() < 0.5:
        data = rng.randbytes(size)
        if rng.random() < 0.5:
            return data
        cuts = sorted(rng.randrange(size + 1) for _ in range(3))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, size], strict=True)]
    text = "".join(rng.choices("aé€😀", k=size // 4))
    return text if rng.random() < 0.5 else [text[: size // 8], text[size // 8 :]]


def whole(message: str | bytes | list[str] | list[bytes]) -> str | bytes:
    if isinstance(message, str | bytes):
        return message
    return b"".join(message) if isinstance(message[0], bytes) else "".join(message)


class TestMessages:
    async def test_random_ones_come_back_identical(self, service: Service, pod: Pod) -> None:
        rng = random.Random(7)
        messages = [random_message(rng) for _ in range(300)]
        async with pod.running(), open_client(service) as client:

            async def say() -> None:
                for message in messages:
                    await client.send(message)

            saying = asyncio.create_task(say())
            for message in messages:
                assert await client.recv() == whole(message)
            await saying

    async def test_fragments_stay_as_they_are(self, service: Service, pod: Pod) -> None:
        fragments = [b"a", b"", b"bc" * 50_000, b"d"]
        async with pod.running(), open_client(service) as client:
            await client.send(fragments)
            # the library ends each message that it sends in fragments, here and in the pod, with an empty one
            assert [part async for part in client.recv_streaming(decode=False)] == [*fragments, b"", b""]

    async def test_pings_go_both_ways(self, service: Service, pod: Pod) -> None:
        async with pod.running(), open_client(service) as client:
            await client.send("here")
            assert await client.recv() == "here"
            await (await client.ping(b"from the client"))
            (connection,) = pod.connections
            await (await connection.ping(b"from the server"))

    async def test_a_reader_that_stops_holds_the_sender_back(self, service: Service, pod: Pod) -> None:
        block = bytes(1_000_000)
        async with pod.running(), open_client(service) as client:
            sent = 0

            async def say() -> None:
                nonlocal sent
                for _ in range(100):
                    await client.send(block)
                    sent += 1

            saying = asyncio.create_task(say())
            before = -1
            while sent != before:  # until nothing moves any more: nobody reads what comes back
                before = sent
                await asyncio.sleep(0.5)
            assert sent < 100
            for _ in range(100):
                assert len(await client.recv()) == len(block)
            await saying


class TestEnds:
    @pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "away"), (4001, "as we agreed")])
    async def test_the_client_s_code_reaches_the_server(self, service: Service, pod: Pod, code: int, reason: str) -> None:
        async with pod.running(), open_client(service) as client:
            await client.close(code, reason)
            assert (client.close_code, client.close_reason) == (code, reason)
            await until(lambda: pod.closed, "the server's end")
            assert pod.closed == [(code, reason)]

    @pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1013, "later"), (4999, "no more")])
    async def test_the_server_s_code_reaches_the_client(self, service: Service, pod: Pod, code: int, reason: str) -> None:
        async with pod.running(), open_client(service) as client:
            await until(lambda: pod.connections, "a connection")
            (connection,) = pod.connections
            await connection.close(code, reason)
            with pytest.raises(ConnectionClosedOK if code == 1000 else ConnectionClosedError) as caught:
                await client.recv()
            assert caught.value.rcvd is not None
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (code, reason)

    @pytest.mark.parametrize("by_client", [True, False])
    async def test_the_death_of_one_is_noticed_by_the_other(self, service: Service, pod: Pod, *, by_client: bool) -> None:
        async with pod.running(), open_client(service) as client:
            await until(lambda: pod.connections, "a connection")
            (connection,) = pod.connections
            if by_client:
                client.transport.abort()
                await until(lambda: pod.closed, "the server's end")
                assert pod.closed[0][0] == 1006
            else:
                connection.transport.abort()
                with pytest.raises(ConnectionClosedError):
                    await client.recv()
                assert client.close_code == 1006

    @pytest.mark.parametrize(("path", "status", "body"), [("/forbidden", 403, b"not you\n"), ("/ok", 200, b"hello\n")])
    async def test_a_server_that_refuses(self, service: Service, pod: Pod, path: str, status: int, body: bytes) -> None:
        async with pod.running():
            with pytest.raises(InvalidStatus) as caught:
                await open_client(service, path).__aenter__()
            assert caught.value.response.status_code == status
            assert caught.value.response.body == body
            async with open_client(service) as client:
                await client.send("still here")
                assert await client.recv() == "still here"


async def test_a_thousand_connections(service: Service, pod: Pod, gateway: Gateway) -> None:
    rng = random.Random(11)
    clients: list[ClientConnection] = []
    turn = asyncio.Semaphore(AT_ONCE)

    async def begin(number: int) -> None:
        async with turn:
            client = await open_client(service, f"/{number}").__aenter__()
            clients.append(client)
            await say(client)

    async def say(client: ClientConnection) -> None:
        message = rng.randbytes(rng.randrange(5000))
        await client.send(message)
        assert await client.recv() == message

    async def end(number: int, client: ClientConnection) -> None:
        async with turn:
            await say(client)
            await client.close(4000 + number % 1000, str(number))

    async with pod.running():
        async with asyncio.TaskGroup() as group:
            for number in range(CONNECTIONS):
                group.create_task(begin(number))
        assert len(pod.connections) == CONNECTIONS
        metrics = await asyncio.to_thread(gateway.get, "/metrics")
        assert 'acmg_tunnels{worker="0"} 1000.0' in metrics
        async with asyncio.TaskGroup() as group:
            for number, client in enumerate(clients):
                group.create_task(end(number, client))
        await until(lambda: len(pod.closed) == CONNECTIONS, "all ends")
    assert sorted(pod.closed, key=lambda item: int(item[1] or 0)) == [
        (4000 + number % 1000, str(number)) for number in range(CONNECTIONS)
    ]
    await until(lambda: 'acmg_tunnels{worker="0"} 0.0' in gateway.get("/metrics"), "no tunnel is left")
    metrics = await asyncio.to_thread(gateway.get, "/metrics")
    line = next(
        line for line in metrics.splitlines() if line.startswith("istio_requests_total{") and 'response_code="101"' in line
    )
    assert float(line.rpartition(" ")[2]) == CONNECTIONS


class TestBytes:
    """What a library would never do."""

    @pytest.fixture
    def upstream(self, make_upstream: Callable[..., Upstream]) -> Upstream:
        return make_upstream()

    @pytest.fixture
    def served(self, gateway: Gateway, upstream: Upstream, tmp_path: Path) -> Service:
        service = gateway.add_service("ws", {"v1": [upstream]})
        gateway.start("--access-log", str(tmp_path / "log"))
        return service

    def test_each_side_may_end_its_half(self, served: Service, upstream: Upstream, gateway: Gateway, tmp_path: Path) -> None:
        heard: list[bytes] = []

        def behave(exchange: Exchange) -> None:
            exchange.keep_alive = False
            exchange.send(SWITCH + b"welcome")
            while data := exchange.sock.recv(65536):
                heard.append(data)
            exchange.send(bytes(1_000_000) + b"goodbye")

        upstream.on("/chat", behave)
        with RawClient(served.address) as client:
            client.send(ASK)
            assert client.head().status == 101
            client.send(bytes(300_000))
            client.sock.shutdown(socket.SHUT_WR)
            rest = client._reader.read()
        assert rest == b"welcome" + bytes(1_000_000) + b"goodbye"
        assert b"".join(heard) == bytes(300_000)
        wait_for((tmp_path / "log").read_text, "a line of the access log")
        line = (tmp_path / "log").read_text()
        assert '"GET /chat HTTP/1.1" 101 - via_upstream - "-" 300000 1000014 ' in line
        assert f" {served.address[0]}:{served.address[1]} 127." in line

    def test_the_server_may_end_its_half_first(self, served: Service, upstream: Upstream) -> None:
        heard: list[bytes] = []
        done = threading.Event()

        def behave(exchange: Exchange) -> None:
            exchange.keep_alive = False
            exchange.send(SWITCH)
            exchange.sock.shutdown(socket.SHUT_WR)
            while data := exchange.sock.recv(65536):
                heard.append(data)
            done.set()

        upstream.on("/chat", behave)
        with RawClient(served.address) as client:
            client.send(ASK)
            assert client.head().status == 101
            assert client.is_closed()
            client.send(b"last words")
            client.sock.shutdown(socket.SHUT_WR)
            assert done.wait(10.0)
        assert b"".join(heard) == b"last words"

    def test_early_frames_come_after_the_switch_only(self, served: Service, upstream: Upstream) -> None:
        heard: list[bytes] = []
        done = threading.Event()

        def behave(exchange: Exchange) -> None:
            exchange.keep_alive = False
            exchange.sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                heard.append(exchange.sock.recv(1))
            exchange.sock.settimeout(10.0)
            exchange.send(SWITCH)
            heard.append(exchange.sock.recv(5))
            done.set()

        upstream.on("/chat", behave)
        with RawClient(served.address) as client:
            client.send(ASK + b"early")
            assert client.head().status == 101
            assert done.wait(10.0)
        assert heard == [b"early"]

    def test_early_frames_do_not_end_up_in_another_request(self, served: Service, upstream: Upstream) -> None:
        upstream.on("/chat", lambda exchange: exchange.answer(403, b"no"))
        with RawClient(served.address) as client, RawClient(served.address) as other:
            client.send(ASK + b"\x81\x85\x00\x00\x00\x00early\r\n\r\n")
            assert client.answer().status == 403
            assert client.answer().status == 400
            assert client.is_closed()
            other.send(b"GET /other HTTP/1.1\r\nHost: ws\r\n\r\n")
            assert other.answer().status == 200
        assert [(one.target, one.connection) for one in upstream.received] == [("/chat", 1), ("/other", 1)]

    @pytest.mark.parametrize("protocol", ["websocket", "h2c", "foo"])
    def test_an_upgrade_with_a_body_is_a_request_with_a_body(self, served: Service, upstream: Upstream, protocol: str) -> None:
        bodies: list[bytes] = []

        def behave(exchange: Exchange) -> None:
            bodies.append(exchange.body())
            exchange.answer()

        upstream.on("/chat", behave)
        hidden = b"GET /hidden HTTP/1.1\r\nHost: ws\r\n\r\n"
        lines = b"Connection: Upgrade\r\nUpgrade: %b\r\nContent-Length: %d\r\n\r\n" % (protocol.encode(), len(hidden))
        with RawClient(served.address) as client:
            client.send(b"POST /chat HTTP/1.1\r\nHost: ws\r\n" + lines + hidden + b"GET /next HTTP/1.1\r\nHost: ws\r\n\r\n")
            assert client.answer().status == 200
            assert client.answer().status == 200
        assert bodies == [hidden]
        assert [one.target for one in upstream.received] == ["/chat", "/next"]
        assert not any(one.values("upgrade") for one in upstream.received)

    def test_an_unasked_switch_is_refused(self, served: Service, upstream: Upstream) -> None:
        upstream.on("/unasked", lambda exchange: exchange.send(SWITCH + b"secret"))
        with RawClient(served.address) as client:
            client.send(b"GET /unasked HTTP/1.1\r\nHost: ws\r\n\r\n")
            answer = client.answer()
            assert answer.status == 502
            assert b"secret" not in answer.body


async def test_a_drain_of_the_gateway_leaves_them_the_grace_period(gateway: Gateway, pod: Pod) -> None:
    service = gateway.add_service("ws", {"v1": [cast("Upstream", pod)]})
    await asyncio.to_thread(gateway.start, "--set", "drain_timeout_s=1")
    async with pod.running(), open_client(service) as client:
        await client.send("x")
        assert await client.recv() == "x"
        stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
        await until(lambda: any(line["event"] == "draining" for line in gateway.events), "the drain has begun")
        await client.send("y")
        assert await client.recv() == "y"
        with pytest.raises(ConnectionClosedError):
            await client.recv()
        await stopping


class TestLimits:
    """Time limits, on a data plane in this process, whose settings can be short."""

    def run(self, scene: Callable[[DataPlane, Service, Pod], Coroutine[None, None, None]], **settings: float) -> None:
        async def play() -> None:
            plane = DataPlane(asyncio.get_running_loop(), ProxySettings(**settings), 0)  # type: ignore[arg-type]
            sock = socket.create_server((free_address()[0], 0))
            sock.setblocking(False)
            address = sock.getsockname()
            async with Pod().running() as pod:
                sections = diff(
                    listeners={KEY: listener()},
                    virtual_hosts={KEY: virtual_host()},
                    clusters={"web": cluster()},
                    endpoints={"web": (endpoint(*pod.address),)},
                )
                plane.apply(sections)
                await plane.add_listener(KEY, sock)
                try:
                    await scene(plane, Service("ws", "default", address), pod)
                finally:
                    plane.remove_listener(KEY, *address)
                    plane.deadlines.stop()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(play())

    def test_silence(self) -> None:
        async def scene(plane: DataPlane, service: Service, pod: Pod) -> None:
            async with open_client(service) as client:
                await client.send("x")
                assert await client.recv() == "x"
                with pytest.raises(ConnectionClosedError):
                    await client.recv()
                assert client.close_code == 1006
            await until(lambda: pod.closed == [(1006, "")], "the server's end")
            await until(lambda: not plane.tunnels and not plane.downstreams, "the tunnel's end")

        self.run(scene, tunnel_idle_timeout_s=0.5)

    def test_a_drain_leaves_them_the_grace_period(self) -> None:
        async def scene(plane: DataPlane, service: Service, pod: Pod) -> None:
            async with open_client(service) as client:
                await client.send("x")
                assert await client.recv() == "x"
                draining = asyncio.create_task(plane.drain())
                await asyncio.sleep(0)
                await client.send("y")
                assert await client.recv() == "y"
                assert not draining.done()
                with pytest.raises(ConnectionClosedError):
                    await client.recv()
                await draining
                assert not plane.tunnels
                assert {value.key.status: value.count for value in plane.stats().series} == {101: 1}
            assert pod.address

        self.run(scene, drain_timeout_s=0.5)
