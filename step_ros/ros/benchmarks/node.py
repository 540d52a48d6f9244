# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the perception node: latency and load for cameras x rates, and its top rate.

`NodeBenchmark` runs a `NodePlan` and fills a `NodeResult`; the functions below print it as tables.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from step_ros.benchmarks.recogniser_rate import RecogniserRateMeter
from step_ros.encoders.base import Encoder
from step_ros.model.bundle import Bundle
from step_ros.reporting.markdown import figures_table
from step_ros.ros.benchmarks.node_run import (
    NodeTimes,
    Requirement,
    measure_node,
    node_requirements,
)
from step_ros.ros.benchmarks.process_usage import STAGES
from step_ros.ros.benchmarks.publisher import PublisherSettings
from step_ros.ros.benchmarks.rate_search import RateSearch, search_rate
from step_ros.ros.benchmarks.session import BenchmarkSession

# Seconds for one measurement of the recogniser by itself, without ROS.
OWN_SECONDS = 3.0

_CPU = (*STAGES, 'publisher', 'listener', 'others')
NODE_COLUMNS = (
    *('cameras', 'rate_hz', 'hypotheses_per_s', 'p50_ms', 'p95_ms', 'p99_ms', 'max_ms'),
    *('added_p99_ms', 'lost_%', 'dropped_%', *(f'{stage}_%' for stage in _CPU), 'resident_mb'),
)
SEARCH_COLUMNS = (
    *('share', 'grid_frames_per_s', 'own_before', 'own_after', 'kept', 'lost_%', 'behind_%'),
    *('p50_ms', 'p99_ms'),
    *(f'{stage}_%' for stage in _CPU),
)
REQUIREMENT_COLUMNS = ('requirement', 'measured', 'required', 'passed')


@dataclass(frozen=True, kw_only=True)
class NodePlan:
    """The combinations to measure, and the settings of the search.

    Attributes:
        cameras: Numbers of cameras.
        rates: Images per second of each camera.
        seconds: Measured time of each combination, without the first windows.
        size: Width and height of an image in pixels.
        search_cameras: Cameras that share the grid frames of the search.
        search_seconds: Measured time of each try of the search.
        search_steps: How often the search halves its range.
        search_tries: How often the search tries one rate at most.
    """

    cameras: Sequence[int]
    rates: Sequence[float]
    seconds: float
    size: tuple[int, int]
    search_cameras: int
    search_seconds: float
    search_steps: int
    search_tries: int


