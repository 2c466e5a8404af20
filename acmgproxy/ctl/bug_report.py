# SPDX-License-Identifier: Apache-2.0
"""`acmgctl bug-report`: everything that somebody needs who is to find out what is wrong, in one archive and without secrets.

Each thing is asked for on its own, and what cannot be had is told in `report.txt` beside the rest: a report is made just when
things do not work. What goes in passes `redaction`.
"""

from __future__ import annotations

import asyncio
import io
import os
import platform
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import orjson
import yaml

from acmgproxy.ctl.cluster import FAILED, NAMESPACE, NOT_DONE, OURS, CtlError, Where, connected, explain, list_all, list_kind, run
from acmgproxy.ctl.inventory import installed
from acmgproxy.ctl.redaction import redact, redact_log, redact_text
from acmgproxy.ctl.terminal import Progress, say
from acmgproxy.ctl.versions import count_versions
from acmgproxy.release import release
from discovery.kube import (
    DESTINATION_RULES,
    ENDPOINT_SLICES,
    EVENTS,
    LEASES,
    NAMESPACES,
    PODS,
    SERVICE_ENTRIES,
    SERVICES,
    VIRTUAL_SERVICES,
    ApiError,
)
from routing.capture import CAPTURE_LABEL, CAPTURED_KEY, MANAGED_BY, MANAGED_BY_LABEL, SHADOW_LABEL, STATUS_ANNOTATION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from acmgproxy.ctl.cluster import Object
    from discovery.kube import KubeClient

__all__ = ["BugReportOptions", "run_bug_report"]

_HEALTH_PORT = 15021
_POD_PAGES = ("ready", "listeners", "metrics")
_GATEWAY_PAGES = ("ready", "listeners", "metrics", "config")
_LOG_LINES = 5_000
"""Lines of each log: some hours of a busy gateway's events."""

_ASK_S = 10.0
_MOST_BYTES = 64 * 1024 * 1024
"""Longest page that is taken in: /metrics of a large mesh can be longer, and its end says nothing more."""

