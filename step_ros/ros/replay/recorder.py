"""Records what a perception node says about a bag that is being played to it.

It begins once the node listens to the cameras, waits until a player has come and gone, lets the
node finish and deactivates it, so that open events end; then it writes a file and ends.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from step_ros.msg import ActionEvent, ActionHypothesis
from step_ros.replay.node_output import FrameTally, NodeOutput, OnlineEvent, OnlineHypothesis
from step_ros.resources import Value
from step_ros.ros.clients.frame_counts import STAMP_AGE, read_frame_counts
from step_ros.ros.conversion import to_nanoseconds
from step_ros.ros.parameters import Parameter, declare_parameters, parameter_values
from step_ros.ros.perception.diagnostics import SKIPPED
from step_ros.ros.runner import run_node

# What it says when it hears the node and a player may begin.
RECORDING = 'recording'
PARAMETERS = (
    Parameter(name='perception', description='Full name of the perception node.'),
    Parameter(name='cameras', description='Its cameras.'),
    Parameter(name='image_topics', description='The topics that are played.'),
    Parameter(name='output', description='File to write, as JSON.'),
)
DEFAULTS: dict[str, Value] = {
    'perception': '/perception',
    'cameras': ['camera'],
    'image_topics': ['/camera/image_raw'],
    'output': 'online.json',
}

_DEPTH = 1000
_SPIN_PERIOD = 0.05
# How often the graph is looked at, in seconds.
_LOOK_PERIOD = 0.2
# How long a service may take, and messages that were sent before its answer, in seconds.
_SERVICE_SECONDS = 10.0
_SETTLE_SECONDS = 0.5


class RecordingError(RuntimeError):
    """The node did not do as expected."""


class ReplayRecorder(Node):
    """Listens to a perception node while a bag is played.

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
        name = self._perception
        self._heard = [
            self.create_subscription(
                ActionHypothesis, f'{name}/hypotheses', self._on_hypothesis, _DEPTH
            ),
            self.create_subscription(ActionEvent, f'{name}/events', self._on_event, _DEPTH),
        ]
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, _DEPTH)
        self._change = self.create_client(ChangeState, f'{name}/change_state')
        self._spinner = SingleThreadedExecutor(context=self.context)

    def record(self, stop: threading.Event) -> bool:
        """Record one playing, from before its beginning until after its end.

        Returns:
            Whether it was recorded and written; False if told to end before.

        Raises:
            RecordingError: The node cannot be deactivated.
        """
        self._spinner.add_node(self)
        if not self._wait(self._hears_node, stop):
            return False
        self.get_logger().info(RECORDING)
        for done in (self._played, lambda: not self._played()):
            if not self._wait(done, stop):
                return False
        diagnoses = self._diagnoses
        if not self._wait(lambda: self._settled(diagnoses), stop):
            return False
        self._deactivate()
        answers = NodeOutput(
            model_id=self._model_id,
            hypotheses=self._hypotheses,
            events=self._events,
            tallies=self._tallies,
        )
        answers.save(self._output)
        self.get_logger().info(
            f'{len(self._hypotheses)} hypotheses and {len(self._events)} events in {self._output}'
        )
        return True

    def _wait(self, done: Callable[[], bool], stop: threading.Event) -> bool:
        """Take messages until something is so; False if told to end."""
        while not stop.is_set():
            if done():
                return True
            self._spin(_LOOK_PERIOD)
        return False

    def _spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._spinner.spin_once(timeout_sec=min(left, _SPIN_PERIOD))

    def _hears_node(self) -> bool:
        """Whether the node is active and all that it says will arrive."""
        return all(each.get_publisher_count() for each in self._heard) and all(
            self.count_subscribers(topic) for topic in self._topics
        )

    def _played(self) -> bool:
        """Whether there is a player."""
        return any(self.count_publishers(topic) for topic in self._topics)

    def _settled(self, diagnoses: int) -> bool:
        """Whether the node has looked at all that came, after as many diagnoses were made.

        Of two made since then, the second has no frame more, and none waits.
        """
        return self._diagnoses >= diagnoses + 2 and all(
            tallies[-1].waiting == 0 and tallies[-1].received == tallies[-2].received
            for tallies in self._tallies.values()
            if len(tallies) > 1
        )

    def _deactivate(self) -> None:
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
        future = self._change.call_async(request)
        self._spinner.spin_until_future_complete(future, timeout_sec=_SERVICE_SECONDS)
        if not future.done() or not future.result().success:
            raise RecordingError(f'{self._perception} could not be deactivated')
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

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        now_ns = to_nanoseconds(message.header.stamp)
        cameras = {f'{self._perception}: {camera}': camera for camera in self._tallies}
        found = {
            cameras[status.name]: tally
            for status in message.status
            if status.name in cameras and (tally := read_tally(status, now_ns)) is not None
        }
        if any(status.name.startswith(f'{self._perception}: ') for status in message.status):
            self._diagnoses += 1
        for camera, tally in found.items():
            self._tallies[camera].append(tally)


def read_tally(status: DiagnosticStatus, now_ns: int) -> FrameTally | None:
    """Read a camera's status, made at a time by the clock of the stamps; None before any frame."""
    values = {item.key: item.value for item in status.values}
    counts = read_frame_counts(status)
    age_ms = values.get(STAMP_AGE, '')
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
        0; or 1 after one line on what was wrong.
    """
    return run_node(
        'replay_recorder', ReplayRecorder, _run, args=args, expected=(RecordingError, OSError)
    )


def _run(node: ReplayRecorder, stop: threading.Event) -> None:
    if not node.record(stop):
        node.get_logger().info('ended before the bag was played; nothing is written')
