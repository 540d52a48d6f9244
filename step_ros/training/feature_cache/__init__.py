# SPDX-License-Identifier: Apache-2.0
"""Encoded tokens on disk."""
