# SPDX-License-Identifier: Apache-2.0
"""Facts about explanations, from objects as people write them to the words that they read."""

from __future__ import annotations

from typing import Any

import pytest

from acmgproxy.replies import Failure
from routing.explain import Explanation, QuestionError, explain, find_caller, find_listener, near_hosts, split_service
from routing.explain.destinations import Sender
from routing.specs import (
    ClusterRef,
    CorsSpec,
    DirectResponseSpec,
    EndpointSpec,
    FaultSpec,
    HashSpec,
    IdentitySpec,
    ListenerSpec,
    LocalitySpec,
    MatchSpec,
    MirrorSpec,
    NamedMatch,
    OutlierSpec,
    PathRewrite,
    RedirectSpec,
    SourceMatch,
    Specs,
    StringMatch,
)
from tests.unit.routing import table_kit as kit
from tests.unit.routing.table_kit import HOST, KEY, Head, add_ops, exact, forward, header, path, rule, rule_set, virtual_host

SLEEP = IdentitySpec(namespace="default", labels={"app": "sleep"}, workload="sleep", app="sleep", locality="r/a/")
CANARY = IdentitySpec(namespace="default", labels={"app": "sleep", "v": "2"}, workload="sleep", app="sleep")
OTHER = IdentitySpec(namespace="other", labels={})
WEB = IdentitySpec(namespace="default", labels={"app": "web"}, workload="web-v1", version="v1")


def specs_of(*rules: Any, **sections: Any) -> Specs:
    sections = {
        "listeners": {KEY: kit.listener()},
        "virtual_hosts": {KEY: virtual_host("rules", domains=(HOST, "web.default"), short_name="web")},
        "rule_sets": {"rules": rule_set(*rules)} if rules else {},
        "clusters": {"web": kit.cluster()},
        "endpoints": {"web": (kit.endpoint(identity="web"),)},
        "identities": {"sleep": SLEEP, "sleep-canary": CANARY, "other": OTHER, "web": WEB},
        "callers": {"10.0.1.1": "sleep", "10.0.1.2": "sleep-canary", "10.0.1.3": "other", "10.0.1.9": "gone"},
        **sections,
    }
    return Specs(**sections)


def no_pods(_namespace: str, _name: str) -> tuple[str, ...]:
    return ()


def ask(
    specs: Specs, head: Head | None = None, *, source: str = "", to: str = "", host: str = "web.default", port: int = 80
) -> Explanation:
    asker = find_caller(specs, source, no_pods)
    arrival = find_listener(specs, to=to, host=host, port=port, namespace=asker.facts.namespace)
    return explain(specs, head or Head(), asker, arrival)


# Answers.


def test_the_default_route_goes_to_the_service() -> None:
    found = ask(specs_of())
    assert found.route is not None
    assert found.route.is_default
    assert found.answer is None
    assert found.forward is not None
    (destination,) = found.forward.destinations
    assert (destination.service, destination.share, destination.flag, destination.host) == (HOST, 1.0, "", HOST)
    (endpoint,) = destination.endpoints
    assert (endpoint.address, endpoint.workload, endpoint.version, endpoint.usable) == ("10.0.0.1", "web-v1", "v1", True)


