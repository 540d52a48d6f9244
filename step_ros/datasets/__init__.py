# SPDX-License-Identifier: Apache-2.0
"""Labelled clips: schema, splits, sampling, checks and recording."""
