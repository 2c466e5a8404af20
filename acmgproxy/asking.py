# SPDX-License-Identifier: Apache-2.0
"""Questions about a request, as people put them: a URL and header lines, judged by the parser that judges traffic.

The gateway's admin server and acmgctl both ask through here, so that they answer alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from acmgproxy.h1.errors import HeadError
from acmgproxy.h1.limits import Limits
from acmgproxy.h1.request import RequestHead, parse_request_head
from routing.explain import Explanation, QuestionError, explain, find_caller, find_listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from acmgproxy.endpoint_state import EndpointState
    from routing.specs import Specs

__all__ = ["Question", "answer", "with_states"]

_LIMITS = Limits()


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked.

    Args:
        url: where the client sends it; `http://` may be left out.
        method: of the request.
        headers: `name: value`; a Host among them is sent instead of the URL's.
        source: who sends it: an address, `namespace/pod`, `namespace/workload`, `namespace`; "" for an unknown caller.
        to: the Service that the client connects to, `service:port`; "" for the URL's host.
    """

    url: str
    method: str = "GET"
    headers: tuple[str, ...] = ()
    source: str = ""
    to: str = ""


class _Target(NamedTuple):
    authority: str
    host: str
    port: int
    path: str


def answer(specs: Specs, question: Question, addresses_of: Callable[[str, str], Iterable[str]]) -> Explanation:
    """Explain what happens to a request.

    Args:
        specs: The configuration.
        question: The request.
        addresses_of: Returns the addresses of a Pod by namespace and name.

    Raises:
        QuestionError: there is no answer; the text says what to ask instead.
    """
    target = _target(question.url)
    head = _head(question, target)
    asker = find_caller(specs, question.source, addresses_of)
    arrival = find_listener(specs, to=question.to, host=target.host, port=target.port, namespace=asker.facts.namespace)
    return explain(specs, head, asker, arrival)


def _target(url: str) -> _Target:
    text = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise QuestionError(f"{url!r} is no URL: {error}; write one such as http://reviews.default:9080/path") from error
    if parts.scheme != "http":
        problem = f"{parts.scheme}:// is not routed by its content: gateways take plain HTTP from clients"
        raise QuestionError(f"{problem}. Ask for http://, with TLS to the endpoints where a DestinationRule says so")
    if not host:
        raise QuestionError(f"{url!r} names no host; write a URL such as http://reviews.default:9080/path")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    name = f"[{host}]" if ":" in host else host
    return _Target(parts.netloc.rpartition("@")[2], name.lower().removesuffix("."), port or 0, path)


def _head(question: Question, target: _Target) -> RequestHead:
    """Return the head that a client would send, judged."""
    lines = [line.strip() for line in question.headers]
    for line in lines:
        if not line.partition(":")[1]:
            raise QuestionError(f"{line!r} is no header; write it as 'name: value'")
    if not any(line.lower().startswith("host:") for line in lines):
        lines.insert(0, f"Host: {target.authority}")
    text = "\r\n".join((f"{question.method} {target.path} HTTP/1.1", *lines, "", ""))
    try:
        return parse_request_head(text.encode(), _LIMITS)
    except HeadError as error:
        problem = f"gateways answer such a request with {error.status} before any rule is looked at: {error}"
        raise QuestionError(f"{problem}. Correct method, URL and headers") from error


def with_states(explanation: Explanation, states: Mapping[int, Iterable[EndpointState]]) -> Explanation:
    """Add what workers say of the endpoints.

    Args:
        explanation: The explanation.
        states: By worker, the states of its endpoints.
    """
    if explanation.forward is None:
        return explanation
    active: dict[tuple[str, str, int], int] = {}
    ejected: dict[tuple[str, str, int], int] = {}
    for of_worker in states.values():
        for one in of_worker:
            key = (one.cluster, one.address, one.port)
            active[key] = active.get(key, 0) + one.active
            ejected[key] = ejected.get(key, 0) + one.ejected
    destinations = []
    for destination in explanation.forward.destinations:
        keys = [(destination.cluster, one.address, one.port) for one in destination.endpoints]
        endpoints = tuple(
            replace(one, active=active.get(key), ejected_by=ejected.get(key))
            for one, key in zip(destination.endpoints, keys, strict=True)
        )
        destinations.append(replace(destination, endpoints=endpoints))
    return replace(explanation, forward=replace(explanation.forward, destinations=tuple(destinations)))
