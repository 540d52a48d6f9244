# SPDX-License-Identifier: Apache-2.0
"""Write a bag (rosbag2) of images, hypotheses and action events that ROS 2's tools can play."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer

from step_ros.files import Closing
from step_ros.images.messages import compress, pack
from step_ros.io.bags.reader import BagEvent
from step_ros.io.bags.storage import (
    ACTION_EVENT,
    ACTION_HYPOTHESIS,
    COMPRESSED_IMAGE,
    IMAGE,
    TASK_HYPOTHESIS,
    our_types,
)
from step_ros.streaming.grid import NANOSECONDS
from step_ros.streaming.hypothesis import Hypothesis

Storage = Literal['mcap', 'sqlite3']
_PLUGINS = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}
# ROS 2 before Jazzy cannot read the QoS profiles of version 9.
_VERSION: Literal[8] = 8
_LAST_STAMP_NS = 2**31 * NANOSECONDS
# Queue depth in the QoS profile of event topics.
_EVENT_DEPTH = 256


class BagWriter(Closing):
    """Write a new bag; use it in a `with` statement or close it.

    An error in the `with` statement also finishes the bag, so that no written message is lost.

    Args:
        path: The folder to write; it must not exist.
        storage: `mcap` or `sqlite3`.

    Raises:
        FileExistsError: The path exists.
        ValueError: The storage is not supported.
    """

    def __init__(self, path: str | Path, storage: Storage = 'mcap') -> None:
        path = Path(path)
        if storage not in _PLUGINS:
            raise ValueError(f'storage {storage!r}: expected mcap or sqlite3')
        if path.exists():
            raise FileExistsError(
                f'{path} exists, and bags are never overwritten: choose another name'
            )
        self._types = our_types()
        self._connections: dict[str, Connection] = {}
        self._closed = False
        self._writer = Writer(path, version=_VERSION, storage_plugin=_PLUGINS[storage])
        self._writer.open()

    def image(
        self,
        topic: str,
        image_hw3: np.ndarray,
        stamp_ns: int,
        frame_id: str = '',
        *,
        encoding: str = 'rgb8',
        quality: int = 90,
        log_ns: int | None = None,
    ) -> None:
        """Write a frame.

        Args:
            topic: Image topic; its frames are either all raw or all compressed.
            image_hw3: uint8 RGB, `[h, w, 3]`.
            stamp_ns: Stamp of the frame, in nanoseconds.
            frame_id: Coordinate frame of the camera.
            encoding: A raw encoding that the nodes can write, or `jpeg` or `png`.
            quality: Quality of a JPEG, from 1 to 100.
            log_ns: Time of recording, in nanoseconds; None for the stamp.

        Raises:
            ImageError: The image cannot be written in that encoding.
            ValueError: A message cannot hold the stamp, or the topic has another type.
        """
        header = self._header(stamp_ns, frame_id)
        if encoding in ('jpeg', 'png'):
            text, data = compress(image_hw3, encoding, quality)
            message = self._make(COMPRESSED_IMAGE, header=header, format=text, data=data)
            self._write(topic, COMPRESSED_IMAGE, message, stamp_ns, log_ns)
        else:
            message = self._make(IMAGE, header=header, **vars(pack(image_hw3, encoding)))
            self._write(topic, IMAGE, message, stamp_ns, log_ns)

    def event(self, topic: str, event: BagEvent, *, log_ns: int | None = None) -> None:
        """Write an action event.

        Args:
            topic: Topic of action events.
            event: The event.
            log_ns: Time of recording, in nanoseconds; None for the stamp.

        Raises:
            ValueError: A message cannot hold a stamp, or the topic has another type.
        """
        message = self._make(
            ACTION_EVENT,
            header=self._header(event.stamp_ns, event.frame_id),
            camera=event.camera,
            type=event.type,
            task=event.task,
            label=event.label,
            start_stamp=self._time(event.start_ns),
            score=event.score,
            order_evidence=event.order_evidence,
        )
        self._write(topic, ACTION_EVENT, message, event.stamp_ns, log_ns)

    def hypothesis(
        self,
        topic: str,
        hypothesis: Hypothesis,
        *,
        model_id: str,
        top_k: int,
        log_ns: int | None = None,
    ) -> None:
        """Write a hypothesis, with a latency of zero.

        Args:
            topic: Topic of hypotheses.
            hypothesis: The hypothesis.
            model_id: Name and digest of the bundle.
            top_k: Number of labels of each task, best first.
            log_ns: Time of recording, in nanoseconds; None for the stamp.

        Raises:
            ValueError: A message cannot hold a stamp, or the topic has another type.
        """
        tasks = []
        for task in hypothesis.tasks:
            top = task.top(top_k)
            tasks.append(
                self._make(
                    TASK_HYPOTHESIS,
                    task=task.spec.name,
                    labels=[label for label, _ in top],
                    scores=np.array([score for _, score in top], np.float32),
                    counterpart=task.counterpart,
                    counterpart_score=task.score_of(task.counterpart),
                    order_evidence=task.order_evidence,
                )
            )
        message = self._make(
            ACTION_HYPOTHESIS,
            header=self._header(hypothesis.stamp_ns, hypothesis.frame_id),
            window_start=self._time(hypothesis.window_start_ns),
            camera=hypothesis.camera,
            model_id=model_id,
            tasks=tasks,
            latency=self._make('builtin_interfaces/msg/Duration', sec=0, nanosec=0),
        )
        self._write(topic, ACTION_HYPOTHESIS, message, hypothesis.stamp_ns, log_ns)

    def close(self) -> None:
        """Finish the bag."""
        if not self._closed:
            self._closed = True
            self._writer.close()

    def _write(
        self, topic: str, kind: str, message: object, stamp_ns: int, log_ns: int | None
    ) -> None:
        connection = self._connections.get(topic)
        if connection is None:
            # As the camera node offers them: a late subscriber still receives the events.
            qos = [_qos(_EVENT_DEPTH, QosDurability.TRANSIENT_LOCAL)]
            connection = self._connections[topic] = self._writer.add_connection(
                topic,
                kind,
                typestore=self._types,
                offered_qos_profiles=qos if kind == ACTION_EVENT else (),
            )
        if connection.msgtype != kind:
            raise ValueError(f'topic {topic!r} has messages of {connection.msgtype}, not {kind}')
        data = self._types.serialize_cdr(message, kind)
        self._writer.write(connection, stamp_ns if log_ns is None else log_ns, data)

    def _make(self, kind: str, **fields: Any) -> object:
        return self._types.types[kind](**fields)

    def _header(self, stamp_ns: int, frame_id: str) -> object:
        return self._make('std_msgs/msg/Header', stamp=self._time(stamp_ns), frame_id=frame_id)

    def _time(self, stamp_ns: int) -> object:
        if not 0 <= stamp_ns < _LAST_STAMP_NS:
            raise ValueError(f'stamp {stamp_ns} ns: expected 0 to {_LAST_STAMP_NS - 1}')
        sec, nanosec = divmod(int(stamp_ns), NANOSECONDS)
        return self._make('builtin_interfaces/msg/Time', sec=sec, nanosec=nanosec)


def _qos(depth: int, durability: QosDurability) -> Qos:
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=depth,
        reliability=QosReliability.RELIABLE,
        durability=durability,
        deadline=QosTime(0, 0),
        lifespan=QosTime(0, 0),
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=QosTime(0, 0),
        avoid_ros_namespace_conventions=False,
    )
