# SPDX-License-Identifier: Apache-2.0
"""What a rule of a VirtualService does with a request: forward, redirect or answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.specs import ClusterRef, DirectResponseSpec, ForwardSpec, PathRewrite, RedirectSpec, RetrySpec
from routing.translate._destinations import destination_cluster
from routing.translate._filters import translate_mirrors
from routing.translate._headers import translate_headers

if TYPE_CHECKING:
    from typing import Literal

    from routing.resources import VirtualService
    from routing.resources.virtual_service import HTTPRedirect, HTTPRewrite, RouteDestination
    from routing.translate._context import Context
    from routing.translate._delegates import PlacedRule

__all__ = ["translate_action"]

LARGE_BODY_BYTES = 100_000
"""From here on Istio warns about a direct response's body."""

MEANINGLESS_TOKENS = {
    "http3-post-connect-failure": "endpoints are spoken to in HTTP/1.1",
    "retriable-headers": "a VirtualService cannot say which headers",
}
"""Retry conditions that are valid and can never be met, with the reason."""

FORWARDING = (
    ("timeout", "timeout"),
    ("retries", "retries"),
    ("fault", "fault"),
    ("mirror", "mirror"),
    ("mirrors", "mirrors"),
    ("cors_policy", "corsPolicy"),
)
"""Blocks of a rule, by attribute and field, that only matter for requests that are forwarded."""

_PORT_FROM: dict[str | None, Literal["", "protocol-default", "request-port"]] = {
    None: "",
    "FROM_PROTOCOL_DEFAULT": "protocol-default",
    "FROM_REQUEST_PORT": "request-port",
}


def translate_action(
    context: Context, placed: PlacedRule, *, port: int, host_rewrite: str
) -> ForwardSpec | RedirectSpec | DirectResponseSpec:
    """Return a rule's action.

    Args:
        context: The translation.
        placed: The rule; not one that delegates.
        port: Service port the request arrived on.
        host_rewrite: Host that the rule's header operations set.
    """
    rule, about, field = placed.rule, placed.about, placed.field
    if rule.redirect is not None or rule.direct_response is not None:
        _report_useless(context, placed)
    if rule.redirect is not None:
        return _redirect(rule.redirect)
    if rule.direct_response is not None:
        body = rule.direct_response.body
        content = b"" if body is None else body.data or (body.text or "").encode()
        if len(content) > LARGE_BODY_BYTES:
            context.reporter.report("ACMG012", about, f"{field}.directResponse.body", f"the body has {len(content)} bytes")
        return DirectResponseSpec(status=rule.direct_response.status, body=content)
    rewrite = rule.rewrite
    host = (rewrite.authority if rewrite is not None else "") or host_rewrite
    return ForwardSpec(
        clusters=_clusters(context, about, rule.route, f"{field}.route", port, host),
        timeout_s=float(rule.timeout or 0.0),
        retry=_retry(context, placed),
        path_rewrite=_path_rewrite(rewrite),
        host_rewrite=host,
        mirrors=translate_mirrors(context, placed, port),
    )


def _report_useless(context: Context, placed: PlacedRule) -> None:
    """Report blocks that say what happens on the way to an endpoint, of a rule that leads to none."""
    action = "redirect" if placed.rule.redirect is not None else "directResponse"
    for block, name in FORWARDING:
        if getattr(placed.rule, block) not in (None, ()):
            about, field = placed.place(block)
            context.reporter.report("ACMG014", about, f"{field}.{name}", f"it has no effect beside {action}")


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


def _retry(context: Context, placed: PlacedRule) -> RetrySpec:
    retries = placed.rule.retries
    if retries is None:
        return RetrySpec()
    about, field = placed.place("retries")
    if not retries.attempts:
        if retries.retry_on or retries.per_try_timeout is not None or retries.retry_remote_localities is not None:
            message = "without attempts the block switches retries off"
            context.reporter.report("ACMG009", about, f"{field}.retries.attempts", message)
        return RetrySpec(attempts=0)
    tokens: list[str] = []
    codes: list[int] = []
    for token in (part.strip() for part in retries.retry_on.split(",") if retries.retry_on):
        if token.isdigit():
            codes.append(int(token))
        else:
            tokens.append(token)
        if token in MEANINGLESS_TOKENS:
            message = f"{token} never holds: {MEANINGLESS_TOKENS[token]}"
            context.reporter.report("ACMG001", about, f"{field}.retries.retryOn", message)
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
        cluster, by_namespace = destination_cluster(context, about, entry.destination, f"{where}.destination", port)
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
