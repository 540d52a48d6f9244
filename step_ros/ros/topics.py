"""Names of topics: made from other names, and checked."""

from rclpy.exceptions import InvalidTopicNameException
from rclpy.validate_topic_name import validate_topic_name


def topic_part(name: str) -> str:
    """Return a name as a part of a topic: what ROS does not allow there becomes `_`."""
    part = ''.join(char if char.isascii() and char.isalnum() else '_' for char in name)
    return part if part[:1].isalpha() else f'_{part}'


def check_topic(parameter: str, topic: str) -> None:
    """See that a topic's name is one.

    Args:
        parameter: The parameter that names it.
        topic: The topic.

    Raises:
        ValueError: It is not.
    """
    try:
        validate_topic_name(topic)
    except InvalidTopicNameException as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f'parameter {parameter}: {topic!r}: {reason}') from error