def test_each_condition_says_what_it_wanted_and_got() -> None:
    entry = MatchSpec(
        name="m",
        path=path("prefix", "/api", ignore_case=True),
        method=exact("POST"),
        headers=(
            header("x-a", exact("1")),
            header("x-b", StringMatch(kind="present"), invert=True),
            header("x-c", StringMatch(kind="prefix", value="no"), invert=True),
        ),
        query=(NamedMatch(name="q", match=StringMatch(kind="present")),),
        source=SourceMatch(namespace="other", labels={"app": "cron"}),
    )
    head = Head(path=b"/x", headers={b"x-b": b"here", b"x-c": b"nothing"})
    found = ask(specs_of(rule("one", entry), rule("all")), head, source="default/sleep")
    first, last = found.candidates[0].rules
    assert [(check.field, check.wanted, check.got) for check in first.entries[0].checks] == [
        ("sourceNamespace", "other", "default"),
        ("sourceLabels[app]", "cron", "sleep"),
        ("uri", 'begins with "/api", ignoring case', '"/x"'),
        ("method", 'exactly "POST"', '"GET"'),
        ("headers[x-a]", 'exactly "1"', None),
        ("withoutHeaders[x-b]", "none at all", '"here"'),
        ("withoutHeaders[x-c]", 'not begins with "no"', '"nothing"'),
        ("queryParams[q]", "any value", None),
    ]
    assert not any(check.holds for check in first.entries[0].checks)
    assert (first.verdict, last.verdict) == ("failed", "taken")


def test_conditions_on_an_unknown_caller_get_nothing() -> None:
    rules = rule("one", MatchSpec(source=SourceMatch(namespace="default", labels={"app": "web"}))), rule("all")
    found = ask(specs_of(*rules), source="10.9.9.9")
    assert [check.got for check in found.candidates[0].rules[0].entries[0].checks] == [None, None]
    assert found.notes == ("no pod is known at 10.9.9.9: conditions on the caller do not hold",)


def test_a_match_that_comes_too_late_is_told() -> None:
    entries = MatchSpec(path=path("exact", "/")), MatchSpec(name="n", path=path("prefix", "/"))
    found = ask(specs_of(rule("a", *entries, match_fields=("http[0].match[0]",)), rule("b")))
    verdicts = [(entry.field, entry.verdict) for one in found.candidates[0].rules for entry in one.entries]
    assert verdicts == [("http[0].match[0]", "taken"), ("", "too late"), ("", "too late")]
    assert found.route is not None
    assert (found.route.name, found.route.match_field) == ("a", "http[0].match[0]")
    named = ask(specs_of(rule("a", *entries[1:])))
    assert named.route is not None
    assert named.route.name == "a.n"


def test_candidates_that_do_not_own_the_host_say_why() -> None:
    sets = {
        "hidden": rule_set(rule("h"), export_to=("other",)),
        "others": rule_set(rule("c", MatchSpec(source=SourceMatch(namespace="other")))),
        "mine": rule_set(rule("m")),
        "late": rule_set(rule("l")),
    }
    host = virtual_host("hidden", "others", "mine", "late", "mine", "missing")
    found = ask(specs_of(rule_sets=sets, virtual_hosts={KEY: host}), source="default", host=HOST)
    assert [(one.rule_set, one.verdict) for one in found.candidates] == [
        ("others", "other callers"), ("mine", "owner"), ("late", "outranked"), ("hidden", "invisible")
    ]  # fmt: skip
    assert "other only, and the caller's is default" in found.candidates[3].reason
    assert "the caller is unknown" in ask(specs_of(rule_sets=sets, virtual_hosts={KEY: host}), host=HOST).candidates[3].reason


def test_objects_are_read_off_the_key_of_the_rule_set() -> None:
    key = "virtualservice/a/x+b/y@80"
    specs = specs_of(rule_sets={key: rule_set(rule("r"), name=key)}, virtual_hosts={KEY: virtual_host(key)})
    (candidate,) = ask(specs, host=HOST).candidates
    assert [(one.kind, one.namespace, one.name) for one in candidate.objects] == [
        ("VirtualService", "a", "x"), ("VirtualService", "b", "y")
    ]  # fmt: skip


def test_redirects_and_fixed_answers_are_rendered() -> None:
    found = ask(specs_of(rule("r", action=RedirectSpec(status=302, authority="new.test"))), Head(path=b"/p", query=b"q"))
    assert found.answer is not None
    assert (found.answer.status, found.answer.fields) == (302, (("location", "http://new.test/p?q"),))
    assert found.candidates[0].rules[0].action == "redirect"
    found = ask(specs_of(rule("d", action=DirectResponseSpec(status=418, body=b"tea"))))
    assert found.answer is not None
    assert (found.answer.status, found.answer.body, found.answer.flag) == (418, "tea", "-")
    assert found.candidates[0].rules[0].action == "direct"


