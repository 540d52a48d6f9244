# SPDX-License-Identifier: Apache-2.0
"""Solids made of flat faces, and pinhole cameras that project them.

Solids are the building blocks of everything but the hand. World coordinates, in metres: the origin
is the middle of the table top, x points to the person's right, y away from the person and z up.
Camera coordinates: x right, y down, z forward.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rgb = Floats
Vector = tuple[float, float, float]

NEAR_M = 0.05
"""Distance of the near plane: nothing nearer to the camera is drawn."""

CAMERA_NAMES = ('front', 'side', 'top')
"""Named views: from across the table, from the person's right, and from above."""

# Eye, target, vertical field of view and up direction of each named view.
_VIEWS: dict[str, tuple[Vector, Vector, float, Vector]] = {
    'front': ((0.0, 1.00, 0.74), (-0.02, -0.09, 0.03), 41.0, (0.0, 0.0, 1.0)),
    'side': ((1.10, 0.22, 0.68), (-0.02, -0.02, 0.03), 42.0, (0.0, 0.0, 1.0)),
    'top': ((0.0, -0.02, 1.38), (0.0, -0.03, 0.0), 41.0, (0.0, -1.0, 0.0)),
}


@dataclass(frozen=True, eq=False)
class Solid:
    """A body that looks right when its visible faces are painted in their order.

    Faces wind counter-clockwise seen from outside. A flat picture on a face is a separate face
    that comes later.

    Attributes:
        surface: The surface that its pixels show, one of `props.SURFACES`.
        frame: Name of the moving frame of its vertices.
        vertices_v3: Vertices in metres, in that frame.
        faces: Vertex indices of every face.
        colours_f3: RGB of every face, 0 to 255.
        bias: Metres added to its distance when solids are sorted by distance.
        shadow: Whether it casts a shadow.
    """

    surface: str
    frame: str
    vertices_v3: Floats
    faces: tuple[tuple[int, ...], ...]
    colours_f3: Floats
    bias: float = 0.0
    shadow: bool = True

    @cached_property
    def index_faces(self) -> tuple[NDArray[np.intp], ...]:
        """Vertex indices of the faces, as arrays."""
        return tuple(np.array(face, np.intp) for face in self.faces)

    @cached_property
    def normals_f3(self) -> Floats:
        """Outward unit normals of the faces."""
        normals = np.zeros((len(self.faces), 3))
        for count in {len(face) for face in self.faces}:
            rows = [k for k, face in enumerate(self.faces) if len(face) == count]
            corners = self.vertices_v3[[self.faces[k] for k in rows]]
            # Newell's sum is also right for faces with many corners or a notch.
            normals[rows] = np.cross(corners, np.roll(corners, -1, axis=1)).sum(axis=1)
        return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1), 1e-12)[:, None])

    def moved(
        self,
        offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
        yaw: float = 0.0,
        *,
        lay: bool = False,
    ) -> Solid:
        """Return the same solid elsewhere in its frame.

        Args:
            offset: Translation in metres, applied last.
            yaw: Rotation about z in radians.
            lay: Whether to turn the z axis to the x axis first.

        Returns:
            The moved solid.
        """
        points = self.vertices_v3
        if lay:
            points = points[:, [2, 0, 1]]
        c, s = math.cos(yaw), math.sin(yaw)
        turned = points @ np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]).T
        return replace(self, vertices_v3=turned + np.array(offset))

    def painted(self, corners_n3: Floats, colour: Rgb) -> Solid:
        """Return the same solid with one more flat face painted on it.

        Args:
            corners_n3: Corners, counter-clockwise seen from outside.
            colour: RGB, 0 to 255.

        Returns:
            The solid; the new face is its last.
        """
        first = len(self.vertices_v3)
        face = tuple(range(first, first + len(corners_n3)))
        return replace(
            self,
            vertices_v3=np.concatenate([self.vertices_v3, corners_n3]),
            faces=(*self.faces, face),
            colours_f3=np.concatenate([self.colours_f3, colour[None]]),
        )


