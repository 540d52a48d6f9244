"""What the perception node adds to the recogniser, for some cameras at some rates."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from step_ros.model.bundle import Bundle
from step_ros.ros.benchmark_publisher import PublisherSettings
from step_ros.ros.benchmark_session import BenchmarkSession
from step_ros.ros.node_bars import Bar, node_bars
from step_ros.ros.node_times import NodeTimes, measure_node
from step_ros.ros.rate_search import RateSearch, search_rate
from step_ros.stream.encoder import Encoder
from step_ros.stream.own_rate import OwnRateMeter

# How long the recogniser itself is measured each time.
OWN_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True)
class NodePlan:
    """What is measured.

    Attributes:
        cameras: Numbers of cameras.
        rates: Images of each camera in a second.
        seconds: How long each combination is measured, without the first windows.
        size: Width and height of an image in pixels.
        search_cameras: Cameras that share the grid frames of the search.
        search_seconds: How long each try of the search is measured.
        search_steps: How often the search halves its range.
        search_tries: How often it tries a rate at most.
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
    """What was measured so far.

    Attributes:
        own_frame_ms: What the recogniser itself takes for a frame; NaN before it was measured.
        rows: One for each combination.
        search: What the search found; None without one.
    """

    own_frame_ms: float = float('nan')
    rows: list[NodeTimes] = field(default_factory=list)
    search: RateSearch | None = None

    @property
    def bars(self) -> list[Bar]:
        """Hold it against the bars that it allows to be judged."""
        return [*node_bars(self.rows), *([self.search.bar] if self.search is not None else [])]

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return {
            'own_frame_ms': self.own_frame_ms,
            'rows': [row.as_dict() for row in self.rows],
            'search': None if self.search is None else self.search.as_dict(),
            'bars': [vars(bar) for bar in self.bars],
        }


class NodeBenchmark:
    """Runs a node with a bundle, and the recogniser beside it in this process.

    Args:
        plan: What is measured.
        bundle: The model.
        encoder: Runs its backbone in this process, as the node does in its own.
        parameters: Parameters of the node that are not its defaults.
        folder: For logs.

    Attributes:
        result: What was measured so far.
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
        self._meter = OwnRateMeter(
            bundle, encoder, cameras=plan.search_cameras, image_size=plan.size[::-1]
        )

    def run(self) -> Iterator[NodeTimes]:
        """Measure one combination after the other.

        Raises:
            NodeError: A process does not keep going.
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
            NodeError: A process does not keep going.
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
