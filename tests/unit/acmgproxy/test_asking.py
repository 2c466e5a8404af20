# SPDX-License-Identifier: Apache-2.0
"""Facts about questions: how URLs and headers are read, and what workers add to an answer."""

from __future__ import annotations

import pytest

from acmgproxy.asking import Question, answer, with_states
from acmgproxy.endpoint_state import EndpointState
from routing.explain import Explanation, QuestionError
from routing.specs import DirectResponseSpec, Specs
from tests.unit.routing import table_kit as kit
from tests.unit.routing.table_kit import HOST, KEY, endpoint, rule, rule_set, virtual_host


def specs(*rules: object) -> Specs:
    return Specs(
        listeners={KEY: kit.listener()},
        virtual_hosts={KEY: virtual_host("rules", domains=(HOST, "web.default", "[::1]"))},
        rule_sets={"rules": rule_set(*rules)},  # type: ignore[arg-type]
        clusters={"web": kit.cluster()},
        endpoints={"web": (endpoint(), endpoint("10.0.0.2"))},
    )


def ask(url: str, *headers: str, method: str = "GET") -> Explanation:
    return answer(specs(), Question(url=url, headers=headers, method=method), lambda _namespace, _name: ())


@pytest.mark.parametrize(
    ("url", "host", "path", "query"),
    [
        ("http://web.default/x?y=1#z", "web.default", "/x", "y=1"),
        ("web.default", "web.default", "/", ""),
        ("http://WEB.default.:80", "WEB.default.:80", "/", ""),
        ("http://[::1]/a", "[::1]", "/a", ""),
        ("http://me:secret@web.default/a", "web.default", "/a", ""),
    ],
)
def test_a_url_is_what_a_client_makes_of_it(url: str, host: str, path: str, query: str) -> None:
    request = ask(url).request
    assert (request.host, request.path, request.query) == (host, path, query)


def test_a_host_among_the_headers_is_sent_instead() -> None:
    assert ask("http://web.default/", "host: other.test").request.host == "other.test"


@pytest.mark.parametrize(
    ("url", "headers", "method", "reason"),
    [
        ("https://web.default", (), "GET", "Ask for http://"),
        ("http:///x", (), "GET", "names no host"),
        ("http://web:99999/", (), "GET", "is no URL"),
        ("http://web.default/", ("nonsense",), "GET", "write it as 'name: value'"),
        ("http://web.default/", ("bad name: x",), "GET", "answer such a request with 400"),
        ("http://web.default/", (), "G T", "answer such a request with 400"),
    ],
)
def test_what_no_gateway_would_route_is_refused(url: str, headers: tuple[str, ...], method: str, reason: str) -> None:
    with pytest.raises(QuestionError, match=reason):
        ask(url, *headers, method=method)


def test_what_workers_know_of_endpoints_is_added_up() -> None:
    states = {
        0: [EndpointState("web", "10.0.0.1", 8080, active=2), EndpointState("other", "10.0.0.2", 8080, active=9)],
        1: [EndpointState("web", "10.0.0.1", 8080, active=3, ejected=True)],
    }
    found = with_states(ask("web.default"), states)
    assert found.forward is not None
    (destination,) = found.forward.destinations
    assert [(one.active, one.ejected_by) for one in destination.endpoints] == [(5, 1), (None, None)]


def test_an_answer_without_endpoints_stays_as_it_is() -> None:
    question = Question(url="web.default")
    found = answer(specs(rule("d", action=DirectResponseSpec(status=200))), question, lambda _namespace, _name: ())
    assert with_states(found, {}) is found
