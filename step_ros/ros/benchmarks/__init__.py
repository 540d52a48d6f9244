# SPDX-License-Identifier: Apache-2.0
"""Benchmarks over DDS: node, soak and transport."""
