# SPDX-License-Identifier: Apache-2.0
"""Which clients of an action still exist, so that the goals of dead clients end.

A goal does not name its client. Every client subscribes to the feedback topic of the action, so
the subscriptions there are the clients that may have sent it:

    goal accepted   clients A, B exist    it is A's or B's
    A dies          client B exists       it may be B's: it stays
    B dies          no client exists      nobody waits for it: it ends
"""

from rclpy.node import Node

# Seconds until a client that sent a goal is in the graph.
DISCOVERY_SECONDS = 5.0


class ActionClients:
    """Lists the clients of an action.

    Args:
        node: The node of the action server.
        action: Name of the action.
    """

    def __init__(self, node: Node, action: str) -> None:
        self._node = node
        self._topic = f'{node.resolve_topic_name(action)}/_action/feedback'

    def present(self) -> frozenset[bytes]:
        """Return the identifiers of the clients at present."""
        infos = self._node.get_subscriptions_info_by_topic(self._topic)
        return frozenset(bytes(info.endpoint_gid) for info in infos)


class GoalClients:
    """The clients that may have sent a goal.

    Args:
        present: The clients when the goal was accepted.
        now: When that was, in seconds of the monotonic clock.

    Attributes:
        all_gone: Whether no client is left that may have sent the goal.
        some_gone: Whether a client is gone that may have sent the goal.
    """

    def __init__(self, present: frozenset[bytes], now: float) -> None:
        self._accepted, self._possible = now, present
        self.all_gone = self.some_gone = False

    def update(self, present: frozenset[bytes], now: float) -> None:
        """Compare with the clients at present.

        Args:
            present: The clients.
            now: The time in seconds of the monotonic clock.
        """
        # The graph may find a client only after its first goal.
        if now - self._accepted < DISCOVERY_SECONDS:
            self._possible |= present
            return
        self.all_gone = not self._possible & present
        self.some_gone = not self._possible <= present
