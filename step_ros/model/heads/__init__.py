"""Heads: STEP, the probes and the temporal fusions of the papers, and their registry."""
