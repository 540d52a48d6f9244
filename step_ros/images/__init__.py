"""Pixels without torch: encodings, message fields, resizing, the region of interest."""
