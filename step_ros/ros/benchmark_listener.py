"""Hears what a perception node says: hypotheses with the time they came, and diagnostics."""

import time
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.serialization import deserialize_message

from step_ros.msg import ActionHypothesis, ModelInfo
from step_ros.ros.conversion import to_nanoseconds
from step_ros.ros.frame_counts import FrameCounts, read_frame_counts
from step_ros.ros.qos import LATCHED
from step_ros.ros.spinning_node import SpinningNode

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
