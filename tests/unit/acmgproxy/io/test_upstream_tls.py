# SPDX-License-Identifier: Apache-2.0
"""acmgproxy.io.upstream_tls: contexts are strict, and shared for as long as their file stays; names are checked."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
import trustme

from acmgproxy.io.upstream_tls import TlsNameError, check_names, tls_context
from routing.specs import TlsSpec

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def certified(*names: tuple[str, str]) -> Any:
    transport = Mock()
    transport.get_extra_info.return_value = {"subjectAltName": names} if names else None
    return transport


class TestContexts:
    def test_they_verify(self, ca_file: str) -> None:
        context = tls_context(ca_file, is_verified=True, has_names=False)
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
        assert len(context.get_ca_certs()) == 1, "the given authority and no other"

    def test_names_of_one_s_own_replace_the_host_name(self, ca_file: str) -> None:
        context = tls_context(ca_file, is_verified=True, has_names=True)
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert not context.check_hostname

    @pytest.mark.parametrize("has_names", [False, True])
    def test_insecure(self, *, has_names: bool) -> None:
        context = tls_context("", is_verified=False, has_names=has_names)
        assert context.verify_mode is ssl.CERT_NONE
        assert not context.check_hostname

    def test_the_system_s_authorities(self) -> None:
        context = tls_context("", is_verified=True, has_names=False)
        assert context.verify_mode is ssl.CERT_REQUIRED

    def test_equal_settings_share_one(self, ca_file: str) -> None:
        one = tls_context(ca_file, is_verified=True, has_names=False)
        assert tls_context(ca_file, is_verified=True, has_names=False) is one
        assert tls_context(ca_file, is_verified=True, has_names=True) is not one

    def test_a_changed_file_is_read_again(self, ca_file: str) -> None:
        one = tls_context(ca_file, is_verified=True, has_names=False)
        trustme.CA().cert_pem.write_to_path(ca_file)
        other = tls_context(ca_file, is_verified=True, has_names=False)
        assert other.get_ca_certs() != one.get_ca_certs()

    def test_files_that_are_of_no_use(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            tls_context(str(tmp_path / "none.pem"), is_verified=True, has_names=False)
        (tmp_path / "bad.pem").write_text("no certificate")
        with pytest.raises(ssl.SSLError, match="no certificate"):
            tls_context(str(tmp_path / "bad.pem"), is_verified=True, has_names=False)


class TestNames:
    @pytest.mark.parametrize(
        ("wanted", "certificate"),
        [
            ((), (("DNS", "any.example"),)),
            (("a.example",), (("DNS", "b.example"), ("DNS", "A.example"))),
            (("A.EXAMPLE",), (("DNS", "a.example"),)),
            (("b.example", "a.example"), (("DNS", "a.example"),)),
            (("a.b.example",), (("DNS", "*.b.example"),)),
            (("spiffe://cluster.local/ns/Default/sa/web",), (("URI", "spiffe://cluster.local/ns/Default/sa/web"),)),
            (("10.0.0.1",), (("IP Address", "10.0.0.1"),)),
        ],
    )
    def test_one_is_enough(self, wanted: tuple[str, ...], certificate: tuple[tuple[str, str], ...]) -> None:
        check_names(certified(*certificate), TlsSpec(subject_alt_names=wanted))

    @pytest.mark.parametrize(
        ("wanted", "certificate"),
        [
            ("a.example", (("DNS", "b.example"),)),
            ("a.example", ()),
            ("a.example", (("DNS", "xa.example"),)),
            ("b.example", (("DNS", "*.b.example"),)),
            ("x.a.b.example", (("DNS", "*.b.example"),)),
            ("spiffe://cluster.local/ns/default/sa/web", (("URI", "spiffe://cluster.local/ns/default/sa/other"),)),
        ],
    )
    def test_none(self, wanted: str, certificate: tuple[tuple[str, str], ...]) -> None:
        with pytest.raises(TlsNameError, match="certificate is for"):
            check_names(certified(*certificate), TlsSpec(subject_alt_names=(wanted,)))

    def test_insecure_checks_nothing(self) -> None:
        check_names(certified(), TlsSpec(subject_alt_names=("a.example",), insecure_skip_verify=True))
