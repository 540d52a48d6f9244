"""A perception node in a process of its own, cameras for it in another, and what it says."""

import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from step_ros.ros.benchmark_listener import BenchmarkListener
from step_ros.ros.benchmark_publisher import PUBLISHING, PublisherReport, PublisherSettings
from step_ros.ros.conversion import to_nanoseconds
from step_ros.ros.frame_counts import FrameCounts
from step_ros.ros.processes import NodeError, NodeProcess, check_all, wait_until

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
