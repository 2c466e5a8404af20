# SPDX-License-Identifier: Apache-2.0
"""What is known of the gateways: which are ready, what each listens on, and whether capture fails open.

Pure: `probes` asks, the pod watch tells, time comes in. A gateway is ready if its pod is, and its own answers say so. One
unanswered probe is an accident, two are an absence; an answer that says `not ready` is believed at once, because a gateway that
drains wants to be left alone.

A listener that was bound counts as bound for a while after a gateway says otherwise: a worker that died is replaced within a
second and its connections wait in the socket meanwhile, so thousands of Services need not be rewritten twice for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from acmgproxy.controller.objects import Pod

__all__ = ["MISSES", "FailOpen", "Gateway", "GatewayState", "Listener", "ListenerEntry", "unready_text"]

MISSES = 2
"""Probes in a row without an answer that make a gateway absent."""

UNBOUND_AFTER_S = 5.0
"""A listener that a gateway has called unbound for this long is; workers are replaced within 1 s, unless they die in a loop."""

FAIL_OPEN_AFTER_S = 10.0
"""Without a ready gateway for this long, traffic goes direct (see the docs on capture)."""

RECAPTURE_AFTER_S = 30.0
"""Gateways must have been ready for this long before they get traffic back: one that crashes every few seconds must not."""


class Listener(NamedTuple):
    """An address of a gateway that stands for a port of a Service.

    Args:
        service: `namespace/name`.
        port: of the Service.
        gateway_port: where it listens.
        family: `IPv4` or `IPv6`.
    """

    service: str
    port: int
    gateway_port: int
    family: str


class ListenerEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry of what a gateway answers to /listeners."""

    address: str = ""
    port: int
    bound: bool = False
    error: str | None = None
    service: str | None = None
    service_port: int | None = None
    endpoints: int = 0

    @property
    def listener(self) -> Listener | None:
        """What it stands for, None if it is no captured port."""
        if not self.service or self.service_port is None:
            return None
        return Listener(self.service, self.service_port, self.port, "IPv6" if ":" in self.address else "IPv4")


class Gateway(NamedTuple):
    """A gateway, as decisions see it.

    Args:
        namespace, name, uid: of its pod.
        node, zone: where it runs; "" if unknown.
        addresses: its address by family.
        is_ready: whether new traffic may go there.
        bound: endpoints behind each listener that is bound.
        errors: why a listener is not bound.
        unready_because: "" when it is ready.
    """

    namespace: str
    name: str
    uid: str
    node: str
    zone: str
    addresses: Mapping[str, str]
    is_ready: bool
    bound: Mapping[Listener, int]
    errors: Mapping[Listener, str]
    unready_because: str = ""


class GatewayState:
    """One gateway pod through time."""

    def __init__(self, pod: Pod, now: float) -> None:
        self.pod = pod
        self.zone = ""
        self.last_success = now
        self.is_known = False
        self._misses = 0
        self._unready_because = "it has not been asked yet"
        self._bound: dict[Listener, int] = {}
        self._unbound_at: dict[Listener, float] = {}
        self._errors: dict[Listener, str] = {}
        self._services: dict[int, set[str]] = {}

    def __repr__(self) -> str:
        return f"<GatewayState {self.pod.meta.name} {self.unready_because or 'ready'} listeners={len(self._bound)}>"

    @property
    def unready_because(self) -> str:
        """Why no new traffic may go there, "" when it may."""
        if self.pod.is_going:
            return "its pod is terminating"
        if not self.pod.is_ready:
            return "its pod is not ready"
        return self._unready_because

    def answered(self, now: float, not_ready: str, listeners: Iterable[ListenerEntry] | None) -> None:
        """Note an answer.

        Args:
            now: monotonic time.
            not_ready: what it says against sending traffic there, "" for nothing.
            listeners: what it listens on, None for no change.
        """
        self._misses = 0
        self.is_known = True
        self._unready_because = not_ready
        if not_ready:
            self._forget()
            return
        self.last_success = now
        if listeners is not None:
            self._take(now, listeners)
        for listener in [listener for listener, at in self._unbound_at.items() if now - at >= UNBOUND_AFTER_S]:
            del self._unbound_at[listener]
            self._bound.pop(listener, None)

    def missed(self, reason: str) -> None:
        """Note that a probe had no answer."""
        self._misses += 1
        if self._misses >= MISSES:
            self.is_known = True
            self._unready_because = reason
            self._forget()

    def listens(self, gateway_port: int) -> frozenset[str]:
        """Return for which Services it listens on a gateway port."""
        return frozenset(self._services.get(gateway_port, ()))

    def snapshot(self) -> Gateway:
        """Return what decisions see."""
        reason = self.unready_because
        return Gateway(
            namespace=self.pod.meta.namespace,
            name=self.pod.meta.name,
            uid=self.pod.meta.uid,
            node=self.pod.spec.node_name,
            zone=self.zone,
            addresses=self.pod.addresses,
            is_ready=not reason,
            bound=dict(self._bound),
            errors=dict(self._errors),
            unready_because=reason,
        )

    def _take(self, now: float, listeners: Iterable[ListenerEntry]) -> None:
        before, since = self._bound, self._unbound_at
        self._forget()
        self._services = {}
        for entry in listeners:
            listener = entry.listener
            if listener is None:
                continue
            self._services.setdefault(listener.gateway_port, set()).add(listener.service)
            if entry.bound:
                self._bound[listener] = entry.endpoints
                continue
            self._errors[listener] = entry.error or ""
            if listener in before:
                self._bound[listener] = before[listener]
                self._unbound_at[listener] = since.get(listener, now)

    def _forget(self) -> None:
        """Forget what it listens on; for which Services is remembered, since their ports must not be given away."""
        self._bound, self._unbound_at, self._errors = {}, {}, {}


class FailOpen:
    """Whether traffic has to go direct because there are no gateways.

    Args:
        now: monotonic time.
        after_s: without a ready gateway before it does.
        back_after_s: with one before it no longer does.
        is_open: whether it does to begin with.
    """

    def __init__(
        self, now: float, *, after_s: float = FAIL_OPEN_AFTER_S, back_after_s: float = RECAPTURE_AFTER_S, is_open: bool = False
    ) -> None:
        self.after_s = after_s
        self.back_after_s = back_after_s
        self.is_open = is_open
        self._last_ready = now
        self._ready_since: float | None = None

    def __repr__(self) -> str:
        return f"<FailOpen {'open' if self.is_open else 'closed'}>"

    def update(self, now: float, last_ready: float | None, *, any_ready: bool) -> bool:
        """Take note of the gateways; return whether it opened or closed.

        Args:
            now: monotonic time.
            last_ready: when a gateway last said that it is ready, None if none is known to have.
            any_ready: whether one is.
        """
        if last_ready is not None:
            self._last_ready = max(self._last_ready, last_ready)
        if not any_ready:
            self._ready_since = None
        elif self._ready_since is None:
            self._ready_since = now
        before = self.is_open
        if self.is_open:
            self.is_open = self._ready_since is None or now - self._ready_since < self.back_after_s
        elif not any_ready:
            self.is_open = now - self._last_ready >= self.after_s
        return self.is_open is not before


def unready_text(gateways: Collection[Gateway]) -> str:
    """Say for people why no gateway is ready."""
    if not gateways:
        return "there is no gateway pod; check DaemonSet acmg-gateway and the label acmg.io/gateway=true on nodes"
    unready = [f"{one.name}: {one.unready_because}" for one in gateways if one.unready_because]
    return "; ".join(sorted(unready)[:3])
