# SPDX-License-Identifier: Apache-2.0
"""What an access log line says: Istio's default fields, in its order, as text and as JSON.

The names of the JSON fields and the order of both are those of Istio (meshConfig.accessLogEncoding); what is missing is `-` in
text and null in JSON. Some of Envoy's fields have nothing to say here and are always missing: connection termination details, the
upstream connection's own address and the requested server name.
"""

from __future__ import annotations

from time import gmtime, strftime, time
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from acmgproxy.h1.errors import HeadError
    from acmgproxy.h1.request import RequestHead
    from acmgproxy.io.downstream import Downstream
    from acmgproxy.io.exchange import Exchange
    from acmgproxy.replies import Failure

__all__ = ["json_line", "refused_json_line", "refused_text_line", "text_line"]

_encode = msgspec.json.Encoder().encode


class _Line(msgspec.Struct, gc=False):
    """A line of the JSON form: Istio's names, in the order of the text form."""

    start_time: str
    method: str | None
    path: str | None
    protocol: str
    response_code: int
    response_flags: str
    response_code_details: str
    connection_termination_details: str | None
    upstream_transport_failure_reason: str | None
    bytes_received: int
    bytes_sent: int
    duration: int
    upstream_service_time: int | None
    x_forwarded_for: str | None
    user_agent: str | None
    request_id: str | None
    authority: str | None
    upstream_host: str | None
    upstream_cluster: str | None
    upstream_local_address: str | None
    downstream_local_address: str | None
    downstream_remote_address: str | None
    requested_server_name: str | None
    route_name: str | None


class _Second:
    """The text of the second that was asked for last: most lines are of the same one."""

    number = -1
    text = ""


def text_line(exchange: Exchange, now: float) -> str:
    """Return the line of a finished request.

    Args:
        exchange: the request.
        now: monotonic seconds of its end.
    """
    head, downstream, endpoint = exchange.head, exchange.downstream, exchange.endpoint
    duration_s = now - exchange.started
    route = exchange.route.name if exchange.route is not None else ""
    return (
        f'[{_timestamp(time() - duration_s)}] "{head.method.decode("latin-1")} {_quoted(head.target)} HTTP/1.{head.minor}" '
        f'{exchange.status} {exchange.flags} {exchange.detail.replace(" ", "_")} - "{_escaped(_reason(exchange)) or "-"}" '
        f"{exchange.received_bytes} {exchange.sent_bytes} {int(duration_s * 1000)} "
        f"{exchange.upstream_time_ms if exchange.upstream_time_ms >= 0 else '-'} "
        f'"{_quoted(head.forwarded_for)}" "{_quoted(_user_agent(head))}" '
        f'"{_quoted(exchange.request_id or head.request_id)}" "{_quoted(head.authority)}" '
        f'"{f"{endpoint.address}:{endpoint.port}" if endpoint is not None else "-"}" '
        f"{exchange.cluster.name if exchange.cluster is not None else '-'} - "
        f"{downstream.local_address} {downstream.remote_address} - {route or '-'}\n"
    )


def json_line(exchange: Exchange, now: float) -> str:
    """Return the line of a finished request as a JSON object."""
    head, downstream, endpoint = exchange.head, exchange.downstream, exchange.endpoint
    duration_s = now - exchange.started
    has_failed = exchange.flags != "-"
    line = _Line(
        start_time=_timestamp(time() - duration_s),
        method=head.method.decode("latin-1"),
        path=head.target.decode("latin-1"),
        protocol=f"HTTP/1.{head.minor}",
        response_code=exchange.status,
        response_flags=exchange.flags,
        response_code_details=exchange.detail.replace(" ", "_") if has_failed else exchange.detail,
        connection_termination_details=None,
        upstream_transport_failure_reason=(_reason(exchange) or None) if has_failed else None,
        bytes_received=exchange.received_bytes,
        bytes_sent=exchange.sent_bytes,
        duration=int(duration_s * 1000),
        upstream_service_time=exchange.upstream_time_ms if exchange.upstream_time_ms >= 0 else None,
        x_forwarded_for=head.forwarded_for.decode("latin-1") or None,
        user_agent=_user_agent(head).decode("latin-1") or None,
        request_id=(exchange.request_id or head.request_id).decode("latin-1") or None,
        authority=head.authority.decode("latin-1") or None,
        upstream_host=f"{endpoint.address}:{endpoint.port}" if endpoint is not None else None,
        upstream_cluster=exchange.cluster.name if exchange.cluster is not None else None,
        upstream_local_address=None,
        downstream_local_address=_known(downstream.local_address),
        downstream_remote_address=_known(downstream.remote_address),
        requested_server_name=None,
        route_name=(exchange.route.name if exchange.route is not None else None) or None,
    )
    return _encode(line).decode() + "\n"


def refused_text_line(downstream: Downstream, error: HeadError, failure: Failure) -> str:
    """Return the line of a request whose head was not acceptable."""
    flag, detail = failure.value.flag, failure.value.detail
    return (
        f'[{_timestamp(time())}] "- - HTTP/1.1" {error.status} {flag} {detail} - "{_escaped(error.reason) or "-"}" '
        f'0 0 0 - "-" "-" "-" "-" "-" - - {downstream.local_address} {downstream.remote_address} - -\n'
    )


def refused_json_line(downstream: Downstream, error: HeadError, failure: Failure) -> str:
    """Return the line of a request whose head was not acceptable as a JSON object."""
    line = _Line(
        start_time=_timestamp(time()),
        method=None,
        path=None,
        protocol="HTTP/1.1",
        response_code=error.status,
        response_flags=failure.value.flag,
        response_code_details=failure.value.detail,
        connection_termination_details=None,
        upstream_transport_failure_reason=error.reason,
        bytes_received=0,
        bytes_sent=0,
        duration=0,
        upstream_service_time=None,
        x_forwarded_for=None,
        user_agent=None,
        request_id=None,
        authority=None,
        upstream_host=None,
        upstream_cluster=None,
        upstream_local_address=None,
        downstream_local_address=_known(downstream.local_address),
        downstream_remote_address=_known(downstream.remote_address),
        requested_server_name=None,
        route_name=None,
    )
    return _encode(line).decode() + "\n"


def _timestamp(seconds: float) -> str:
    whole = int(seconds)
    if whole != _Second.number:
        _Second.number, _Second.text = whole, strftime("%Y-%m-%dT%H:%M:%S", gmtime(whole))
    return f"{_Second.text}.{int((seconds - whole) * 1000):03d}Z"


def _user_agent(head: RequestHead) -> bytes:
    """Find the field without making a map of all: for a head that never comes again that would cost more than its line."""
    if head.fields is not None:
        return head.fields.get(b"user-agent", b"")
    for line in head.lines:
        if line[:11].lower() == b"user-agent:":
            return line[11:].strip()
    return b""


def _quoted(value: bytes) -> str:
    """Keep a value from ending its quotes; "-" stands for nothing."""
    return _escaped(value.decode("latin-1")) or "-"


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value:
        return value.replace("\\", "\\\\").replace('"', '\\"')
    return value


def _known(address: str) -> str | None:
    return None if address == "-" else address


def _reason(exchange: Exchange) -> str:
    return exchange.detail if exchange.flags.startswith(("UF", "UC", "UPE")) else ""
