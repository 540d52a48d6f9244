"""What a running node said about a bag that was played to it, as its messages have it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class OnlineHypothesis:
    """A hypothesis that came.

    Attributes:
        camera: Whose window.
        stamp_ns: Stamp of the newest frame.
        window_start_ns: Stamp of the oldest one.
        scores: By task and label; of all labels if the node told all.
        order_evidence: By task; NaN where it was not asked for.
    """

    camera: str
    stamp_ns: int
    window_start_ns: int
    scores: Mapping[str, Mapping[str, float]]
    order_evidence: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class OnlineEvent:
    """An event that came; see `step_ros.streaming.postprocessing.events.Event`."""

    camera: str
    type: int
    task: str
    label: str
    stamp_ns: int
    start_ns: int
    score: float


@dataclass(frozen=True, kw_only=True)
class FrameTally:
    """What had become of a camera's frames at some moment, by the node's diagnostics.

    Attributes:
        newest_ns: Stamp of the newest frame that had come, to a millisecond.
        received: Frames that had come.
        waiting: Those that nobody had looked at yet.
        lost: Frames and hypotheses that were left out, by cause.
    """

    newest_ns: int
    received: int
    waiting: int
    lost: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class NodeOutput:
    """All that a node said about a bag.

    Attributes:
        model_id: Name and digest of what answered; empty if nothing did.
        hypotheses: In the order in which they came.
        events: Likewise.
        tallies: By camera, in the order in which they were made.
    """

    model_id: str
    hypotheses: Sequence[OnlineHypothesis]
    events: Sequence[OnlineEvent]
    tallies: Mapping[str, Sequence[FrameTally]]

    def save(self, path: Path) -> None:
        """Write it as JSON, as a whole."""
        content = asdict(self)
        for each in content['hypotheses']:
            # JSON has no NaN.
            each['order_evidence'] = {
                task: None if math.isnan(value) else value
                for task, value in each['order_evidence'].items()
            }
        partial = path.with_name(f'{path.name}.partial')
        partial.write_text(json.dumps(content, allow_nan=False) + '\n', encoding='utf-8')
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> 'NodeOutput':
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: It is missing.
            ValueError: It is something else.
        """
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
            for each in content['hypotheses']:
                each['order_evidence'] = {
                    task: math.nan if value is None else value
                    for task, value in each['order_evidence'].items()
                }
            return cls(
                model_id=content['model_id'],
                hypotheses=[OnlineHypothesis(**each) for each in content['hypotheses']],
                events=[OnlineEvent(**each) for each in content['events']],
                tallies={
                    camera: [FrameTally(**each) for each in tallies]
                    for camera, tallies in content['tallies'].items()
                },
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'{path}: expected what replay_recorder writes about a node: {error!r}'
            ) from error
