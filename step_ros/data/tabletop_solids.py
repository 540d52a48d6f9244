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
