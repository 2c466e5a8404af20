# SPDX-License-Identifier: Apache-2.0
"""What a rule does besides routing: faults, cross-origin policy, mirrors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.specs import CorsSpec, FaultSpec, MirrorSpec, StringMatch
from routing.translate._destinations import known_destination

if TYPE_CHECKING:
    from collections.abc import Iterator

    from routing.resources.virtual_service import Abort, CorsPolicy, Delay, Destination, HTTPRoute, Percent
    from routing.resources.virtual_service import StringMatch as UserMatch
    from routing.translate._context import Context
    from routing.translate._delegates import PlacedRule

__all__ = ["translate_cors", "translate_fault", "translate_mirrors"]


def translate_fault(context: Context, placed: PlacedRule) -> FaultSpec | None:
    """Return the faults of a rule, None when none is ever injected."""
    fault = placed.rule.fault
    if fault is None:
        return None
    about, field = placed.place("fault")
    delay, abort = fault.delay, fault.abort
    for name, part in (("delay", delay), ("abort", abort)):
        if part is None:
            continue
        if part.percentage is None and not part.percent:
            message = f"without a percentage the {name} never happens"
            context.reporter.report("ACMG014", about, f"{field}.fault.{name}.percentage", message)
        if part.percent:
            context.reporter.report("ACMG013", about, f"{field}.fault.{name}.percent", "percent is now percentage.value")
    spec = FaultSpec(
        delay_s=float(delay.fixed_delay or 0.0) if delay is not None else 0.0,
        delay_percent=_share(delay) if delay is not None and delay.fixed_delay else 0.0,
        abort_status=(abort.http_status or 0) if abort is not None else 0,
        abort_percent=_share(abort) if abort is not None and abort.http_status else 0.0,
    )
    return spec if spec.delay_percent or spec.abort_percent else None


def _share(part: Delay | Abort) -> float:
    return part.percentage.value if part.percentage is not None else float(part.percent)


def translate_cors(context: Context, placed: PlacedRule) -> CorsSpec | None:
    """Return the cross-origin policy of a rule."""
    policy = placed.rule.cors_policy
    if policy is None:
        return None
    if policy.allow_origin:
        about, field = placed.place("cors_policy")
        message = "allowOrigin is now allowOrigins" + (", which is given and goes first" if policy.allow_origins else "")
        context.reporter.report("ACMG013", about, f"{field}.corsPolicy.allowOrigin", message)
    return CorsSpec(
        allow_origins=tuple(_origins(policy)),
        allow_methods=",".join(policy.allow_methods),
        allow_headers=",".join(policy.allow_headers),
        expose_headers=",".join(policy.expose_headers),
        max_age="" if policy.max_age is None else str(int(policy.max_age)),
        allow_credentials=policy.allow_credentials,
    )


def _origins(policy: CorsPolicy) -> Iterator[StringMatch]:
    if not policy.allow_origins:
        yield from (_origin(StringMatch(kind="exact", value=origin)) for origin in policy.allow_origin)
    for match in policy.allow_origins:
        yield _origin(_string(match))


def _string(match: UserMatch) -> StringMatch:
    if match.exact is not None:
        return StringMatch(kind="exact", value=match.exact)
    if match.prefix is not None:
        return StringMatch(kind="prefix", value=match.prefix)
    return StringMatch(kind="regex", value=match.regex or "")


def _origin(match: StringMatch) -> StringMatch:
    # Envoy asks whether an origin's matcher matches "*" itself: then any origin is allowed.
    is_any = match.value == "*" and match.kind in {"exact", "prefix"}
    return StringMatch(kind="regex", value=".*") if is_any else match


def translate_mirrors(context: Context, placed: PlacedRule, port: int) -> tuple[MirrorSpec, ...]:
    """Return where copies of a rule's requests go. A mirror to an unknown host is left out."""
    found = (_mirror(context, placed, *mirror, port) for mirror in _mirrors(context, placed))
    return tuple(mirror for mirror in found if mirror is not None)


def _mirrors(context: Context, placed: PlacedRule) -> Iterator[tuple[str, str, Destination, float]]:
    """Yield block, path below the rule, destination and share of each mirror."""
    rule = placed.rule
    if rule.mirror is not None:
        yield "mirror", "mirror", rule.mirror, _mirror_share(context, placed, rule)
    elif rule.mirror_percentage is not None:
        about, field = placed.place("mirror_percentage")
        context.reporter.report("ACMG014", about, f"{field}.mirrorPercentage", "there is no mirror that it could be the share of")
    for index, mirror in enumerate(rule.mirrors):
        yield "mirrors", f"mirrors[{index}].destination", mirror.destination, _value(mirror.percentage)


def _value(percentage: Percent | None) -> float:
    return 100.0 if percentage is None else percentage.value


def _mirror_share(context: Context, placed: PlacedRule, rule: HTTPRoute) -> float:
    """Return the share of `mirror`, of which the deprecated forms count only without the present one."""
    for block, name, value in (
        ("mirror_percent", "mirrorPercent", rule.mirror_percent),
        ("mirror_percent_old", "mirror_percent", rule.mirror_percent_old),
    ):
        if value is not None:
            about, field = placed.place(block)
            context.reporter.report("ACMG013", about, f"{field}.{name}", f"{name} is now mirrorPercentage.value")
    if rule.mirror_percentage is not None:
        return rule.mirror_percentage.value
    old = rule.mirror_percent if rule.mirror_percent is not None else rule.mirror_percent_old
    return 100.0 if old is None else float(old)


def _mirror(
    context: Context, placed: PlacedRule, block: str, path: str, destination: Destination, percent: float, port: int
) -> MirrorSpec | None:
    about, field = placed.place(block)
    known = known_destination(context, about, destination, f"{field}.{path}", port)
    if known is None or not percent:
        return None
    return MirrorSpec(cluster=known[0], percent=percent, by_namespace=known[1])
