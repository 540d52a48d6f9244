# SPDX-License-Identifier: Apache-2.0
"""Compare the output of a running node with the replay of the same bag, and explain differences.

A node may lose frames: they never arrive, or a busy node drops them. A lost frame changes all
later windows, and even the grid that chooses later frames. So a loss explains every difference at
or after it. If any other difference is left, node and replay do not agree.
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

# Messages carry scores in float32, and the number of frames encoded at once sets the order of
# summation.
TOLERANCE = 1e-6
# Causes of a difference, beside those that the node's diagnostics name.
START, NOT_RECEIVED = 'start of the stream', 'not_received'
# A duplicate is dropped, but its frame is not lost.
_NO_LOSS = frozenset({Placement.DUPLICATE.value})
_MILLISECOND_NS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Frames or hypotheses that the node dropped and the replay did not.

    Attributes:
        cause: The cause, as the node's diagnostics name it.
        count: Number of frames or hypotheses.
        from_ns: Stamp after which they came, in nanoseconds.
        to_ns: Stamp up to which they came.
    """

    cause: str
    count: int
    from_ns: int
    to_ns: int


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A window on which node and replay differ.

    Attributes:
        stamp_ns: Stamp of its newest frame, in nanoseconds.
        cause: Causes that explain the difference; empty if nothing explains it.
        score: Greatest difference of a score; None if only one side has the window.
    """

    stamp_ns: int
    cause: str
    score: float | None = None


@dataclass(frozen=True, kw_only=True)
class EventDifference:
    """An event that only the node or only the replay published."""

    type: int
    task: str
    label: str
    stamp_ns: int
    start_ns: int


@dataclass(frozen=True, kw_only=True)
class CameraAgreement:
    """Comparison of replay and node for one camera.

    Attributes:
        frames: Number of frames in the bag.
        received: Number of frames that the node received.
        losses: Frames and hypotheses that the node dropped.
        offline: Number of hypotheses of the replay.
        online: Number of hypotheses of the node.
        both: Number of windows that both have.
        greatest_score: Greatest difference of a score, explained differences left out.
        greatest_order_evidence: Greatest difference of order evidence, explained differences
            left out.
        only_offline: Windows that only the replay has.
        only_online: Windows that only the node has.
        different: Windows whose scores or oldest frames differ.
        events: Number of events that both published.
        greatest_event_score: Greatest difference of the scores of these events.
        events_only_offline: Events that only the replay published.
        events_only_online: Events that only the node published.
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
        """All windows on which replay and node differ."""
        return [*self.only_offline, *self.only_online, *self.different]

    @property
    def agrees(self) -> bool:
        """Whether every difference is explained, and the two share at least one window.

        Events follow from hypotheses: if no hypothesis differs, no event may differ.
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
        """Return the content for JSON."""
        return {'agrees': self.agrees, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class RecordingAgreement:
    """Comparison of replay and node for one camera of a bag.

    Attributes:
        bag: Name of the bag.
        bundle: Title of the bundle.
        camera: The camera's topic.
        first_ns: Stamp of the camera's earliest frame, in nanoseconds.
        found: The comparison.
    """

    bag: str
    bundle: str
    camera: str
    first_ns: int
    found: CameraAgreement


def compare_replay(
    result: ReplayResult, online: Mapping[tuple[str, str], NodeOutput]
) -> list[RecordingAgreement]:
    """Compare replayed bags with the output of nodes for the same bags.

    Args:
        result: The replay.
        online: Output of the nodes, by name of the bag and title of the bundle.

    Raises:
        ValueError: A node ran another bundle, or the same bundle with another encoder.
    """
    agreements = []
    for bundle in result.bundles:
        for recording in result.recordings[bundle.title]:
            output = online[recording.bag, bundle.title]
            if output.model_id not in ('', bundle.model_id):
                raise ValueError(
                    f'{recording.bag}: the node ran {output.model_id}, the replay '
                    f'{bundle.model_id}; replay the bundle that the node ran (--bundle)'
                )
            predictions = recording.predictions
            agreements.append(
                RecordingAgreement(
                    bag=recording.bag,
                    bundle=bundle.title,
                    camera=predictions.topic,
                    first_ns=predictions.first_ns,
                    found=compare(predictions, bundle.spec.tasks, output),
                )
            )
    return agreements


def compare(
    offline: CameraPredictions, tasks: Sequence[TaskSpec], online: NodeOutput
) -> CameraAgreement:
    """Compare the predictions of a replay with the output of a node for one camera.

    Args:
        offline: Predictions of the replay.
        tasks: Tasks of the bundle.
        online: Output of the node, which names the camera by its topic.
    """
    camera = offline.topic
    tallies = online.tallies.get(camera, ())
    received = tallies[-1].received if tallies else 0
    frames = offline.counts.get('received', 0)
    losses = find_losses(tallies, offline.counts)
    hypotheses = {each.stamp_ns: each for each in online.hypotheses if each.camera == camera}
    places = {int(stamp_ns): place for place, stamp_ns in enumerate(offline.stamps_ns_h)}
    first_ns = min(hypotheses, default=None)

    def cause(stamp_ns: int) -> str:
        if received < frames and (first_ns is None or stamp_ns < first_ns):
            return START
        earlier = {loss.cause for loss in losses if loss.from_ns < stamp_ns}
        # Nothing says when the frames that never arrived were due, so they explain all windows.
        return ', '.join(sorted(earlier | ({NOT_RECEIVED} if received < frames else set())))

    greatest_score = greatest_order_evidence = 0.0
    different = []
    both = sorted(hypotheses.keys() & places.keys())
    for stamp_ns in both:
        place, other = places[stamp_ns], hypotheses[stamp_ns]
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

    offline_scores = {
        EventDifference(
            type=int(each.event.type),
            task=each.event.task,
            label=each.event.label,
            stamp_ns=each.event.stamp_ns,
            start_ns=each.event.start_ns,
        ): each.event.score
        for each in offline.events
    }
    online_scores = {
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
    shared = [event for event in offline_scores if event in online_scores]
    return CameraAgreement(
        frames=frames,
        received=received,
        losses=losses,
        offline=len(places),
        online=len(hypotheses),
        both=len(both),
        greatest_score=greatest_score,
        greatest_order_evidence=greatest_order_evidence,
        only_offline=missing(sorted(places.keys() - hypotheses.keys())),
        only_online=missing(sorted(hypotheses.keys() - places.keys())),
        different=different,
        events=len(shared),
        greatest_event_score=max(
            (abs(offline_scores[each] - online_scores[each]) for each in shared), default=0.0
        ),
        events_only_offline=[event for event in offline_scores if event not in online_scores],
        events_only_online=[event for event in online_scores if event not in offline_scores],
    )


def find_losses(tallies: Sequence[FrameTally], offline: Mapping[str, int]) -> list[Loss]:
    """Return the frames and hypotheses that a node dropped, and between which stamps.

    Args:
        tallies: The node's counts of a camera's frames, in the order in which they were made.
        offline: The replay's final counts by cause; a frame that the replay drops, too, is no
            loss.
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
    # A lost frame may have waited in the queue since the last tally with an empty queue.
    idle_ns = 0
    for tally in tallies:
        for cause in causes:
            if count := tally.lost.get(cause, 0) - before.get(cause, 0):
                losses.append(
                    Loss(cause=cause, count=count, from_ns=idle_ns, to_ns=tally.newest_ns)
                )
        before = tally.lost
        if tally.waiting == 0:
            # The stamp in the diagnostics is rounded to a millisecond.
            idle_ns = tally.newest_ns - _MILLISECOND_NS
    return losses


def _distances(
    offline: CameraPredictions, place: int, tasks: Sequence[TaskSpec], online: OnlineHypothesis
) -> tuple[float, float]:
    """Return the greatest difference of a score, and of order evidence, in one window."""
    score = evidence = 0.0
    for task in tasks:
        expected_k = offline.scores_hk[task.name][place]
        found = online.scores.get(task.name, {})
        # A label that the node did not publish has no score.
        found_k = np.array([found.get(label, np.inf) for label in task.labels])
        score = max(score, float(np.abs(expected_k - found_k).max()))
        pair = (
            float(offline.order_evidence_h[task.name][place]),
            online.order_evidence.get(task.name, np.inf),
        )
        if not all(np.isnan(pair)):
            evidence = max(evidence, float(np.nan_to_num(abs(pair[0] - pair[1]), nan=np.inf)))
    # Two scores in [0, 1] differ by at most 1.
    return min(score, 1.0), min(evidence, 1.0)