def test_filters_answer_only_what_they_always_answer() -> None:
    always = FaultSpec(delay_s=1.0, delay_percent=100.0, abort_status=503, abort_percent=100.0)
    found = ask(specs_of(rule("r", fault=always)))
    assert found.answer is not None
    assert (found.answer.status, found.answer.flag) == (503, "FI")
    often = FaultSpec(delay_s=1.0, delay_percent=100.0, abort_status=503, abort_percent=99.0)
    assert ask(specs_of(rule("r", fault=often))).answer is None


def test_cors_is_told_as_far_as_this_request_goes() -> None:
    specs = specs_of(rule("r", cors=CorsSpec(allow_origins=(exact("http://a"),))))

    def told(**fields: str) -> tuple[str, int]:
        head = Head(
            method=b"OPTIONS", headers={name.replace("_", "-").encode(): value.encode() for name, value in fields.items()}
        )
        found = ask(specs, head)
        assert found.forward is not None
        return found.forward.cors, found.answer.status if found.answer is not None else 0

    assert told(origin="http://a", access_control_request_method="PUT") == ("the origin is allowed", 200)
    assert told(origin="http://a") == ("the origin is allowed", 0)
    assert told(origin="http://b")[0].startswith("the origin is not allowed")
    assert told() == ("no origin, no effect", 0)


def test_rewrites_headers_and_mirrors_are_told() -> None:
    ref = ClusterRef(cluster="web", host_rewrite="own.test", request_headers=add_ops("x", "1"))
    action = forward(
        ref,
        path_rewrite=PathRewrite(kind="full", value="/new"),
        mirrors=(MirrorSpec(cluster="web", percent=5.0), MirrorSpec(cluster="no")),
        timeout_s=3.0,
    )
    found = ask(specs_of(rule("r", action=action, response_headers=add_ops("y", "2"))), Head(query=b"a=b"))
    assert found.forward is not None
    assert (found.forward.path, found.forward.timeout_s) == ("/new?a=b", 3.0)
    assert [(one.cluster, one.percent, one.exists) for one in found.forward.mirrors] == [("web", 5.0, True), ("no", 100.0, False)]
    (destination,) = found.forward.destinations
    assert destination.host == "own.test"
    assert [len(destination.request_headers), len(destination.response_headers)] == [1, 1]


@pytest.mark.parametrize(
    ("weights", "shares"),
    [((1, 3), [0.25, 0.75]), ((0, 3), [0.0, 1.0]), ((0, 0), [1.0, 0.0])],
    ids=str,
)
def test_shares_are_those_of_the_draw(weights: tuple[int, ...], shares: list[float]) -> None:
    refs = [ClusterRef(cluster="web", weight=weight) for weight in weights]
    found = ask(specs_of(rule("r", action=forward(*refs))))
    assert found.forward is not None
    assert [one.share for one in found.forward.destinations] == shares


def test_a_sender_shows_who_it_is() -> None:
    assert repr(Sender(Specs(), Head(), None, "10.0.0.1")) == "Sender(None, '10.0.0.1')"


# Endpoints.


def endpoints_of(found: Explanation) -> dict[str, tuple[bool, str, float]]:
    assert found.forward is not None
    return {one.address: (one.usable, one.why_not, one.share) for one in found.forward.destinations[0].endpoints}


def test_draining_endpoints_are_used_only_when_no_other_is_left() -> None:
    going = EndpointSpec(address="10.0.0.2", port=80, draining=True)
    found = ask(specs_of(endpoints={"web": (kit.endpoint(), going)}))
    assert endpoints_of(found) == {"10.0.0.1": (True, "", 1.0), "10.0.0.2": (False, "it is about to stop", 0.0)}
    assert endpoints_of(ask(specs_of(endpoints={"web": (going,)})))["10.0.0.2"][0]


