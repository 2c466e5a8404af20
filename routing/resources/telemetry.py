# SPDX-License-Identifier: Apache-2.0
"""Telemetry: its types. What a valid one is stands in `_telemetry_checks`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from routing.resources._base import Fields, Resource

__all__ = ["AccessLogging", "LogFilter", "Provider", "TargetRef", "Telemetry", "TelemetryFields", "Tracing", "WorkloadLabels"]


class WorkloadLabels(Fields, frozen=True, kw_only=True):
    """The pods of the namespace that it applies to."""

    unknown: ClassVar[Literal["note", "refuse", "skip"]] = "refuse"

    match_labels: dict[str, str] = field(default_factory=dict)


class TargetRef(Fields, frozen=True, kw_only=True):
    """An object of the namespace that it applies to."""

    unknown: ClassVar[Literal["note", "refuse", "skip"]] = "refuse"

    group: str = ""
    kind: str
    name: str
    namespace: str = ""


class Provider(Fields, frozen=True, kw_only=True):
    """A receiver of logs or spans, by its name in Istio's mesh configuration."""

    name: str


class WorkloadMatch(Fields, frozen=True, kw_only=True):
    """Which side of a request is meant."""

    unknown: ClassVar[Literal["note", "refuse", "skip"]] = "refuse"

    mode: Literal["CLIENT_AND_SERVER", "CLIENT", "SERVER"] = "CLIENT_AND_SERVER"


class LogFilter(Fields, frozen=True, kw_only=True):
    """Which requests are logged, as an expression in CEL."""

    unknown: ClassVar[Literal["note", "refuse", "skip"]] = "refuse"

    expression: str = ""


class AccessLogging(Fields, frozen=True, kw_only=True):
    """Whether requests are logged, and which."""

    match: WorkloadMatch = WorkloadMatch()
    providers: tuple[Provider, ...] = ()
    disabled: bool = False
    filter: LogFilter = LogFilter()


class Tracing(Fields, frozen=True, kw_only=True):
    """Whether requests have spans, and which."""

    unsupported: ClassVar[frozenset[str]] = frozenset({"customTags", "enableIstioTags", "useRequestIdForTraceSampling"})

    match: WorkloadMatch = WorkloadMatch()
    providers: tuple[Provider, ...] = ()
    random_sampling_percentage: Annotated[float, Meta(ge=0, le=100)] | None = None
    disable_span_reporting: bool | None = None


class TelemetryFields(Fields, frozen=True, kw_only=True):
    """What is to be told of requests, and of which."""

    unsupported: ClassVar[frozenset[str]] = frozenset({"metrics"})

    selector: WorkloadLabels = WorkloadLabels()
    target_ref: TargetRef | None = None
    target_refs: tuple[TargetRef, ...] = ()
    access_logging: tuple[AccessLogging, ...] = ()
    tracing: tuple[Tracing, ...] = ()


class Telemetry(Resource, frozen=True, kw_only=True):
    """An Istio Telemetry."""

    kind: ClassVar[str] = "Telemetry"
    api_versions: ClassVar[tuple[str, ...]] = ("telemetry.istio.io/v1", "telemetry.istio.io/v1alpha1")
    unknown: ClassVar[Literal["note", "refuse", "skip"]] = "skip"

    spec: TelemetryFields = field(default_factory=TelemetryFields)

    @property
    def targets(self) -> tuple[TargetRef, ...]:
        """The objects it names, by either field."""
        return self.spec.target_refs or ((self.spec.target_ref,) if self.spec.target_ref is not None else ())
