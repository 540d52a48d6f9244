"""The synthetic tabletop: scenes, motion, rendering, datasets."""
