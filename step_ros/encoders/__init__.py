"""Encoders turn images into tokens: one file for each runtime."""