def block(
    surface: str,
    frame: str,
    low: tuple[float, float, float],
    high: tuple[float, float, float],
    colour: Rgb,
    *,
    bias: float = 0.0,
    shadow: bool = True,
) -> Solid:
    """Return a box whose edges are parallel to the axes.

    Args:
        surface: One of `props.SURFACES`.
        frame: Name of its moving frame.
        low: Corner with the smallest coordinates, in metres.
        high: Corner with the largest coordinates, in metres.
        colour: RGB, 0 to 255.
        bias: Metres added to its distance when solids are sorted.
        shadow: Whether it casts a shadow.

    Returns:
        The box.
    """
    corners = [[(low, high)[(k >> axis) & 1][axis] for axis in range(3)] for k in range(8)]
    faces = ((0, 2, 3, 1), (0, 1, 5, 4), (1, 3, 7, 5), (3, 2, 6, 7), (2, 0, 4, 6), (4, 5, 7, 6))
    colours = np.tile(colour, (6, 1))
    return Solid(surface, frame, np.array(corners), faces, colours, bias, shadow)


def lathe(
    surface: str,
    frame: str,
    rings: list[tuple[float, float]],
    colours: list[Rgb],
    *,
    corners: int = 12,
    stretch: tuple[float, float] = (1.0, 1.0),
    bias: float = 0.0,
) -> Solid:
    """Return a body of revolution about the z axis.

    Args:
        surface: One of `props.SURFACES`.
        frame: Name of its moving frame.
        rings: Radius and height of every ring in metres, from the bottom up.
        colours: RGB of the bands between rings, then of the top.
        corners: Number of corners of every ring.
        stretch: Factors along x and y.
        bias: Metres added to its distance when solids are sorted.

    Returns:
        The body, closed at both ends.
    """
    circle = circle_points(1.0, 0.0, corners) * (*stretch, 1.0)
    vertices = np.concatenate([circle * (r, r, 0.0) + (0.0, 0.0, z) for r, z in rings])
    faces: list[tuple[int, ...]] = [tuple(reversed(range(corners)))]
    shades = [colours[0]]
    for band in range(len(rings) - 1):
        low, high = band * corners, (band + 1) * corners
        for k in range(corners):
            n = (k + 1) % corners
            faces.append((low + k, low + n, high + n, high + k))
            shades.append(colours[band])
    last = (len(rings) - 1) * corners
    faces.append(tuple(range(last, last + corners)))
    shades.append(colours[-1])
    return Solid(surface, frame, vertices, tuple(faces), np.array(shades), bias)


def circle_points(radius: float, height: float, corners: int = 12) -> Floats:
    """Return the corners of a regular polygon around the z axis.

    Args:
        radius: Radius in metres.
        height: Height in metres.
        corners: Number of corners.

    Returns:
        Points, counter-clockwise seen from above, `[corners, 3]`.
    """
    angles = np.arange(corners) * (2.0 * math.pi / corners)
    return np.stack(
        [radius * np.cos(angles), radius * np.sin(angles), np.full(corners, height)], axis=1
    )


def rectangle(
    middle: tuple[float, float], size: tuple[float, float], height: float, yaw: float = 0.0
) -> Floats:
    """Return the corners of a level rectangle.

    Args:
        middle: x and y in metres.
        size: Extent along x and y in metres, before turning.
        height: Height in metres.
        yaw: Radians about the vertical through the frame's origin, not through the middle.

    Returns:
        Points, counter-clockwise seen from above, `[4, 3]`.
    """
    (x, y), (dx, dy) = middle, (size[0] / 2, size[1] / 2)
    flat = np.array([[x - dx, y - dy], [x + dx, y - dy], [x + dx, y + dy], [x - dx, y + dy]])
    c, s = math.cos(yaw), math.sin(yaw)
    flat = flat @ np.array([[c, s], [-s, c]])
    return np.column_stack([flat, np.full(4, height)])


