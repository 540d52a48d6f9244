# SPDX-License-Identifier: Apache-2.0
"""Frames in, hypotheses out: grid, window, queue, load shedding, worker threads."""
