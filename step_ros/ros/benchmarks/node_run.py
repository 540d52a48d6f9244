"""One run of the perception node: images over DDS in, hypotheses over DDS out, and the clock."""

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

# After the first window is full, the rest of the machine settles for as long.
WARM_UP_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class NodeTimes:
    """One run of the node; processor time is in percent of one core.

    Attributes:
        cameras: Number of cameras.
        rate: Images of each in a second.
        seconds: How long was measured, without the first windows.
        hypotheses: How many came for images of that time.
        hypotheses_per_s: The same in a second.
        latency_ms: From an image's stamp, given when it is published, to the arrival of its
            hypothesis: p50, p95, p99, max.
        added_ms: The same without what the recogniser itself takes for a frame.
        lost_percent: Grid frames without a hypothesis, by the stamps of the hypotheses.
        behind_percent: How many fewer hypotheses came in that time than it had grid frames: what
            was lost and what waits ever longer.
        dropped_percent: Missed slots and dropped frames of these and the used ones, by the
            node's diagnostics.
        transport_lost_percent: Images sent that the node did not get.
        received_per_s: Images that the node got in a second.
        cpu_percent: Processor time of the node's stages, of the publisher, of the listener, and
            of all others on this machine, which ought to be little.
        resident_mb: Resident memory of the node.
        late_ms: How late images were published.
        skipped: Images that the publisher left out because it was a whole period late.
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
        """Return everything, for JSON."""
        return asdict(self)


def measure_node(
    session: BenchmarkSession, settings: PublisherSettings, *, seconds: float, own_ms: float
) -> NodeTimes:
    """Publish to a running node and measure once every window is full.

    Args:
        session: The node.
        settings: What is published; the stamps must be those of publishing for latencies to hold.
        seconds: How long to measure.
        own_ms: What the recogniser itself takes for a frame.

    Raises:
        NodeError: The node or the publisher does not keep going.
    """
    window = session.frames * session.frame_period_ns / NANOSECONDS
    untouched = session.counts_now()
    publisher = session.publish(settings)
    session.rest(window + WARM_UP_SECONDS, publisher)
    begin = _Mark.take(session, publisher)
    session.rest(seconds, publisher)
    end = _Mark.take(session, publisher)
    report = publisher.stop()
    # What waited when the last image came has been answered by then.
    settled = session.counts_now()
    return _node_times(
        session,
        settings,
        (begin, end),
        report=report,
        own_ms=own_ms,
        received=_received(settled) - _received(untouched),
    )


@dataclass(frozen=True, kw_only=True)
class _Mark:
    """What is known at one moment: just after the node said what it did."""

    time_ns: int
    counts: Mapping[str, FrameCounts]
    cpu: Mapping[str, float]
    resident: int

    @classmethod
    def take(cls, session: BenchmarkSession, publisher: Publisher) -> '_Mark':
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
    marks: tuple[_Mark, _Mark],
    *,
    report: PublisherReport,
    own_ms: float,
    received: int,
) -> NodeTimes:
    begin, end = marks
    seconds = (end.time_ns - begin.time_ns) / NANOSECONDS
    inside = [
        arrival
        for arrival in session.listener.arrivals
        if begin.time_ns <= arrival.stamp_ns < end.time_ns
    ]
    answered = lost = 0
    for camera in session.cameras:
        found, missing = grid_loss(
            [arrival.stamp_ns for arrival in inside if arrival.camera == camera],
            begin_ns=begin.time_ns,
            end_ns=end.time_ns,
            frame_period_ns=session.frame_period_ns,
        )
        answered, lost = answered + found, lost + missing
    latency_ms = percentiles_and_max([arrival.latency_ms for arrival in inside])
    counted = [end.counts[camera] - begin.counts[camera] for camera in session.cameras]
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
        lost_percent=_percent(lost, answered + lost),
        behind_percent=max(0.0, _percent(answered + lost - arrived, answered + lost)),
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


# ---- What is asked of the node, and whether it does it.

CAMERA_RATE = 30.0

ADDED_P99_MS = 15.0

OFF_GRID_MS = 1.0


@dataclass(frozen=True, kw_only=True)
class Requirement:
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


def node_requirements(rows: Sequence[NodeTimes]) -> list[Requirement]:
    """Hold the runs against the bars that they allow to be judged."""
    bars = [
        Requirement(
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
            Requirement(
                what=f'an off-grid frame, {slow.cameras} cameras at {fast.rate:g} against '
                f'{slow.rate:g} Hz, ms of processor time',
                measured=cost,
                bar=f'below {OFF_GRID_MS:g}',
                passed=cost < OFF_GRID_MS,
            )
        )
    return bars
