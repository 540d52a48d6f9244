"""Finds perception nodes and listens to what one of them says, as any user of it could."""

import os
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState

from step_ros.msg import ActionEvent, ActionHypothesis
from step_ros.ros.spinning_node import SpinningNode

HYPOTHESIS_TYPE, EVENT_TYPE = 'step_ros/msg/ActionHypothesis', 'step_ros/msg/ActionEvent'
# Hypotheses that may wait to be looked at, and by which the rate is measured.
_KEPT = 1000
_RECENT = 50
# How often the node is asked for its state, in seconds.
STATE_PERIOD = 0.5
# Statuses by how bad they are.
LEVELS = {
    DiagnosticStatus.OK: 'ok',
    DiagnosticStatus.WARN: 'warning',
    DiagnosticStatus.ERROR: 'error',
    DiagnosticStatus.STALE: 'stale',
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """A topic on which somebody publishes hypotheses.

    Attributes:
        topic: The topic.
        node: Full name of who publishes it.
        events: The topic of the events that belong to it; empty where there is none.
    """

    topic: str
    node: str
    events: str = ''


@dataclass(kw_only=True)
class CameraView:
    """What was said of one camera of late.

    Attributes:
        newest: The newest hypothesis.
        arrivals_ns: When the last ones came, by the monotonic clock.
        open_events: Labels that began and have not ended, by task. What began before the watch is
            not known.
    """

    newest: ActionHypothesis | None = None
    arrivals_ns: deque[int] = field(default_factory=lambda: deque(maxlen=_RECENT))
    open_events: dict[str, str] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Hypotheses per second of late; 0 while there are fewer than two."""
        if len(self.arrivals_ns) < 2:
            return 0.0
        # Up to now: the rate falls when nothing comes any more.
        seconds = (time.monotonic_ns() - self.arrivals_ns[0]) / 1e9
        return len(self.arrivals_ns) / seconds

    def copy(self) -> 'CameraView':
        """Return it as it is now."""
        return CameraView(
            newest=self.newest,
            arrivals_ns=deque(self.arrivals_ns),
            open_events=dict(self.open_events),
        )


class Watcher:
    """Listens in a thread of its own; what it heard may be asked for in any other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cameras: dict[str, CameraView] = {}
        self._statuses: dict[str, DiagnosticStatus] = {}
        self._waiting: deque[ActionHypothesis | ActionEvent] = deque(maxlen=_KEPT)
        self._source: Source | None = None
        self._get_state: Any = None
        self._asked: Any = None
        self._asked_at = 0.0
        self._state: Any = None
        self._spinning = SpinningNode(f'step_ros_watch_{os.getpid()}')
        self._node = self._spinning.node
        self._spinning.start()

    def close(self) -> None:
        """Stop listening."""
        self._spinning.close()

    def find(self) -> list[Source]:
        """Return who publishes hypotheses at present, by topic and node."""
        types = dict(self._node.get_topic_names_and_types())
        heard = [topic for topic, kinds in types.items() if HYPOTHESIS_TYPE in kinds]
        events = [topic for topic, kinds in types.items() if EVENT_TYPE in kinds]
        tells = [(topic, node) for topic in events for node in self._publishers(topic)]
        sources = []
        for topic in heard:
            for node in self._publishers(topic):
                own = [name for name, teller in tells if teller == node]
                beside = f'{topic.rpartition("/")[0]}/events'
                events_topic = beside if beside in own else own[0] if len(own) == 1 else ''
                sources.append(Source(topic=topic, node=node, events=events_topic))
        return sorted(sources, key=lambda source: (source.topic, source.node))

    def listen(self, source: Source) -> None:
        """Begin to listen."""
        self._source = source
        node = self._node
        node.create_subscription(ActionHypothesis, source.topic, self._on_hypothesis, _KEPT)
        if source.events:
            node.create_subscription(ActionEvent, source.events, self._on_event, _KEPT)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, _RECENT)
        self._get_state = node.create_client(GetState, f'{source.node}/get_state')

    def take(self) -> list[ActionHypothesis | ActionEvent]:
        """Return what came since the last call, in order."""
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
        return waiting

    def cameras(self) -> dict[str, CameraView]:
        """Return what was said of each camera, by its name."""
        with self._lock:
            return {name: self._cameras[name].copy() for name in sorted(self._cameras)}

    def diagnostics(self) -> list[DiagnosticStatus]:
        """Return the newest statuses of the node that is listened to."""
        with self._lock:
            return list(self._statuses.values())

    def silence(self) -> str:
        """Say why nothing may come; empty where all seems well, or nobody is listened to."""
        source = self._source
        if source is None:
            return ''
        if not self._publishers(source.topic):
            return f'no publisher on {source.topic}: has the node {source.node} ended?'
        state = self._lifecycle_state()
        if state is not None and state.id != State.PRIMARY_STATE_ACTIVE:
            wanted = 'configure' if state.id == State.PRIMARY_STATE_UNCONFIGURED else 'activate'
            return (
                f'the node {source.node} is {state.label}: '
                f'ros2 lifecycle set {source.node} {wanted}'
            )
        return ''

    def _publishers(self, topic: str) -> list[str]:
        """Return the full names of the nodes that publish a topic, as far as they are known."""
        found = {
            f'{info.node_namespace.rstrip("/")}/{info.node_name}'
            for info in self._node.get_publishers_info_by_topic(topic)
            # A node is discovered after its publishers.
            if not info.node_name.startswith('_NODE_NAME_UNKNOWN')
        }
        return sorted(found)

    def _lifecycle_state(self) -> Any:
        """Return the node's state as it was a moment ago; None while it is not known."""
        if self._asked is not None and self._asked.done():
            self._state, self._asked = self._asked.result().current_state, None
        # An answer may be lost before both sides know of each other: it is asked again anyhow.
        if time.monotonic() - self._asked_at > STATE_PERIOD and self._get_state.service_is_ready():
            self._asked = self._get_state.call_async(GetState.Request())
            self._asked_at = time.monotonic()
        return self._state

    def _on_hypothesis(self, message: ActionHypothesis) -> None:
        with self._lock:
            camera = self._cameras.setdefault(message.camera, CameraView())
            camera.newest = message
            camera.arrivals_ns.append(time.monotonic_ns())
            self._waiting.append(message)

    def _on_event(self, message: ActionEvent) -> None:
        with self._lock:
            camera = self._cameras.setdefault(message.camera, CameraView())
            if message.type == ActionEvent.START:
                camera.open_events[message.task] = message.label
            else:
                camera.open_events.pop(message.task, None)
            self._waiting.append(message)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        assert self._source is not None
        names = {self._source.node, self._source.topic.rpartition('/')[0]}
        with self._lock:
            for status in message.status:
                if status.name.partition(': ')[0] in names:
                    self._statuses[status.name] = status


def choose_source(found: list[Source], wanted: str) -> tuple[Source | None, str]:
    """Choose whom to listen to.

    Args:
        found: Who publishes hypotheses.
        wanted: Full name of a node, or a topic of hypotheses; empty for the only one.

    Returns:
        The source; or None and why there is none.
    """
    name = wanted if wanted.startswith('/') else f'/{wanted}'
    topic = f'{name}/hypotheses'
    fitting = found
    if wanted:
        fitting = [each for each in found if each.node == name] or [
            each for each in found if each.topic in (name, topic)
        ]
    if len(fitting) == 1:
        return fitting[0], ''
    if fitting:
        nodes = [source.node for source in fitting]
        names = [each.node if nodes.count(each.node) == 1 else each.topic for each in fitting]
        listed = '\n'.join(
            f'  --node {name}    ({source.topic} from {source.node})'
            for name, source in zip(names, fitting, strict=True)
        )
        return None, f'several publish hypotheses; choose one:\n{listed}'
    if not wanted:
        return None, f'no publisher of {HYPOTHESIS_TYPE}: is a perception node running?'
    others = ', '.join(source.node for source in found)
    return None, f'no publisher on {topic}: is the node running?' + (
        f' There are: {others}' if others else ''
    )
