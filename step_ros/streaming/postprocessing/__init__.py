"""From hypotheses to fused, smoothed answers and events."""
