# SPDX-License-Identifier: Apache-2.0
"""A soak: minutes of camera restarts, gaps and clock jumps, in which no image may get lost.

Each camera is a process of its own. One camera after the other is stopped and, after a pause,
started again. Meanwhile the streams have gaps, and their stamps jump forward and back as in a
looped bag. `SoakBenchmark` runs a `SoakPlan`; its `SoakResult` checks the conditions that must
hold; the functions below print it as tables.

While a node is held up, images wait for it in the middleware, which keeps the memory: sooner or
later each subscription reaches its bound of `DEPTH` images. That growth is no leak, and it must
not hide one. So before the run the node is held up until its queues have been full:

    hold up, four times  |  run: sample memory; restart a camera every few seconds  |  check
                         |  warm-up |  first span  |     ...      |   last span     |
"""

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from step_ros.reporting.markdown import figures_table
from step_ros.ros.benchmarks.process_usage import Memory, memory
from step_ros.ros.benchmarks.publisher import PublisherSettings
from step_ros.ros.benchmarks.session import BenchmarkSession, Publisher
from step_ros.ros.clients.frame_counts import FrameCounts
from step_ros.ros.qos import DEPTH

# Spans in which memory is compared: one minute each, or a fifth of the run if that is shorter.
_MINUTE = 60.0
_PARTS = 5
# The longest time to hold the node up at once, and how often to do so before the run.
_HOLD_SECONDS = 1.0
_HOLD_UPS = 4
# Seconds between two samples of the node's memory.
_SAMPLE_SECONDS = 1.0

# Conditions: how much memory may grow, and how many images the transport may lose.
GROWTH_PERCENT = 1.0
TRANSPORT_LOST_PERCENT = 1.0

FRAME_COLUMNS = (
    *('camera', 'sent', 'transport_lost', 'received', 'used', 'off_grid', 'dropped'),
    *('unaccounted', 'hypotheses'),
)


@dataclass(frozen=True, kw_only=True)
class SoakPlan:
    """Length and load of a soak; the times of its disturbances follow from them.

    Attributes:
        seconds: Length of the run.
        cameras: Number of cameras.
        rate: Images per second of each camera.
        size: Width and height of an image in pixels.

    Raises:
        ValueError: The run has no time or no camera.
    """

    seconds: float
    cameras: int
    rate: float
    size: tuple[int, int]

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.cameras < 1:
            raise ValueError(
                f'{self.cameras} cameras for {self.seconds:g} s: expected at least one camera, '
                'and more than 0 s'
            )

    @property
    def span(self) -> float:
        """Seconds of the warm-up, and of each span in which memory is compared."""
        return min(_MINUTE, self.seconds / _PARTS)

    @property
    def restart_every(self) -> float:
        """Seconds between two restarts; each camera has several in a long run."""
        return max(3.0, self.seconds / (6 * self.cameras))

    @property
    def hold_seconds(self) -> float:
        """Seconds to hold the node up: twice as many images come as its queue holds."""
        return min(_HOLD_SECONDS, 2 * DEPTH / self.rate)

    def steady_publisher(self, topic: str) -> PublisherSettings:
        """Return the settings of a camera before the run: no gaps, no jumps."""
        width, height = self.size
        return PublisherSettings(topics=[topic], rate=self.rate, width=width, height=height)

    def publisher(self, topic: str) -> PublisherSettings:
        """Return the settings of a camera in the run: gaps, and jumps of its clock."""
        return replace(
            self.steady_publisher(topic),
            gap_every=max(4.0, self.seconds / 50),
            gap=1.5,
            jump_every=max(2.5, self.seconds / 80),
            jump=30.0,
        )


