# SPDX-License-Identifier: Apache-2.0
"""Renderer of one scene for any camera, with the painter's algorithm: far things first."""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from step_ros.tabletop.appearance import Look
from step_ros.tabletop.backdrop import (
    Backdrop,
    is_behind_person,
    paint_backdrop,
    paint_solids,
    shadow_size,
)
from step_ros.tabletop.canvas import SceneCanvas, capsule_outlines, fixed_point
from step_ros.tabletop.geometry import NEAR_M, Camera, to_pixels
from step_ros.tabletop.props import (
    SURFACES,
    Capsules,
    body_solids,
    fixed_solids,
    hand_capsules,
    movable_solids,
)
from step_ros.tabletop.scene import Layout, Pose, SceneState

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]

_BACKDROPS = 12
_HAND = SURFACES.index('hand')
_PERSON = SURFACES.index('person')
_NOISE_MARGIN = 64


class Renderer:
    """Draws one scene; the fixed part of each view is painted once and cached."""

    def __init__(self, layout: Layout, look: Look, rng: np.random.Generator) -> None:
        """Build the scene's solids.

        Args:
            layout: The fixed things of the scene.
            look: Colours, textures and light.
            rng: Source of the sizes.
        """
        self._layout = layout
        self._look = look
        self._solids = [*fixed_solids(layout, look, rng), *movable_solids(look, rng)]
        counts = [len(solid.vertices_v3) for solid in self._solids]
        ends = np.cumsum(counts).tolist()
        self._vertices = [slice(end - n, end) for n, end in zip(counts, ends, strict=True)]
        face_counts = [len(solid.faces) for solid in self._solids]
        face_ends = np.cumsum(face_counts).tolist()
        self._faces = [slice(e - n, e) for n, e in zip(face_counts, face_ends, strict=True)]
        self._local_v3 = np.concatenate([solid.vertices_v3 for solid in self._solids])
        self._normals_f3 = np.concatenate([solid.normals_f3 for solid in self._solids])
        self._colours_f3 = np.concatenate([solid.colours_f3 for solid in self._solids])
        self._anchors_f = np.concatenate(
            [
                np.array([face[0] for face in solid.faces]) + span.start
                for solid, span in zip(self._solids, self._vertices, strict=True)
            ]
        )
        self._starts = np.array([span.start for span in self._vertices])
        self._counts_s1 = np.array(counts, np.float64)[:, None]
        self._biases = np.array([solid.bias for solid in self._solids])
        self._surfaces = [SURFACES.index(solid.surface) for solid in self._solids]
        self._frames = self._collect_frames()
        self._backdrops: OrderedDict[tuple[Camera, tuple[int, int]], Backdrop] = OrderedDict()

    def _collect_frames(self) -> dict[str, tuple[slice, slice]]:
        """Return the vertices and faces of every moving frame, whose solids are neighbours."""
        frames: dict[str, tuple[slice, slice]] = {}
        for solid, vertices, faces in zip(self._solids, self._vertices, self._faces, strict=True):
            if solid.frame == 'world':
                continue
            if solid.frame in frames:
                old_vertices, old_faces = frames[solid.frame]
                vertices = slice(old_vertices.start, vertices.stop)
                faces = slice(old_faces.start, faces.stop)
            frames[solid.frame] = (vertices, faces)
        return frames

    def draw(
        self,
        state: SceneState,
        camera: Camera,
        size: tuple[int, int],
        *,
        noise_key: int | None = None,
        with_ids: bool = False,
    ) -> tuple[Image, Image | None]:
        """Draw the scene in a state.

        Args:
            state: State of the scene.
            camera: The view.
            size: Width and height in pixels.
            noise_key: Key of the sensor noise and flicker, or None for neither.
            with_ids: Whether to return the surface that each pixel shows.

        Returns:
            RGB image `[h, w, 3]` and, if requested, the map `[h, w]` of indices into `SURFACES`.
        """
        backdrop = self._backdrop(camera, size)
        world_v3, normals_f3 = self._place(state)
        capsules = hand_capsules(state.hand)
        image = self._shadowed(backdrop, world_v3, capsules, camera, size)
        ids = backdrop.ids.copy() if with_ids else None
        canvas = SceneCanvas(image, ids, camera)
        self._paint(canvas, state, world_v3, normals_f3, capsules)
        if is_behind_person(camera):
            paint_solids(canvas, body_solids(self._look), self._look)
        if noise_key is not None:
            image = add_noise(image, self._look.noise, noise_key)
        return image, ids

    def _backdrop(self, camera: Camera, size: tuple[int, int]) -> Backdrop:
        key = (camera, size)
        if key in self._backdrops:
            self._backdrops.move_to_end(key)
            return self._backdrops[key]
        backdrop = paint_backdrop(self._look, camera, size)
        self._backdrops[key] = backdrop
        if len(self._backdrops) > _BACKDROPS:
            self._backdrops.popitem(last=False)
        return backdrop

    def _place(self, state: SceneState) -> tuple[Floats, Floats]:
        """Return the vertices and normals of all solids in world coordinates."""
        layout = self._layout
        unit = layout.drawer_place
        reach = layout.drawer_size[0] / 2
        extension = state.drawer_extension * layout.drawer_travel
        dx, dy = layout.drawer_direction
        front = Pose.resting((unit[0] + dx * reach, unit[1] + dy * reach, 0.0, unit[3]))
        slid = np.array([dx * extension, dy * extension, 0.0])
        x, y, z, yaw = layout.dial_top
        poses = {
            **state.poses,
            'tray': Pose(front.xyz, front.rotation_33 * (max(extension, 1e-4), 1.0, 1.0)),
            'front': Pose(front.xyz + slid, front.rotation_33),
            'knob': Pose.resting((x, y, z, yaw + state.dial_angle)),
        }
        world_v3, normals_f3 = self._local_v3.copy(), self._normals_f3.copy()
        for name, (vertices, faces) in self._frames.items():
            pose = poses[name]
            world_v3[vertices] = self._local_v3[vertices] @ pose.rotation_33.T + pose.xyz
            # The tray is stretched along an axis to which all its normals are perpendicular, so
            # their directions stay right.
            normals_f3[faces] = self._normals_f3[faces] @ pose.rotation_33.T
        return world_v3, normals_f3

    def _paint(
        self,
        canvas: SceneCanvas,
        state: SceneState,
        world_v3: Floats,
        normals_f3: Floats,
        capsules: Capsules,
    ) -> None:
        """Paint solids and capsules, the farthest first."""
        camera = canvas.camera
        camera_v3 = camera.to_camera(world_v3)
        pixels_v2 = fixed_point(to_pixels(camera_v3, canvas.matrix_33))
        towards = world_v3[self._anchors_f] - camera.eye_3
        visible = (np.einsum('fc,fc->f', normals_f3, towards) < 0.0).tolist()
        colours = self._look.shade(self._colours_f3, normals_f3).tolist()
        middles = np.add.reduceat(world_v3, self._starts, axis=0) / self._counts_s1
        distances = np.linalg.norm(middles - camera.eye_3, axis=1) + self._biases
        self._order_drawer(distances, state, camera)

        first = camera.to_camera(capsules.first_n3)
        second = camera.to_camera(capsules.second_n3)
        outlines, seen = capsule_outlines(first, second, capsules.radii_n2, canvas.matrix_33)
        inner, _ = capsule_outlines(first, second, 0.80 * capsules.radii_n2, canvas.matrix_33)
        far = np.linalg.norm(0.5 * (first + second), axis=1)
        dark, light = self._arm_colours()

        solids = len(self._solids)
        for k in np.argsort(-np.concatenate([distances, far]), kind='stable').tolist():
            if k < solids:
                vertices, faces = self._vertices[k], self._faces[k]
                canvas.paint_faces(
                    self._solids[k],
                    camera_v3[vertices],
                    pixels_v2[vertices],
                    visible[faces],
                    colours[faces],
                    self._surfaces[k],
                )
            elif seen[k - solids]:
                skin = capsules.skin_n[k - solids]
                surface = _HAND if skin else _PERSON
                canvas.fill(outlines[k - solids], dark[skin], surface)
                canvas.fill(inner[k - solids], light[skin], surface)

    def _order_drawer(self, distances: Floats, state: SceneState, camera: Camera) -> None:
        """Change the distances so that unit, tray and front are sorted as the camera sees them."""
        x, y, *_ = self._layout.drawer_handle(state.drawer_extension)
        dx, dy = self._layout.drawer_direction
        in_front = (camera.eye[0] - x) * dx + (camera.eye[1] - y) * dy > 0.0
        unit = next(k for k, solid in enumerate(self._solids) if solid.surface == 'unit')
        previous = distances[unit]
        # Tray, front and handle follow the unit in the list of solids.
        for k in range(unit + 1, unit + 4):
            if in_front:
                distances[k] = min(distances[k], previous - 1e-3)
            else:
                distances[k] = max(distances[k], previous + 1e-3)
            previous = distances[k]

    def _arm_colours(self) -> tuple[dict[bool, list[float]], dict[bool, list[float]]]:
        """Return the colours of the edge and of the middle; each by whether it is skin."""
        look = self._look
        base = np.stack([look.colours['sleeve'], look.colours['skin']])
        level = (look.ambient + 0.75 * look.diffuse) * look.gain
        light = np.clip(base * level, 0.0, 255.0)
        dark = 0.74 * light
        return (
            {False: dark[0].tolist(), True: dark[1].tolist()},
            {False: light[0].tolist(), True: light[1].tolist()},
        )

    def _shadowed(
        self,
        backdrop: Backdrop,
        world_v3: Floats,
        capsules: Capsules,
        camera: Camera,
        size: tuple[int, int],
    ) -> Image:
        """Return the backdrop with soft shadows on the table."""
        small = shadow_size(size)
        mask = np.zeros((small[1], small[0]), np.uint8)
        matrix = camera.matrix(small)
        light = self._look.light
        slope = light[:2] / light[2]

        def cast(points_n3: Floats) -> Floats:
            """Return the shadows of points on the table, in camera coordinates."""
            flat = points_n3.copy()
            flat[:, :2] -= np.maximum(points_n3[:, 2:], 0.0) * slope
            flat[:, 2] = 0.0
            return camera.to_camera(flat)

        points = cast(world_v3)
        pixels = fixed_point(to_pixels(points, matrix))
        for solid, span in zip(self._solids, self._vertices, strict=True):
            if solid.shadow and points[span, 2].min() > NEAR_M:
                cv2.fillConvexPoly(mask, cv2.convexHull(pixels[span]), 255, cv2.LINE_8, 4)
        outlines, seen = capsule_outlines(
            cast(capsules.first_n3), cast(capsules.second_n3), capsules.radii_n2, matrix
        )
        for outline, visible in zip(outlines, seen.tolist(), strict=True):
            if visible:
                cv2.fillConvexPoly(mask, outline, 255, cv2.LINE_8, 4)
        cv2.blur(mask, (5, 5), dst=mask)
        cv2.bitwise_and(mask, backdrop.table_mask, dst=mask)
        factor = cv2.convertScaleAbs(mask, alpha=-self._look.shadow, beta=255.0)
        factor = cv2.resize(factor, size, interpolation=cv2.INTER_LINEAR)
        shaded = cv2.multiply(
            backdrop.image, cv2.cvtColor(factor, cv2.COLOR_GRAY2RGB), scale=1.0 / 255.0
        )
        return np.asarray(shaded, np.uint8)


