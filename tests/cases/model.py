# SPDX-License-Identifier: Apache-2.0
"""What a case file may say. README.md of this directory explains every key; a key that is not here is an error.

A case is resources, requests and what is expected of the answers. `expect` holds for every request, or has `each`: one entry per
request, in which case the keys beside it hold for all answers of the case together.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path  # noqa: TC003 - read by msgspec
from typing import Any, Literal

import msgspec
import yaml

__all__ = ["Batch", "Behaviour", "Case", "CaseError", "Expect", "Mistake", "Received", "Setup", "load"]

Text = str | int | float | bool
"""A header value as YAML may have read it."""


class CaseError(Exception):
    """A case file that cannot be read at all."""


class _Keys(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A mapping in which every key must be known."""


class ExtraService(_Keys, frozen=True, kw_only=True):
    """A Service beside a, b and c, with a pod per version."""

    namespace: str
    name: str
    versions: list[str]


class Behaviour(_Keys, frozen=True, kw_only=True):
    """How pods answer. Of a list each request takes the next, and the last repeats."""

    status: int | list[int] = 200
    delay_ms: float | list[float] = 0.0
    headers: dict[str, Text | list[Text]] = {}
    reset: bool | list[bool] = False


class Setup(_Keys, frozen=True, kw_only=True):
    """What is different from the usual world."""

    not_ready: list[str] = []
    terminating: list[str] = []
    refuse_connections: list[str] = []
    extra_services: list[ExtraService] = []
    external_name: dict[str, str] = {}
    headless_statefulset: dict[str, int] = {}
    upstream_response: dict[str, Behaviour] = {}
    localities: dict[str, str] = {}
    tls: list[str] = []
    localhost: list[str] = []


class Batch(_Keys, frozen=True, kw_only=True):
    """A request, sent `repeat` times."""

    method: str = "GET"
    host: str | None = None
    path: str = "/"
    headers: dict[str, Text | list[Text] | None] = {}
    body: Text | None = None
    port: int = 80
    from_namespace: str | None = "default"
    from_labels: dict[str, Text] = msgspec.field(default_factory=lambda: {"app": "client"})
    from_locality: str = ""
    repeat: int = 1
    concurrency: int = 1
    sequential: bool = False
    dst_service: str | None = None
    dst_pod: str | None = None


class Upstream(_Keys, frozen=True, kw_only=True):
    """The pod that answered."""

    app: str | None = None
    version: Text | None = None
    namespace: str | None = None
    pod: str | None = None
    pod_port: int | None = None


class Received(_Keys, frozen=True, kw_only=True):
    """What a pod received."""

    method: str | None = None
    path: str | None = None
    host: str | None = None
    headers: dict[str, Text] = {}
    headers_absent: list[str] = []
    headers_match: dict[str, str] = {}
    body: str | None = None
    proxy_protocol: dict[str, Text] | None = None
    sni: str | None = None


class Cookie(_Keys, frozen=True, kw_only=True):
    """A Set-Cookie line, by its parts."""

    name: str
    path: str | None = None
    max_age: int | None = None


class Expect(_Keys, frozen=True, kw_only=True):
    """What is expected of one answer, or of several together."""

    status: int | None = None
    status_in: list[int] | None = None
    upstream: Upstream | None = None
    upstream_request: Received | None = None
    response_headers: dict[str, Text] = {}
    response_headers_absent: list[str] = []
    response_headers_match: dict[str, str] = {}
    body: str | None = None
    location: str | None = None
    set_cookie: bool | str | Cookie | None = None
    no_set_cookie: bool | str | None = None
    flag: str | None = None
    upstream_calls: int | None = None
    upstream_calls_max: int | None = None
    upstream_connections: int | None = None
    duration_ms: tuple[float | None, float | None] | None = None
    distribution: dict[str, float] | None = None
    distribution_min: dict[str, float] | None = None
    status_distribution: dict[int, float] | None = None
    status_counts_min: dict[int, int] | None = None
    tolerance_points: float = 10.0
    on_status: dict[int, Expect] = {}
    per_upstream: dict[str, Expect] = {}
    single_pod: bool | None = None
    all_pods_seen: bool | None = None
    mirrored: dict[str, int] | None = None
    mirrored_percent: dict[str, float] | None = None
    mirrored_request: Received | None = None
    warm_up: bool = False
    validation: Literal["error", "error_or_not_accepted"] | None = None
    conditions: list[dict[str, Any]] | None = None
    each: list[Expect] | None = None


