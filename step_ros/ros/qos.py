# SPDX-License-Identifier: Apache-2.0
"""Quality of service (QoS): profiles, queue depths, and the reliability of image subscriptions."""

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

# Messages queued for a slow subscriber or callback. Deep enough for a burst of images: the image
# callback only enqueues, and hypotheses and events are few and small.
DEPTH = 10
# Overlay images are large, and only the newest is of interest.
OVERLAY_DEPTH = 2

# After discovery, seconds until both sides of a connection know of each other: a publisher knows
# of a subscription before the subscription knows of it, and best effort gives no sign of either.
SETTLE_SECONDS = 0.5

# For publishers and subscriptions that are destroyed while the node spins. By default rclpy gives
# each of them an event for incompatible QoS. Its events executor crashes (segmentation fault,
# `InvalidHandle`) if such an event is pending: https://github.com/ros2/rclpy/issues/1644.
NO_PUBLISHER_EVENTS = PublisherEventCallbacks(use_default_callbacks=False)
NO_SUBSCRIPTION_EVENTS = SubscriptionEventCallbacks(use_default_callbacks=False)

LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


def offered_reliability(node: Node, topic: str) -> list[ReliabilityPolicy]:
    """Return the reliability that each publisher of a topic offers, one entry per publisher."""
    return [info.qos_profile.reliability for info in node.get_publishers_info_by_topic(topic)]


def choose_reliability(wanted: str, offered: Sequence[ReliabilityPolicy]) -> ReliabilityPolicy:
    """Return the reliability that a subscription should request.

    A best-effort subscription receives from every publisher, but may lose large images. A reliable
    one receives from reliable publishers only.

    Args:
        wanted: `auto`, `best_effort` or `reliable`. `auto` is reliable if all publishers are.
        offered: The reliability of each publisher.
    """
    if wanted == 'reliable':
        return ReliabilityPolicy.RELIABLE
    if wanted == 'auto' and offered and all(r == ReliabilityPolicy.RELIABLE for r in offered):
        return ReliabilityPolicy.RELIABLE
    return ReliabilityPolicy.BEST_EFFORT


def match_offered(wanted: QoSProfile, offered: Sequence[QoSProfile]) -> QoSProfile:
    """Return a subscription's profile, weakened so that it receives from every publisher.

    Args:
        wanted: The profile if all publishers fit, or if there is none.
        offered: The profile of each publisher.
    """
    reliability, durability = wanted.reliability, wanted.durability
    if any(each.reliability == ReliabilityPolicy.BEST_EFFORT for each in offered):
        reliability = ReliabilityPolicy.BEST_EFFORT
    # One latched publisher is reason enough to ask for latched messages.
    if offered and all(each.durability == DurabilityPolicy.VOLATILE for each in offered):
        durability = DurabilityPolicy.VOLATILE
    return QoSProfile(
        history=wanted.history,
        depth=wanted.depth,
        reliability=reliability,
        durability=durability,
    )


def image_qos(reliability: ReliabilityPolicy) -> QoSProfile:
    """Return the QoS profile of an image subscription."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=DEPTH,
        reliability=reliability,
        durability=DurabilityPolicy.VOLATILE,
    )