@lru_cache(maxsize=8)
def _noise_bank(size: tuple[int, int]) -> NDArray[np.int8]:
    """Return unit noise in steps of a sixteenth, larger than the image by a margin per axis."""
    rng = np.random.default_rng(20)
    shape = (size[1] + _NOISE_MARGIN, size[0] + _NOISE_MARGIN, 3)
    noise = rng.standard_normal(shape, dtype=np.float32) * 16.0
    return np.asarray(np.clip(noise, -127.0, 127.0), np.int8)


def add_noise(image: Image, deviation: float, key: int) -> Image:
    """Add sensor noise and the flicker of automatic exposure.

    Args:
        image: RGB image.
        deviation: Standard deviation in grey levels.
        key: Key of the noise; equal keys give equal noise.

    Returns:
        The noisy image.
    """
    # A splitmix step turns neighbouring keys into unrelated numbers.
    mixed = (key * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & 0xFFFFFFFFFFFFFFFF
    mixed ^= mixed >> 31
    dy, dx = mixed % _NOISE_MARGIN, (mixed >> 8) % _NOISE_MARGIN
    gain = 1.0 + 0.02 * (((mixed >> 16) % 201) / 100.0 - 1.0)
    height, width = image.shape[:2]
    bank = _noise_bank((width, height))[dy : dy + height, dx : dx + width]
    noisy = cv2.addWeighted(image, gain, bank, deviation / 16.0, 0.0, dtype=cv2.CV_8U)
    return np.asarray(noisy, np.uint8)
