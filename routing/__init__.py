# SPDX-License-Identifier: Apache-2.0
"""Routing: what should happen to a request, as pure data and functions.

No sockets, clock, logging or asyncio in here: time and random numbers come in as arguments. The control side reads Kubernetes
objects (`routing.resources`), keeps them (`routing.store`) and translates them (`routing.translate`) into `routing.specs`; a
worker compiles specs into a table and asks it one question per request.
"""
