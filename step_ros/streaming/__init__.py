"""Frames in, hypotheses out: grid, window, queue, load shedding, worker threads."""