def test_localities_decide_which_endpoints_a_caller_reaches() -> None:
    members = tuple(EndpointSpec(address=f"10.0.0.{i}", port=80, locality=f"r/{zone}/") for i, zone in enumerate("ab"))
    near = kit.cluster(locality=LocalitySpec(), outlier=OutlierSpec())
    found = ask(specs_of(clusters={"web": near}, endpoints={"web": members}), source="10.0.1.1")
    assert endpoints_of(found) == {"10.0.0.0": (True, "", 1.0), "10.0.0.1": (False, "others are nearer to the caller", 0.0)}
    split = kit.cluster(locality=LocalitySpec(distribute=(("*", (("r/a", 80), ("r/b", 20))),)))
    found = ask(specs_of(clusters={"web": split}, endpoints={"web": members}), source="10.0.1.1")
    assert [share for _, _, share in endpoints_of(found).values()] == pytest.approx([0.8, 0.2])
    nowhere = kit.cluster(locality=LocalitySpec(distribute=(("*", (("z", 100),)),)))
    found = ask(specs_of(clusters={"web": nowhere}, endpoints={"web": members}), source="10.0.1.1")
    assert found.answer is not None
    assert found.answer.reason == f"no locality that the caller may be sent to has an endpoint of {HOST}"


@pytest.mark.parametrize("balancer", ["RING_HASH", "MAGLEV"])
def test_consistent_hashing_names_the_endpoint(balancer: Any) -> None:
    members = tuple(EndpointSpec(address=f"10.0.0.{i}", port=80) for i in range(5))
    hashed = kit.cluster(balancer=balancer, hash=HashSpec(kind="header", name="x-user"))
    specs = specs_of(clusters={"web": hashed}, endpoints={"web": members})

    def chosen(user: bytes | None) -> list[str]:
        found = ask(specs, Head(headers={b"x-user": user} if user is not None else {}))
        assert found.forward is not None
        return [one.address for one in found.forward.destinations[0].endpoints if one.is_chosen]

    assert chosen(b"a") == chosen(b"a")
    assert len({address for number in range(50) for address in chosen(str(number).encode())}) > 2
    assert chosen(None) == []


def test_a_hash_that_is_not_settled_names_no_endpoint() -> None:
    def count(spec: HashSpec, source: str = "") -> int:
        specs = specs_of(clusters={"web": kit.cluster(balancer="RING_HASH", hash=spec)})
        found = ask(specs, source=source)
        assert found.forward is not None
        return sum(one.is_chosen for one in found.forward.destinations[0].endpoints)

    assert count(HashSpec(kind="cookie", name="c", ttl_s=0.0)) == 0
    assert count(HashSpec(kind="source-ip")) == 0
    assert count(HashSpec(kind="source-ip"), "10.0.1.1") == 1


# Local answers, and why.


def test_the_words_for_local_answers_are_the_data_planes() -> None:
    lost = ask(specs_of(rule("r", MatchSpec(path=path("exact", "/no")))))
    empty = ask(specs_of(endpoints={}))
    unknown = ask(specs_of(clusters={}))
    for found, failure in ((lost, Failure.NO_ROUTE), (empty, Failure.NO_HEALTHY_UPSTREAM), (unknown, Failure.NO_CLUSTER)):
        assert found.answer is not None
        wanted = failure.value
        assert (found.answer.status, found.answer.flag, found.answer.body.encode()) == (wanted.status, wanted.flag, wanted.body)
    assert lost.answer is not None
    assert lost.answer.reason.startswith("no rule of rules matches")