# Cameras and projection


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with square pixels and no distortion.

    Attributes:
        eye: Position in world metres.
        right: Unit vector of the image's x axis in world coordinates.
        down: Unit vector of the image's y axis in world coordinates.
        forward: Unit vector of the viewing direction in world coordinates.
        fov: Vertical field of view in degrees.
    """

    eye: Vector
    right: Vector
    down: Vector
    forward: Vector
    fov: float

    @classmethod
    def look_at(
        cls,
        eye: Vector,
        target: Vector,
        fov: float = 42.0,
        *,
        up: Vector = (0.0, 0.0, 1.0),
    ) -> Camera:
        """Return the camera at one point that looks at another point.

        Args:
            eye: Position in world metres.
            target: The point in the middle of the image, in world metres.
            fov: Vertical field of view in degrees, between 1 and 170.
            up: World direction that points up in the image. If the camera looks along it, the
                person's side is up.

        Returns:
            The camera.

        Raises:
            ValueError: Eye and target coincide, or the field of view is out of range.
        """
        if not 1.0 <= fov <= 170.0:
            raise ValueError(f'field of view of {fov} degrees; expected 1 to 170')
        forward = np.subtract(target, eye).astype(np.float64)
        distance = float(np.linalg.norm(forward))
        if not distance > 1e-6 or not math.isfinite(distance):
            raise ValueError(f'eye {eye}, target {target}: expected two finite points')
        forward /= distance
        right = np.cross(forward, up)
        if float(np.linalg.norm(right)) < 1e-3:
            right = np.cross(forward, (0.0, -1.0, 0.0))
        if float(np.linalg.norm(right)) < 1e-3:
            right = np.cross(forward, (1.0, 0.0, 0.0))
        right /= np.linalg.norm(right)
        return cls(
            eye=_vector(np.asarray(eye)),
            right=_vector(right),
            down=_vector(np.cross(forward, right)),
            forward=_vector(forward),
            fov=float(fov),
        )

    @cached_property
    def eye_3(self) -> Floats:
        """Position of the eye as an array, `[3]`."""
        return np.asarray(self.eye)

    @cached_property
    def rotation_33(self) -> Floats:
        """Rotation from world to camera coordinates."""
        return np.array([self.right, self.down, self.forward])

    def matrix(self, size: tuple[int, int]) -> Floats:
        """Return the intrinsic matrix for an image size.

        Args:
            size: Width and height in pixels.

        Returns:
            The matrix from camera coordinates to homogeneous pixels, `[3, 3]`.
        """
        width, height = size
        focal = 0.5 * height / math.tan(math.radians(self.fov) / 2)
        return np.array(
            [[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]]
        )

    def to_camera(self, points_n3: Floats) -> Floats:
        """Transform world points to camera coordinates.

        Args:
            points_n3: Points in world metres.

        Returns:
            Points in camera metres, `[n, 3]`.
        """
        return np.asarray((points_n3 - self.eye_3) @ self.rotation_33.T)

    def project(self, points_n3: Floats, size: tuple[int, int]) -> Floats:
        """Project world points that lie in front of the camera.

        Args:
            points_n3: Points in world metres; the result is meaningless behind the camera.
            size: Width and height in pixels.

        Returns:
            Points in pixels, `[n, 2]`; the centre of a pixel has integer coordinates.
        """
        return to_pixels(self.to_camera(points_n3), self.matrix(size))


def to_pixels(points_n3: Floats, matrix_33: Floats) -> Floats:
    """Project camera points.

    Args:
        points_n3: Points in camera metres, not behind the near plane.
        matrix_33: Intrinsic matrix.

    Returns:
        Points in pixels, `[n, 2]`.
    """
    scale = matrix_33[0, 0] / np.maximum(points_n3[:, 2], NEAR_M)
    return np.asarray(points_n3[:, :2] * scale[:, None] + matrix_33[:2, 2])


def clip_near(polygon_n3: Floats) -> Floats:
    """Cut off the part of a polygon that lies behind the near plane.

    Args:
        polygon_n3: Corners of a convex polygon in camera metres.

    Returns:
        Corners of the remaining part, `[m, 3]`; empty if the whole polygon is behind the plane.
    """
    kept: list[Floats] = []
    previous = polygon_n3[-1]
    for corner in polygon_n3:
        if (corner[2] >= NEAR_M) != (previous[2] >= NEAR_M):
            share = (NEAR_M - previous[2]) / (corner[2] - previous[2])
            kept.append(previous + share * (corner - previous))
        if corner[2] >= NEAR_M:
            kept.append(corner)
        previous = corner
    return np.array(kept).reshape(-1, 3)


def named_camera(name: str, rng: np.random.Generator, *, jitter: bool = True) -> Camera:
    """Return the camera of a named view.

    Args:
        name: One of `CAMERA_NAMES`.
        rng: Source of the jitter.
        jitter: Whether to vary position, target and field of view at random.

    Returns:
        The camera.

    Raises:
        ValueError: There is no view of this name.
    """
    if name not in _VIEWS:
        raise ValueError(f'unknown camera {name!r}; expected one of {CAMERA_NAMES}')
    eye, target, fov, up = _VIEWS[name]
    if jitter:
        eye = _vector(eye + rng.uniform(-1.0, 1.0, 3) * (0.10, 0.07, 0.06))
        target = _vector(target + rng.uniform(-1.0, 1.0, 3) * 0.025)
        fov += float(rng.uniform(-1.5, 2.5))
    return Camera.look_at(eye, target, fov, up=up)


def _vector(values: Floats) -> Vector:
    x, y, z = (float(value) for value in values)
    return x, y, z
