"""Frames of a bag's camera by their numbers, without reading what lies between them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from step_ros.data.bag_metadata import BagError
from step_ros.data.bag_reader import BagReader, check_count, frame_of
from step_ros.data.bag_storage import StorageFile, read_contents
from step_ros.images.errors import FrameError
from step_ros.stream.grid import NANOSECONDS


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
