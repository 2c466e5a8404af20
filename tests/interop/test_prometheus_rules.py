# SPDX-License-Identifier: Apache-2.0
"""The alerts of deploy/, checked by Prometheus' own tools: they are sound, fire when they should, and are quiet otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.interop.prometheus import promtool

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
RULE = yaml.safe_load((ROOT / "deploy" / "components" / "monitoring" / "prometheus-rule.yaml").read_text(encoding="utf-8"))
ALERTS = {rule["alert"]: rule for group in RULE["spec"]["groups"] for rule in group["rules"]}

POD = 'namespace="acmg-system",pod="gw-1"'
TOTAL = 'istio_requests_total{reporter="waypoint",destination_service="web",response_code="%s"}'

QUIET = {
    f"acmg_ready{{{POD}}}": "1+0x60",
    'acmg_controller_gateways{ready="true"}': "2+0x60",
    "acmg_controller_fails_open": "0+0x60",
    'acmg_controller_leader{pod="c-1"}': "1+0x60",
    'acmg_controller_leader{pod="c-2"}': "0+0x60",
    'acmg_controller_write_errors_total{reason="status",status="403"}': "1+0x60",
    'acmg_controller_services{phase="pending"}': "0+0x60",
    f'acmg_watch_stale_seconds{{{POD},kind="Pod"}}': "30+0x60",
    f"acmg_config_problems{{{POD}}}": "0+0x60",
    f'acmg_worker_config_version{{{POD},worker="0"}}': "7+0x60",
    f"acmg_config_version{{{POD}}}": "7+0x60",
    f'acmg_listeners{{{POD},state="failed"}}': "0+0x60",
    f'acmg_worker_restarts_total{{{POD},worker="0"}}': "1+0x60",
    f'acmg_overload_level{{{POD},worker="0"}}': "0+0x60",
    f'acmg_endpoints_ejected{{{POD},worker="0"}}': "0+0x60",
    TOTAL % 200: "0+600x60",
    TOTAL % 503: "0+6x60",
}
"""One sample a minute of everything that is looked at, when all is well."""

IN_POD = {"namespace": "acmg-system", "pod": "gw-1"}
TROUBLE: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "AcmgGatewayNotReady": ({f"acmg_ready{{{POD}}}": "0+0x60"}, IN_POD),
    "AcmgNoGateway": ({'acmg_controller_gateways{ready="true"}': "0+0x60"}, {}),
    "AcmgFailsOpen": ({"acmg_controller_fails_open": "1+0x60"}, {}),
    "AcmgControllerWithoutLeader": ({'acmg_controller_leader{pod="c-1"}': "0+0x60"}, {}),
    "AcmgControllerCannotWrite": (
        {'acmg_controller_write_errors_total{reason="status",status="403"}': "0+2x60"}, {"reason": "status", "status": "403"},
    ),
    "AcmgCaptureStuck": ({'acmg_controller_services{phase="pending"}': "1+0x60"}, {"phase": "pending"}),
    "AcmgWatchStale": ({f'acmg_watch_stale_seconds{{{POD},kind="Pod"}}': "30+60x60"}, IN_POD),
    "AcmgConfigRefused": ({f"acmg_config_problems{{{POD}}}": "1+0x60"}, IN_POD),
    "AcmgWorkerBehind": ({f'acmg_worker_config_version{{{POD},worker="0"}}': "6+0x60"}, {**IN_POD, "worker": "0"}),
    "AcmgListenerFailed": ({f'acmg_listeners{{{POD},state="failed"}}': "1+0x60"}, IN_POD),
    "AcmgWorkerRestarts": ({f'acmg_worker_restarts_total{{{POD},worker="0"}}': "0+1x60"}, IN_POD),
    "AcmgOverloaded": ({f'acmg_overload_level{{{POD},worker="0"}}': "1+0x60"}, IN_POD),
    "AcmgEndpointsEjected": ({f'acmg_endpoints_ejected{{{POD},worker="0"}}': "1+0x60"}, IN_POD),
    "AcmgErrorRatio": ({TOTAL % 503: "0+60x60"}, {"destination_service": "web"}),
}  # fmt: skip
"""What differs then, and the labels of the alert."""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(RULE["spec"]), encoding="utf-8")
    return path


def check(rules: Path, series: Mapping[str, str], expected: Mapping[str, dict[str, str] | None]) -> None:
    """Let promtool look after 40 minutes: None means that nothing fires.

    Texts are left out: promtool wants them equal, and what they say is not the question here.
    """
    keys = ("alert", "expr", "for", "labels")
    groups = [
        {**group, "rules": [{key: rule[key] for key in keys} for rule in group["rules"]]} for group in RULE["spec"]["groups"]
    ]
    rules.write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
    tests: list[dict[str, Any]] = []
    for name, labels in expected.items():
        fires = [] if labels is None else [{"exp_labels": {"severity": ALERTS[name]["labels"]["severity"], **labels}}]
        tests.append({"eval_time": "40m", "alertname": name, "exp_alerts": fires})
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    group = {"interval": "1m", "input_series": inputs, "alert_rule_test": tests}
    path = rules.with_name("test.yaml")
    path.write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": [group]}), encoding="utf-8")
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_sound(rules: Path) -> None:
    done = promtool("check", "rules", str(rules))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_every_alert_is_tried() -> None:
    assert TROUBLE.keys() == ALERTS.keys()


def test_nothing_fires_when_all_is_well(rules: Path) -> None:
    check(rules, QUIET, dict.fromkeys(ALERTS))


@pytest.mark.parametrize("name", sorted(TROUBLE))
def test_an_alert_fires_in_its_trouble_alone(rules: Path, name: str) -> None:
    changed, labels = TROUBLE[name]
    check(rules, {**QUIET, **changed}, {one: labels if one == name else None for one in ALERTS})


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_says_what_is_and_what_to_do(name: str) -> None:
    assert {"summary", "description"} <= {key for key, text in ALERTS[name]["annotations"].items() if text}
