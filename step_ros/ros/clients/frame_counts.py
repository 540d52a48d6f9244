"""What became of a camera's frames, read from the node's diagnostics."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus

from step_ros.ros.perception.diagnostics import (
    NO_FRAMES,
    OFF_GRID,
    PLACEMENTS,
    RECEIVED,
    USED,
    WAITING,
)

MISSED_SLOTS = 'missed_slots'
# How old the newest frame is: a number, but no count.
STAMP_AGE = 'stamp_age_ms'


@dataclass(frozen=True, kw_only=True)
class FrameCounts:
    """Frames of one camera, each counted once.

    Attributes:
        received: All that the node got.
        used: Those that entered a window.
        off_grid: Those whose slot had an earlier frame.
        waiting: Those that nobody has looked at yet.
        dropped: The others, by cause.
        missed_slots: Slots inside windows that no frame filled.
    """

    received: int = 0
    used: int = 0
    off_grid: int = 0
    waiting: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    missed_slots: int = 0

    @property
    def lost(self) -> int:
        """Frames that were dropped, whatever the cause."""
        return sum(self.dropped.values())

    @property
    def unaccounted(self) -> int:
        """Frames of which the node does not say what became of them."""
        return self.received - self.used - self.off_grid - self.waiting - self.lost

    def __sub__(self, earlier: 'FrameCounts') -> 'FrameCounts':
        """Return what was counted since then."""
        causes = self.dropped.keys() | earlier.dropped.keys()
        return FrameCounts(
            received=self.received - earlier.received,
            used=self.used - earlier.used,
            off_grid=self.off_grid - earlier.off_grid,
            waiting=self.waiting - earlier.waiting,
            dropped={
                cause: self.dropped.get(cause, 0) - earlier.dropped.get(cause, 0)
                for cause in sorted(causes)
            },
            missed_slots=self.missed_slots - earlier.missed_slots,
        )


def read_frame_counts(status: DiagnosticStatus) -> FrameCounts:
    """Read a camera's status; values that are no counts are passed over."""
    counts = {item.key: int(item.value) for item in status.values if item.value.isdecimal()}
    named = {RECEIVED, USED, OFF_GRID, WAITING}
    return FrameCounts(
        **{key: counts.get(key, 0) for key in named},
        dropped={
            key: count
            for key, count in sorted(counts.items())
            if key not in named | PLACEMENTS | NO_FRAMES | {STAMP_AGE}
        },
        missed_slots=counts.get(MISSED_SLOTS, 0),
    )
