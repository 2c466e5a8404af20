# SPDX-License-Identifier: Apache-2.0
"""What Istio's dashboards and Kiali ask Prometheus about HTTP traffic, with their variables filled in by `filled`.

Origins, at the revisions they were read from in November 2026:

- MESH: istio/istio `manifests/addons/dashboards/lib/queries.libsonnet` (0098d99f), the HTTP panels of the Mesh Dashboard.
- SERVICE: istio/istio `manifests/addons/dashboards/istio-service-dashboard.json` (1272e6d1) and `perses/` (892fd10b).
- WORKLOAD: istio/istio `manifests/addons/dashboards/perses/istio-workload-dashboard.json` (29eb31bd).
- KIALI: kiali/kiali `graph/telemetry/istio/appender/response_time.go` (be621d75) and `prometheus/metrics.go` (00f85273).

Panels about TCP, and the halves of panels that select `connection_security_policy="mutual_tls"`, are left out: there is neither.
The Performance Dashboard asks for Istio's own processes only.
"""

from __future__ import annotations

__all__ = ["KIALI", "MESH", "SERVER_SIDE", "SERVICE", "VARIABLES", "WORKLOAD", "filled"]

_MESH_JOIN = '"destination_workload_var", ".", "destination_workload", "destination_workload_namespace"'
_MESH_BY = "destination_workload,destination_workload_namespace"

MESH = (
    'round(sum(rate(istio_requests_total{reporter=~"source|waypoint"}[$__rate_interval])), 0.01)',
    'sum(rate(istio_requests_total{reporter=~"source|waypoint",response_code!~"5.."}[$__rate_interval])) '
    '/ sum(rate(istio_requests_total{reporter=~"source|waypoint"}[$__rate_interval]))',
    'round(sum(rate(istio_requests_total{reporter=~"source|waypoint",response_code=~"4.."}[$__rate_interval])), 0.01)'
    "or vector(0)",
    'round(sum(rate(istio_requests_total{reporter=~"source|waypoint",response_code=~"5.."}[$__rate_interval])), 0.01)'
    "or vector(0)",
    f'label_join(sum by ({_MESH_BY},destination_service) (rate(istio_requests_total{{reporter=~"source|waypoint"}}'
    f"[$__rate_interval])), {_MESH_JOIN})",
    *(
        f"label_join(histogram_quantile({quantile}, sum by (le,{_MESH_BY}) (rate(istio_request_duration_milliseconds_bucket"
        f'{{reporter=~"source|waypoint"}}[$__rate_interval]))), {_MESH_JOIN})'
        for quantile in ("0.5", "0.9", "0.99")
    ),
    f'label_join((sum by ({_MESH_BY}) (rate(istio_requests_total{{reporter=~"source|waypoint",response_code!~"5.."}}'
    f'[$__rate_interval])) / sum by ({_MESH_BY}) (rate(istio_requests_total{{reporter=~"source|waypoint"}}'
    f"[$__rate_interval]))), {_MESH_JOIN})",
)

_CALLERS = 'source_workload=~"$srcwl", source_workload_namespace=~"$srcns"'
_BY_CALLER = "source_workload, source_workload_namespace"
_PLAIN = 'connection_security_policy!="mutual_tls"'


def _seconds(quantile: str, selector: str, by: str) -> str:
    """Return the expression of a panel of durations: milliseconds, or seconds where somebody has those."""
    return (
        f"(histogram_quantile({quantile}, sum(irate(istio_request_duration_milliseconds_bucket{{{selector}}}"
        f"[$__rate_interval])) by ({by})) / 1000) or histogram_quantile({quantile}, "
        f"sum(irate(istio_request_duration_seconds_bucket{{{selector}}}[$__rate_interval])) by ({by}))"
    )


def _by_caller(where: str) -> tuple[str, ...]:
    """Return the panels of incoming traffic by its source, which two dashboards have alike."""
    selector = f'reporter=~"$qrep", {_PLAIN}, {where}, {_CALLERS}'
    return (
        f'round(sum(irate(istio_requests_total{{{_PLAIN}, {where}, reporter=~"$qrep", {_CALLERS}}}[5m])) '
        f"by ({_BY_CALLER}, response_code), 0.001)",
        f'sum(irate(istio_requests_total{{reporter=~"$qrep", {_PLAIN}, {where}, response_code!~"5.*", {_CALLERS}}}[5m])) '
        f"by ({_BY_CALLER}) / sum(irate(istio_requests_total{{{selector}}}[5m])) by ({_BY_CALLER})",
        *(_seconds(quantile, selector, f"{_BY_CALLER}, le") for quantile in ("0.50", "0.90", "0.95", "0.99")),
        *(
            f"histogram_quantile({quantile}, sum(irate(istio_{kind}_bytes_bucket{{{selector}}}[$__rate_interval])) "
            f"by ({_BY_CALLER}, le))"
            for kind in ("request", "response")
            for quantile in ("0.50", "0.90", "0.95", "0.99")
        ),
    )


