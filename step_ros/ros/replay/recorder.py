# SPDX-License-Identifier: Apache-2.0
"""Records the hypotheses and events of a perception node while a bag is played to it.

wait for the node  ->  'recording'  ->  a player comes  ->  the player goes  ->
the node has processed all frames  ->  deactivate the node, so that open events end  ->
write the file  ->  end
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from step_ros.msg import ActionEvent, ActionHypothesis
from step_ros.replay.node_output import FrameTally, NodeOutput, OnlineEvent, OnlineHypothesis
from step_ros.resources import Value
from step_ros.ros.clients.frame_counts import STAMP_AGE, read_frame_counts
from step_ros.ros.clients.perception_client import (
    PerceptionClient,
    PerceptionTopics,
    status_part,
)
from step_ros.ros.conversion import to_nanoseconds
from step_ros.ros.parameters import Parameter, declare_parameters, parameter_values
from step_ros.ros.perception.diagnostics import SKIPPED
from step_ros.ros.runner import run_node

# The log line after which a player may start.
RECORDING = 'recording'
PARAMETERS = (
    Parameter(name='perception', description='Full name of the perception node.'),
    Parameter(name='cameras', description='Names of its cameras.'),
    Parameter(name='image_topics', description='Image topics that are played.'),
    Parameter(name='output', description='JSON file to write.'),
)
DEFAULTS: dict[str, Value] = {
    'perception': '/perception',
    'cameras': ['camera'],
    'image_topics': ['/camera/image_raw'],
    'output': 'online.json',
}

_SPIN_PERIOD = 0.05
# Seconds between two looks at the graph.
_LOOK_PERIOD = 0.2
# Seconds that a service may take.
_SERVICE_SECONDS = 10.0
# Seconds that messages sent before the service's response may still take.
_SETTLE_SECONDS = 0.5


class RecordingError(RuntimeError):
    """The perception node could not be recorded to the end."""


class ReplayRecorder(Node):
    """Records a perception node while a bag is played.

    Args:
        options: For `rclpy.node.Node`.

    Raises:
        ParameterException: A parameter has a value that it does not take.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('replay_recorder', start_parameter_services=False, **options)
        declare_parameters(self, PARAMETERS, DEFAULTS)
        values = parameter_values(self, PARAMETERS)
        self._perception: str = values['perception']
        self._topics: list[str] = values['image_topics']
        self._output = Path(values['output'])
        self._model_id = ''
        self._hypotheses: list[OnlineHypothesis] = []
        self._events: list[OnlineEvent] = []
        self._tallies: dict[str, list[FrameTally]] = {camera: [] for camera in values['cameras']}
        self._diagnoses = 0
        # No callback for the model info: each hypothesis names its model, and the node counts as
        # connected once it publishes hypotheses and events.
        self._client = PerceptionClient(self)
        self._client.subscribe(
            PerceptionTopics.of_node(self._perception),
            on_hypothesis=self._on_hypothesis,
            on_event=self._on_event,
            on_statuses=self._on_statuses,
        )
        self._change_state = self.create_client(ChangeState, f'{self._perception}/change_state')
        self._executor = SingleThreadedExecutor(context=self.context)

    def record(self, stop: threading.Event) -> bool:
        """Record one playing, from before its start until after its end.

        Args:
            stop: Set to give up.

        Returns:
            Whether the file was written; False if `stop` was set before.

        Raises:
            RecordingError: The node cannot be deactivated.
        """
        self._executor.add_node(self)
        if not self._wait(self._node_connected, stop):
            return False
        self.get_logger().info(RECORDING)
        for done in (self._player_present, lambda: not self._player_present()):
            if not self._wait(done, stop):
                return False
        diagnoses = self._diagnoses
        if not self._wait(lambda: self._settled(diagnoses), stop):
            return False
        self._deactivate()
        output = NodeOutput(
            model_id=self._model_id,
            hypotheses=self._hypotheses,
            events=self._events,
            tallies=self._tallies,
        )
        output.save(self._output)
        self.get_logger().info(
            f'wrote {len(self._hypotheses)} hypotheses and {len(self._events)} events to '
            f'{self._output}'
        )
        return True

    def _wait(self, done: Callable[[], bool], stop: threading.Event) -> bool:
        """Take messages until a condition holds; return False if `stop` was set before."""
        while not stop.is_set():
            if done():
                return True
            self._spin(_LOOK_PERIOD)
        return False

    def _spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left, _SPIN_PERIOD))

    def _node_connected(self) -> bool:
        """Whether the node is active, and this recorder receives what it publishes."""
        # An active node subscribes to its image topics.
        return self._client.connected() and all(
            self.count_subscribers(topic) for topic in self._topics
        )

    def _player_present(self) -> bool:
        return any(self.count_publishers(topic) for topic in self._topics)

    def _settled(self, diagnoses: int) -> bool:
        """Whether the node has processed every frame.

        It has if no frame waits and none has come between the last two diagnostics, both made
        after the player went.

        Args:
            diagnoses: How many diagnostics had come when the player went.
        """
        return self._diagnoses >= diagnoses + 2 and all(
            tallies[-1].waiting == 0 and tallies[-1].received == tallies[-2].received
            for tallies in self._tallies.values()
            if len(tallies) > 1
        )

    def _deactivate(self) -> None:
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
        future = self._change_state.call_async(request)
        self._executor.spin_until_future_complete(future, timeout_sec=_SERVICE_SECONDS)
        if not future.done() or not future.result().success:
            raise RecordingError(
                f'{self._perception} could not be deactivated; its log says why, if it still runs'
            )
        self._spin(_SETTLE_SECONDS)

    def _on_hypothesis(self, message: ActionHypothesis) -> None:
        self._model_id = message.model_id
        self._hypotheses.append(
            OnlineHypothesis(
                camera=message.camera,
                stamp_ns=to_nanoseconds(message.header.stamp),
                window_start_ns=to_nanoseconds(message.window_start),
                scores={
                    task.task: dict(zip(task.labels, map(float, task.scores), strict=True))
                    for task in message.tasks
                },
                order_evidence={task.task: task.order_evidence for task in message.tasks},
            )
        )

    def _on_event(self, message: ActionEvent) -> None:
        self._events.append(
            OnlineEvent(
                camera=message.camera,
                type=message.type,
                task=message.task,
                label=message.label,
                stamp_ns=to_nanoseconds(message.header.stamp),
                start_ns=to_nanoseconds(message.start_stamp),
                score=message.score,
            )
        )

    def _on_statuses(self, stamp_ns: int, statuses: list[DiagnosticStatus]) -> None:
        self._diagnoses += 1
        for status in statuses:
            tallies = self._tallies.get(status_part(status))
            tally = None if tallies is None else read_tally(status, stamp_ns)
            if tallies is not None and tally is not None:
                tallies.append(tally)


def read_tally(status: DiagnosticStatus, now_ns: int) -> FrameTally | None:
    """Return the frame counts in a camera's status; None before its first frame.

    Args:
        status: The status.
        now_ns: When the node made it, by the clock of the stamps.
    """
    values = {item.key: item.value for item in status.values}
    counts = read_frame_counts(status)
    age_ms = values.get(STAMP_AGE, '')
    # The age is negative if a stamp is ahead of the clock.
    if not age_ms.lstrip('-').isdecimal():
        return None
    lost = {**counts.dropped, SKIPPED: int(values.get(SKIPPED, 0))}
    return FrameTally(
        newest_ns=now_ns - int(age_ms) * 1_000_000,
        received=counts.received,
        waiting=counts.waiting,
        lost={cause: count for cause, count in lost.items() if count},
    )


def main(args: list[str] | None = None) -> int:
    """Record until a player has come and gone, or until interrupted.

    Returns:
        0; or 1 after one line with the error.
    """
    return run_node(
        'replay_recorder', ReplayRecorder, _run, args=args, expected=(RecordingError, OSError)
    )


def _run(node: ReplayRecorder, stop: threading.Event) -> None:
    if not node.record(stop):
        node.get_logger().info('interrupted before the bag had been played; no file is written')
