# SPDX-License-Identifier: Apache-2.0
"""From hypotheses to fused and smoothed hypotheses, and to events."""
