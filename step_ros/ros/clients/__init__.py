# SPDX-License-Identifier: Apache-2.0
"""Clients that listen to a perception node."""
