# SPDX-License-Identifier: Apache-2.0
"""Incremental attention over a sliding window, in torch and in C++."""
