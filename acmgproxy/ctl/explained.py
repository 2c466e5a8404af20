# SPDX-License-Identifier: Apache-2.0
"""An explanation as a tree that people read from top to bottom: the way of the request, what was considered, where it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text
from rich.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from routing.explain.model import (
        CandidateVerdict,
        Check,
        DestinationFacts,
        EndpointFacts,
        EntryVerdict,
        Explanation,
        ForwardFacts,
        RuleVerdict,
    )
    from routing.specs import HeaderOps, OriginSpec, RetrySpec

__all__ = ["outcome", "tree_of"]

_STYLES = {"taken": "bold green", "too late": "yellow", "failed": "dim"}
_WORDS = {"taken": "taken", "too late": "would match, but comes too late", "failed": "does not match"}
_MANY = 20
"""Endpoints of a destination that are listed; the rest is counted. JSON has all."""


def outcome(found: Explanation) -> str:
    """Say in a line where the request ends."""
    if found.answer is not None:
        flag = f" ({found.answer.flag})" if found.answer.flag != "-" else ""
        return f"The gateway itself answers {found.answer.status}{flag}: {found.answer.reason}"
    assert found.forward is not None
    drawn = [one for one in found.forward.destinations if one.share > 0 and not one.flag]
    where = " or ".join(f"{_name(one)}{_percent(one.share)}" for one in drawn)
    chosen = [one for destination in drawn for one in destination.endpoints if one.is_chosen]
    if len(drawn) == 1 and chosen:
        return f"Goes to {where}, endpoint {chosen[0].address}:{chosen[0].port} by its hash"
    usable = [one for destination in drawn for one in destination.endpoints if one.usable]
    ejected = sum(bool(one.ejected_by) for one in usable)
    also = f", {ejected} of them ejected" if ejected else ""
    return f"Goes to {where}: {len(usable)} endpoint{'' if len(usable) == 1 else 's'}{also}"


def tree_of(found: Explanation) -> Tree:
    """Return the explanation for people."""
    request = found.request
    target = f"{request.path}?{request.query}" if request.query else request.path
    tree = Tree(Text(f"{request.method} {target}  Host: {request.host or '(none)'}", style="bold"))
    tree.add(Text(f"caller    {_caller(found)}"))
    tree.add(_listener(found))
    tree.add(Text(f"host      {_host(found)}"))
    for candidate in found.candidates:
        _add_candidate(tree, candidate)
    if found.route is not None and found.route.is_default:
        tree.add(Text("route     default: no rules for this caller, so everything goes to the Service", style="bold green"))
    if found.forward is not None:
        _add_forward(tree, found.forward)
    if found.answer is not None:
        _add_answer(tree, found)
    for host in found.near:
        tree.add(Text(f"near      {host}", style="cyan"))
    for note in found.notes:
        tree.add(Text(f"note      {note}", style="yellow"))
    return tree


def _caller(found: Explanation) -> str:
    caller = found.caller
    if not caller.known:
        who = f"{caller.asked} is unknown" if caller.asked else "unknown; say --from to be somebody"
        return f"{who} (conditions on the caller do not hold)"
    labels = ", ".join(f"{name}={value}" for name, value in sorted(caller.labels.items()))
    facts = [f"namespace {caller.namespace}"]
    facts += [f"workload {caller.workload}"] if caller.workload else []
    facts += [caller.address] if caller.address else []
    facts += [f"at {caller.locality.strip('/')}"] if caller.locality.strip("/") else []
    facts += [f"labels {labels}"] if labels else []
    return f"{caller.asked}: {'; '.join(facts)}"


def _listener(found: Explanation) -> Text:
    listener = found.listener
    if listener.is_there:
        binds = ", ".join(f"{address}:{port}" for address, port in listener.binds)
        return Text(f"listener  {listener.name}{f' at {binds}' if binds else ''}")
    if not listener.service:
        return Text("listener  none for hosts that are no Service; this is what one would answer", style="yellow")
    text = f"listener  none: no gateway listens for {listener.name}; this is what one would do"
    name, _, rest = listener.service.partition(".")
    namespace, is_service, _ = rest.partition(".svc.")
    hint = f" (`acmgctl capture {namespace}/{name}` makes it so)" if is_service else ""
    return Text(text + hint, style="yellow")


def _host(found: Explanation) -> str:
    host = found.virtual_host
    if host is None:
        return "none has it"
    how = {"host": "by Host", "short name": "by Host, a short name in the caller's namespace", "listener": "by the listener"}
    return f"{host.name} port {host.port}, {how[host.chosen_by]}"


def _object(origin: OriginSpec) -> str:
    return f"{origin.kind} {origin.namespace}/{origin.name}"


# Rules.


def _add_candidate(tree: Tree, candidate: CandidateVerdict) -> None:
    names = ", ".join(map(_object, candidate.objects)) or candidate.rule_set
    if candidate.verdict != "owner":
        node = tree.add(Text(f"passed by {names}: {candidate.reason}", style="dim"))
    else:
        node = tree.add(Text(f"rules     {names} owns the host"))
    several = len(candidate.objects) > 1
    for rule in candidate.rules:
        _add_rule(node, rule, with_object=several)
    for left_out in candidate.left_out:
        node.add(Text(f"{left_out.origin.field}: never here, {left_out.reason}", style="dim"))


def _add_rule(parent: Tree, rule: RuleVerdict, *, with_object: bool) -> None:
    where = rule.origin.field if rule.origin is not None else f"rule {rule.number}"
    if with_object and rule.origin is not None:
        where = f"{_object(rule.origin)} {where}"
    name = f' "{rule.name}"' if rule.name else ""
    node = parent.add(Text(f"{where}{name}: {_WORDS[rule.verdict]}", style=_STYLES[rule.verdict]))
    for entry in rule.entries:
        _add_entry(node, entry, where)


def _add_entry(parent: Tree, entry: EntryVerdict, rule: str) -> None:
    label = entry.field.removeprefix(f"{rule}.") or "match"
    label += f' "{entry.name}"' if entry.name else ""
    if not entry.checks:
        parent.add(Text("matches everything", style=_STYLES[entry.verdict]))
        return
    shown = entry.checks if entry.verdict != "failed" else [check for check in entry.checks if not check.holds]
    text = "; ".join(map(_check, shown))
    parent.add(Text(f"{label}: {text}", style=_STYLES[entry.verdict]))


def _check(check: Check) -> str:
    if check.holds:
        return f"{check.field} {check.wanted}"
    return f"{check.field}: wanted {check.wanted}, got {check.got if check.got is not None else 'none'}"


# What is done.


def _add_forward(tree: Tree, forward: ForwardFacts) -> None:
    for text in _deeds(forward):
        tree.add(Text(text))
    for destination in forward.destinations:
        _add_destination(tree, destination)
    for mirror in forward.mirrors:
        missing = "" if mirror.exists else ", which does not exist: no copies"
        tree.add(Text(f"copies    {mirror.percent:g}% to {mirror.cluster}{missing}"))


def _deeds(forward: ForwardFacts) -> Iterable[str]:
    fault = forward.fault
    if fault is not None and fault.delay_s:
        yield f"fault     {fault.delay_percent:g}% are delayed by {fault.delay_s:g} s"
    if fault is not None and fault.abort_status:
        yield f"fault     {fault.abort_percent:g}% are answered {fault.abort_status}"
    if forward.cors:
        yield f"cors      {forward.cors}"
    timeout = f"{forward.timeout_s:g} s" if forward.timeout_s else "none"
    yield f"timeout   {timeout}; {_retries(forward.retry)}"
    yield f"path      {forward.path}"


def _retries(retry: RetrySpec) -> str:
    if not retry.attempts:
        return "no retries"
    each = f", {retry.per_try_timeout_s:g} s each" if retry.per_try_timeout_s else ""
    codes = f" {', '.join(map(str, retry.status_codes))}" if retry.status_codes else ""
    return f"up to {retry.attempts} retries{each} on {', '.join(retry.retry_on)}{codes}"


def _name(one: DestinationFacts) -> str:
    subset = f" subset {one.subset}" if one.subset else ""
    return f"{one.service}:{one.port}{subset}"


def _percent(share: float) -> str:
    return "" if share == 1.0 else f" ({share * 100:.4g}%)"


def _add_destination(tree: Tree, one: DestinationFacts) -> None:
    bad = f": {one.flag}, {one.reason}" if one.flag else ""
    style = "red" if one.flag else "dim" if one.share == 0 else "bold"
    node = tree.add(Text(f"to        {_name(one)}{_percent(one.share)}{bad}", style=style))
    node.add(Text(f"cluster {one.cluster}; Host {one.host}"))
    if one.policy is not None:
        by = f", shaped by {', '.join(map(_object, one.policy.origins))}" if one.policy.origins else ""
        node.add(Text(f"{one.policy.balancer}{by}"))
    for which, several in (("request", one.request_headers), ("response", one.response_headers)):
        for ops in several:
            node.add(Text(f"{which} headers: {_ops(ops)}"))
    for endpoint in one.endpoints[:_MANY]:
        node.add(_endpoint(endpoint))
    if len(one.endpoints) > _MANY:
        node.add(Text(f"and {len(one.endpoints) - _MANY} more; -o json lists them"))


def _ops(ops: HeaderOps) -> str:
    texts = [f"remove {', '.join(ops.remove)}"] if ops.remove else []
    texts += [f"set {name}: {value}" for name, value in ops.set]
    texts += [f"add {name}: {value}" for name, value in ops.add]
    return "; ".join(texts)


def _endpoint(one: EndpointFacts) -> Text:
    facts = [f"{one.workload or 'unknown workload'}{f' {one.version}' if one.version else ''}"]
    facts += [one.locality.strip("/")] if one.locality.strip("/") else []
    facts += [f"{_percent(one.share).strip(' ()')} by locality"] if one.usable and one.share != 1.0 else []
    facts += ["draining"] if one.draining else []
    facts += [f"not used: {one.why_not}"] if not one.usable else []
    facts += ["the hash leads here"] if one.is_chosen else []
    facts += [f"{one.active} requests in flight"] if one.active is not None else []
    facts += [f"ejected by {one.ejected_by} worker{'' if one.ejected_by == 1 else 's'}"] if one.ejected_by else []
    style = "dim" if not one.usable else "red" if one.ejected_by else ""
    return Text(f"{one.address}:{one.port}  {'; '.join(facts)}", style=style)


def _add_answer(tree: Tree, found: Explanation) -> None:
    assert found.answer is not None
    flag = f" {found.answer.flag}" if found.answer.flag != "-" else ""
    node = tree.add(Text(f"answer    {found.answer.status}{flag}", style="bold red" if found.answer.status >= 400 else "bold"))
    for name, value in found.answer.fields:
        node.add(Text(f"{name}: {value}"))
    if found.answer.body:
        node.add(Text(found.answer.body[:200]))
