"""Sources of images: a device, a video file, the synthetic tabletop."""