def test_hosts_that_nobody_has_are_404_with_those_that_are_near() -> None:
    shared = {"shared": ListenerSpec(name="shared", port=0, binds=(("127.0.0.1", 15080),))}
    for listeners in ({}, {KEY: kit.listener()}, shared):
        found = ask(specs_of(listeners=listeners), Head(authority=b"wab.default"), host="wab.default")
        assert found.answer is not None
        assert (found.answer.status, found.answer.flag) == (404, "NR")
        assert found.listener.is_there == ("shared" in listeners)
        assert found.near == (KEY,)
        assert found.virtual_host is None


def test_a_host_without_rules_for_the_caller_says_so() -> None:
    host = virtual_host(name="ext.test", default=None, namespace="", domains=("ext.test",))
    found = ask(specs_of(virtual_hosts={"ext.test:80": host}), Head(authority=b"ext.test"), host="ext.test", port=0)
    assert found.answer is not None
    assert found.answer.reason == "ext.test is no Service, and there are no rules for it that this caller sees"


def test_an_unknown_host_on_a_services_own_listener_is_the_services() -> None:
    found = ask(specs_of(), Head(authority=b"elsewhere"))
    assert found.virtual_host is not None
    assert found.virtual_host.chosen_by == "listener"
    assert found.notes == (f"nobody has the Host that was sent, so that the listener's own host {HOST} counts",)


def test_a_short_name_means_the_callers_namespace() -> None:
    found = ask(specs_of(), Head(authority=b"web"), source="default", host="web", port=0)
    assert found.virtual_host is not None
    assert found.virtual_host.chosen_by == "short name"
    with pytest.raises(QuestionError, match=r"a short name needs --from"):
        ask(specs_of(), to="web:80")


@pytest.mark.parametrize(
    ("cluster", "reason"),
    [
        ("outbound|80||hidden.test@-", "the ServiceEntry of hidden.test is not exported"),
        ("outbound|80|v3|a.test", "no DestinationRule that this caller sees has a subset v3 of a.test; there are v1"),
        ("outbound|81||a.test", "a.test has no port 81; it has 80, 82"),
        ("outbound|82|v1|a.test", "subset v1 of a.test; it has none"),
        ("outbound|80||b.test", "no Service or ServiceEntry is named b.test"),
        ("", "no Service or ServiceEntry is named so"),
    ],
)
def test_unknown_destinations_say_what_there_is(cluster: str, reason: str) -> None:
    known = ("outbound|80|v1|a.test", "outbound|80||a.test", "outbound|82||a.test@ns")
    specs = specs_of(rule("r", action=forward(cluster)), clusters={name: kit.cluster(name) for name in known})
    found = ask(specs)
    assert found.answer is not None
    assert found.answer.flag == "NC"
    assert reason in found.answer.reason


def test_an_empty_subset_says_whose_labels_are_missing() -> None:
    found = ask(specs_of(clusters={"web": kit.cluster(subset="v9")}, endpoints={}))
    assert found.answer is not None
    assert found.answer.reason == f"no ready pod of {HOST} carries the labels of subset v9"


def test_a_share_that_goes_nowhere_is_a_note() -> None:
    refs = ClusterRef(cluster="web", weight=9), ClusterRef(cluster="no", weight=1), ClusterRef(cluster="never", weight=0)
    found = ask(specs_of(rule("r", action=forward(*refs))))
    assert found.answer is None
    assert found.notes == ("10% of the requests are answered 503 (NC): no Service or ServiceEntry is named no; "
                           "correct the destination's host, or create it",)  # fmt: skip


# Who calls.


