# SPDX-License-Identifier: Apache-2.0
"""Choose the image topics of a bag that hold pictures of a camera, each camera once.

A recording often holds more beside them: depth images, topics without messages, the overlay that
a perception node draws, and a compressed copy of the raw images.
"""

from dataclasses import dataclass

from step_ros.io.bags.reader import BagReader
from step_ros.io.bags.storage import ACTION_HYPOTHESIS, COMPRESSED_IMAGE

# Encodings whose numbers are distances, or of no known meaning.
_DEPTH = ('16UC1', '16SC1', '32SC1', '32FC1', '64FC1')
_OVERLAY = 'overlay'
# Last parts of the topics that image_transport makes of an image topic.
_TRANSPORTS = ('compressed', 'compressedDepth')


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The image topics of a bag.

    Attributes:
        topics: Topics with pictures, one for each camera, sorted by name.
        left_out: Reason why another image topic was left out, by its name.
    """

    topics: tuple[str, ...]
    left_out: dict[str, str]

    def describe(self) -> str:
        """Return in words which topics were left out and why; empty for none."""
        return '; '.join(f'left out {topic}: {why}' for topic, why in self.left_out.items())


def choose_pictures(bag: BagReader) -> Pictures:
    """Return the image topics of a bag to use where the user names none.

    Raises:
        BagError: The bag is damaged.
    """
    left_out = {topic: why for topic in bag.image_topics if (why := _no_picture(bag, topic))}
    found = [topic for topic in bag.image_topics if topic not in left_out]
    for topic in found:
        original = _original(topic)
        if original != topic and original in found:
            left_out[topic] = f'the same camera as {original}'
    return Pictures(
        topics=tuple(topic for topic in found if topic not in left_out),
        left_out=dict(sorted(left_out.items())),
    )


def _no_picture(bag: BagReader, topic: str) -> str:
    """Return why a topic holds no pictures of a camera; empty if it does."""
    if not bag.topics[topic].messages:
        return 'it has no messages'
    if _is_overlay(bag, topic):
        return 'a perception node draws it'
    kind, encoding = bag.image_encoding(topic)
    if kind == COMPRESSED_IMAGE:
        source = encoding.partition(';')[0].strip()
        if 'compressedDepth' in encoding or topic.endswith('/compressedDepth'):
            return f'it holds depth images (format {encoding!r})'
        return f'it holds depth images (format {encoding!r})' if source in _DEPTH else ''
    # 8-bit numbers are a picture; an unknown encoding is an error of its own.
    return f'it holds depth images (encoding {encoding})' if encoding.upper() in _DEPTH else ''


def _is_overlay(bag: BagReader, topic: str) -> bool:
    """Return whether a perception node drew a topic: `NODE/overlay` or `NODE/overlay/CAMERA`."""
    parts = _original(topic).split('/')
    for at in (len(parts) - 1, len(parts) - 2):
        if at > 0 and parts[at] == _OVERLAY:
            node = '/'.join(parts[:at])
            beside = any(
                other.type == ACTION_HYPOTHESIS and other.name.startswith(f'{node}/')
                for other in bag.topics.values()
            )
            if beside or parts[at - 1] == 'perception':
                return True
    return False


def _original(topic: str) -> str:
    """Return the topic whose images another one holds compressed, or the topic itself."""
    base, _, last = topic.rpartition('/')
    return base if base and last in _TRANSPORTS else topic
