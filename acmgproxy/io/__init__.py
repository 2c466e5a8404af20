# SPDX-License-Identifier: Apache-2.0
"""Sockets: the only place of the data plane that touches them.

A client connection is a `Downstream`, a connection to an endpoint an `Upstream`, one request on its way an `Exchange`. They are
`asyncio` protocols and plain objects; no task runs per request.
"""
