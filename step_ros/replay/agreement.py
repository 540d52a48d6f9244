"""Whether a running node said about a bag what the replay says, and what explains where not.

Frames that a node never gets, or leaves out because the machine is busy, change the windows from
there on, even the grid on which later frames are chosen. So a difference at or after such a loss
is explained by it; any other is not, and the two do not agree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from step_ros.model.bundle_schema import TaskSpec
from step_ros.replay.node_output import FrameTally, NodeOutput, OnlineHypothesis
from step_ros.replay.results import CameraPredictions
from step_ros.replay.run import ReplayResult
from step_ros.streaming.grid import Placement

# Messages carry scores in float32, and the order of summation hangs on how many frames are encoded
# at once.
TOLERANCE = 1e-6
START, NOT_RECEIVED = 'start of the stream', 'not_received'
# Of a frame that came twice one is left out, and nothing is lost.
_NO_LOSS = frozenset({Placement.DUPLICATE.value})
_MILLISECOND_NS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Frames or hypotheses that the node left out, and the replay did not.

    Attributes:
        cause: As in the node's diagnostics.
        count: How many.
        from_ns: Stamp after which they came.
        to_ns: Stamp up to which they came.
    """

    cause: str
    count: int
    from_ns: int
    to_ns: int


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A window on which both differ.

    Attributes:
        stamp_ns: Stamp of its newest frame.
        cause: What explains it; empty for nothing.
        score: Greatest difference of a score; None where only one of both has the window.
    """

    stamp_ns: int
    cause: str
    score: float | None = None


@dataclass(frozen=True, kw_only=True)
class EventDifference:
    """An event that only one of both tells."""

    type: int
    task: str
    label: str
    stamp_ns: int
    start_ns: int


@dataclass(frozen=True, kw_only=True)
class CameraAgreement:
    """How far replay and node agree about a camera.

    Attributes:
        frames: Frames in the bag.
        received: Those that the node got.
        losses: What it left out.
        offline: Hypotheses of the replay.
        online: Those of the node.
        both: Windows that have both.
        greatest_score: Greatest difference of a score but for what is explained.
        greatest_order_evidence: Likewise, of order evidence.
        only_offline: Windows that only the replay has.
        only_online: Windows that only the node has.
        different: Windows whose scores or oldest frames differ.
        events: Events that both tell.
        greatest_event_score: Greatest difference of their scores.
        events_only_offline: Events that only the replay tells.
        events_only_online: Events that only the node tells.
    """

    frames: int
    received: int
    losses: list[Loss]
    offline: int
    online: int
    both: int
    greatest_score: float
    greatest_order_evidence: float
    only_offline: list[Difference]
    only_online: list[Difference]
    different: list[Difference]
    events: int
    greatest_event_score: float
    events_only_offline: list[EventDifference]
    events_only_online: list[EventDifference]

    @property
    def differences(self) -> list[Difference]:
        """All windows on which both differ."""
        return [*self.only_offline, *self.only_online, *self.different]

    @property
    def agrees(self) -> bool:
        """Whether every difference is explained.

        Events follow from hypotheses: where none of those differ, no event may. A node that said
        nothing about any window of the replay agrees with nothing.
        """
        if not self.both:
            return False
        if self.differences:
            return all(difference.cause for difference in self.differences)
        return (
            not self.events_only_offline
            and not self.events_only_online
            and self.greatest_event_score <= TOLERANCE
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {'agrees': self.agrees, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class RecordingAgreement:
    """How far replay and node agree about a camera of a bag.

    Attributes:
        bag: Name of the bag.
        bundle: Title of the bundle.
        camera: The camera's topic.
        first_ns: Stamp of its first frame.
        found: How far.
    """

    bag: str
    bundle: str
    camera: str
    first_ns: int
    found: CameraAgreement


def compare_replay(
    result: ReplayResult, online: Mapping[tuple[str, str], NodeOutput]
) -> list[RecordingAgreement]:
    """Compare replayed bags with what nodes said about them.

    Args:
        result: The replay.
        online: What nodes said, by name of the bag and title of the bundle.

    Raises:
        ValueError: A node ran another bundle, or the same one with another encoder.
    """
    agreements = []
    for bundle in result.bundles:
        for recording in result.recordings[bundle.title]:
            said = online[recording.bag, bundle.title]
            if said.model_id not in ('', bundle.model_id):
                raise ValueError(
                    f'{recording.bag}: the node ran {said.model_id}, the replay {bundle.model_id}'
                )
            predictions = recording.predictions
            agreements.append(
                RecordingAgreement(
                    bag=recording.bag,
                    bundle=bundle.title,
                    camera=predictions.topic,
                    first_ns=predictions.first_ns,
                    found=compare(predictions, bundle.spec.tasks, said),
                )
            )
    return agreements


def compare(
    offline: CameraPredictions, tasks: Sequence[TaskSpec], online: NodeOutput
) -> CameraAgreement:
    """Compare what a replay and a node say about a camera.

    Args:
        offline: What the replay says.
        tasks: Those of the bundle.
        online: What the node said; it calls the camera by its topic.
    """
    camera = offline.topic
    tallies = online.tallies.get(camera, ())
    received = tallies[-1].received if tallies else 0
    frames = offline.counts.get('received', 0)
    losses = find_losses(tallies, offline.counts)
    said = {each.stamp_ns: each for each in online.hypotheses if each.camera == camera}
    places = {int(stamp_ns): place for place, stamp_ns in enumerate(offline.stamps_ns_h)}
    first_ns = min(said, default=None)

    def cause(stamp_ns: int) -> str:
        if received < frames and (first_ns is None or stamp_ns < first_ns):
            return START
        earlier = {loss.cause for loss in losses if loss.from_ns < stamp_ns}
        # Nobody knows when those would have come.
        return ', '.join(sorted(earlier | ({NOT_RECEIVED} if received < frames else set())))

    greatest_score = greatest_order_evidence = 0.0
    different = []
    both = sorted(said.keys() & places.keys())
    for stamp_ns in both:
        place, other = places[stamp_ns], said[stamp_ns]
        score, evidence = _distances(offline, place, tasks, other)
        same_window = int(offline.starts_ns_h[place]) == other.window_start_ns
        reason = cause(stamp_ns)
        differs = not same_window or max(score, evidence) > TOLERANCE
        if differs:
            different.append(Difference(stamp_ns=stamp_ns, cause=reason, score=score))
        if not (differs and reason):
            greatest_score = max(greatest_score, score)
            greatest_order_evidence = max(greatest_order_evidence, evidence)

    def missing(stamps_ns: Sequence[int]) -> list[Difference]:
        return [Difference(stamp_ns=stamp, cause=cause(stamp)) for stamp in stamps_ns]

    told = {
        EventDifference(
            type=int(each.event.type),
            task=each.event.task,
            label=each.event.label,
            stamp_ns=each.event.stamp_ns,
            start_ns=each.event.start_ns,
        ): each.event.score
        for each in offline.events
    }
    heard = {
        EventDifference(
            type=each.type,
            task=each.task,
            label=each.label,
            stamp_ns=each.stamp_ns,
            start_ns=each.start_ns,
        ): each.score
        for each in online.events
        if each.camera == camera
    }
    shared = [event for event in told if event in heard]
    return CameraAgreement(
        frames=frames,
        received=received,
        losses=losses,
        offline=len(places),
        online=len(said),
        both=len(both),
        greatest_score=greatest_score,
        greatest_order_evidence=greatest_order_evidence,
        only_offline=missing(sorted(places.keys() - said.keys())),
        only_online=missing(sorted(said.keys() - places.keys())),
        different=different,
        events=len(shared),
        greatest_event_score=max((abs(told[each] - heard[each]) for each in shared), default=0.0),
        events_only_offline=[event for event in told if event not in heard],
        events_only_online=[event for event in heard if event not in told],
    )


def find_losses(tallies: Sequence[FrameTally], offline: Mapping[str, int]) -> list[Loss]:
    """Find what a node left out, and when, from what it said about itself in between.

    Args:
        tallies: What had become of a camera's frames, in the order in which that was said.
        offline: The replay's counts at the end, by cause: what it leaves out as well is no loss.
    """
    if not tallies:
        return []
    causes = [
        cause
        for cause, count in sorted(tallies[-1].lost.items())
        if count > offline.get(cause, 0) and cause not in _NO_LOSS
    ]
    losses = []
    before: Mapping[str, int] = {}
    # What is lost may have waited when the last tallies were made.
    idle_ns = 0
    for tally in tallies:
        for cause in causes:
            if count := tally.lost.get(cause, 0) - before.get(cause, 0):
                losses.append(
                    Loss(cause=cause, count=count, from_ns=idle_ns, to_ns=tally.newest_ns)
                )
        before = tally.lost
        if tally.waiting == 0:
            # Of a millisecond, a part may lie before.
            idle_ns = tally.newest_ns - _MILLISECOND_NS
    return losses


def _distances(
    offline: CameraPredictions, place: int, tasks: Sequence[TaskSpec], online: OnlineHypothesis
) -> tuple[float, float]:
    """Return the greatest distance of a score, and of order evidence."""
    score = evidence = 0.0
    for task in tasks:
        expected_k = offline.scores_hk[task.name][place]
        found = online.scores.get(task.name, {})
        # A label that was not told has no score.
        found_k = np.array([found.get(label, np.inf) for label in task.labels])
        score = max(score, float(np.abs(expected_k - found_k).max()))
        pair = (
            float(offline.order_evidence_h[task.name][place]),
            online.order_evidence.get(task.name, np.inf),
        )
        if not all(np.isnan(pair)):
            evidence = max(evidence, float(np.nan_to_num(abs(pair[0] - pair[1]), nan=np.inf)))
    # No two of them are further apart than 1.
    return min(score, 1.0), min(evidence, 1.0)
