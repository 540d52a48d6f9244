"""Clips of single actions, each in a scene of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from step_ros.data.tabletop_actions import labels_of, spec_of
from step_ros.data.tabletop_camera import Camera
from step_ros.data.tabletop_motion import Motion
from step_ros.data.tabletop_scene import STATE_NAMES, state_vector
from step_ros.data.tabletop_stage import Stage
from step_ros.data.tabletop_timeline import clip_motion


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """One whole action as a video.

    Attributes:
        frames_thwc: RGB images, uint8.
        stamps_ns: Nanoseconds of the frames since the first, `[t]`.
        states_ts: State vector of every frame, named by `STATE_NAMES`.
        labels: Task name to label.
        action: Label of the task `action`.
        seed: Number of the scene within its split.
        split: The split it belongs to.
        duration_s: How long the action lasts, pauses included.
        textures: Identifiers of the textures seen.
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
    """Renders one whole action in a scene of its own.

    Without noise, the clips of a pair's two actions with equal seeds are each other's reversal,
    pixel for pixel: the frames' times lie symmetrically within the action.

    Args:
        action: A label of the task `action`.
        seed: Number of the scene within its split.
        split: One of `SPLITS`; no two share a seed's scene, a texture or a speed.
        camera: One of `CAMERA_NAMES`, which the seed jitters, or a camera.
        size: Width and height in pixels.
        rate: Frames per second.
        noise: Whether to add sensor noise and flicker.

    Returns:
        The clip.

    Raises:
        ValueError: If an argument is unknown or out of range.
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
    """Renders a motion from its beginning to its end, or the other way round.

    Args:
        motion: What happens.
        stage: The scene it happens in.
        split: The split the scene belongs to.
        action: The clip's name for it.
        labels: Task name to label.
        backward: Whether the motion is played from its end to its beginning.
        camera: One of `CAMERA_NAMES`, or a camera.
        size: Width and height in pixels.
        rate: Frames per second.
        noise: Whether to add sensor noise and flicker.

    Returns:
        The clip.

    Raises:
        ValueError: If the rate is not positive or the camera unknown.
    """
    if not rate > 0.0:
        raise ValueError(f'rate must be positive, got {rate}')
    count = math.floor(motion.duration_s * rate) + 1
    # The grid is centred in the action: played backward, it is the same grid.
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
