# SPDX-License-Identifier: Apache-2.0
"""Kubernetes as a source: requests (`client`), watches that survive everything (`watched`), and the source made of them."""

from __future__ import annotations

from discovery.kube.backoff import WatchLimits
from discovery.kube.client import ApiError, ConfigError, KubeClient
from discovery.kube.kinds import (
    DESTINATION_RULES,
    ENDPOINT_SLICES,
    EVENTS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    SERVICE_ENTRIES,
    SERVICES,
    TELEMETRIES,
    VIRTUAL_SERVICES,
    ApiKind,
)
from discovery.kube.objects import ObjectKey, WatchChange
from discovery.kube.source import GATEWAY_KINDS, KubeSource
from discovery.kube.watched import Watched, WatchStatus

__all__ = [
    "DESTINATION_RULES",
    "ENDPOINT_SLICES",
    "EVENTS",
    "GATEWAY_KINDS",
    "LEASES",
    "NAMESPACES",
    "NODES",
    "PODS",
    "SERVICES",
    "SERVICE_ENTRIES",
    "TELEMETRIES",
    "VIRTUAL_SERVICES",
    "ApiError",
    "ApiKind",
    "ConfigError",
    "KubeClient",
    "KubeSource",
    "ObjectKey",
    "WatchChange",
    "WatchLimits",
    "WatchStatus",
    "Watched",
]
