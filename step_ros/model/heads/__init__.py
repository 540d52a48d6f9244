# SPDX-License-Identifier: Apache-2.0
"""Heads: STEP, the probes and the temporal fusions of the papers, and their registry."""
