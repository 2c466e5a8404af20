# SPDX-License-Identifier: Apache-2.0
"""`acmgctl`: what people do with a gateway's configuration from the outside. Nothing here is part of a running gateway."""
