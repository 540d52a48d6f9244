"""A long run with everything that goes wrong: restarts, gaps, jumps in time; nothing may be lost.

Each camera is a process of its own. One after the other is stopped and, after a pause, started
anew; meanwhile their streams have gaps, and their stamps jump forth and back as in a looped bag.

While a node is held up, images wait for it in the middleware, which keeps the memory: each
subscription comes to its bound of `DEPTH` images sooner or later. So that this is not taken for a
leak, nor hides one, the node is held up before the run until its queues have been full.
"""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from step_ros.ros.benchmark_session import BenchmarkSession, Publisher
from step_ros.ros.frame_counts import FrameCounts
from step_ros.ros.process_usage import memory
from step_ros.ros.soak_plan import SoakPlan
from step_ros.ros.soak_result import CameraFrames, MemorySample, SoakResult

_SAMPLE_SECONDS = 1.0
# How often the node is held up before the run.
_HOLD_UPS = 4


class SoakBenchmark:
    """Runs a plan on a node.

    Args:
        plan: What is done.
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

    def run(self) -> SoakResult:
        """Do it.

        Raises:
            NodeError: The node or a camera does not keep going.
        """
        with BenchmarkSession(
            self._bundle,
            cameras=self._plan.cameras,
            folder=self._folder,
            parameters=self._parameters,
        ) as session:
            before = self._fill_queues(session)
            already = len(session.listener.arrivals)
            publishers = [self._start(session, index) for index in range(self._plan.cameras)]
            self._began = time.monotonic()
            while (left := self._plan.seconds - self._seconds) > 0:
                self._watch(session, publishers, min(left, self._plan.restart_every))
                if self._seconds < self._plan.seconds:
                    self._restart(session, publishers)
            for index, publisher in enumerate(publishers):
                self._sent[index] += publisher.stop().total
            counts = session.counts_now()
            came = Counter(arrival.camera for arrival in session.listener.arrivals[already:])
            return SoakResult(
                plan=self._plan,
                restarts=self._restarts,
                hypotheses={camera: came[camera] for camera in session.cameras},
                frames={
                    camera: CameraFrames(sent=sent, counts=counts[camera] - before[camera])
                    for camera, sent in zip(session.cameras, self._sent, strict=True)
                },
                samples=self._samples,
            )

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _fill_queues(self, session: BenchmarkSession) -> dict[str, FrameCounts]:
        """Hold the node up until as many images have waited as may; return what became of them."""
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
        """Sample the node's memory for some time."""
        end = self._seconds + seconds
        while (left := end - self._seconds) > 0:
            session.rest(min(left, _SAMPLE_SECONDS), *publishers)
            self._samples.append(
                MemorySample(seconds=self._seconds, memory=memory(session.node.pid))
            )

    def _restart(self, session: BenchmarkSession, publishers: list[Publisher]) -> None:
        """Stop the next camera and start it anew."""
        camera = self._restarts % self._plan.cameras
        self._sent[camera] += publishers[camera].stop().total
        publishers[camera] = self._start(session, camera)
        self._restarts += 1
