# SPDX-License-Identifier: Apache-2.0
"""Translation: from the store of objects to the specs that workers compile, and what is to be said about the objects.

`translate` is a pure function of the whole store; `Translator` gives the same for a store that changes, each time at the cost of
what changed.

Order of reading: `_registry` (which hosts there are), `_listeners` (where requests come in), `_hosts` and `_candidates` (who may
own a host), `_rules` with `_delegates`, `_matches`, `_actions`, `_filters` and `_headers` (what a VirtualService says),
`_policies` and `_clusters` (what DestinationRules say), `_endpoints` and `_identities` (who is there), `_host_clusters` (a host's
part of all that), `_findings` and `_policy_findings` (what else is to be said), `_context`, `_memory` and `_translator` (how it
is done, and done again).
"""

from __future__ import annotations

from routing.translate._context import TranslateOptions
from routing.translate._endpoints import NamedEndpoint, resolved
from routing.translate._translator import Step, Translation, Translator, translate

__all__ = ["NamedEndpoint", "Step", "TranslateOptions", "Translation", "Translator", "resolved", "translate"]
