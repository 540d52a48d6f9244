"""What is asked of the node, and whether it does it."""

from collections.abc import Sequence
from dataclasses import dataclass

from step_ros.ros.node_times import NodeTimes

CAMERA_RATE = 30.0
ADDED_P99_MS = 15.0
OFF_GRID_MS = 1.0


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A figure that is to be reached.

    Attributes:
        what: What was measured.
        measured: The figure.
        bar: What is asked of it, in words.
        passed: Whether it is so.
    """

    what: str
    measured: float
    bar: str
    passed: bool


def off_grid_cost(rows: Sequence[NodeTimes]) -> tuple[float, NodeTimes, NodeTimes] | None:
    """Return what a frame costs that is not on the grid, in ms of the node's processor time.

    It is the difference between runs with the same grid at a high and at a low image rate.

    Returns:
        The cost and both runs; None where no two runs have as many cameras. Of those that do, the
        ones with the fewest cameras are taken: they lose the least.
    """
    for cameras in sorted({row.cameras for row in rows}):
        alike = sorted((row for row in rows if row.cameras == cameras), key=lambda row: row.rate)
        slow, fast = alike[0], alike[-1]
        more = fast.received_per_s - slow.received_per_s
        if more > 0:
            cost = 10 * (fast.node_cpu_percent - slow.node_cpu_percent) / more
            return cost, slow, fast
    return None


def node_bars(rows: Sequence[NodeTimes]) -> list[Bar]:
    """Hold the runs against the bars that they allow to be judged."""
    bars = [
        Bar(
            what=f'p99 of the latency the node adds, one camera at {CAMERA_RATE:g} Hz, ms',
            measured=row.added_ms['p99'],
            bar=f'below {ADDED_P99_MS:g}',
            passed=row.added_ms['p99'] < ADDED_P99_MS,
        )
        for row in rows
        if (row.cameras, row.rate) == (1, CAMERA_RATE)
    ]
    found = off_grid_cost(rows)
    if found is not None:
        cost, slow, fast = found
        bars.append(
            Bar(
                what=f'an off-grid frame, {slow.cameras} cameras at {fast.rate:g} against '
                f'{slow.rate:g} Hz, ms of processor time',
                measured=cost,
                bar=f'below {OFF_GRID_MS:g}',
                passed=cost < OFF_GRID_MS,
            )
        )
    return bars
