# SPDX-License-Identifier: Apache-2.0
"""acmgproxy: a centralized HTTP gateway for service meshes."""
