# SPDX-License-Identifier: Apache-2.0
"""What a valid VirtualService is, as Istio's admission judges it.

Each function yields the problems of one part; a part's path comes in as `field`. Where this is stricter than Istio, what it
refuses would not have been HTTP: a rewrite without a leading slash, a line break in a header value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.names import canonical_host, host_problem, is_dns_label, patterns_overlap
from routing.regex import MAX_PATTERN_LENGTH
from routing.resources._base import Problem
from routing.resources._checks import (
    authority_problem,
    duration_problem,
    export_problems,
    header_name_problem,
    header_value_problem,
    path_problem,
    regex_problem,
    string_match_problems,
)
from routing.resources._filter_checks import destination_problems, filter_problems
from routing.resources.virtual_service import (
    Delegate,
    DirectResponse,
    HeaderOperations,
    Headers,
    HTTPMatch,
    HTTPRedirect,
    HTTPRetry,
    HTTPRewrite,
    HTTPRoute,
    RegexRewrite,
    RouteDestination,
    StringMatch,
    VirtualService,
    VirtualServiceSpec,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["RETRY_TOKENS", "virtual_service_problems"]

MAX_BODY_BYTES = 1024 * 1024
"""Envoy's limit on the body of a direct response."""

RETRY_TOKENS = frozenset(
    {
        "5xx", "cancelled", "connect-failure", "deadline-exceeded", "envoy-ratelimited", "gateway-error",
        "http3-post-connect-failure", "internal", "refused-stream", "reset", "reset-before-request", "resource-exhausted",
        "retriable-4xx", "retriable-headers", "retriable-status-codes", "unavailable",
    },
)  # fmt: skip
"""Envoy's retry-on values for HTTP and gRPC."""

HOST_HEADERS = frozenset({"host", ":authority"})
PSEUDO_HEADERS = frozenset({":authority", ":method", ":path", ":scheme", ":status"})


def virtual_service_problems(service: VirtualService) -> Iterator[Problem]:
    """Yield what is wrong with `service`."""
    spec = service.spec
    yield from export_problems(spec.export_to, service.meta.namespace)
    yield from _host_problems(spec)
    for index, gateway in enumerate(spec.gateways):
        if reason := _gateway_problem(gateway):
            yield Problem(f"spec.gateways[{index}]", reason)
    other = {note.field for note in service.notes} & {"spec.tcp", "spec.tls"}
    if not spec.http and not other:
        yield Problem("spec.http", "there must be at least one rule")
    notes = frozenset(note.field for note in service.notes)
    for index, rule in enumerate(spec.http):
        field = f"spec.http[{index}]"
        yield from _rule_problems(rule, field)
        yield from filter_problems(rule, field, notes)
        if rule.delegate is not None:
            yield from _delegate_problems(rule.delegate, f"{field}.delegate", is_root=bool(spec.hosts))


def _host_problems(spec: VirtualServiceSpec) -> Iterator[Problem]:
    if not spec.hosts and spec.gateways:
        yield Problem("spec.gateways", "must not be given without hosts: a delegate is bound where its root is")
    on_mesh = not spec.gateways or "mesh" in spec.gateways
    seen: list[str] = []
    for index, host in enumerate(spec.hosts):
        field = f"spec.hosts[{index}]"
        name = canonical_host(host)
        if reason := host_problem(host, wildcard=True):
            yield Problem(field, reason)
        elif name == "*" and on_mesh:
            yield Problem(field, "`*` is not allowed on gateway mesh")
        elif clash := next((earlier for earlier in seen if patterns_overlap(earlier, name)), None):
            yield Problem(field, f"{host!r} overlaps with {clash!r}")
        seen.append(name)


def _gateway_problem(gateway: str) -> str | None:
    namespace, slash, name = gateway.rpartition("/")
    if (slash and not is_dns_label(namespace)) or host_problem(name, wildcard=False):
        return f"{gateway!r} is neither `mesh`, a name nor <namespace>/<name>"
    return None


