"""Frames that show what an encoder usually sees, to calibrate a quantised one on."""

import mimetypes
from pathlib import Path

import numpy as np

from step_ros.data.tabletop import Tabletop
from step_ros.data.tabletop_camera import CAMERA_NAMES
from step_ros.data.video import VideoError, VideoReader

# Seconds of a scene that frames are drawn from, and frames of each scene.
_SPAN, _PER_SCENE = 60.0, 10


def tabletop_frames(count: int, *, size: tuple[int, int]) -> list[np.ndarray]:
    """Render frames of the tabletop's training scenes, its cameras taking turns.

    Args:
        count: How many.
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
    """Read frames at equal distances from all videos in a folder, and those below it.

    Args:
        folder: Files that are no videos by their name are passed over.
        count: How many frames at most; short videos may give fewer.

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
