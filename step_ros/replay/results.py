# SPDX-License-Identifier: Apache-2.0
"""Predictions of a bundle for a bag, and the folder that keeps them for later runs.

The folder holds `answers.json` (facts and events) and `answers.npz` (stamps and scores).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from step_ros.evaluation.events import TimedEvent
from step_ros.io.bags.metadata import METADATA
from step_ros.io.bags.storage import read_contents
from step_ros.model.weights import file_digest
from step_ros.replay.recognise import CameraReplay
from step_ros.streaming.postprocessing.events import Event, EventType

# Raise this number when the same bag, bundle and settings give other predictions than before.
FORMAT = 1
_ARRAYS, _FACTS = 'answers.npz', 'answers.json'


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraPredictions:
    """Hypotheses and events of one camera of a bag.

    Attributes:
        topic: The image topic.
        first_ns: Stamp of the earliest frame, in nanoseconds.
        last_ns: Stamp of the newest frame.
        counts: Number of frames for each outcome.
        stamps_ns_h: Stamp of each window's newest frame, ascending, `[h]`.
        starts_ns_h: Stamp of each window's oldest frame, `[h]`.
        scores_hk: Scores `[h, k]` by task, in the order of the task's labels.
        order_evidence_h: Order evidence `[h]` by task.
        events: Events in the order in which they were published.
    """

    topic: str
    first_ns: int
    last_ns: int
    counts: Mapping[str, int]
    stamps_ns_h: np.ndarray
    starts_ns_h: np.ndarray
    scores_hk: Mapping[str, np.ndarray]
    order_evidence_h: Mapping[str, np.ndarray]
    events: tuple[TimedEvent, ...]


@dataclass(frozen=True, kw_only=True)
class BagPredictions:
    """Predictions of a bundle for all cameras of a bag.

    Attributes:
        key: Digest of bag, bundle and settings.
        seconds: Time that recognising took.
        cameras: One record for each image topic.
    """

    key: str
    seconds: float
    cameras: tuple[CameraPredictions, ...]


def camera_predictions(replay: CameraReplay) -> CameraPredictions:
    """Return the hypotheses of a camera as arrays."""
    hypotheses = replay.hypotheses
    tasks = [task.spec.name for task in hypotheses[0].tasks]
    return CameraPredictions(
        topic=replay.topic,
        first_ns=replay.first_ns,
        last_ns=replay.last_ns,
        counts=replay.counts,
        stamps_ns_h=np.array([each.stamp_ns for each in hypotheses]),
        starts_ns_h=np.array([each.window_start_ns for each in hypotheses]),
        scores_hk={
            task: np.stack([each.tasks[place].scores_k for each in hypotheses])
            for place, task in enumerate(tasks)
        },
        order_evidence_h={
            task: np.array([each.tasks[place].order_evidence for each in hypotheses])
            for place, task in enumerate(tasks)
        },
        events=tuple(replay.events),
    )


def bag_digest(path: Path) -> str:
    """Return a digest of all bytes of a bag.

    Raises:
        BagError: The bag is missing or damaged, or the path is no bag.
    """
    files = list(read_contents(path).files)
    if (path / METADATA).is_file():
        files.append(path / METADATA)
    return digest_of({file.name: file_digest(file) for file in files})


def digest_of(content: Mapping[str, Any]) -> str:
    """Return a digest of content that can be written as JSON."""
    text = json.dumps(content, sort_keys=True)
    return f'sha256:{hashlib.sha256(text.encode()).hexdigest()}'


def save_predictions(folder: Path, predictions: BagPredictions) -> None:
    """Write predictions into a folder that exists."""
    arrays: dict[str, np.ndarray] = {}
    for place, camera in enumerate(predictions.cameras):
        arrays |= {f'{place}/stamps': camera.stamps_ns_h, f'{place}/starts': camera.starts_ns_h}
        for task, scores_hk in camera.scores_hk.items():
            arrays[f'{place}/scores/{task}'] = scores_hk
            arrays[f'{place}/order/{task}'] = camera.order_evidence_h[task]
    with (folder / _ARRAYS).open('wb') as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    facts = {
        'key': predictions.key,
        'seconds': predictions.seconds,
        'cameras': [
            {
                'topic': camera.topic,
                'first_ns': camera.first_ns,
                'last_ns': camera.last_ns,
                'counts': dict(camera.counts),
                'tasks': list(camera.scores_hk),
                'events': [
                    {**asdict(timed.event), 'told_ns': timed.published_ns}
                    for timed in camera.events
                ],
            }
            for camera in predictions.cameras
        ],
    }
    (folder / _FACTS).write_text(json.dumps(facts, indent=1) + '\n', encoding='utf-8')


def load_predictions(folder: Path) -> BagPredictions:
    """Read predictions from a folder that `save_predictions` filled.

    Raises:
        OSError: A file is missing.
        KeyError: A key or an array is missing.
        ValueError: A file has another format.
    """
    facts = json.loads((folder / _FACTS).read_text(encoding='utf-8'))
    with np.load(folder / _ARRAYS) as arrays:
        cameras = [
            CameraPredictions(
                topic=camera['topic'],
                first_ns=camera['first_ns'],
                last_ns=camera['last_ns'],
                counts=camera['counts'],
                stamps_ns_h=arrays[f'{place}/stamps'],
                starts_ns_h=arrays[f'{place}/starts'],
                scores_hk={task: arrays[f'{place}/scores/{task}'] for task in camera['tasks']},
                order_evidence_h={
                    task: arrays[f'{place}/order/{task}'] for task in camera['tasks']
                },
                events=_events(camera['events']),
            )
            for place, camera in enumerate(facts['cameras'])
        ]
    return BagPredictions(key=facts['key'], seconds=facts['seconds'], cameras=tuple(cameras))


def _events(written: Sequence[dict[str, Any]]) -> tuple[TimedEvent, ...]:
    return tuple(
        TimedEvent(
            event=Event(
                **{
                    **{name: value for name, value in fields.items() if name != 'told_ns'},
                    'type': EventType(fields['type']),
                }
            ),
            published_ns=fields['told_ns'],
        )
        for fields in written
    )
