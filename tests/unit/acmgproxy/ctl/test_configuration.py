# SPDX-License-Identifier: Apache-2.0
"""Facts about `acmgctl config`: rows, filters and formats."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from acmgproxy.ctl import cli
from acmgproxy.ctl.configuration import Filter, select
from routing.specs import (
    DirectResponseSpec,
    ListenerSpec,
    MatchSpec,
    NamedMatch,
    RedirectSpec,
    SourceMatch,
    Specs,
    StringMatch,
)
from tests.unit.acmgproxy.ctl.reviews import REVIEWS
from tests.unit.routing import table_kit as kit
from tests.unit.routing.table_kit import KEY, exact, header, path, rule, rule_set, virtual_host

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS: dict[str, Any] = {
    "listeners": cli.listeners, "routes": cli.routes, "clusters": cli.clusters, "endpoints": cli.endpoints
}  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> cli.Source:
    (tmp_path / "reviews.yaml").write_text(REVIEWS, encoding="utf-8")
    return cli.Source(config=str(tmp_path))


def cells(kind: str, specs: Specs, **wanted: Any) -> list[tuple[str, ...]]:
    return [row for _, row in select(kind, specs, Filter(**wanted))]


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("listeners", "reviews.default.svc.cluster.local:9080  9080  127.0.0.9:9080  reviews.default.svc.cluster.local\n"),
        ("routes", 'default/reviews spec.http[1] "cron"   /x* from app=cron  outbound|9080||reviews.default'),
        ("clusters", "LEAST_REQUEST  1          DestinationRule default/reviews\n"),
        ("endpoints", "10.1.0.2:9080  reviews.default.svc.cluster.local  9080  v2      reviews-v2-0  v2       b         no\n"),
    ],
)
def test_people_get_tables_and_programs_data(
    source: cli.Source, capsys: pytest.CaptureFixture[str], kind: str, line: str
) -> None:
    assert COMMANDS[kind](source=source, wanted=cli.Wanted(service="reviews")) == 0
    assert line in capsys.readouterr().out
    assert COMMANDS[kind](source=source, output="json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found
    assert COMMANDS[kind](source=source, output="yaml") == 0
    assert yaml.safe_load(capsys.readouterr().out) == found


def test_nothing_found_says_where_to_look(source: cli.Source, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.clusters(source=source, wanted=cli.Wanted(service="none")) == 0
    assert "`acmgctl config routes` lists every host" in capsys.readouterr().out


def test_a_filter_that_makes_no_sense_is_exit_code_2(source: cli.Source, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.clusters(source=source, wanted=cli.Wanted(service="a:b")) == 2
    assert "write SERVICE:PORT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wanted", "is_taken"),
    [
        ({}, True),
        ({"service": "web"}, True),
        ({"service": "default/web:80"}, True),
        ({"service": "web.default.svc.cluster.local"}, True),
        ({"service": "we"}, False),
        ({"service": "web:81"}, False),
        ({"namespace": "default"}, True),
        ({"namespace": "other"}, False),
        ({"port": 81}, False),
        ({"host": "WEB.default."}, True),
        ({"host": "a.wild.test"}, True),
        ({"host": "wild.test"}, False),
    ],
    ids=str,
)
def test_filters(wanted: dict[str, Any], is_taken: bool) -> None:
    found = Filter(**wanted).takes("web.default.svc.cluster.local", "default", 80, ("web.default", "*.wild.test"))
    assert found is is_taken


def test_every_kind_of_rule_has_its_words() -> None:
    matches = (
        MatchSpec(method=exact("GET"), path=path("regex", "/a.*"), scheme=exact("http"), authority=exact("h")),
        MatchSpec(
            headers=(header("x", StringMatch(kind="present")), header("y", StringMatch(kind="prefix", value="v"), invert=True)),
            query=(NamedMatch(name="q", match=exact("1")),),
            source=SourceMatch(namespace="ns", labels={"a": "b"}),
        ),
        MatchSpec(),
    )
    rules = rule("m", *matches), rule("", action=RedirectSpec(status=308)), rule("d", action=DirectResponseSpec(status=204))
    specs = Specs(
        virtual_hosts={KEY: virtual_host("rules", "missing", default=None)},
        rule_sets={"rules": rule_set(*rules, export_to=("ns",))},
    )
    assert [(row[2], row[3], row[4], row[5]) for row in cells("routes", specs)] == [
        ("m", "GET /a.* (regex) scheme=http host=h | x: any not y: v* ?q=1 from ns,a=b | *", "web", "ns"),
        ("-", "*", "redirect 308", "ns"),
        ("d", "*", "answer 204", "ns"),
    ]


def test_a_listener_without_a_service_and_an_endpoint_without_a_cluster() -> None:
    shared = ListenerSpec(name="shared", port=0, binds=(("127.0.0.1", 15080),))
    specs = Specs(
        listeners={"shared": shared},
        endpoints={"gone": (kit.endpoint(),), "web": (kit.endpoint(),)},
        clusters={"web": kit.cluster()},
    )
    assert cells("listeners", specs) == [("shared", "-", "127.0.0.1:15080", "by Host")]
    assert [row[0] for row in cells("endpoints", specs)] == ["10.0.0.1:8080"]
