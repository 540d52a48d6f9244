# SPDX-License-Identifier: Apache-2.0
"""The perception node: a managed (lifecycle) node from images to hypotheses.

configure loads the bundle. activate subscribes and starts the worker. deactivate, cleanup and
shutdown undo that. After a bundle that cannot be loaded the node keeps running, unconfigured; it
can be configured with another bundle.

rclpy runs a transition without a break, in the executor's thread. So a request to configure loads
the model first, in a thread, while the node is still unconfigured. The transition comes after it
and takes no time:

    change_state request --> BackgroundLoading (seconds) --> on_configure --> response
                             executor goes on meanwhile
"""

import functools
import gc
import threading
import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition as TransitionId
from lifecycle_msgs.srv import ChangeState
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.task import Future

from step_ros.msg import ModelInfo
from step_ros.resources import load_defaults
from step_ros.ros.conversion import model_info_message
from step_ros.ros.executors import ExecutorError, call_soon, create_executor
from step_ros.ros.parameters import Parameter, declare_parameters, parameter_values
from step_ros.ros.perception.diagnostics import diagnostics_message, node_status
from step_ros.ros.perception.model_loading import (
    NOT_LOADED,
    BackgroundLoading,
    LoadedModel,
    load_model,
)
from step_ros.ros.perception.parameters import DEFAULTS_FILE, NOT_CONFIGURED, PARAMETERS
from step_ros.ros.perception.pipeline import PerceptionSession
from step_ros.ros.perception.publishers import HypothesisPublisher, OutputSettings
from step_ros.ros.process_setup import keep_freed_memory
from step_ros.ros.qos import LATCHED
from step_ros.ros.runner import run_node
from step_ros.streaming.settings import StreamSettings

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
        # The parameters in it are those that are not live: they keep their values.
        self._model: LoadedModel | None = None
        self._loading: BackgroundLoading | None = None
        self._session: PerceptionSession | None = None
        self._state_name, self._error = 'unconfigured', ''
        self._publisher = HypothesisPublisher(self)
        declare_parameters(self, PARAMETERS, load_defaults(DEFAULTS_FILE), change=self._change)
        self._model_info = self.create_publisher(ModelInfo, '~/model_info', LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # By the steady clock: diagnostics must come while simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(DIAGNOSTICS_PERIOD, self._diagnose, clock=steady)
        service = self._service_change_state
        self._change_state_now = service.callback
        service.callback = self._change_state
        # In rclpy's default group, a request that waits for the model would hold up all others.
        service.callback_group = ReentrantCallbackGroup()
        service.callback_group.add_entity(service)

    @property
    def autostart(self) -> bool:
        """Whether the node configures and activates itself."""
        return bool(self.get_parameter('autostart').value)

    async def start_up(self) -> None:
        """Configure, as a service request does, and activate if that has succeeded."""
        if await self._load():
            self.trigger_configure()
        if self._state_name == 'inactive':
            self.trigger_activate()

    @reported
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take the model that was loaded, or load it now, and publish its tasks and labels."""
        loading, self._loading = self._loading, None
        try:
            if loading is None:
                model = load_model(parameter_values(self, PARAMETERS), self._report_step)
            else:
                model = loading.take()
        except NOT_LOADED as error:
            self.fail(f'{NOT_CONFIGURED}: {error}')
            self.get_logger().error(self._error)
            self._release()
            return FAILURE
        self._model = model
        self._model_info.publish(
            model_info_message(
                model.bundle,
                model.encoder,
                model_id=model.model_id,
                stamp_ns=self.get_clock().now().nanoseconds,
            )
        )
        spec = model.bundle.spec
        self.get_logger().info(
            f'configured: {model.model_id} with {model.encoder.description}; tasks '
            + ', '.join(f'{task.name} ({len(task.labels)})' for task in spec.tasks)
            + f'; window of {spec.frames} frames, one every {spec.frame_period:g} s'
        )
        self._state_name, self._error = 'inactive', ''
        return super().on_configure(state)

    @reported
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras and start the worker."""
        model = self._model
        assert model is not None
        result = super().on_activate(state)
        if result != SUCCESS:
            return result
        values = self._in_effect(parameter_values(self, PARAMETERS))
        about = {
            'model_id': model.model_id,
            'device': model.encoder.device,
            'runtime': model.encoder.description,
        }
        # Cleared before the worker starts, which may crash at once.
        self._error = ''
        try:
            self._session = PerceptionSession(
                self,
                StreamSettings.from_values(values).recogniser(model.bundle, model.encoder),
                cameras=model.cameras,
                publisher=self._publisher,
                values=values,
                about=about,
                on_crash=self._crash,
            )
        except ValueError as error:
            self.fail(f'not activated: {error}')
            self.get_logger().error(self._error)
            super().on_deactivate(state)
            return FAILURE
        self._state_name = 'active'
        topics = [
            f'{camera.name} on {self.resolve_topic_name(camera.topic)}' for camera in model.cameras
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
        self.get_logger().info('deactivated: unsubscribed, the worker has stopped')
        return result

    @reported
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the model."""
        self._release()
        self._error = ''
        self.get_logger().info('cleaned up: the model is released')
        return super().on_cleanup(state)

    @reported
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything."""
        self._release()
        self._state_name, self._error = 'finalized', ''
        self.get_logger().info('shut down: this node cannot be configured again')
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
        self._model = self._loading = None
        self._state_name = 'unconfigured'

    def _change(self, values: dict[str, Any], changed: list[Parameter]) -> None:
        """Apply changed parameters: live ones now, others when the node is configured again."""
        output = OutputSettings.from_values(values)
        if self._session is not None:
            self._session.change(self._in_effect(values))
        elif self._model is not None:
            output.check(self._model.bundle, [camera.name for camera in self._model.cameras])
        later = [parameter.name for parameter in changed if not parameter.live]
        if later and (self._model is not None or self._loading is not None):
            self.get_logger().warning(
                f'{", ".join(later)}: takes effect when the node is configured again'
            )

    def _in_effect(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters in effect: live ones as set, the others as when configured."""
        live = {each.name: values[each.name] for each in PARAMETERS if each.live}
        assert self._model is not None
        return {**self._model.values, **live}

    async def _change_state(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        """Make a transition on request; before configuring, load the model in a thread."""
        wanted = request.transition
        configures = wanted.label == 'configure' or (
            not wanted.label and wanted.id == TransitionId.TRANSITION_CONFIGURE
        )
        if configures and self._state_name == 'unconfigured' and not await self._load():
            response.success = self._state_name in ('inactive', 'active')
            return response
        return self._change_state_now(request, response)

    async def _load(self) -> bool:
        """Load the model in a thread; if it is being loaded, wait for that.

        Returns:
            Whether the caller must make the transition. Otherwise another request, for example
            the first one of a client that repeats it, has done so, or the node was shut down.
        """
        loading = self._loading
        if loading is None:
            loading = self._loading = BackgroundLoading(
                parameter_values(self, PARAMETERS),
                log=self.get_logger().info,
                done=Future(executor=self.executor),
            )
        await loading.done
        return self._loading is loading

    def _report_step(self, step: str) -> None:
        self.get_logger().info(f'configuring: {step}')

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
        progress = '' if self._loading is None else self._loading.progress
        statuses = [node_status(name, self._state_name, error=self._error, progress=progress)]
        if self._session is not None:
            statuses += self._session.diagnostics.statuses(now.nanoseconds)
        self._diagnostics.publish(diagnostics_message(statuses, now.to_msg()))


def _run(node: PerceptionNode, stop: threading.Event) -> None:
    executor, description = create_executor(node.get_parameter('executor').value)
    node.get_logger().info(f'executor: {description}')
    executor.add_node(node)
    if node.autostart:
        started = executor.create_task(node.start_up)
        while not started.done() and not stop.is_set():
            executor.spin_once(timeout_sec=SPIN_PERIOD)
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
