"""Experiments of the papers: ablations, and the complexity of heads and adapters."""
