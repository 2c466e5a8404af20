# SPDX-License-Identifier: Apache-2.0
"""Facts about the command line."""

from __future__ import annotations

import runpy
import sys
from importlib import metadata
from pathlib import Path

import pytest

from acmgproxy import app as app_module
from acmgproxy import processors
from acmgproxy.app import KubernetesOptions, RunOptions, release
from acmgproxy.cli import main, parse_address
from acmgproxy.h1.limits import Limits
from acmgproxy.settings import ProxySettings


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", ["acmgproxy", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[RunOptions]:
    seen: list[RunOptions] = []

    def run_gateway(options: RunOptions) -> int:
        seen.append(options)
        return 5

    monkeypatch.setattr(app_module, "run_gateway", run_gateway)
    return seen


def test_run_hands_its_options_over_and_ends_with_the_gateways_code(
    monkeypatch: pytest.MonkeyPatch, seen: list[RunOptions]
) -> None:
    options = ["--config", "/x", "--workers", "3", "--admin", "[::1]:0", "--access-log", "-", "--shared-port", "0"]
    assert run(monkeypatch, "run", *options) == 5
    assert seen == [RunOptions(directory=Path("/x"), workers=3, admin=("::1", 0), access_log="-", shared_port=0)]


def test_run_has_defaults(monkeypatch: pytest.MonkeyPatch, seen: list[RunOptions]) -> None:
    monkeypatch.setattr(processors, "usable_processors", lambda: 3)
    run(monkeypatch, "run", "--config", "/x")
    assert seen == [RunOptions(directory=Path("/x"), workers=3, admin=("127.0.0.1", 15000), access_log="off", shared_port=15080)]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--config", "/x", "--workers", "0"),
        ("--config", "/x", "--admin", "15000"),
        ("--config", "/x", "--shared-port", "65536"),
        ("--config", "/x", "--health", "15021"),
        ("--kubernetes", "--listen", "gateway"),
    ],
)
def test_what_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, seen: list[RunOptions], arguments: tuple[str, ...]
) -> None:
    assert run(monkeypatch, "run", *arguments) not in {0, 5}
    assert not seen


def test_run_in_a_cluster_hands_its_options_over(monkeypatch: pytest.MonkeyPatch, seen: list[RunOptions]) -> None:
    monkeypatch.setenv("POD_IPS", "10.1.2.3")
    options = ["--kubeconfig", "/k", "--context", "c", "--listen", "127.0.0.9", "--listen", "::1", "--health", "127.0.0.9:1"]
    assert run(monkeypatch, "run", "--kubernetes", *options, "--workers", "1") == 5
    (options_seen,) = seen
    assert options_seen.directory is None
    assert options_seen.kubernetes == KubernetesOptions(kubeconfig=Path("/k"), context="c", listen=("127.0.0.9", "::1"))
    assert options_seen.health == ("127.0.0.9", 1)
    assert options_seen.admin == ("127.0.0.1", 15000)
    assert options_seen.settings == ProxySettings(drain_accept_s=10.0)


@pytest.mark.parametrize(
    ("pod_ips", "listen", "health"),
    [
        ("", ("0.0.0.0",), "0.0.0.0"),
        ("10.1.2.3", ("10.1.2.3",), "0.0.0.0"),
        ("10.1.2.3, fd00::3", ("10.1.2.3", "fd00::3"), "::"),
    ],
)
def test_a_pod_listens_on_its_own_addresses(
    monkeypatch: pytest.MonkeyPatch, seen: list[RunOptions], pod_ips: str, listen: tuple[str, ...], health: str
) -> None:
    monkeypatch.setenv("POD_IPS", pod_ips)
    run(monkeypatch, "run", "--kubernetes", "--set", "drain_accept_s=0")
    assert seen[0].kubernetes == KubernetesOptions(listen=listen)
    assert seen[0].health == (health, 15021)
    assert seen[0].settings.drain_accept_s == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give --config DIR for objects in files, or --kubernetes"),
        (("--config", "/x", "--kubernetes"), "--config and --kubernetes exclude each other"),
        (("--config", "/x", "--context", "c"), "belong to --kubernetes"),
        (("--config", "/x", "--kubeconfig", "/k"), "belong to --kubernetes"),
        (("--config", "/x", "--listen", "127.0.0.1"), "belong to --kubernetes"),
    ],
)
def test_a_gateway_has_one_source_of_objects(
    monkeypatch: pytest.MonkeyPatch,
    seen: list[RunOptions],
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    assert run(monkeypatch, "run", *arguments) == 2
    assert not seen
    assert words in capsys.readouterr().err


def test_settings_are_handed_over(monkeypatch: pytest.MonkeyPatch, seen: list[RunOptions]) -> None:
    assert run(monkeypatch, "run", "--config", "/x", "--set", "max_connections=7", "--set", "limits.max_fields=9") == 5
    assert seen[0].settings == ProxySettings(max_connections=7, limits=Limits(max_fields=9))


def test_a_setting_that_does_not_exist_is_named(
    monkeypatch: pytest.MonkeyPatch, seen: list[RunOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "run", "--config", "/x", "--set", "max_fields=7") not in {0, 5}
    assert not seen
    assert "setting 'max_fields'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", ":1", "host", "host:", "host:http", "host:65536", "host:-1", "host:٣"])
def test_addresses_are_host_and_port(text: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        parse_address(text)


def test_the_version_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "version") in {0, None}
    assert run(monkeypatch, "--version") in {0, None}
    assert capsys.readouterr().out == f"{release()}\n" * 2


def test_the_demo_is_called_with_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    from acmgproxy.demo import command  # noqa: PLC0415 - as the command does
    from acmgproxy.demo.scenario import DEFAULT_DURATION_S  # noqa: PLC0415

    calls: list[dict[str, object]] = []

    def run_demo(**options: object) -> int:
        calls.append(options)
        return 3

    monkeypatch.setattr(command, "run_demo", run_demo)
    assert run(monkeypatch, "demo", "--duration", "1.5", "--json") == 3
    assert run(monkeypatch, "demo", "--serve") == 3
    assert calls == [
        {"duration_s": 1.5, "as_json": True, "serve": False},
        {"duration_s": DEFAULT_DURATION_S, "as_json": False, "serve": True},
    ]


@pytest.mark.parametrize("module", ["acmgproxy", "acmgproxy.cli"])
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_the_package_is_the_command(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setattr(sys, "argv", ["acmgproxy", "version"])
    with pytest.raises(SystemExit):
        runpy.run_module(module, run_name="__main__")


def test_a_source_tree_has_no_release(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert release() == "unknown"
