# SPDX-License-Identifier: Apache-2.0
"""Facts about `acmgctl route` on files: what people read, what programs read, and the exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from acmgproxy.ctl import cli
from acmgproxy.ctl.explained import outcome, tree_of
from acmgproxy.ctl.terminal import show
from routing.explain import Explanation, explain, find_caller, find_listener
from routing.specs import (
    ClusterRef,
    CorsSpec,
    DirectResponseSpec,
    EndpointSpec,
    FaultSpec,
    HashSpec,
    HeaderOps,
    IdentitySpec,
    LocalitySpec,
    MirrorSpec,
    OriginSpec,
    RetrySpec,
    Specs,
    StringMatch,
)
from tests.unit.acmgproxy.ctl.reviews import REVIEWS
from tests.unit.routing import table_kit as kit
from tests.unit.routing.table_kit import HOST, KEY, Head, add_ops, forward, rule, rule_set, virtual_host

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "reviews.yaml").write_text(REVIEWS, encoding="utf-8")
    return tmp_path


def route(directory: Path, *words: str, **options: Any) -> int:
    method, url = words if len(words) == 2 else (words[0], "")
    return cli.route(method, url, source=cli.Source(config=str(directory)), **options)


def test_the_way_of_a_request_is_a_tree(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = route(directory, "GET", "http://reviews.default/x", header=("end-user: jason",), from_="default/sleep")
    text = capsys.readouterr().out
    assert code == 0
    for line in (
        "GET /x  Host: reviews.default\n",
        "caller    default/sleep: namespace default; workload sleep-77f-abcde; 10.1.0.7; labels app=sleep\n",
        "listener  reviews.default.svc.cluster.local:9080 at 127.0.0.9:9080\n",
        "rules     VirtualService default/reviews owns the host\n",
        'spec.http[1] "cron": does not match\n',
        "match[0]: sourceLabels[app]: wanted cron, got sleep\n",
        'spec.http[2] "jason": taken\n',
        'match[0]: headers[end-user] exactly "jason"\n',
        "spec.http[4]: would match, but comes too late\n",
        "spec.http[0].match[0]: never here, it is for port 8080\n",
        "timeout   10 s; up to 2 retries on",
        "path      /v2x\n",
        "to        reviews.default.svc.cluster.local:9080 subset v2\n",
        "LEAST_REQUEST, shaped by DestinationRule default/reviews\n",
        "request headers: set x-who: jason\n",
        "10.1.0.2:9080  reviews-v2-0 v2; b\n",
        "note      the URL names no port",
        f"According to {directory}\n",
        "Goes to reviews.default.svc.cluster.local:9080 subset v2: 1 endpoint\n",
    ):
        assert line in text


def test_what_the_gateway_answers_itself_is_exit_code_1(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert route(directory, "http://reviews.default:9080/api/y") == 1
    assert "The gateway itself answers 301: the rule redirects\n" in capsys.readouterr().out
    assert route(directory, "http://review.default:9080/") == 1
    text = capsys.readouterr().out
    assert "near      reviews.default.svc.cluster.local:9080\n" in text
    assert "The gateway itself answers 404 (NR): no Service, ServiceEntry or VirtualService has the host review.default" in text


def test_names_that_are_looked_up_elsewhere_stand_in_an_addresss_place(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert route(directory, "http://ext.test/") == 0
    text = capsys.readouterr().out
    assert "ext.test:80  unknown workload\n" in text
    assert "listener  none: no gateway listens for ext.test:80" in text


def test_programs_get_all_of_it(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert route(directory, "http://reviews.default:9080/x", output="json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["origin"] == str(directory)
    assert found["route"]["origin"] == {
        "kind": "VirtualService", "namespace": "default", "name": "reviews", "field": "spec.http[4]"
    }  # fmt: skip
    assert [one["flag"] for one in found["forward"]["destinations"]] == ["", "NC"]
    assert found["notes"][0].startswith("10% of the requests are answered 503 (NC)")


@pytest.mark.parametrize(
    ("words", "options", "reason"),
    [
        (("https://reviews.default/",), {}, "Ask for http://"),
        (("http://reviews.default/",), {"from_": "default/nobody"}, "workloads there are"),
        (("http://reviews.default/",), {"to": "review.default:9080"}, "did you mean reviews.default"),
        (("GET", "http://reviews.default/"), {"header": ("x",)}, "'name: value'"),
    ],
)
def test_questions_without_an_answer_are_exit_code_2(
    directory: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], options: dict[str, Any], reason: str
) -> None:
    assert route(directory, *words, **options) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert reason in told.err
    assert not told.out


def test_sources_that_cannot_be_read_are_told(directory: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert route(tmp_path / "missing", "http://a/") == 2
    assert "name a file or directory" in capsys.readouterr().err
    assert cli.route("http://a/", source=cli.Source(config=str(directory), kubernetes=True)) == 2
    assert "give one of them" in capsys.readouterr().err


def test_objects_that_are_refused_are_mentioned(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "bad.yaml").write_text(
        "kind: VirtualService\napiVersion: networking.istio.io/v1\nmetadata: {name: x}\nspec: 1\n"
    )
    assert route(directory, "http://reviews.default:9080/") == 0
    assert "1 objects are refused and left out; `acmgctl analyze` says which and why" in capsys.readouterr().out
    assert cli.listeners(source=cli.Source(config=str(directory))) == 0
    assert "1 objects are refused" in capsys.readouterr().err


# Whatever else a tree can say.


def told(capsys: pytest.CaptureFixture[str], specs: Specs, head: Head | None = None, source: str = "") -> tuple[str, Explanation]:
    asker = find_caller(specs, source, lambda _namespace, _name: ())
    arrival = find_listener(specs, to=f"{HOST}:80", host="", port=0, namespace="")
    found = explain(specs, head or Head(), asker, arrival)
    show(tree_of(found))
    return capsys.readouterr().out, found


def world(*rules: Any, **others: Any) -> Specs:
    sections: dict[str, Any] = {
        "virtual_hosts": {KEY: virtual_host("rules")},
        "rule_sets": {"rules": rule_set(*rules)},
        "clusters": {"web": kit.cluster()},
        "endpoints": {"web": (kit.endpoint(),)},
    }
    return Specs(**sections | others)


def test_everything_a_rule_does_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    action = forward(
        ClusterRef(cluster="web", request_headers=add_ops("x", "1")),
        retry=RetrySpec(attempts=3, per_try_timeout_s=0.5, status_codes=(503,), retry_on=("retriable-status-codes",)),
        mirrors=(MirrorSpec(cluster="web", percent=5.0), MirrorSpec(cluster="no")),
    )
    fault = FaultSpec(delay_s=2.0, delay_percent=10.0, abort_status=500, abort_percent=1.0)
    cors = CorsSpec(allow_origins=(StringMatch(kind="exact", value="a"),))
    text, _ = told(capsys, world(rule("r", action=action, fault=fault, cors=cors)))
    for line in (
        "listener  none: no gateway listens for web.default.svc.cluster.local:80; this is what one would do "
        "(`acmgctl capture default/web` makes it so)\n",
        "rules     rules owns the host\n",
        'rule 0 "r": taken\n',
        "fault     10% are delayed by 2 s\n",
        "fault     1% are answered 500\n",
        "cors      no origin, no effect\n",
        "timeout   none; up to 3 retries, 0.5 s each on retriable-status-codes 503\n",
        "request headers: add x: 1\n",
        "copies    5% to web\n",
        "copies    100% to no, which does not exist: no copies\n",
    ):
        assert line in text
    quiet, _ = told(capsys, world(rule("r", action=forward("web", retry=RetrySpec(attempts=0)))))
    assert "timeout   none; no retries\n" in quiet


def test_endpoints_tell_why_they_are_not_used(capsys: pytest.CaptureFixture[str]) -> None:
    split = LocalitySpec(distribute=(("*", (("r/a", 75), ("r/b", 25))),))
    members = [EndpointSpec(address=f"10.0.0.{i}", port=80, locality=f"r/{zone}/") for i, zone in enumerate("abc")]
    members += [EndpointSpec(address=f"10.1.0.{i}", port=80, draining=True) for i in range(30)]
    identities = {"me": IdentitySpec(namespace="default", locality="r/a/", labels={})}
    specs = world(
        clusters={"web": kit.cluster(locality=split)},
        endpoints={"web": tuple(members)},
        identities=identities,
        callers={"10.9.0.1": "me"},
        rule_sets={},
    )
    text, found = told(capsys, specs, source="10.9.0.1")
    assert "caller    10.9.0.1: namespace default; 10.9.0.1; at r/a\n" in text
    assert "10.0.0.0:80  unknown workload; r/a; 75% by locality\n" in text
    assert "10.0.0.2:80  unknown workload; r/c; not used: others are nearer to the caller\n" in text
    assert "10.1.0.0:80  unknown workload; draining; not used: it is about to stop\n" in text
    assert "and 13 more; -o json lists them\n" in text
    assert "route     default: no rules for this caller" in text
    assert outcome(found).endswith(": 2 endpoints")


def test_a_hash_names_the_endpoint_in_the_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    hashed = kit.cluster(balancer="MAGLEV", hash=HashSpec(kind="header", name="x-user"))
    text, found = told(capsys, world(clusters={"web": hashed}, rule_sets={}), Head(headers={b"x-user": b"a"}))
    assert "10.0.0.1:8080  unknown workload; the hash leads here\n" in text
    assert outcome(found) == f"Goes to {HOST}:0, endpoint 10.0.0.1:8080 by its hash"


def test_callers_that_are_not_known_are_told_from_those_that_are_not_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "caller    10.8.0.1 is unknown (conditions" in told(capsys, world(rule_sets={}), source="10.8.0.1")[0]
    assert "caller    unknown; say --from to be somebody (conditions" in told(capsys, world(rule_sets={}))[0]


def test_headers_of_answers_and_what_is_removed_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    ops = HeaderOps(remove=("a", "b"), set=(("c", "1"),))
    text, _ = told(capsys, world(rule("r", response_headers=ops)))
    assert "response headers: remove a, b; set c: 1\n" in text


def test_fixed_answers_show_their_body(capsys: pytest.CaptureFixture[str]) -> None:
    text, _ = told(capsys, world(rule("r", action=DirectResponseSpec(status=418, body=b"tea"))))
    assert "answer    418\n" in text
    assert "tea\n" in text


def test_rules_of_several_objects_name_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    key = "virtualservice/a/x+a/y@80"
    origin = OriginSpec(kind="VirtualService", namespace="a", name="y", field="spec.http[0]")
    sets = {key: rule_set(rule("r", origin=origin), name=key)}
    text, _ = told(capsys, world(rule_sets=sets, virtual_hosts={KEY: virtual_host(key)}))
    assert "rules     VirtualService a/x, VirtualService a/y owns the host\n" in text
    assert 'VirtualService a/y spec.http[0] "r": taken\n' in text


def test_rules_that_do_not_own_the_host_are_passed_by(capsys: pytest.CaptureFixture[str]) -> None:
    sets = {"rules": rule_set(rule("r"), export_to=("other",))}
    text, _ = told(capsys, world(rule_sets=sets))
    assert "passed by rules: it is exported to namespace other only, and the caller is unknown\n" in text
