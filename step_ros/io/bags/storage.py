# SPDX-License-Identifier: Apache-2.0
"""Read the stored messages of a rosbag2 recording, one storage file at a time.

`rosbags` reads single storage files (mcap, sqlite3). Its reader of whole folders opens, and where
needed unpacks, all files of a recording at once; a clip needs one of them.

Messages are deserialised by the definition that the bag carries; bags without definitions are read
by the package's own `msg/`.
"""

import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from rosbags.interfaces import (
    Connection,
    MessageDefinition,
    MessageDefinitionFormat,
    QosDurability,
)
from rosbags.rosbag2 import Reader
from rosbags.typesys import (
    Stores,
    TypesysError,
    get_types_from_idl,
    get_types_from_msg,
    get_typestore,
)

from step_ros.files import Closing, pointer_kind
from step_ros.io.bags.metadata import (
    COMPRESSED,
    METADATA,
    ROS_1,
    SUFFIXES,
    BagContents,
    BagError,
    BagTopic,
    contents_of_folder,
)
from step_ros.resources import share_directory

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
ACTION_EVENT = 'step_ros/msg/ActionEvent'
ACTION_HYPOTHESIS = 'step_ros/msg/ActionHypothesis'
MODEL_INFO = 'step_ros/msg/ModelInfo'
TASK_HYPOTHESIS = 'step_ros/msg/TaskHypothesis'
IMAGE_TYPES = (IMAGE, COMPRESSED_IMAGE)

# The fields that step_ros reads of each type; a stored definition must have them.
_FIELDS = {
    IMAGE: ('header', 'height', 'width', 'encoding', 'is_bigendian', 'step', 'data'),
    COMPRESSED_IMAGE: ('header', 'format', 'data'),
    ACTION_EVENT: ('header', 'camera', 'type', 'task', 'label', 'start_stamp', 'score'),
}

# Parts of an error of rosbags that show an mcap file of another system.
_FOREIGN = ('Profile is not ros2', 'ros1msg', 'protobuf', 'jsonschema', 'flatbuffer')

# Characters that have a meaning in a URI.
_URI_MARKS = set('?#%')

# rosbag2 writes this line before each of several IDL files.
_HEADING = '=' * 80 + '\n'


@lru_cache(maxsize=1)
def our_types() -> 'Typestore':
    """Return ROS's standard types together with those of `msg/`."""
    store = get_typestore(Stores.LATEST)
    for path in sorted((share_directory() / 'msg').glob('*.msg')):
        text = path.read_text(encoding='utf-8')
        store.register(get_types_from_msg(text, f'step_ros/msg/{path.stem}'))
    return store


def deserialise(data: bytes, kind: str, definition: MessageDefinition) -> Any:
    """Read a message.

    Args:
        data: Its bytes (CDR).
        kind: Its type, for example `sensor_msgs/msg/Image`.
        definition: The bag's definition of the type; may be empty.

    Returns:
        An object with the message's fields. Arrays share the memory of `data`.

    Raises:
        ValueError: The definition differs from the one that this version of step_ros reads.
        SerdeError: The bytes are no message of this type.
    """
    return _types(kind, definition).deserialize_cdr(memoryview(data), kind)


@lru_cache(maxsize=16)
def _types(kind: str, definition: MessageDefinition) -> 'Typestore':
    if definition.format == MessageDefinitionFormat.NONE or not definition.data.strip():
        # Recorders before ROS 2 Iron store no definitions.
        return our_types()
    store = get_typestore(Stores.EMPTY)
    try:
        if definition.format == MessageDefinitionFormat.MSG:
            store.register(get_types_from_msg(definition.data, kind))
        else:
            for text in _idl_parts(definition.data):
                store.register(get_types_from_idl(text))
    except TypesysError as error:
        raise ValueError(f'the stored definition of {kind} cannot be read: {error}') from error
    fields = [name for name, _ in store.fielddefs[kind][1]] if kind in store.fielddefs else []
    for name in _FIELDS.get(kind, ()):
        if name not in fields:
            raise ValueError(
                f'the stored definition of {kind} has no field {name!r}, only {", ".join(fields)}'
            )
    return store


