# SPDX-License-Identifier: Apache-2.0
"""Benchmarks that need no ROS: times of encoders, heads and the streaming recogniser."""
