# SPDX-License-Identifier: Apache-2.0
"""Who may own a host, who does, and what each of their rules makes of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from routing.explain.checks import check_entry
from routing.explain.model import CandidateVerdict, EntryVerdict, RuleVerdict, Verdict
from routing.specs import DirectResponseSpec, ForwardSpec, MatchSpec, OriginSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from routing.request import RequestView
    from routing.specs import RuleSetSpec, RuleSpec
    from routing.table import Caller, CompiledVirtualHost
    from routing.table.rule_set import CompiledRule, CompiledRuleSet

__all__ = ["Taken", "judge_candidates", "objects_of"]

Taken = tuple[int, int]
"""Numbers of the rule and of its match entry that the table took."""

_NOTHING = (MatchSpec(),)


def judge_candidates(
    virtual_host: CompiledVirtualHost,
    specs: Mapping[str, RuleSetSpec],
    head: RequestView,
    caller: Caller | None,
    taken: Taken | None,
) -> tuple[CandidateVerdict, ...]:
    """Return all candidates of a virtual host in the order in which they are considered.

    Args:
        virtual_host: The host, compiled.
        specs: The rule sets as they are in the configuration, with their names.
        head: The request.
        caller: Who calls.
        taken: What the table took of the owner's rules, None when none of them.
    """
    owner, _ = virtual_host.choose(caller)
    verdicts: list[CandidateVerdict] = []
    is_owned = False
    namespace = caller.namespace if caller is not None else None
    last = len(virtual_host.candidates)
    ordered = sorted(virtual_host.candidates, key=lambda one: _order(one[0], one[1].visibility(namespace), last))
    for _, compiled in ordered:
        key = compiled.spec.name
        if any(one.rule_set == key for one in verdicts):  # considered already, at a better rank
            continue
        spec, objects = specs[key], objects_of(key)
        if compiled is owner:
            is_owned = True
            rules = _judge_rules(spec, compiled, head, caller, taken)
            verdict = CandidateVerdict(
                rule_set=key,
                objects=objects,
                verdict="owner",
                reason="its rules decide",
                rules=rules,
                left_out=spec.left_out,
            )
        else:
            kind, reason = _why_not(compiled, namespace, is_owned=is_owned)
            rules = _judge_rules(spec, compiled, head, caller, None) if kind == "other callers" else ()
            verdict = CandidateVerdict(rule_set=key, objects=objects, verdict=kind, reason=reason, rules=rules)
        verdicts.append(verdict)
    return tuple(verdicts)


def _order(rank: int, seen: int | None, last: int) -> tuple[bool, int, int]:
    """Return what candidates are sorted by, as `CompiledVirtualHost.choose` does; those that nobody sees here go last."""
    return seen is None, rank, last if seen is None else seen


def _why_not(
    compiled: CompiledRuleSet, namespace: str | None, *, is_owned: bool
) -> tuple[Literal["invisible", "other callers", "outranked"], str]:
    if compiled.visibility(namespace) is None:
        seen = ", ".join(compiled.spec.export_to)
        whose = f"the caller's is {namespace}" if namespace is not None else "the caller is unknown"
        return "invisible", f"it is exported to namespace {seen} only, and {whose}"
    if is_owned:
        return "outranked", "another one owns the host: for this caller only one does, whether or not its rules match"
    return "other callers", "every one of its rules asks for another caller, so that it does not own the host"


def _judge_rules(
    spec: RuleSetSpec, compiled: CompiledRuleSet, head: RequestView, caller: Caller | None, taken: Taken | None
) -> tuple[RuleVerdict, ...]:
    return tuple(
        _judge_rule(number, rule, one, head, caller, taken)
        for number, (rule, one) in enumerate(zip(spec.rules, compiled.rules, strict=True))
    )


def _judge_rule(
    number: int, rule: RuleSpec, compiled: CompiledRule, head: RequestView, caller: Caller | None, taken: Taken | None
) -> RuleVerdict:
    entries = []
    for index, (match, entry) in enumerate(zip(rule.matches or _NOTHING, compiled.entries, strict=True)):
        checks = check_entry(match, entry, head, caller)
        verdict: Verdict = "too late" if all(check.holds for check in checks) else "failed"
        if taken == (number, index):
            verdict = "taken"
        field = rule.match_fields[index] if index < len(rule.match_fields) else ""
        entries.append(EntryVerdict(field=field, name=match.name, verdict=verdict, checks=checks))
    verdicts = {entry.verdict for entry in entries}
    return RuleVerdict(
        number=number,
        name=rule.name,
        origin=rule.origin,
        verdict="taken" if "taken" in verdicts else "too late" if "too late" in verdicts else "failed",
        action=_kind(rule),
        entries=tuple(entries),
    )


def _kind(rule: RuleSpec) -> Literal["forward", "redirect", "direct"]:
    if isinstance(rule.action, ForwardSpec):
        return "forward"
    return "direct" if isinstance(rule.action, DirectResponseSpec) else "redirect"


def objects_of(key: str) -> tuple[OriginSpec, ...]:
    """Return the objects that a rule set stands for, by its key (`routing.names.rule_set_key`); none if it has another form."""
    _, is_ours, names = key.partition("virtualservice/")
    if not is_ours:
        return ()
    keys = [key.partition("/") for key in names.rpartition("@")[0].split("+")]
    return tuple(OriginSpec(kind="VirtualService", namespace=namespace, name=name) for namespace, _, name in keys)
