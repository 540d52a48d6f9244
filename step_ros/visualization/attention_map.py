"""Attention as a heat map over the image: the one drawing that overlays and reports use."""

from dataclasses import dataclass

import cv2
import numpy as np

from step_ros.images.region import Box
from step_ros.images.resize import cut_box, fitted_box
from step_ros.streaming.recogniser import StreamingRecogniser

# The hottest patch covers this share of the image below it.
STRONGEST = 0.7


@dataclass(frozen=True, kw_only=True, eq=False)
class NewestAttention:
    """How much the patches of a window's newest frame count in a task's answer.

    Attributes:
        task: The task.
        weights_rc: Attention that each patch gets, in the rows and columns of the token grid.
        even: What each would get if the attention were even over the window.
    """

    task: str
    weights_rc: np.ndarray
    even: float


def newest_attention(
    recogniser: StreamingRecogniser, camera: str, task: str
) -> NewestAttention | None:
    """Return where a task's head looked in the newest frame of its last answer.

    It falls off where heads stream; nothing is computed for it.

    Returns:
        None where there is none: heads that run on whole windows, or that see no patches, or no
        answer yet.

    Raises:
        ValueError: There is no such task.
    """
    stream = recogniser.cameras.get(camera)
    backbone = recogniser.bundle.model.backbone
    if stream is None or stream.cache is None or backbone.consumed == 'cls':
        return None
    weights_n = stream.cache.newest_attention(task).cpu().numpy()
    if backbone.consumed == 'all':
        weights_n = weights_n[1:]  # the first is the CLS token, which is nowhere in the image
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
    """Lay the attention weights of a frame's patches over its image.

    Args:
        image_hw3: The frame as the camera gave it, uint8 RGB, of any size.
        weights_rc: Weights of its patches in the rows and columns of their grid, none negative.
        box: The part of the image that the encoder sees; the rest stays as it is.
        low: Weights up to this one leave the image as it is.
        high: The weight drawn hottest; None for the frame's own largest. The frames of a window
            are comparable when they share both.

    Returns:
        The frame with the heat map, uint8 RGB, of the frame's size.

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
    share_hw = STRONGEST * heat_hw
    seen_hw3[:] = cv2.blendLinear(seen_hw3, colours_hw3, 1 - share_hw, share_hw)
    return drawn


# ---- Attention of a whole window as a picture, for reports.

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