def _idl_parts(text: str) -> list[str]:
    # Each file follows a heading `IDL: NAME`; a single file may come without one.
    if not text.startswith(f'{_HEADING}IDL: '):
        return [text]
    return [part.split('\n', 1)[1] for part in text.split(_HEADING)[1:]]


class StoredMessage(NamedTuple):
    """A message as the bag stores it.

    Attributes:
        topic: Its topic.
        type: Its type.
        definition: The bag's definition of the type; may be empty.
        log_ns: Time of recording, in nanoseconds.
        data: Its bytes (CDR).
    """

    topic: str
    type: str
    definition: MessageDefinition
    log_ns: int
    data: bytes


def read_contents(path: str | Path) -> BagContents:
    """Return the files and topics of a bag, without reading its messages.

    Raises:
        BagError: The bag is missing or damaged, or its kind is not supported.
    """
    path = Path(path)
    if path.is_dir():
        return contents_of_folder(path)
    if not path.exists():
        raise BagError(path, 'there is no such bag')
    if path.suffix == ROS_1:
        raise BagError(path, 'a ROS 1 bag; convert it: rosbags-convert --src FILE --dst FOLDER')
    if path.suffix == COMPRESSED:
        raise BagError(path, f'a compressed storage file; expected its folder, with {METADATA}')
    if path.suffix not in SUFFIXES:
        raise BagError(path, f'no bag; expected a folder with {METADATA}, or a .mcap or .db3 file')
    with StorageFile(path, path) as file:
        topics = file.topics
    return BagContents(path=path, files=(path,), compression='', topics=topics)


class StorageFile(Closing):
    """One open storage file of a bag; use it in a `with` statement or close it.

    Args:
        bag: The bag, for error messages.
        file: The file.
        compression: Compression of the bag, as in `BagContents`.

    Attributes:
        file: The file.
        topics: Topics by their names.

    Raises:
        BagError: The file is missing, damaged or cut short.
    """

    def __init__(self, bag: Path, file: Path, compression: str = '') -> None:
        self.file = file
        self._bag, self._compression = bag, compression
        self._stack = ExitStack()
        try:
            _check_closed(bag, file)
            self._reader = self._open()
        except BaseException:
            self._stack.close()
            raise
        self._connections: dict[str, list[Connection]] = {}
        for connection in self._reader.connections:
            self._connections.setdefault(connection.topic, []).append(connection)
        self.topics = {
            name: BagTopic(
                name,
                connections[0].msgtype,
                sum(connection.msgcount for connection in connections),
                _latched(connections),
            )
            for name, connections in self._connections.items()
        }

    def close(self) -> None:
        """Close the file and remove its unpacked copy."""
        self._stack.close()

    @property
    def indexed(self) -> bool:
        """Whether the file finds messages by time without reading all earlier messages."""
        # An mcap file without chunks has no index.
        return getattr(self._reader.storage, 'chunks', None) != []

    def messages(
        self, topics: Collection[str], start_ns: int | None = None, end_ns: int | None = None
    ) -> Iterator[StoredMessage]:
        """Yield messages in the order of recording.

        Args:
            topics: Topics; topics that the file lacks are skipped.
            start_ns: First time of recording, in nanoseconds; None for no limit.
            end_ns: End of the times of recording, not included; None for no limit.

        Raises:
            BagError: The file is damaged or cut short.
        """
        wanted = [
            connection for topic in topics for connection in self._connections.get(topic, ())
        ]
        if not wanted:
            return
        stored = self._reader.messages(wanted, start_ns, end_ns)
        while True:
            try:
                item = next(stored, None)
                if item is None:
                    return
                connection, log_ns, data = item
                if self._compression == 'message':
                    data = zstd.decompress(data)
            except Exception as error:  # parsers raise many types for a damaged file
                raise _damaged(self._bag, self.file, error) from error
            yield StoredMessage(
                connection.topic, connection.msgtype, connection.msgdef, log_ns, data
            )

    def deserialise(self, message: StoredMessage) -> Any:
        """Return a message with its fields.

        Raises:
            BagError: The message is damaged, or its type lacks a field that step_ros reads.
        """
        try:
            return deserialise(message.data, message.type, message.definition)
        except Exception as error:  # parsers raise many types for a damaged message
            raise BagError(
                self._bag,
                f'{message.topic}: the message recorded at {message.log_ns} ns cannot be read as '
                f'{message.type}: {error}',
            ) from error

    def _open(self) -> Reader:
        file = self.file
        try:
            if self._compression == 'file':
                folder = self._stack.enter_context(TemporaryDirectory(prefix='step_ros_bag_'))
                file = Path(folder, file.stem)
                with zstd.open(self.file, 'rb') as packed, file.open('wb') as unpacked:
                    shutil.copyfileobj(packed, unpacked)
            elif file.suffix == '.db3' and _URI_MARKS & set(str(file)):
                # rosbags opens a database by a URI, in which these characters would end the path.
                folder = self._stack.enter_context(TemporaryDirectory(prefix='step_ros_bag_'))
                file = Path(folder, 'bag.db3')
                file.symlink_to(self.file.resolve())
            reader = self._stack.enter_context(Reader(file))
            _complete_index(reader.storage)
            return reader
        except Exception as error:  # parsers raise many types for a damaged file
            raise _damaged(self._bag, self.file, error) from error


