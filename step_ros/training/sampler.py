"""From a dataset's videos to cached tokens: views for training, windows for evaluation."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from step_ros.datasets.clip import ClipRecord
from step_ros.datasets.frames import index_camera, index_clip, read_frames, span_frames
from step_ros.datasets.sampling import (
    period_of_interval,
    random_window,
    segment_window,
    spread_windows,
)
from step_ros.datasets.schema import DatasetConfig
from step_ros.encoders.base import Encoder
from step_ros.io.video import VideoError
from step_ros.model.backbone import Backbone
from step_ros.reporting.progress import track
from step_ros.streaming.grid import NANOSECONDS
from step_ros.training.augmentation import PLAIN, Augmentation, augment, cut_crop, view_generator
from step_ros.training.config import CacheRecipe, DatasetRecipe
from step_ros.training.feature_cache.cache import FeatureCache, estimate, extract
from step_ros.training.feature_cache.spec import CacheError, CacheEstimate, CacheSpec, spec_for

# ---- How far apart the frames of a dataset's videos are: measured once, in parallel, and kept.
#
# Every video is looked at, because one of another rate would be sampled wrongly. What was measured
# stands in `frame-rates.jsonl` beside the caches, a line for each file as it was then, so that the
# next training need not open it. Measuring can be stopped at any time; what was done is kept.

FILE = 'frame-rates.jsonl'

# A video, or a bag and one of its cameras.
Camera = tuple[Path, str]

# It as it was when it was measured: path, image topic, bytes, time of its last change.
_State = tuple[str, str, int, int]


@dataclass(frozen=True, kw_only=True)
class FrameRate:
    """The frames of a video.

    Attributes:
        frames: How many.
        step_ns: Nanoseconds from one to the next, the median.
    """

    frames: int
    step_ns: int


def frame_rates(
    records: Sequence[ClipRecord], *, folder: Path, workers: int = 0
) -> dict[Camera, FrameRate]:
    """Measure the videos of clips, as far as that is not done yet.

    Args:
        records: The clips.
        folder: Where what was measured is kept.
        workers: Processes that measure.

    Returns:
        The rate of each `camera_of` a clip; one that cannot be read, or has a single frame, is
        left out.

    Raises:
        CacheError: The folder cannot be written.
    """
    by_camera = {camera_of(record): record for record in records}
    known = _read(folder / FILE)
    states = {camera: _state(camera) for camera in by_camera}
    missing = [record for camera, record in by_camera.items() if states[camera] not in known]
    if missing:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Each line is written at once, so that several processes may add theirs.
            with (folder / FILE).open('a', encoding='utf-8', buffering=1) as file:
                measured = DataLoader(
                    _Rates(missing), batch_size=None, num_workers=min(workers, len(missing))
                )
                pairs = zip(missing, measured, strict=True)
                for record, rate in track(pairs, 'measure frame rates', len(missing)):
                    state = states[camera_of(record)]
                    if rate is not None and state is not None:
                        known[state] = rate
                        # A line that a killed process left unfinished ends here.
                        file.write('\n' + json.dumps([*state, rate.frames, rate.step_ns]) + '\n')
        except OSError as error:
            raise CacheError(folder / FILE, f'cannot be written: {error}') from error
    return {camera: known[state] for camera, state in states.items() if state and state in known}


def camera_of(record: ClipRecord) -> Camera:
    """Return what a clip was cut from: the clips of one camera have one frame rate."""
    return record.video, record.topic


class _Rates(Dataset[FrameRate | None]):
    """The rate of each clip's video; None where it has none."""

    def __init__(self, records: Sequence[ClipRecord]) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> FrameRate | None:
        try:
            video = index_camera(*camera_of(self._records[index]))
            step_ns = period_of_interval(video.stamps_ns, 1)
        except (VideoError, ValueError):
            return None
        return FrameRate(frames=len(video), step_ns=step_ns)


def _state(camera: Camera) -> _State | None:
    path, topic = camera
    try:
        status = path.stat()
    except OSError:
        return None
    return str(path.absolute()), topic, status.st_size, status.st_mtime_ns


def _read(path: Path) -> dict[_State, FrameRate]:
    known = {}
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise CacheError(path, f'not readable: {error}; delete it') from error
    for line in lines:
        try:
            video, topic, size, changed_ns, frames, step_ns = json.loads(line)
        except ValueError:
            continue  # empty, or cut off when a process was killed
        known[video, topic, size, changed_ns] = FrameRate(frames=frames, step_ns=step_ns)
    return known


# Frame rates may differ by this share before one interval means two different things.
SAME_RATE = 0.05


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Loads the images of one view of a clip.

    Attributes:
        frames: Frames in a window (T).
        frame_period_ns: Nanoseconds between two of them; segments do not look at it.
        size: Height and width that the encoder takes.
        views: Windows kept of a clip; for testing those of all crops.
        kind: Frames at equal distances in time, or one of each of `frames` equal segments.
        augmentation: How training views differ; None for the windows of evaluation.
        seed: Decides training views.
        sided: Names of the clips whose labels do not stay true in the mirror.
        crops: Parts of the image that each window of evaluation is cut into.

    Raises:
        ValueError: `views` and `crops` do not go together, or not with `kind`.
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
                raise ValueError(f'crops={self.crops}: training views are cut at random, not so')
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
        """Return what a cache's key has to know: how frames are chosen, how images are changed."""
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


