"""Which frames of a clip make a window: the stream's own grid, or uniform segments.

Source: the longer STEP paper, supplement B: 16 frames at an interval of 2, three temporal clips
whose answers are averaged (Drive&Act, IKEA-ASM); 16 uniform segments (NTU RGB+D 120).

A clip too short for its window is padded by its last frame, at the end. (The papers do not say
how; Drive&Act has clips of 4 frames.)
"""

from collections.abc import Sequence

import numpy as np

from step_ros.streaming.grid import grid_indices

# Frames a clip is rendered at for each frame period: the phases that a window can start in.
PHASES = 2

Stamps = Sequence[int] | np.ndarray


def period_of_interval(stamps_ns: Stamps, interval: int) -> int:
    """Return the frame period in nanoseconds that an interval in frames means for a video.

    Args:
        stamps_ns: Stamps of the video's frames, ascending.
        interval: Every how many frames one is taken.

    Raises:
        ValueError: The interval is less than 1, or there are fewer than two frames.
    """
    if interval < 1:
        raise ValueError(f'interval={interval}: expected at least 1')
    if len(stamps_ns) < 2:
        raise ValueError('a frame interval needs a video of at least two frames')
    # The median: a video may have a gap, or a rate that varies a little.
    return round(interval * float(np.median(np.diff(np.asarray(stamps_ns, dtype=np.int64)))))


def window_at(stamps_ns: Stamps, start: int, *, frames: int, frame_period_ns: int) -> list[int]:
    """Choose the frames of the window that starts at a frame, as the stream would.

    Args:
        stamps_ns: Stamps of the clip's frames, ascending.
        start: Index of the first frame.
        frames: Frames in a window (T).
        frame_period_ns: Nanoseconds between two of them.

    Returns:
        Indices of `frames` frames, ascending; the last one is repeated where the clip ends early.
    """
    on_grid = grid_indices(np.asarray(stamps_ns)[start:], frame_period_ns=frame_period_ns)
    return pad_window([start + index for index in on_grid[:frames]], frames)


def pad_window(chosen: list[int], frames: int) -> list[int]:
    """Repeat the last frame until the window is full."""
    return chosen + chosen[-1:] * (frames - len(chosen))


def latest_start(stamps_ns: Stamps, *, frames: int, frame_period_ns: int) -> int:
    """Return the last frame at which a whole window starts; 0 for a clip that is too short."""
    stamps = np.asarray(stamps_ns, dtype=np.int64)
    low, high = 0, len(stamps) - 1
    # Starting later never leaves more frames on the grid but for jitter, which one step undoes.
    while low < high:
        middle = (low + high + 1) // 2
        if _whole(stamps, middle, frames, frame_period_ns):
            low = middle
        else:
            high = middle - 1
    return low


def _whole(stamps: np.ndarray, start: int, frames: int, frame_period_ns: int) -> bool:
    return len(grid_indices(stamps[start:], frame_period_ns=frame_period_ns)) >= frames


def spread_windows(
    stamps_ns: Stamps, *, frames: int, frame_period_ns: int, clips: int
) -> list[list[int]]:
    """Choose windows spread evenly over a clip, for testing.

    Args:
        stamps_ns: Stamps of the clip's frames, ascending.
        frames: Frames in a window (T).
        frame_period_ns: Nanoseconds between two of them.
        clips: How many windows: one lies in the middle, several reach from the first frame to the
            last.
    """
    _check(stamps_ns, clips)
    latest = latest_start(stamps_ns, frames=frames, frame_period_ns=frame_period_ns)
    starts = [latest / 2] if clips == 1 else np.linspace(0, latest, clips)
    return [
        window_at(stamps_ns, round(start), frames=frames, frame_period_ns=frame_period_ns)
        for start in starts
    ]


def random_window(
    stamps_ns: Stamps, *, frames: int, frame_period_ns: int, rng: np.random.Generator
) -> list[int]:
    """Choose a window with a random start, for training."""
    _check(stamps_ns, 1)
    latest = latest_start(stamps_ns, frames=frames, frame_period_ns=frame_period_ns)
    start = int(rng.integers(latest + 1))
    return window_at(stamps_ns, start, frames=frames, frame_period_ns=frame_period_ns)


def segment_window(
    stamps_ns: Stamps, *, frames: int, rng: np.random.Generator | None = None
) -> list[int]:
    """Cut a clip into as many equal segments as a window has frames and take one frame of each.

    Args:
        stamps_ns: Stamps of the clip's frames, ascending.
        frames: Frames in a window (T).
        rng: Chooses within each segment; None takes the middle.

    Returns:
        Indices, ascending; a clip with fewer frames than segments gives some frames twice.
    """
    _check(stamps_ns, 1)
    edges = np.linspace(0, len(stamps_ns), frames + 1)
    within = rng.random(frames) if rng is not None else np.full(frames, 0.5)
    places = edges[:-1] + within * np.diff(edges)
    return [int(place) for place in np.minimum(places, len(stamps_ns) - 1)]


def _check(stamps_ns: Stamps, clips: int) -> None:
    if len(stamps_ns) == 0:
        raise ValueError('a clip without frames has no window')
    if clips < 1:
        raise ValueError(f'clips={clips}: expected at least 1')
