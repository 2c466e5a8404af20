# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 without IO: what a message head means, how a body is framed, what may be passed on.

Nothing here knows a socket, a clock or an event loop: bytes in, facts or a `HeadError` out. llhttp (through httptools) checks the
grammar of every head; the modules of this package add what it leaves to its user (RFC 9112 framing, Host and target rules,
limits) and build the heads that go on. A head is forwarded by cutting slices out of the very bytes that were checked, so nothing
travels on that was not parsed and judged.
"""
