# SPDX-License-Identifier: Apache-2.0
"""Encoders: images in, tokens out; one file for each runtime."""
