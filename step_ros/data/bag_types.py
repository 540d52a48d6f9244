"""The message types of bags: read by the definition that a bag carries, else by our own."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat
from rosbags.typesys import (
    Stores,
    TypesysError,
    get_types_from_idl,
    get_types_from_msg,
    get_typestore,
)

from step_ros.resources import share_directory

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

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
