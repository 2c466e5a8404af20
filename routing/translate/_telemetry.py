# SPDX-License-Identifier: Apache-2.0
"""Telemetry objects: what is told of the requests to each Service.

As for a waypoint in Istio. A Telemetry without selector and targets holds for its namespace, one in the root namespace for all;
one with a selector, or targets, for those Services of its namespace. Of several for the same the oldest holds. They take effect
from the widest to the nearest: of the access log the last entry decides as a whole, of tracing the last word on each part. An
entry for the client's side alone is not used: the gateway is on the server's. It has one log, which stands for Istio's provider
`envoy`, and spans go where its settings say.

A selector chooses workloads in Istio, and here the Services whose own selector says that all of their pods are such workloads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from routing.names import service_fqdn
from routing.specs import TelemetrySpec
from routing.translate._log_filter import UnsupportedFilterError, read_filter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from routing.resources import Service, Telemetry
    from routing.resources.telemetry import AccessLogging, TargetRef, Tracing
    from routing.specs import ComparisonSpec
    from routing.translate._context import Context

__all__ = ["translate_telemetry"]

OUR_PROVIDER = "envoy"
"""Istio's name for a proxy's own access log."""

_SERVICE_GROUPS = frozenset({"", "core"})
_SAYS_NOTHING = TelemetrySpec()


class _Words(NamedTuple):
    """What one Telemetry says, as far as it has an effect: None where it says nothing."""

    logged: bool | None = None
    log_filter: tuple[tuple[ComparisonSpec, ...], ...] = ()
    sampling: float | None = None
    traced: bool | None = None


def translate_telemetry(context: Context) -> dict[str, TelemetrySpec]:
    """Return the TelemetrySpecs by key; where one would say no more than the wider one there is none."""
    inputs = (context.registry, context.memory.versions.get("Telemetry", 0))
    return context.remember("telemetry", "", inputs, lambda: _translate(context) if context.store.telemetries else {})


def _translate(context: Context) -> dict[str, TelemetrySpec]:
    wide: dict[str, Telemetry] = {}
    narrow: dict[str, Telemetry] = {}
    for telemetry in sorted(context.store.telemetries.values(), key=lambda one: one.meta.age):
        if telemetry.targets or telemetry.spec.selector.match_labels:
            for host in _hosts(context, telemetry):
                _claim(context, narrow, host, telemetry)
        else:
            _claim(context, wide, telemetry.meta.namespace, telemetry)
    said = {id(one): _read(context, one) for one in (*wide.values(), *narrow.values())}
    root = context.options.root_namespace
    mesh = [said[id(wide[root])]] if root in wide else []
    in_namespace = {name: [*mesh, said[id(one)]] for name, one in wide.items() if name != root}
    specs: dict[str, TelemetrySpec] = {}
    _add(specs, "", mesh, _SAYS_NOTHING)
    for name, words in in_namespace.items():
        _add(specs, name, words, specs.get("", _SAYS_NOTHING))
    for host, one in narrow.items():
        namespace = one.meta.namespace
        wider = specs.get(namespace, specs.get("", _SAYS_NOTHING))
        _add(specs, host, [*in_namespace.get(namespace, mesh), said[id(one)]], wider)
    return specs


def _claim(context: Context, holders: dict[str, Telemetry], name: str, telemetry: Telemetry) -> None:
    holder = holders.setdefault(name, telemetry)
    if holder is not telemetry:
        what = f"for {name}" if "." in name else f"for all of namespace {name}"
        context.reporter.report("ACMG028", telemetry, "spec", f"{holder.meta.name} is the older one {what}")


def _add(specs: dict[str, TelemetrySpec], key: str, words: Iterable[_Words], wider: TelemetrySpec) -> None:
    spec = _merged(words)
    if spec != wider:
        specs[key] = spec


def _merged(words: Iterable[_Words]) -> TelemetrySpec:
    """Return what several say together, from the widest to the nearest."""
    logged, log_filter, sampling, traced = _Words()
    for one in words:
        if one.logged is not None:
            logged, log_filter = one.logged, one.log_filter
        sampling = one.sampling if one.sampling is not None else sampling
        traced = one.traced if one.traced is not None else traced
    return TelemetrySpec(logged=logged, log_filter=log_filter, sampling=sampling, traced=traced is not False)


# Which Services.


def _hosts(context: Context, telemetry: Telemetry) -> Iterator[str]:
    """Yield the hosts of the Services that a Telemetry chooses, those of headless ones' pods included."""
    services = _targets(context, telemetry) if telemetry.targets else _selected(context, telemetry)
    for service in services:
        name = service_fqdn(service.key, context.options.cluster_domain)
        yield name
        if service.is_headless:
            yield from (pod.name for pod in context.registry.pods.values() if pod.owner == name)


