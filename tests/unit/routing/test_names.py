# SPDX-License-Identifier: Apache-2.0
"""Tests of routing.names."""

from __future__ import annotations

import pytest

from routing import names


@pytest.mark.parametrize("host", ["b", "b.default", "my_host.example.com", "10.0.0.1", "fd00::1", "B.Default.", "a-b.c"])
def test_hosts_that_are_names_or_addresses(host: str) -> None:
    assert names.host_problem(host, wildcard=False) is None


@pytest.mark.parametrize("host", ["*", "*.example.com", "*.b"])
def test_wildcards_only_where_allowed(host: str) -> None:
    assert names.host_problem(host, wildcard=True) is None
    assert names.host_problem(host, wildcard=False) == "must not be a wildcard"


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("", "must not be empty"),
        (".", "must not be empty"),
        ("*b", "a wildcard must be"),
        ("a.*.b", "neither a DNS name"),
        ("a b", "neither a DNS name"),
        ("a/b", "neither a DNS name"),
        ("-a", "neither a DNS name"),
        ("a..b", "neither a DNS name"),
        ("a" * 64, "neither a DNS name"),
        ("a." * 130 + "a", "longer than 255"),
    ],
)
def test_hosts_that_are_nothing(host: str, reason: str) -> None:
    assert reason in (names.host_problem(host, wildcard=True) or "")


def test_service_names_go_both_ways() -> None:
    assert names.service_fqdn(("other", "b"), "cluster.local") == "b.other.svc.cluster.local"
    assert names.service_key("b.other.svc.cluster.local", "cluster.local") == ("other", "b")
    assert names.service_key("b.other.svc", "cluster.local") is None
    assert names.service_key("x.b.other.svc.cluster.local", "cluster.local") is None


def test_domains_are_every_name_and_address() -> None:
    assert names.service_domains(("n", "s"), "mesh.test", ("10.0.0.1", "fd00::1")) == (
        "s.n",
        "s.n.svc",
        "s.n.svc.mesh.test",
        "10.0.0.1",
        "[fd00::1]",
    )


def test_keys_have_the_documented_form() -> None:
    assert names.cluster_name(80, "v1", "b.n.svc.x") == "outbound|80|v1|b.n.svc.x"
    assert names.cluster_name(80, "", "b.n.svc.x", "third") == "outbound|80||b.n.svc.x@third"
    assert names.virtual_host_key("b.n.svc.x", 80) == "b.n.svc.x:80"
    assert names.rule_set_key(("n", "vs"), 80) == "virtualservice/n/vs@80"


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "b", False),
        ("*.b", "a.b", True),
        ("*.b", "x.a.b", True),
        ("*.b", "b", False),
        ("*.b", ".b", False),
        ("*.b", "ab", False),
        ("*.b", "*.b", True),
        ("*.b", "*.a.b", True),
        ("*.a.b", "*.b", False),
        ("*", "*.b", True),
        ("*", "b", True),
    ],
)
def test_what_a_pattern_covers(pattern: str, host: str, expected: bool) -> None:
    assert names.covers(pattern, host) is expected


def test_patterns_overlap_either_way() -> None:
    assert names.patterns_overlap("*.b", "a.b")
    assert names.patterns_overlap("a.b", "*.b")
    assert not names.patterns_overlap("a.b", "c.b")


def test_covering_patterns_come_most_specific_first() -> None:
    assert list(names.covering_patterns("a.b.c")) == ["a.b.c", "*.b.c", "*.c", "*"]
    assert list(names.covering_patterns("*.b.c")) == ["*.b.c", "*.c", "*"]
    assert list(names.covering_patterns("*")) == ["*"]
    ranks = [names.pattern_rank(pattern) for pattern in names.covering_patterns("a.b.c")]
    assert ranks == sorted(ranks)
    assert ranks[0] == 0
    assert len(set(ranks)) == 4


def test_loopback_addresses() -> None:
    assert names.is_loopback("127.0.10.1")
    assert names.is_loopback("::1")
    assert not names.is_loopback("10.0.0.1")


@pytest.mark.parametrize(
    ("name", "app_protocol", "protocol"),
    [
        ("http", "", "http"),
        ("HTTP-web", "", "http"),
        ("grpc-web", "", "grpc-web"),
        ("grpc-web-x", "", "grpc-web"),
        ("grpc-x", "", "grpc"),
        ("http", "kubernetes.io/H2C", "kubernetes.io/h2c"),
        ("web", "", ""),
        ("", "", ""),
        ("httpx", "", ""),
    ],
)
def test_the_protocol_a_port_declares(name: str, app_protocol: str, protocol: str) -> None:
    assert names.port_protocol(name, app_protocol) == protocol


@pytest.mark.parametrize(
    ("pattern", "locality", "is_covered"),
    [
        ("*", "r/z", True),
        ("r", "r", True),
        ("r", "r/z/s", True),
        ("r/*", "r/z", True),
        ("r/*", "r", True),
        ("r/z", "r", False),
        ("r", "rz", False),
        ("r/z/*", "r/y/s", False),
    ],
)
def test_localities_that_cover_others(pattern: str, locality: str, is_covered: bool) -> None:
    assert names.covers_locality(pattern, locality) is is_covered


def test_the_name_of_a_merged_rule_set() -> None:
    assert names.merged_rule_set_key([("n", "a"), ("m", "b")], 80) == "virtualservice/n/a+m/b@80"
