# SPDX-License-Identifier: Apache-2.0
"""Read the frames and action events of a bag (rosbag2).

`BagReader` yields them in the order of recording. `index_bag` returns a `BagIndex`, which reads
single frames of one camera by their numbers and skips the messages between them.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from step_ros.images.errors import FrameError
from step_ros.images.messages import compressed_to_rgb, raw_to_rgb
from step_ros.io.bags.metadata import BagError, type_advice
from step_ros.io.bags.stamps import (
    describe_stamps,
    order_by_stamp,
    order_tolerance_ns,
    warn_of_stamps,
)
from step_ros.io.bags.storage import (
    ACTION_EVENT,
    COMPRESSED_IMAGE,
    IMAGE_TYPES,
    StorageFile,
    StoredMessage,
    read_contents,
)
from step_ros.streaming.frame import Frame
from step_ros.streaming.grid import NANOSECONDS

# The values of `step_ros/msg/ActionEvent`.
START, END = 1, 2

_T = TypeVar('_T')


@dataclass(frozen=True, kw_only=True)
class BagEvent:
    """The START or END of a label: `step_ros/msg/ActionEvent`.

    Attributes:
        type: `START` or `END`; damaged bags hold other numbers, too.
        stamp_ns: Stamp at which the label began (`START`) or ended (`END`), in nanoseconds.
        start_ns: Stamp at which the label began, in nanoseconds.
        task: Name of the task.
        label: The label.
        camera: Name of the camera.
        frame_id: Coordinate frame of the camera.
        score: Score of the label, in [0, 1]; 1 for ground truth.
        order_evidence: Order evidence, in [0, 1]; 0 in bags of versions that did not write it.
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
    """Read a bag in the order of recording; each iteration opens one storage file at a time.

    Args:
        path: The bag: a folder with `metadata.yaml`, or a single `.mcap` or `.db3` file.

    Attributes:
        path: The bag.
        topics: Topics by their names, each with type and number of messages.

    Raises:
        BagError: The bag is missing or damaged, or its kind is not supported.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._contents = read_contents(self.path)
        self.topics = self._contents.topics

    @property
    def image_topics(self) -> tuple[str, ...]:
        """Topics with raw or compressed images, sorted by name."""
        return self._of(IMAGE_TYPES)

    @property
    def event_topics(self) -> tuple[str, ...]:
        """Topics with action events, sorted by name."""
        return self._of((ACTION_EVENT,))

    def describe_topics(self) -> str:
        """Return names and types of all topics, and the mend of types of ROS 1."""
        holds = ', '.join(f'{topic.name} ({topic.type})' for topic in self.topics.values())
        advice = (type_advice(topic.type) for topic in self.topics.values())
        return (holds or 'nothing') + next(filter(None, advice), '')

    def frames(self, topics: Sequence[str] = ()) -> Generator[Frame, None, None]:
        """Yield the frames of cameras in the order of recording.

        A frame's `load` decodes its image. A frame's `camera` is its topic and its `received_ns`
        the time of recording. Its stamp comes from the header and may go backwards.

        Args:
            topics: Image topics; empty for all of them.

        Raises:
            BagError: A topic is missing or has no images, or the bag is damaged or cut short.
        """
        names = tuple(topics) or self.image_topics
        self.require_images(names)
        return self._read(names, frame_of)

    def stored_images(self, topics: Sequence[str] = ()) -> Generator[StoredMessage, None, None]:
        """Yield image messages as they are stored, in the order of recording.

        Args:
            topics: Image topics; empty for all of them.

        Raises:
            BagError: A topic is missing or has no images, or the bag is damaged or cut short.
        """
        names = tuple(topics) or self.image_topics
        self.require_images(names)
        return self._read(names, lambda _, stored: stored)

    def first_frame(self, topic: str) -> Frame:
        """Return the earliest frame of a camera by its stamp; frames without a stamp do not count.

        Raises:
            BagError: The topic is missing, has no images or no messages, none has a stamp, or the
                bag is damaged.
        """
        first: Frame | None = None
        unstamped = 0
        with closing(self.frames([topic])) as frames:
            for frame in frames:
                if frame.stamp_ns <= 0:
                    unstamped += 1
                elif first is None or frame.stamp_ns < first.stamp_ns:
                    first = frame
                elif frame.stamp_ns - first.stamp_ns > order_tolerance_ns():
                    # No later frame may be earlier than the first.
                    break
        if first is None and unstamped:
            order_by_stamp(self.path, topic, [0] * unstamped)
        if first is None:
            raise BagError(self.path, f'topic {topic!r} has no messages')
        return first

    def image_encoding(self, topic: str) -> tuple[str, str]:
        """Return the type of a topic's first image, and its encoding or compressed format.

        Raises:
            BagError: The topic is missing, has no images or no messages, or the bag is damaged.
        """
        self.require_images([topic])
        with closing(self._read([topic], _encoding_of)) as encodings:
            found = next(encodings, None)
        if found is None:
            raise BagError(self.path, f'topic {topic!r} has no messages')
        return found

    def events(self, topics: Sequence[str] = ()) -> Generator[BagEvent, None, None]:
        """Yield action events in the order of recording.

        Args:
            topics: Topics of action events; empty for all of them.

        Raises:
            BagError: A topic is missing or has no action events, or the bag is damaged or cut
                short.
        """
        names = tuple(topics) or self.event_topics
        for name in names:
            self._require(name, (ACTION_EVENT,), self.event_topics, 'action events')
        return self._read(names, _event_of)

    def require_images(self, topics: Sequence[str]) -> None:
        """Check that topics hold images.

        Raises:
            BagError: A topic is missing or has another type; the message lists the image topics.
        """
        for name in topics:
            self._require(name, IMAGE_TYPES, self.image_topics, 'images')

    def _of(self, types: Sequence[str]) -> tuple[str, ...]:
        return tuple(sorted(topic.name for topic in self.topics.values() if topic.type in types))

    def _require(
        self, name: str, types: Sequence[str], found: Sequence[str], content: str
    ) -> None:
        topic = self.topics.get(name)
        if topic is None or topic.type not in types:
            why = 'there is no such topic' if topic is None else f'its type is {topic.type}'
            advice = '' if topic is None else type_advice(topic.type)
            expected = ', '.join(found) or 'none'
            raise BagError(
                self.path, f'topic {name!r}: {why}; topics with {content}: {expected}{advice}'
            )

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
    """Return a stored image message as a frame.

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
    """Check that a topic has as many messages as the bag's metadata says.

    Raises:
        BagError: Messages are missing.
    """
    if found < expected:
        raise BagError(
            bag, f'{topic}: found {found} messages; expected {expected}: the bag is cut short'
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class BagIndex:
    """Stamp and place of each frame of a bag's camera, to read frames by their numbers.

    The index holds arrays and paths only: no file stays open, and other processes can receive it.

    Attributes:
        path: The bag.
        topic: The image topic.
        start_ns: Stamp of the earliest frame, from its header, in nanoseconds.
        stamps_ns: Header stamps as nanoseconds from the first frame, ascending, `[f]`.
        files: The bag's storage files.
        compression: Compression of the files, as in `BagContents`.
        file_f: Index in `files` of each frame's file.
        log_ns_f: Time at which each frame was recorded, in nanoseconds.
        nth_f: Number of earlier messages of the topic in the same file with the same time of
            recording.
        last_frame_ns: 0: a bag does not say how long the last frame lasts.
        ends_early: Empty: `index_bag` refuses a bag that is cut short.
        counts: How many images were left out or sorted by stamp, by the keys of `OUTCOMES`.
    """

    path: Path
    topic: str
    start_ns: int
    stamps_ns: np.ndarray
    files: tuple[Path, ...]
    compression: str
    file_f: np.ndarray
    log_ns_f: np.ndarray
    nth_f: np.ndarray
    last_frame_ns: int = 0
    ends_early: str = ''
    counts: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def decode(self, wanted: Sequence[int]) -> dict[int, np.ndarray]:
        """Decode frames by their numbers; at most one file is open at a time.

        Returns:
            The frames by their numbers, uint8 RGB, `[h, w, 3]`.

        Raises:
            BagError: A frame cannot be read or converted.
        """
        images: dict[int, np.ndarray] = {}
        numbers = np.asarray(sorted(set(wanted)))
        for at in np.unique(self.file_f[numbers]):
            with StorageFile(self.path, self.files[at], self.compression) as file:
                inside = numbers[self.file_f[numbers] == at]
                # An indexed file is searched for each frame; another file is read once for all.
                for batch in inside[:, None] if file.indexed else [inside]:
                    images.update(self._find(file, batch))
        return images

    def _find(self, file: StorageFile, numbers: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        log_ns = self.log_ns_f[numbers]
        places = {
            (int(when), int(nth)): int(number)
            for when, nth, number in zip(log_ns, self.nth_f[numbers], numbers, strict=True)
        }
        seen: Counter[int] = Counter()
        stored = file.messages([self.topic], int(log_ns.min()), int(log_ns.max()) + 1)
        for message in stored:
            number = places.pop((message.log_ns, seen[message.log_ns]), None)
            seen[message.log_ns] += 1
            if number is None:
                continue
            frame = frame_of(file, message)
            if frame.stamp_ns - self.start_ns != self.stamps_ns[number]:
                raise self._error(
                    number, 'has another stamp than when it was indexed: the bag has changed'
                )
            try:
                yield number, frame.load()
            except FrameError as error:
                raise self._error(number, f'cannot be converted: {error}') from error
            if not places:
                return
        for number in places.values():
            raise self._error(number, 'no longer exists: the bag has changed')

    def _error(self, number: int, why: str) -> BagError:
        return BagError(self.path, f'{self.topic}: frame {number} of {len(self)} {why}')


def index_bag(path: str | Path, topic: str) -> BagIndex:
    """Return the index of a camera's frames, by the stamps in their headers.

    Every message of the topic is read, but no image is decoded. `step_ros.io.bags.stamps` says
    which frames count, and in what order.

    Args:
        path: The bag.
        topic: One of its image topics.

    Raises:
        BagError: The bag or the topic is missing, damaged, cut short or without frames, no frame
            has a stamp, or stamps go back by more than `order_tolerance`.
    """
    contents = read_contents(path)
    BagReader(path).require_images([topic])
    stamps_ns: list[int] = []
    places: list[tuple[int, int, int]] = []
    for at, storage in enumerate(contents.files):
        seen: Counter[int] = Counter()
        with StorageFile(contents.path, storage, contents.compression) as file:
            for message in file.messages([topic]):
                stamps_ns.append(frame_of(file, message).stamp_ns)
                places.append((at, message.log_ns, seen[message.log_ns]))
                seen[message.log_ns] += 1
    check_count(contents.path, contents.topics[topic].messages, topic, len(stamps_ns))
    if not stamps_ns:
        raise BagError(contents.path, f'topic {topic!r} has no messages')
    order, counts = order_by_stamp(contents.path, topic, stamps_ns)
    if described := describe_stamps(counts):
        warn_of_stamps(contents.path, topic, described)
    stamps_f = np.asarray(stamps_ns, dtype=np.int64)[order]
    file_f, log_ns_f, nth_f = np.asarray(places, dtype=np.int64)[order].T
    return BagIndex(
        path=contents.path,
        topic=topic,
        start_ns=int(stamps_f[0]),
        stamps_ns=stamps_f - stamps_f[0],
        files=contents.files,
        compression=contents.compression,
        file_f=file_f,
        log_ns_f=log_ns_f,
        nth_f=nth_f,
        counts=counts,
    )


def _encoding_of(file: StorageFile, stored: StoredMessage) -> tuple[str, str]:
    message = file.deserialise(stored)
    field = 'format' if stored.type == COMPRESSED_IMAGE else 'encoding'
    return stored.type, str(getattr(message, field))


def _load(kind: str, message: Any) -> np.ndarray:
    if kind == COMPRESSED_IMAGE:
        return compressed_to_rgb(message)
    image_hw3 = raw_to_rgb(message)
    # An image that shares the memory of the stored bytes is read-only; callers draw on images.
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