class SoakBenchmark:
    """Runs a soak on a node.

    Args:
        plan: Length and load of the soak.
        bundle: Folder of the bundle.
        folder: For logs.
        parameters: Further parameters of the node.
    """

    def __init__(
        self, plan: SoakPlan, *, bundle: Path, folder: Path, parameters: dict[str, Any]
    ) -> None:
        self._plan, self._bundle, self._folder = plan, bundle, folder
        self._parameters = parameters
        self._sent = [0] * plan.cameras
        self._samples: list[MemorySample] = []
        self._restarts = 0

    def run(self) -> 'SoakResult':
        """Run the soak.

        Raises:
            NodeError: The node or a camera ended early.
        """
        with BenchmarkSession(
            self._bundle,
            cameras=self._plan.cameras,
            folder=self._folder,
            parameters=self._parameters,
        ) as session:
            counts_before = self._fill_queues(session)
            arrivals_before = len(session.listener.arrivals)
            publishers = [self._start(session, index) for index in range(self._plan.cameras)]
            self._began = time.monotonic()
            while (left := self._plan.seconds - self._seconds) > 0:
                self._watch(session, publishers, min(left, self._plan.restart_every))
                if self._seconds < self._plan.seconds:
                    self._restart(session, publishers)
            for index, publisher in enumerate(publishers):
                self._sent[index] += publisher.stop().total
            counts = session.counts_now()
            arrivals = session.listener.arrivals[arrivals_before:]
            hypotheses = Counter(arrival.camera for arrival in arrivals)
            return SoakResult(
                plan=self._plan,
                restarts=self._restarts,
                hypotheses={camera: hypotheses[camera] for camera in session.cameras},
                frames={
                    camera: CameraFrames(sent=sent, counts=counts[camera] - counts_before[camera])
                    for camera, sent in zip(session.cameras, self._sent, strict=True)
                },
                samples=self._samples,
            )

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _fill_queues(self, session: BenchmarkSession) -> dict[str, FrameCounts]:
        """Hold the node up until its queues have been full; return the frame counts by camera."""
        publishers = [
            session.publish(self._plan.steady_publisher(topic), name=camera)
            for topic, camera in zip(session.topics, session.cameras, strict=True)
        ]
        for _ in range(_HOLD_UPS):
            session.node.hold(self._plan.hold_seconds)
            session.rest(self._plan.hold_seconds, *publishers)
        for publisher in publishers:
            publisher.stop()
        return session.counts_now()

    def _start(self, session: BenchmarkSession, camera: int) -> Publisher:
        return session.publish(
            self._plan.publisher(session.topics[camera]), name=session.cameras[camera]
        )

    def _watch(
        self, session: BenchmarkSession, publishers: Sequence[Publisher], seconds: float
    ) -> None:
        """Sample the node's memory for some seconds."""
        end = self._seconds + seconds
        while (left := end - self._seconds) > 0:
            session.rest(min(left, _SAMPLE_SECONDS), *publishers)
            self._samples.append(
                MemorySample(seconds=self._seconds, memory=memory(session.node.pid))
            )

    def _restart(self, session: BenchmarkSession, publishers: list[Publisher]) -> None:
        """Stop the next camera and start it again."""
        camera = self._restarts % self._plan.cameras
        self._sent[camera] += publishers[camera].stop().total
        publishers[camera] = self._start(session, camera)
        self._restarts += 1


@dataclass(frozen=True, kw_only=True)
class MemorySample:
    """The node's memory at one time.

    Attributes:
        seconds: Seconds since all cameras started to publish.
        memory: The node's memory.
    """

    seconds: float
    memory: Memory


