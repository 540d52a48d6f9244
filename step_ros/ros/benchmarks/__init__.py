"""Benchmarks over DDS: node, soak and transport."""
