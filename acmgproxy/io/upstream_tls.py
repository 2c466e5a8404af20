# SPDX-License-Identifier: Apache-2.0
"""TLS to an upstream (DestinationRule tls mode SIMPLE): contexts and the check of names.

Python's ssl module does the cryptography and checks the chain; here is only what a DestinationRule adds to it.
"""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from routing.specs import TlsSpec

__all__ = ["TlsNameError", "check_names", "tls_context"]


class TlsNameError(OSError):
    """The upstream's certificate is for none of the names that the DestinationRule allows."""


def tls_context(ca_file: str, *, is_verified: bool, has_names: bool) -> ssl.SSLContext:
    """Return a client context; equal settings share one, until the file changes.

    Args:
        ca_file: PEM file of certificate authorities, "" for the system's.
        is_verified: False for insecureSkipVerify.
        has_names: `check_names` will check the names, so OpenSSL does not compare them with the SNI.

    Raises:
        OSError: the file cannot be read or holds no certificate.
    """
    state = os.stat(ca_file) if ca_file else None
    version = (state.st_ino, state.st_size, state.st_mtime_ns) if state is not None else ()
    return _context(ca_file, version, is_verified=is_verified, has_names=has_names)


@lru_cache(maxsize=256)
def _context(ca_file: str, version: tuple[int, ...], *, is_verified: bool, has_names: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.check_hostname = is_verified and not has_names
    context.verify_mode = ssl.CERT_REQUIRED if is_verified else ssl.CERT_NONE
    return context


def check_names(transport: asyncio.BaseTransport, tls: TlsSpec) -> None:
    """See that the certificate carries one of `subject_alt_names`, if any are given.

    A wildcard in the certificate stands for one label, the first (RFC 9525 section 6.3).

    Raises:
        TlsNameError: it carries none.
    """
    if not tls.subject_alt_names or tls.insecure_skip_verify:
        return
    certificate = transport.get_extra_info("peercert") or {}
    names = {value.lower() if kind == "DNS" else value for kind, value in certificate.get("subjectAltName", ())}
    if not any(_is_among(names, name) for name in tls.subject_alt_names):
        raise TlsNameError(f"certificate is for {', '.join(sorted(names)) or 'no name'}, not {', '.join(tls.subject_alt_names)}")


def _is_among(names: set[str], wanted: str) -> bool:
    host = wanted.lower()
    return wanted in names or host in names or f"*.{host.partition('.')[2]}" in names