_ONE_SERVICE = 'reporter=~"$qrep",destination_service="$service"'

SERVICE = (
    f"round(sum(irate(istio_requests_total{{{_ONE_SERVICE}}}[$__rate_interval])), 0.001)",
    f'sum(irate(istio_requests_total{{{_ONE_SERVICE},response_code!~"5.*"}}[$__rate_interval])) '
    f"/ (sum(irate(istio_requests_total{{{_ONE_SERVICE}}}[$__rate_interval])) or on () vector(1))",
    *(_seconds(quantile, _ONE_SERVICE, "le") for quantile in ("0.50", "0.90", "0.99")),
    *_by_caller('destination_service="$service"'),
)

WORKLOAD = _by_caller('destination_workload=~"$workload", destination_workload_namespace=~"$namespace"')

SERVER_SIDE = (
    'round(sum(irate(istio_requests_total{reporter="destination",destination_service="$service"}[$__rate_interval])), 0.001)',
    'sum(irate(istio_requests_total{reporter="destination",destination_service="$service",response_code!~"5.*"}'
    '[$__rate_interval])) / (sum(irate(istio_requests_total{reporter="destination",destination_service="$service"}'
    "[$__rate_interval])) or on () vector(1))",
    *(_seconds(quantile, 'reporter="destination",destination_service="$service"', "le") for quantile in ("0.50", "0.90", "0.99")),
)
"""Panels of the Service Dashboard that ask for no other reporter than the destination's sidecar."""

VARIABLES = (
    "sum(istio_requests_total{}) by (destination_service) or sum(istio_tcp_sent_bytes_total{}) by (destination_service)",
    'sum(istio_requests_total{reporter=~"$qrep", destination_service="$service"}) by (source_cluster) '
    'or sum(istio_tcp_sent_bytes_total{reporter=~"$qrep", destination_service=~"$service"}) by (source_cluster)',
    'sum(istio_requests_total{reporter=~"$qrep", destination_service="$service"}) by (source_workload_namespace)',
    'sum(istio_requests_total{reporter=~"$qrep", destination_service=~"$service", source_workload_namespace=~"$srcns"}) '
    "by (source_workload)",
)

_EDGE = (
    "source_cluster,source_workload_namespace,source_workload,source_canonical_service,source_canonical_revision,"
    "destination_cluster,destination_service_namespace,destination_service,destination_service_name,"
    "destination_workload_namespace,destination_workload,destination_canonical_service,destination_canonical_revision,"
    "request_protocol"
)
_KIALI_RATE = 'rate(istio_requests_total{destination_service_name="$name",destination_service_namespace="$namespace"}[60s]) > 0'
_KIALI_MEAN = (
    'sum(rate(istio_request_duration_milliseconds_sum{reporter="waypoint",destination_workload_namespace="$namespace"}[60s])) / '
    'sum(rate(istio_request_duration_milliseconds_count{reporter="waypoint",destination_workload_namespace="$namespace"}[60s]))'
)

KIALI = (
    *(
        f"sum(rate(istio_request_duration_milliseconds_sum{{{where}}}[60s])) by ({_EDGE}) / "
        f"sum(rate(istio_request_duration_milliseconds_count{{{where}}}[60s])) by ({_EDGE}) > 0"
        for where in (
            'reporter=~"destination|waypoint",destination_service_namespace="$namespace"',
            'reporter=~"source|waypoint",source_workload_namespace="$namespace"',
        )
    ),
    *(
        f"histogram_quantile(0.95, sum(rate(istio_request_duration_milliseconds_bucket{{{where}}}[60s])) by (le,{_EDGE})) > 0"
        for where in (
            'reporter=~"destination|waypoint",destination_service_namespace="$namespace"',
            'reporter=~"source|waypoint",source_workload_namespace="$namespace"',
        )
    ),
    _KIALI_RATE,
    'rate(istio_requests_total{destination_service_namespace="$namespace"}[60s]) > 0',
    'rate(istio_requests_total{source_workload_namespace="$namespace"}[60s]) > 0',
    'rate(istio_requests_total{destination_workload_namespace="$namespace",destination_workload="$workload"}[60s]) > 0',
    'rate(istio_requests_total{destination_workload_namespace="$namespace",destination_canonical_service="$name"}[60s]) > 0',
    f"round({_KIALI_MEAN}, 0.001000) > 0.001000 or {_KIALI_MEAN}",
)


def filled(expression: str, **values: str) -> str:
    """Return an expression with Grafana's variables filled in."""
    values = {"__rate_interval": "20s", **values}
    for name in sorted(values, key=len, reverse=True):
        expression = expression.replace(f"${name}", values[name])
    assert "$" not in expression, expression
    return expression
