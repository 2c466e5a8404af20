# SPDX-License-Identifier: Apache-2.0
"""Facts about settings from the command line."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from acmgproxy.assignments import SettingError, parse_settings, setting_names
from acmgproxy.h1.limits import Limits
from acmgproxy.settings import ProxySettings

NAMES = setting_names()
DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "standalone.md"
VALUES: dict[str, tuple[str, object]] = {
    "trusted_callers": ("10.0.0.0/8,::1", ("10.0.0.0/8", "::1")),
    "access_log_format": ("json", "json"),
    "access_log_sampled": ("0.25", 0.25),
    "tracing_endpoint": ("http://collector:4318/v1/traces", "http://collector:4318/v1/traces"),
    "tracing_sampling": ("0.25", 0.25),
}


def test_tracing_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acmgproxy.assignments.find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"pip install 'acmgproxy\[otel\]'"):
        parse_settings(["tracing_endpoint=http://collector:4318"])
    assert parse_settings(["tracing_endpoint="]) == ProxySettings()


def test_without_assignments_there_are_the_defaults() -> None:
    assert parse_settings(()) == ProxySettings()


def test_every_setting_can_be_assigned() -> None:
    assert set(NAMES) | {"workers", "access_log", "limits"} == (
        set(ProxySettings.__dataclass_fields__) | {f"limits.{name}" for name in Limits.__dataclass_fields__}
    )


@pytest.mark.parametrize("name", NAMES)
def test_each_is_read_as_what_it_is(name: str) -> None:
    default = NAMES[name]
    text, value = VALUES[name] if name in VALUES else ("7", type(default)(7))  # type: ignore[call-arg]
    settings = parse_settings([f"{name}={text}"])
    found = getattr(settings.limits, name.removeprefix("limits.")) if "." in name else getattr(settings, name)
    assert found == value
    assert type(found) is type(default)
    assert settings != ProxySettings()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(settings), type=ProxySettings) == settings


def test_several_add_up_and_the_last_counts() -> None:
    settings = parse_settings(["max_connections=1", "headers_timeout_s=2.5", "limits.max_fields=3", "max_connections=0"])
    assert settings == ProxySettings(max_connections=0, headers_timeout_s=2.5, limits=Limits(max_fields=3))


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        ("max_conections=5", "setting 'max_conections': there is no such setting; there are access_log_format, "),
        ("max_fields=5", "there is no such setting"),
        ("limits=5", "there is no such setting"),
        ("", "setting '': there is no such setting"),
        ("workers=5", "setting 'workers': is set by --workers"),
        ("access_log=-", "setting 'access_log': is set by --access-log"),
        ("max_connections", "setting 'max_connections': expected NAME=VALUE"),
        ("max_connections=", "expected a whole number, got ''"),
        ("max_connections=-1", "expected a whole number, got '-1'"),
        ("max_connections=1.5", "expected a whole number"),
        ("max_connections=٣", "expected a whole number"),
        ("pipeline_bytes=0", "setting 'pipeline_bytes': must be more than 0"),
        ("limits.max_fields=0", "setting 'limits.max_fields': must be more than 0"),
        ("headers_timeout_s=0", "must be more than 0"),
        ("headers_timeout_s=soon", "expected seconds"),
        ("headers_timeout_s=nan", "expected seconds"),
        ("headers_timeout_s=inf", "expected seconds"),
        ("headers_timeout_s=-1", "expected seconds"),
        ("access_log_format=xml", "expected one of text, json, got 'xml'"),
        ("access_log_sampled=1.5", "setting 'access_log_sampled': expected a fraction between 0 and 1, got '1.5'"),
        ("tracing_endpoint=collector", "expected a URL such as http://collector:4318/v1/traces, got 'collector'"),
        ("tracing_endpoint=http://[1/", "setting 'tracing_endpoint': expected a URL"),
        ("tracing_sampling=2", "setting 'tracing_sampling': expected a fraction"),
        ("access_log_sampled=some", "expected a fraction between 0 and 1, got 'some'"),
        ("trusted_callers=everybody", "setting 'trusted_callers': 'everybody' does not appear"),
    ],
)
def test_what_is_refused_is_named_with_the_reason(assignment: str, reason: str) -> None:
    with pytest.raises(SettingError) as caught:
        parse_settings([assignment])
    assert reason in str(caught.value)
    assert caught.value.name == assignment.partition("=")[0]


def test_every_setting_is_described_with_its_default() -> None:
    section = DOCUMENT.read_text(encoding="utf-8").partition("## Settings")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
    described = {name.strip("| `"): default for name, default, _ in rows}
    assert described == {name: "none" if default == () else str(default) for name, default in NAMES.items()}