def common_frame_period(records: Sequence[ClipRecord], recipe: DatasetRecipe) -> float:
    """Return the seconds between two frames of the stream's windows.

    That is the recipe's frame period, or what its interval means, or, for segments, the median
    over the training clips of their duration divided by the frames in a window; the last is said
    on the terminal, for clips of other durations were seen faster or slower than the stream.

    Raises:
        ValueError: The interval means different times in different videos.
        VideoError: No video can be read.
        CacheError: What was measured cannot be kept.
    """
    sampling = recipe.sampling
    if sampling.frame_period is not None:
        return sampling.frame_period
    if sampling.kind == 'segments':
        records = [record for record in records if record.split == 'train']
    if not records:
        raise ValueError('there are no clips to take the frame period from')
    rates = frame_rates(records, folder=recipe.cache.folder, workers=recipe.cache.workers)
    if not rates:
        raise VideoError(records[0].video, 'neither this nor any other video can be read')
    if sampling.kind == 'segments':
        return _period_of_segments(records, rates, sampling.frames)
    assert sampling.interval is not None
    shortest = min(rates, key=lambda camera: rates[camera].step_ns)
    longest = max(rates, key=lambda camera: rates[camera].step_ns)
    seconds = sampling.interval / NANOSECONDS
    if rates[longest].step_ns > (1 + SAME_RATE) * rates[shortest].step_ns:
        raise ValueError(
            f'sampling.interval={sampling.interval} means {rates[shortest].step_ns * seconds:.4f} '
            f's in {_name(shortest)} and {rates[longest].step_ns * seconds:.4f} s in '
            f'{_name(longest)}; set '
            'sampling.frame_period, in seconds'
        )
    return round(float(np.median([rate.step_ns for rate in rates.values()])) * seconds, 6)


def _period_of_segments(
    records: Sequence[ClipRecord], rates: Mapping[Camera, FrameRate], frames: int
) -> float:
    periods = np.array(
        [
            _duration(record, rates[camera_of(record)]) / frames
            for record in records
            if camera_of(record) in rates
        ]
    )
    low, median, high = np.percentile(periods, (5, 50, 95))
    Console().print(
        f'frame period of the stream: {median:.4f} s, the median over {len(periods)} training '
        f'clips of duration / {frames} (most lie between {low:.4f} and {high:.4f}); '
        'sampling.frame_period sets another',
        soft_wrap=True,
        highlight=False,
    )
    return round(float(median), 6)


def _name(camera: Camera) -> str:
    return ' '.join(str(part) for part in camera if part)


def _duration(record: ClipRecord, rate: FrameRate) -> float:
    """Return the seconds that a clip lasts."""
    step = rate.step_ns / NANOSECONDS
    if record.span is None:
        return rate.frames * step
    length = record.span.end - record.span.start
    return length if record.span.unit == 'seconds' else length * step


def sided_clips(config: DatasetConfig, records: Sequence[ClipRecord]) -> frozenset[str]:
    """Return the names of the clips that must not be mirrored."""
    tasks = {task.name: task for task in config.tasks}
    return frozenset(
        record.clip_id
        for record in records
        if any(tasks[task].flipped(label) != label for task, label in record.labels.items())
    )


def estimate_tokens(
    records: Sequence[ClipRecord],
    sampler: Sampler,
    backbone: Backbone,
    cache: CacheRecipe,
    *,
    dataset: str,
) -> CacheEstimate:
    """Say how much `cached_tokens` will write; arguments as there."""
    return estimate(cache.folder, _spec(sampler, backbone, cache, dataset), records)


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
    spec = _spec(sampler, backbone, cache, dataset)
    if (encoder.runtime, encoder.precision) != ('torch', 'float32'):
        # Other numbers, if only by rounding: they must not pass for those of the weights alone.
        runs = ' '.join(filter(None, [encoder.runtime, encoder.precision, encoder.variant]))
        spec = spec.model_copy(update={'digest': f'{spec.digest} {runs}'})
    folder = extract(
        cache.folder,
        spec,
        records,
        sampler,
        partial(_encode, encoder),
        workers=cache.workers,
    )
    return FeatureCache(folder, spec)


def _spec(sampler: Sampler, backbone: Backbone, cache: CacheRecipe, dataset: str) -> CacheSpec:
    sampling, transform = sampler.for_cache()
    return spec_for(
        backbone,
        dataset=dataset,
        sampling=sampling,
        transform=transform,
        frames=sampler.frames,
        views=sampler.views,
        dtype=cache.dtype,
    )


def _encode(encoder: Encoder, images_thw3: np.ndarray) -> Tensor:
    return encoder.encode(list(images_thw3))
