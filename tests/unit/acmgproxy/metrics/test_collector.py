# SPDX-License-Identifier: Apache-2.0
"""Facts about /metrics: Istio's names and labels, and our own."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from acmgproxy.metrics import labels
from acmgproxy.metrics.collector import ConfigFacts, GatewayCollector
from acmgproxy.metrics.exposition import BLOCK_CHARS, CONTENT_TYPE, blocks, request_blocks
from acmgproxy.metrics.labels import REQUEST_LABELS, Identities, request_labels
from acmgproxy.metrics.totals import Totals
from acmgproxy.slot import WorkerHealth
from acmgproxy.stats import Series, SeriesKey, SeriesValue, WorkerStats
from routing.specs import IdentitySpec

POD = IdentitySpec(namespace="shop", workload="cart", app="cart", version="v1", canonical_service="cart", canonical_revision="v1")


def key(*, cluster: str = "c1", source: str = "pod", status: int = 200) -> SeriesKey:
    return SeriesKey(source, "pod", "cart.shop.svc.cluster.local", "cart", "shop", cluster, status, "-")


def samples(stats: WorkerStats) -> dict[str, list[tuple[dict[str, str], float]]]:
    totals = Totals()
    totals.update(0, stats)
    totals.identities.update({"pod": POD})
    collector = GatewayCollector(
        release="1.2",
        totals=totals,
        workers=[WorkerHealth(0, True, 77, 3, 2, 0.5, 0.25, 9.0, 1000, 12, 1, 4, 60.0), WorkerHealth(1, False, 0, 0, 1)],
        config=ConfigFacts(3, 1000.0, 1, {"warning": 4}, 5, 6),
        is_ready=True,
    )
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")
    text = b"".join(blocks([collector], totals.snapshot()))
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def series(one: SeriesKey, *durations_ms: float) -> SeriesValue:
    counted = Series()
    for duration_ms in durations_ms:
        counted.observe(duration_ms, 3, 700)
    return SeriesValue(one, counted.count, counted.durations_ms, counted.request_bytes, counted.response_bytes)


def test_requests_have_istios_names_and_labels() -> None:
    ((got, value),) = samples(WorkerStats(0, [series(key(), 0.7, 20.0)], {}, {}))["istio_requests_total"]
    assert value == 2
    assert got.keys() == set(REQUEST_LABELS)
    assert got["reporter"] == "waypoint"
    assert got["source_workload"] == got["destination_workload"] == "cart"
    assert got["destination_workload_namespace"] == got["destination_service_namespace"] == "shop"
    assert (got["response_code"], got["response_flags"], got["request_protocol"]) == ("200", "-", "http")
    assert got["connection_security_policy"] == "none"


def test_durations_are_a_cumulative_histogram() -> None:
    found = samples(WorkerStats(0, [series(key(), 0.7, 20.0, 9e9)], {}, {}))
    buckets = {got["le"]: value for got, value in found["istio_request_duration_milliseconds_bucket"]}
    assert (buckets["0.5"], buckets["1.0"], buckets["25.0"], buckets["3.6e+06"], buckets["+Inf"]) == (0, 1, 2, 2, 3)
    assert found["istio_request_duration_milliseconds_count"][0][1] == 3
    assert found["istio_request_duration_milliseconds_sum"][0][1] == 0.7 + 20.0 + 9e9


def test_body_sizes_are_histograms_too() -> None:
    found = samples(WorkerStats(0, [series(key(), 0.7, 20.0)], {}, {}))
    for name, size, bound in (("request", 3, "5.0"), ("response", 700, "1000.0")):
        assert found[f"istio_{name}_bytes_sum"][0][1] == 2 * size
        assert found[f"istio_{name}_bytes_count"][0][1] == 2
        buckets = {got["le"]: value for got, value in found[f"istio_{name}_bytes_bucket"]}
        assert min(bucket for bucket, count in buckets.items() if count == 2 and bucket == bound) == bound
        assert buckets["1.0"] == 0


def test_series_with_the_same_labels_are_one() -> None:
    found = samples(WorkerStats(0, [series(key(cluster="c1"), 1.0), series(key(cluster="c2"), 1.0, 1.0)], {}, {}))
    assert [value for _, value in found["istio_requests_total"]] == [3]


def test_counters_and_gauges_of_the_data_plane_are_shown() -> None:
    found = samples(WorkerStats(0, [], {"upstream_retries": 3.0, "connections_total": 4.0}, {"connections": 2.0}))
    assert found["acmg_upstream_retries_total"] == [({}, 3.0)]
    assert found["acmg_connections_total"] == [({}, 4.0)]
    assert found["acmg_connections"] == [({"worker": "0"}, 2.0)]


def test_health_and_configuration_are_shown() -> None:
    found = samples(WorkerStats(0, [], {}, {}))
    assert found["acmg_ready"] == [({}, 1.0)]
    assert [value for _, value in found["acmg_worker_up"]] == [1.0, 0.0]
    assert [value for _, value in found["acmg_worker_restarts_total"]] == [2.0, 1.0]
    assert found["acmg_worker_resident_memory_bytes"][0] == ({"worker": "0"}, 1000.0)
    assert [value for _, value in found["acmg_worker_config_age_seconds"]] == [60.0, 0.0]
    assert found["acmg_worker_hangs_total"][0][1] == 1.0
    assert found["acmg_worker_recycles_total"][0][1] == 4.0
    assert found["acmg_build_info"] == [({"version": "1.2"}, 1.0)]
    assert found["acmg_config_version"] == [({}, 3.0)]
    assert found["acmg_config_problems"] == [({}, 1.0)]
    assert ({"severity": "warning"}, 4.0) in found["acmg_config_diagnostics"]
    assert found["acmg_listeners"] == [({"state": "bound"}, 5.0), ({"state": "failed"}, 6.0)]


def test_what_is_unknown_is_called_so() -> None:
    identities = Identities()
    values = dict(zip(REQUEST_LABELS, request_labels(SeriesKey("", "", "", "", "", "", 404, ""), identities), strict=True))
    assert values["source_workload"] == values["destination_app"] == values["destination_service"] == "unknown"
    assert values["source_workload_namespace"] == values["source_cluster"] == "unknown"
    assert values["destination_canonical_revision"] == "latest"
    assert values["response_flags"] == "-"


def test_identities_are_remembered_after_they_left() -> None:
    identities = Identities()
    identities.update({"a": POD})
    identities.update({})
    assert identities.get("a") == POD
    assert repr(identities) == "<Identities present=0 departed=1>"


def test_the_memory_of_identities_is_bounded() -> None:
    identities = Identities()
    identities.update({str(number): POD for number in range(labels.MAX_DEPARTED + 5)})
    identities.update({})
    assert repr(identities) == f"<Identities present=0 departed={labels.MAX_DEPARTED}>"


def counted(number: int) -> dict[tuple[str, ...], Series]:
    total = {}
    for each in range(number):
        one = total[(*("x" * len(REQUEST_LABELS))[:-1], str(each))] = Series()
        one.observe(3.0)
    return total


def test_blocks_stay_small_however_much_there_is() -> None:
    assert list(request_blocks({})) == []
    made = list(request_blocks(counted(1000)))
    assert len(made) > 10
    assert max(map(len, made)) < 1.2 * BLOCK_CHARS
    lines = b"".join(made).decode().splitlines()
    assert len([line for line in lines if line.startswith("istio_requests_total{")]) == 1000
    families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert families == [
        "istio_requests_total", "istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes",
    ]  # fmt: skip


def test_names_with_strange_characters_and_any_length_are_legal() -> None:
    name = 'a"b\\c\nd' + 1000 * "e"
    found = samples(WorkerStats(0, [series(SeriesKey("", "", name, "n", "s", "c", 200, "-"), 1.0)], {}, {}))
    assert found["istio_requests_total"][0][0]["destination_service"] == name[: labels.MAX_CHARS]
    assert labels.MAX_CHARS < 1000
