"""A sheet lays heat maps below the frames of a window."""

import numpy as np

from step_ros.visualization.attention_map import attention_sheet


def test_a_sheet_shows_frames_and_maps():
    images = np.random.default_rng(0).integers(0, 255, (3, 60, 80, 3), dtype=np.uint8)
    rng = np.random.default_rng(1)
    maps = [rng.random((3, *grid)) for grid in ((3, 4), (1, 2))]  # tokens may be averaged in one
    sheet = attention_sheet(images, *maps, image_size=(60, 80))
    assert sheet.shape == (3 * 68, 3 * 88, 3)
    assert np.array_equal(sheet[4:64, 4:84], images[0])


def test_the_frames_of_a_window_share_a_scale():
    images = np.full((2, 60, 80, 3), 60, np.uint8)
    weights = np.stack([np.full((3, 4), 0.1), np.full((3, 4), 0.3)])
    sheet = attention_sheet(images, weights, image_size=(60, 80))
    cold, hot = sheet[72:132, 4:84], sheet[72:132, 92:172]
    assert np.array_equal(cold, images[0])
    assert (hot != images[1]).any(axis=2).all()
