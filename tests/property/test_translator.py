# SPDX-License-Identifier: Apache-2.0
"""Properties of the translator: whatever changes in whatever order, it says what a translation of everything says.

The plain twin is `translate`, which remembers nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from routing.diff import apply
from routing.resources import decode
from routing.specs import SpecsDiff
from routing.store import Store
from routing.translate import TranslateOptions, Translator, resolved, translate
from tests.property.worlds import OBJECTS, WORLDS
from tests.unit.routing.objects import endpoint, endpoint_slice, pod, service, virtual_service

if TYPE_CHECKING:
    from routing.resources import Resource
    from routing.specs import Specs

_DELEGATES = st.sampled_from([
    virtual_service("leaf", [], namespace="n"),
    virtual_service("leaf", [], {"match": [{"uri": {"prefix": "/x"}}], "route": [{"destination": {"host": "a"}}]}, namespace="n"),
    virtual_service("root", ["a"], {"delegate": {"name": "leaf"}}, namespace="n"),
    virtual_service("root", ["a", "b.m"], {"match": [{"port": 80}], "delegate": {"name": "leaf"}}, namespace="n"),
    virtual_service("root", ["*.local"], {"delegate": {"name": "leaf", "namespace": "n"}}, namespace="m"),
]).map(decode)  # fmt: skip


class _Batch(NamedTuple):
    """Objects that come, and how many of those that are there go, counted from one of them."""

    put: list[Resource]
    first_gone: int
    gone: int


_BATCHES = st.builds(_Batch, st.lists(st.one_of(OBJECTS, OBJECTS, _DELEGATES), max_size=3), st.integers(0, 20), st.integers(0, 2))
_OPTIONS = st.sampled_from([
    TranslateOptions(),
    TranslateOptions(listeners="gateway-ports", gateway_addresses=("127.0.0.1", "::1")),
    TranslateOptions(listeners="none", shared_binds=(("127.0.0.1", 15080),)),
])  # fmt: skip
_ADDRESSES = st.dictionaries(st.sampled_from(["z.test", "x.test"]), st.just(("127.0.0.7",)), max_size=2)


def _do(store: Store, batch: _Batch) -> None:
    there = list(store.resources())
    for index in range(batch.gone if there else 0):
        found = there[(batch.first_gone + index) % len(there)]
        store.delete(found.kind, *found.key)
    for resource in batch.put:
        store.put(resource)


def _with_addresses(store: Store, options: TranslateOptions, addresses: dict[str, tuple[str, ...]]) -> Specs:
    found = translate(store, options)
    specs = found.specs
    specs.endpoints |= {name: specs.endpoints[name] + resolved(names, addresses) for name, names in found.names.items()}
    return specs


@given(
    world=WORLDS,
    batches=st.lists(st.tuples(_BATCHES, st.none() | _ADDRESSES), min_size=1, max_size=8),
    options=_OPTIONS,
)
@settings(max_examples=150, deadline=None)
def test_the_translator_says_what_a_translation_of_everything_says(
    world: list[Resource], batches: list[tuple[_Batch, dict[str, tuple[str, ...]] | None]], options: TranslateOptions
) -> None:
    store = Store(world)
    translator = Translator(store, options)
    told, addresses = translator.specs, {}
    for batch, answers in [(_Batch([], 0, 0), None), *batches]:
        _do(store, batch)
        steps = [translator.take(store.journal.take())]
        if answers is not None:
            addresses = answers
            steps.append(translator.take_addresses(addresses))
        for step in steps:
            if step is not None:
                told = apply(told, SpecsDiff(version=1, put=step.put, removed=step.removed))
                assert told == step.specs
        expected = _with_addresses(store, options, addresses)
        assert translator.specs == expected == told
        plain = translate(store, options)
        assert translator.diagnostics() == plain.diagnostics
        assert translator.names == plain.names


@given(data=st.data(), count=st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_what_was_given_away_is_never_changed(data: st.DataObject, count: int) -> None:
    store = Store(data.draw(WORLDS))
    translator = Translator(store)
    given_away: list[tuple[Specs, Specs]] = []
    for _ in range(count):
        translator.take(store.journal.take())
        given_away.append((translator.specs, apply(translator.specs, SpecsDiff(version=1))))
        _do(store, data.draw(_BATCHES))
    assert all(specs == copy for specs, copy in given_away)


_MEMBERS = st.lists(st.builds(endpoint, st.sampled_from(["127.0.0.1", "127.0.0.2"]), st.sampled_from(["p", "q", ""])), max_size=2)
_CHURN = st.one_of(
    st.builds(pod, st.sampled_from(["p", "q"]), st.sampled_from(["127.0.0.1", "127.0.0.2", ""]), labels=st.just({"app": "1"})),
    st.builds(lambda members, name: endpoint_slice("a", *members, name=name), _MEMBERS, st.sampled_from(["a-1", "a-2"])),
).map(decode)


@given(churn=st.lists(_CHURN, max_size=12), headless=st.booleans())
@settings(deadline=None)
def test_pods_and_slices_alone_lead_to_the_same(churn: list[Resource], headless: bool) -> None:
    store = Store([decode(service("a", clusterIP="None" if headless else "127.0.0.9"))])
    translator = Translator(store)
    for resource in churn:
        store.put(resource)
        translator.take(store.journal.take())
        assert translator.specs == translate(store).specs
