# SPDX-License-Identifier: Apache-2.0
"""The frame rates of a dataset's videos, and the frame period that a recipe means for them.

Every video is measured, because an interval of frames means another time in a video of another
rate. `frame-rates.jsonl` beside the token caches keeps the results, one line per video with the
digest of its content, so that the next training run need not measure the videos again. A stopped
measurement keeps the lines it has written.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from torch.utils.data import DataLoader, Dataset

from step_ros.datasets.clip import ClipRecord
from step_ros.datasets.frames import index_camera
from step_ros.datasets.identity import source_digests
from step_ros.datasets.sampling import period_of_interval
from step_ros.io.video import VideoError
from step_ros.reporting.progress import track
from step_ros.streaming.grid import NANOSECONDS
from step_ros.training.config import Recipe
from step_ros.training.feature_cache.spec import CacheError

FILE = 'frame-rates.jsonl'

# Frame rates may differ by this share before one interval means two different periods.
SAME_RATE = 0.05

# A video, or a bag and one of its cameras.
Camera = tuple[Path, str]

# Digest of a video or bag, and image topic.
_Content = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class FrameRate:
    """The frames of a video.

    Attributes:
        frames: Number of frames.
        step_ns: Median distance of two neighbouring frames in nanoseconds.
    """

    frames: int
    step_ns: int


def common_frame_period(records: Sequence[ClipRecord], recipe: Recipe) -> float:
    """Return the seconds between two frames of the stream's windows.

    The recipe's frame period comes first, then its interval. For segments it is the median over
    the training clips of their duration divided by the frames in a window. That last one is
    printed: training shows shorter and longer clips faster or slower than the stream does.

    Raises:
        ValueError: The interval means different periods in different videos, or there are no
            clips.
        VideoError: No video can be read.
        CacheError: The measured rates cannot be kept.
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
    return _period_of_interval(rates, sampling.interval)


def _period_of_interval(rates: Mapping[Camera, FrameRate], interval: int) -> float:
    shortest = min(rates, key=lambda camera: rates[camera].step_ns)
    longest = max(rates, key=lambda camera: rates[camera].step_ns)
    seconds = interval / NANOSECONDS
    if rates[longest].step_ns > (1 + SAME_RATE) * rates[shortest].step_ns:
        raise ValueError(
            f'sampling.interval={interval} means {rates[shortest].step_ns * seconds:.4f} '
            f's in {_name(shortest)} and {rates[longest].step_ns * seconds:.4f} s in '
            f'{_name(longest)}; set sampling.frame_period, in seconds'
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
        f'clips of duration / {frames} (5th to 95th percentile: {low:.4f} to {high:.4f} s); '
        'sampling.frame_period sets another',
        soft_wrap=True,
        highlight=False,
    )
    return round(float(median), 6)


def _duration(record: ClipRecord, rate: FrameRate) -> float:
    """Return the seconds that a clip lasts."""
    step = rate.step_ns / NANOSECONDS
    if record.span is None:
        return rate.frames * step
    length = record.span.end - record.span.start
    return length if record.span.unit == 'seconds' else length * step


def _name(camera: Camera) -> str:
    return ' '.join(str(part) for part in camera if part)


def camera_of(record: ClipRecord) -> Camera:
    """Return the source of a clip: the clips of one camera have one frame rate."""
    return record.video, record.topic


def frame_rates(
    records: Sequence[ClipRecord], *, folder: Path, workers: int = 0
) -> dict[Camera, FrameRate]:
    """Measure the videos of clips that are not measured yet.

    Args:
        records: The clips.
        folder: Folder of `frame-rates.jsonl`.
        workers: Processes that measure.

    Returns:
        The rate of each `camera_of` a clip. Videos that cannot be read or have a single frame are
        left out.

    Raises:
        CacheError: `frame-rates.jsonl` cannot be read or written.
    """
    by_camera = {camera_of(record): record for record in records}
    known = _read(folder / FILE)
    digests = source_digests(path for path, _ in by_camera)
    contents = {(path, topic): (digests[path], topic) for path, topic in by_camera}
    missing = [record for camera, record in by_camera.items() if contents[camera] not in known]
    if missing:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Line buffering writes each line at once: several processes may append.
            with (folder / FILE).open('a', encoding='utf-8', buffering=1) as file:
                measured = DataLoader(
                    _Rates(missing), batch_size=None, num_workers=min(workers, len(missing))
                )
                pairs = zip(missing, measured, strict=True)
                for record, rate in track(pairs, 'measure frame rates', len(missing)):
                    if rate is not None:
                        content = contents[camera_of(record)]
                        known[content] = rate
                        line = json.dumps([*content, rate.frames, rate.step_ns])
                        # The first newline ends a line that a killed process left unfinished.
                        file.write(f'\n{line}\n')
        except OSError as error:
            raise CacheError(folder / FILE, f'cannot be written: {error}') from error
    return {camera: known[content] for camera, content in contents.items() if content in known}


class _Rates(Dataset[FrameRate | None]):
    """The rate of each clip's video; None if it cannot be measured."""

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


def _read(path: Path) -> dict[_Content, FrameRate]:
    known = {}
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise CacheError(path, f'not readable: {error}; delete it') from error
    for line in lines:
        try:
            digest, topic, frames, step_ns = json.loads(line)
        except ValueError:
            # An empty line, one that a killed process left unfinished, or one of an earlier
            # version, which knew a video by its path.
            continue
        known[digest, topic] = FrameRate(frames=frames, step_ns=step_ns)
    return known
