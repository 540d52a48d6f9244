# SPDX-License-Identifier: Apache-2.0
"""Recorded bags through the streaming recogniser, and scores of its hypotheses."""
