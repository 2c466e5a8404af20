# SPDX-License-Identifier: Apache-2.0
"""Istio's standard labels for a request series.

Workers count by keys of the configuration, which are short; their texts are looked up here, when someone scrapes. A pod's
identity may have left the configuration by then while its series lives on, so identities that leave are remembered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.specs import IdentitySpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from acmgproxy.stats import SeriesKey

__all__ = ["REQUEST_LABELS", "Identities", "request_labels"]

REQUEST_LABELS = (
    "reporter",
    "source_workload",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "source_canonical_service",
    "source_canonical_revision",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_cluster",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
)
"""Names, in the order of what `request_labels` returns."""

MAX_CHARS = 253
"""Longest value: what Kubernetes and DNS allow for names. Longer ones, which only files can have, are cut."""

MAX_DEPARTED = 10_000
"""Identities remembered after they left. Pods of one workload share an identity, so this covers many rollouts."""

_UNKNOWN = IdentitySpec(namespace="unknown")


class Identities:
    """Identities of the newest configuration and of earlier ones."""

    def __init__(self) -> None:
        self._present: Mapping[str, IdentitySpec] = {}
        self._departed: dict[str, IdentitySpec] = {}

    def __repr__(self) -> str:
        return f"<Identities present={len(self._present)} departed={len(self._departed)}>"

    def update(self, present: Mapping[str, IdentitySpec]) -> None:
        """Take the identities of a new configuration; mostly they are the same as before."""
        if present is self._present:
            return
        for key in self._present.keys() - present.keys():
            self._departed.pop(key, None)
            self._departed[key] = self._present[key]
        while len(self._departed) > MAX_DEPARTED:
            del self._departed[next(iter(self._departed))]
        self._present = present

    def get(self, key: str) -> IdentitySpec:
        """Return an identity; one whose parts are all unknown if there is none."""
        return self._present.get(key) or self._departed.get(key) or _UNKNOWN


def request_labels(key: SeriesKey, identities: Identities) -> tuple[str, ...]:
    """Return the values of REQUEST_LABELS.

    Principals are unknown because they come from mutual TLS, which there is none of here. The cluster is Istio's default name.
    """
    return (
        "waypoint",
        *_workload_labels(identities.get(key.source)),
        *_workload_labels(identities.get(key.destination)),
        key.service[:MAX_CHARS] or "unknown",
        key.service_name[:MAX_CHARS] or "unknown",
        key.service_namespace[:MAX_CHARS] or "unknown",
        "http",
        str(key.status),
        "",
        key.flags or "-",
        "none",
    )


def _workload_labels(identity: IdentitySpec) -> tuple[str, ...]:
    return (
        identity.workload[:MAX_CHARS],
        identity.namespace[:MAX_CHARS],
        "unknown",
        identity.app[:MAX_CHARS],
        identity.version[:MAX_CHARS],
        "unknown" if identity is _UNKNOWN else "Kubernetes",
        identity.canonical_service[:MAX_CHARS],
        identity.canonical_revision[:MAX_CHARS],
    )