def test_callers_are_found_by_pod_workload_namespace_and_address() -> None:
    specs = specs_of()

    def at(namespace: str, name: str) -> tuple[str, ...]:
        return ("10.8.8.8", "10.0.1.2") if (namespace, name) == ("default", "sleep-2") else ()

    assert find_caller(specs, "", at) == (find_caller(specs, "", at).facts, None, "")
    assert find_caller(specs, "default/sleep-2", at).identity == CANARY
    assert find_caller(specs, "10.0.1.3", at).identity == OTHER
    assert find_caller(specs, "10.0.1.9", at).identity is None
    by_workload = find_caller(specs, "default/sleep", at)
    assert (by_workload.identity, by_workload.facts.address) == (SLEEP, "10.0.1.1")
    assert by_workload.note == "the pods of default/sleep differ; the answer is for the one at 10.0.1.1"
    assert find_caller(specs, "other", at).note == ""
    assert "is it spelled right?" in find_caller(specs, "nowhere", at).note


@pytest.mark.parametrize(
    ("source", "reason"),
    [("default/slep", "workloads there are sleep"), ("nowhere/x", "no pod is known in namespace nowhere")],
)
def test_a_caller_that_is_not_known_is_refused(source: str, reason: str) -> None:
    with pytest.raises(QuestionError, match=reason):
        find_caller(specs_of(), source, no_pods)


# Where it comes in.


def test_the_listener_follows_from_the_url() -> None:
    specs = specs_of()
    found = find_listener(specs, to="", host="web.default", port=80, namespace="")
    assert (found.facts.name, found.facts.is_there) == (KEY, True)
    assert find_listener(specs, to=KEY, host="any", port=1, namespace="").listener == kit.listener()
    assert not find_listener(specs_of(listeners={}), to="default/web:80", host="", port=0, namespace="").facts.is_there


def test_a_url_without_port_means_the_only_one_there_is() -> None:
    key = f"{HOST}:9080"
    specs = specs_of(virtual_hosts={key: virtual_host(port=9080, domains=("web.default",))}, listeners={})
    found = find_listener(specs, to="", host="web.default", port=0, namespace="")
    assert (found.facts.port, found.facts.is_there) == (9080, False)
    assert "has 9080 alone" in found.note
    assert find_listener(specs, to="web.default", host="", port=0, namespace="").note == ""
    with pytest.raises(QuestionError, match="has no port 81: its ports are 9080"):
        find_listener(specs, to="", host="web.default", port=81, namespace="")
    two = specs_of(virtual_hosts={f"{HOST}:{port}": virtual_host(port=port, domains=("web.default",)) for port in (1, 2)})
    with pytest.raises(QuestionError, match="has no port 80, which a URL without a port means: its ports are 1, 2"):
        find_listener(two, to="", host="web.default", port=0, namespace="")


@pytest.mark.parametrize(
    ("to", "reason"),
    [("wab.default:80", "did you mean web.default"), ("zzz:80", "acmgctl config routes"), ("web:x", "is no port")],
)
def test_a_service_that_is_not_there_is_refused(to: str, reason: str) -> None:
    with pytest.raises(QuestionError, match=reason):
        find_listener(specs_of(), to=to, host="", port=0, namespace="default")


def test_an_address_that_is_no_services_is_refused() -> None:
    with pytest.raises(QuestionError, match=r"no Service is named 10\.0\.0\.99"):
        find_listener(specs_of(), to="", host="10.0.0.99", port=0, namespace="default")


def test_services_are_split_as_people_write_them() -> None:
    assert split_service("Web.default.:80") == ("web.default", 80)
    assert split_service("default/web") == ("web.default", 0)
    assert split_service("[::1]") == ("[::1]", 0)
    assert split_service("[::1]:80") == ("[::1]", 80)


def test_near_hosts_begin_with_the_same_name() -> None:
    hosts = {
        "1": virtual_host(name="web.a.svc", port=81, domains=("web.a",)),
        "2": virtual_host(name="web.b.svc", port=80, domains=("web.b",)),
        "3": virtual_host(name="wep.a.svc", port=80, domains=("wep.a",)),
        "4": virtual_host(name="details.a.svc", port=80, domains=("details.a",)),
    }
    assert near_hosts(hosts, "web.a", 80) == ("web.a.svc:81", "web.b.svc:80", "wep.a.svc:80")
