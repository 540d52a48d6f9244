"""Encoded tokens on disk."""
