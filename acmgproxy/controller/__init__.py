# SPDX-License-Identifier: Apache-2.0
"""The controller: makes Services' ClusterIPs lead to the gateways, and undoes it.

    watches -> store -> view of one Service -> steps (pure) -> writes, one Service at a time
                          ^
    gateways: probes of every gateway pod; fail open when none is ready

What it decides is plain functions of what it sees (`eligibility`, `ports`, `desired`, `steps`): every decision is made anew from
the cluster's state, none from an event or from what was done before. So it may be stopped after any write and started again.
"""
