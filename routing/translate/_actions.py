# SPDX-License-Identifier: Apache-2.0
"""What a rule of a VirtualService does with a request: forward, redirect or answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.names import cluster_name
from routing.specs import ClusterRef, DirectResponseSpec, ForwardSpec, PathRewrite, RedirectSpec, RetrySpec
from routing.translate._headers import translate_headers

if TYPE_CHECKING:
    from typing import Literal

    from routing.resources import Service, VirtualService
    from routing.resources.virtual_service import Destination, HTTPRedirect, HTTPRetry, HTTPRewrite, HTTPRoute, RouteDestination
    from routing.translate._context import Context
    from routing.translate._policies import ServiceRules

__all__ = ["translate_action"]

LARGE_BODY_BYTES = 100_000
"""From here on Istio warns about a direct response's body."""

_PORT_FROM: dict[str | None, Literal["", "protocol-default", "request-port"]] = {
    None: "",
    "FROM_PROTOCOL_DEFAULT": "protocol-default",
    "FROM_REQUEST_PORT": "request-port",
}


def translate_action(
    context: Context, about: VirtualService, rule: HTTPRoute, field: str, *, port: int, host_rewrite: str
) -> ForwardSpec | RedirectSpec | DirectResponseSpec | None:
    """Return a rule's action, None when there is none here.

    Args:
        context: The translation.
        about: The VirtualService.
        rule: The rule.
        field: Its path.
        port: Service port the request arrived on.
        host_rewrite: Host that the rule's header operations set.
    """
    if rule.redirect is not None:
        return _redirect(rule.redirect)
    if rule.direct_response is not None:
        body = rule.direct_response.body
        content = b"" if body is None else body.data or (body.text or "").encode()
        if len(content) > LARGE_BODY_BYTES:
            context.reporter.report("ACMG012", about, f"{field}.directResponse.body", f"the body has {len(content)} bytes")
        return DirectResponseSpec(status=rule.direct_response.status, body=content)
    if rule.delegate is not None:
        context.reporter.report("ACMG001", about, f"{field}.delegate", "delegation is not supported yet; the rule is left out")
        return None
    rewrite = rule.rewrite
    host = (rewrite.authority if rewrite is not None else "") or host_rewrite
    return ForwardSpec(
        clusters=_clusters(context, about, rule.route, f"{field}.route", port, host),
        timeout_s=float(rule.timeout or 0.0),
        retry=_retry(context, about, rule.retries, f"{field}.retries"),
        path_rewrite=_path_rewrite(rewrite),
        host_rewrite=host,
    )


def _redirect(redirect: HTTPRedirect) -> RedirectSpec:
    path = None
    if redirect.prefix_rewrite is not None:
        path = PathRewrite(kind="prefix", value=redirect.prefix_rewrite)
    elif redirect.uri:
        path = PathRewrite(kind="full", value=redirect.uri)
    return RedirectSpec(
        status=redirect.redirect_code,
        scheme=redirect.scheme or "",
        authority=redirect.authority,
        port=redirect.port or 0,
        port_from=_PORT_FROM[redirect.derive_port],
        path_rewrite=path,
    )


def _path_rewrite(rewrite: HTTPRewrite | None) -> PathRewrite | None:
    if rewrite is None:
        return None
    if rewrite.uri_regex_rewrite is not None:
        return PathRewrite(kind="regex", pattern=rewrite.uri_regex_rewrite.match, value=rewrite.uri_regex_rewrite.rewrite)
    return PathRewrite(kind="prefix", value=rewrite.uri) if rewrite.uri else None


