# SPDX-License-Identifier: Apache-2.0
"""Attention as a heat map over the image.

`draw_attention` draws one frame; the overlay and the reports share it. `attention_sheet` draws a
whole window for reports.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from step_ros.images.region import Box
from step_ros.images.resize import cut_box, fitted_box
from step_ros.streaming.recogniser import StreamingRecogniser

# Opacity of the heat map at the hottest patch.
OPACITY = 0.7
# White margin around each image of a sheet, in pixels.
_GAP = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class NewestAttention:
    """Attention of a task's head to the patches of the newest frame of a window.

    Attributes:
        task: The task.
        weights_rc: Attention weight of each patch, in the rows and columns of the token grid.
        even: The weight of each patch if attention were even over the window.
    """

    task: str
    weights_rc: np.ndarray
    even: float


def newest_attention(
    recogniser: StreamingRecogniser, camera: str, task: str
) -> NewestAttention | None:
    """Return the attention of a task's head to the newest frame of the last hypothesis.

    Streaming heads compute it in any case, so it costs nothing extra.

    Returns:
        The attention. None if the heads run on whole windows, if they consume no patches, or if
        the camera has no hypothesis yet.

    Raises:
        ValueError: The bundle has no task of this name.
    """
    stream = recogniser.cameras.get(camera)
    backbone = recogniser.bundle.model.backbone
    if stream is None or stream.cache is None or backbone.consumed == 'cls':
        return None
    weights_n = stream.cache.newest_attention(task).cpu().numpy()
    if backbone.consumed == 'all':
        weights_n = weights_n[1:]  # the first is the CLS token, which has no place in the image
    if not weights_n.any() or not np.isfinite(weights_n).all():
        return None
    heads = stream.cache.heads
    even = 1 / (heads.frames * heads.tokens + (heads.cls_gc is not None))
    return NewestAttention(task=task, weights_rc=weights_n.reshape(backbone.token_grid), even=even)


def draw_attention(
    image_hw3: np.ndarray,
    weights_rc: np.ndarray,
    *,
    box: Box,
    low: float = 0.0,
    high: float | None = None,
) -> np.ndarray:
    """Draw the attention weights of a frame's patches over its image.

    Args:
        image_hw3: The camera's frame, uint8 RGB, of any size.
        weights_rc: Weights of its patches in the rows and columns of their grid, not negative.
        box: The part of the image that the encoder sees; the rest stays unchanged.
        low: Weights up to this value leave the image unchanged.
        high: The weight drawn hottest; None for the largest weight of the frame. Frames with the
            same `low` and `high` are comparable.

    Returns:
        The frame with the heat map, uint8 RGB, of the same size.

    Raises:
        ValueError: The weights have no rows and columns, or some are negative or not finite.
    """
    weights_rc = np.asarray(weights_rc, dtype=np.float32)
    if weights_rc.ndim != 2 or not weights_rc.size:
        raise ValueError(f'weights of shape {weights_rc.shape}; expected rows and columns')
    if not np.isfinite(weights_rc).all() or (weights_rc < 0).any():
        raise ValueError('weights are negative or not finite; expected attention weights')
    _, _, height, width = box
    high = float(weights_rc.max()) if high is None else high
    heat_rc = np.clip((weights_rc - low) / max(high - low, 1e-12), 0, 1)
    heat_hw = cv2.resize(heat_rc, (width, height), interpolation=cv2.INTER_LINEAR)
    colours_hw3 = cv2.applyColorMap((heat_hw * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    colours_hw3 = cv2.cvtColor(colours_hw3, cv2.COLOR_BGR2RGB)
    drawn = image_hw3.copy()
    seen_hw3 = cut_box(drawn, box)
    share_hw = OPACITY * heat_hw
    seen_hw3[:] = cv2.blendLinear(seen_hw3, colours_hw3, 1 - share_hw, share_hw)
    return drawn


def attention_sheet(
    images_thw3: np.ndarray,
    *maps_trc: np.ndarray,
    image_size: tuple[int, int],
) -> np.ndarray:
    """Return a picture of a window: a row of its frames, and below it a row for each map.

    Each map has its own scale. Patches up to the map's mean weight stay unchanged.

    Args:
        images_thw3: The frames, oldest first, uint8 RGB.
        maps_trc: Weights of the patch tokens of all frames, in the rows and columns of their
            grid. The maps may have different grids.
        image_size: Height and width of the encoder's input.
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
