# SPDX-License-Identifier: Apache-2.0
"""Too much of everything, on a real gateway: slow clients, many clients, no descriptors, no memory, sinks that nobody reads.

Numbers are small enough for every day; ACMG_FAULT_SCALE multiplies them (5 gives the 10,000 idle connections of docs/tuning.md,
for which `python -m bench.memory` is the better tool).
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.client import RawClient
from tests.interop.gateway import Gateway, Service, peak_rss_bytes, reset_peak_rss, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.interop.upstream import Address, Exchange, Upstream

SCALE = int(os.environ.get("ACMG_FAULT_SCALE", "1"))
KIB, MIB = 1024, 1024 * 1024
REQUEST = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"


class Site:
    """A gateway with one worker, one Service and one upstream."""

    def __init__(self, gateway: Gateway, upstream: Upstream, *arguments: str) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.service: Service = gateway.add_service("web", {"v1": [upstream]})
        gateway.start(*arguments)
        (self.worker,) = gateway.workers()

    @property
    def address(self) -> Address:
        return self.service.address

    def metric(self, name: str) -> float:
        """Return the sum of a metric's samples, 0 when there is none."""
        lines = (line.rpartition(" ") for line in self.gateway.get("/metrics").splitlines())
        return sum(float(value) for series, _, value in lines if series.partition("{")[0] == name)

    def serves(self) -> bool:
        """Say whether a new client is served and may stay."""
        with RawClient(self.address) as client:
            client.send(REQUEST)
            answer = client.answer()
            return answer.status == 200 and "connection" not in answer.headers

    def cpu_s(self) -> float:
        """Return the processor time the worker has used."""
        fields = Path(f"/proc/{self.worker}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @contextmanager
    def limited(self, which: int, soft: int) -> Iterator[None]:
        """Give the worker a resource limit for a while."""
        before = resource.prlimit(self.worker, which)
        resource.prlimit(self.worker, which, (soft, before[1]))
        try:
            yield
        finally:
            resource.prlimit(self.worker, which, before)


@pytest.fixture
def make_site(make_gateway: Callable[[], Gateway], make_upstream: Callable[..., Upstream]) -> Callable[..., Site]:
    return lambda *arguments: Site(make_gateway(), make_upstream("v1"), *arguments)


def open_clients(stack: ExitStack, address: Address, count: int) -> list[RawClient]:
    return [stack.enter_context(RawClient(address)) for _ in range(count)]


def has_answer(client: RawClient) -> bool:
    """Say whether bytes have come, without waiting."""
    poll = select.poll()
    poll.register(client.sock, select.POLLIN)
    return bool(poll.poll(0))


class TestSlowClients:
    def test_heads_that_never_end_are_timed_out_in_bounded_memory(self, make_site: Callable[..., Site]) -> None:
        site = make_site("--set", "headers_timeout_s=2")
        assert site.serves()
        before = reset_peak_rss(site.worker)
        count, size = 500 * SCALE, 8 * KIB
        with ExitStack() as stack:
            clients = open_clients(stack, site.address, count)
            for client in clients:
                client.send((b"GET / HTTP/1.1\r\nHost: web\r\nX-Big: " + b"x" * size)[:size])
            assert site.serves(), "while they hang"
            assert {client.answer().status for client in clients} == {408}
            assert all(client.is_closed() for client in clients)
        per_client = (peak_rss_bytes(site.worker) - before) / count
        print(f"half-sent heads of {size} bytes: {per_client / KIB:.1f} KiB each")
        assert per_client < 4 * size
        assert site.metric("acmg_downstream_header_timeouts_total") == count

    def test_readers_that_stop_hold_the_upstream_back(self, make_site: Callable[..., Site]) -> None:
        site = make_site()
        block, sent, changed = bytes(64 * KIB), [0], threading.Condition()

        def answer(exchange: Exchange) -> None:
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (100 * MIB))
            for _ in range(100 * MIB // len(block)):
                exchange.send(block)
                with changed:
                    sent[0] += len(block)
                    changed.notify_all()

        def wait_until_stalled() -> int:
            with changed:
                while changed.wait(0.5):
                    pass
                return sent[0]

        site.upstream.on("/big", answer)
        assert site.serves()
        before = reset_peak_rss(site.worker)
        count = 20 * SCALE
        with ExitStack() as stack:
            clients = open_clients(stack, site.address, count)
            for client in clients:
                client.send(b"GET /big HTTP/1.1\r\nHost: web\r\n\r\n")
            stalled = wait_until_stalled()
            assert stalled < count * 16 * MIB, "what sockets hold"
            for client in clients:
                stream = client.stream()
                for _ in range(8):
                    next(stream)
            assert wait_until_stalled() > stalled
            per_client = (peak_rss_bytes(site.worker) - before) / count
            print(f"slow readers of 100 MiB: {per_client / KIB:.0f} KiB each")
            assert per_client < MIB
            assert site.serves()


class TestManyClients:
    def test_idle_connections_cost_little(self, make_site: Callable[..., Site]) -> None:
        site = make_site()
        assert site.serves()
        count = 2000 * SCALE
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert soft > count + 100, "this process may not open that many"
        before = reset_peak_rss(site.worker)
        with ExitStack() as stack:
            clients = open_clients(stack, site.address, count)
            for client in clients:
                client.send(REQUEST)
                assert client.answer().status == 200
            per_client = (peak_rss_bytes(site.worker) - before) / count
            print(f"{count} idle connections: {per_client / KIB:.1f} KiB each")
            assert site.metric("acmg_downstream_idle_connections") == count
            assert per_client < 8 * KIB
            for client in clients[:10]:
                client.send(REQUEST)
                assert client.answer().status == 200

    def test_above_the_limit_they_wait_and_are_served_in_the_end(self, make_site: Callable[..., Site]) -> None:
        site = make_site("--set", "max_connections=10", "--set", "max_requests_per_connection=3")
        with ExitStack() as stack:
            first = open_clients(stack, site.address, 10)
            wait_for(lambda: site.metric("acmg_downstream_connections") == 10, "ten are accepted")
            waiting = open_clients(stack, site.address, 15)
            for client in waiting:
                client.send(REQUEST)
            wait_for(lambda: site.metric("acmg_overload_level") == 1, "that is seen")
            assert site.metric("acmg_accepting") == 0
            assert not any(map(has_answer, waiting))
            for client in first:
                client.send(REQUEST)
                answer = client.answer()
                assert (answer.status, answer.headers["connection"]) == (200, "close"), "others wait"
            assert {client.answer().status for client in waiting} == {200}
            assert site.metric("acmg_accept_pauses_total") >= 1
        wait_for(site.serves, "normal service")
        with RawClient(site.address) as client:
            client.send(REQUEST * 3)
            assert [client.answer().headers.get("connection") for _ in range(3)] == [None, None, "close"]
            assert client.is_closed()


class TestResources:
    def test_without_descriptors_clients_wait_and_nothing_spins(self, make_site: Callable[..., Site]) -> None:
        site = make_site()
        may_finish = threading.Event()

        def slow(exchange: Exchange) -> None:
            assert may_finish.wait(20.0)
            exchange.answer(200, b"slow")

        site.upstream.on("/slow", slow)
        with ExitStack() as stack:
            (busy,) = open_clients(stack, site.address, 1)
            busy.send(b"GET /slow HTTP/1.1\r\nHost: web\r\n\r\n")
            site.upstream.wait_received(bool)
            stack.enter_context(site.limited(resource.RLIMIT_NOFILE, 256))
            wait_for(lambda: site.metric("acmg_overload_descriptors_pressure") > 0.02, "the limit is known")
            crowd = open_clients(stack, site.address, 230)  # more would be accepted at once than there are descriptors
            wait_for(lambda: site.metric("acmg_accepting") == 0, "a pause")
            used = site.cpu_s()
            threading.Event().wait(0.5)
            assert site.cpu_s() - used < 0.3, "it spins"
            assert len(os.listdir(f"/proc/{site.worker}/fd")) < 250
            may_finish.set()
            assert busy.answer().body == b"slow"
            for client in crowd:
                client.send(REQUEST)
            for client in crowd:
                assert client.answer().status == 200, "accepted at once or later"
                client.sock.shutdown(socket.SHUT_RDWR)
        wait_for(site.serves, "normal service")

    def test_short_of_memory_requests_are_refused_until_it_is_over(self, make_site: Callable[..., Site]) -> None:
        site = make_site()
        kept = RawClient(site.address)
        with kept:
            kept.send(REQUEST)
            assert kept.answer().status == 200
            pages = int(Path(f"/proc/{site.worker}/statm").read_text(encoding="ascii").split()[0])
            with site.limited(resource.RLIMIT_AS, int(pages * resource.getpagesize() / 0.963)):
                event = site.gateway.wait_event("overloaded")
                assert event["resource"] == "memory"
                assert event["overload"] == "no_requests"
                kept.send(REQUEST)
                answer = kept.answer()
                assert (answer.status, answer.body) == (503, b"envoy overloaded")
                assert answer.headers["connection"] == "close"
                assert site.metric("acmg_overload_level") == 2
            site.gateway.wait_event("no longer overloaded")
        assert site.serves()
        assert site.metric("acmg_overload_requests_shed_total") == 1
        assert site.metric("acmg_overload_level") == 0
        assert 'response_flags="OM"' in site.gateway.get("/metrics")

    def test_big_heads_of_many_clients_do_not_pass_the_limit(self, make_site: Callable[..., Site]) -> None:
        limit = 100 * MIB
        site = make_site("--set", f"max_memory_bytes={limit}", "--set", "headers_timeout_s=3")
        assert site.serves()
        head = (b"GET / HTTP/1.1\r\nHost: web\r\n" + b"".join(b"X-%d: %b\r\n" % (i, b"x" * 1000) for i in range(59)))[: 59 * KIB]
        with ExitStack() as stack:
            for _ in range(40):
                for client in open_clients(stack, site.address, 50):
                    client.sock.setblocking(False)
                    client.sock.send(head)
                threading.Event().wait(0.04)  # the pace of an attack: 15 MiB between two looks
            assert site.metric("acmg_overload_level") == 3
            assert site.metric("acmg_accepting") == 0
        wait_for(site.serves, "normal service")
        assert peak_rss_bytes(site.worker) < 1.2 * limit


class TestBlockedSinks:
    def test_an_access_log_that_nobody_reads(self, make_site: Callable[..., Site], tmp_path: Path) -> None:
        fifo = tmp_path / "access.log"
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        try:
            site = make_site("--access-log", str(fifo))
            site.gateway.apply(direct_response("web"))
            wait_for(lambda: site.metric("acmg_config_version") >= 2, "the direct response")
            with ExitStack() as stack:
                clients = open_clients(stack, site.address, 4)
                for _ in range(150):
                    for client in clients:
                        client.send(REQUEST * 20)
                    for client in clients:
                        assert [client.answer().status for _ in range(20)] == [200] * 20
            assert site.metric("acmg_access_log_dropped_total") > 0
        finally:
            os.close(reader)

    def test_a_scraper_that_does_not_read(self, make_site: Callable[..., Site]) -> None:
        site = make_site()
        host, port = site.gateway.admin.removeprefix("http://").rsplit(":", 1)
        with ExitStack() as stack:
            scrapers = open_clients(stack, (host, int(port)), 10)
            for scraper in scrapers:
                scraper.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                scraper.send(b"GET /metrics HTTP/1.1\r\nHost: admin\r\n\r\n" * 20)
            for _ in range(50):
                assert site.serves()
            assert site.metric("acmg_ready") == 1, "others can scrape"


def test_a_stalled_loop_is_counted_and_told(make_site: Callable[..., Site]) -> None:
    site = make_site()
    os.kill(site.worker, signal.SIGSTOP)
    try:
        threading.Event().wait(1.3)
    finally:
        os.kill(site.worker, signal.SIGCONT)
    wait_for(lambda: site.metric("acmg_watchdog_mega_misses_total") == 1, "a mega miss")
    assert site.metric("acmg_watchdog_misses_total") >= 1
    wait_for(lambda: site.metric("acmg_worker_event_loop_lag_seconds") > 1.0, "the lag")
    assert site.serves()


def direct_response(service: str) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": service, "namespace": "default"},
        "spec": {"hosts": [service], "http": [{"directResponse": {"status": 200, "body": {"string": "hello"}}}]},
    }
