# SPDX-License-Identifier: Apache-2.0
"""The synthetic tabletop: scenes, motion, rendering, datasets."""