@dataclass(frozen=True, kw_only=True)
class CameraFrames:
    """All images of one camera, by outcome.

    Attributes:
        sent: Images published by all processes of the camera.
        counts: The node's counts of them.
    """

    sent: int
    counts: FrameCounts

    @property
    def transport_lost(self) -> int:
        """Images sent that did not reach the node."""
        return self.sent - self.counts.received


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A condition that a soak must meet.

    Attributes:
        what: The condition in words.
        found: The figures that were found.
        passed: Whether they meet it.
    """

    what: str
    found: str
    passed: bool


@dataclass(frozen=True, kw_only=True)
class SoakResult:
    """Figures of a soak.

    Attributes:
        plan: Length and load of the soak.
        restarts: How often a camera was stopped and started again.
        hypotheses: Number of hypotheses by camera.
        frames: All images by camera and outcome.
        samples: The node's memory over time.
    """

    plan: SoakPlan
    restarts: int
    hypotheses: dict[str, int]
    frames: dict[str, CameraFrames]
    samples: list[MemorySample] = field(repr=False)

    @property
    def growth_percent(self) -> float:
        """Growth of memory from the first span after the warm-up to the last span, in percent.

        The node's own memory counts by its median in each span. Shared memory belongs to the
        publishers: pages in which images waited stay with the node until that publisher restarts.
        So shared memory counts by its minimum in each half of the run.
        """
        span, end = self.plan.span, self.samples[-1].seconds
        middle = (span + end) / 2
        first = self._own(span, 2 * span) + self._least_shared(span, middle)
        last = self._own(end - span, end) + self._least_shared(middle, end)
        return 100 * (last / first - 1)

    @property
    def own_growth_percent(self) -> float:
        """Growth of memory without shared memory, in percent."""
        span, end = self.plan.span, self.samples[-1].seconds
        return 100 * (self._own(end - span, end) / self._own(span, 2 * span) - 1)

    def _own(self, begin: float, end: float) -> float:
        return statistics.median(
            memory.resident - memory.shared for memory in self._between(begin, end)
        )

    def _least_shared(self, begin: float, end: float) -> int:
        return min(memory.shared for memory in self._between(begin, end))

    def _between(self, begin: float, end: float) -> list[Memory]:
        """Return the samples between two times; the nearest sample if there is none."""
        inside = [each for each in self.samples if begin <= each.seconds <= end]
        nearest = min(self.samples, key=lambda each: abs(each.seconds - (begin + end) / 2))
        return [each.memory for each in inside or [nearest]]

    def conditions(self) -> list[Condition]:
        """Return all conditions, each with its figures and whether it is met."""
        frames = self.frames.values()
        sent = sum(each.sent for each in frames)
        transport_lost = [each.transport_lost for each in frames]
        unaccounted = [each.counts.unaccounted for each in frames]
        lost_percent = 100 * sum(transport_lost) / sent if sent else 100.0
        span = self.plan.span
        return [
            Condition(
                what=f'memory grows by at most {GROWTH_PERCENT:g} % (own memory: median of the '
                f'last {span:.0f} s against that of the first {span:.0f} s after a warm-up of '
                f'{span:.0f} s; shared memory: minimum of each half)',
                found=f'{self.growth_percent:+.2f} % '
                f'({self.own_growth_percent:+.2f} % without shared memory)',
                passed=self.growth_percent <= GROWTH_PERCENT,
            ),
            Condition(
                what='received = used + off the grid + dropped by cause, for each camera',
                found=f'unaccounted: {unaccounted}',
                passed=not any(unaccounted),
            ),
            Condition(
                what='sent = received + lost in transport, with at most '
                f'{TRANSPORT_LOST_PERCENT:g} % lost',
                found=f'{sent} sent, {transport_lost} lost',
                passed=min(transport_lost) >= 0 and lost_percent <= TRANSPORT_LOST_PERCENT,
            ),
            Condition(
                what='every camera gave hypotheses after restarts, gaps and jumps',
                found=f'{list(self.hypotheses.values())} hypotheses, {self.restarts} restarts',
                passed=all(self.hypotheses.values()),
            ),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return all figures and conditions, for JSON."""
        return {
            **asdict(self),
            'growth_percent': self.growth_percent,
            'own_growth_percent': self.own_growth_percent,
            'conditions': [asdict(condition) for condition in self.conditions()],
        }


def frames_table(result: SoakResult) -> str:
    """Return the images of each camera by outcome, as a Markdown table."""
    return figures_table(
        FRAME_COLUMNS,
        [
            [
                camera,
                *map(str, (frames.sent, frames.transport_lost, frames.counts.received)),
                *map(str, (frames.counts.used, frames.counts.off_grid, frames.counts.lost)),
                *map(str, (frames.counts.unaccounted, result.hypotheses[camera])),
            ]
            for camera, frames in result.frames.items()
        ],
    )


def conditions_table(result: SoakResult) -> str:
    """Return the conditions and whether each holds, as a Markdown table."""
    return figures_table(
        ('condition', 'found', 'holds'),
        [
            [condition.what, condition.found, 'yes' if condition.passed else 'NO']
            for condition in result.conditions()
        ],
    )
