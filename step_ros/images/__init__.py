# SPDX-License-Identifier: Apache-2.0
"""Pixels without torch: encodings, fields of image messages, resizing, region of interest."""
