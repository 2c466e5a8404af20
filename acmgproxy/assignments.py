# SPDX-License-Identifier: Apache-2.0
"""Settings from the command line: `--set NAME=VALUE` for every field of ProxySettings, `limits.` and a name for its Limits.

The fields are read off the dataclasses, so a new setting needs nothing here. What is refused is refused with the setting's name
and the reason, before anything is started.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, get_args, get_type_hints
from urllib.parse import urlsplit

from acmgproxy.h1.limits import Limits
from acmgproxy.io.forwarded import TrustedCallers
from acmgproxy.settings import ProxySettings

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SettingError", "parse_settings", "setting_names"]

_LIMITS = "limits."

_OPTIONS = {"workers": "--workers", "access_log": "--access-log"}
"""Settings that have options of their own."""

_MAY_BE_ZERO = frozenset({
    "drain_accept_s", "drain_timeout_s", "linger_timeout_s", "replay_buffer_bytes", "drained_body_bytes", "max_connections",
    "max_active_requests", "max_requests_per_connection", "max_memory_bytes", "recycle_after_requests",
    "recycle_above_memory_bytes", "access_log_min_status",
    "access_log_slower_than_s", "limits.max_chunk_extension_bytes", "limits.max_trailer_bytes", "limits.max_trailers",
    "limits.max_informational",
})  # fmt: skip
"""Where 0 means none, or no limit; any other number must be positive."""

_MAX_SECONDS = 366 * 86400.0


class SettingError(ValueError):
    """A setting cannot be as it is said. `name` is the setting."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"setting {name!r}: {reason}")
        self.name = name


def setting_names() -> dict[str, object]:
    """Return every setting that can be assigned, with its default."""
    default = ProxySettings()
    own = {one.name: getattr(default, one.name) for one in fields(default) if one.name not in {*_OPTIONS, "limits"}}
    return own | {_LIMITS + one.name: getattr(default.limits, one.name) for one in fields(default.limits)}


def parse_settings(assignments: Iterable[str], default: ProxySettings | None = None) -> ProxySettings:
    """Return the defaults with what is assigned; of several values for one setting the last counts.

    Raises:
        SettingError: there is no such setting, or the value is none for it.
    """
    types = {
        **get_type_hints(ProxySettings),
        **{_LIMITS + name: kind for name, kind in get_type_hints(Limits).items()},
    }
    known = setting_names()
    changes: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if name in _OPTIONS:
            raise SettingError(name, f"is set by {_OPTIONS[name]}")
        if name not in known:
            raise SettingError(name, f"there is no such setting; there are {', '.join(known)}")
        if not equals:
            raise SettingError(name, "expected NAME=VALUE")
        value = _parse(name, types[name], text)
        if name.startswith(_LIMITS):
            limits[name.removeprefix(_LIMITS)] = value
        else:
            changes[name] = value
    default = default if default is not None else ProxySettings()
    return replace(default, **changes, limits=replace(default.limits, **limits))


def _parse(name: str, kind: Any, text: str) -> object:
    if kind is int:
        if not (text.isascii() and text.isdecimal()):
            raise SettingError(name, f"expected a whole number, got {text!r}")
        return _checked(name, int(text))
    if name == "access_log_format":
        if text not in get_args(kind):
            raise SettingError(name, f"expected one of {', '.join(get_args(kind))}, got {text!r}")
        return text
    if name == "tracing_endpoint":
        return _parse_tracing_endpoint(name, text)
    if name in {"access_log_sampled", "tracing_sampling"}:
        return _parse_fraction(name, text)
    if kind is float:
        return _checked(name, _parse_seconds(name, text))
    assert name == "trusted_callers", f"no way to read a {kind} from text"
    networks = tuple(item for item in (item.strip() for item in text.split(",")) if item)
    try:
        TrustedCallers(networks)
    except ValueError as error:
        raise SettingError(name, str(error)) from error
    return networks


def _parse_seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.0 <= seconds <= _MAX_SECONDS:  # false for NaN as well
        raise SettingError(name, f"expected seconds, at most a year, got {text!r}")
    return seconds


def _parse_tracing_endpoint(name: str, text: str) -> str:
    try:
        url = urlsplit(text)
        is_url = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        is_url = False
    if text and not is_url:
        raise SettingError(name, f"expected a URL such as http://collector:4318/v1/traces, got {text!r}")
    if text and find_spec("opentelemetry") is None:
        raise SettingError(name, "tracing needs OpenTelemetry, which is not installed: pip install 'acmgproxy[otel]'")
    return text


def _parse_fraction(name: str, text: str) -> float:
    try:
        fraction = float(text)
    except ValueError:
        fraction = math.nan
    if not 0.0 <= fraction <= 1.0:  # false for NaN as well
        raise SettingError(name, f"expected a fraction between 0 and 1, got {text!r}")
    return fraction


def _checked(name: str, value: float) -> float:
    if not value and name not in _MAY_BE_ZERO:
        raise SettingError(name, "must be more than 0")
    return value
