# SPDX-License-Identifier: Apache-2.0
"""Outlier detection under any sequence of answers, failures, ticks and endpoint updates.

Whatever happens, no more endpoints are ejected than the percentage allows, save for the guaranteed one; what a cluster picks is
neither ejected nor gone; every count stays in its bounds; and when all answers are good again, everybody comes back and nothing
is left to do.
"""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from routing.cluster import Cluster, Endpoint
from routing.specs import ClusterSpec, EndpointSpec, OutlierSpec

SPECS = st.builds(
    OutlierSpec,
    consecutive_5xx=st.integers(0, 3),
    consecutive_gateway=st.integers(0, 3),
    consecutive_local_origin=st.integers(0, 3),
    split_local_origin=st.booleans(),
    interval_s=st.sampled_from([1.0, 10.0]),
    base_ejection_s=st.sampled_from([1.0, 30.0, 400.0]),
    max_ejection_percent=st.sampled_from([0, 10, 34, 50, 100]),
    min_health_percent=st.sampled_from([0, 0, 50]),
    status_codes=st.sampled_from([(), (), (429, 503)]),
)
UPDATES = st.dictionaries(st.integers(0, 11), st.tuples(st.booleans(), st.sampled_from("ab")), max_size=12)


class OutlierMachine(RuleBasedStateMachine):
    @initialize(spec=SPECS, size=st.integers(1, 12))
    def start(self, spec: OutlierSpec, size: int) -> None:
        self.now = 1000.0
        self.rng = random.Random(1)
        self.cluster = Cluster(ClusterSpec(name="c", service="s", outlier=spec))
        self.former: list[Endpoint] = []
        self.update(dict.fromkeys(range(size), (False, "a")))

    @rule(update=UPDATES)
    def update(self, update: dict[int, tuple[bool, str]]) -> None:
        specs = [EndpointSpec(address=str(n), port=1, uid=uid, draining=draining) for n, (draining, uid) in update.items()]
        self.former += self.cluster.update(specs)

    @rule(spec=SPECS)
    def configure(self, spec: OutlierSpec) -> None:
        self.cluster.update_spec(ClusterSpec(name="c", service="s", outlier=spec))

    @rule(data=st.data(), outcomes=st.lists(st.sampled_from([200, 404, 429, 500, 502, 503, 0]), min_size=1, max_size=8))
    def answer(self, data: st.DataObject, outcomes: list[int]) -> None:
        candidates = [*self.cluster.endpoints, *self.former]
        if not candidates:
            return
        endpoint = data.draw(st.sampled_from(candidates))
        detector = self.cluster.outlier
        assert detector is not None
        for status in outcomes:
            before = endpoint.ejected
            now = self.now
            changed = detector.on_status(endpoint, status, now) if status else detector.on_local_failure(endpoint, now)
            assert changed == (endpoint.ejected != before)
            assert not (changed and endpoint.removed)

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 35.0, 301.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        before = {endpoint for endpoint in self.cluster.endpoints if endpoint.ejected}
        changed = self.cluster.tick(self.now)
        after = {endpoint for endpoint in self.cluster.endpoints if endpoint.ejected}
        assert after <= before
        assert changed == (after != before)

    @invariant()
    def limits_hold(self) -> None:
        if not hasattr(self, "cluster"):
            return
        cluster, detector = self.cluster, self.cluster.outlier
        assert detector is not None
        usable = [endpoint for endpoint in cluster.endpoints if not endpoint.spec.draining] or cluster.endpoints
        ejected = [endpoint for endpoint in usable if endpoint.ejected]
        assert cluster.ejected == len(ejected)
        assert len(ejected) <= max(1, len(usable) * detector.spec.max_ejection_percent // 100)
        if any(endpoint.ejected for endpoint in cluster.endpoints):
            assert cluster.needs_tick
        healthy = len(usable) - len(ejected)
        panic = healthy * 100 < detector.spec.min_health_percent * len(usable)
        picked = {cluster.pick(self.rng) for _ in range(10)}
        if panic:
            assert None not in picked
        elif healthy:
            assert picked <= set(usable) - set(ejected)
        else:
            assert picked == {None}
        for endpoint in cluster.endpoints:
            record = endpoint.record
            if record is not None:
                assert min(record.errors, record.gateway_errors, record.local_failures, record.multiplier) >= 0
                assert not endpoint.ejected or record.multiplier > 0

    def teardown(self) -> None:
        if not hasattr(self, "cluster"):
            return
        for _ in range(2000):
            if not self.cluster.needs_tick:
                break
            self.now += 5.0
            self.cluster.tick(self.now)
        assert not self.cluster.needs_tick
        assert self.cluster.ejected == 0
        if self.cluster.endpoints:
            assert self.cluster.pick(self.rng) is not None


OutlierMachine.TestCase.settings = settings(deadline=None, max_examples=80, stateful_step_count=40)
TestOutlierDetection = OutlierMachine.TestCase
