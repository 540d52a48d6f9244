# SPDX-License-Identifier: Apache-2.0
"""Choose the frames of a clip for a window: on the stream's grid, or from uniform segments.

Source: the longer STEP paper, supplement B: 16 frames at an interval of 2, three temporal clips
whose scores are averaged (Drive&Act, IKEA-ASM); 16 uniform segments (NTU RGB+D 120).

A clip that is too short for a window repeats its last frame at the end. (The papers do not define
the padding; Drive&Act has clips of 4 frames.)
"""

from collections.abc import Sequence

import numpy as np

from step_ros.streaming.grid import grid_indices

# Frames that a rendered clip has per frame period: the phases at which a window can start.
PHASES = 2

Stamps = Sequence[int] | np.ndarray


def period_of_interval(stamps_ns: Stamps, interval: int) -> int:
    """Return the frame period, in nanoseconds, of an interval in frames.

    Args:
        stamps_ns: Stamps of the video's frames, ascending.
        interval: Number of video frames from one frame of a window to the next.

    Raises:
        ValueError: The interval is less than 1, or there are fewer than two frames.
    """
    if interval < 1:
        raise ValueError(f'interval={interval}: expected at least 1')
    if len(stamps_ns) < 2:
        raise ValueError('a frame interval needs a video of at least two frames')
    # The median ignores gaps and a slightly variable frame rate.
    return round(interval * float(np.median(np.diff(np.asarray(stamps_ns, dtype=np.int64)))))


def window_at(stamps_ns: Stamps, start: int, *, frames: int, frame_period_ns: int) -> list[int]:
    """Return the frames of the window that starts at a frame, as the stream chooses them.

    Args:
        stamps_ns: Stamps of the clip's frames, ascending.
        start: Index of the first frame.
        frames: Frames in a window (T).
        frame_period_ns: Nanoseconds between two frames of the window.

    Returns:
        Indices of `frames` frames, ascending; the last one is repeated if the clip ends early.
    """
    on_grid = grid_indices(np.asarray(stamps_ns)[start:], frame_period_ns=frame_period_ns)
    return pad_window([start + index for index in on_grid[:frames]], frames)


def pad_window(chosen: list[int], frames: int) -> list[int]:
    """Return the window, filled up by repeating its last frame."""
    return chosen + chosen[-1:] * (frames - len(chosen))


def latest_start(stamps_ns: Stamps, *, frames: int, frame_period_ns: int) -> int:
    """Return the last frame at which a full window starts; 0 if the clip is too short."""
    stamps = np.asarray(stamps_ns, dtype=np.int64)
    low, high = 0, len(stamps) - 1
    # Bisection works because a later start leaves no more frames on the grid. Jitter may break
    # this by a single frame.
    while low < high:
        middle = (low + high + 1) // 2
        if _is_full(stamps, middle, frames, frame_period_ns):
            low = middle
        else:
            high = middle - 1
    return low


def _is_full(stamps: np.ndarray, start: int, frames: int, frame_period_ns: int) -> bool:
    return len(grid_indices(stamps[start:], frame_period_ns=frame_period_ns)) >= frames


def spread_windows(
    stamps_ns: Stamps, *, frames: int, frame_period_ns: int, clips: int
) -> list[list[int]]:
    """Return windows spread evenly over a clip, for testing.

    Args:
        stamps_ns: Stamps of the clip's frames, ascending.
        frames: Frames in a window (T).
        frame_period_ns: Nanoseconds between two frames of a window.
        clips: Number of windows. One lies in the middle; several reach from the first frame to
            the last.
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
    """Return a window with a random start, for training."""
    _check(stamps_ns, 1)
    latest = latest_start(stamps_ns, frames=frames, frame_period_ns=frame_period_ns)
    start = int(rng.integers(latest + 1))
    return window_at(stamps_ns, start, frames=frames, frame_period_ns=frame_period_ns)


def segment_window(
    stamps_ns: Stamps, *, frames: int, rng: np.random.Generator | None = None
) -> list[int]:
    """Return one frame of each of `frames` equal segments of a clip.

    Args:
        stamps_ns: Stamps of the clip's frames, ascending.
        frames: Frames in a window (T).
        rng: Chooses a frame in each segment; None takes the middle.

    Returns:
        Indices, ascending; some occur twice if the clip has fewer frames than segments.
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
