# SPDX-License-Identifier: Apache-2.0
"""What an explanation says, as plain data: it goes through JSON unchanged, and whoever shows it needs nothing else."""

from __future__ import annotations

from typing import Literal

import msgspec

from routing.specs import (
    ClusterSpec,
    FaultSpec,
    HeaderOps,
    LeftOutSpec,
    OriginSpec,
    RetrySpec,
)

__all__ = [
    "Answer",
    "CallerFacts",
    "CandidateVerdict",
    "Check",
    "DestinationFacts",
    "EndpointFacts",
    "EntryVerdict",
    "Explanation",
    "ForwardFacts",
    "HostFacts",
    "ListenerFacts",
    "MirrorFacts",
    "RequestFacts",
    "RouteFacts",
    "RuleVerdict",
]


class _Fact(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all parts: immutable, compared by value."""


class RequestFacts(_Fact, frozen=True, kw_only=True):
    """The request, as the gateway reads it."""

    method: str
    host: str
    path: str
    query: str = ""


class CallerFacts(_Fact, frozen=True, kw_only=True):
    """Who calls. `known` is False when nothing is known of it: conditions on the caller then never hold.

    `asked` is how it was named, `locality` is `region/zone/subzone`.
    """

    known: bool
    asked: str = ""
    address: str = ""
    namespace: str = ""
    workload: str = ""
    labels: dict[str, str] = {}
    locality: str = ""


class ListenerFacts(_Fact, frozen=True, kw_only=True):
    """Where the request comes in. `is_there` is False when nothing listens: the Service's traffic passes the gateways by.

    `service` is the host that the listener stands for, "" for the one that knows the Host only.
    """

    name: str
    port: int
    service: str = ""
    binds: tuple[tuple[str, int], ...] = ()
    is_there: bool = True


class HostFacts(_Fact, frozen=True, kw_only=True):
    """The virtual host, and what chose it: the Host of the request, its being a short name of the caller's namespace, or the
    listener, because nobody has that Host.
    """

    name: str
    port: int
    namespace: str
    chosen_by: Literal["host", "short name", "listener"]


class Check(_Fact, frozen=True, kw_only=True):
    """A condition: what of the request it looks at, what it wants there, and what it got; None when there is nothing."""

    field: str
    wanted: str
    got: str | None
    holds: bool


Verdict = Literal["taken", "too late", "failed"]
"""Of a rule or match entry: taken, would match but comes after the one that is taken, does not match."""


class EntryVerdict(_Fact, frozen=True, kw_only=True):
    """A match entry: where it is written, all its conditions. A rule without any has one entry without conditions."""

    field: str
    name: str
    verdict: Verdict
    checks: tuple[Check, ...]


class RuleVerdict(_Fact, frozen=True, kw_only=True):
    """A rule: where it is written, and its match entries. `number` counts from 0 among the rules that hold on this port."""

    number: int
    name: str
    origin: OriginSpec | None
    verdict: Verdict
    action: Literal["forward", "redirect", "direct"]
    entries: tuple[EntryVerdict, ...]


class CandidateVerdict(_Fact, frozen=True, kw_only=True):
    """Rules that may own the host, those of one object or of several that are merged.

    `verdict`: it owns the host; callers of this namespace do not see it; none of its rules is for this caller; another one goes
    before it. `reason` says it in words. `left_out` are the rules that cannot hold on this port.
    """

    rule_set: str
    objects: tuple[OriginSpec, ...]
    verdict: Literal["owner", "invisible", "other callers", "outranked"]
    reason: str
    rules: tuple[RuleVerdict, ...] = ()
    left_out: tuple[LeftOutSpec, ...] = ()


class RouteFacts(_Fact, frozen=True, kw_only=True):
    """The rule that was taken; without `origin` the default route of the host."""

    name: str
    origin: OriginSpec | None
    match_field: str
    is_default: bool


class EndpointFacts(_Fact, frozen=True, kw_only=True):
    """A member of a cluster.

    `usable` tells whether this request may go there, `why_not` why it may not. `is_chosen`: consistent hashing leads there.
    `share` of the cluster's requests from this caller that its locality gets, 1.0 where localities do not count. What no worker
    has told is None: `active` requests in flight, `ejected_by` as many workers.
    """

    address: str
    port: int
    workload: str
    version: str
    namespace: str
    locality: str
    weight: int
    draining: bool
    usable: bool
    why_not: str = ""
    is_chosen: bool = False
    share: float = 1.0
    active: int | None = None
    ejected_by: int | None = None


class DestinationFacts(_Fact, frozen=True, kw_only=True):
    """A weighted destination. `share` is its part of the requests.

    `flag` is "" when it can be reached, NC when there is no such cluster, UH when it has no endpoint; `reason` says why.
    `policy` are the figures of the cluster, `policy.origins` the objects that they come from.
    """

    cluster: str
    service: str
    port: int
    subset: str
    share: float
    flag: Literal["", "NC", "UH"]
    reason: str = ""
    host: str = ""
    request_headers: tuple[HeaderOps, ...] = ()
    response_headers: tuple[HeaderOps, ...] = ()
    policy: ClusterSpec | None = None
    endpoints: tuple[EndpointFacts, ...] = ()


class MirrorFacts(_Fact, frozen=True, kw_only=True):
    """Where copies go; `exists` is False when there is no such cluster, and so no copy."""

    cluster: str
    percent: float
    exists: bool


class ForwardFacts(_Fact, frozen=True, kw_only=True):
    """What is sent where. `path` is what upstreams see, with the query. Times of 0 mean none.

    `cors` says what the policy makes of this request, "" without one.
    """

    path: str
    destinations: tuple[DestinationFacts, ...]
    timeout_s: float
    retry: RetrySpec
    mirrors: tuple[MirrorFacts, ...] = ()
    fault: FaultSpec | None = None
    cors: str = ""


class Answer(_Fact, frozen=True, kw_only=True):
    """An answer that the gateway gives by itself, and why. `flag` is the response flag, "-" for none."""

    status: int
    flag: str
    reason: str
    fields: tuple[tuple[str, str], ...] = ()
    body: str = ""


class Explanation(_Fact, frozen=True, kw_only=True):
    """Everything about one request.

    `answer` is None when an endpoint answers. `near` are hosts that may have been meant, `notes` what else should be known.
    """

    request: RequestFacts
    caller: CallerFacts
    listener: ListenerFacts
    virtual_host: HostFacts | None
    candidates: tuple[CandidateVerdict, ...]
    route: RouteFacts | None
    forward: ForwardFacts | None
    answer: Answer | None
    near: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
