"""Pixels without torch: encodings, fields of image messages, resizing, region of interest."""
