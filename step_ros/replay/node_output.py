# SPDX-License-Identifier: Apache-2.0
"""Output of a running node for a bag that was played to it: messages and frame counts."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from step_ros.files import replace_file


@dataclass(frozen=True, kw_only=True)
class OnlineHypothesis:
    """A hypothesis that the recorder received.

    Attributes:
        camera: Name of the camera.
        stamp_ns: Stamp of the window's newest frame, in nanoseconds.
        window_start_ns: Stamp of the window's oldest frame.
        scores: Scores by task and label, for all labels that the node published.
        order_evidence: Order evidence by task; NaN where the node did not compute it.
    """

    camera: str
    stamp_ns: int
    window_start_ns: int
    scores: Mapping[str, Mapping[str, float]]
    order_evidence: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class OnlineEvent:
    """An event that the recorder received; fields as in `postprocessing.events.Event`."""

    camera: str
    type: int
    task: str
    label: str
    stamp_ns: int
    start_ns: int
    score: float


@dataclass(frozen=True, kw_only=True)
class FrameTally:
    """Counts of a camera's frames at one moment, from the node's diagnostics.

    Attributes:
        newest_ns: Stamp of the newest frame received so far, to a millisecond.
        received: Frames received so far.
        waiting: Frames among them that still waited in the queue.
        lost: Frames and hypotheses dropped so far, by cause.
    """

    newest_ns: int
    received: int
    waiting: int
    lost: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class NodeOutput:
    """All output of a node for a bag.

    Attributes:
        model_id: Name and digest of the bundle; empty if no hypothesis came.
        hypotheses: Hypotheses in the order in which they came.
        events: Events in the order in which they came.
        tallies: Frame counts by camera, in the order in which they were made.
    """

    model_id: str
    hypotheses: Sequence[OnlineHypothesis]
    events: Sequence[OnlineEvent]
    tallies: Mapping[str, Sequence[FrameTally]]

    def save(self, path: Path) -> None:
        """Write a JSON file; it appears whole or not at all."""
        content = asdict(self)
        for each in content['hypotheses']:
            # JSON has no NaN.
            each['order_evidence'] = {
                task: None if math.isnan(value) else value
                for task, value in each['order_evidence'].items()
            }
        text = json.dumps(content, allow_nan=False)
        with replace_file(path) as partial:
            partial.write_text(text + '\n', encoding='utf-8')

    @classmethod
    def load(cls, path: Path) -> 'NodeOutput':
        """Read a file that `save` wrote.

        Raises:
            FileNotFoundError: The file is missing.
            ValueError: The file has another content.
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
                f'{path}: expected a file that replay_recorder wrote: {error!r}'
            ) from error
