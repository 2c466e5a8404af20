# SPDX-License-Identifier: Apache-2.0
"""The compiled route table: specs in, one question answered per request.

    specs -> rule_set (rules, shared) -> virtual_host (views per caller) -> index (which entry wins) -> route
                                         hosts (Host -> virtual host)

Pure: no clock, no random source, no IO. `RouteTable` is the facade.
"""

from __future__ import annotations

from routing.request import RequestView
from routing.table.head import Caller
from routing.table.paths import RewriteError
from routing.table.replies import Reply
from routing.table.route import Destination, Mirror, Route
from routing.table.table import CompiledListener, RouteTable, TableChange
from routing.table.virtual_host import CompiledVirtualHost

__all__ = [
    "Caller",
    "CompiledListener",
    "CompiledVirtualHost",
    "Destination",
    "Mirror",
    "Reply",
    "RequestView",
    "RewriteError",
    "Route",
    "RouteTable",
    "TableChange",
]
