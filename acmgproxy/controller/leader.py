# SPDX-License-Identifier: Apache-2.0
"""Elector: which replica of the controller writes, by a Lease.

The rules are client-go's: who holds the Lease renews it every `RETRY_S`; who has not managed to for `RENEW_DEADLINE_S` stops
writing; others take it over once it has not been renewed for as long as it says (`LEASE_S`), counted from when they *saw* the
last renewal, so clocks of nodes need not agree. `is_leader` is a matter of time, not of a task that may be late: a process that
was stopped for a minute knows before its next write that it no longer leads. On exit the Lease is given back.

kubernetes-asyncio has an election as well. It measures with the wall clock (a step of the clock makes two leaders or none),
asserts on the API's answers, and does not release; all of that is inside its loop, so there is nothing left to build on.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from discovery.kube import LEASES, ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from discovery.kube import KubeClient

__all__ = ["LEASE_S", "RENEW_DEADLINE_S", "RETRY_S", "Elector"]

LEASE_S = 15.0
RENEW_DEADLINE_S = 10.0
RETRY_S = 2.0
"""client-go's recommended values (LeaseDuration, RenewDeadline, RetryPeriod); kube-controller-manager uses them too."""

RELEASE_AGAIN_S = 0.1
RELEASE_TRIES = 5
"""A renewal that was under way may win once; more is an API server that is not there, and others need not wait for us."""

LEASE_NAME = "acmg-controller"


class Elector:
    """One replica's part in the election.

    Args:
        client: of the API server.
        namespace: of the Lease.
        identity: of this replica; no two may be the same.
        clock: monotonic, in seconds.
        on_change: told whenever it begins or stops to lead.
        lease_s, renew_deadline_s, retry_s: see above.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        namespace: str,
        identity: str,
        clock: Callable[[], float],
        on_change: Callable[[bool], None],
        lease_s: float = LEASE_S,
        renew_deadline_s: float = RENEW_DEADLINE_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self._client = client
        self._path = LEASES.path(namespace, LEASE_NAME)
        self._all_path = LEASES.path(namespace)
        self._namespace = namespace
        self._identity = identity
        self._clock = clock
        self._on_change = on_change
        self._lease_s = lease_s
        self._renew_deadline_s = renew_deadline_s
        self._retry_s = retry_s
        self._leads_until = float("-inf")
        self._was_leader = False
        self._seen: tuple[Any, ...] = ()
        self._seen_at = float("-inf")
        self.last_error = ""

    def __repr__(self) -> str:
        return f"<Elector {self._identity} {'leads' if self.is_leader else 'follows'}>"

    @property
    def is_leader(self) -> bool:
        """Whether this replica may write at this moment."""
        return self._clock() < self._leads_until

    async def run(self) -> None:
        """Take part until cancelled."""
        try:
            while True:
                started = self._clock()
                try:
                    async with asyncio.timeout(self._renew_deadline_s / 2):
                        await self._try(started)
                    self.last_error = ""
                except TimeoutError:
                    self.last_error = "the API server does not answer"
                except ApiError as error:
                    if error.status == 409:
                        self._lose()  # somebody else was quicker
                    self.last_error = str(error)
                self._tell()
                await asyncio.sleep(min(self._retry_s, max(0.0, self._leads_until - self._clock())) or self._retry_s)
                self._tell()
        finally:
            self._tell()

    async def release(self) -> None:
        """Give the Lease back, if it is ours, so that another replica need not wait for its end; `run` must have ended."""
        if not self.is_leader:
            return
        self._lose()
        self._tell()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETRY_S):
                for _ in range(RELEASE_TRIES):
                    if await self._try_release():
                        return
                    await asyncio.sleep(RELEASE_AGAIN_S)

    async def _try_release(self) -> bool:
        """Give the Lease back; return whether there is no more to do. A renewal under way may come between."""
        try:
            lease = await self._client.get(self._path)
            if _spec(lease).get("holderIdentity") == self._identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                await self._client.replace(self._path, lease)
        except ApiError:
            return False
        return True

    async def _try(self, started: float) -> None:
        """Take or renew the Lease if that is allowed.

        Raises:
            ApiError: The API server said no, or nothing.
        """
        try:
            lease = await self._client.get(self._path)
        except ApiError as error:
            if error.status != 404:
                raise
            body = {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.kind,
                "metadata": {"name": LEASE_NAME, "namespace": self._namespace},
                "spec": self._claim({}),
            }
            await self._client.create(self._all_path, body)
            self._lead(started)
            return
        spec = _spec(lease)
        record = tuple(spec.get(field) for field in ("holderIdentity", "renewTime", "acquireTime", "leaseTransitions"))
        if record != self._seen:
            self._seen, self._seen_at = record, self._clock()
        holder = spec.get("holderIdentity") or ""
        if holder not in {"", self._identity}:
            self._lose()
            if self._clock() < self._seen_at + float(spec.get("leaseDurationSeconds") or self._lease_s):
                return
        lease["spec"] = spec | self._claim(spec)
        await self._client.replace(self._path, lease)
        self._lead(started)

    def _claim(self, spec: dict[str, Any]) -> dict[str, Any]:
        now = _now()
        claim = {"holderIdentity": self._identity, "leaseDurationSeconds": max(1, round(self._lease_s)), "renewTime": now}
        if spec.get("holderIdentity") != self._identity:
            claim |= {"acquireTime": now, "leaseTransitions": int(spec.get("leaseTransitions") or 0) + bool(spec)}
        return claim

    def _lead(self, started: float) -> None:
        """Lead, counted from before the request: how long it took nobody knows."""
        self._leads_until = started + self._renew_deadline_s

    def _lose(self) -> None:
        self._leads_until = float("-inf")

    def _tell(self) -> None:
        if self.is_leader is not self._was_leader:
            self._was_leader = not self._was_leader
            self._on_change(self._was_leader)


def _spec(lease: Any) -> dict[str, Any]:
    return lease.get("spec") or {}


def _now() -> str:
    """Return the wall clock's time as the API writes it; for people only."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
