# SPDX-License-Identifier: Apache-2.0
"""What the demo reads from the admin server's answers."""

from __future__ import annotations

import msgspec

from acmgproxy.demo.gateway import counter_total, weights_of
from routing.specs import ClusterRef, DirectResponseSpec, ForwardSpec, RuleSetSpec, RuleSpec, Specs

METRICS = """\
# HELP acmg_retries_total Retries.
# TYPE acmg_retries_total counter
acmg_retries_total{worker="0"} 3.0
acmg_retries_total{worker="1"} 4.0
# HELP acmg_other_total Others.
# TYPE acmg_other_total counter
acmg_other_total 100.0
"""


def test_counter_is_added_up_over_its_labels() -> None:
    assert counter_total(METRICS, "acmg_retries_total") == 7
    assert counter_total(METRICS, "acmg_unknown_total") == 0


def test_weights_of_every_split_are_found() -> None:
    split = ForwardSpec(clusters=(ClusterRef(cluster="a", weight=90), ClusterRef(cluster="b", weight=10)))
    even = ForwardSpec(clusters=(ClusterRef(cluster="a"), ClusterRef(cluster="b")))
    single = ForwardSpec(clusters=(ClusterRef(cluster="a"),))
    actions = (split, even, single, DirectResponseSpec(status=200))
    rules = RuleSetSpec(name="r", namespace="default", rules=tuple(RuleSpec(action=action) for action in actions))
    config = msgspec.json.encode(Specs(rule_sets={"r": rules})).decode()
    assert weights_of(config) == {(90, 10), (1, 1)}
    assert weights_of("{}") == set()
