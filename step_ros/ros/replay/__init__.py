# SPDX-License-Identifier: Apache-2.0
"""Bags played to a running perception node, and what it answers."""
