"""Recorded bags through the streaming recogniser, and scores of its hypotheses."""
