# SPDX-License-Identifier: Apache-2.0
"""One run of a benchmark: a perception node and cameras as processes, and a client in this one.

Publisher  (process) --images--> perception node  (process) --hypotheses--> BenchmarkListener
"""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.serialization import deserialize_message

from step_ros.evaluation.ground_truth import Observation
from step_ros.files import Closing
from step_ros.msg import ActionHypothesis, ModelInfo
from step_ros.ros.benchmarks.publisher import PUBLISHING, PublisherReport, PublisherSettings
from step_ros.ros.clients.frame_counts import FrameCounts, read_frame_counts
from step_ros.ros.clients.perception_client import (
    PerceptionClient,
    PerceptionTopics,
    status_part,
    to_observation,
)
from step_ros.ros.conversion import to_nanoseconds
from step_ros.ros.perception.parameters import PERCEPTION
from step_ros.ros.processes import NodeError, NodeProcess, check_all, wait_until

_POLL_SECONDS = 0.05
# Diagnostics come once a second; a busy node is late with them.
_DIAGNOSTICS_SECONDS = 20.0


class BenchmarkSession(Closing):
    """Runs a perception node from `__enter__` until `close`.

    Args:
        bundle: Folder of the bundle.
        cameras: Number of cameras.
        folder: For logs.
        parameters: Further parameters of the node; all others have their defaults.

    Attributes:
        cameras: Names of the cameras.
        topics: Image topics of the cameras.
        listener: What the node published.
        node: The node's process.
    """

    node: NodeProcess
    listener: 'BenchmarkListener'

    def __init__(
        self, bundle: Path, *, cameras: int, folder: Path, parameters: dict[str, Any] | None = None
    ) -> None:
        self._bundle, self._folder, self._parameters = bundle, folder, parameters or {}
        self.cameras = [f'camera{index}' for index in range(cameras)]
        self.topics = [f'/{camera}/image_raw' for camera in self.cameras]
        self._stack = ExitStack()

    def __enter__(self) -> 'BenchmarkSession':
        """Start the node and wait until it is configured.

        Raises:
            NodeError: The node does not start.
        """
        with ExitStack() as stack:
            self.listener = BenchmarkListener(PERCEPTION, self.cameras)
            stack.callback(self.listener.close)
            self.node = NodeProcess(
                'perception_node',
                log=self._folder / 'perception_node.log',
                parameters={
                    'bundle': str(self._bundle),
                    'cameras': self.cameras,
                    'image_topics': self.topics,
                    **self._parameters,
                },
            )
            stack.callback(self.node.stop)
            wait_until(
                lambda: self.listener.model is not None, [self.node], "the node's model info"
            )
            # Nothing failed: the node now runs until `close`.
            self._stack = stack.pop_all()
        return self

    def close(self) -> None:
        """End the cameras, the node and the client."""
        self._stack.close()

    @property
    def frames(self) -> int:
        """Frames in a window."""
        assert self.listener.model is not None
        return int(self.listener.model.frames)

    @property
    def frame_period_ns(self) -> int:
        """Nanoseconds between two grid frames."""
        assert self.listener.model is not None
        return to_nanoseconds(self.listener.model.frame_period)

    def publish(self, settings: PublisherSettings, *, name: str = 'publisher') -> 'Publisher':
        """Start cameras and wait until they publish; `close` stops them if they still run.

        Args:
            settings: What the cameras publish.
            name: Of their log and report.

        Raises:
            NodeError: The cameras do not start.
        """
        publisher = Publisher(settings, folder=self._folder, name=name)
        self._stack.callback(publisher.process.stop)
        wait_until(lambda: publisher.publishing, [self.node, publisher.process], 'the first image')
        return publisher

    def rest(self, seconds: float, *publishers: 'Publisher') -> None:
        """Wait some seconds while checking that all processes run.

        Raises:
            NodeError: A process ended.
        """
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            check_all([self.node, *(publisher.process for publisher in publishers)])
            time.sleep(min(left, _POLL_SECONDS))

    def counts_now(self) -> dict[str, FrameCounts]:
        """Wait for the node's next diagnostics; return the frame counts of each camera.

        Raises:
            NodeError: No diagnostics came.
        """
        begin_ns, listener = time.time_ns(), self.listener
        wait_until(
            lambda: bool(listener.diagnoses) and listener.diagnoses[-1].stamp_ns > begin_ns,
            [self.node],
            'the frame counts in the diagnostics',
            seconds=_DIAGNOSTICS_SECONDS,
        )
        return listener.diagnoses[-1].counts


