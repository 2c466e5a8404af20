# SPDX-License-Identifier: Apache-2.0
"""`acmgctl config`: the configuration that gateways have, as they have it: one kind of thing at a time, filtered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from acmgproxy.ctl.cluster import NOT_DONE, CtlError, run
from acmgproxy.ctl.origins import read_specs
from acmgproxy.ctl.terminal import print_json, print_table, print_yaml, say, warn
from routing.explain import QuestionError, split_service
from routing.specs import ForwardSpec, RedirectSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from acmgproxy.ctl.origins import Asked
    from routing.specs import ClusterSpec, MatchSpec, NamedMatch, RuleSpec, Specs, VirtualHostSpec

__all__ = ["KINDS", "Filter", "run_config", "select"]

Row = tuple[dict[str, Any], tuple[str, ...]]
"""A thing for programs, and the cells of its line for people."""

_PATHS = {"exact": "", "prefix": "*", "segments": "/*", "regex": " (regex)"}
_STYLES = {"yes": "yellow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What is wanted; empty fields leave all.

    Args:
        service: `name`, `namespace/name` or the full name of a Service.
        namespace: of the Service.
        port: of the Service.
        host: a Host that clients send.
    """

    service: str = ""
    namespace: str = ""
    port: int = 0
    host: str = ""

    def takes(self, name: str, namespace: str, port: int, domains: tuple[str, ...]) -> bool:
        """Tell whether a host is wanted."""
        if (self.namespace and self.namespace != namespace) or (self.port and self.port != port):
            return False
        if self.service:
            wanted, number = split_service(self.service)
            if (name != wanted and not name.startswith(f"{wanted}.")) or number not in {0, port}:
                return False
        host = self.host.lower().removesuffix(".")
        return not host or any(_covers(domain, host) for domain in (name, *domains))


def _covers(domain: str, host: str) -> bool:
    return domain == host or (domain.startswith("*") and host.endswith(domain[1:]))


def run_config(kind: str, asked: Asked, wanted: Filter, output: Literal["table", "json", "yaml"]) -> int:
    """Show one kind of thing; return the exit code."""

    async def command() -> int:
        known = await read_specs(asked)
        try:
            rows = select(kind, known.specs, wanted)
        except QuestionError as error:
            raise CtlError(str(error), code=NOT_DONE) from error
        match output:
            case "json":
                print_json([data for data, _ in rows])
            case "yaml":
                print_yaml([data for data, _ in rows])
            case "table":
                if rows:
                    print_table(KINDS[kind][0], [cells for _, cells in rows], styles=_STYLES)
                else:
                    say(f"No {kind} in {known.origin} that are asked for; `acmgctl config routes` lists every host")
        for note in known.notes:
            warn(note)
        return 0

    return run(command)


def select(kind: str, specs: Specs, wanted: Filter) -> list[Row]:
    """Return the things of a kind that are wanted.

    Raises:
        QuestionError: the filter makes no sense.
    """
    return list(KINDS[kind][1](specs, wanted))


def _listeners(specs: Specs, wanted: Filter) -> Iterator[Row]:
    for name, listener in sorted(specs.listeners.items()):
        host = specs.virtual_hosts.get(listener.virtual_host)
        service, namespace, domains = (host.name, host.namespace, host.domains) if host is not None else ("", "", ())
        if wanted.takes(service, namespace, listener.port, domains):
            binds = ", ".join(f"{address}:{port}" for address, port in listener.binds)
            yield msgspec.to_builtins(listener), (name, str(listener.port or "-"), binds, service or "by Host")


def _routes(specs: Specs, wanted: Filter) -> Iterator[Row]:
    for host in _hosts(specs, wanted):
        for candidate in host.candidates:
            rules = specs.rule_sets.get(candidate.rule_set)
            for number, rule in enumerate(rules.rules if rules is not None else ()):
                assert rules is not None
                data = {"host": host.name, "port": host.port, "rule_set": rules.name, "number": number, **_plain(rule)}
                seen = ", ".join(rules.export_to) or "all"
                cells = (host.name, str(host.port), _written(rule), _matches(rule), _action(rule), seen)
                yield data, cells
        if host.default is not None:
            data = {"host": host.name, "port": host.port, "default": msgspec.to_builtins(host.default)}
            yield data, (host.name, str(host.port), "default", "*", host.default.cluster, "all")


