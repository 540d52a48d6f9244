"""Bags played to a running perception node, and what it answers."""
