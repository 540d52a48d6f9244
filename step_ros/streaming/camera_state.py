# SPDX-License-Identifier: Apache-2.0
"""The state of one camera: grid, window, attention cache and counters."""

from collections import Counter, deque
from collections.abc import Mapping
from statistics import median_low

from step_ros.images.errors import FrameError
from step_ros.images.resize import cut_box, fit_image
from step_ros.streaming.attention_cache.cache import HeadCache
from step_ros.streaming.frame import Frame, GridFrame
from step_ros.streaming.grid import NANOSECONDS, FrameGrid, GridSettings, Placement
from step_ros.streaming.window import Window

# No hypothesis can carry this stamp: `builtin_interfaces/Time` has 31 bits for seconds. A
# malformed message can: its nanoseconds field may hold more than a second.
END_OF_TIME_NS = 2**31 * NANOSECONDS

# Gaps without a full window between them after which the camera counts as too slow.
GAPS_TOO_SLOW = 3


def frames_used(counts: Mapping[str, int]) -> int:
    """Return how many of the counted frames entered a window."""
    return sum(counts.get(placement.value, 0) for placement in Placement if placement.on_grid)


class CameraState:
    """Grid, window, attention cache and counters of one camera.

    A frame is placed on the grid, then loaded or left out; a loaded frame enters the window. The
    first two steps may run in another thread than the last.

    Args:
        frames: Frames in a window (T).
        settings: Settings of the grid.
        cache: The attention cache of streaming heads; None with plain heads.
        image_size: Height and width to which frames are resized when they are loaded; None leaves
            them as they are.

    Attributes:
        window: The newest grid frames.
        cache: The attention cache of streaming heads; None with plain heads.
        counts: Counters of frames: `received`; one for each value of `Placement` (a grid frame
            counts once it has entered the window); one for each cause of a dropped frame. Beside
            them `missed_slots` (slots inside a window that no frame filled) and
            `skipped_hypotheses`.
    """

    def __init__(
        self,
        frames: int,
        settings: GridSettings,
        *,
        cache: HeadCache | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        self.frames = frames
        self._image_size = image_size
        self.grid = FrameGrid(settings)
        self.window = Window(frames)
        self.cache = cache
        self.counts: Counter[str] = Counter()
        # Slots since the last restart, and the gaps since the window was last full.
        self._slots = 0
        self._gaps_ns: deque[int] = deque(maxlen=GAPS_TOO_SLOW)
        self._newest_ns = 0

    @property
    def slow_ns(self) -> int:
        """The typical gap between images if gaps keep the window from filling, else 0.

        In nanoseconds, by the stamps; longer than `max_gap`.
        """
        return median_low(self._gaps_ns) if len(self._gaps_ns) == GAPS_TOO_SLOW else 0

    @property
    def used(self) -> int:
        """How many frames have entered the window so far."""
        return frames_used(self.counts)

    def reset(self) -> None:
        """Empty the window; the counters stay."""
        self.grid.reset()
        self.window.clear()
        self._gaps_ns.clear()

    def refuse(self, cause: str) -> None:
        """Count a frame that cannot be placed."""
        self.counts['received'] += 1
        self.counts[cause] += 1

    def admit(self, frame: Frame) -> GridFrame | None:
        """Place a frame and load it; return None if it is not on the grid.

        Raises:
            FrameError: The frame cannot be used. It is counted and does not take its slot.
        """
        placed = self.place(frame)
        return None if placed is None else self.load(frame, *placed)

    def place(self, frame: Frame) -> tuple[Placement, int] | None:
        """Count a frame; return its placement and slot, or None if it is not on the grid.

        Raises:
            FrameError: The frame has no stamp, or one that no message can carry.
        """
        if frame.stamp_ns <= 0:
            self.refuse('zero_stamp')
            raise FrameError(
                'zero_stamp', 'its header has no stamp; have the camera driver set header.stamp'
            )
        if frame.stamp_ns >= END_OF_TIME_NS:
            self.refuse('impossible_stamp')
            raise FrameError(
                'impossible_stamp',
                f'its stamp of {frame.stamp_ns} ns does not fit into builtin_interfaces/Time; '
                'check header.stamp of the camera driver',
            )
        self.counts['received'] += 1
        placement, slot = self.grid.place(frame.stamp_ns)
        if placement.on_grid:
            return placement, slot
        self.counts[placement.value] += 1
        if placement is not Placement.LATE:
            self._commit(frame, placement, slot)
        return None

    def load(self, frame: Frame, placement: Placement, slot: int) -> GridFrame:
        """Convert the pixels of a frame on the grid; the frame takes its slot.

        Raises:
            FrameError: The frame cannot be read. It is counted and does not take its slot.
        """
        try:
            image_hw3 = frame.load()
            rows, columns = image_hw3.shape[:2]
            box = None if frame.crop is None else frame.crop((rows, columns))
            fitted_hw3 = None
            if self._image_size is not None:
                fitted_hw3 = fit_image(cut_box(image_hw3, box), self._image_size)
        except FrameError as error:
            self.counts[error.cause] += 1
            raise
        except Exception as error:  # out of memory, or a bug in a converter, costs one frame
            self.counts['unreadable'] += 1
            raise FrameError('unreadable', f'{type(error).__name__}: {error}') from error
        self._commit(frame, placement, slot)
        return GridFrame(
            header=frame.header,
            placement=placement,
            slot=slot,
            image_hw3=image_hw3,
            box=box,
            fitted_hw3=fitted_hw3,
        )

    def leave_out(self, frame: Frame, placement: Placement, slot: int, *, cause: str) -> None:
        """Count a frame on the grid that is dropped unread; it still takes its slot."""
        self.counts[cause] += 1
        self._commit(frame, placement, slot)

    def _commit(self, frame: Frame, placement: Placement, slot: int) -> None:
        self.grid.commit(placement, slot, frame.stamp_ns, keep=self.frames)
        if placement.opens_slot:
            if placement is Placement.GAP:
                self._gaps_ns.append(frame.stamp_ns - self._newest_ns)
            self._slots = 1 if placement.restarts else self._slots + 1
            if self._slots >= self.frames:
                self._gaps_ns.clear()
            self._newest_ns = frame.stamp_ns