class Publisher:
    """The process of a `BenchmarkPublisher`.

    Args:
        settings: What it publishes; the constructor sets `report`.
        folder: For its log and report.
        name: Of these files.
        environment: Environment variables for it, beside those of this process.
    """

    def __init__(
        self,
        settings: PublisherSettings,
        *,
        folder: Path,
        name: str = 'benchmark_publisher',
        environment: dict[str, str] | None = None,
    ) -> None:
        self._report = folder / f'{name}.json'
        self._report.unlink(missing_ok=True)
        self.process = NodeProcess(
            'benchmark_publisher',
            log=folder / f'{name}.log',
            parameters={**settings.parameters(), 'report': str(self._report)},
            environment=environment,
        )

    @property
    def publishing(self) -> bool:
        """Whether it has found its subscribers and publishes."""
        return PUBLISHING in self.process.log_tail()

    def stop(self) -> PublisherReport:
        """Stop the process; return what it sent.

        Raises:
            NodeError: The process failed.
        """
        code = self.process.stop()
        if code or not self._report.is_file():
            raise NodeError(
                f'the publisher ended with exit code {code}; its log, {self.process.log}, ends '
                f'with:\n{self.process.log_tail()}'
            )
        return PublisherReport.read(self._report)


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The frame counts in one message of the node's diagnostics.

    Attributes:
        stamp_ns: When the node made them, by its clock.
        counts: Frame counts by camera.
    """

    stamp_ns: int
    counts: dict[str, FrameCounts]


class BenchmarkListener(Closing):
    """Collects a node's hypotheses and diagnostics in a thread of its own.

    Args:
        perception: Full name of the perception node.
        cameras: Names of its cameras.

    Attributes:
        diagnoses: Diagnostics so far.
        model: The node's model info; None until it arrives.
    """

    def __init__(self, perception: str, cameras: list[str]) -> None:
        self._serialised: list[tuple[bytes, int]] = []
        self._arrivals: list[Observation] = []
        self.diagnoses: list[Diagnosis] = []
        self.model: ModelInfo | None = None
        self._cameras = set(cameras)
        self._client = PerceptionClient('benchmark_listener')
        self._client.subscribe(
            PerceptionTopics.of_node(perception),
            # As bytes: during the measurement this process must leave the cores to the node.
            on_serialised_hypothesis=self._on_serialised_hypothesis,
            on_model_info=self._on_model_info,
            on_statuses=self._on_statuses,
        )
        self._client.start()

    def close(self) -> None:
        """End the subscriptions."""
        self._client.close()

    @property
    def arrivals(self) -> list[Observation]:
        """Hypotheses so far, in the order of their arrival; deserialised on access."""
        for serialised, arrival_ns in self._serialised[len(self._arrivals) :]:
            message = deserialize_message(serialised, ActionHypothesis)
            self._arrivals.append(to_observation(message, arrival_ns))
        return self._arrivals

    def _on_serialised_hypothesis(self, serialised: bytes) -> None:
        self._serialised.append((serialised, time.time_ns()))

    def _on_model_info(self, message: ModelInfo) -> None:
        self.model = message

    def _on_statuses(self, stamp_ns: int, statuses: list[DiagnosticStatus]) -> None:
        counts = {
            status_part(status): read_frame_counts(status)
            for status in statuses
            if status_part(status) in self._cameras
        }
        if counts:
            self.diagnoses.append(Diagnosis(stamp_ns=stamp_ns, counts=counts))
