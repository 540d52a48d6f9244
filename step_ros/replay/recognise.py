"""Driving the streaming recogniser with a recorded bag, as the node drives it with live images."""

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

# Frames that are given to the recogniser at once: enough to encode grid frames in batches, few
# enough to keep their images in memory. A fixed number, for rounding depends on the batch.
_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class CameraReplay:
    """What the recogniser said about one camera of a bag.

    Attributes:
        topic: The image topic, which names the camera.
        first_ns: Stamp of its first frame.
        last_ns: Stamp of its last frame.
        counts: Frames by what became of them, as in `CameraStream`.
        hypotheses: In the order of their stamps, smoothed if the settings say so.
        events: In the order in which they were told.
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
    """Recognise what a bag shows, as fast as this machine can.

    Args:
        bag: The bag.
        topics: Its cameras.
        bundle: The model.
        encoder: Runs the bundle's backbone.
        settings: Those of the node.
        output: Takes hypotheses and events, recorded at the times of the frames they came with.
        top_k: Labels of each task in a written hypothesis.
        shown: Whether there is a progress bar.

    Returns:
        One for each topic.

    Raises:
        BagError: The bag is damaged or cut short, its stamps go back further than late frames may
            come, or a camera gave no hypothesis.
        ValueError: The settings do not fit the bundle.
    """
    recogniser = settings.recogniser(bundle, encoder)
    postprocessor = Postprocessor(settings, max_gap_ns=recogniser.settings.max_gap_ns)
    clock = _Stamps(bag, round(settings.order_tolerance * NANOSECONDS))
    hypotheses: dict[str, list[Hypothesis]] = {topic: [] for topic in topics}
    events: dict[str, list[TimedEvent]] = {topic: [] for topic in topics}
    problems: dict[str, str] = {}

    def tell(found: list[Event], seen: Hypothesis) -> None:
        for event in found:
            events[event.camera].append(TimedEvent(event=event, published_ns=seen.stamp_ns))
            output.event(EVENTS_TOPIC, _bag_event(event), log_ns=seen.received_ns)

    total = sum(bag.topics[topic].messages for topic in topics)
    frames = clock.watch(track(bag.frames(topics), bag.path.name, total, shown=shown))
    while batch := list(islice(frames, _BATCH)):
        for given in recogniser.process(batch):
            for answer in postprocessor.update(given):
                hypothesis = answer.hypothesis
                hypotheses[hypothesis.camera].append(hypothesis)
                output.hypothesis(
                    HYPOTHESES_TOPIC,
                    hypothesis,
                    model_id=bundle.model_id,
                    top_k=top_k,
                    log_ns=hypothesis.received_ns,
                )
                tell(answer.events, hypothesis)
        for problem in recogniser.problems:
            problems.setdefault(problem.camera, problem.detail)
    for topic in topics:
        if not hypotheses[topic]:
            raise BagError(bag.path, _why_none(topic, recogniser, problems.get(topic, '')))
        tell(postprocessor.close(topic), hypotheses[topic][-1])
    return [
        CameraReplay(
            topic=topic,
            first_ns=clock.first_ns[topic],
            last_ns=clock.newest_ns[topic],
            counts=dict(sorted(recogniser.cameras[topic].counts.items())),
            hypotheses=hypotheses[topic],
            events=events[topic],
        )
        for topic in topics
    ]


class _Stamps:
    """First and newest stamp of each camera; refuses stamps that go back too far.

    A node would begin its window anew or drop the frame, and so would score fewer frames than the
    recording has.
    """

    def __init__(self, bag: BagReader, tolerance_ns: int) -> None:
        self._bag, self._tolerance_ns = bag, tolerance_ns
        self.first_ns: dict[str, int] = {}
        self.newest_ns: dict[str, int] = {}

    def watch(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            # A frame without a stamp is the recogniser's to refuse and to count.
            if frame.stamp_ns > 0:
                self._take(frame.camera, frame.stamp_ns)
            yield frame

    def _take(self, topic: str, stamp_ns: int) -> None:
        self.first_ns[topic] = min(stamp_ns, self.first_ns.get(topic, stamp_ns))
        newest_ns = self.newest_ns.get(topic, stamp_ns)
        if stamp_ns < newest_ns - self._tolerance_ns:
            raise BagError(
                self._bag.path,
                f'{topic}: stamps do not ascend: a frame of {stamp_ns / NANOSECONDS:.6f} s comes '
                f'after one of {newest_ns / NANOSECONDS:.6f} s; expected header stamps that go '
                f'back by {self._tolerance_ns / NANOSECONDS:g} s at most (order_tolerance)',
            )
        self.newest_ns[topic] = max(newest_ns, stamp_ns)


def _why_none(topic: str, recogniser: StreamingRecogniser, problem: str) -> str:
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
