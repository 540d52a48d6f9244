"""Frames and action events of a bag (rosbag2), one after the other as they were recorded."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from step_ros.images.errors import FrameError
from step_ros.images.messages import compressed_to_rgb, raw_to_rgb
from step_ros.io.bags.metadata import BagError
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


# ---- Frames of a bag's camera by their numbers, without reading what lies between them.


@dataclass(frozen=True, kw_only=True, eq=False)
class BagIndex:
    """When each frame of a bag's camera was taken, and where it is stored.

    It holds arrays and paths alone: no file stays open, and it can be sent to other processes.

    Attributes:
        path: The bag.
        topic: The image topic.
        start_ns: Stamp of the first frame, from its header.
        stamps_ns: Nanoseconds from the first frame, by the headers, ascending, `[f]`.
        files: The bag's storage files.
        compression: As in `BagContents`.
        file_f: In which file each frame is.
        log_ns_f: When it was recorded, in nanoseconds.
        nth_f: How many of the topic's messages before it in its file have the same time of
            recording.
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

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def decode(self, wanted: Sequence[int]) -> dict[int, np.ndarray]:
        """Decode frames by their numbers; one file is open at a time, and only meanwhile.

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
                # A search for each frame, where the file can search; else one pass for all.
                for some in inside[:, None] if file.indexed else [inside]:
                    images.update(self._find(file, some))
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
                raise self._error(number, 'has another stamp than before: the bag has changed')
            try:
                yield number, frame.load()
            except FrameError as error:
                raise self._error(number, f'cannot be converted: {error}') from error
            if not places:
                return
        for number in places.values():
            raise self._error(number, 'is not there any more: the bag has changed')

    def _error(self, number: int, why: str) -> BagError:
        return BagError(self.path, f'{self.topic}: frame {number} of {len(self)} {why}')


def index_bag(path: str | Path, topic: str) -> BagIndex:
    """Find out when each frame of a camera was taken; every message is read, no image decoded.

    Stamps are those of the headers, not the times of recording.

    Args:
        path: The bag.
        topic: One of its image topics.

    Raises:
        BagError: There is no such bag or image topic, it is damaged or cut short, it holds no
            frames, or their stamps do not ascend.
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
    stamps_f = np.asarray(stamps_ns, dtype=np.int64)
    _check_ascending(contents.path, topic, stamps_f)
    file_f, log_ns_f, nth_f = np.asarray(places, dtype=np.int64).T
    return BagIndex(
        path=contents.path,
        topic=topic,
        start_ns=stamps_ns[0],
        stamps_ns=stamps_f - stamps_f[0],
        files=contents.files,
        compression=contents.compression,
        file_f=file_f,
        log_ns_f=log_ns_f,
        nth_f=nth_f,
    )


def _check_ascending(path: Path, topic: str, stamps_ns: np.ndarray) -> None:
    backwards = np.flatnonzero(np.diff(stamps_ns) <= 0)
    if len(backwards):
        number = int(backwards[0]) + 1
        before, after = (stamps_ns[[number - 1, number]] / NANOSECONDS).tolist()
        raise BagError(
            path,
            f'{topic}: frame {number} of {len(stamps_ns)} is stamped {after:.6f} s, the one '
            f'before {before:.6f} s ({len(backwards)} such places); expected header stamps that '
            'ascend',
        )
