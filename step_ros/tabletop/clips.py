# SPDX-License-Identifier: Apache-2.0
"""Clips of single actions, each in its own scene.

A `Stage` is one scene with everything that stays the same in it: layout, look, cameras and
renderer. `film` renders a motion on a stage, and `render_clip` renders one labelled action.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from step_ros.tabletop.appearance import Look
from step_ros.tabletop.geometry import CAMERA_NAMES, Camera, named_camera
from step_ros.tabletop.motion import Motion
from step_ros.tabletop.renderer import Renderer
from step_ros.tabletop.scene import STATE_NAMES, Layout, state_vector
from step_ros.tabletop.splits import random_for
from step_ros.tabletop.timeline import clip_motion
from step_ros.tabletop.vocabulary import labels_of, spec_of


class Stage:
    """One scene, ready to be rendered.

    Attributes:
        seed: Number of the scene within its split.
        layout: The fixed things of the scene.
        look: Colours, textures and light.
        renderer: Draws the scene in any state.
    """

    def __init__(self, *, seed: int, split: str, view_jitter: bool = True) -> None:
        """Set the scene.

        Args:
            seed: Number of the scene within its split.
            split: One of `SPLITS`.
            view_jitter: Whether the seed jitters the named cameras.
        """
        self.seed = seed
        self.layout = Layout.draw(random_for(split, seed, 'layout'))
        self.look = Look.draw(split, random_for(split, seed, 'look'))
        self.renderer = Renderer(self.layout, self.look, random_for(split, seed, 'shapes'))
        self._cameras = {
            name: named_camera(name, random_for(split, seed, 'camera', name), jitter=view_jitter)
            for name in CAMERA_NAMES
        }

    @property
    def textures(self) -> tuple[int, int, int]:
        """Identifiers of the textures of table, walls and floor."""
        return self.look.table_texture, self.look.wall_texture, self.look.floor_texture

    def camera(self, camera: str | Camera) -> Camera:
        """Return a camera of the scene.

        Args:
            camera: One of `CAMERA_NAMES`, or a camera, which is returned as it is.

        Returns:
            The camera.

        Raises:
            ValueError: There is no view of this name.
        """
        if isinstance(camera, Camera):
            return camera
        try:
            return self._cameras[camera]
        except KeyError:
            raise ValueError(
                f'unknown camera {camera!r}; expected one of {CAMERA_NAMES}'
            ) from None

    def noise_key(self, time_s: float) -> int:
        """Return the key of the sensor noise at a time.

        Args:
            time_s: Seconds.

        Returns:
            A number that is the same for the same microsecond.
        """
        return self.seed * 1_000_003 + round(time_s * 1e6)


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """One whole action as a video.

    Attributes:
        frames_thwc: RGB images, uint8.
        stamps_ns: Nanoseconds of the frames since the first, `[t]`.
        states_ts: State vector of every frame, named by `STATE_NAMES`.
        labels: Label of each task.
        action: Label of the task `action`, or of an unseen action.
        seed: Number of the scene within its split.
        split: The split it belongs to.
        duration_s: Duration of the action in seconds, pauses included.
        textures: Identifiers of the textures of table, walls and floor.
    """

    frames_thwc: NDArray[np.uint8]
    stamps_ns: NDArray[np.int64]
    states_ts: NDArray[np.float32] = field(repr=False)
    labels: dict[str, str]
    action: str
    seed: int
    split: str
    duration_s: float
    textures: tuple[int, int, int]


def render_clip(
    action: str,
    *,
    seed: int,
    split: str = 'train',
    camera: str | Camera = 'front',
    size: tuple[int, int] = (640, 480),
    rate: float = 30.0,
    noise: bool = True,
) -> Clip:
    """Render one whole action in its own scene.

    Without noise, the clips of a pair's two actions with equal seeds are each other's reversal,
    pixel for pixel, because the frames lie symmetrically within the action.

    Args:
        action: A label of the task `action`.
        seed: Number of the scene within its split.
        split: One of `SPLITS`. Splits share no scene, no texture and no speed.
        camera: One of `CAMERA_NAMES`, jittered by the seed, or a camera.
        size: Width and height in pixels.
        rate: Frames per second.
        noise: Whether to add sensor noise and flicker.

    Returns:
        The clip.

    Raises:
        ValueError: An argument is unknown or out of range.
    """
    spec = spec_of(action)
    stage = Stage(seed=seed, split=split)
    return film(
        clip_motion(action, stage.layout, seed=seed, split=split),
        stage,
        split=split,
        action=action,
        labels=labels_of(action),
        backward=spec.backward,
        camera=camera,
        size=size,
        rate=rate,
        noise=noise,
    )


def film(
    motion: Motion,
    stage: Stage,
    *,
    split: str,
    action: str,
    labels: dict[str, str],
    backward: bool,
    camera: str | Camera,
    size: tuple[int, int],
    rate: float,
    noise: bool,
) -> Clip:
    """Render a motion from its beginning to its end, or from its end to its beginning.

    Args:
        motion: The motion of the hand and of the thing in it.
        stage: The scene.
        split: The split of the scene.
        action: Label of the action.
        labels: Label of each task.
        backward: Whether the motion is played from its end to its beginning.
        camera: One of `CAMERA_NAMES`, or a camera.
        size: Width and height in pixels.
        rate: Frames per second.
        noise: Whether to add sensor noise and flicker.

    Returns:
        The clip.

    Raises:
        ValueError: The rate is not positive, or the camera is unknown.
    """
    if not rate > 0.0:
        raise ValueError(f'rate={rate}: expected more than 0')
    count = math.floor(motion.duration_s * rate) + 1
    # The frames are centred in the action, so that both directions have the same times.
    margin = 0.5 * (motion.duration_s - (count - 1) / rate)
    times = [margin + index / rate for index in range(count)]
    if backward:
        times.reverse()
    view = stage.camera(camera)
    frames = np.empty((count, size[1], size[0], 3), np.uint8)
    states = np.empty((count, len(STATE_NAMES)), np.float32)
    for index, time_s in enumerate(times):
        state = motion.state_at(time_s, stage.layout)
        key = stage.noise_key(index / rate) if noise else None
        frames[index], _ = stage.renderer.draw(state, view, size, noise_key=key)
        states[index] = state_vector(state, stage.layout)
    return Clip(
        frames_thwc=frames,
        stamps_ns=np.rint(np.arange(count) * (1e9 / rate)).astype(np.int64),
        states_ts=states,
        labels=labels,
        action=action,
        seed=stage.seed,
        split=split,
        duration_s=motion.duration_s,
        textures=stage.textures,
    )
