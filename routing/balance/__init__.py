# SPDX-License-Identifier: Apache-2.0
"""Load balancers: which endpoint of a cluster gets the next request.

Owns the choice only; who the members are is the cluster's matter. Every pick is O(1) (O(log n) when weights differ) and never
scans the members. Random numbers come from the caller: `rng.random()` gives a float in [0, 1).

A retry names the endpoints it has *tried*. Each balancer then draws again up to five times, as Envoy's previous-hosts predicate
does (host_selection_retry_max_attempts 5 in Istio), and after that walks on from a random member to the first that was not
tried: at most `len(tried) + 1` steps. Only when everything has been tried may a tried endpoint come again. Consistent hashing
(`hashed`) takes no notice of what was tried, and neither does Istio then.

`spread` puts balancers of several groups of members together, each with its share: how localities are served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, assert_never

from routing.balance.base import Balancer, Random, Single
from routing.balance.hashed import Maglev, RingHash, make_hashed
from routing.balance.plain import LeastRequest, RandomPick, RoundRobin
from routing.balance.spread import Spread
from routing.balance.weighted import WeightedLeastRequest, WeightedRandom, WeightedRoundRobin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from routing.cluster import Endpoint

__all__ = ["Balancer", "BalancerKind", "Maglev", "Random", "RingHash", "Spread", "make_balancer", "make_hashed"]

BalancerKind: TypeAlias = Literal["LEAST_REQUEST", "ROUND_ROBIN", "RANDOM"]
"""Those that need nothing but members."""


def make_balancer(kind: BalancerKind, endpoints: Sequence[Endpoint]) -> Balancer:
    """Return the cheapest balancer that does what ClusterSpec.balancer asks for with these members.

    Balancers start without memory, so a round robin begins at a random member: workers that get the same update at the same time
    must not all send their next request to the same endpoint.
    """
    if len(endpoints) < 2:
        return Single(endpoints) if endpoints else Balancer(endpoints)
    equal = len({endpoint.weight for endpoint in endpoints}) == 1
    match kind:
        case "LEAST_REQUEST":
            return LeastRequest(endpoints) if equal else WeightedLeastRequest(endpoints)
        case "ROUND_ROBIN":
            return RoundRobin(endpoints) if equal else WeightedRoundRobin(endpoints)
        case "RANDOM":
            return RandomPick(endpoints) if equal else WeightedRandom(endpoints)
        case _:
            assert_never(kind)
