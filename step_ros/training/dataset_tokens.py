"""From a dataset's videos to cached tokens: views for training, windows for evaluation."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from torch import Tensor

from step_ros.data.clip_reader import VideoIndex, index_video, read_frames, span_frames
from step_ros.data.clip_record import ClipRecord
from step_ros.data.dataset_schema import DatasetConfig
from step_ros.data.sampling import period_of_interval, random_window, spread_windows
from step_ros.data.video import VideoError
from step_ros.model.backbone import Backbone
from step_ros.stream.encoder import Encoder
from step_ros.stream.grid import NANOSECONDS
from step_ros.stream.preprocess import fit_image
from step_ros.training.augment import PLAIN, Augmentation, augment, view_generator
from step_ros.training.cache_spec import CacheSpec, spec_for
from step_ros.training.dataset_recipe import CacheRecipe, DatasetRecipe
from step_ros.training.feature_cache import FeatureCache, extract

# Videos whose frame times are remembered: the clips of a long video come one after the other.
_REMEMBERED = 8
# Frame rates may differ by this share before one interval means two different things.
SAME_RATE = 0.05

_index = lru_cache(maxsize=_REMEMBERED)(index_video)


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Loads the images of one view of a clip.

    Attributes:
        frames: Frames in a window (T).
        frame_period_ns: Nanoseconds between two of them.
        size: Height and width that the encoder takes.
        views: Windows kept of a clip.
        augmentation: How training views differ; None for the windows of evaluation.
        seed: Decides training views.
        sided: Names of the clips whose labels do not stay true in the mirror.
    """

    frames: int
    frame_period_ns: int
    size: tuple[int, int]
    views: int
    augmentation: Augmentation | None = None
    seed: int = 0
    sided: frozenset[str] = frozenset()

    def __call__(self, record: ClipRecord, view: int) -> np.ndarray:
        """Return the images of a view, uint8 RGB, `[t, h, w, 3]`.

        Raises:
            VideoError: The clip cannot be decoded.
        """
        index = _index(record.video)
        numbers = span_frames(index, record.span)
        stamps_ns = index.stamps_ns[numbers]
        if self.augmentation is None:
            chosen = spread_windows(
                stamps_ns,
                frames=self.frames,
                frame_period_ns=self.frame_period_ns,
                clips=self.views,
            )[view]
            images = read_frames(index, numbers[chosen])
            return np.stack([fit_image(image, self.size) for image in images])
        rng = view_generator(self.seed, record.clip_id, view)
        chosen = random_window(
            stamps_ns, frames=self.frames, frame_period_ns=self.frame_period_ns, rng=rng
        )
        return augment(
            read_frames(index, numbers[chosen]),
            self.augmentation,
            size=self.size,
            may_flip=record.clip_id not in self.sided,
            rng=rng,
        )


def common_frame_period(records: Sequence[ClipRecord], recipe: DatasetRecipe) -> float:
    """Return the seconds between two frames of a window: the recipe's, or what its interval means.

    Raises:
        ValueError: The interval means different times in different videos.
        VideoError: No video can be read.
    """
    sampling = recipe.sampling
    if sampling.frame_period is not None:
        return sampling.frame_period
    assert sampling.interval is not None
    periods: dict[Path, int] = {}
    for video in sorted({record.video for record in records}):
        try:
            index: VideoIndex = _index(video)
            periods[video] = period_of_interval(index.stamps_ns, sampling.interval)
        except (VideoError, ValueError):
            continue  # extraction will say so
    if not periods:
        raise VideoError(records[0].video, 'neither this nor any other video can be read')
    shortest, longest = (
        min(periods, key=periods.__getitem__),
        max(periods, key=periods.__getitem__),
    )
    if periods[longest] > (1 + SAME_RATE) * periods[shortest]:
        raise ValueError(
            f'sampling.interval={sampling.interval} means {periods[shortest] / NANOSECONDS:.4f} s '
            f'in {shortest} and {periods[longest] / NANOSECONDS:.4f} s in {longest}; set '
            'sampling.frame_period, in seconds'
        )
    return round(float(np.median(list(periods.values()))) / NANOSECONDS, 6)


def sided_clips(config: DatasetConfig, records: Sequence[ClipRecord]) -> frozenset[str]:
    """Return the names of the clips that must not be mirrored."""
    tasks = {task.name: task for task in config.tasks}
    return frozenset(
        record.clip_id
        for record in records
        if any(tasks[task].flipped(label) != label for task, label in record.labels.items())
    )


def cached_tokens(
    records: Sequence[ClipRecord],
    sampler: Sampler,
    backbone: Backbone,
    encoder: Encoder,
    cache: CacheRecipe,
    *,
    dataset: str,
) -> FeatureCache:
    """Encode what a sampler gives, unless it is cached already.

    Args:
        records: The clips.
        sampler: Chooses and loads.
        backbone: Says what the tokens are.
        encoder: Runs it.
        cache: Where to, and how.
        dataset: Name of the dataset and of its options.
    """
    sampling: Mapping[str, object] = {
        'frame_period_ns': sampler.frame_period_ns,
        'seed': sampler.seed if sampler.augmentation else None,
        'spread': sampler.augmentation is None,
        'sided': hashlib.sha256('\n'.join(sorted(sampler.sided)).encode()).hexdigest()[:12],
    }
    transform = PLAIN if sampler.augmentation is None else sampler.augmentation.for_cache()
    spec: CacheSpec = spec_for(
        backbone,
        dataset=dataset,
        sampling=dict(sampling),
        transform=dict(transform),
        frames=sampler.frames,
        views=sampler.views,
        dtype=cache.dtype,
    )
    folder = extract(
        cache.folder,
        spec,
        records,
        sampler,
        partial(_encode, encoder),
        workers=cache.workers,
    )
    return FeatureCache(folder, spec)


def _encode(encoder: Encoder, images_thw3: np.ndarray) -> Tensor:
    return encoder.encode(list(images_thw3))
