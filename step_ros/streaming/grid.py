"""The temporal grid: which frames of a stream are looked at.

Time is cut into slots of one frame period, starting a tenth of a period before the first frame,
and the earliest frame of each slot is the one that counts. So which frames are chosen depends on
their stamps alone, not on the order or the speed at which they come (but for a gap: it counts at
once, though a late frame might have bridged it). Training samples its clips with the same
functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

import numpy as np

NANOSECONDS = 1_000_000_000

# A slot begins this share of a period early, so that a camera at the grid's own rate may jitter.
SLACK = 0.1


def slot_of(stamp_ns: int, *, anchor_ns: int, frame_period_ns: int) -> int:
    """Return the slot that a stamp falls in; the frame at the anchor is in slot 0."""
    return (stamp_ns - anchor_ns + round(SLACK * frame_period_ns)) // frame_period_ns


def grid_indices(stamps_ns: Sequence[int] | np.ndarray, *, frame_period_ns: int) -> list[int]:
    """Choose the frames on the grid that starts at the first stamp.

    Args:
        stamps_ns: Stamps of a clip's frames, ascending.
        frame_period_ns: Nanoseconds between two grid frames.

    Returns:
        Indices of the frames on the grid, ascending; a slot without a frame is left out.
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
    """What becomes of a frame."""

    START = 'start'  # the first frame of a window: at the beginning of the stream
    GAP = 'gap'  # likewise, after a gap that is too long
    JUMP = 'jump'  # likewise, after time jumped back
    NEW = 'new'  # the first frame of a new slot
    REORDERED = 'reordered'  # came late, but within tolerance: takes its place in an older slot
    OFF_GRID = 'off_grid'  # its slot already has an earlier frame
    DUPLICATE = 'duplicate'  # its stamp was there before
    LATE = 'late'  # came later than the tolerance allows

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
        """Whether the frame is the newest of its window, which then wants a hypothesis."""
        return self.restarts or self is Placement.NEW


@dataclass(frozen=True, kw_only=True)
class GridSettings:
    """How a stream is put on the grid.

    Attributes:
        frame_period_ns: Nanoseconds between two grid frames.
        order_tolerance_ns: How far behind the newest frame a frame may come and still count.
        max_gap_ns: Longest time between two grid frames of one window.
        jump_ns: A frame further behind the newest one than this means that time jumped back.
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
    """The grid of one camera: decides for each frame whether it enters the window.

    `place` only looks; `commit` makes it so. A frame that turns out to be unreadable in between is
    simply not committed, and the next one of its slot takes its place.
    """

    def __init__(self, settings: GridSettings) -> None:
        self.settings = settings
        self._anchor_ns = 0
        self._newest_ns: int | None = None
        self._newest_grid_ns = 0
        self._stamps: dict[int, int] = {}

    def reset(self) -> None:
        """Forget everything, as before the first frame."""
        self._newest_ns = None
        self._stamps.clear()

    def place(self, stamp_ns: int) -> tuple[Placement, int]:
        """Say what becomes of a frame with this stamp, and its slot.

        A gap counts at once: a late frame that would have bridged it comes too late.
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
        # A slot older than all that are kept has left the window.
        return (Placement.REORDERED if slot >= min(self._stamps) else Placement.LATE), slot

    def commit(self, placement: Placement, slot: int, stamp_ns: int, *, keep: int) -> None:
        """Take note of a placed frame.

        Args:
            placement: What `place` said.
            slot: Likewise.
            stamp_ns: The frame's stamp.
            keep: How many slots to remember: the frames in a window.
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


# ---- How many grid frames were answered, and how many were not, by the hypotheses' own stamps.

# Stamps jitter by this share of a period at most: at an edge only what is clearly missing counts.
_JITTER = 0.25


def grid_loss(
    stamps_ns: Sequence[int], *, begin_ns: int, end_ns: int, frame_period_ns: int
) -> tuple[int, int]:
    """Count the grid frames of one camera in a time, by the stamps of its hypotheses.

    The hypotheses say where the grid lies; whole periods without one, between them and towards the
    edges of the time, are grid frames that were lost.

    Args:
        stamps_ns: Stamps of the camera's hypotheses, in any order.
        begin_ns: Beginning of the time.
        end_ns: Its end.
        frame_period_ns: Nanoseconds between two grid frames.

    Returns:
        Grid frames with a hypothesis, and those without.

    Raises:
        ValueError: The time is shorter than nothing, or the period not longer.
    """
    if end_ns < begin_ns or frame_period_ns <= 0:
        raise ValueError(
            f'from {begin_ns} to {end_ns} ns, a grid frame every {frame_period_ns} ns: expected a '
            'time that ends after it begins and a period above 0'
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
