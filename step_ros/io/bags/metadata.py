# SPDX-License-Identifier: Apache-2.0
"""Read `metadata.yaml`, in which a rosbag2 recording lists its files and topics.

This module does not import `rosbags`, so that a missing package can be reported.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, ValidationError

from step_ros.files import pointer_kind
from step_ros.io.video import VideoError

METADATA = 'metadata.yaml'
SUFFIXES = ('.mcap', '.db3')
COMPRESSED, ROS_1 = '.zstd', '.bag'
NEWEST_VERSION = 9


class BagError(VideoError):
    """A bag cannot be read.

    Args:
        path: The bag's folder or file.
        why: The fault, and the mend or the expected content.
    """


class BagTopic(NamedTuple):
    """A topic of a bag.

    Attributes:
        name: For example `/camera/image_raw`.
        type: For example `sensor_msgs/msg/Image`.
        messages: Number of messages that the bag should hold.
        latched: Whether its publishers kept messages for late subscribers (transient local), by
            the recorded quality of service; None if the bag does not say, or they differ.
    """

    name: str
    type: str
    messages: int
    latched: bool | None = None


@dataclass(frozen=True, kw_only=True)
class BagContents:
    """The files and topics of a bag.

    Attributes:
        path: The bag's folder, or its only file.
        files: Storage files in the order of recording.
        compression: Part that rosbag2 compressed with zstd: `file`, `message` or none (empty).
            mcap's own compression of chunks does not count.
        topics: Topics by their names.
    """

    path: Path
    files: tuple[Path, ...]
    compression: str
    topics: Mapping[str, BagTopic]


def type_advice(kind: str) -> str:
    """Return the end of an error message about a topic's type: the mend of a type of ROS 1."""
    package, _, name = kind.partition('/')
    if not name or '/' in name:
        return ''
    return (
        f'; {kind} lacks /msg/, as types of ROS 1 do: convert the bag (rosbags-convert --src FILE '
        f'--dst FOLDER), so that the type is {package}/msg/{name}'
    )


def is_bag(path: Path) -> bool:
    """Return whether a path looks like a bag: a folder with `metadata.yaml`, or a storage file.

    The bag may still be unreadable: a ROS 1 bag looks like a bag, too.
    """
    if path.is_dir():
        return (path / METADATA).is_file()
    stored = Path(path.stem) if path.suffix == COMPRESSED else path
    return stored.suffix in (*SUFFIXES, ROS_1) and path.is_file()


class _TopicMetadata(BaseModel):
    name: str
    type: str
    serialization_format: str = 'cdr'
    # A text in YAML up to version 8 of the format.
    offered_qos_profiles: Any = ''


class _TopicWithCount(BaseModel):
    topic_metadata: _TopicMetadata
    message_count: int


class _Information(BaseModel):
    version: int
    storage_identifier: str
    relative_file_paths: tuple[str, ...]
    compression_format: str | None = None
    compression_mode: str | None = None
    topics_with_message_count: tuple[_TopicWithCount, ...]


class _Metadata(BaseModel):
    rosbag2_bagfile_information: _Information


def contents_of_folder(path: Path) -> BagContents:
    """Read the metadata of a bag's folder, without opening its storage files.

    Raises:
        BagError: The folder is no bag, or its kind is not supported.
    """
    information = _read_metadata(path)
    compression = (information.compression_mode or '').lower().removeprefix('none')
    _check_supported(path, information, compression)
    # Old recorders wrote the folder's name before the file's name.
    files = tuple(path / PurePath(name).name for name in information.relative_file_paths)
    for file in files:
        if not file.is_file():
            raise BagError(path, f'{METADATA} names {file.name}, which does not exist')
    topics: dict[str, BagTopic] = {}
    for entry in information.topics_with_message_count:
        name, kind = entry.topic_metadata.name, entry.topic_metadata.type
        before = topics[name].messages if name in topics else 0
        latched = _latched(entry.topic_metadata.offered_qos_profiles)
        topics[name] = BagTopic(name, kind, before + entry.message_count, latched)
    return BagContents(path=path, files=files, compression=compression, topics=topics)


def _latched(profiles: Any) -> bool | None:
    """Return whether quality-of-service profiles keep messages; None if they do not say."""
    try:
        found = yaml.safe_load(profiles) if isinstance(profiles, str) else profiles
        durabilities = {profile['durability'] for profile in found or ()}
    except (KeyError, TypeError, yaml.YAMLError):
        # Only a hint: the bag can be read without it.
        return None
    # Up to version 8 a number of the middleware's, later a word.
    if durabilities and durabilities <= {1, 'transient_local'}:
        return True
    return False if durabilities and durabilities <= {2, 'volatile'} else None


def _read_metadata(path: Path) -> _Information:
    file = path / METADATA
    try:
        text = file.read_text(encoding='utf-8')
        if kind := pointer_kind(file):
            raise BagError(path, f'{METADATA} is {kind}')
        if not text.strip('\0 \r\n\t'):
            raise BagError(
                path,
                f'{METADATA} is empty, as a recorder leaves it that was killed; write it again: '
                f'remove it and run `ros2 bag reindex {path}`',
            )
        content = yaml.safe_load(text)
        return _Metadata.model_validate(content).rosbag2_bagfile_information
    except FileNotFoundError as error:
        stored = sorted(file.name for file in path.iterdir() if file.suffix in SUFFIXES)
        mend = (
            f'; the folder holds {", ".join(stored)}: run `ros2 bag reindex {path}`'
            if stored
            else ''
        )
        raise BagError(path, f'no bag: {METADATA} is missing{mend}') from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BagError(path, f'{METADATA} cannot be read: {error}') from error
    except ValidationError as error:
        first = error.errors()[0]
        field = '.'.join(str(part) for part in first['loc'])
        raise BagError(path, f'{METADATA}: {field}: {first["msg"]}') from error


def _check_supported(path: Path, information: _Information, compression: str) -> None:
    checks = (
        ('version', information.version, information.version <= NEWEST_VERSION, 'at most 9'),
        (
            'storage_identifier',
            information.storage_identifier,
            information.storage_identifier in ('mcap', 'sqlite3'),
            'mcap or sqlite3',
        ),
        (
            'compression_mode',
            information.compression_mode,
            compression in ('', 'file', 'message'),
            'none, file or message',
        ),
        (
            'compression_format',
            information.compression_format,
            not compression or information.compression_format == 'zstd',
            'zstd',
        ),
    )
    for field, value, sound, expected in checks:
        if not sound:
            raise BagError(
                path, f'{METADATA}: {field} {value!r} is not supported; expected {expected}'
            )
    for entry in information.topics_with_message_count:
        topic = entry.topic_metadata
        if topic.serialization_format != 'cdr':
            raise BagError(
                path,
                f'{METADATA}: {topic.name} is serialised as {topic.serialization_format!r}; '
                'expected cdr',
            )
