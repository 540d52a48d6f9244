# SPDX-License-Identifier: Apache-2.0
"""Tell the events that a perception node published from the events that say what is true.

Both are `step_ros/msg/ActionEvent`. A recording often holds a node's own events beside the images;
as true labels they would confirm every error of the node.
"""

import math

from step_ros.io.bags.metadata import BagError
from step_ros.io.bags.reader import BagEvent, BagReader
from step_ros.io.bags.storage import ACTION_HYPOTHESIS, MODEL_INFO

# The last parts of the topic on which a node with its default name publishes events.
_NODE_TOPIC = ('perception', 'events')
# The topic on which this package's cameras publish the truth.
_TRUTH = 'truth'


def why_predicted(bag: BagReader, topic: str) -> str:
    """Return the sign that a perception node published a topic of action events.

    The signs are the topic's name, topics beside it that only a node publishes, the quality of
    service with which it was recorded, and the scores of the events.

    Args:
        bag: The bag.
        topic: One of its topics of action events.

    Returns:
        The sign, in words; empty if there is none.

    Raises:
        BagError: The bag is damaged or cut short.
    """
    parts = topic.strip('/').split('/')
    if tuple(parts[-2:]) == _NODE_TOPIC:
        return 'its name is that of a perception node'
    for number, event in enumerate(bag.events([topic]), start=1):
        if why := _score_of_a_model(event):
            return f'event {number} ({event.task} {event.label!r}) has {why}'
    # A camera that knows the truth may share a namespace with a node.
    if parts[-1] != _TRUTH:
        namespace = topic.rpartition('/')[0]
        for other in bag.topics.values():
            beside = other.name.rpartition('/')[0] == namespace
            if beside and other.type in (MODEL_INFO, ACTION_HYPOTHESIS):
                return f'{other.name} beside it has {other.type.rpartition("/")[2]} of a model'
    # A node does not latch its events. A source of true labels can; this package's cameras do.
    if parts[-1] == _NODE_TOPIC[-1] and bag.topics[topic].latched is False:
        return 'it is named and was recorded (volatile) like the events of a perception node'
    return ''


def refuse_predictions(bag: BagReader, topic: str) -> None:
    """Check that no perception node published a topic of action events.

    Raises:
        BagError: A node published it, or the bag is damaged.
    """
    if why := why_predicted(bag, topic):
        raise BagError(
            bag.path,
            f'{topic}: {why}: a perception node published these events, and no prediction is a '
            'true label; expected labels in a CSV file, or a topic of someone who knows the '
            'truth, such as /camera/truth',
        )


def _score_of_a_model(event: BagEvent) -> str:
    """Return the field of an event that only a model fills in this way, and its value."""
    # Truth has the score 1. An annotation tool may leave scores unset: 0, which no event of a node
    # has. Bags of older versions have no order evidence, which is read as 0.
    for name, value in (('score', event.score), ('order evidence', event.order_evidence)):
        if math.isnan(value) or value not in (0.0, 1.0):
            return f'the {name} {value:.4g}; true labels have 1'
    return ''
