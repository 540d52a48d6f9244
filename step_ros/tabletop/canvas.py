# SPDX-License-Identifier: Apache-2.0
"""A canvas for polygons and capsules, with a map of the surface that each pixel shows."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from step_ros.tabletop.geometry import NEAR_M, Camera, Solid, clip_near, to_pixels

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]

_SHIFT = 4
_ONE = 1 << _SHIFT
# OpenCV's fixed-point coordinates overflow far outside the image, where nothing is visible.
_FAR = float(1 << 19)
_HALF_CIRCLE = np.linspace(-1.0, 1.0, 7)


def fixed_point(points_n2: Floats) -> NDArray[np.int32]:
    """Round pixels to the fixed-point numbers that OpenCV draws with.

    Args:
        points_n2: Points in pixels.

    Returns:
        Points in sixteenths of a pixel, `[n, 2]`.
    """
    return np.clip(np.rint(points_n2 * _ONE), -_FAR, _FAR).astype(np.int32)


class SceneCanvas:
    """Paints on an image and, on request, on a map of the surface that each pixel shows."""

    def __init__(self, image: Image, ids: Image | None, camera: Camera) -> None:
        """Start painting.

        Args:
            image: RGB image to paint on, in place.
            ids: Surface map of the same height and width, painted in place, or None.
            camera: The camera of the view.
        """
        self.image = image
        self.ids = ids
        self.camera = camera
        self.size = (image.shape[1], image.shape[0])
        self.matrix_33 = camera.matrix(self.size)

    def fill(self, points_n2: NDArray[np.int32], colour: list[float], surface: int) -> None:
        """Fill a polygon.

        Args:
            points_n2: Corners in sixteenths of a pixel.
            colour: RGB, 0 to 255.
            surface: Index into `SURFACES`.
        """
        # Only gears have a notched outline, which is not convex. It has more corners than any
        # other face.
        if len(points_n2) > 24:
            cv2.fillPoly(self.image, [points_n2], colour, cv2.LINE_AA, _SHIFT)
            if self.ids is not None:
                cv2.fillPoly(self.ids, [points_n2], surface, cv2.LINE_8, _SHIFT)
            return
        cv2.fillConvexPoly(self.image, points_n2, colour, cv2.LINE_AA, _SHIFT)
        if self.ids is not None:
            cv2.fillConvexPoly(self.ids, points_n2, surface, cv2.LINE_8, _SHIFT)

    def paint_faces(
        self,
        solid: Solid,
        camera_v3: Floats,
        pixels_v2: NDArray[np.int32],
        visible: list[bool],
        colours: list[list[float]],
        surface: int,
    ) -> None:
        """Paint the visible faces of a solid.

        Args:
            solid: The solid.
            camera_v3: Its vertices in camera metres.
            pixels_v2: Its vertices in sixteenths of a pixel.
            visible: Whether each face is turned to the camera.
            colours: RGB of every face, 0 to 255.
            surface: Index into `SURFACES`.
        """
        cut = bool(camera_v3[:, 2].min() < NEAR_M)
        for face, seen, colour in zip(solid.index_faces, visible, colours, strict=True):
            if not seen:
                continue
            if cut:
                polygon = clip_near(camera_v3[face])
                if len(polygon) < 3:
                    continue
                self.fill(fixed_point(to_pixels(polygon, self.matrix_33)), colour, surface)
            else:
                self.fill(pixels_v2[face], colour, surface)


def capsule_outlines(
    first_n3: Floats, second_n3: Floats, radii_n2: Floats, matrix_33: Floats
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the outlines of capsules as a camera sees them.

    Args:
        first_n3: Centres of the first balls in camera metres.
        second_n3: Centres of the second balls in camera metres.
        radii_n2: Radii of both balls in metres.
        matrix_33: Intrinsic matrix.

    Returns:
        Convex polygons in sixteenths of a pixel, `[n, 14, 2]`, and whether each can be seen.
    """
    near = NEAR_M + radii_n2.max(axis=1)
    seen = (first_n3[:, 2] > near) | (second_n3[:, 2] > near)
    first, second = _pull(first_n3, second_n3, near), _pull(second_n3, first_n3, near)
    focal = matrix_33[0, 0]
    p, q = to_pixels(first, matrix_33), to_pixels(second, matrix_33)
    rp = radii_n2[:, 0] * focal / np.maximum(first[:, 2], NEAR_M)
    rq = radii_n2[:, 1] * focal / np.maximum(second[:, 2], NEAR_M)
    along = q - p
    length = np.hypot(along[:, 0], along[:, 1])
    heading = np.arctan2(along[:, 1], along[:, 0])
    # Where the larger ball hides the other one, the lean is 0 or pi: its arc is a circle.
    lean = np.arccos(np.clip((rp - rq) / np.maximum(length, 1e-9), -1.0, 1.0))
    spread_q = heading[:, None] + _HALF_CIRCLE * lean[:, None]
    spread_p = heading[:, None] + math.pi + _HALF_CIRCLE * (math.pi - lean)[:, None]
    points = np.concatenate([_arc(q, rq, spread_q), _arc(p, rp, spread_p)], axis=1)
    return fixed_point(points), seen


def _arc(centre_n2: Floats, radius_n: Floats, angles_na: Floats) -> Floats:
    """Return points on circles at the given angles, `[n, a, 2]`."""
    circle = np.stack([np.cos(angles_na), np.sin(angles_na)], axis=2)
    return np.asarray(centre_n2[:, None] + radius_n[:, None, None] * circle)


def _pull(points_n3: Floats, others_n3: Floats, near_n: Floats) -> Floats:
    """Move ends that lie behind the near plane along the capsule to that plane."""
    short = points_n3[:, 2] < near_n
    if not short.any():
        return points_n3
    run = others_n3[:, 2] - points_n3[:, 2]
    share = np.where(short & (run > 1e-9), (near_n - points_n3[:, 2]) / np.maximum(run, 1e-9), 0.0)
    return points_n3 + np.clip(share, 0.0, 1.0)[:, None] * (others_n3 - points_n3)
