# SPDX-License-Identifier: Apache-2.0
"""Properties of routing.diff."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from routing.diff import apply, diff
from routing.specs import (
    ClusterSpec,
    EndpointSpec,
    IdentitySpec,
    ListenerSpec,
    RuleSetSpec,
    Specs,
    TelemetrySpec,
    VirtualHostSpec,
)

_NAMES = st.sampled_from(["a", "b", "c", "d"])
_ENDPOINTS = st.builds(EndpointSpec, address=_NAMES, port=st.integers(1, 2), draining=st.booleans())

SPECS = st.builds(
    Specs,
    listeners=st.dictionaries(_NAMES, st.builds(ListenerSpec, name=_NAMES, port=st.just(1), binds=st.just(()))),
    virtual_hosts=st.dictionaries(_NAMES, st.builds(VirtualHostSpec, name=_NAMES, port=st.integers(1, 2), domains=st.just(()))),
    rule_sets=st.dictionaries(_NAMES, st.builds(RuleSetSpec, name=_NAMES, namespace=_NAMES, rules=st.just(()))),
    clusters=st.dictionaries(_NAMES, st.builds(ClusterSpec, name=_NAMES, service=_NAMES)),
    endpoints=st.dictionaries(_NAMES, st.lists(_ENDPOINTS, max_size=3).map(tuple)),
    identities=st.dictionaries(_NAMES, st.builds(IdentitySpec, namespace=_NAMES)),
    callers=st.dictionaries(_NAMES, _NAMES),
    telemetry=st.dictionaries(_NAMES, st.builds(TelemetrySpec, logged=st.none() | st.booleans())),
)


@given(old=SPECS, new=SPECS)
def test_applying_a_diff_gives_the_new_specs(old: Specs, new: Specs) -> None:
    change = diff(old, new, 1)
    assert (old if change is None else apply(old, change)) == new
    assert (change is None) is (old == new)


@given(old=SPECS, new=SPECS)
def test_a_diff_is_minimal(old: Specs, new: Specs) -> None:
    change = diff(old, new, 1)
    if change is None:
        return
    for section in Specs.__struct_fields__:
        before, after, put = getattr(old, section), getattr(new, section), getattr(change.put, section)
        assert all(before.get(name) != value for name, value in put.items())
        assert set(change.removed.get(section, ())) == set(before) - set(after)
        assert change.removed.get(section) != ()
