# SPDX-License-Identifier: Apache-2.0
"""Diagnostics: what a person should know about the objects they wrote.

A diagnostic names one object and field, says what is wrong and what to do. Codes are those of Istio's analysers where one
exists, so that they can be looked up; `ACMG0xx` are our own. `CATALOGUE` holds every code with its severity and remedy: the
two belong to the code, never to the place that reports it.

Errors: traffic does not do what the object says. Warnings: it probably does not do what its author meant. Infos: a choice of
ours worth knowing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from routing.resources import Resource, ResourceError

__all__ = ["CATALOGUE", "Diagnostic", "Reporter", "Severity", "refusals"]

Severity = Literal["error", "warning", "info"]


class _Entry(NamedTuple):
    severity: Severity
    remedy: str


CATALOGUE: dict[str, _Entry] = {
    "IST0101": _Entry(
        "error",
        "Correct the name, or create what it refers to; until then requests that are sent there are answered with 503 (NC).",
    ),
    "IST0106": _Entry("error", "Correct the field; until then the last good version of the object stays in force."),
    "IST0109": _Entry(
        "warning",
        "Put the rules into one VirtualService, or separate the two with exportTo; hosts are not merged.",
    ),
    "IST0112": _Entry("error", "Set destination.port.number."),
    "IST0118": _Entry("info", "Name the port http or http-<suffix>, or set appProtocol."),
    "IST0130": _Entry("warning", "Move the rule before the one that matches everything, or delete it."),
    "IST0131": _Entry("warning", "Delete the entry, or move it before the one that takes its requests."),
    "IST0132": _Entry("warning", "Correct the host, or create the Service or ServiceEntry."),
    "IST0173": _Entry(
        "warning",
        "Correct the subset's labels, or start pods that carry them; until then the subset is answered with 503 (UH).",
    ),
    "IST0174": _Entry("warning", "Correct the host, or delete the rule; it has no effect."),
    "ACMG000": _Entry("error", "Correct the file; until then what it held before stays in force."),
    "ACMG001": _Entry("warning", "Remove the field, or do not rely on it here."),
    "ACMG002": _Entry("warning", "Correct the spelling or the indentation; the field is not part of this kind."),
    "ACMG003": _Entry("warning", "Write the full name <service>.<namespace>.svc.<domain>; Istio would not resolve this one."),
    "ACMG004": _Entry("warning", "Correct the alias, or address its target directly."),
    "ACMG005": _Entry("warning", "Make sure that one address belongs to one running pod."),
    "ACMG006": _Entry("info", "Add `mesh` or `acmg-gateway` to gateways if its rules should apply to traffic between Services."),
    "ACMG007": _Entry("error", "Give each Service an address of its own."),
    "ACMG008": _Entry("warning", "Give the EndpointSlice's ports the names of the Service's ports."),
    "ACMG009": _Entry("warning", "Set retries.attempts to 1 or more, or leave only `attempts: 0` to switch retries off."),
    "ACMG010": _Entry("error", "Remove the condition; requests never meet it here."),
    "ACMG011": _Entry("warning", "Rename one of the subsets; the first one is used."),
    "ACMG012": _Entry("warning", "Keep bodies small; large ones belong on a server."),
    "ACMG013": _Entry("info", "Use the present field; the deprecated one still works."),
    "ACMG014": _Entry("warning", "Add what the field needs to have an effect, or remove it."),
    "ACMG015": _Entry(
        "warning",
        "Multiply by the number of callers that one gateway pod serves; then say so with annotation `acmg.io/limits: gateway`.",
    ),
    "ACMG016": _Entry("error", "Use tls mode SIMPLE or DISABLE; endpoints that ask for a client certificate cannot be reached."),
    "ACMG017": _Entry("info", "Refer to it with `delegate` in a VirtualService with hosts, or delete it."),
    "ACMG018": _Entry("warning", "Do not route the port through the gateway, or serve HTTP/1.1 on it."),
    "ACMG019": _Entry("warning", "Keep one object for each host and port."),
    "ACMG020": _Entry("warning", "Reach this port without the gateway, or declare it as HTTP if it is."),
    "ACMG021": _Entry("info", "Nothing needs to be done; the field has no meaning here."),
    "ACMG022": _Entry("warning", "Make the conditions of the delegate narrower than those of the rule that refers to it."),
    "ACMG023": _Entry("warning", "Give endpoints, or one ServiceEntry for each host with resolution DNS."),
    "ACMG024": _Entry("error", "Delete the annotation: the controller writes it anew. Nobody else should change it."),
    "ACMG025": _Entry("warning", "Delete the shadow if nothing has captured a Service of that name."),
    "ACMG026": _Entry("error", "Delete the annotation: the controller gives the Service other gateway ports."),
    "ACMG027": _Entry(
        "warning",
        "Change or remove this part. A gateway is on the server's side, as a waypoint is, and its own log is provider `envoy`.",
    ),
    "ACMG028": _Entry("warning", "Put both into one Telemetry, or delete this one; the older one holds."),
    "ACMG029": _Entry("warning", "Correct the name or labels, or create the Service; until then it applies to nothing."),
}


class Diagnostic(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One finding. `field` is a path such as `spec.http[0].route[1].weight`, "" for the object as a whole."""

    code: str
    severity: Severity
    kind: str
    namespace: str
    name: str
    field: str
    message: str
    remedy: str

    def __str__(self) -> str:
        where = f" {self.field}" if self.field else ""
        return f"{self.severity} {self.code} {self.kind} {self.namespace}/{self.name}{where}: {self.message}. {self.remedy}"


def refusals(error: ResourceError) -> list[Diagnostic]:
    """Return the diagnostics of a refused object, one for each field."""
    return [_diagnostic("IST0106", error.kind, error.namespace, error.name, *problem) for problem in error.problems]


def _diagnostic(code: str, kind: str, namespace: str, name: str, field: str, message: str) -> Diagnostic:
    severity, remedy = CATALOGUE[code]
    return Diagnostic(
        code=code, severity=severity, kind=kind, namespace=namespace, name=name, field=field, message=message, remedy=remedy
    )


class Reporter:
    """Collects diagnostics, each once, in the order of their first report.

    The same finding turns up again for every port and caller namespace an object is translated for.
    """

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[Diagnostic, None] = {}

    def __repr__(self) -> str:
        return f"<Reporter {len(self._found)} diagnostics>"

    def report(self, code: str, about: Resource, field: str, message: str) -> None:
        """Note a finding of the catalogue's `code` about a field of an object."""
        self._found[_diagnostic(code, about.kind, about.meta.namespace, about.meta.name, field, message)] = None

    def repeat(self, findings: Iterable[Diagnostic]) -> None:
        """Note findings of an earlier reporter."""
        self._found.update(dict.fromkeys(findings))

    def findings(self) -> tuple[Diagnostic, ...]:
        """Return what was found, in the order of the first report."""
        return tuple(self._found)

    def diagnostics(self) -> list[Diagnostic]:
        """Return what was found, worst first."""
        order = ("error", "warning", "info")
        return sorted(self._found, key=lambda found: order.index(found.severity))
