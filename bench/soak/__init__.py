# SPDX-License-Identifier: Apache-2.0
"""Hours in the life of a gateway, made short. See `bench.soak.command`.

`run` starts everything and does the harm, `clients` and `upstream` are processes of their own, `world` is the cluster, `verdict`
judges what was recorded (`records`), `document` tells it.
"""
