"""Labelled clips: schema, splits, sampling, checks and recording."""
