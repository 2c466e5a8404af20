# SPDX-License-Identifier: Apache-2.0
"""Every size limit of the HTTP/1.1 reader, with where its default comes from."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["REMEMBERED_BYTES", "Limits"]

REMEMBERED_BYTES = 1024
"""Heads up to this size are remembered, the last one per connection. Whoever keeps a connection often sends the very same head
again, and comparing costs 0.03 us where judging costs 4; a head that differs costs nothing more. The bound keeps an idle
connection small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what a peer may make us hold or scan. Sizes in bytes.

    Args:
        max_head_bytes: start line and fields together; over it 431. Envoy max_request_headers_kb: 60 KiB.
        max_fields: field lines of a head; over it 431. Envoy max_headers_count: 100.
        max_target_bytes: request-target; over it 414. RFC 9112 section 3 recommends at least 8,000 octets; twice that.
        max_chunk_line_bytes: a chunk-size line with its extensions. llhttp passes 20 KB; 256 holds any sane extension.
        max_chunk_extension_bytes: all extensions of one body together (RFC 9112 section 7.1.1 asks for a limit). 4 KiB.
        max_trailer_bytes: trailer section of one body. 8 KiB, as Go net/http's default for trailers read from a client.
        max_trailers: trailer field lines. A fifth of max_fields.
        max_informational: 1xx answers before the final one; Caddy stops after 5.
    """

    max_head_bytes: int = 60 * 1024
    max_fields: int = 100
    max_target_bytes: int = 16 * 1024
    max_chunk_line_bytes: int = 256
    max_chunk_extension_bytes: int = 4096
    max_trailer_bytes: int = 8192
    max_trailers: int = 20
    max_informational: int = 5
