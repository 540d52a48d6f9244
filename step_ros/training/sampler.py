# SPDX-License-Identifier: Apache-2.0
"""The images of one view of a clip: augmented for training, spread windows for evaluation."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from step_ros.datasets.clip import ClipRecord
from step_ros.datasets.frames import index_clip, read_frames, span_frames
from step_ros.datasets.sampling import random_window, segment_window, spread_windows
from step_ros.datasets.schema import DatasetConfig
from step_ros.training.augmentation import PLAIN, Augmentation, augment, cut_crop, view_generator


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Loads the images of one view of a clip.

    Attributes:
        frames: Frames in a window (T).
        frame_period_ns: Nanoseconds between two of them; segments ignore it.
        size: Height and width of the encoder's images in pixels.
        views: Windows kept of a clip; for testing, those of all crops together.
        kind: Frames at equal distances in time, or one of each of `frames` equal segments.
        augmentation: How training views differ; None for the windows of evaluation.
        seed: Seed of the training views.
        sided: Names of the clips that must not be mirrored.
        crops: Parts of the image that each window of evaluation is cut into.

    Raises:
        ValueError: `views` and `crops` do not fit each other or `kind`.
    """

    frames: int
    frame_period_ns: int
    size: tuple[int, int]
    views: int
    kind: Literal['interval', 'segments'] = 'interval'
    augmentation: Augmentation | None = None
    seed: int = 0
    sided: frozenset[str] = frozenset()
    crops: int = 1

    def __post_init__(self) -> None:
        if self.augmentation is not None:
            if self.crops != 1:
                raise ValueError(
                    f'crops={self.crops}: training views are cut at random; leave crops at 1'
                )
        elif self.views % self.crops:
            raise ValueError(f'views={self.views}: expected a multiple of crops={self.crops}')
        elif self.kind == 'segments' and self.views != self.crops:
            raise ValueError(
                f'views={self.views}: segments give one window, so as many views as crops, '
                f'{self.crops}'
            )

    def __call__(self, record: ClipRecord, view: int) -> np.ndarray:
        """Return the images of a view, uint8 RGB, `[t, h, w, 3]`.

        Raises:
            VideoError: The clip cannot be decoded.
        """
        index = index_clip(record)
        numbers = span_frames(index, record.span)
        stamps_ns = index.stamps_ns[numbers]
        if self.augmentation is None:
            chosen = self._test_windows(stamps_ns)[view // self.crops]
            images = read_frames(index, numbers[chosen])
            crop = view % self.crops
            return np.stack(
                [cut_crop(image, self.size, crop=crop, crops=self.crops) for image in images]
            )
        rng = view_generator(self.seed, record.clip_id, view)
        return augment(
            read_frames(index, numbers[self._training_window(stamps_ns, rng)]),
            self.augmentation,
            size=self.size,
            may_flip=record.clip_id not in self.sided,
            rng=rng,
        )

    def _training_window(self, stamps_ns: np.ndarray, rng: np.random.Generator) -> list[int]:
        if self.kind == 'segments':
            return segment_window(stamps_ns, frames=self.frames, rng=rng)
        return random_window(
            stamps_ns, frames=self.frames, frame_period_ns=self.frame_period_ns, rng=rng
        )

    def _test_windows(self, stamps_ns: np.ndarray) -> list[list[int]]:
        if self.kind == 'segments':
            return [segment_window(stamps_ns, frames=self.frames)]
        return spread_windows(
            stamps_ns,
            frames=self.frames,
            frame_period_ns=self.frame_period_ns,
            clips=self.views // self.crops,
        )

    def for_cache(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the settings that enter a cache's key: of the frames, and of the images."""
        trains = self.augmentation is not None
        sampling: dict[str, Any] = {
            'seed': self.seed if trains else None,
            'spread': not trains,
            'sided': hashlib.sha256('\n'.join(sorted(self.sided)).encode()).hexdigest()[:12],
        }
        if self.kind == 'segments':
            sampling['kind'] = 'segments'
        else:
            sampling['frame_period_ns'] = self.frame_period_ns
        transform = PLAIN if self.augmentation is None else self.augmentation.for_cache()
        return sampling, transform | ({'crops': self.crops} if self.crops > 1 else {})


def sided_clips(config: DatasetConfig, records: Sequence[ClipRecord]) -> frozenset[str]:
    """Return the names of the clips that must not be mirrored.

    One of their labels names a side: in the mirror it would be another label, or none.
    """
    tasks = {task.name: task for task in config.tasks}
    return frozenset(
        record.clip_id
        for record in records
        if any(tasks[task].flipped(label) != label for task, label in record.labels.items())
    )
