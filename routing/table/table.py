# SPDX-License-Identifier: Apache-2.0
"""The route table: the whole configuration of a worker, compiled, and the one question asked of it.

`match` runs once per request. Which virtual host a raw Host value means on a listener is remembered in a bounded cache, so the
common request costs one dict look-up and the rules of its host; nothing depends on the number of hosts.

`apply` puts a diff in place. It first compiles whatever can be refused, so a bad diff changes nothing, and then updates only what
the diff touches: an endpoint update reaches its cluster and nothing else. Routes point straight at clusters; when a cluster
appears or disappears, the virtual hosts that name it are linked anew, so that `match` never has to look a cluster up.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from routing.cluster import Cluster
from routing.hashing import CompiledHash
from routing.table.head import Caller
from routing.table.hosts import HostIndex
from routing.table.rule_set import CompiledRuleSet, default_rule
from routing.table.virtual_host import CompiledVirtualHost, never

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from routing.cluster import Endpoint
    from routing.request import RequestView
    from routing.specs import ClusterSpec, EndpointSpec, IdentitySpec, ListenerSpec, SpecsDiff, VirtualHostSpec
    from routing.table.head import Find
    from routing.table.route import Route
    from routing.table.rule_set import CompiledRule

__all__ = ["CACHE_LIMIT", "CompiledListener", "RouteTable", "TableChange"]

CACHE_LIMIT = 16_384
"""Host values remembered by one table, over all listeners: at most about 5 MB, whatever clients send."""

_MAX_CACHED_HOST = 260
"""Octets of a Host value that is remembered: the longest DNS name, a trailing dot and a port."""

_DEFAULT_PORT = 80
_NO_HOSTS = HostIndex()


class CompiledListener:
    """A listener and what it has learnt about Host values. The object stays for as long as its name exists."""

    __slots__ = ("finders", "known", "name", "port", "spec")

    def __init__(self, spec: ListenerSpec) -> None:
        self.finders: dict[bytes, Find] = {}
        self.known = True
        self.update(spec)

    def __repr__(self) -> str:
        return f"CompiledListener({self.name!r}, {len(self.finders)} hosts cached)"

    def update(self, spec: ListenerSpec) -> None:
        """Take over a changed spec. `port` is the Service port, 0 on the shared listener."""
        self.spec = spec
        self.name = spec.name
        self.port = spec.port


class TableChange:
    """What `apply` took away, for the data plane to clean up after."""

    __slots__ = ("clusters_removed", "removed_endpoints")

    def __init__(self) -> None:
        self.removed_endpoints: list[Endpoint] = []
        self.clusters_removed: list[Cluster] = []

    def __repr__(self) -> str:
        return f"TableChange({len(self.removed_endpoints)} endpoints, {len(self.clusters_removed)} clusters removed)"


class RouteTable:
    """A worker's configuration. Not for several threads: `apply` is atomic because nothing runs beside it.

    Args:
        workers: how many workers share the limits of clusters.
    """

    __slots__ = (
        "_cached",
        "_caller_dependent",
        "_callers",
        "_hosts",
        "_identities",
        "_label_dependent",
        "_rule_sets",
        "_users_of_clusters",
        "_users_of_rule_sets",
        "_virtual_hosts",
        "_waiting",
        "_warm",
        "_workers",
        "clusters",
        "listeners",
        "version",
    )

    def __init__(self, workers: int = 1) -> None:
        self.version = 0
        self._workers = workers
        self.listeners: dict[str, CompiledListener] = {}
        self.clusters: dict[str, Cluster] = {}
        self._rule_sets: dict[str, CompiledRuleSet] = {}
        self._virtual_hosts: dict[str, CompiledVirtualHost] = {}
        self._hosts: dict[int, HostIndex] = defaultdict(HostIndex)
        self._users_of_rule_sets: dict[str, set[str]] = defaultdict(set)
        self._users_of_clusters: dict[str, set[str]] = defaultdict(set)
        self._waiting: dict[str, tuple[EndpointSpec, ...]] = {}
        self._identities: dict[str, Caller] = {}
        self._callers: dict[str, str] = {}
        self._caller_dependent: set[str] = set()
        self._label_dependent: set[str] = set()  # clusters whose balancing looks at the labels behind identities
        self._warm: list[CompiledListener] = []  # those with something in their cache
        self._cached = 0

    def __repr__(self) -> str:
        return f"RouteTable(version={self.version}, {len(self._virtual_hosts)} virtual hosts, {len(self.clusters)} clusters)"

    # Questions.

    def match(self, listener: CompiledListener, head: RequestView, caller: Caller | None) -> Route | None:
        """Return the route of a request that arrived on `listener`; None when there is none (404, flag NR)."""
        find = listener.finders.get(head.authority)
        if find is None:
            find = self._remember(listener, head)
        return find(head, caller)

    def caller(self, address: str) -> Caller | None:
        """Return who has this source address; None when that is not known. Once per connection."""
        return self._identities.get(self._callers.get(address, ""))

    def identity(self, key: str) -> IdentitySpec | None:
        """Return the identity that an endpoint's `identity` names."""
        found = self._identities.get(key)
        return found.spec if found is not None else None

    def host_of(self, listener: CompiledListener) -> VirtualHostSpec | None:
        """Return the host that a listener is for, None for the shared one and for a host that is gone."""
        found = self._virtual_hosts.get(listener.spec.virtual_host)
        return found.spec if found is not None else None

    # Host values.

    def _remember(self, listener: CompiledListener, head: RequestView) -> Find:
        find = self._resolve(listener.spec, head.host, head.port)
        if listener.known and len(head.authority) <= _MAX_CACHED_HOST:
            if self._cached >= CACHE_LIMIT:
                self._forget_hosts()
            if not listener.finders:
                self._warm.append(listener)
            listener.finders[head.authority] = find
            self._cached += 1
        return find

    def _forget_hosts(self) -> None:
        for listener in self._warm:
            listener.finders.clear()
        self._warm.clear()
        self._cached = 0

    def _resolve(self, listener: ListenerSpec, host: bytes, port: int) -> Find:
        """Return what finds the route for a Host value; what depends on the caller's namespace stays open in it."""
        common, short = self.hosts_for(listener, host, port)
        find = common.find if common is not None else never
        return _by_namespace({namespace: virtual_host.find for namespace, virtual_host in short.items()}, find) if short else find

    def hosts_for(
        self, listener: ListenerSpec, host: bytes, port: int
    ) -> tuple[CompiledVirtualHost | None, dict[str, CompiledVirtualHost]]:
        """Return the virtual host that a Host value means to callers in general, and those that it means to callers of certain
        namespaces.
        """
        common: CompiledVirtualHost | None
        if listener.port:
            index = self._hosts.get(listener.port, _NO_HOSTS)
            common, short = index.lookup(host), index.lookup_short(host)
        else:
            common, short = self._resolve_shared(host, port or _DEFAULT_PORT)
        if common is None:
            common = self._virtual_hosts.get(listener.virtual_host)
        return common, short

    def _resolve_shared(self, host: bytes, port: int) -> tuple[CompiledVirtualHost | None, dict[str, CompiledVirtualHost]]:
        """Look a host up on a port; one that is not there but on a single other port is meant with that."""
        index = self._hosts.get(port, _NO_HOSTS)
        common, short = index.lookup(host), index.lookup_short(host)
        if common is None:
            elsewhere: dict[str, list[CompiledVirtualHost]] = defaultdict(list)
            for other in self._hosts.values():
                for namespace, virtual_host in other.lookup_short(host).items():
                    elsewhere[namespace].append(virtual_host)
            short = {namespace: found[0] for namespace, found in elsewhere.items() if len(found) == 1} | short
            common = _only(other.lookup(host) for other in self._hosts.values())
        return common, short

    # Updates.

    def apply(self, diff: SpecsDiff) -> TableChange:
        """Put a diff in place.

        Raises:
            RegexError, HeaderError, RewriteError: something in it cannot be compiled; the table is as it was.
        """
        put, removed = diff.put, diff.removed
        for cluster in put.clusters.values():
            if cluster.hash is not None:
                CompiledHash(cluster.hash)
        rule_sets = {key: CompiledRuleSet(spec) for key, spec in put.rule_sets.items()}
        defaults = {
            key: default_rule(spec.default) if spec.default is not None else None for key, spec in put.virtual_hosts.items()
        }
        change = TableChange()
        relinked = self._apply_clusters(put.clusters, removed.get("clusters", ()), change)
        self._apply_endpoints(put.endpoints, removed.get("endpoints", ()), change)
        self._apply_identities(diff)
        stale = {user for name in relinked for user in self._users_of_clusters.get(name, ())}
        for key in (*rule_sets, *removed.get("rule_sets", ())):
            stale |= self._users_of_rule_sets.get(key, set())
            self._rule_sets.pop(key, None)
        self._rule_sets |= rule_sets
        gone = [key for key in removed.get("virtual_hosts", ()) if key in self._virtual_hosts and key not in defaults]
        for key in gone:
            self._unregister(self._virtual_hosts.pop(key))
        for key, spec in put.virtual_hosts.items():
            self._put_virtual_host(key, spec, defaults[key])
        for key in stale.union(defaults).difference(gone):
            self._link(self._virtual_hosts[key])
        listeners = self._apply_listeners(put.listeners, removed.get("listeners", ()))
        if listeners or gone or stale or defaults:
            self._forget_hosts()
        self.version = diff.version
        return change

    def _apply_clusters(self, put: Mapping[str, ClusterSpec], removed: Iterable[str], change: TableChange) -> set[str]:
        """Return the names of clusters that came or went."""
        relinked = set()
        for name in removed:
            if name in self.clusters and name not in put:
                cluster = self.clusters.pop(name)
                if cluster.endpoints:  # their own entry may outlive the cluster's
                    self._waiting[name] = tuple(endpoint.spec for endpoint in cluster.endpoints)
                change.removed_endpoints += cluster.update(())
                change.clusters_removed.append(cluster)
                relinked.add(name)
                self._label_dependent.discard(name)
        for name, spec in put.items():
            if spec.locality is not None and spec.locality.failover_priority:
                self._label_dependent.add(name)
            else:
                self._label_dependent.discard(name)
            known = self.clusters.get(name)
            if known is not None:
                known.update_spec(spec)
                continue
            cluster = self.clusters[name] = Cluster(spec, workers=self._workers, labels_of=self._labels_of)
            cluster.update(self._waiting.pop(name, ()))
            relinked.add(name)
        return relinked

    def _apply_endpoints(self, put: Mapping[str, tuple[EndpointSpec, ...]], removed: Iterable[str], change: TableChange) -> None:
        for name in removed:
            self._waiting.pop(name, None)
            if name in self.clusters and name not in put:
                change.removed_endpoints += self.clusters[name].update(())
        for name, specs in put.items():
            if name in self.clusters:
                change.removed_endpoints += self.clusters[name].update(specs)
            else:
                self._waiting[name] = specs

    def _labels_of(self, identity: str) -> Mapping[str, str]:
        known = self._identities.get(identity)
        return known.labels if known is not None else {}

    def _apply_identities(self, diff: SpecsDiff) -> None:
        if diff.put.identities or "identities" in diff.removed:
            for name in self._label_dependent:
                self.clusters[name].forget_labels()
        changed = False
        for key in diff.removed.get("identities", ()):
            changed |= self._identities.pop(key, None) is not None
        for key, spec in diff.put.identities.items():
            known = self._identities.get(key)
            if known is None or known.spec != spec:
                self._identities[key] = Caller(key, spec)
                changed |= known is not None
        for address in diff.removed.get("callers", ()):
            self._callers.pop(address, None)
        self._callers |= diff.put.callers
        if changed:  # or callers that no longer exist would be remembered for ever
            for key in self._caller_dependent:
                self._virtual_hosts[key].forget_callers()

    def _apply_listeners(self, put: Mapping[str, ListenerSpec], removed: Iterable[str]) -> bool:
        """Return whether anything changed. A removed listener still answers for connections that outlive it, uncached."""
        changed = False
        for name in removed:
            if name in self.listeners and name not in put:
                listener = self.listeners.pop(name)
                listener.known = False
                changed = True
        for name, spec in put.items():
            known = self.listeners.get(name)
            if known is None:
                self.listeners[name] = CompiledListener(spec)
            else:
                known.update(spec)
            changed = True
        return changed

    def _put_virtual_host(self, key: str, spec: VirtualHostSpec, default: CompiledRule | None) -> None:
        virtual_host = self._virtual_hosts.get(key)
        if virtual_host is None:
            virtual_host = self._virtual_hosts[key] = CompiledVirtualHost(key)
        else:
            self._unregister(virtual_host)
        virtual_host.update(spec, default)
        self._hosts[spec.port].add(virtual_host)
        for candidate in spec.candidates:
            self._users_of_rule_sets[candidate.rule_set].add(key)

    def _unregister(self, virtual_host: CompiledVirtualHost) -> None:
        key, spec = virtual_host.key, virtual_host.spec
        hosts = self._hosts[spec.port]
        hosts.remove(virtual_host)
        if not hosts:
            del self._hosts[spec.port]
        for candidate in spec.candidates:
            _discard(self._users_of_rule_sets, candidate.rule_set, key)
        for name in virtual_host.cluster_names:
            _discard(self._users_of_clusters, name, key)
        self._caller_dependent.discard(key)

    def _link(self, virtual_host: CompiledVirtualHost) -> None:
        key = virtual_host.key
        before = virtual_host.cluster_names
        virtual_host.link(self._rule_sets, self.clusters)
        for name in before - virtual_host.cluster_names:
            _discard(self._users_of_clusters, name, key)
        for name in virtual_host.cluster_names:
            self._users_of_clusters[name].add(key)
        if virtual_host.depends_on_caller:
            self._caller_dependent.add(key)
        else:
            self._caller_dependent.discard(key)


def _by_namespace(finders: dict[str, Find], otherwise: Find) -> Find:
    def find(head: RequestView, caller: Caller | None) -> Route | None:
        if caller is None:
            return otherwise(head, caller)
        return finders.get(caller.namespace, otherwise)(head, caller)

    return find


def _only(found: Iterable[CompiledVirtualHost | None]) -> CompiledVirtualHost | None:
    """Return the one Service that was found. A host that is no Service exists on its port and on no other."""
    real = [virtual_host for virtual_host in found if virtual_host is not None and virtual_host.spec.namespace]
    return real[0] if len(real) == 1 else None


def _discard(users: dict[str, set[str]], name: str, key: str) -> None:
    remaining = users.get(name)
    if remaining is not None:
        remaining.discard(key)
        if not remaining:
            del users[name]