def _rule_problems(rule: HTTPRoute, field: str) -> Iterator[Problem]:
    actions = [
        name
        for name, value in (
            ("route", rule.route),
            ("redirect", rule.redirect),
            ("directResponse", rule.direct_response),
            ("delegate", rule.delegate),
        )
        if value
    ]
    if not actions:
        yield Problem(field, "one of route, redirect, directResponse and delegate is required")
    elif len(actions) > 1:
        yield Problem(field, f"{' and '.join(actions)} exclude each other")
    if rule.rewrite is not None:
        if rule.redirect is not None or rule.direct_response is not None:
            yield Problem(f"{field}.rewrite", "is not allowed beside redirect or directResponse")
        yield from _rewrite_problems(rule.rewrite, f"{field}.rewrite")
    for index, match in enumerate(rule.match):
        yield from _match_problems(match, f"{field}.match[{index}]")
    if rule.redirect is not None:
        yield from _redirect_problems(rule.redirect, rule.match, f"{field}.redirect")
    if rule.direct_response is not None:
        yield from _direct_response_problems(rule.direct_response, f"{field}.directResponse")
    yield from _route_problems(rule.route, f"{field}.route")
    if rule.timeout is not None and (reason := duration_problem(rule.timeout, zero=True)):
        yield Problem(f"{field}.timeout", reason)
    if rule.retries is not None:
        yield from _retry_problems(rule.retries, f"{field}.retries")
    yield from _headers_problems(rule.headers, f"{field}.headers")


def _delegate_problems(delegate: Delegate, field: str, *, is_root: bool) -> Iterator[Problem]:
    if not is_root:
        yield Problem(field, "a delegate (a VirtualService without hosts) must not delegate again")
    if not delegate.name:
        yield Problem(f"{field}.name", "must not be empty")


def _match_problems(match: HTTPMatch, field: str) -> Iterator[Problem]:
    yield from string_match_problems(match.uri, f"{field}.uri", empty_prefix=True)
    yield from string_match_problems(match.scheme, f"{field}.scheme")
    yield from string_match_problems(match.method, f"{field}.method")
    yield from string_match_problems(match.authority, f"{field}.authority")
    yield from _condition_problems(match.headers, f"{field}.headers", header=True)
    yield from _condition_problems(match.without_headers, f"{field}.withoutHeaders", header=True)
    yield from _condition_problems(match.query_params, f"{field}.queryParams", header=False)
    if match.source_namespace and not is_dns_label(match.source_namespace):
        yield Problem(f"{field}.sourceNamespace", f"{match.source_namespace!r} is not a namespace")
    for index, gateway in enumerate(match.gateways):
        if reason := _gateway_problem(gateway):
            yield Problem(f"{field}.gateways[{index}]", reason)


def _condition_problems(conditions: Mapping[str, StringMatch | None], field: str, *, header: bool) -> Iterator[Problem]:
    for name, match in conditions.items():
        where = f"{field}.{name}"
        if not name:
            yield Problem(field, "a name must not be empty")
        # `@request.auth.claims.x` is a claim of a token, not a header.
        elif header and not name.startswith("@") and name.lower() not in PSEUDO_HEADERS and (reason := header_name_problem(name)):
            yield Problem(where, reason)
        if match is not None and match.regex != "*":
            yield from string_match_problems(match, where)


def _route_problems(route: tuple[RouteDestination, ...], field: str) -> Iterator[Problem]:
    for index, entry in enumerate(route):
        where = f"{field}[{index}]"
        yield from destination_problems(entry.destination, f"{where}.destination")
        yield from _headers_problems(entry.headers, f"{where}.headers")
    if len(route) > 1 and not sum(entry.weight for entry in route):
        yield Problem(field, "the weights must not all be 0")


def _redirect_problems(redirect: HTTPRedirect, matches: tuple[HTTPMatch, ...], field: str) -> Iterator[Problem]:
    if redirect == HTTPRedirect(redirect_code=redirect.redirect_code):
        yield Problem(field, "one of uri, prefixRewrite, authority, port, derivePort and scheme is required")
    if redirect.port is not None and redirect.derive_port is not None:
        yield Problem(field, "port and derivePort exclude each other")
    if redirect.uri and (reason := path_problem(redirect.uri)):
        yield Problem(f"{field}.uri", reason)
    if redirect.authority and (reason := authority_problem(redirect.authority)):
        yield Problem(f"{field}.authority", reason)
    if redirect.prefix_rewrite is None:
        return
    if redirect.uri:
        yield Problem(field, "uri and prefixRewrite exclude each other")
    if reason := path_problem(redirect.prefix_rewrite):
        yield Problem(f"{field}.prefixRewrite", reason)
    if any(match.uri is not None and (match.uri.exact is not None or match.uri.regex is not None) for match in matches):
        yield Problem(f"{field}.prefixRewrite", "every uri match of the rule must be a prefix")


