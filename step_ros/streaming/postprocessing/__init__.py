"""From hypotheses to fused and smoothed hypotheses, and to events."""
