# SPDX-License-Identifier: Apache-2.0
"""An explanation, put together: the table answers, the rest says why."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from routing.explain.candidates import judge_candidates
from routing.explain.destinations import Sender, destinations_of
from routing.explain.excerpt import CALLER, excerpt, may_be_meant
from routing.explain.model import (
    Answer,
    Explanation,
    ForwardFacts,
    HostFacts,
    MirrorFacts,
    RequestFacts,
    RouteFacts,
)
from routing.explain.near import near_hosts
from routing.filters import Cors, Delayed
from routing.specs import ForwardSpec, RuleSpec, SpecsDiff
from routing.table import RouteTable

if TYPE_CHECKING:
    from routing.explain.candidates import Taken
    from routing.explain.model import CandidateVerdict, DestinationFacts
    from routing.explain.questions import Arrival, Asker
    from routing.request import RequestView
    from routing.specs import RuleSetSpec, Specs
    from routing.table import Caller, CompiledVirtualHost, Route

__all__ = ["explain"]

_ALMOST_ONE = 1.0 - 2.0**-53
"""The greatest random number there is: what happens with it happens to every request."""

_PLAIN_PORT = 80


class _Found(NamedTuple):
    """What the table says, and the specs behind it."""

    route: Route
    rule: RuleSpec
    facts: RouteFacts


def explain(specs: Specs, head: RequestView, asker: Asker, arrival: Arrival) -> Explanation:
    """Say what happens to a request, and why.

    Args:
        specs: The configuration.
        head: The request.
        asker: Who calls.
        arrival: Where the request comes in.

    Raises:
        RegexError, HeaderError, RewriteError: the configuration has something that workers refuse, too.
    """
    host = head.host.decode(errors="replace")
    part = excerpt(specs, arrival.listener, host, asker.identity)
    table = RouteTable()
    table.apply(SpecsDiff(version=1, put=part))
    listener, caller = table.listeners[arrival.listener.name], table.caller(CALLER)
    route = table.match(listener, head, caller)
    virtual_host, chosen = _virtual_host(table, arrival, head, caller)
    candidates: tuple[CandidateVerdict, ...] = ()
    found: _Found | None = None
    if virtual_host is not None:
        is_owned = virtual_host.choose(caller)[0] is not None
        taken = _taken(route) if route is not None and is_owned else None
        candidates = judge_candidates(virtual_host, specs.rule_sets, head, caller, taken)
        if route is not None:
            found = _Found(route, *_written(specs.rule_sets, candidates, virtual_host, taken))
    answer = _no_route(candidates, chosen, host, head.port or arrival.listener.port) if found is None else None
    forward = None
    if found is not None:
        sender = Sender(specs, head, caller, asker.facts.address)
        forward, answer = _act(sender, found, arrival.listener.port or head.port or _PLAIN_PORT)
    is_lost = virtual_host is None or (chosen is not None and chosen.chosen_by == "listener")
    return Explanation(
        request=_request(head),
        caller=asker.facts,
        listener=arrival.facts,
        virtual_host=chosen,
        candidates=candidates,
        route=found.facts if found is not None else None,
        forward=forward,
        answer=answer,
        near=near_hosts(specs.virtual_hosts, host, head.port or arrival.listener.port) if is_lost else (),
        notes=tuple(filter(None, (asker.note, arrival.note, *_notes(chosen, forward, answer)))),
    )


def _request(head: RequestView) -> RequestFacts:
    text = [value.decode(errors="replace") for value in (head.method, head.authority, head.path, head.query)]
    return RequestFacts(method=text[0], host=text[1], path=text[2], query=text[3])


def _virtual_host(
    table: RouteTable, arrival: Arrival, head: RequestView, caller: Caller | None
) -> tuple[CompiledVirtualHost | None, HostFacts | None]:
    common, short = table.hosts_for(arrival.listener, head.host, head.port)
    found = short.get(caller.namespace) if caller is not None else None
    is_short = found is not None
    found = found or common
    if found is None:
        return None, None
    spec = found.spec
    is_named = may_be_meant(spec, head.host.decode(errors="replace"))
    facts = HostFacts(
        name=spec.name,
        port=spec.port,
        namespace=spec.namespace,
        chosen_by="short name" if is_short else "host" if is_named else "listener",
    )
    return found, facts


def _taken(route: Route) -> Taken:
    """Read the numbers of rule and entry off the name of a route in an excerpt."""
    rule, _, entry = route.name.partition(".")
    return int(rule), int(entry or 0)


def _written(
    rule_sets: dict[str, RuleSetSpec],
    candidates: tuple[CandidateVerdict, ...],
    virtual_host: CompiledVirtualHost,
    taken: Taken | None,
) -> tuple[RuleSpec, RouteFacts]:
    """Return the rule that was taken, as it is in the configuration."""
    if taken is None:
        default = virtual_host.spec.default
        assert default is not None
        rule = RuleSpec(name="default", action=ForwardSpec(clusters=(default,)))
        return rule, RouteFacts(name="default", origin=None, match_field="", is_default=True)
    owner = next(one for one in candidates if one.verdict == "owner")
    rule = rule_sets[owner.rule_set].rules[taken[0]]
    entry = owner.rules[taken[0]].entries[taken[1]]
    name = f"{rule.name}.{entry.name}" if entry.name else rule.name
    return rule, RouteFacts(name=name, origin=rule.origin, match_field=entry.field, is_default=False)


# What is done.


def _act(sender: Sender, found: _Found, local_port: int) -> tuple[ForwardFacts | None, Answer | None]:
    route, rule, _ = found
    head = sender.head
    if route.reply is not None:
        status, fields, body = route.reply.render(head, local_port)
        is_redirect = any(name == b"location" for name, _ in fields)
        reason = "the rule redirects" if is_redirect else "the rule answers by itself (directResponse)"
        return None, _answer(status, "-", reason, fields, body)
    action = rule.action
    assert isinstance(action, ForwardSpec)
    path = route.rewrite(head.path) if route.rewrite is not None else head.path
    forward = ForwardFacts(
        path=(path + b"?" + head.query if head.query else path).decode(errors="replace"),
        destinations=destinations_of(sender, route, rule),
        timeout_s=route.timeout_s,
        retry=action.retry,
        mirrors=tuple(
            MirrorFacts(cluster=one.cluster_name, percent=one.percent, exists=one.cluster is not None) for one in route.mirrors
        ),
        fault=rule.fault,
        cors=_cors(route, head),
    )
    return forward, _by_filters(route, head) or _by_destinations(forward.destinations)


def _answer(status: int, flag: str, reason: str, fields: list[tuple[bytes, bytes]], body: bytes) -> Answer:
    text = tuple((name.decode(), value.decode(errors="replace")) for name, value in fields)
    return Answer(status=status, flag=flag, reason=reason, fields=text, body=body.decode(errors="replace"))


def _cors(route: Route, head: RequestView) -> str:
    cors = next((one for one in route.filters if isinstance(one, Cors)), None)
    if cors is None:
        return ""
    if cors.on_response(head):
        return "the origin is allowed"
    return "the origin is not allowed: browsers will not show the answer" if head.header(b"origin") else "no origin, no effect"


def _by_filters(route: Route, head: RequestView) -> Answer | None:
    """Return the answer that the route's filters give to every such request."""
    for one in route.filters:
        verdict = one.on_request(head, lambda: _ALMOST_ONE)
        answer = verdict.then if isinstance(verdict, Delayed) else verdict
        if answer is not None:
            by_cors = isinstance(one, Cors)
            reason = "corsPolicy answers the preflight" if by_cors else "the rule's fault.abort answers every request"
            return _answer(answer.status, answer.flag, reason, answer.fields, answer.body)
    return None


