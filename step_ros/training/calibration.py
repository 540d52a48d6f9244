# SPDX-License-Identifier: Apache-2.0
"""Frames that a robot's encoder usually sees, to calibrate a quantised encoder on."""

import mimetypes
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from step_ros.images.resize import fit_images
from step_ros.io.video import VideoError, VideoReader
from step_ros.model.bundle import Bundle
from step_ros.tabletop.geometry import CAMERA_NAMES
from step_ros.tabletop.simulator import Tabletop
from step_ros.tabletop.vocabulary import TASKS

# NNCF's own default; more frames hardly change the ranges it finds.
CALIBRATION_FRAMES = 300

# Frames are drawn from the first seconds of a scene; number of frames from each scene.
_SPAN, _PER_SCENE = 60.0, 10


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Source of the frames that a quantised encoder is calibrated on.

    Attributes:
        folder: Folder with videos of the scenes in front of the cameras; None for the rendered
            tabletop.
        frames: Number of frames.
    """

    folder: Path | None = None
    frames: int = CALIBRATION_FRAMES

    def images(self, bundle: Bundle) -> np.ndarray:
        """Return the frames as the bundle's encoder sees them, uint8 RGB `[b, h, w, 3]`.

        Raises:
            ValueError: There is no folder, and the bundle is not one of the tabletop.
            VideoError: The folder has no videos, or one cannot be read.
        """
        size = bundle.model.backbone.image_size
        if self.folder is not None:
            return fit_images(video_frames(self.folder, self.frames), size)
        if not predicts_tabletop_tasks(bundle):
            raise ValueError(
                f'{bundle.path}: its tasks are not those of the tabletop; give a folder with '
                "videos of the scenes in front of the robot's cameras (--calibration FOLDER)"
            )
        return fit_images(tabletop_frames(self.frames, size=size), size)


def predicts_tabletop_tasks(bundle: Bundle) -> bool:
    """Return whether all tasks of a bundle are tasks of the tabletop, with the same labels."""
    return all(TASKS.get(task.name) == task.labels for task in bundle.spec.tasks)


def tabletop_frames(count: int, *, size: tuple[int, int]) -> list[np.ndarray]:
    """Render frames of the tabletop's training scenes, which rotate through its cameras.

    Args:
        count: Number of frames.
        size: Height and width in pixels.

    Returns:
        uint8 RGB images, the same every time.
    """
    images: list[np.ndarray] = []
    seed = 0
    while len(images) < count:
        scene = Tabletop(seed=seed, split='train')
        times = np.random.default_rng(seed).uniform(0.0, _SPAN, _PER_SCENE)
        camera = CAMERA_NAMES[seed % len(CAMERA_NAMES)]
        images += [scene.render(float(time), camera=camera, size=size[::-1]) for time in times]
        seed += 1
    return images[:count]


def video_frames(folder: Path, count: int) -> list[np.ndarray]:
    """Read evenly spaced frames from all videos in a folder and its subfolders.

    Args:
        folder: The folder; files without a video's suffix are skipped.
        count: Largest number of frames; short videos may give fewer.

    Returns:
        uint8 RGB images of the videos' own sizes.

    Raises:
        VideoError: There is no video, or one cannot be read.
    """
    videos = [path for path in sorted(folder.rglob('*')) if path.is_file() and _is_video(path)]
    if not videos:
        raise VideoError(folder, 'expected a folder with videos (.mp4, .avi, .mkv, ...)')
    if len(videos) > count:
        videos = [videos[index * len(videos) // count] for index in range(count)]
    images: list[np.ndarray] = []
    for index, path in enumerate(videos):
        share = (index + 1) * count // len(videos) - index * count // len(videos)
        images += _spread_frames(path, share)
    return images


def _is_video(path: Path) -> bool:
    return (mimetypes.guess_type(path.name)[0] or '').startswith('video/')


def _spread_frames(path: Path, count: int) -> list[np.ndarray]:
    images: list[np.ndarray] = []
    with VideoReader(path) as reader:
        times = [index * reader.duration_s / count for index in range(count)]
        for frame in reader:
            if len(images) == count:
                break
            if frame.time_s >= times[len(images)]:
                images.append(frame.to_rgb())
    return images
