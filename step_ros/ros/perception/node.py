"""The perception node: images in, hypotheses out, as a managed (lifecycle) node.

configure loads the bundle; activate subscribes and starts the worker; deactivate, cleanup and
shutdown undo that. A bundle that cannot be loaded leaves the node unconfigured and alive, to be
configured again with another one.
"""

import functools
import gc
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from step_ros.encoders.base import Encoder, EncoderError
from step_ros.encoders.factory import create_encoder
from step_ros.model.bundle import Bundle, BundleError, load_bundle
from step_ros.msg import ModelInfo
from step_ros.resources import find_bundle, load_defaults
from step_ros.ros.conversion import model_info_message
from step_ros.ros.executors import ExecutorError, call_soon, create_executor
from step_ros.ros.parameters import Parameter, declare_parameters, parameter_values
from step_ros.ros.perception.diagnostics import diagnostics_message, node_status
from step_ros.ros.perception.image_input import Camera, choose_cameras
from step_ros.ros.perception.parameters import DEFAULTS_FILE, NOT_CONFIGURED, PARAMETERS
from step_ros.ros.perception.pipeline import PerceptionSession
from step_ros.ros.perception.publishers import HypothesisPublisher, OutputSettings
from step_ros.ros.process_setup import keep_freed_memory
from step_ros.ros.qos import LATCHED
from step_ros.ros.runner import run_node
from step_ros.streaming.frame_timer import FrameTimer
from step_ros.streaming.settings import StreamSettings
from step_ros.streaming.threads import start_encoder

DIAGNOSTICS_PERIOD = 1.0
# How long it goes on to say goodbye, in seconds.
FAREWELL = 0.1
# How soon the node notices that it is to end, in seconds.
SPIN_PERIOD = 0.2

# Objects made and not yet let go before a collection looks for cycles.
GARBAGE = 20_000

SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE

Transition = Callable[['PerceptionNode', LifecycleState], TransitionCallbackReturn]


