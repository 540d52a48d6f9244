"""Incremental attention over a sliding window, in torch and in C++."""
