"""Quality of service of an image subscription: sensor data, matched to what publishers offer."""

from collections.abc import Sequence

from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
)

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

# Deep enough that a burst waits for the callback, which only enqueues.
DEPTH = 10

# For what comes and goes while the node spins. By default rclpy has an event tell of others that
# do not fit, and its events executor crashes (segmentation fault, `InvalidHandle`) when one is on
# its way to something that is destroyed: https://github.com/ros2/rclpy/issues/1644.
NO_PUBLISHER_EVENTS = PublisherEventCallbacks(use_default_callbacks=False)
NO_SUBSCRIPTION_EVENTS = SubscriptionEventCallbacks(use_default_callbacks=False)

LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


def offered_reliability(node: Node, topic: str) -> list[ReliabilityPolicy]:
    """Return the reliability that each publisher of a topic offers."""
    return [info.qos_profile.reliability for info in node.get_publishers_info_by_topic(topic)]


def choose_reliability(wanted: str, offered: Sequence[ReliabilityPolicy]) -> ReliabilityPolicy:
    """Choose the reliability of a subscription.

    A best-effort subscription takes from every publisher; a reliable one loses no large image, but
    takes only from reliable publishers.

    Args:
        wanted: `auto`, `best_effort` or `reliable`.
        offered: What each publisher offers.
    """
    if wanted == 'reliable':
        return ReliabilityPolicy.RELIABLE
    if wanted == 'auto' and offered and all(r == ReliabilityPolicy.RELIABLE for r in offered):
        return ReliabilityPolicy.RELIABLE
    return ReliabilityPolicy.BEST_EFFORT


def image_qos(reliability: ReliabilityPolicy) -> QoSProfile:
    """Return the profile of an image subscription."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=DEPTH,
        reliability=reliability,
        durability=DurabilityPolicy.VOLATILE,
    )
