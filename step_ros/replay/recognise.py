# SPDX-License-Identifier: Apache-2.0
"""Drive the streaming recogniser with a recorded bag, as the node drives it with live images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from step_ros.encoders.base import Encoder
from step_ros.evaluation.events import TimedEvent
from step_ros.io.bags.metadata import BagError
from step_ros.io.bags.reader import BagEvent, BagReader
from step_ros.io.bags.writer import BagWriter
from step_ros.model.bundle import Bundle
from step_ros.reporting.progress import track
from step_ros.streaming.frame import Frame
from step_ros.streaming.grid import NANOSECONDS
from step_ros.streaming.hypothesis import Hypothesis
from step_ros.streaming.pipeline import Postprocessor
from step_ros.streaming.postprocessing.events import Event
from step_ros.streaming.recogniser import StreamingRecogniser
from step_ros.streaming.settings import StreamSettings

HYPOTHESES_TOPIC = '/perception/hypotheses'

EVENTS_TOPIC = '/perception/events'

# Frames per call of the recogniser: enough to encode grid frames in batches, few enough to keep
# their images in memory. The number is fixed because rounding depends on the batch.
_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class CameraReplay:
    """Hypotheses and events of one camera of a bag.

    Attributes:
        topic: The image topic, which names the camera.
        first_ns: Stamp of the earliest frame, in nanoseconds.
        last_ns: Stamp of the newest frame.
        counts: Number of frames for each outcome, as in `CameraState`.
        hypotheses: Hypotheses in the order of their stamps, smoothed if the settings say so.
        events: Events in the order in which they were published.
    """

    topic: str
    first_ns: int
    last_ns: int
    counts: dict[str, int]
    hypotheses: list[Hypothesis]
    events: list[TimedEvent]


def replay_bag(
    bag: BagReader,
    topics: Sequence[str],
    bundle: Bundle,
    encoder: Encoder,
    settings: StreamSettings,
    *,
    output: BagWriter,
    top_k: int,
    shown: bool = True,
) -> list[CameraReplay]:
    """Run the recogniser on a bag as fast as this machine can.

    Args:
        bag: The bag.
        topics: Image topics, one for each camera.
        bundle: The model.
        encoder: Runs the bundle's backbone.
        settings: Settings of the stream, as the node has them.
        output: Bag that receives hypotheses and events, each at the time at which the newest
            frame of its window was recorded.
        top_k: Labels per task in a written hypothesis.
        shown: Whether to show a progress bar.

    Returns:
        One record for each topic.

    Raises:
        BagError: The bag is damaged or cut short, its stamps go back by more than
            `order_tolerance`, or a camera gave no hypothesis.
        ValueError: The settings do not fit the bundle.
    """
    recogniser = settings.recogniser(bundle, encoder)
    postprocessor = Postprocessor(settings, max_gap_ns=recogniser.settings.max_gap_ns)
    stamps = _StampCheck(bag, round(settings.order_tolerance * NANOSECONDS))
    hypotheses: dict[str, list[Hypothesis]] = {topic: [] for topic in topics}
    events: dict[str, list[TimedEvent]] = {topic: [] for topic in topics}
    problems: dict[str, str] = {}

    def publish(found: list[Event], newest: Hypothesis) -> None:
        for event in found:
            events[event.camera].append(TimedEvent(event=event, published_ns=newest.stamp_ns))
            output.event(EVENTS_TOPIC, _bag_event(event), log_ns=newest.received_ns)

    total = sum(bag.topics[topic].messages for topic in topics)
    frames = stamps.check(track(bag.frames(topics), bag.path.name, total, shown=shown))
    while batch := list(islice(frames, _BATCH)):
        for raw in recogniser.process(batch):
            for processed in postprocessor.process_hypothesis(raw):
                hypothesis = processed.hypothesis
                hypotheses[hypothesis.camera].append(hypothesis)
                output.hypothesis(
                    HYPOTHESES_TOPIC,
                    hypothesis,
                    model_id=bundle.model_id,
                    top_k=top_k,
                    log_ns=hypothesis.received_ns,
                )
                publish(processed.events, hypothesis)
        for problem in recogniser.problems:
            problems.setdefault(problem.camera, problem.detail)
    for topic in topics:
        if not hypotheses[topic]:
            raise BagError(
                bag.path, _no_hypothesis_reason(topic, recogniser, problems.get(topic, ''))
            )
        publish(postprocessor.close(topic), hypotheses[topic][-1])
    return [
        CameraReplay(
            topic=topic,
            first_ns=stamps.first_ns[topic],
            last_ns=stamps.newest_ns[topic],
            counts=dict(sorted(recogniser.cameras[topic].counts.items())),
            hypotheses=hypotheses[topic],
            events=events[topic],
        )
        for topic in topics
    ]


class _StampCheck:
    """Records the first and the newest stamp of each camera, and refuses large steps back.

    After a large step back a node restarts its window or drops the frame. The replay would then
    score fewer frames than the recording has.
    """

    def __init__(self, bag: BagReader, tolerance_ns: int) -> None:
        self._bag, self._tolerance_ns = bag, tolerance_ns
        self.first_ns: dict[str, int] = {}
        self.newest_ns: dict[str, int] = {}

    def check(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            # The recogniser refuses and counts frames without a stamp.
            if frame.stamp_ns > 0:
                self._check_stamp(frame.camera, frame.stamp_ns)
            yield frame

    def _check_stamp(self, topic: str, stamp_ns: int) -> None:
        self.first_ns[topic] = min(stamp_ns, self.first_ns.get(topic, stamp_ns))
        newest_ns = self.newest_ns.get(topic, stamp_ns)
        if stamp_ns < newest_ns - self._tolerance_ns:
            raise BagError(
                self._bag.path,
                f'{topic}: stamps do not ascend: a frame of {stamp_ns / NANOSECONDS:.6f} s '
                f'follows a frame of {newest_ns / NANOSECONDS:.6f} s; header stamps may go back '
                f'by at most {self._tolerance_ns / NANOSECONDS:g} s (order_tolerance)',
            )
        self.newest_ns[topic] = max(newest_ns, stamp_ns)


def _no_hypothesis_reason(topic: str, recogniser: StreamingRecogniser, problem: str) -> str:
    """Say why a camera gave no hypothesis, with the number of frames for each outcome."""
    spec = recogniser.bundle.spec
    stream = recogniser.cameras.get(topic)
    counts = dict(sorted(stream.counts.items())) if stream else {}
    found = ', '.join(f'{count} {cause}' for cause, count in counts.items() if count)
    return (
        f'{topic}: no window of {spec.frames} frames, one every {spec.frame_period:g} s, was ever '
        f'full; frames: {found or "none"}' + (f'; {problem}' if problem else '')
    )


def _bag_event(event: Event) -> BagEvent:
    return BagEvent(
        type=int(event.type),
        stamp_ns=event.stamp_ns,
        start_ns=event.start_ns,
        task=event.task,
        label=event.label,
        camera=event.camera,
        frame_id=event.frame_id,
        score=event.score,
        order_evidence=event.order_evidence,
    )
