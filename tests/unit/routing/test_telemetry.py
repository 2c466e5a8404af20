# SPDX-License-Identifier: Apache-2.0
"""Facts about the rules of a worker: which one holds for a request."""

from __future__ import annotations

from routing.specs import ComparisonSpec, TelemetrySpec, VirtualHostSpec
from routing.telemetry import TelemetryRule, TelemetryRules

HOST = VirtualHostSpec(name="a.n.svc.cluster.local", port=80, domains=(), namespace="n")
ON, OFF = TelemetrySpec(logged=True), TelemetrySpec(logged=False)


def test_the_nearest_decides() -> None:
    rules = TelemetryRules()
    assert rules.find(HOST) is None
    found = []
    for key, spec in {
        "": TelemetrySpec(sampling=0.1),
        "n": TelemetrySpec(sampling=0.2),
        HOST.name: TelemetrySpec(sampling=0.3),
    }.items():
        assert rules.apply({key: spec}, ())
        rule = rules.find(HOST)
        assert rule is not None
        found.append(rule.sampling)
    assert found == [0.1, 0.2, 0.3]
    assert repr(rules) == f"TelemetryRules(['', '{HOST.name}', 'n'])"
    assert rules.apply({}, (HOST.name, "n"))
    rule = rules.find(HOST)
    assert rule is not None
    assert rule.sampling == 0.1


def test_a_host_that_is_no_service_has_the_rule_of_all() -> None:
    rules = TelemetryRules()
    rules.apply({"": ON, "example.test": OFF}, ())
    for host in (None, VirtualHostSpec(name="example.test", port=80, domains=())):
        rule = rules.find(host)
        assert rule is not None
        assert rule.logged is True


def test_it_knows_whether_anything_is_logged() -> None:
    rules = TelemetryRules()
    said = [(rules.logs_any, len(rules))]
    for put, removed in [({"n": OFF, "": TelemetrySpec(traced=False)}, ()), ({"n": ON}, ()), ({}, ("n",))]:
        assert rules.apply(put, removed)
        said.append((rules.logs_any, len(rules)))
    assert said == [(False, 0), (False, 2), (True, 2), (False, 1)]
    assert not rules.apply({}, ())


def test_one_of_the_conjunctions_must_hold() -> None:
    slow = ComparisonSpec(of="duration_s", operator=">", value=1.0)
    failed = ComparisonSpec(of="status", operator=">=", value=500)
    missing = ComparisonSpec(of="status", operator="==", value=404)
    rule = TelemetryRule(TelemetrySpec(logged=True, log_filter=((failed, slow), (missing,))))
    assert [rule.passes(*case) for case in [(500, 2.0), (500, 0.5), (404, 0.0), (200, 2.0)]] == [True, False, True, False]
    assert repr(rule) == "TelemetryRule(logged=True, 2 conditions, traced=True)"