@dataclass(kw_only=True)
class NodeResult:
    """The measurements so far.

    Attributes:
        own_frame_ms: The recogniser's own time for a frame; NaN before it is measured.
        rows: One run for each combination.
        search: Result of the search; None without a search.
    """

    own_frame_ms: float = float('nan')
    rows: list[NodeTimes] = field(default_factory=list)
    search: RateSearch | None = None

    @property
    def requirements(self) -> list[Requirement]:
        """The requirements that these measurements can show to be met or not."""
        return [
            *node_requirements(self.rows),
            *([self.search.requirement] if self.search is not None else []),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return all figures, for JSON, where the key of the requirements is `bars`."""
        return {
            'own_frame_ms': self.own_frame_ms,
            'rows': [row.as_dict() for row in self.rows],
            'search': None if self.search is None else self.search.as_dict(),
            'bars': [requirement.as_dict() for requirement in self.requirements],
        }


class NodeBenchmark:
    """Measures a node in a process of its own, and the recogniser by itself in this process.

    Args:
        plan: What to measure.
        bundle: The model.
        encoder: Runs the model's backbone in this process, as the node does in its own.
        parameters: Parameters of the node that differ from its defaults.
        folder: For logs.

    Attributes:
        result: The measurements so far.
    """

    def __init__(
        self,
        plan: NodePlan,
        *,
        bundle: Bundle,
        encoder: Encoder,
        parameters: dict[str, Any],
        folder: Path,
    ) -> None:
        self.result = NodeResult()
        self._plan, self._bundle, self._parameters = plan, bundle.path.resolve(), parameters
        self._folder = folder
        self._meter = RecogniserRateMeter(
            bundle, encoder, cameras=plan.search_cameras, image_size=plan.size[::-1]
        )

    def run(self) -> Iterator[NodeTimes]:
        """Measure one combination after the other; yield each run.

        Raises:
            NodeError: A process ended early.
        """
        self.result.own_frame_ms = self._meter.measure(OWN_SECONDS).frame_ms
        for cameras in self._plan.cameras:
            with BenchmarkSession(
                self._bundle, cameras=cameras, folder=self._folder, parameters=self._parameters
            ) as session:
                for rate in self._plan.rates:
                    self.result.rows.append(self._measure(session, rate))
                    yield self.result.rows[-1]

    def search(self) -> None:
        """Search for the highest rate of grid frames that the node keeps up with.

        Raises:
            NodeError: A process ended early.
        """
        plan = self._plan
        self.result.search = search_rate(
            self._bundle,
            cameras=plan.search_cameras,
            size=plan.size,
            own=lambda: self._meter.measure(OWN_SECONDS),
            seconds=plan.search_seconds,
            steps=plan.search_steps,
            tries=plan.search_tries,
            folder=self._folder,
            parameters=self._parameters,
        )

    def _measure(self, session: BenchmarkSession, rate: float) -> NodeTimes:
        width, height = self._plan.size
        return measure_node(
            session,
            PublisherSettings(topics=session.topics, rate=rate, width=width, height=height),
            seconds=self._plan.seconds,
            own_ms=self.result.own_frame_ms,
        )


def node_table(rows: Sequence[NodeTimes]) -> str:
    """Return the runs as a Markdown table; processor time is in percent of one core."""
    return figures_table(NODE_COLUMNS, [_node_cells(row) for row in rows])


def search_table(search: RateSearch) -> str:
    """Return the tries of a search as a Markdown table, lowest share first, and its result."""
    rows = [
        [
            f'{probe.share:.3f}',
            f'{probe.rate:.0f}',
            f'{probe.own.frames_per_s:.0f}',
            f'{probe.own_after.frames_per_s:.0f}',
            _yes(probe.kept) if probe.steady else 'unsteady',
            f'{probe.times.lost_percent:.1f}',
            f'{probe.times.behind_percent:.1f}',
            f'{probe.times.latency_ms["p50"]:.1f}',
            f'{probe.times.latency_ms["p99"]:.1f}',
            *_cpu_cells(probe.times),
        ]
        for probe in sorted(search.probes, key=lambda probe: probe.share)
    ]
    frames_per_s = np.median([probe.own.frames_per_s for probe in search.probes])
    frame_ms = np.median([probe.own.frame_ms for probe in search.probes])
    return (
        figures_table(SEARCH_COLUMNS, rows)
        + f'\n\nhighest share kept: {search.share:.2f}, about {search.share * frames_per_s:.0f} '
        f'grid frames per second; the recogniser by itself (medians): {frames_per_s:.0f} with a '
        f'frame of each camera at once, {1e3 / frame_ms:.0f} with one frame at a time'
    )


def requirements_table(requirements: Sequence[Requirement]) -> str:
    """Return the requirements as a Markdown table: measured, required, and whether passed."""
    return figures_table(
        REQUIREMENT_COLUMNS,
        [
            [each.what, f'{each.measured:.2f}', each.required, _yes(each.passed)]
            for each in requirements
        ],
    )


def _node_cells(row: NodeTimes) -> list[str]:
    return [
        str(row.cameras),
        f'{row.rate:g}',
        f'{row.hypotheses_per_s:.1f}',
        *(f'{row.latency_ms[key]:.1f}' for key in ('p50', 'p95', 'p99', 'max')),
        f'{row.added_ms["p99"]:.1f}',
        f'{row.lost_percent:.1f}',
        f'{row.dropped_percent:.1f}',
        *_cpu_cells(row),
        f'{row.resident_mb:.0f}',
    ]


def _cpu_cells(row: NodeTimes) -> list[str]:
    return [f'{row.cpu_percent[stage]:.0f}' for stage in _CPU]


def _yes(passed: bool) -> str:
    return 'yes' if passed else 'NO'
