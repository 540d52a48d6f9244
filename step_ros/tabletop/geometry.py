"""Solids made of flat faces, the building blocks of everything but the hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Rgb = Floats


@dataclass(frozen=True, eq=False)
class Solid:
    """A body whose visible faces, painted in their order, show it correctly.

    Faces wind counter-clockwise seen from outside. Flat pictures on a face are faces of their own
    that come later.

    Attributes:
        surface: Name of what a pixel of it shows.
        frame: Name of the moving frame its vertices are given in.
        vertices_v3: Metres in that frame.
        faces: Vertex indices of every face.
        colours_f3: RGB of every face, 0 to 255.
        bias: Metres added to its distance when solids are sorted.
        shadow: Whether it throws a shadow.
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
        """The faces' vertex indices as arrays."""
        return tuple(np.array(face, np.intp) for face in self.faces)

    @cached_property
    def normals_f3(self) -> Floats:
        """Unit vectors out of every face."""
        normals = np.zeros((len(self.faces), 3))
        for count in {len(face) for face in self.faces}:
            rows = [k for k, face in enumerate(self.faces) if len(face) == count]
            corners = self.vertices_v3[[self.faces[k] for k in rows]]
            # Newell's sum also serves faces with many corners or a notch.
            normals[rows] = np.cross(corners, np.roll(corners, -1, axis=1)).sum(axis=1)
        return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1), 1e-12)[:, None])

    def moved(
        self,
        offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
        yaw: float = 0.0,
        *,
        lay: bool = False,
    ) -> Solid:
        """The same solid elsewhere in its frame.

        Args:
            offset: Metres to add after turning.
            yaw: Radians about z.
            lay: Turn the z axis to the x axis first.

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
        """The same solid with one more flat face painted on it.

        Args:
            corners_n3: Corners, counter-clockwise seen from outside.
            colour: RGB, 0 to 255.

        Returns:
            The solid with that face as its last.
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
    """Makes a box along the axes.

    Args:
        surface: Name of what it shows.
        frame: Moving frame it belongs to.
        low: Corner with the smallest coordinates, in metres.
        high: Corner with the largest coordinates, in metres.
        colour: RGB, 0 to 255.
        bias: Metres added to its distance when sorting.
        shadow: Whether it throws a shadow.

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
    """Turns a body of revolution.

    Args:
        surface: Name of what it shows.
        frame: Moving frame it belongs to.
        rings: Radius and height of every ring in metres, from the bottom up.
        colours: RGB of the bands between rings, then of the top.
        corners: Corners of every ring.
        stretch: Factors along x and y.
        bias: Metres added to its distance when sorting.

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
    """Corners of a regular polygon around the z axis.

    Args:
        radius: Metres.
        height: Metres.
        corners: How many.

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
    """Corners of a level rectangle.

    Args:
        middle: x and y in metres.
        size: Extent along x and y in metres, before turning.
        height: Metres.
        yaw: Radians about the vertical through the frame's origin, not through the middle.

    Returns:
        Points, counter-clockwise seen from above, `[4, 3]`.
    """
    (x, y), (dx, dy) = middle, (size[0] / 2, size[1] / 2)
    flat = np.array([[x - dx, y - dy], [x + dx, y - dy], [x + dx, y + dy], [x - dx, y + dy]])
    c, s = math.cos(yaw), math.sin(yaw)
    flat = flat @ np.array([[c, s], [-s, c]])
    return np.column_stack([flat, np.full(4, height)])


# ---- Pinhole cameras that look at the tabletop, and the projection of points and polygons.
#
# World coordinates, in metres: the origin is the middle of the table top, x points to the person's
# right, y away from the person and z up. Camera coordinates: x right, y down, z forward.

Vector = tuple[float, float, float]

NEAR_M = 0.05

"""Nothing nearer to the camera's plane than this is drawn."""

CAMERA_NAMES = ('front', 'side', 'top')

"""Named views: from across the table, from the person's right, and from above."""

