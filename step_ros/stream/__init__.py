"""Time: frame sampling on a grid, windows and the streaming recogniser."""