def _clusters(specs: Specs, wanted: Filter) -> Iterator[Row]:
    for name, cluster in sorted(specs.clusters.items()):
        if _takes(wanted, cluster):
            members = specs.endpoints.get(name, ())
            by = ", ".join(f"{origin.kind} {origin.namespace}/{origin.name}" for origin in cluster.origins)
            _, _, callers = name.partition("@")
            cells = (
                cluster.service, str(cluster.port), cluster.subset or "-", callers or "all", cluster.balancer, str(len(members)),
                by or "-",
            )  # fmt: skip
            yield {**_plain(cluster), "endpoints": len(members)}, cells


def _endpoints(specs: Specs, wanted: Filter) -> Iterator[Row]:
    for name, members in sorted(specs.endpoints.items()):
        cluster = specs.clusters.get(name)
        if cluster is None or not _takes(wanted, cluster):
            continue
        for member in members:
            identity = specs.identities.get(member.identity)
            workload, version = (identity.workload, identity.version) if identity is not None else ("unknown", "unknown")
            data = {"cluster": name, **_plain(member), "workload": workload, "version": version}
            cells = (
                f"{member.address}:{member.port}", cluster.service, str(cluster.port), cluster.subset or "-", workload, version,
                member.locality.strip("/") or "-", "yes" if member.draining else "no",
            )  # fmt: skip
            yield data, cells


KINDS: dict[str, tuple[tuple[str, ...], Callable[[Specs, Filter], Iterator[Row]]]] = {
    "listeners": (("LISTENER", "PORT", "LISTENS AT", "SERVICE"), _listeners),
    "routes": (("HOST", "PORT", "RULE", "MATCH", "ACTION", "SEEN FROM"), _routes),
    "clusters": (("SERVICE", "PORT", "SUBSET", "FOR CALLERS", "BALANCER", "ENDPOINTS", "SHAPED BY"), _clusters),
    "endpoints": (("ENDPOINT", "SERVICE", "PORT", "SUBSET", "WORKLOAD", "VERSION", "LOCALITY", "DRAINING"), _endpoints),
}
"""By name: titles, and what makes the rows."""


def _hosts(specs: Specs, wanted: Filter) -> Iterator[VirtualHostSpec]:
    for _, host in sorted(specs.virtual_hosts.items()):
        if wanted.takes(host.name, host.namespace, host.port, host.domains):
            yield host


def _takes(wanted: Filter, cluster: ClusterSpec) -> bool:
    return wanted.takes(cluster.service, cluster.service_namespace, cluster.port, ())


def _plain(spec: msgspec.Struct) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(spec)
    return data


# Cells.


def _written(rule: RuleSpec) -> str:
    if rule.origin is None:
        return rule.name or "-"
    name = f' "{rule.name}"' if rule.name else ""
    return f"{rule.origin.namespace}/{rule.origin.name} {rule.origin.field}{name}"


def _matches(rule: RuleSpec) -> str:
    return " | ".join(map(_match, rule.matches)) or "*"


def _match(match: MatchSpec) -> str:
    parts = [match.method.value] if match.method is not None else []
    if match.path is not None:
        parts.append(f"{match.path.value}{_PATHS[match.path.kind]}")
    parts += [f"{field}={one.value}" for field, one in (("scheme", match.scheme), ("host", match.authority)) if one is not None]
    parts += [_named(one, ": ") for one in match.headers]
    parts += [f"?{_named(one, '=')}" for one in match.query]
    if match.source is not None:
        labels = [f"{name}={value}" for name, value in match.source.labels.items()]
        parts.append(f"from {','.join(filter(None, (match.source.namespace, *labels)))}")
    return " ".join(parts) or "*"


def _named(one: NamedMatch, between: str) -> str:
    value = "any" if one.match.kind == "present" else f"{one.match.value}{'*' if one.match.kind == 'prefix' else ''}"
    return f"{'not ' if one.invert else ''}{one.name}{between}{value}"


def _action(rule: RuleSpec) -> str:
    action = rule.action
    if isinstance(action, ForwardSpec):
        several = len(action.clusters) > 1
        return ", ".join(f"{one.cluster}{f' x{one.weight}' if several else ''}" for one in action.clusters)
    if isinstance(action, RedirectSpec):
        return f"redirect {action.status}"
    return f"answer {action.status}"
