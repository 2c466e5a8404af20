# SPDX-License-Identifier: Apache-2.0
"""VirtualService, the HTTP part: its types. What a valid one is stands in `_virtual_service_checks`.

A field that has no effect here yet is listed in `unsupported` and becomes supported by turning it into a field.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from routing.resources._base import Duration, Fields, Resource
from routing.resources.core import PortNumber

__all__ = [
    "Abort",
    "CorsPolicy",
    "Delay",
    "Delegate",
    "Destination",
    "DirectResponse",
    "Fault",
    "HTTPMatch",
    "HTTPMirror",
    "HTTPRedirect",
    "HTTPRetry",
    "HTTPRewrite",
    "HTTPRoute",
    "HeaderOperations",
    "Headers",
    "Percent",
    "RegexRewrite",
    "ResponseBody",
    "RouteDestination",
    "StringMatch",
    "VirtualService",
    "VirtualServiceSpec",
]

Unknown = Literal["note", "refuse", "skip"]

Count = Annotated[int, Meta(ge=0)]


class StringMatch(Fields, frozen=True, kw_only=True):
    """At most one of three ways to compare a string; none asks only for presence."""

    # Left out, a misspelt `exact` would make any value match.
    unknown: ClassVar[Unknown] = "refuse"

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None


class HTTPMatch(Fields, frozen=True, kw_only=True):
    """An entry of `match`: every condition given must hold."""

    unknown: ClassVar[Unknown] = "refuse"

    name: str = ""
    uri: StringMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: dict[str, StringMatch | None] = field(default_factory=dict)
    without_headers: dict[str, StringMatch | None] = field(default_factory=dict)
    query_params: dict[str, StringMatch | None] = field(default_factory=dict)
    ignore_uri_case: bool = False
    port: PortNumber | None = None
    source_labels: dict[str, str] = field(default_factory=dict)
    source_namespace: str = ""
    gateways: tuple[str, ...] = ()
    stat_prefix: str = ""


class PortSelector(Fields, frozen=True, kw_only=True):
    """A port by its number."""

    number: PortNumber


class Destination(Fields, frozen=True, kw_only=True):
    """Where requests go."""

    host: str
    subset: str = ""
    port: PortSelector | None = None


class HeaderOperations(Fields, frozen=True, kw_only=True):
    """Changes to one side's header fields."""

    set: dict[str, str] = field(default_factory=dict)
    add: dict[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()


class Headers(Fields, frozen=True, kw_only=True):
    """Changes to the header fields of requests and responses."""

    request: HeaderOperations | None = None
    response: HeaderOperations | None = None


class RouteDestination(Fields, frozen=True, kw_only=True):
    """A destination with its share. A missing weight counts as 0 beside others."""

    destination: Destination
    weight: Count = 0
    headers: Headers | None = None


class HTTPRedirect(Fields, frozen=True, kw_only=True):
    """A redirect in place of a route."""

    uri: str = ""
    prefix_rewrite: str | None = None
    authority: str = ""
    port: PortNumber | None = None
    derive_port: Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] | None = None
    scheme: Literal["http", "https"] | None = None
    redirect_code: Literal[301, 302, 303, 307, 308] = 301


class ResponseBody(Fields, frozen=True, kw_only=True):
    """Body of a direct response."""

    text: str | None = field(default=None, name="string")
    data: bytes | None = field(default=None, name="bytes")


class DirectResponse(Fields, frozen=True, kw_only=True):
    """A fixed answer in place of a route."""

    status: Annotated[int, Meta(ge=200, le=599)]
    body: ResponseBody | None = None


class Delegate(Fields, frozen=True, kw_only=True):
    """Another VirtualService whose rules stand in place of this one."""

    name: str
    namespace: str = ""


class RegexRewrite(Fields, frozen=True, kw_only=True):
    """A substitution on the path."""

    match: str = ""
    rewrite: str = ""


