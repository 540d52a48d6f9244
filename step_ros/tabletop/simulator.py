"""The synthetic tabletop: videos of nearly symmetric actions, without a camera or a person.

A small scene with a table, a person's hand and arm, and things to handle is drawn in perspective
for any pinhole camera. The two actions of a pair play the same motion in opposite order, so that
nothing but the order of the frames tells them apart. `render_clip` gives one action, `Tabletop`
an endless sequence of them in one persistent scene. Everything is decided by split and seed.
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
    """What an image shows, for training an encoder densely.

    Attributes:
        ids_hw: Per pixel an index into `SURFACES`, uint8.
        state_vector: One number per name in `STATE_NAMES`.
        visible_k: Per surface whether any pixel shows it.
    """

    ids_hw: Image
    state_vector: NDArray[np.float32]
    visible_k: NDArray[np.bool_]


class Tabletop:
    """One persistent scene in which actions follow each other without end.

    Any moment can be asked for in any order; the answer depends on split, seed and time alone.
    """

    def __init__(self, *, seed: int, split: str = 'test', view_jitter: bool = True) -> None:
        """Sets the scene.

        Args:
            seed: Number of the scene within its split.
            split: One of `SPLITS`.
            view_jitter: Whether the seed jitters the named cameras.
        """
        self._stage = Stage(seed=seed, split=split, view_jitter=view_jitter)
        self._timeline = Timeline(self._stage.layout, seed=seed, split=split)

    @property
    def layout(self) -> Layout:
        """What stays where it is."""
        return self._stage.layout

    @property
    def textures(self) -> tuple[int, int, int]:
        """Identifiers of the textures of table, walls and floor."""
        return self._stage.textures

    def camera(self, name: str) -> Camera:
        """Gives a named camera as this scene has it.

        Args:
            name: One of `CAMERA_NAMES`.

        Returns:
            The camera, jittered by the seed unless that was turned off.

        Raises:
            ValueError: If there is no such camera.
        """
        return self._stage.camera(name)

    def segment_at(self, time_s: float) -> ActionSegment:
        """The action going on at a time.

        Args:
            time_s: Seconds since the beginning, not negative.

        Returns:
            The segment with `start_s <= time_s < end_s`.

        Raises:
            ValueError: If the time is negative.
        """
        return self._timeline.segment_at(time_s)

    def state_at(self, time_s: float) -> SceneState:
        """The scene at a time.

        Args:
            time_s: Seconds since the beginning, not negative.

        Returns:
            The scene's state.

        Raises:
            ValueError: If the time is negative.
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
        """Renders the scene at a time.

        Args:
            time_s: Seconds since the beginning, not negative.
            camera: One of `CAMERA_NAMES` or a camera.
            size: Width and height in pixels.
            noise: Whether to add sensor noise and flicker.

        Returns:
            RGB image `[h, w, 3]`.

        Raises:
            ValueError: If the time is negative or the camera unknown.
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
        """Renders the scene at a time together with what is to be seen.

        Args:
            time_s: Seconds since the beginning, not negative.
            camera: One of `CAMERA_NAMES` or a camera.
            size: Width and height in pixels.
            noise: Whether to add sensor noise and flicker.

        Returns:
            RGB image `[h, w, 3]` and its supervision.

        Raises:
            ValueError: If the time is negative or the camera unknown.
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
