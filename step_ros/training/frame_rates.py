"""How far apart the frames of a dataset's videos are: measured once, in parallel, and kept.

Every video is looked at, because one of another rate would be sampled wrongly. What was measured
stands in `frame-rates.jsonl` beside the caches, a line for each file as it was then, so that the
next training need not open it. Measuring can be stopped at any time; what was done is kept.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.utils.data import DataLoader, Dataset

from step_ros.data.clip_reader import index_camera
from step_ros.data.clip_record import ClipRecord
from step_ros.data.sampling import period_of_interval
from step_ros.data.video import VideoError
from step_ros.training.cache_spec import CacheError
from step_ros.training.progress import track

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
