# SPDX-License-Identifier: Apache-2.0
"""Facts about the archive: what is in it, and that what cannot be had does not spoil the rest."""

from __future__ import annotations

import tarfile
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from acmgproxy.ctl import bug_report
from acmgproxy.ctl.bug_report import BugReportOptions, run_bug_report
from acmgproxy.ctl.cluster import Where
from discovery.kube import ApiError
from tests.unit.acmgproxy.ctl.stub import StubClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

PLANTED = "hunter2"
PODS = "/api/v1/namespaces/acmg-system/pods"
LABELS = {"app.kubernetes.io/name": "acmgproxy", "app.kubernetes.io/component": "gateway"}
POD = {
    "metadata": {"name": "gw", "namespace": "acmg-system", "labels": LABELS, "annotations": {"x": PLANTED}},
    "spec": {"containers": [{"name": "gateway", "image": "acmgproxy:1.2", "env": [{"name": "E", "value": PLANTED}]}]},
    "status": {"containerStatuses": [{"restartCount": 1}]},
}


def meta(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": "default", **more}


ANSWERS: dict[str, Any] = {
    PODS: {"items": [POD]},
    f"{PODS}/gw/log": b'{"event":"ready"}\n' + f"[x] GET /{PLANTED}\n".encode(),
    f"{PODS}/gw%3A15021/proxy/ready": b"ready\n",
    f"{PODS}/gw%3A15021/proxy/listeners": b'[{"name":"a"}]',
    f"{PODS}/gw%3A15021/proxy/metrics": ApiError(403, "Forbidden", "no pods/proxy"),
    "/api/v1/services": {
        "items": [
            {"metadata": meta("web", labels={"acmg.io/capture": "enabled"}), "spec": {"selector": {"app": "web"}}},
            {"metadata": meta("foreign"), "spec": {}},
        ]
    },
    "/apis/discovery.k8s.io/v1/endpointslices": {
        "items": [
            {"metadata": meta("web-1", labels={"kubernetes.io/service-name": "web"})},
            {"metadata": meta("foreign-1", labels={"kubernetes.io/service-name": "foreign"})},
        ]
    },
    "/api/v1/namespaces": {"items": [{"metadata": {"name": "default", "labels": {"acmg.io/capture": "enabled"}}}]},
    "/apis/events.k8s.io/v1/events": {
        "items": [
            {"metadata": meta("e1"), "reportingController": "acmg.io/controller", "note": "captured"},
            {"metadata": meta("e2"), "reportingController": "somebody", "note": PLANTED},
        ]
    },
    "/apis/networking.istio.io/v1/virtualservices": {
        "items": [
            {
                "metadata": meta("web", annotations={"kubectl.kubernetes.io/last-applied-configuration": PLANTED}),
                "spec": {"http": [{"headers": {"request": {"set": {"authorization": PLANTED, "x-version": "kept"}}}}]},
            }
        ]
    },
}


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[dict[str, Any]], tuple[int, dict[str, str]]]:
    """Make a report of what is answered; return exit code and files."""

    def report(answers: dict[str, Any]) -> tuple[int, dict[str, str]]:
        stub = StubClient({("GET", path): [answer] for path, answer in answers.items()})

        @asynccontextmanager
        async def connected(_where: Where) -> AsyncIterator[Any]:
            yield stub.client

        async def no_findings(_client: Any) -> list[Any]:
            return []

        monkeypatch.setattr(bug_report, "connected", connected)
        monkeypatch.setattr("acmgproxy.ctl.analyze.analyze_cluster", no_findings)
        path = tmp_path / "report.tar.gz"
        code = run_bug_report(BugReportOptions(where=Where(), output=path))
        return code, files(path) if path.exists() else {}

    return report


def files(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        members = [member for member in archive.getmembers() if member.isfile()]
        return {one.name.partition("/")[2]: (archive.extractfile(one) or path.open("rb")).read().decode() for one in members}


def test_a_report_has_what_is_ours_and_no_secret(make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = make(ANSWERS)
    assert code == 0
    assert {
        "report.txt", "version.json", "status.json", "findings.json", "objects/services.yaml", "objects/endpointslices.yaml",
        "objects/namespaces.yaml", "objects/events.yaml", "objects/virtualservices.yaml", "pods/gw/pod.yaml", "pods/gw/log.txt",
        "pods/gw/previous.txt", "pods/gw/ready.txt", "pods/gw/listeners.json",
    } == set(found)  # fmt: skip
    assert PLANTED not in "".join(found.values())
    assert "foreign" not in found["objects/services.yaml"] + found["objects/endpointslices.yaml"]
    assert "x-version: kept" in found["objects/virtualservices.yaml"]
    assert "authorization: <redacted>" in found["objects/virtualservices.yaml"]
    assert "e2" not in found["objects/events.yaml"]
    assert "/metrics of gw: no pods/proxy" in found["report.txt"]
    out = capsys.readouterr().out
    assert "! not in it: /metrics of gw: no pods/proxy. Ask an administrator" in out
    assert (tmp_path / "report.tar.gz").stat().st_mode & 0o777 == 0o600


def test_what_fails_is_told_and_the_rest_is_there(make: Any) -> None:
    refused = ApiError(500, "InternalError", "etcd is away")
    code, found = make({**ANSWERS, "/api/v1/services": refused, "/apis/events.k8s.io/v1/events": refused})
    assert code == 0
    assert "objects/services.yaml" not in found
    assert found["report.txt"].count("etcd is away") == 3, "status needs Services, too"
    assert "objects/virtualservices.yaml" in found


def test_a_place_that_cannot_be_written_is_told(make: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(bug_report, "_write", refuse)
    assert make(ANSWERS)[0] == 1
    assert "choose another place with --output" in capsys.readouterr().err


def test_nothing_at_all_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.tar.gz"
    assert run_bug_report(BugReportOptions(where=Where(), output=path, gateway="http://127.0.0.1:1")) == 2
    assert "nothing could be had" in capsys.readouterr().err
    assert not path.exists()
