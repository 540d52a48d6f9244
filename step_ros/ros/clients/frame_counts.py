# SPDX-License-Identifier: Apache-2.0
"""Counts of a camera's frames by outcome, read from the node's diagnostics.

A camera's frames add up: received = used + off_grid + waiting + dropped, by cause.
"""

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
# Age of the newest frame: a number in the status that counts nothing.
STAMP_AGE = 'stamp_age_ms'


@dataclass(frozen=True, kw_only=True)
class FrameCounts:
    """Frames of one camera, each counted once.

    Attributes:
        received: All frames that reached the node.
        used: Frames that entered a window.
        off_grid: Frames whose slot already had an earlier frame.
        waiting: Frames in the queue.
        dropped: All other frames, by cause.
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
        """Dropped frames, whatever the cause."""
        return sum(self.dropped.values())

    @property
    def unaccounted(self) -> int:
        """Received frames that no other count holds; 0 if the node counts correctly."""
        return self.received - self.used - self.off_grid - self.waiting - self.lost

    def __sub__(self, earlier: 'FrameCounts') -> 'FrameCounts':
        """Return the counts since an earlier time."""
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
    """Return the counts in a camera's status; values that are not counts are skipped."""
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
