# SPDX-License-Identifier: Apache-2.0
"""The temporal grid: which frames of a stream enter a window.

The grid cuts time into slots of one frame period. Slot 0 starts a tenth of a period before the
first frame, and the earliest frame of each slot is the grid frame:

    slot        |    0    |    1    |    2    |    3    |
    frames        x  x  x     x  x              x x   x
    grid frames   x           x                 x
                                         `-- an empty slot: the window misses it

So the stamps alone choose the frames, not the order or the speed in which they arrive. There is
one exception: a gap restarts the window at once, although a late frame might have bridged it.
Training samples its clips with the same functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

import numpy as np

NANOSECONDS = 1_000_000_000

# A slot starts this share of a period early, so that a camera at the grid's own rate may jitter.
SLACK = 0.1

# The default `max_gap`, in frame periods. One lost frame leaves two periods between its
# neighbours, and stamps may jitter by half a period more. Two lost frames (three periods) restart
# the window, for training samples its clips evenly.
MAX_GAP_PERIODS = 2.5


def slot_of(stamp_ns: int, *, anchor_ns: int, frame_period_ns: int) -> int:
    """Return the slot of a stamp; a frame at the anchor is in slot 0."""
    return (stamp_ns - anchor_ns + round(SLACK * frame_period_ns)) // frame_period_ns


def grid_indices(stamps_ns: Sequence[int] | np.ndarray, *, frame_period_ns: int) -> list[int]:
    """Return which frames are on the grid that starts at the first stamp.

    Args:
        stamps_ns: Stamps of a clip's frames, ascending.
        frame_period_ns: Nanoseconds between two grid frames.

    Returns:
        Indices of the grid frames, ascending; an empty slot has no index.
    """
    chosen: list[int] = []
    last = -1
    for index, stamp in enumerate(stamps_ns):
        slot = slot_of(int(stamp), anchor_ns=int(stamps_ns[0]), frame_period_ns=frame_period_ns)
        if slot > last:
            chosen.append(index)
            last = slot
    return chosen


class Placement(Enum):
    """How the grid places a frame."""

    START = 'start'  # first frame of a window: the stream starts
    GAP = 'gap'  # first frame of a window: the gap before it is longer than max_gap
    JUMP = 'jump'  # first frame of a window: time jumped back
    NEW = 'new'  # first frame of a new slot
    REORDERED = 'reordered'  # late but within the tolerance: fills its older slot
    OFF_GRID = 'off_grid'  # its slot already has an earlier frame
    DUPLICATE = 'duplicate'  # a frame with this stamp came before
    LATE = 'late'  # later than the tolerance allows

    @property
    def restarts(self) -> bool:
        """Whether the window is emptied before the frame enters it."""
        return self in (Placement.START, Placement.GAP, Placement.JUMP)

    @property
    def on_grid(self) -> bool:
        """Whether the frame enters the window."""
        return self.restarts or self in (Placement.NEW, Placement.REORDERED)

    @property
    def opens_slot(self) -> bool:
        """Whether the frame is the newest of its window, which is then due for a hypothesis."""
        return self.restarts or self is Placement.NEW


@dataclass(frozen=True, kw_only=True)
class GridSettings:
    """Settings of the temporal grid, in nanoseconds.

    Attributes:
        frame_period_ns: Time between two grid frames.
        order_tolerance_ns: How far a frame may lag behind the newest one and still enter.
        max_gap_ns: Longest time between two grid frames of one window.
        jump_ns: If a frame lags further behind the newest one than this, time has jumped back.
    """

    frame_period_ns: int
    order_tolerance_ns: int = 0
    max_gap_ns: int
    jump_ns: int = NANOSECONDS

    def __post_init__(self) -> None:
        if self.frame_period_ns <= 0:
            raise ValueError(f'frame_period_ns={self.frame_period_ns}; expected more than 0')
        if self.max_gap_ns < self.frame_period_ns * (1 + SLACK):
            raise ValueError(
                f'max_gap of {self.max_gap_ns / NANOSECONDS:g} s is too short for a frame period '
                f'of {self.frame_period_ns / NANOSECONDS:g} s; expected at least '
                f'{self.frame_period_ns * (1 + SLACK) / NANOSECONDS:g} s'
            )
        if not 0 <= self.order_tolerance_ns <= self.jump_ns:
            raise ValueError(
                f'order_tolerance of {self.order_tolerance_ns / NANOSECONDS:g} s; expected 0 to '
                f'{self.jump_ns / NANOSECONDS:g} s (a frame later than that is a jump back)'
            )


class FrameGrid:
    """The grid of one camera: places each frame, in the window or not.

    `place` changes nothing; `commit` records the frame. A frame that proves unreadable in between
    is not committed, so the next frame of its slot becomes the grid frame.

    The grid remembers the stamps of the window's frames by slot:

        anchor_ns = 1000, frame_period_ns = 100        stamps {3: 1302, 4: 1395, 5: 1501}
    """

    def __init__(self, settings: GridSettings) -> None:
        self.settings = settings
        self._anchor_ns = 0
        self._newest_ns: int | None = None
        self._newest_grid_ns = 0
        self._stamps: dict[int, int] = {}

    def reset(self) -> None:
        """Forget all frames, as before the first one."""
        self._newest_ns = None
        self._stamps.clear()

    def place(self, stamp_ns: int) -> tuple[Placement, int]:
        """Return the placement and the slot of a frame with this stamp.

        A gap restarts the window at once: a late frame cannot bridge it any more.
        """
        settings = self.settings
        if self._newest_ns is None or not self._stamps:
            return Placement.START, 0
        behind_ns = self._newest_ns - stamp_ns
        if behind_ns > settings.jump_ns:
            return Placement.JUMP, 0
        if stamp_ns - self._newest_grid_ns > settings.max_gap_ns:
            return Placement.GAP, 0
        slot = slot_of(
            stamp_ns, anchor_ns=self._anchor_ns, frame_period_ns=settings.frame_period_ns
        )
        if behind_ns == 0 or self._stamps.get(slot) == stamp_ns:
            return Placement.DUPLICATE, slot
        if behind_ns > settings.order_tolerance_ns:
            return Placement.LATE, slot
        holder = self._stamps.get(slot)
        if holder is not None and holder < stamp_ns:
            return Placement.OFF_GRID, slot
        if behind_ns < 0 and slot > max(self._stamps):
            return Placement.NEW, slot
        # The window has slid past slots that are older than the oldest remembered one.
        return (Placement.REORDERED if slot >= min(self._stamps) else Placement.LATE), slot

    def commit(self, placement: Placement, slot: int, stamp_ns: int, *, keep: int) -> None:
        """Record a placed frame.

        Args:
            placement: Its placement, from `place`.
            slot: Its slot, from `place`.
            stamp_ns: Its stamp.
            keep: How many slots to remember: the frames in a window (T).
        """
        if placement.restarts:
            self._anchor_ns = stamp_ns
            self._newest_ns = self._newest_grid_ns = stamp_ns
            self._stamps = {0: stamp_ns}
            return
        self._newest_ns = max(self._newest_ns or stamp_ns, stamp_ns)
        if placement.on_grid:
            self._stamps[slot] = stamp_ns
            self._newest_grid_ns = max(self._newest_grid_ns, stamp_ns)
            while len(self._stamps) > keep:
                del self._stamps[min(self._stamps)]


# An edge shorter than a period and this share of it may be jitter, and counts no lost frame.
_JITTER = 0.25


def grid_loss(
    stamps_ns: Sequence[int], *, begin_ns: int, end_ns: int, frame_period_ns: int
) -> tuple[int, int]:
    """Return how many grid frames of one camera got a hypothesis, and how many were lost.

    The stamps of the hypotheses show where the grid lies. Each whole period without a hypothesis
    is a lost grid frame, between two hypotheses and at both edges of the interval.

    Args:
        stamps_ns: Stamps of the camera's hypotheses, in any order.
        begin_ns: Start of the interval.
        end_ns: End of the interval.
        frame_period_ns: Nanoseconds between two grid frames.

    Raises:
        ValueError: The interval ends before it starts, or the period is not positive.
    """
    if end_ns < begin_ns or frame_period_ns <= 0:
        raise ValueError(
            f'from {begin_ns} to {end_ns} ns, a grid frame every {frame_period_ns} ns: expected '
            'an end that is not before the start, and a period above 0'
        )
    inside = sorted({stamp for stamp in stamps_ns if begin_ns <= stamp < end_ns})
    if not inside:
        return 0, (end_ns - begin_ns) // frame_period_ns
    between = sum(
        max(0, round((after - before) / frame_period_ns) - 1) for before, after in pairwise(inside)
    )
    edges = (inside[0] - begin_ns, end_ns - inside[-1])
    outside = sum(max(0, int(edge / frame_period_ns - _JITTER)) for edge in edges)
    return len(inside), between + outside
