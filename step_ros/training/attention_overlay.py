"""Attention as a heat map over the image: the one function that overlays and reports use."""

import cv2
import numpy as np

from step_ros.stream.preprocess import fitted_box

# The hottest patch covers this share of the image below it.
STRONGEST = 0.7
_GAP = 4


def draw_attention(
    image_hw3: np.ndarray,
    weights_n: np.ndarray,
    *,
    grid_size: tuple[int, int],
    image_size: tuple[int, int],
    low: float = 0.0,
    high: float | None = None,
) -> np.ndarray:
    """Lay the attention weights of a frame's patches over its image.

    Args:
        image_hw3: The frame as the camera gave it, uint8 RGB, of any size.
        weights_n: Weights of its patches, row by row from the top left, none negative.
        grid_size: Rows and columns of patches.
        image_size: Height and width that the encoder takes; what it does not see stays as it is.
        low: Weights up to this one leave the image as it is.
        high: The weight drawn hottest; None for the frame's own largest. The frames of a window
            are comparable when they share both.

    Returns:
        The frame with the heat map, uint8 RGB, of the frame's size.

    Raises:
        ValueError: There are not rows times columns weights, or some are negative or not finite.
    """
    weights = np.asarray(weights_n, dtype=np.float32)
    rows, columns = grid_size
    if weights.shape != (rows * columns,):
        raise ValueError(
            f'weights of shape {weights.shape}: expected {rows} x {columns} = {rows * columns}'
        )
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError('weights are negative or not finite; expected attention weights')
    top, left, height, width = fitted_box((image_hw3.shape[0], image_hw3.shape[1]), image_size)
    high = float(weights.max()) if high is None else high
    heat = np.clip((weights.reshape(rows, columns) - low) / max(high - low, 1e-12), 0, 1)
    heat = cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    colours = cv2.cvtColor(colours, cv2.COLOR_BGR2RGB).astype(np.float32)
    drawn = image_hw3.copy()
    seen = drawn[top : top + height, left : left + width].astype(np.float32)
    share = STRONGEST * heat[..., None]
    mixed = (1 - share) * seen + share * colours
    drawn[top : top + height, left : left + width] = np.rint(mixed).astype(np.uint8)
    return drawn


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
    rows = [list(images_thw3)]
    for weights_trc in maps_trc:
        low, high = float(weights_trc.mean()), float(weights_trc.max())
        rows.append(
            [
                draw_attention(
                    image,
                    weights_rc.ravel(),
                    grid_size=weights_rc.shape,
                    image_size=image_size,
                    low=low,
                    high=high,
                )
                for image, weights_rc in zip(images_thw3, weights_trc, strict=True)
            ]
        )
    margin = ((_GAP, _GAP), (_GAP, _GAP), (0, 0))
    framed = [[np.pad(image, margin, constant_values=255) for image in row] for row in rows]
    return np.vstack([np.hstack(row) for row in framed])
