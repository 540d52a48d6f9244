"""Datasets, splits, video and bag reading, clip sampling and the synthetic tabletop."""
