"""The perception node."""