def _latched(connections: Sequence[Connection]) -> bool | None:
    profiles = [
        profile
        for connection in connections
        for profile in getattr(connection.ext, 'offered_qos_profiles', None) or ()
    ]
    durabilities = {profile.durability for profile in profiles}
    if durabilities == {QosDurability.TRANSIENT_LOCAL}:
        return True
    return False if durabilities == {QosDurability.VOLATILE} else None


def _complete_index(storage: Any) -> None:
    """Make rosbags read the chunks of an mcap file that have no message index.

    The index is optional. rosbags counts the messages of a chunk by it, and skips a chunk that
    seems to hold none.
    """
    bare = [chunk for chunk in getattr(storage, 'chunks', ()) if not chunk.message_index_offsets]
    if not bare:
        return
    if not any(connection.msgcount for connection in storage.connections):
        # The file has no statistics either: go through the messages once to count them.
        storage.meta_scan()
        counts = storage.statistics.channel_message_counts
        storage.connections = [
            connection._replace(msgcount=counts.get(connection.id, 0))
            for connection in storage.connections
        ]
    for chunk in bare:
        chunk.channel_count.update({connection.id: 1 for connection in storage.connections})


def _check_closed(bag: Path, file: Path) -> None:
    # sqlite's side files hold messages that a killed recorder had not merged into the database;
    # without this check they would be missing silently.
    for suffix in ('-wal', '-journal'):
        side = file.with_name(file.name + suffix)
        with suppress(OSError):
            if side.stat().st_size:
                raise BagError(
                    bag,
                    f'{side.name} holds messages that the recorder had not merged when it was '
                    'stopped; merge them in a copy of the bag: '
                    f"sqlite3 {file.name} 'PRAGMA wal_checkpoint(TRUNCATE)'",
                )


def _damaged(bag: Path, file: Path, error: Exception) -> BagError:
    if isinstance(error, FileNotFoundError):
        return BagError(bag, f'{file.name} does not exist')
    if kind := pointer_kind(file):
        return BagError(bag, f'{file.name} is {kind}')
    foreign = next((word for word in _FOREIGN if word in str(error)), '')
    if file.suffix == '.mcap' and foreign:
        return BagError(
            bag,
            f'{file.name} is no recording of ROS 2 ({foreign}); a recording of ROS 1 can be '
            'converted: rosbags-convert --src FILE --dst FOLDER',
        )
    return BagError(
        bag,
        f'{file.name} is damaged or was cut short ({type(error).__name__}: {error}); repair an '
        'interrupted recording with `ros2 bag reindex`, an mcap file also with `mcap recover`',
    )