class Case(_Keys, frozen=True, kw_only=True):
    """One case."""

    id: str
    source: str = ""
    note: str = ""
    level: Literal["core", "extended", "istio-quirk", "design"] = "core"
    setup: Setup = Setup()
    resources: list[dict[str, Any]] = []
    requests: list[Batch]
    expect: Expect

    @property
    def is_for_later(self) -> bool:
        """Whether it is about what the gateway does not do yet: HTTPRoute and status conditions."""
        expects = (self.expect, *(self.expect.each or ()))
        return self.id.startswith("hr-") or any(expect.conditions is not None for expect in expects)

    def expected(self) -> list[Expect]:
        """Return what is expected of each request."""
        return self.expect.each if self.expect.each is not None else [self.expect] * len(self.requests)


class Mistake(msgspec.Struct, frozen=True):
    """A case that says something it cannot mean."""

    id: str
    reason: str


def load(path: Path) -> list[Case | Mistake]:
    """Read a case file.

    Raises:
        CaseError: it is no list of cases.
    """
    try:
        documents = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
    except (OSError, yaml.YAMLError) as error:
        raise CaseError(f"{path}: {error}") from error
    if not isinstance(documents, list) or not all(isinstance(document, dict) for document in documents):
        raise CaseError(f"{path}: expected a list of cases")
    cases = [_case(document, number) for number, document in enumerate(documents, 1)]
    seen: set[str] = set()
    for number, case in enumerate(cases):
        if case.id in seen:
            cases[number] = Mistake(case.id, "this id is used twice")
        seen.add(case.id)
    return cases


def _case(document: dict[str, Any], number: int) -> Case | Mistake:
    name = str(document.get("id", f"case {number}"))
    try:
        case = msgspec.convert(_plain(_with_on_status(document)), Case, strict=False)
    except msgspec.ValidationError as error:
        return Mistake(name, str(error))
    return Mistake(name, reason) if (reason := _contradiction(case)) else case


def _contradiction(case: Case) -> str:
    """Return why a well-formed case makes no sense, "" if it does."""
    each = case.expect.each
    if each is not None and len(each) != len(case.requests):
        return f"{len(case.requests)} requests, but `each` has {len(each)} entries"
    for batch in case.requests:
        if batch.host is None and batch.dst_service is None and batch.dst_pod is None:
            return "a request needs a host, dst_service or dst_pod"
        if batch.sequential and batch.concurrency > 1:
            return "a request is sequential or concurrent, not both"
    for expect in (case.expect, *(each or ())):
        for key in ("validation", "each"):
            if expect is not case.expect and getattr(expect, key) is not None:
                return f"`{key}` belongs to the whole case"
    return ""


def _with_on_status(document: dict[str, Any]) -> dict[str, Any]:
    """Gather the keys `on_503` and the like, wherever an expectation may have them."""

    def gathered(expect: object) -> object:
        if not isinstance(expect, dict):
            return expect
        plain: dict[object, object] = {}
        on: dict[int, object] = {}
        for key, value in expect.items():
            if isinstance(key, str) and key.startswith("on_") and key[3:].isdigit():
                on[int(key[3:])] = gathered(value)
            elif key == "each" and isinstance(value, list):
                plain[key] = [gathered(entry) for entry in value]
            elif key == "per_upstream" and isinstance(value, dict):
                plain[key] = {name: gathered(entry) for name, entry in value.items()}
            else:
                plain[key] = value
        return plain | ({"on_status": on} if on else {})

    return document | ({"expect": gathered(document["expect"])} if "expect" in document else {})


def _plain(value: Any) -> Any:
    """Undo what YAML makes of time stamps, and of `null` for an empty mapping."""
    if isinstance(value, dict):
        return {str(key) if isinstance(key, bool) else key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, datetime):
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    return value.isoformat() if isinstance(value, date) else value