_REPORTERS = frozenset({"acmg.io/controller", "acmg-controller", "acmgproxy"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BugReportOptions:
    """What the command line says. With a `gateway` (URL of its admin server) no cluster is asked."""

    where: Where
    output: Path | None = None
    gateway: str = ""


@dataclass(slots=True)
class _Report:
    """The files so far, and what could not be had."""

    files: dict[str, bytes] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def add_text(self, name: str, text: str) -> None:
        self.files[name] = text.encode()

    def add_json(self, name: str, value: Any) -> None:
        self.files[name] = orjson.dumps(redact(value), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    def add_objects(self, name: str, objects: list[Object]) -> None:
        if objects:
            self.add_text(name, yaml.dump_all(map(redact, objects), Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True))

    def add_page(self, name: str, data: bytes) -> None:
        """Add what a process said: JSON, or text, of which metrics have nothing that could be secret."""
        try:
            self.add_json(f"{name}.json", orjson.loads(data))
        except orjson.JSONDecodeError:
            self.add_text(f"{name}.txt", data[:_MOST_BYTES].decode(errors="replace"))

    async def attempt(self, what: str, step: Callable[[], Awaitable[None]]) -> None:
        """Do a step; note it if it fails."""
        try:
            await step()
        except ApiError as error:
            self.missing.append(f"{what}: {explain(error)}")
        except (aiohttp.ClientError, OSError, TimeoutError, CtlError, msgspec.MsgspecError) as error:
            self.missing.append(f"{what}: {str(error) or type(error).__name__}")


def run_bug_report(options: BugReportOptions) -> int:
    """Write the archive; return the exit code, 0 also if some of it is missing."""
    return run(lambda: _make(options))


async def _make(options: BugReportOptions) -> int:
    report = _Report()
    path = options.output or Path(time.strftime("acmg-bug-report-%Y%m%dT%H%M%SZ.tar.gz", time.gmtime()))
    with Progress() as progress:
        if options.gateway:
            progress.say(f"asking the gateway {options.gateway}")
            await _ask_gateway(report, options.gateway.rstrip("/"))
        else:
            async with connected(options.where) as client:
                await _ask_cluster(report, client, progress)
    if not report.files:
        raise CtlError(f"nothing could be had: {'; '.join(report.missing)}", code=NOT_DONE)
    report.add_text("report.txt", _summary(report, options))
    try:
        _write(path, report.files)
    except OSError as error:
        raise CtlError(f"cannot write {path}: {error.strerror}; choose another place with --output", code=FAILED) from error
    say(f"{path}: {len(report.files)} files. What names tell to be secret is left out; look through it before you pass it on")
    for one in report.missing:
        say(f"! not in it: {one}", style="yellow")
    return 0


def _summary(report: _Report, options: BugReportOptions) -> str:
    lines = [
        f"acmgctl {release()}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        f"of {f'the gateway {redact_text(options.gateway)}' if options.gateway else 'a cluster'}",
        "",
        *sorted(report.files),
        "",
        *(f"not in it: {one}" for one in report.missing),
    ]
    return "".join(f"{line}\n" for line in lines)


def _write(path: Path, files: dict[str, bytes]) -> None:
    """Write the archive for its owner alone; under its name there is never half of one."""
    root = path.name.partition(".")[0] or "bug-report"
    draft = path.with_name(f".{path.name}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(f"{root}/{name}")
            info.size, info.mtime, info.mode = len(data), int(time.time()), 0o600
            archive.addfile(info, io.BytesIO(data))
    draft.replace(path)


# --- a gateway alone ---------------------------------------------------------------------------------------------------------


async def _ask_gateway(report: _Report, url: str) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ASK_S)) as session:

        async def page(name: str) -> None:
            async with session.get(f"{url}/{name}") as answer:
                if answer.status not in {200, 503}:
                    raise CtlError(f"answers {answer.status} {answer.reason}")
                report.add_page(f"gateway/{name}", await answer.read())

        for name in _GATEWAY_PAGES:
            await report.attempt(f"/{name} of the gateway {redact_text(url)}", lambda name=name: page(name))  # type: ignore[misc]


# --- a cluster ---------------------------------------------------------------------------------------------------------------


async def _ask_cluster(report: _Report, client: KubeClient, progress: Progress) -> None:
    pods: list[Object] = []

    async def find_pods() -> None:
        pods.extend(await list_all(client, PODS.path(NAMESPACE), labelSelector=OURS))
        report.add_json("version.json", {"client": release(), "cluster": count_versions(pods)})

    steps: tuple[tuple[str, Callable[[], Awaitable[None]]], ...] = (
        ("pods", find_pods),
        ("status", lambda: _add_status(report, client)),
        ("findings", lambda: _add_findings(report, client)),
        ("what is installed", lambda: _add_installed(report, client)),
        ("Services", lambda: _add_services(report, client)),
        ("Events", lambda: _add_events(report, client)),
    )
    for what, step in steps:
        progress.say(f"reading {what}")
        await report.attempt(what, step)
    for kind in (VIRTUAL_SERVICES, DESTINATION_RULES, SERVICE_ENTRIES):
        await report.attempt(kind.plural, lambda kind=kind: _add_kind(report, client, kind))  # type: ignore[misc]
    for pod in pods:
        progress.say(f"asking {pod['metadata']['name']}")
        await _add_pod(report, client, pod)


async def _add_status(report: _Report, client: KubeClient) -> None:
    from acmgproxy.ctl.overview import look_around  # noqa: PLC0415 - takes its time to load

    report.add_json("status.json", msgspec.to_builtins(await look_around(client, "")))


async def _add_findings(report: _Report, client: KubeClient) -> None:
    from acmgproxy.ctl.analyze import analyze_cluster  # noqa: PLC0415 - as above

    async with asyncio.timeout(6 * _ASK_S):
        report.add_json("findings.json", msgspec.to_builtins(await analyze_cluster(client)))


async def _add_installed(report: _Report, client: KubeClient) -> None:
    objects = [one for one in await installed(client) if one["kind"] != "ConfigMap"]
    report.add_objects("objects/installed.yaml", objects)
    leases = await list_all(client, LEASES.path(NAMESPACE))
    report.add_objects("objects/leases.yaml", [one for one in leases if one["metadata"]["name"].startswith("acmg-")])


async def _add_services(report: _Report, client: KubeClient) -> None:
    """Add Services that capture is about, their shadows, and the slices of both."""
    services = [one for one in await list_all(client, SERVICES.path()) if _concerns_us(one)]
    report.add_objects("objects/services.yaml", services)
    names = {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in services}
    slices = await list_all(client, ENDPOINT_SLICES.path())
    report.add_objects("objects/endpointslices.yaml", [one for one in slices if _slice_concerns(one, names)])
    spaces = await list_all(client, NAMESPACES.path())
    report.add_objects(
        "objects/namespaces.yaml", [one for one in spaces if CAPTURE_LABEL in (one["metadata"].get("labels") or {})]
    )


def _concerns_us(service: Object) -> bool:
    metadata = service["metadata"]
    marks = {*(metadata.get("labels") or {}), *(metadata.get("annotations") or {}), *(service["spec"].get("selector") or {})}
    return not marks.isdisjoint({CAPTURE_LABEL, CAPTURED_KEY, SHADOW_LABEL, STATUS_ANNOTATION})


def _slice_concerns(one: Object, services: set[tuple[str, str]]) -> bool:
    labels = one["metadata"].get("labels") or {}
    owner = one["metadata"]["namespace"], labels.get("kubernetes.io/service-name", "")
    return labels.get(MANAGED_BY_LABEL) == MANAGED_BY or owner in services


async def _add_events(report: _Report, client: KubeClient) -> None:
    events = await list_all(client, EVENTS.path())
    ours = [
        one
        for one in events
        if one["metadata"].get("namespace") == NAMESPACE or str(one.get("reportingController", "")) in _REPORTERS
    ]
    report.add_objects("objects/events.yaml", ours)


async def _add_kind(report: _Report, client: KubeClient, kind: Any) -> None:
    report.add_objects(f"objects/{kind.plural}.yaml", await list_kind(client, kind))


async def _add_pod(report: _Report, client: KubeClient, pod: Object) -> None:
    name = pod["metadata"]["name"]
    report.add_objects(f"pods/{name}/pod.yaml", [pod])

    async def log(*, previous: bool) -> None:
        query = {"tailLines": _LOG_LINES, "previous": previous, "timestamps": False}
        data = await client.read("GET", PODS.path(NAMESPACE, name, "log"), query=query, timeout_s=_ASK_S)
        report.add_text(f"pods/{name}/{'previous' if previous else 'log'}.txt", redact_log(data.decode(errors="replace")))

    async def page(path: str) -> None:
        url = f"{PODS.path(NAMESPACE, f'{name}:{_HEALTH_PORT}', 'proxy')}/{path}"
        report.add_page(f"pods/{name}/{path}", await client.read("GET", url, timeout_s=_ASK_S))

    await report.attempt(f"log of {name}", lambda: log(previous=False))
    if any(one.get("restartCount") for one in (pod.get("status") or {}).get("containerStatuses") or ()):
        await report.attempt(f"log of {name} before its restart", lambda: log(previous=True))
    for path in _POD_PAGES:
        await report.attempt(f"/{path} of {name}", lambda path=path: page(path))  # type: ignore[misc]