def _retry(context: Context, about: VirtualService, retries: HTTPRetry | None, field: str) -> RetrySpec:
    if retries is None:
        return RetrySpec()
    if not retries.attempts:
        if retries.retry_on or retries.per_try_timeout is not None or retries.retry_remote_localities is not None:
            context.reporter.report("ACMG009", about, f"{field}.attempts", "without attempts the block switches retries off")
        return RetrySpec(attempts=0)
    tokens: list[str] = []
    codes: list[int] = []
    for token in (part.strip() for part in retries.retry_on.split(",") if retries.retry_on):
        if token.isdigit():
            codes.append(int(token))
        else:
            tokens.append(token)
    if codes and "retriable-status-codes" not in tokens:
        tokens.append("retriable-status-codes")
    default = RetrySpec()
    return RetrySpec(
        attempts=retries.attempts,
        retry_on=tuple(dict.fromkeys(tokens)) or default.retry_on,
        status_codes=tuple(dict.fromkeys(codes)),
        per_try_timeout_s=float(retries.per_try_timeout or 0.0),
        backoff_base_s=default.backoff_base_s if retries.backoff is None else float(retries.backoff),
        ignore_previous_hosts=retries.retry_ignore_previous_hosts is not False,
        remote_localities=bool(retries.retry_remote_localities),
    )


def _clusters(
    context: Context, about: VirtualService, route: tuple[RouteDestination, ...], field: str, port: int, host_rewrite: str
) -> tuple[ClusterRef, ...]:
    """Return the weighted clusters; those of weight 0 among several get no traffic and are left out."""
    refs = []
    for index, entry in enumerate(route):
        where = f"{field}[{index}]"
        cluster, by_namespace = _cluster(context, about, entry.destination, f"{where}.destination", port)
        changes = translate_headers(context, about, entry.headers, f"{where}.headers")
        if len(route) > 1 and not entry.weight:
            continue
        refs.append(
            ClusterRef(
                cluster=cluster,
                weight=entry.weight if len(route) > 1 else 1,
                by_namespace=by_namespace,
                request_headers=changes.request,
                response_headers=changes.response,
                # The rule's own Host wins, so a destination's is not even sent beside it.
                host_rewrite="" if host_rewrite else changes.host_rewrite,
            )
        )
    return tuple(refs)


def _cluster(
    context: Context, about: VirtualService, destination: Destination, field: str, port: int
) -> tuple[str, dict[str, str]]:
    """Return a destination's cluster and its variants by the caller's namespace."""
    found = context.resolve(destination.host, about, f"{field}.host")
    number = destination.port.number if destination.port is not None else 0
    if found.service is None:
        context.reporter.report("IST0101", about, f"{field}.host", f"there is no Service {found.name}")
        return cluster_name(number or port, destination.subset, found.name), {}
    service = context.store.services[found.service]
    number = number or _implied_port(context, about, service, field, port)
    if destination.port is not None and all(entry.port != number for entry in service.tcp_ports):
        context.reporter.report("IST0101", about, f"{field}.port.number", f"Service {found.name} has no TCP port {number}")
    rules = context.rules(found.service)
    if destination.subset:
        _check_subset(context, about, destination.subset, f"{field}.subset", rules)
    return cluster_name(number, destination.subset, found.name), rules.variant_names(number, destination.subset, found.name)


def _implied_port(context: Context, about: VirtualService, service: Service, field: str, port: int) -> int:
    """Return the port of a destination that names none: the Service's only one, else the one the request arrived on."""
    ports = [entry.port for entry in service.tcp_ports]
    if len(ports) == 1:
        return ports[0]
    if port not in ports:
        message = f"the Service has several ports and not {port}, which requests arrive on"
        context.reporter.report("IST0112", about, field, message)
    return port


def _check_subset(context: Context, about: VirtualService, subset: str, field: str, rules: ServiceRules) -> None:
    if subset not in rules.base.subsets:
        context.reporter.report("IST0101", about, field, f"no DestinationRule has a subset {subset!r} of this host")
    for namespace, rule in rules.variants.items():
        if subset not in rule.subsets:
            message = f"the DestinationRule that callers of namespace {namespace} see has no subset {subset!r} of this host"
            context.reporter.report("IST0101", about, field, message)
