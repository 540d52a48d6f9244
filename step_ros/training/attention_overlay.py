"""Attention of a whole window as a picture, for reports."""

import numpy as np

from step_ros.stream.overlay_attention import draw_attention
from step_ros.stream.preprocess import fitted_box

_GAP = 4


def attention_sheet(
    images_thw3: np.ndarray,
    *maps_trc: np.ndarray,
    image_size: tuple[int, int],
) -> np.ndarray:
    """Draw a window side by side: its frames, and below them each map on a scale of its own.

    A patch that gets no more than the mean weight of the window stays as it is.

    Args:
        images_thw3: The frames, oldest first, uint8 RGB.
        maps_trc: Weights of the patch tokens of all frames, laid out in the rows and columns of
            their grid, which need not be the same in all maps.
        image_size: Height and width that the encoder takes.
    """
    box = fitted_box((images_thw3.shape[1], images_thw3.shape[2]), image_size)
    rows = [list(images_thw3)]
    for weights_trc in maps_trc:
        low, high = float(weights_trc.mean()), float(weights_trc.max())
        rows.append(
            [
                draw_attention(image, weights_rc, box=box, low=low, high=high)
                for image, weights_rc in zip(images_thw3, weights_trc, strict=True)
            ]
        )
    margin = ((_GAP, _GAP), (_GAP, _GAP), (0, 0))
    framed = [[np.pad(image, margin, constant_values=255) for image in row] for row in rows]
    return np.vstack([np.hstack(row) for row in framed])