def _by_destinations(destinations: tuple[DestinationFacts, ...]) -> Answer | None:
    """Return the answer to requests that no destination can take."""
    drawn = [one for one in destinations if one.share > 0]
    if any(not one.flag for one in drawn):
        return None
    first = drawn[0]
    return Answer(status=503, flag=first.flag, reason=first.reason, body="no healthy upstream" if first.flag == "UH" else "")


def _no_route(candidates: tuple[CandidateVerdict, ...], chosen: HostFacts | None, host: str, port: int) -> Answer:
    owner = next((one for one in candidates if one.verdict == "owner"), None)
    if owner is not None:
        names = " and ".join(f"{one.kind} {one.namespace}/{one.name}" for one in owner.objects) or owner.rule_set
        reason = f"no rule of {names} matches; a last rule without match would take what is left"
    elif chosen is not None:
        reason = f"{chosen.name} is no Service, and there are no rules for it that this caller sees"
    else:
        on_port = f" on port {port}" if port else ""
        reason = f"no Service, ServiceEntry or VirtualService has the host {host or '(none)'}{on_port}"
    return Answer(status=404, flag="NR", reason=reason)


def _notes(chosen: HostFacts | None, forward: ForwardFacts | None, answer: Answer | None) -> list[str]:
    notes = []
    if chosen is not None and chosen.chosen_by == "listener":
        notes.append(f"nobody has the Host that was sent, so that the listener's own host {chosen.name} counts")
    if forward is not None and answer is None:
        notes += [
            f"{one.share:.0%} of the requests are answered 503 ({one.flag}): {one.reason}"
            for one in forward.destinations
            if one.flag and one.share > 0
        ]
    return notes
