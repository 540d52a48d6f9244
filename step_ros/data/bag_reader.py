"""Frames and action events of a bag (rosbag2), one after the other as they were recorded."""

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from step_ros.data.bag_metadata import BagError
from step_ros.data.bag_storage import StorageFile, StoredMessage, read_contents
from step_ros.data.bag_types import ACTION_EVENT, COMPRESSED_IMAGE, IMAGE_TYPES
from step_ros.stream.frame import Frame
from step_ros.stream.grid import NANOSECONDS
from step_ros.stream.image_fields import compressed_to_rgb, raw_to_rgb

START, END = 1, 2
_T = TypeVar('_T')


@dataclass(frozen=True, kw_only=True)
class BagEvent:
    """A label that began or ended: `step_ros/msg/ActionEvent`.

    Attributes:
        type: `START` or `END`; a bag may hold anything else as well.
        stamp_ns: When it began (`START`) or ended (`END`), in nanoseconds.
        start_ns: When the label began.
        task: What was decided.
        label: The label.
        camera: Name of the camera.
        frame_id: Coordinate frame of the camera.
        score: In [0, 1]; 1 for ground truth.
        order_evidence: Likewise; 0 in bags of a version that did not write it.
    """

    type: int
    stamp_ns: int
    start_ns: int
    task: str
    label: str
    camera: str = ''
    frame_id: str = ''
    score: float = 1.0
    order_evidence: float = 1.0


class BagReader:
    """Reads a bag; each iteration opens its files one after the other, and closes them.

    Args:
        path: The bag: a folder with `metadata.yaml`, or a single `.mcap` or `.db3` file.

    Attributes:
        path: The bag.
        topics: Its topics by their names, each with type and number of messages.

    Raises:
        BagError: It is missing, no bag, damaged, or of a kind that is not supported.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._contents = read_contents(self.path)
        self.topics = self._contents.topics

    @property
    def image_topics(self) -> tuple[str, ...]:
        """Topics with images, raw or compressed, in the order of their names."""
        return self._of(IMAGE_TYPES)

    @property
    def event_topics(self) -> tuple[str, ...]:
        """Topics with action events, in the order of their names."""
        return self._of((ACTION_EVENT,))

    def frames(self, topics: Sequence[str] = ()) -> Generator[Frame, None, None]:
        """Yield the frames of cameras in the order in which they were recorded.

        Nothing is decoded before a frame's `load` is called. A frame's `camera` is its topic, its
        `received_ns` the time of recording; its stamp is the header's, and may go backwards.

        Args:
            topics: Image topics; all of them where none is named.

        Raises:
            BagError: A topic is not there or has no images, or the bag is damaged or cut short.
        """
        names = tuple(topics) or self.image_topics
        self.require_images(names)
        return self._read(names, frame_of)

    def stored_images(self, topics: Sequence[str] = ()) -> Generator[StoredMessage, None, None]:
        """Yield image messages as they are stored, in the order in which they were recorded.

        Args:
            topics: Image topics; all of them where none is named.

        Raises:
            BagError: A topic is not there or has no images, or the bag is damaged or cut short.
        """
        names = tuple(topics) or self.image_topics
        self.require_images(names)
        return self._read(names, lambda _, stored: stored)

    def first_frame(self, topic: str) -> Frame:
        """Return the first frame of a camera.

        Raises:
            BagError: The topic is not there, has no images or no messages, or the bag is damaged.
        """
        with closing(self.frames([topic])) as frames:
            frame = next(frames, None)
        if frame is None:
            raise BagError(self.path, f'topic {topic!r} has no messages')
        return frame

    def events(self, topics: Sequence[str] = ()) -> Generator[BagEvent, None, None]:
        """Yield action events in the order in which they were recorded.

        Args:
            topics: Topics of action events; all of them where none is named.

        Raises:
            BagError: A topic is not there or has no such events, or the bag is damaged or cut
                short.
        """
        names = tuple(topics) or self.event_topics
        for name in names:
            self._require(name, (ACTION_EVENT,), self.event_topics, 'action events')
        return self._read(names, _event_of)

    def require_images(self, topics: Sequence[str]) -> None:
        """Check that topics hold images.

        Raises:
            BagError: One is not there or of another type; lists those that do.
        """
        for name in topics:
            self._require(name, IMAGE_TYPES, self.image_topics, 'images')

    def _of(self, types: Sequence[str]) -> tuple[str, ...]:
        return tuple(sorted(topic.name for topic in self.topics.values() if topic.type in types))

    def _require(self, name: str, types: Sequence[str], there: Sequence[str], what: str) -> None:
        topic = self.topics.get(name)
        if topic is None or topic.type not in types:
            why = 'there is no such topic' if topic is None else f'its type is {topic.type}'
            found = ', '.join(there) or 'none'
            raise BagError(self.path, f'topic {name!r}: {why}; topics with {what}: {found}')

    def _read(
        self, topics: Sequence[str], read: Callable[[StorageFile, StoredMessage], _T]
    ) -> Generator[_T, None, None]:
        contents = self._contents
        counts: Counter[str] = Counter()
        for path in contents.files:
            with StorageFile(contents.path, path, contents.compression) as file:
                for stored in file.messages(topics):
                    counts[stored.topic] += 1
                    yield read(file, stored)
        for topic in topics:
            check_count(self.path, self.topics[topic].messages, topic, counts[topic])


def frame_of(file: StorageFile, stored: StoredMessage) -> Frame:
    """Return the frame that a stored image message is.

    Raises:
        BagError: The message is damaged.
    """
    message = file.deserialise(stored)
    return Frame(
        camera=stored.topic,
        stamp_ns=_nanoseconds(message.header.stamp),
        frame_id=message.header.frame_id,
        received_ns=stored.log_ns,
        load=partial(_load, stored.type, message),
    )


def check_count(bag: Path, expected: int, topic: str, found: int) -> None:
    """Check that a topic has all its messages.

    Raises:
        BagError: Some are missing.
    """
    if found < expected:
        raise BagError(
            bag, f'{topic}: {found} messages are there; expected {expected}: the bag is cut short'
        )


def _load(kind: str, message: Any) -> np.ndarray:
    if kind == COMPRESSED_IMAGE:
        return compressed_to_rgb(message)
    image_hw3 = raw_to_rgb(message)
    # Without a copy it would be the stored bytes themselves, which nobody may write to.
    return image_hw3 if image_hw3.flags.writeable else image_hw3.copy()


def _event_of(file: StorageFile, stored: StoredMessage) -> BagEvent:
    message = file.deserialise(stored)
    return BagEvent(
        type=message.type,
        stamp_ns=_nanoseconds(message.header.stamp),
        start_ns=_nanoseconds(message.start_stamp),
        task=message.task,
        label=message.label,
        camera=message.camera,
        frame_id=message.header.frame_id,
        score=message.score,
        order_evidence=getattr(message, 'order_evidence', 0.0),
    )


def _nanoseconds(stamp: Any) -> int:
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)
