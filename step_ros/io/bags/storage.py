"""Stored messages of a rosbag2 recording: one storage file open at a time.

`rosbags` reads single storage files (mcap, sqlite3). Its reader of whole folders opens all files
of a recording at once, and unpacks all of them where files are compressed; a clip needs one.
"""

import shutil
import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from rosbags.interfaces import Connection, MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag2 import Reader
from rosbags.typesys import (
    Stores,
    TypesysError,
    get_types_from_idl,
    get_types_from_msg,
    get_typestore,
)

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

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore


# ---- The message types of bags: read by the definition that a bag carries, else by our own.

IMAGE = 'sensor_msgs/msg/Image'

COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'

ACTION_EVENT = 'step_ros/msg/ActionEvent'

ACTION_HYPOTHESIS = 'step_ros/msg/ActionHypothesis'

TASK_HYPOTHESIS = 'step_ros/msg/TaskHypothesis'

IMAGE_TYPES = (IMAGE, COMPRESSED_IMAGE)

# What is read of each: a stored definition without it is of no use.
_FIELDS = {
    IMAGE: ('header', 'height', 'width', 'encoding', 'is_bigendian', 'step', 'data'),
    COMPRESSED_IMAGE: ('header', 'format', 'data'),
    ACTION_EVENT: ('header', 'camera', 'type', 'task', 'label', 'start_stamp', 'score'),
}

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
        kind: Its type, as `sensor_msgs/msg/Image`.
        definition: What the bag says about the type; perhaps nothing.

    Returns:
        An object with the message's fields. Arrays share the memory of `data`.

    Raises:
        ValueError: The definition is another one than this version of step_ros reads.
        SerdeError: The bytes are no such message.
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
    # One file after the other, each under a heading `IDL: NAME`; a single one may have none.
    if not text.startswith(f'{_HEADING}IDL: '):
        return [text]
    return [part.split('\n', 1)[1] for part in text.split(_HEADING)[1:]]


if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class StoredMessage(NamedTuple):
    """A message as it is stored.

    Attributes:
        topic: Its topic.
        type: Its type.
        definition: What the bag says about the type; perhaps nothing.
        log_ns: When it was recorded, in nanoseconds.
        data: Its bytes.
    """

    topic: str
    type: str
    definition: MessageDefinition
    log_ns: int
    data: bytes


def read_contents(path: str | Path) -> BagContents:
    """Read what a bag says about itself; messages are not looked at.

    Raises:
        BagError: It is missing, no bag, damaged, or of a kind that is not supported.
    """
    path = Path(path)
    if path.is_dir():
        return contents_of_folder(path)
    if not path.exists():
        raise BagError(path, 'there is no such bag')
    if path.suffix == ROS_1:
        raise BagError(path, 'a bag of ROS 1; convert it: rosbags-convert --src FILE --dst FOLDER')
    if path.suffix == COMPRESSED:
        raise BagError(path, f'a compressed file of a bag whose {METADATA} is missing')
    if path.suffix not in SUFFIXES:
        raise BagError(path, f'no bag; expected a folder with {METADATA}, or a .mcap or .db3 file')
    with StorageFile(path, path) as file:
        topics = file.topics
    return BagContents(path=path, files=(path,), compression='', topics=topics)


class StorageFile:
    """One open storage file of a bag; use it in a `with` statement.

    Args:
        bag: The bag, for error messages.
        file: The file.
        compression: As in `BagContents`.

    Attributes:
        file: The file.
        topics: Its topics by their names.

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
            name: BagTopic(name, some[0].msgtype, sum(one.msgcount for one in some))
            for name, some in self._connections.items()
        }

    def __enter__(self) -> 'StorageFile':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def indexed(self) -> bool:
        """Whether messages of some time are found without reading all that lies before."""
        # An mcap file written without chunks has no index.
        return getattr(self._reader.storage, 'chunks', None) != []

    def messages(
        self, topics: Collection[str], start_ns: int | None = None, end_ns: int | None = None
    ) -> Iterator[StoredMessage]:
        """Yield messages in the order in which they were recorded.

        Args:
            topics: Their topics; those that the file has not are passed over.
            start_ns: From which time of recording on.
            end_ns: Up to which time of recording, not included.

        Raises:
            BagError: The file is damaged or cut short.
        """
        wanted = [some for topic in topics for some in self._connections.get(topic, ())]
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
            except Exception as error:  # whatever a parser stumbles over in a damaged file
                raise _damaged(self._bag, self.file, error) from error
            yield StoredMessage(
                connection.topic, connection.msgtype, connection.msgdef, log_ns, data
            )

    def deserialise(self, message: StoredMessage) -> Any:
        """Return a message with its fields.

        Raises:
            BagError: It is damaged, or its type has other fields than expected.
        """
        try:
            return deserialise(message.data, message.type, message.definition)
        except Exception as error:  # likewise
            raise BagError(
                self._bag,
                f'{message.topic}: the message recorded at {message.log_ns} ns is no '
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
            return self._stack.enter_context(Reader(file))
        except Exception as error:  # likewise
            raise _damaged(self._bag, self.file, error) from error


def _check_closed(bag: Path, file: Path) -> None:
    # What a killed recorder left in sqlite's side files would silently be missing.
    for suffix in ('-wal', '-journal'):
        side = file.with_name(file.name + suffix)
        with suppress(OSError):
            if side.stat().st_size:
                raise BagError(
                    bag,
                    f'{side.name} holds what was not yet written when recording broke off; mend '
                    f"it on a copy: sqlite3 {file.name} 'PRAGMA wal_checkpoint(TRUNCATE)'",
                )


def _damaged(bag: Path, file: Path, error: Exception) -> BagError:
    if isinstance(error, FileNotFoundError):
        return BagError(bag, f'{file.name} is not there')
    return BagError(
        bag,
        f'{file.name} is damaged or was cut short ({type(error).__name__}: {error}); a '
        'recording that broke off: ros2 bag reindex, for mcap also mcap recover',
    )
