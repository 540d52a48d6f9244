"""Metrics of predictions, segments and events."""
