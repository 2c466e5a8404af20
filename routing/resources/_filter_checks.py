# SPDX-License-Identifier: Apache-2.0
"""What valid faults, mirrors and cross-origin policies of a VirtualService's rule are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.names import host_problem
from routing.resources._base import Problem
from routing.resources._checks import duration_problem, header_name_problem, header_value_problem, string_match_problems

if TYPE_CHECKING:
    from collections.abc import Iterator

    from routing.resources.virtual_service import CorsPolicy, Destination, Fault, HTTPRoute

__all__ = ["destination_problems", "filter_problems"]


def filter_problems(rule: HTTPRoute, field: str, notes: frozenset[str]) -> Iterator[Problem]:
    """Yield what is wrong with a rule's fault, mirrors and cross-origin policy.

    Args:
        rule: The rule.
        field: Its path.
        notes: Fields of the object that were given without effect.
    """
    if rule.fault is not None:
        if rule.redirect is not None or rule.direct_response is not None:
            yield Problem(f"{field}.fault", "is not allowed beside redirect or directResponse")
        yield from _fault_problems(rule.fault, f"{field}.fault", notes)
    if rule.mirror is not None:
        yield from destination_problems(rule.mirror, f"{field}.mirror")
        if rule.mirrors:
            yield Problem(field, "mirror and mirrors exclude each other")
    for index, mirror in enumerate(rule.mirrors):
        yield from destination_problems(mirror.destination, f"{field}.mirrors[{index}].destination")
    if rule.cors_policy is not None:
        yield from _cors_problems(rule.cors_policy, f"{field}.corsPolicy")


def destination_problems(destination: Destination, field: str) -> Iterator[Problem]:
    """Yield what is wrong with a destination."""
    if reason := host_problem(destination.host, wildcard=False):
        yield Problem(f"{field}.host", reason)
    if "|" in destination.subset or "@" in destination.subset:
        yield Problem(f"{field}.subset", f"{destination.subset!r} is not a name")


def _fault_problems(fault: Fault, field: str, notes: frozenset[str]) -> Iterator[Problem]:
    delay, abort = fault.delay, fault.abort
    if delay is None and abort is None:
        yield Problem(field, "one of delay and abort is required")
    if delay is not None:
        if delay.fixed_delay is not None:
            if reason := duration_problem(delay.fixed_delay):
                yield Problem(f"{field}.delay.fixedDelay", reason)
        elif f"{field}.delay.exponentialDelay" not in notes:
            yield Problem(f"{field}.delay", "fixedDelay is required")
    if abort is not None and abort.http_status is None:
        other = {f"{field}.abort.{name}" for name in ("grpcStatus", "http2Error")}
        if not other & notes:
            yield Problem(f"{field}.abort", "httpStatus is required")


def _cors_problems(policy: CorsPolicy, field: str) -> Iterator[Problem]:
    for index, match in enumerate(policy.allow_origins):
        where = f"{field}.allowOrigins[{index}]"
        if match.exact is None and match.prefix is None and match.regex is None:
            yield Problem(where, "one of exact, prefix and regex is required")
        yield from string_match_problems(match, where)
    for name, values in (
        ("allowMethods", policy.allow_methods),
        ("allowHeaders", policy.allow_headers),
        ("exposeHeaders", policy.expose_headers),
    ):
        for index, value in enumerate(values):
            if header_name_problem(value):
                yield Problem(
                    f"{field}.{name}[{index}]", f"{value!r} is not a {'method' if name == 'allowMethods' else 'header name'}"
                )
    for index, origin in enumerate(policy.allow_origin):
        if reason := header_value_problem(origin):
            yield Problem(f"{field}.allowOrigin[{index}]", reason)
    if policy.max_age is not None and not policy.max_age.is_integer():
        yield Problem(f"{field}.maxAge", "must be whole seconds")
