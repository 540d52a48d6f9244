"""Benchmarks that need no ROS: times of encoders, heads and the streaming recogniser."""