_VIEWS: dict[str, tuple[Vector, Vector, float, Vector]] = {
    'front': ((0.0, 1.00, 0.74), (-0.02, -0.09, 0.03), 41.0, (0.0, 0.0, 1.0)),
    'side': ((1.10, 0.22, 0.68), (-0.02, -0.02, 0.03), 42.0, (0.0, 0.0, 1.0)),
    'top': ((0.0, -0.02, 1.38), (0.0, -0.03, 0.0), 41.0, (0.0, -1.0, 0.0)),
}


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
        """Makes the camera at one point that looks at another.

        Args:
            eye: Position in world metres.
            target: The point in the middle of the image, in world metres.
            fov: Vertical field of view in degrees, between 1 and 170.
            up: World direction that points up in the image; the person's side is up where the
                camera looks straight along it.

        Returns:
            The camera.

        Raises:
            ValueError: If eye and target coincide or the field of view is out of range.
        """
        if not 1.0 <= fov <= 170.0:
            raise ValueError(f'field of view must be between 1 and 170 degrees, got {fov}')
        forward = np.subtract(target, eye).astype(np.float64)
        distance = float(np.linalg.norm(forward))
        if not distance > 1e-6 or not math.isfinite(distance):
            raise ValueError(f'eye and target must be two finite points, got {eye} and {target}')
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
        """The eye as an array `[3]`."""
        return np.asarray(self.eye)

    @cached_property
    def rotation_33(self) -> Floats:
        """Rotation from world to camera coordinates."""
        return np.array([self.right, self.down, self.forward])

    def matrix(self, size: tuple[int, int]) -> Floats:
        """Intrinsic matrix for an image size.

        Args:
            size: Width and height in pixels.

        Returns:
            Camera coordinates to homogeneous pixels, `[3, 3]`.
        """
        width, height = size
        focal = 0.5 * height / math.tan(math.radians(self.fov) / 2)
        return np.array(
            [[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]]
        )

    def to_camera(self, points_n3: Floats) -> Floats:
        """Moves world points to camera coordinates.

        Args:
            points_n3: World metres.

        Returns:
            Camera metres, `[n, 3]`.
        """
        return np.asarray((points_n3 - self.eye_3) @ self.rotation_33.T)

    def project(self, points_n3: Floats, size: tuple[int, int]) -> Floats:
        """Projects world points that lie in front of the camera.

        Args:
            points_n3: World metres; the result has no meaning for points behind the camera.
            size: Width and height in pixels.

        Returns:
            Pixels, `[n, 2]`; a pixel's centre has whole coordinates.
        """
        return to_pixels(self.to_camera(points_n3), self.matrix(size))


def to_pixels(points_n3: Floats, matrix_33: Floats) -> Floats:
    """Projects camera points.

    Args:
        points_n3: Camera metres, not behind the near plane.
        matrix_33: Intrinsic matrix.

    Returns:
        Pixels, `[n, 2]`.
    """
    scale = matrix_33[0, 0] / np.maximum(points_n3[:, 2], NEAR_M)
    return np.asarray(points_n3[:, :2] * scale[:, None] + matrix_33[:2, 2])


def clip_near(polygon_n3: Floats) -> Floats:
    """Cuts off the part of a polygon that lies behind the near plane.

    Args:
        polygon_n3: Corners of a convex polygon in camera metres.

    Returns:
        Corners of what is left, `[m, 3]`; empty if all of it is behind.
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
    """Makes one of the named views.

    Args:
        name: One of `CAMERA_NAMES`.
        rng: Source of the jitter.
        jitter: Whether position, aim and field of view vary.

    Returns:
        The camera.

    Raises:
        ValueError: If there is no such view.
    """
    if name not in _VIEWS:
        raise ValueError(f'unknown camera {name!r}, known are {CAMERA_NAMES}')
    eye, target, fov, up = _VIEWS[name]
    if jitter:
        eye = _vector(eye + rng.uniform(-1.0, 1.0, 3) * (0.10, 0.07, 0.06))
        target = _vector(target + rng.uniform(-1.0, 1.0, 3) * 0.025)
        fov += float(rng.uniform(-1.5, 2.5))
    return Camera.look_at(eye, target, fov, up=up)


def _vector(values: Floats) -> Vector:
    x, y, z = (float(value) for value in values)
    return x, y, z
