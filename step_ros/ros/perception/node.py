# SPDX-License-Identifier: Apache-2.0
"""The perception node: a managed (lifecycle) node from images to hypotheses.

configure loads the bundle. activate subscribes and starts the worker. deactivate, cleanup and
shutdown undo that. After a bundle that cannot be loaded the node keeps running, unconfigured; it
can be configured with another bundle.
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
# Seconds that the executor spins after deactivation, to send the results of pending goals.
LAST_SPIN_SECONDS = 0.1
# Longest seconds until the node notices the stop event.
SPIN_PERIOD = 0.2

# New objects in memory that trigger a garbage collection.
GARBAGE_THRESHOLD = 20_000

SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE

Transition = Callable[['PerceptionNode', LifecycleState], TransitionCallbackReturn]


def reported(transition: Transition) -> Transition:
    """Keep the text of an exception in a transition, which rclpy drops."""

    @functools.wraps(transition)
    def wrapped(node: 'PerceptionNode', state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:
            node.fail(f'{transition.__name__}: {type(error).__name__}: {error}')
            raise

    return wrapped


class PerceptionNode(LifecycleNode):
    """Recognises the actions of the person in front of the cameras.

    While active it publishes `~/hypotheses` (`ActionHypothesis`), `~/events` (`ActionEvent`) and,
    if it has subscribers, `~/overlay` (`sensor_msgs/Image`). On configuring it publishes
    `~/model_info` (`ModelInfo`, latched), and once a second `/diagnostics`. It serves the action
    `~/wait_for_action`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('perception', **options)
        self._bundle: Bundle | None = None
        self._encoder: Encoder | None = None
        self._model_id = ''
        self._cameras: list[Camera] = []
        # The parameters when the node was configured; those that are not live keep these values.
        self._configured: dict[str, Any] = {}
        self._session: PerceptionSession | None = None
        self._state_name, self._error = 'unconfigured', ''
        self._publisher = HypothesisPublisher(self)
        declare_parameters(self, PARAMETERS, load_defaults(DEFAULTS_FILE), change=self._change)
        self._model_info = self.create_publisher(ModelInfo, '~/model_info', LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # By the steady clock: diagnostics must come while simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(DIAGNOSTICS_PERIOD, self._diagnose, clock=steady)

    @property
    def autostart(self) -> bool:
        """Whether the node configures and activates itself."""
        return bool(self.get_parameter('autostart').value)

    @reported
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the bundle, warm the model up and publish its tasks and labels."""
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
            # Warm up, so that the first real window is not late.
            FrameTimer(recognise(self._encoder)).run(bundle.spec.frames)
        except (ValueError, FileNotFoundError, BundleError, EncoderError) as error:
            self.get_logger().error(f'{NOT_CONFIGURED}: {error}')
            self._release()
            return FAILURE
        self._configured = values
        # Scores of another encoder differ from the bundle's own: its name joins the model's id.
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
            f'configured: {self._model_id} with {self._encoder.description}; tasks '
            + ', '.join(f'{task.name} ({len(task.labels)})' for task in spec.tasks)
            + f'; window of {spec.frames} frames, one every {spec.frame_period:g} s'
        )
        self._state_name, self._error = 'inactive', ''
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
                publisher=self._publisher,
                values=values,
                about=about,
                on_crash=self._crash,
            )
        except ValueError as error:
            self.get_logger().error(f'not activated: {error}')
            super().on_deactivate(state)
            return FAILURE
        self._state_name = 'active'
        topics = [
            f'{camera.name} on {self.resolve_topic_name(camera.topic)}' for camera in self._cameras
        ]
        self.get_logger().info('active: ' + ', '.join(topics))
        return SUCCESS

    @reported
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, stop the worker, and end open events and pending goals."""
        self._stop()
        result = super().on_deactivate(state)
        if self._error:
            return TransitionCallbackReturn.ERROR
        self._state_name = 'inactive'
        return result

    @reported
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the model."""
        self._release()
        return super().on_cleanup(state)

    @reported
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything."""
        self._release()
        self._state_name = 'finalized'
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Recover from a transition that raised: the node becomes unconfigured again."""
        self._release()
        super().on_deactivate(state)
        self.get_logger().error(f'{self._error}; the node is unconfigured again')
        return SUCCESS

    def fail(self, error: str) -> None:
        """Keep the error that stops the node; the caller then triggers an error transition."""
        self._error = error

    def destroy_node(self) -> None:
        """Stop the worker, then destroy the publishers."""
        self._stop()
        self._publisher.close()
        super().destroy_node()

    def end(self) -> None:
        """Deactivate, so that open events and pending goals end."""
        if self._session is not None:
            self.trigger_deactivate()

    def _stop(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _release(self) -> None:
        self._stop()
        self._bundle = self._encoder = None
        self._state_name = 'unconfigured'

    def _change(self, values: dict[str, Any], changed: list[Parameter]) -> None:
        """Apply changed parameters: live ones now, others when the node is configured again."""
        output = OutputSettings.from_values(values)
        if self._session is not None:
            self._session.change(self._in_effect(values))
        elif self._bundle is not None:
            output.check(self._bundle, [camera.name for camera in self._cameras])
        later = [parameter.name for parameter in changed if not parameter.live]
        if later and self._bundle is not None:
            self.get_logger().warning(
                f'{", ".join(later)}: takes effect when the node is configured again'
            )

    def _in_effect(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters in effect: live ones as set, the others as when configured."""
        live = {each.name: values[each.name] for each in PARAMETERS if each.live}
        return {**self._configured, **live}

    def _crash(self, error: Exception) -> None:
        """Keep the error that ended the worker or publisher thread; called in that thread."""
        self.fail(f'the worker stopped with {type(error).__name__}: {error}')
        call_soon(self, self._deactivate_after_crash)

    def _deactivate_after_crash(self) -> None:
        if self._session is not None:
            self.trigger_deactivate()

    def _diagnose(self) -> None:
        now = self.get_clock().now()
        name = self.get_fully_qualified_name()
        statuses = [node_status(name, self._state_name, error=self._error)]
        if self._session is not None:
            statuses += self._session.diagnostics.statuses(now.nanoseconds)
        self._diagnostics.publish(diagnostics_message(statuses, now.to_msg()))


def _run(node: PerceptionNode, stop: threading.Event) -> None:
    executor, description = create_executor(node.get_parameter('executor').value)
    node.get_logger().info(f'executor: {description}')
    executor.add_node(node)
    if node.autostart and node.trigger_configure() == SUCCESS:
        node.trigger_activate()
    # Exclude all objects so far from garbage collection: walking through all of torch takes a
    # quarter of a second. By default, small collections run a hundred times a second for nothing.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)
    while not stop.is_set():
        executor.spin_once(timeout_sec=SPIN_PERIOD)
    node.end()
    # The executor still has to send the results of goals that were pending.
    until = time.monotonic() + LAST_SPIN_SECONDS
    while time.monotonic() < until:
        executor.spin_once(timeout_sec=LAST_SPIN_SECONDS)


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted.

    Returns:
        Exit code: 0, or 1 after an error in the arguments, which is logged in one line.
    """
    keep_freed_memory()
    return run_node('perception', PerceptionNode, _run, args=args, expected=(ExecutorError,))
