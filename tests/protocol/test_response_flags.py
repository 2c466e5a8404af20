# SPDX-License-Identifier: Apache-2.0
"""One row per kind of failure: what provokes it, and what status, flags, details and log line it has.

Flags and details are Envoy's (response flags, response code details), which is what people look up. Of its flags LH, UR, RL,
RLSE, UAEX, IH, UMSDR, RFCF, NFCF, DT, DF, DO and DR belong to things that do not exist here: health checks, HTTP/2 resets, rate
limits, external authorization, caches, Wasm, DNS in the data path.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from acmgproxy.replies import Failure, join_flags
from routing.specs import FaultSpec, RetryBudgetSpec, RetrySpec
from tests.protocol.world import CHUNKED, World, answer, request
from tests.unit.routing.table_kit import forward, rule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

NO_RETRY = RetrySpec(attempts=0)
BEFORE = "upstream_reset_before_response_started"
AFTER = "upstream_reset_after_response_started"
CLOSED = "connection_termination|upstream_closed_the_connection"
CLIENT_LENGTH = "Content-Length: 10"


def route(**options: Any) -> dict[str, Any]:
    options = {"retry": NO_RETRY, **options}
    fault = options.pop("fault", None)
    return {"rules": (rule("all", action=forward("web", **options), fault=fault),)}


def retry(on: str = "5xx", attempts: int = 1, **options: Any) -> dict[str, Any]:
    return route(retry=RetrySpec(attempts=attempts, retry_on=(on,), backoff_base_s=0.0, ignore_previous_hosts=False, **options))


def ask(world: World, *fields: str, method: str = "GET", body: bytes = b"") -> None:
    world.client().send(request(method, "/", *fields, body=body))


def no_route(world: World) -> None:
    world.apply(removed={"virtual_hosts": tuple(world.plane.table._virtual_hosts)})
    ask(world)


def refused(world: World) -> None:
    world.refuse()
    ask(world)


def unconnected(world: World) -> None:
    _ = world.hold()
    ask(world)
    world.advance(2.1)


def closed_before(world: World) -> None:
    ask(world)
    world.upstream().feed_eof()


def closed_amid(world: World) -> None:
    ask(world)
    world.upstream().feed(answer("200 OK", "content-length: 10", body=b"abc"))
    world.upstream().reset()


def nonsense(world: World) -> None:
    ask(world)
    world.upstream().feed(b"SSH-2.0\r\n\r\n")


def nonsense_amid(world: World) -> None:
    ask(world)
    world.upstream().feed(answer("200 OK", CHUNKED, body=b"3\r\nabc\r\n"))
    world.upstream().feed(b"oops\r\n")


def slow(world: World) -> None:
    ask(world)
    world.advance(1.1)


def slow_amid(world: World) -> None:
    ask(world)
    world.upstream().feed(answer("200 OK", "content-length: 10", body=b"abc"))
    world.advance(1.1)


def idle(world: World) -> None:
    ask(world)
    world.advance(10.1)


def idle_body(world: World) -> None:
    ask(world, CLIENT_LENGTH, method="POST")
    world.advance(10.1)


def idle_amid(world: World) -> None:
    ask(world)
    world.upstream().feed(answer("200 OK", "content-length: 10", body=b"abc"))
    world.advance(10.1)


def left(world: World) -> None:
    world.client().send(request()).transport.reset()


def left_amid(world: World) -> None:
    client = world.client().send(request())
    world.upstream().feed(answer("200 OK", "content-length: 10", body=b"abc"))
    client.transport.reset()


def left_delayed(world: World) -> None:
    client = world.client().send(request())
    client.transport.reset()


def bad_body(world: World) -> None:
    world.client().send(request("POST", "/", CHUNKED), b"nonsense\r\n")


def overflowing(world: World) -> None:
    world.client().send(request())
    world.client().send(request())
    world.upstream().feed(answer())


def failing(world: World) -> None:
    ask(world)
    world.upstream().feed(answer("503 Service Unavailable"))
    world.advance(0.1)
    world.upstream().feed(answer("503 Service Unavailable"))


def failing_once(world: World) -> None:
    ask(world)
    world.upstream().feed(answer("503 Service Unavailable"))


def closed_twice(world: World) -> None:
    ask(world, method="POST", body=b"x")
    world.upstream().feed_eof()
    world.advance(0.1)
    world.upstream().feed_eof()


def shedding(world: World) -> None:
    world.plane.sheds_requests = True
    ask(world)


def delayed(world: World) -> None:
    ask(world)
    world.advance(0.6)


def delayed_and_fine(world: World) -> None:
    delayed(world)
    world.upstream().feed(answer())


def fine(world: World) -> None:
    ask(world)
    world.upstream().feed(answer())


class Row(NamedTuple):
    """A kind of failure.

    Args:
        provoke: brings it about.
        status, flags, details: what it has.
        reason: whether the log says why the upstream failed.
        options: of the world.
    """

    provoke: Callable[[World], None]
    status: int
    flags: str
    details: str
    reason: bool = False
    options: Mapping[str, Any] = MappingProxyType({})


DELAY: dict[str, Any] = {"delay_s": 0.5, "delay_percent": 100.0}
ABORT: dict[str, Any] = {"abort_status": 418, "abort_percent": 100.0}

ROWS = {
    "fine": Row(fine, 200, "-", "via_upstream"),
    "no route": Row(no_route, 404, "NR", "route_not_found"),
    "no cluster": Row(ask, 503, "NC", "cluster_not_found", options={"rules": (rule("all", action=forward("nowhere")),)}),
    "no endpoint": Row(ask, 503, "UH", "no_healthy_upstream", options={"endpoints": 0}),
    "refused": Row(
        refused, 503, "UF", f"{BEFORE}{{connection_failure|[Errno_111]_Connection_refused}}", reason=True, options=route()
    ),
    "not connected in time": Row(
        unconnected, 503, "UF", f"{BEFORE}{{connection_failure|TimeoutError}}", reason=True,
        options={**route(), "cluster_options": {"connect_timeout_s": 2.0}},
    ),
    "closed before the answer": Row(
        closed_before, 503, "UC", f"{BEFORE}{{{CLOSED}}}", reason=True, options=route()
    ),
    "closed amid the answer": Row(closed_amid, 200, "UC", f"{AFTER}{{Connection_reset_by_peer}}", reason=True, options=route()),
    "no HTTP": Row(nonsense, 502, "UPE", f"{BEFORE}{{protocol_error|invalid_status_line}}", reason=True, options=route()),
    "no HTTP amid the answer": Row(
        nonsense_amid, 200, "UPE", f"{AFTER}{{invalid_chunk_size_or_extension}}", reason=True, options=route()
    ),
    "timeout": Row(slow, 504, "UT", "upstream_response_timeout", options=route(timeout_s=1.0)),
    "timeout amid the answer": Row(slow_amid, 200, "UT", "upstream_response_timeout", options=route(timeout_s=1.0)),
    "timeout of the only try": Row(
        slow, 504, "UT", "upstream_per_try_timeout", options=route(retry=RetrySpec(attempts=0, per_try_timeout_s=1.0))
    ),
    "idle": Row(idle, 504, "SI", "stream_idle_timeout", options={"stream_idle_timeout_s": 10.0}),
    "idle while the body comes": Row(idle_body, 408, "SI", "stream_idle_timeout", options={"stream_idle_timeout_s": 10.0}),
    "idle amid the answer": Row(idle_amid, 200, "SI", "stream_idle_timeout", options={"stream_idle_timeout_s": 10.0}),
    "client left": Row(left, 0, "DC", "downstream_remote_disconnect"),
    "client left amid the answer": Row(left_amid, 200, "DC", "downstream_remote_disconnect"),
    "client sent nonsense": Row(bad_body, 400, "DPE", "http1.codec_error"),
    "overflow": Row(
        overflowing, 503, "UO", f"{BEFORE}{{overflow}}", options={**route(), "cluster_options": {"max_requests": 1}}
    ),
    "tries used up on statuses": Row(failing, 503, "URX", "via_upstream", options=retry()),
    "tries used up on resets": Row(
        closed_twice, 503, "UC,URX", f"{BEFORE}{{{CLOSED}}}", reason=True,
        options=retry("reset"),
    ),
    "no budget for another try": Row(
        failing_once, 503, "UO", "via_upstream",
        options={**retry(), "cluster_options": {"retry_budget": RetryBudgetSpec(percent=0.0, minimum=0)}},
    ),
    "nor after a reset": Row(
        closed_before, 503, "UC,UO", f"{BEFORE}{{{CLOSED}}}", reason=True,
        options={**retry("reset"), "cluster_options": {"retry_budget": RetryBudgetSpec(percent=0.0, minimum=0)}},
    ),
    "overload": Row(shedding, 503, "OM", "overload"),
    "delayed": Row(delayed_and_fine, 200, "DI", "via_upstream", options=route(fault=FaultSpec(**DELAY))),
    "aborted": Row(ask, 418, "FI", "fault_filter_abort", options=route(fault=FaultSpec(**ABORT))),
    "delayed and aborted": Row(delayed, 418, "DI,FI", "fault_filter_abort", options=route(fault=FaultSpec(**DELAY, **ABORT))),
    "delayed and nobody there": Row(
        delayed, 503, "UH,DI", "no_healthy_upstream", options={**route(fault=FaultSpec(**DELAY)), "endpoints": 0}
    ),
    "delayed and left": Row(
        left_delayed, 0, "DI,DC", "downstream_remote_disconnect", options=route(fault=FaultSpec(**DELAY))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_failure_has_its_status_flags_details_and_line(make_world: Callable[..., World], tmp_path: Path, name: str) -> None:
    row = ROWS[name]
    options = dict(row.options)
    path = tmp_path / "log"
    world = make_world(*options.pop("rules", ()), access_log=str(path), access_log_format="json", **options)
    row.provoke(world)
    log = world.plane.access_log
    assert log is not None
    world.plane.access_log = None
    log.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    found = [line for line in lines if (line["response_code"], line["response_flags"]) != (200, "-")] or lines
    assert [(line["response_code"], line["response_flags"], line["response_code_details"]) for line in found] == [
        (row.status, row.flags, row.details)
    ]
    assert bool(found[0]["upstream_transport_failure_reason"]) is row.reason
    assert world.counted()[row.status, row.flags] == 1


def test_several_flags_come_in_envoy_s_order() -> None:
    assert join_flags("DC", "DI") == join_flags("DI,DC", "-") == "DI,DC"
    assert join_flags("-", "") == "-"
    assert [join_flags(failure.value.flag) for failure in Failure] == [failure.value.flag for failure in Failure]
