# SPDX-License-Identifier: Apache-2.0
"""Sources of images: a device, a video file, the synthetic tabletop."""
