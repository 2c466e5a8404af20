# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus, as Debian packages it, for the tests of what is scraped."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, Self

import yaml

from tests.interop.gateway import wait_for
from tests.interop.upstream import free_address

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Prometheus", "pod_targets", "promtool"]

_TIMEOUT_S = 20.0


class Prometheus:
    """One server with a directory of its own.

    Args:
        directory: for its configuration and data.
        scrape_configs: as in its configuration file.
    """

    def __init__(self, directory: Path, scrape_configs: Sequence[dict[str, Any]]) -> None:
        host, port = free_address()
        self.url = f"http://{host}:{port}"
        self._log = directory / "log"
        config = directory / "prometheus.yml"
        intervals = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config.write_text(yaml.safe_dump({"global": intervals, "scrape_configs": list(scrape_configs)}), encoding="utf-8")
        self._argv = [
            "prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={host}:{port}", "--query.lookback-delta=15s",
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._argv, stdout=log, stderr=subprocess.STDOUT)
        wait_for(self._is_ready, "Prometheus is ready")
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(_TIMEOUT_S)

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text(encoding="utf-8")
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=_TIMEOUT_S) as answer:
                return bool(answer.status == 200)
        except urllib.error.URLError:
            return False

    def _get(self, path: str, **parameters: str) -> Any:
        try:
            with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(parameters)}", timeout=_TIMEOUT_S) as answer:
                return json.loads(answer.read())["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each result of an instant query. An expression with an error fails the test."""
        data = self._get("/api/v1/query", query=expression)
        assert data["resultType"] == "vector", data
        return [(one["metric"], float(one["value"][1])) for one in data["result"]]

    def value(self, expression: str) -> float:
        """Return the value of a query with one result, NaN without any."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return found[0][1] if found else float("nan")

    def label_values(self, label: str, series: str) -> list[str]:
        """Return what Grafana's `label_values(series, label)` offers."""
        found: list[str] = self._get(f"/api/v1/label/{label}/values", **{"match[]": series})
        return found

    def targets(self) -> list[dict[str, Any]]:
        """Return what it scrapes, and how that went."""
        found: list[dict[str, Any]] = self._get("/api/v1/targets", state="active")["activeTargets"]
        return found


def pod_targets(pods: Sequence[dict[str, Any]], *, job: str = "acmgproxy", **options: Any) -> dict[str, Any]:
    """Return a job that takes our pods as a PodMonitor does: by label and the name of the port.

    Debian builds Prometheus without its Kubernetes client, so what that would find is given: a target for each port of each pod,
    with the labels that discovery gives it. The rules that work on them are a PodMonitor's.

    Args:
        pods: as the API server has them.
        job: name of the job.
        options: further settings of the job.
    """
    return {
        "job_name": job,
        "static_configs": [target for pod in pods for target in _discovered(pod)],
        "relabel_configs": [
            {"action": "keep", "source_labels": ["__meta_kubernetes_pod_label_app_kubernetes_io_name"], "regex": "acmgproxy"},
            {"action": "keep", "source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": "health"},
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
            {"source_labels": ["__meta_kubernetes_pod_label_app_kubernetes_io_component"], "target_label": "component"},
        ],
        **options,
    }


def _discovered(pod: dict[str, Any]) -> list[dict[str, Any]]:
    meta = pod["metadata"]
    labels = {
        "__meta_kubernetes_namespace": meta["namespace"],
        "__meta_kubernetes_pod_name": meta["name"],
        **{
            f"__meta_kubernetes_pod_label_{name.replace('.', '_').replace('/', '_')}": value
            for name, value in meta["labels"].items()
        },
    }
    return [
        {
            "targets": [f"{pod['status']['podIP']}:{port['containerPort']}"],
            "labels": {**labels, "__meta_kubernetes_pod_container_port_name": port["name"]},
        }
        for container in pod["spec"]["containers"]
        for port in container["ports"]
    ]


def promtool(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run Prometheus' own checks."""
    return subprocess.run(["promtool", *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=60)
