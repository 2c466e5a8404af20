# SPDX-License-Identifier: Apache-2.0
"""An explanation says what the table does, for any configuration and request; its reasons are those of the naive matcher."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from routing.explain import Arrival, Asker, Explanation, explain
from routing.explain.model import CallerFacts, ListenerFacts
from routing.specs import CandidateSpec, ListenerSpec, MatchSpec, RuleSetSpec, Specs, VirtualHostSpec
from tests.property.test_table import (
    CALLERS,
    IDENTITIES,
    PATIENT,
    addresses,
    compiled,
    configurations,
    entry_holds,
    heads,
    rule_lists,
    source_holds,
    table_for,
)

if TYPE_CHECKING:
    from routing.explain.model import RuleVerdict
    from routing.specs import IdentitySpec, RuleSpec
    from tests.unit.routing.table_kit import Head


def asked(specs: Specs, listener: ListenerSpec, head: Head, identity: IdentitySpec | None) -> Explanation:
    facts = ListenerFacts(name=listener.name, port=listener.port)
    return explain(specs, head, Asker(CallerFacts(known=identity is not None), identity), Arrival(facts, listener))


def one_of(specs: Specs, number: int) -> ListenerSpec:
    return list(specs.listeners.values())[number % len(specs.listeners)]


numbers = st.integers(0, 9)


def verdicts(explanation: Explanation) -> list[RuleVerdict]:
    return [rule for candidate in explanation.candidates if candidate.verdict == "owner" for rule in candidate.rules]


@PATIENT
@given(configurations(), heads, addresses, numbers)
def test_an_explanation_is_the_tables_answer(specs: Specs, head: Head, address: str, number: int) -> None:
    listener = one_of(specs, number)
    found = asked(specs, listener, head, IDENTITIES.get(CALLERS.get(address, "")))
    told = None
    if found.route is not None:
        assert found.virtual_host is not None
        assert found.forward is not None
        (destination,) = found.forward.destinations
        told = (found.virtual_host.name, f"{found.route.name}>{destination.cluster}")
    assert told == compiled(table_for(specs), listener.name, head, address)
    assert (found.answer is not None and found.answer.flag == "NR") == (told is None)


@PATIENT
@given(configurations(), heads, st.sampled_from([*IDENTITIES.values(), None]), numbers)
def test_reasons_are_those_of_the_naive_matcher(specs: Specs, head: Head, identity: IdentitySpec | None, number: int) -> None:
    found = asked(specs, one_of(specs, number), head, identity)
    for candidate in found.candidates:
        rules = specs.rule_sets[candidate.rule_set].rules
        for rule, verdict in zip(rules, candidate.rules, strict=False):
            check_rule(rule, verdict, head, identity)


def check_rule(rule: RuleSpec, verdict: RuleVerdict, head: Head, identity: IdentitySpec | None) -> None:
    for match, entry in zip(rule.matches or (MatchSpec(),), verdict.entries, strict=True):
        holds = entry_holds(match, head) and source_holds(match.source, identity)
        assert all(check.holds for check in entry.checks) == holds
        assert (entry.verdict == "failed") == (not holds)


@PATIENT
@given(configurations(), heads, numbers)
def test_explanations_survive_json(specs: Specs, head: Head, number: int) -> None:
    found = asked(specs, one_of(specs, number), head, None)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Explanation) == found


@PATIENT
@given(rule_lists(), heads)
def test_an_entry_that_is_taken_is_the_first_that_holds(rules: tuple[RuleSpec, ...], head: Head) -> None:
    specs = Specs(
        virtual_hosts={"h": VirtualHostSpec(name="*", port=80, domains=("*",), candidates=(CandidateSpec(rule_set="set"),))},
        rule_sets={"set": RuleSetSpec(name="any", namespace="a", rules=rules)},
    )
    found = asked(specs, ListenerSpec(name="l", port=80, binds=(), virtual_host="h"), head, None)
    holding = [
        (number, index)
        for number, rule in enumerate(rules)
        for index, match in enumerate(rule.matches or (MatchSpec(),))
        if entry_holds(match, head) and source_holds(match.source, None)
    ]
    taken = [(rule.number, i) for rule in verdicts(found) for i, entry in enumerate(rule.entries) if entry.verdict == "taken"]
    assert taken == holding[:1]
