# SPDX-License-Identifier: Apache-2.0
"""One run of the perception node under load, and the requirements that runs are held against.

    publish  |-- first windows, warm-up --|---------- seconds ----------|  stop
                                        begin                          end

`measure_node` takes a snapshot of counts and processor times at `begin` and at `end`. A
`NodeTimes` holds their differences, and the latency of images that are stamped between them.
`node_requirements` then compares the runs with the node's performance requirements.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from step_ros.reporting.percentiles import percentiles_and_max
from step_ros.ros.benchmarks.process_usage import STAGES, busy_seconds, cpu_seconds, memory
from step_ros.ros.benchmarks.publisher import PublisherReport, PublisherSettings
from step_ros.ros.benchmarks.session import BenchmarkSession, Publisher
from step_ros.ros.clients.frame_counts import FrameCounts
from step_ros.streaming.grid import NANOSECONDS, grid_loss

# Seconds for the machine to settle after the first windows are full.
WARM_UP_SECONDS = 1.0

# Performance requirements: with one camera at this rate, the p99 of the latency that the node adds
# to the recogniser's own time; and the processor time of a frame off the grid.
CAMERA_RATE = 30.0
ADDED_P99_MS = 15.0
OFF_GRID_MS = 1.0


@dataclass(frozen=True, kw_only=True)
class NodeTimes:
    """Figures of one run of the node. Processor time is in percent of one core.

    Attributes:
        cameras: Number of cameras.
        rate: Images per second of each camera.
        seconds: Measured time, without the first windows.
        hypotheses: Hypotheses for images stamped in that time.
        hypotheses_per_s: The same per second.
        latency_ms: From an image's stamp, set when it is published, to the arrival of its
            hypothesis: p50, p95, p99, max.
        added_ms: Latency minus the recogniser's own time for a frame.
        lost_percent: Grid frames without a hypothesis, by the stamps of the hypotheses.
        behind_percent: How many fewer hypotheses arrived in that time than there were grid frames:
            lost frames, and frames that wait ever longer.
        dropped_percent: Share of missed slots and dropped frames among these and the used frames,
            by the node's diagnostics.
        transport_lost_percent: Images sent that did not reach the node.
        received_per_s: Images per second that reached the node.
        cpu_percent: Processor time of the node's stages, of the publisher, of the listener, and
            of all other processes of the machine; the last should be small.
        resident_mb: Resident memory of the node.
        late_ms: Delay of the published images behind their schedule.
        skipped: Images that the publisher left out because they were a whole period late.
    """

    cameras: int
    rate: float
    seconds: float
    hypotheses: int
    hypotheses_per_s: float
    latency_ms: Mapping[str, float]
    added_ms: Mapping[str, float]
    lost_percent: float
    behind_percent: float
    dropped_percent: float
    transport_lost_percent: float
    received_per_s: float
    cpu_percent: Mapping[str, float]
    resident_mb: float
    late_ms: Mapping[str, float]
    skipped: int

    @property
    def node_cpu_percent(self) -> float:
        """Processor time of all stages of the node."""
        return sum(self.cpu_percent[stage] for stage in STAGES)

    def as_dict(self) -> dict[str, Any]:
        """Return all figures, for JSON."""
        return asdict(self)


def measure_node(
    session: BenchmarkSession, settings: PublisherSettings, *, seconds: float, own_ms: float
) -> NodeTimes:
    """Publish to a running node; measure it once every window is full.

    Args:
        session: The node.
        settings: What to publish. Latencies are right only if `exact_stamps` is False.
        seconds: How long to measure.
        own_ms: The recogniser's own time for a frame.

    Raises:
        NodeError: The node or the publisher ended early.
    """
    window = session.frames * session.frame_period_ns / NANOSECONDS
    before = session.counts_now()
    publisher = session.publish(settings)
    session.rest(window + WARM_UP_SECONDS, publisher)
    begin = _Snapshot.take(session, publisher)
    session.rest(seconds, publisher)
    end = _Snapshot.take(session, publisher)
    report = publisher.stop()
    # By the next diagnostics the node has processed the frames that waited.
    after = session.counts_now()
    return _node_times(
        session,
        settings,
        (begin, end),
        report=report,
        own_ms=own_ms,
        received=_received(after) - _received(before),
    )


@dataclass(frozen=True, kw_only=True)
class _Snapshot:
    """Frame counts, processor times in seconds, and memory in bytes at one moment."""

    time_ns: int
    counts: Mapping[str, FrameCounts]
    cpu: Mapping[str, float]
    resident: int

    @classmethod
    def take(cls, session: BenchmarkSession, publisher: Publisher) -> '_Snapshot':
        # First: this waits for the next diagnostics, and the other figures must be of that moment.
        counts = session.counts_now()
        cpu = {
            **cpu_seconds(session.node.pid),
            'publisher': sum(cpu_seconds(publisher.process.pid).values()),
            'listener': sum(cpu_seconds(os.getpid()).values()),
        }
        return cls(
            time_ns=time.time_ns(),
            counts=counts,
            cpu={**cpu, 'others': busy_seconds() - sum(cpu.values())},
            resident=memory(session.node.pid).resident,
        )


def _node_times(
    session: BenchmarkSession,
    settings: PublisherSettings,
    snapshots: tuple[_Snapshot, _Snapshot],
    *,
    report: PublisherReport,
    own_ms: float,
    received: int,
) -> NodeTimes:
    begin, end = snapshots
    seconds = (end.time_ns - begin.time_ns) / NANOSECONDS
    inside = [
        arrival
        for arrival in session.listener.arrivals
        if begin.time_ns <= arrival.stamp_ns < end.time_ns
    ]
    served = lost = 0
    for camera in session.cameras:
        found, missing = grid_loss(
            [arrival.stamp_ns for arrival in inside if arrival.camera == camera],
            begin_ns=begin.time_ns,
            end_ns=end.time_ns,
            frame_period_ns=session.frame_period_ns,
        )
        served, lost = served + found, lost + missing
    latency_ms = percentiles_and_max([arrival.latency_ms for arrival in inside])
    counted = [end.counts[camera] - begin.counts[camera] for camera in session.cameras]
    # The node's own view of lost frames, beside the view from outside by stamps.
    dropped = sum(counts.missed_slots + counts.lost for counts in counted)
    used = sum(counts.used for counts in counted)
    arrived = sum(
        begin.time_ns <= arrival.arrival_ns < end.time_ns for arrival in session.listener.arrivals
    )
    return NodeTimes(
        cameras=len(session.cameras),
        rate=settings.rate,
        seconds=seconds,
        hypotheses=len(inside),
        hypotheses_per_s=len(inside) / seconds,
        latency_ms=latency_ms,
        added_ms={key: value - own_ms for key, value in latency_ms.items()},
        lost_percent=_percent(lost, served + lost),
        behind_percent=max(0.0, _percent(served + lost - arrived, served + lost)),
        dropped_percent=_percent(dropped, used + dropped),
        transport_lost_percent=_percent(report.total - received, report.total),
        received_per_s=sum(counts.received for counts in counted) / seconds,
        cpu_percent={
            stage: 100 * (taken - begin.cpu[stage]) / seconds for stage, taken in end.cpu.items()
        },
        resident_mb=end.resident / 1e6,
        late_ms=report.late_ms,
        skipped=report.skipped,
    )


def _received(counts: Mapping[str, FrameCounts]) -> int:
    return sum(each.received for each in counts.values())


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """A performance requirement, and whether it is met.

    Attributes:
        what: Name and unit of the figure.
        measured: The figure.
        required: The requirement in words, for example `below 15`.
        passed: Whether the figure meets it.
    """

    what: str
    measured: float
    required: str
    passed: bool

    def as_dict(self) -> dict[str, Any]:
        """Return all fields, for JSON, where the key of `required` is `bar`."""
        return {
            'what': self.what,
            'measured': self.measured,
            'bar': self.required,
            'passed': self.passed,
        }


def off_grid_cost(rows: Sequence[NodeTimes]) -> tuple[float, NodeTimes, NodeTimes] | None:
    """Return the node's processor time for one frame off the grid, in ms.

    Two runs with the same cameras have the same grid frames. So a higher image rate only adds
    frames off the grid, and the difference in processor time is theirs.

    Returns:
        The cost, the slow and the fast run; None if no two runs have the same cameras. Runs with
        the fewest cameras come first: they lose the fewest frames.
    """
    for cameras in sorted({row.cameras for row in rows}):
        same = sorted((row for row in rows if row.cameras == cameras), key=lambda row: row.rate)
        slow, fast = same[0], same[-1]
        more_per_s = fast.received_per_s - slow.received_per_s
        if more_per_s > 0:
            # One percent of a core is 10 ms of processor time per second.
            cost = 10 * (fast.node_cpu_percent - slow.node_cpu_percent) / more_per_s
            return cost, slow, fast
    return None


def node_requirements(rows: Sequence[NodeTimes]) -> list[Requirement]:
    """Return the requirements that these runs can show to be met or not."""
    requirements = [
        Requirement(
            what=f'p99 of the latency that the node adds, one camera at {CAMERA_RATE:g} Hz, ms',
            measured=row.added_ms['p99'],
            required=f'below {ADDED_P99_MS:g}',
            passed=row.added_ms['p99'] < ADDED_P99_MS,
        )
        for row in rows
        if (row.cameras, row.rate) == (1, CAMERA_RATE)
    ]
    found = off_grid_cost(rows)
    if found is not None:
        cost, slow, fast = found
        requirements.append(
            Requirement(
                what=f'processor time of an off-grid frame, {slow.cameras} cameras at '
                f'{fast.rate:g} and {slow.rate:g} Hz, ms',
                measured=cost,
                required=f'below {OFF_GRID_MS:g}',
                passed=cost < OFF_GRID_MS,
            )
        )
    return requirements