class HTTPRewrite(Fields, frozen=True, kw_only=True):
    """What changes in the request line and Host."""

    uri: str = ""
    authority: str = ""
    uri_regex_rewrite: RegexRewrite | None = None


class HTTPRetry(Fields, frozen=True, kw_only=True):
    """When to try again. Without `attempts` there are no retries at all."""

    attempts: Count = 0
    per_try_timeout: Duration | None = None
    retry_on: str = ""
    retry_remote_localities: bool | None = None
    retry_ignore_previous_hosts: bool | None = None
    backoff: Duration | None = None


class Percent(Fields, frozen=True, kw_only=True):
    """A share, 0 to 100."""

    value: Annotated[float, Meta(ge=0, le=100)] = 0.0


WholePercent = Annotated[int, Meta(ge=0, le=100)]


class HTTPMirror(Fields, frozen=True, kw_only=True):
    """A destination that gets copies of requests: of all, or of a share."""

    destination: Destination
    percentage: Percent | None = None


class Delay(Fields, frozen=True, kw_only=True):
    """A pause before routing. Without a share it never happens. `percent` is the deprecated form of `percentage`."""

    unsupported: ClassVar[frozenset[str]] = frozenset({"exponentialDelay"})

    fixed_delay: Duration | None = None
    percentage: Percent | None = None
    percent: WholePercent = 0


class Abort(Fields, frozen=True, kw_only=True):
    """An answer in place of routing. Without a share it never happens."""

    unsupported: ClassVar[frozenset[str]] = frozenset({"grpcStatus", "http2Error"})

    http_status: Annotated[int, Meta(ge=200, le=599)] | None = None
    percentage: Percent | None = None
    percent: WholePercent = 0


class Fault(Fields, frozen=True, kw_only=True):
    """Faults to inject."""

    delay: Delay | None = None
    abort: Abort | None = None


class CorsPolicy(Fields, frozen=True, kw_only=True):
    """Cross-origin policy. `allowOrigin` is the deprecated list of exact origins."""

    allow_origin: tuple[str, ...] = ()
    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: Duration | None = None
    allow_credentials: bool = False
    unmatched_preflights: Literal["UNSPECIFIED", "FORWARD", "IGNORE"] = "UNSPECIFIED"


class HTTPRoute(Fields, frozen=True, kw_only=True):
    """A rule: exactly one of route, redirect, directResponse and delegate.

    `mirror` is the older form of `mirrors`. Of its three shares `mirrorPercentage` counts before the deprecated ones.
    """

    name: str = ""
    match: tuple[HTTPMatch, ...] = ()
    route: tuple[RouteDestination, ...] = ()
    redirect: HTTPRedirect | None = None
    direct_response: DirectResponse | None = None
    delegate: Delegate | None = None
    rewrite: HTTPRewrite | None = None
    timeout: Duration | None = None
    retries: HTTPRetry | None = None
    fault: Fault | None = None
    mirror: Destination | None = None
    mirrors: tuple[HTTPMirror, ...] = ()
    mirror_percentage: Percent | None = None
    mirror_percent: WholePercent | None = None
    mirror_percent_old: WholePercent | None = field(default=None, name="mirror_percent")
    cors_policy: CorsPolicy | None = None
    headers: Headers | None = None


class VirtualServiceSpec(Fields, frozen=True, kw_only=True):
    """Rules for hosts. Without hosts it only serves as a delegate."""

    unsupported: ClassVar[frozenset[str]] = frozenset({"tcp", "tls"})

    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    export_to: tuple[str, ...] = ()
    http: tuple[HTTPRoute, ...] = ()


class VirtualService(Resource, frozen=True, kw_only=True):
    """An Istio VirtualService."""

    kind: ClassVar[str] = "VirtualService"
    api_versions: ClassVar[tuple[str, ...]] = (
        "networking.istio.io/v1",
        "networking.istio.io/v1beta1",
        "networking.istio.io/v1alpha3",
    )
    unknown: ClassVar[Unknown] = "skip"

    spec: VirtualServiceSpec = field(default_factory=VirtualServiceSpec)
