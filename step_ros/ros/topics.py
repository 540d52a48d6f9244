"""Names of topics made from other names."""


def topic_part(name: str) -> str:
    """Return a name as a part of a topic: what ROS does not allow there becomes `_`."""
    part = ''.join(char if char.isascii() and char.isalnum() else '_' for char in name)
    return part if part[:1].isalpha() else f'_{part}'
