"""Encoders: images in, tokens out; one file for each runtime."""
