# SPDX-License-Identifier: Apache-2.0
"""Tests of routing.diagnostics."""

from __future__ import annotations

import pytest

from routing.diagnostics import CATALOGUE, Reporter, refusals
from routing.resources import ResourceError, decode
from tests.unit.routing.objects import destination_rule, service


def test_reports_each_finding_once_and_the_worst_first() -> None:
    reporter = Reporter()
    about = decode(service("b"))
    reporter.report("ACMG006", about, "spec.type", "it is elsewhere")
    reporter.report("ACMG001", about, "spec.x", "no effect")
    reporter.report("ACMG001", about, "spec.x", "no effect")
    reporter.report("IST0112", about, "", "which port")
    assert [found.code for found in reporter.diagnostics()] == ["IST0112", "ACMG001", "ACMG006"]
    assert repr(reporter) == "<Reporter 3 diagnostics>"


def test_reads_well() -> None:
    reporter = Reporter()
    about = decode(service("b", "other"))
    reporter.report("ACMG006", about, "spec.type", "it is elsewhere")
    reporter.report("ACMG007", about, "", "it is taken")
    assert [str(found) for found in reporter.diagnostics()] == [
        "error ACMG007 Service other/b: it is taken. Give each Service an address of its own.",
        "info ACMG006 Service other/b spec.type: it is elsewhere. Add `mesh` or `acmg-gateway` to gateways if its rules should "
        "apply to traffic between Services.",
    ]


def test_a_refused_object_gives_one_diagnostic_for_each_field() -> None:
    with pytest.raises(ResourceError) as caught:
        decode(destination_rule("dr", "", {"name": ""}))
    found = refusals(caught.value)
    assert [(entry.code, entry.severity, entry.kind, entry.namespace, entry.name, entry.field) for entry in found] == [
        ("IST0106", "error", "DestinationRule", "default", "dr", "spec.host"),
        ("IST0106", "error", "DestinationRule", "default", "dr", "spec.subsets[0].name"),
    ]


def test_every_code_has_a_remedy() -> None:
    assert all(entry.remedy.endswith(".") for entry in CATALOGUE.values())