def reported(transition: Transition) -> Transition:
    """Keep why a transition raised: rclpy turns the exception into an error and drops its text."""

    @functools.wraps(transition)
    def wrapped(node: 'PerceptionNode', state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:
            node.fail(f'{transition.__name__}: {type(error).__name__}: {error}')
            raise

    return wrapped


class PerceptionNode(LifecycleNode):
    """Tells what the person in front of the cameras does.

    Publishes `~/hypotheses` (`ActionHypothesis`), `~/events` (`ActionEvent`) and, when somebody
    looks, `~/overlay` (`sensor_msgs/Image`) while active, `~/model_info` (`ModelInfo`, latched) on
    configuring, and `/diagnostics` once a second. Serves the action `~/wait_for_action`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('perception', **options)
        self._bundle: Bundle | None = None
        self._encoder: Encoder | None = None
        self._model_id = ''
        self._cameras: list[Camera] = []
        # As they were when it was configured.
        self._configured: dict[str, Any] = {}
        self._session: PerceptionSession | None = None
        self._life, self._error = 'unconfigured', ''
        self._answers = HypothesisPublisher(self)
        declare_parameters(self, PARAMETERS, load_defaults(DEFAULTS_FILE), change=self._change)
        self._model_info = self.create_publisher(ModelInfo, '~/model_info', LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # Simulated time may stand still, and what is wrong be said all the same.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(DIAGNOSTICS_PERIOD, self._diagnose, clock=steady)

    @property
    def autostart(self) -> bool:
        """Whether the node configures and activates itself."""
        return bool(self.get_parameter('autostart').value)

    @reported
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the bundle, warm the model up and say what it decides."""
        values = parameter_values(self, PARAMETERS)
        try:
            self._cameras = choose_cameras(
                values['cameras'], values['image_topics'], values['transport']
            )
            bundle = load_bundle(find_bundle(values['bundle']))
            OutputSettings.from_values(values).check(
                bundle, [camera.name for camera in self._cameras]
            )
            recognise = partial(StreamSettings.from_values(values).recogniser, bundle)
            start = partial(
                create_encoder,
                bundle.model.backbone,
                runtime=values['runtime'],
                device=values['device'],
                precision=values['precision'],
                bundle=bundle.path,
            )
            self._encoder = start_encoder(values['threads'], start, recognise)
            self._bundle = bundle
            # The first real window shall not be late.
            FrameTimer(recognise(self._encoder)).run(bundle.spec.frames)
        except (ValueError, FileNotFoundError, BundleError, EncoderError) as error:
            self.get_logger().error(f'{NOT_CONFIGURED}: {error}')
            self._let_go()
            return FAILURE
        self._configured = values
        # Another encoder's answers are not the bundle's own.
        self._model_id = '+'.join(filter(None, (bundle.model_id, self._encoder.variant)))
        self._model_info.publish(
            model_info_message(
                bundle,
                self._encoder,
                model_id=self._model_id,
                stamp_ns=self.get_clock().now().nanoseconds,
            )
        )
        spec = bundle.spec
        self.get_logger().info(
            f'configured: {self._model_id} by {self._encoder.description}; tasks '
            + ', '.join(f'{task.name} ({len(task.labels)})' for task in spec.tasks)
            + f'; window of {spec.frames} frames, one every {spec.frame_period:g} s'
        )
        self._life, self._error = 'inactive', ''
        return super().on_configure(state)

    @reported
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras and start the worker."""
        assert self._bundle is not None
        assert self._encoder is not None
        result = super().on_activate(state)
        if result != SUCCESS:
            return result
        values = self._in_effect(parameter_values(self, PARAMETERS))
        about = {
            'model_id': self._model_id,
            'device': self._encoder.device,
            'runtime': self._encoder.description,
        }
        try:
            self._session = PerceptionSession(
                self,
                StreamSettings.from_values(values).recogniser(self._bundle, self._encoder),
                cameras=self._cameras,
                answers=self._answers,
                values=values,
                about=about,
                on_crash=self._crash,
            )
        except ValueError as error:
            self.get_logger().error(f'not activated: {error}')
            super().on_deactivate(state)
            return FAILURE
        self._life = 'active'
        topics = [
            f'{camera.name} on {self.resolve_topic_name(camera.topic)}' for camera in self._cameras
        ]
        self.get_logger().info('active: ' + ', '.join(topics))
        return SUCCESS

    @reported
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, stop the worker and end what is open."""
        self._stop()
        result = super().on_deactivate(state)
        if self._error:
            return TransitionCallbackReturn.ERROR
        self._life = 'inactive'
        return result

    @reported
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let the model go."""
        self._let_go()
        return super().on_cleanup(state)

    @reported
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let everything go."""
        self._let_go()
        self._life = 'finalized'
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Recover from a transition that raised: back to unconfigured, ready to be configured."""
        self._let_go()
        super().on_deactivate(state)
        self.get_logger().error(f'{self._error}; the node is unconfigured again')
        return SUCCESS

    def fail(self, error: str) -> None:
        """Take note of what brings the node down; a transition to an error is to follow."""
        self._error = error

    def destroy_node(self) -> None:
        """Stop the worker before the publishers go."""
        self._stop()
        self._answers.close()
        super().destroy_node()

    def end(self) -> None:
        """Deactivate, so that open events end and those who wait are told."""
        if self._session is not None:
            self.trigger_deactivate()

    def _stop(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _let_go(self) -> None:
        self._stop()
        self._bundle = self._encoder = None
        self._life = 'unconfigured'

    def _change(self, values: dict[str, Any], changed: list[Parameter]) -> None:
        """Put changed parameters into effect, as far as that can be done now."""
        telling = OutputSettings.from_values(values)
        if self._session is not None:
            self._session.change(self._in_effect(values))
        elif self._bundle is not None:
            telling.check(self._bundle, [camera.name for camera in self._cameras])
        later = [parameter.name for parameter in changed if not parameter.live]
        if later and self._bundle is not None:
            self.get_logger().warning(
                f'{", ".join(later)}: takes effect when the node is configured again'
            )

    def _in_effect(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return parameters as they count now: those that are not live as when configured."""
        live = {each.name: values[each.name] for each in PARAMETERS if each.live}
        return {**self._configured, **live}

    def _crash(self, error: Exception) -> None:
        """Take note that the worker has ended; called in its thread."""
        self.fail(f'the worker ended by {type(error).__name__}: {error}')
        call_soon(self, self._fall)

    def _fall(self) -> None:
        if self._session is not None:
            self.trigger_deactivate()

    def _diagnose(self) -> None:
        now = self.get_clock().now()
        name = self.get_fully_qualified_name()
        statuses = [node_status(name, self._life, error=self._error)]
        if self._session is not None:
            statuses += self._session.diagnostics.statuses(now.nanoseconds)
        self._diagnostics.publish(diagnostics_message(statuses, now.to_msg()))


def _run(node: PerceptionNode, stop: threading.Event) -> None:
    executor, which = create_executor(node.get_parameter('executor').value)
    node.get_logger().info(f'executor: {which}')
    executor.add_node(node)
    if node.autostart and node.trigger_configure() == SUCCESS:
        node.trigger_activate()
    # What there is now stays. A collection that looked through all of torch took a quarter second;
    # small ones, that find nothing, came a hundred times a second.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE)
    while not stop.is_set():
        executor.spin_once(timeout_sec=SPIN_PERIOD)
    node.end()
    # Results of those who wait are sent by the executor.
    until = time.monotonic() + FAREWELL
    while time.monotonic() < until:
        executor.spin_once(timeout_sec=FAREWELL)


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted.

    Returns:
        0; or 1 after one line on what was wrong.
    """
    keep_freed_memory()
    return run_node('perception', PerceptionNode, _run, args=args, expected=(ExecutorError,))
