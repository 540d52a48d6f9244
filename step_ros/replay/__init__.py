"""Recorded bags through the recogniser, and a verdict."""
