# SPDX-License-Identifier: Apache-2.0
"""The fixed part of a view: the room, the person's body and the table, painted once per camera."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from step_ros.tabletop.appearance import TEXTURE_PX, Look, texture_image
from step_ros.tabletop.canvas import SceneCanvas, fixed_point
from step_ros.tabletop.geometry import NEAR_M, Camera, Solid, clip_near, to_pixels
from step_ros.tabletop.props import SHOULDER, SURFACES, body_solids, table_solids
from step_ros.tabletop.scene import TABLE_SIZE

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]

_FLOOR_Z = -0.72
_ROOM = (2.6, 2.2, 2.6)
_WALL_SHADE = {'back': 0.92, 'left': 0.80, 'right': 0.84, 'front': 0.88}


@dataclass(frozen=True, eq=False)
class Backdrop:
    """The fixed part of a view.

    Attributes:
        image: RGB image `[h, w, 3]`.
        ids: Index into `SURFACES` of every pixel, `[h, w]`.
        table_mask: 255 where the table top is visible, 0 elsewhere, at the size of the shadow map.
    """

    image: Image
    ids: Image
    table_mask: Image


def shadow_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the map in which soft shadows are painted.

    Args:
        size: Width and height of the image in pixels.

    Returns:
        Width and height of the shadow map.
    """
    factor = max(1, round(size[0] / 160))
    return max(1, size[0] // factor), max(1, size[1] // factor)


def paint_backdrop(look: Look, camera: Camera, size: tuple[int, int]) -> Backdrop:
    """Paint the fixed part of a view.

    Args:
        look: Textures, colours and light.
        camera: The view.
        size: Width and height in pixels.

    Returns:
        The backdrop.
    """
    # Textures are painted at twice the size and averaged, to avoid aliasing.
    large = (2 * size[0], 2 * size[1]) if size[0] <= 960 else size
    image = np.full((large[1], large[0], 3), 128, np.uint8)
    ids = np.zeros((large[1], large[0]), np.uint8)
    canvas = SceneCanvas(image, ids, camera)
    _paint_room(canvas, look)
    if not is_behind_person(camera):
        paint_solids(canvas, body_solids(look), look)
    paint_solids(canvas, table_solids(look), look)
    if camera.eye[2] > 0.0:
        _paint_table_top(canvas, look)
    if large != size:
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        ids = np.ascontiguousarray(ids[::2, ::2])
    table = np.where(ids == SURFACES.index('table'), 255, 0).astype(np.uint8)
    mask = cv2.resize(table, shadow_size(size), interpolation=cv2.INTER_AREA)
    return Backdrop(image, ids, np.asarray(mask, np.uint8))


def is_behind_person(camera: Camera) -> bool:
    """Return whether the camera sees the person from behind, so that the body hides the table.

    Args:
        camera: The view.

    Returns:
        True if the body must be painted last and is not part of the backdrop.
    """
    return camera.eye[1] < SHOULDER[1]


def paint_solids(canvas: SceneCanvas, solids: list[Solid], look: Look) -> None:
    """Paint solids that do not move, in the given order.

    Args:
        canvas: The canvas to paint on.
        solids: Solids in world coordinates.
        look: The light.
    """
    for solid in solids:
        points = canvas.camera.to_camera(solid.vertices_v3)
        pixels = fixed_point(to_pixels(points, canvas.matrix_33))
        normals = solid.normals_f3
        firsts = solid.vertices_v3[[face[0] for face in solid.faces]]
        facing = np.einsum('fc,fc->f', normals, firsts - canvas.camera.eye_3) < 0.0
        colours = look.shade(solid.colours_f3, normals).tolist()
        surface = SURFACES.index(solid.surface)
        canvas.paint_faces(solid, points, pixels, facing.tolist(), colours, surface)


def _paint_room(canvas: SceneCanvas, look: Look) -> None:
    x, y, z = _ROOM
    floor = _FLOOR_Z
    walls = {
        'back': ((-x, -y, z + floor), (2 * x, 0.0, 0.0), (0.0, 0.0, -z)),
        'left': ((-x, y, z + floor), (0.0, -2 * y, 0.0), (0.0, 0.0, -z)),
        'right': ((x, -y, z + floor), (0.0, 2 * y, 0.0), (0.0, 0.0, -z)),
        'front': ((x, y, z + floor), (-2 * x, 0.0, 0.0), (0.0, 0.0, -z)),
    }
    level = look.ambient + 0.35 * look.diffuse
    ground = texture_image(look.floor_texture)
    corners = ((-x, y, floor), (2 * x, 0.0, 0.0), (0.0, -2 * y, 0.0))
    _paint_plane(canvas, ground, *corners, 0.75 * level * look.gain)
    wall = texture_image(look.wall_texture)
    for name, (origin, u, v) in walls.items():
        _paint_plane(canvas, wall, origin, u, v, _WALL_SHADE[name] * level * look.gain)


def _paint_table_top(canvas: SceneCanvas, look: Look) -> None:
    x, y = TABLE_SIZE[0] / 2, TABLE_SIZE[1] / 2
    texture = texture_image(look.table_texture)
    level = look.ambient + look.diffuse * float(look.light[2])
    # The light falls off across the table, from the side it comes from.
    axis = np.linspace(-1.0, 1.0, TEXTURE_PX)
    slope = 0.10 * (look.light[0] * axis[None, :] - look.light[1] * axis[:, None])
    gain_hw3 = (1.0 + slope)[..., None] * (level * look.gain)
    corners = ((-x, y, 0.0), (2 * x, 0.0, 0.0), (0.0, -2 * y, 0.0))
    _paint_plane(canvas, texture, *corners, gain_hw3, surface=SURFACES.index('table'))


def _paint_plane(
    canvas: SceneCanvas,
    texture: Image,
    origin: tuple[float, float, float],
    u: tuple[float, float, float],
    v: tuple[float, float, float],
    gain: Floats,
    *,
    surface: int = 0,
) -> None:
    """Paint a textured parallelogram with a corner at `origin` and the edges `u` and `v`."""
    camera = canvas.camera
    corner = np.array(origin)
    corners = np.array([corner, corner + u, np.add(corner, u) + v, corner + v])
    polygon = clip_near(camera.to_camera(corners))
    spans = camera.rotation_33 @ np.column_stack([u, v, corner - camera.eye_3])
    to_image = canvas.matrix_33 @ spans @ np.diag([1 / TEXTURE_PX, 1 / TEXTURE_PX, 1.0])
    # A plane that is seen edge-on covers no pixel.
    if len(polygon) < 3 or abs(float(np.linalg.det(spans))) < NEAR_M * 1e-3:
        return
    outline = fixed_point(to_pixels(polygon, canvas.matrix_33))
    mask = np.zeros(canvas.image.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, outline, 255, cv2.LINE_8, 4)
    if not mask.any():
        return
    lit = np.minimum(texture * gain.astype(np.float32), 255.0).astype(np.uint8)
    warped = cv2.warpPerspective(
        lit, to_image, canvas.size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    cv2.copyTo(warped, mask, canvas.image)
    if canvas.ids is not None:
        canvas.ids[mask > 0] = surface
