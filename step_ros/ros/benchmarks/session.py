"""A perception node in a process of its own, cameras for it in another, and what it says."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.serialization import deserialize_message

from step_ros.msg import ActionHypothesis, ModelInfo
from step_ros.ros.benchmarks.publisher import PUBLISHING, PublisherReport, PublisherSettings
from step_ros.ros.clients.frame_counts import FrameCounts, read_frame_counts
from step_ros.ros.conversion import to_nanoseconds
from step_ros.ros.processes import NodeError, NodeProcess, check_all, wait_until
from step_ros.ros.qos import LATCHED
from step_ros.ros.spinning_node import SpinningNode

# ---- Hears what a perception node says: hypotheses with the time they came, and diagnostics.

# Hundreds may come in a second, and a listener on a busy machine sleeps for a while.
_DEPTH = 1000


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A hypothesis that came.

    Attributes:
        camera: Whose window.
        stamp_ns: Stamp of the newest frame.
        arrival_ns: When it came, by the system's clock.
    """

    camera: str
    stamp_ns: int
    arrival_ns: int

    @property
    def latency_ms(self) -> float:
        """Milliseconds from the stamp to the arrival."""
        return (self.arrival_ns - self.stamp_ns) / 1e6


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What the node said about itself at one time.

    Attributes:
        stamp_ns: When, by the node's clock.
        counts: What became of the frames, by camera.
    """

    stamp_ns: int
    counts: dict[str, FrameCounts]


class BenchmarkListener:
    """Listens in a thread of its own.

    Args:
        perception: Full name of the node.
        cameras: Its cameras.

    Attributes:
        diagnoses: What the node said about itself so far.
        model: What it said it decides; None until it did.
    """

    def __init__(self, perception: str, cameras: list[str]) -> None:
        self._came: list[tuple[bytes, int]] = []
        self._arrivals: list[Arrival] = []
        self.diagnoses: list[Diagnosis] = []
        self.model: ModelInfo | None = None
        self._prefix, self._cameras = f'{perception}: ', set(cameras)
        self._spinning = SpinningNode('benchmark_listener')
        node = self._spinning.node
        # Read later: who measures should take as little of the machine as can be.
        node.create_subscription(
            ActionHypothesis, f'{perception}/hypotheses', self._on_hypothesis, _DEPTH, raw=True
        )
        node.create_subscription(ModelInfo, f'{perception}/model_info', self._on_model, LATCHED)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, _DEPTH)
        self._spinning.start()

    def close(self) -> None:
        """Stop listening."""
        self._spinning.close()

    @property
    def arrivals(self) -> list[Arrival]:
        """Hypotheses so far."""
        for serialised, arrival_ns in self._came[len(self._arrivals) :]:
            message = deserialize_message(serialised, ActionHypothesis)
            self._arrivals.append(
                Arrival(
                    camera=message.camera,
                    stamp_ns=to_nanoseconds(message.header.stamp),
                    arrival_ns=arrival_ns,
                )
            )
        return self._arrivals

    def _on_hypothesis(self, serialised: bytes) -> None:
        self._came.append((serialised, time.time_ns()))

    def _on_model(self, message: ModelInfo) -> None:
        self.model = message

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        counts = {}
        for status in message.status:
            camera = status.name.removeprefix(self._prefix)
            if camera != status.name and camera in self._cameras:
                counts[camera] = read_frame_counts(status)
        if counts:
            stamp_ns = to_nanoseconds(message.header.stamp)
            self.diagnoses.append(Diagnosis(stamp_ns=stamp_ns, counts=counts))


PERCEPTION = '/perception'

_POLL_SECONDS = 0.05

# Diagnostics come once a second; a busy node is late with them.
_DIAGNOSIS_SECONDS = 20.0


class Publisher:
    """A process that publishes images.

    Args:
        settings: What it publishes; `report` is set here.
        folder: For its log and report.
        name: Of these files.
        environment: Variables for it.
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
        """Whether its subscribers were found and images are on their way."""
        return PUBLISHING in self.process.log_tail()

    def stop(self) -> PublisherReport:
        """End it and return what it sent.

        Raises:
            NodeError: It failed.
        """
        code = self.process.stop()
        if code or not self._report.is_file():
            raise NodeError(
                f'the publisher ended with exit code {code}; its log, {self.process.log}, ends '
                f'with:\n{self.process.log_tail()}'
            )
        return PublisherReport.read(self._report)


class BenchmarkSession:
    """Runs a perception node; use it as a context.

    Args:
        bundle: Folder of the bundle.
        cameras: Number of cameras.
        folder: For logs.
        parameters: Further parameters of the node; all others have their defaults.

    Attributes:
        cameras: Their names.
        topics: Their image topics.
        listener: What the node says.
        node: Its process.
    """

    node: NodeProcess
    listener: BenchmarkListener

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
            NodeError: It does not start.
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
                lambda: self.listener.model is not None, [self.node], 'what the node decides'
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the node."""
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

    def publish(self, settings: PublisherSettings, *, name: str = 'publisher') -> Publisher:
        """Start cameras and wait until they publish; stopped with the session if not before.

        Raises:
            NodeError: They do not start.
        """
        publisher = Publisher(settings, folder=self._folder, name=name)
        self._stack.callback(publisher.process.stop)
        wait_until(lambda: publisher.publishing, [self.node, publisher.process], 'an image')
        return publisher

    def rest(self, seconds: float, *publishers: Publisher) -> None:
        """Let time go by and see that all are well.

        Raises:
            NodeError: One is not.
        """
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            check_all([self.node, *(publisher.process for publisher in publishers)])
            time.sleep(min(left, _POLL_SECONDS))

    def counts_now(self) -> dict[str, FrameCounts]:
        """Wait for the node to say what became of the frames until now.

        Raises:
            NodeError: It does not.
        """
        asked_ns, listener = time.time_ns(), self.listener
        wait_until(
            lambda: bool(listener.diagnoses) and listener.diagnoses[-1].stamp_ns > asked_ns,
            [self.node],
            'what became of the frames',
            seconds=_DIAGNOSIS_SECONDS,
        )
        return listener.diagnoses[-1].counts
