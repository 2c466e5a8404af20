# SPDX-License-Identifier: Apache-2.0
"""Discovery: where objects come from, and the way from objects to specs.

A source (`files`) tells which objects there are; the `pipeline` keeps them in a store, has `routing` translate the store, and
publishes what changed; `dns` looks up the endpoints that objects give by name. Everything here runs in the supervisor, never in a
worker.
"""
