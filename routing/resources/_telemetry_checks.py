# SPDX-License-Identifier: Apache-2.0
"""What a valid Telemetry is, as Istio's admission judges it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.resources._base import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from routing.resources.telemetry import AccessLogging, Telemetry, Tracing

__all__ = ["telemetry_problems"]


def telemetry_problems(telemetry: Telemetry) -> Iterator[Problem]:
    """Yield what is wrong with `telemetry`."""
    spec = telemetry.spec
    if spec.target_ref is not None and spec.target_refs:
        yield Problem("spec.targetRef", "targetRef and targetRefs exclude each other")
    if telemetry.targets and spec.selector.match_labels:
        yield Problem("spec.selector", "selector and targetRefs exclude each other")
    for name, value in spec.selector.match_labels.items():
        if not name or "*" in name + value:
            yield Problem(f"spec.selector.matchLabels.{name}", "labels are compared as they stand, and must be named")
    yield from _target_problems(telemetry)
    yield from _provider_problems("accessLogging", spec.access_logging)
    yield from _provider_problems("tracing", spec.tracing)


def _target_problems(telemetry: Telemetry) -> Iterator[Problem]:
    single = telemetry.spec.target_ref is not None
    for index, target in enumerate(telemetry.targets):
        field = "spec.targetRef" if single else f"spec.targetRefs[{index}]"
        if target.namespace and target.namespace != telemetry.meta.namespace:
            yield Problem(f"{field}.namespace", "only objects of the Telemetry's own namespace can be named")
        for part in ("kind", "name"):
            if not getattr(target, part):
                yield Problem(f"{field}.{part}", "must not be empty")


def _provider_problems(name: str, entries: Iterable[AccessLogging | Tracing]) -> Iterator[Problem]:
    for index, entry in enumerate(entries):
        for number, provider in enumerate(entry.providers):
            if not provider.name:
                yield Problem(f"spec.{name}[{index}].providers[{number}].name", "must not be empty")