def _direct_response_problems(response: DirectResponse, field: str) -> Iterator[Problem]:
    body = response.body
    if body is None:
        return
    if body.text is not None and body.data is not None:
        yield Problem(f"{field}.body", "string and bytes exclude each other")
    if len((body.text or "").encode()) > MAX_BODY_BYTES or len(body.data or b"") > MAX_BODY_BYTES:
        yield Problem(f"{field}.body", f"is larger than {MAX_BODY_BYTES} bytes")


def _rewrite_problems(rewrite: HTTPRewrite, field: str) -> Iterator[Problem]:
    if not rewrite.uri and not rewrite.authority and rewrite.uri_regex_rewrite is None:
        yield Problem(field, "one of uri, authority and uriRegexRewrite is required")
    if rewrite.uri and rewrite.uri_regex_rewrite is not None:
        yield Problem(field, "uri and uriRegexRewrite exclude each other")
    if rewrite.uri and (reason := path_problem(rewrite.uri)):
        yield Problem(f"{field}.uri", reason)
    if rewrite.authority and (reason := authority_problem(rewrite.authority)):
        yield Problem(f"{field}.authority", reason)
    if rewrite.uri_regex_rewrite is not None:
        yield from _regex_rewrite_problems(rewrite.uri_regex_rewrite, f"{field}.uriRegexRewrite")


def _regex_rewrite_problems(rewrite: RegexRewrite, field: str) -> Iterator[Problem]:
    if reason := regex_problem(rewrite.match):
        yield Problem(f"{field}.match", reason)
        return
    if not rewrite.rewrite or len(rewrite.rewrite) > MAX_PATTERN_LENGTH:
        yield Problem(f"{field}.rewrite", f"must have 1 to {MAX_PATTERN_LENGTH} characters")
    elif (reason := path_problem("/" + rewrite.rewrite)) or (reason := regex_problem(rewrite.match, rewrite.rewrite)):
        yield Problem(f"{field}.rewrite", reason)


def _retry_problems(retries: HTTPRetry, field: str) -> Iterator[Problem]:
    if retries.per_try_timeout is not None and (reason := duration_problem(retries.per_try_timeout, zero=True)):
        yield Problem(f"{field}.perTryTimeout", reason)
    if retries.backoff is not None and (reason := duration_problem(retries.backoff)):
        yield Problem(f"{field}.backoff", reason)
    for token in retries.retry_on.split(",") if retries.retry_on else ():
        name = token.strip()
        is_status = name.isascii() and name.isdigit() and 100 <= int(name) <= 599
        if name not in RETRY_TOKENS and not is_status:
            yield Problem(f"{field}.retryOn", f"{name!r} is neither a retry condition nor a status code")


def _headers_problems(headers: Headers | None, field: str) -> Iterator[Problem]:
    if headers is None:
        return
    yield from _operation_problems(headers.request, f"{field}.request", request=True)
    yield from _operation_problems(headers.response, f"{field}.response", request=False)


def _operation_problems(operations: HeaderOperations | None, field: str, *, request: bool) -> Iterator[Problem]:
    if operations is None:
        return
    for action, fields in (("set", operations.set), ("add", operations.add)):
        for name, value in fields.items():
            where = f"{field}.{action}.{name}"
            if name.lower() in HOST_HEADERS:
                reason = authority_problem(value) if request else "Host is not a response header"
            else:
                reason = header_name_problem(name) or header_value_problem(value)
            if reason:
                yield Problem(where, reason)
    for index, name in enumerate(operations.remove):
        reason = "Host must not be removed" if name.lower() in HOST_HEADERS else header_name_problem(name)
        if reason:
            yield Problem(f"{field}.remove[{index}]", reason)
