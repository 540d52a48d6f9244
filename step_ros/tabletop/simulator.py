# SPDX-License-Identifier: Apache-2.0
"""The synthetic tabletop: videos of nearly symmetric actions, without a camera or a person.

A small scene with a table, a person's hand and arm, and some things is drawn in perspective for
any pinhole camera. The two actions of a pair play the same motion in opposite order, so that only
the order of the frames tells them apart. `render_clip` renders one action, `Tabletop` an endless
sequence of actions in one persistent scene. Both depend on the split and the seed alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from step_ros.tabletop.clips import Clip, Stage, render_clip
from step_ros.tabletop.geometry import CAMERA_NAMES, Camera
from step_ros.tabletop.props import SURFACES
from step_ros.tabletop.scene import STATE_NAMES, HandPose, Layout, Pose, SceneState, state_vector
from step_ros.tabletop.splits import SPLITS, TEXTURE_IDS
from step_ros.tabletop.timeline import ActionSegment, Timeline
from step_ros.tabletop.vocabulary import ACTIONS, COUNTERPARTS, TASKS, labels_of

__all__ = [
    'ACTIONS',
    'CAMERA_NAMES',
    'COUNTERPARTS',
    'SPLITS',
    'STATE_NAMES',
    'SURFACES',
    'TASKS',
    'TEXTURE_IDS',
    'ActionSegment',
    'Camera',
    'Clip',
    'HandPose',
    'Layout',
    'Pose',
    'SceneState',
    'Supervision',
    'Tabletop',
    'labels_of',
    'render_clip',
]

Image = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Supervision:
    """Labels of one image for the training of an encoder.

    Attributes:
        ids_hw: Index into `SURFACES` of every pixel, uint8.
        state_vector: One number per name in `STATE_NAMES`.
        visible_k: Whether any pixel shows each surface.
    """

    ids_hw: Image
    state_vector: NDArray[np.float32]
    visible_k: NDArray[np.bool_]


class Tabletop:
    """One persistent scene in which actions follow each other without end.

    Moments can be rendered in any order. An image depends on split, seed, time and view alone.
    """

    def __init__(self, *, seed: int, split: str = 'test', view_jitter: bool = True) -> None:
        """Set the scene.

        Args:
            seed: Number of the scene within its split.
            split: One of `SPLITS`.
            view_jitter: Whether the seed jitters the named cameras.
        """
        self._stage = Stage(seed=seed, split=split, view_jitter=view_jitter)
        self._timeline = Timeline(self._stage.layout, seed=seed, split=split)

    @property
    def layout(self) -> Layout:
        """The fixed things of the scene."""
        return self._stage.layout

    @property
    def textures(self) -> tuple[int, int, int]:
        """Identifiers of the textures of table, walls and floor."""
        return self._stage.textures

    def camera(self, name: str) -> Camera:
        """Return a named camera of this scene.

        Args:
            name: One of `CAMERA_NAMES`.

        Returns:
            The camera, jittered by the seed unless the jitter is off.

        Raises:
            ValueError: There is no camera of this name.
        """
        return self._stage.camera(name)

    def segment_at(self, time_s: float) -> ActionSegment:
        """Return the action at a time.

        Args:
            time_s: Seconds since the beginning, not negative.

        Returns:
            The segment with `start_s <= time_s < end_s`.

        Raises:
            ValueError: The time is negative.
        """
        return self._timeline.segment_at(time_s)

    def state_at(self, time_s: float) -> SceneState:
        """Return the scene's state at a time.

        Args:
            time_s: Seconds since the beginning, not negative.

        Raises:
            ValueError: The time is negative.
        """
        return self.segment_at(time_s).state_at(time_s, self.layout)

    def render(
        self,
        time_s: float,
        *,
        camera: str | Camera = 'front',
        size: tuple[int, int] = (640, 480),
        noise: bool = True,
    ) -> Image:
        """Render the scene at a time.

        Args:
            time_s: Seconds since the beginning, not negative.
            camera: One of `CAMERA_NAMES` or a camera.
            size: Width and height in pixels.
            noise: Whether to add sensor noise and flicker.

        Returns:
            RGB image `[h, w, 3]`.

        Raises:
            ValueError: The time is negative, or the camera is unknown.
        """
        stage = self._stage
        image, _ = stage.renderer.draw(
            self.state_at(time_s),
            stage.camera(camera),
            size,
            noise_key=stage.noise_key(time_s) if noise else None,
        )
        return image

    def render_supervised(
        self,
        time_s: float,
        *,
        camera: str | Camera = 'front',
        size: tuple[int, int] = (640, 480),
        noise: bool = True,
    ) -> tuple[Image, Supervision]:
        """Render the scene at a time, with its labels.

        Args:
            time_s: Seconds since the beginning, not negative.
            camera: One of `CAMERA_NAMES` or a camera.
            size: Width and height in pixels.
            noise: Whether to add sensor noise and flicker.

        Returns:
            RGB image `[h, w, 3]` and its supervision.

        Raises:
            ValueError: The time is negative, or the camera is unknown.
        """
        stage = self._stage
        state = self.state_at(time_s)
        image, ids = stage.renderer.draw(
            state,
            stage.camera(camera),
            size,
            noise_key=stage.noise_key(time_s) if noise else None,
            with_ids=True,
        )
        assert ids is not None
        counts = np.bincount(ids.ravel(), minlength=len(SURFACES))
        return image, Supervision(
            ids_hw=ids,
            state_vector=state_vector(state, self.layout),
            visible_k=counts > 0,
        )
