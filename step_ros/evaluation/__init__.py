# SPDX-License-Identifier: Apache-2.0
"""Metrics of predictions, segments and events."""