def _targets(context: Context, telemetry: Telemetry) -> Iterator[Service]:
    single = telemetry.spec.target_ref is not None
    for index, target in enumerate(telemetry.targets):
        field = "spec.targetRef" if single else f"spec.targetRefs[{index}]"
        if target.kind != "Service" or target.group not in _SERVICE_GROUPS:
            context.reporter.report("ACMG027", telemetry, field, f"{_kind(target)} {target.name} has no requests of its own here")
            continue
        service = context.store.services.get((telemetry.meta.namespace, target.name))
        if service is None:
            context.reporter.report("ACMG029", telemetry, field, f"there is no Service {target.name} in its namespace")
        else:
            yield service


def _kind(target: TargetRef) -> str:
    return f"{target.kind} ({target.group})" if target.group else target.kind


def _selected(context: Context, telemetry: Telemetry) -> list[Service]:
    labels, namespace = telemetry.spec.selector.match_labels.items(), telemetry.meta.namespace
    services = [one for key, one in context.store.services.items() if key[0] == namespace and labels <= one.spec.selector.items()]
    if not services:
        text = ", ".join(f"{name}={value}" for name, value in labels)
        message = f"no Service of its namespace selects pods with {text}"
        context.reporter.report("ACMG029", telemetry, "spec.selector.matchLabels", message)
    return services


# What is said.


def _read(context: Context, telemetry: Telemetry) -> _Words:
    words = _Words()
    for index, entry in enumerate(telemetry.spec.access_logging):
        words = _read_logging(context, telemetry, f"spec.accessLogging[{index}]", entry, words)
    for index, tracing in enumerate(telemetry.spec.tracing):
        words = _read_tracing(context, telemetry, f"spec.tracing[{index}]", tracing, words)
    return words


def _read_logging(context: Context, about: Telemetry, field: str, entry: AccessLogging, words: _Words) -> _Words:
    if _is_of_client(context, about, field, entry):
        return words
    others = [provider.name for provider in entry.providers if provider.name != OUR_PROVIDER]
    for name in others:
        context.reporter.report("ACMG027", about, f"{field}.providers", f"provider {name} is not known; nothing is sent to it")
    if others and len(others) == len(entry.providers):
        return words
    try:
        log_filter = read_filter(entry.filter.expression)
    except UnsupportedFilterError as error:
        message = f"the filter cannot be carried out, so that the entry is left out: {error}"
        context.reporter.report("ACMG027", about, f"{field}.filter.expression", message)
        return words
    return words._replace(logged=not entry.disabled, log_filter=() if entry.disabled else log_filter)


def _read_tracing(context: Context, about: Telemetry, field: str, entry: Tracing, words: _Words) -> _Words:
    if _is_of_client(context, about, field, entry):
        return words
    if entry.providers:
        message = "spans go where the gateway's setting tracing_endpoint says"
        context.reporter.report("ACMG021", about, f"{field}.providers", message)
    if entry.random_sampling_percentage is not None:
        words = words._replace(sampling=entry.random_sampling_percentage / 100)
    if entry.disable_span_reporting is not None:
        words = words._replace(traced=not entry.disable_span_reporting)
    return words


def _is_of_client(context: Context, about: Telemetry, field: str, entry: AccessLogging | Tracing) -> bool:
    if entry.match.mode != "CLIENT":
        return False
    context.reporter.report("ACMG027", about, f"{field}.match.mode", "the entry is for the client's side alone")
    return True
