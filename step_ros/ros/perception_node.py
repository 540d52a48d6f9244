"""The perception node: images in, hypotheses out, as a managed (lifecycle) node.

configure loads the bundle; activate subscribes and starts the worker; deactivate, cleanup and
shutdown undo that. A bundle that cannot be loaded leaves the node unconfigured and alive, to be
configured again with another one.
"""

import functools
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from step_ros.model.bundle import Bundle, load_bundle
from step_ros.model.bundle_files import BundleError
from step_ros.msg import ActionHypothesis, ModelInfo
from step_ros.resources import find_bundle, load_defaults
from step_ros.ros.conversion import hypothesis_message, model_info_message
from step_ros.ros.diagnostics import Diagnostics
from step_ros.ros.executors import ExecutorError, create_executor
from step_ros.ros.freed_memory import keep_freed_memory
from step_ros.ros.node_main import run_node
from step_ros.ros.parameters import declare_parameters, parameter_values
from step_ros.ros.perception_parameters import DEFAULTS_FILE, NOT_CONFIGURED, PARAMETERS
from step_ros.ros.qos import LATCHED
from step_ros.ros.subscriptions import Camera, ImageSubscriptions, choose_cameras
from step_ros.ros.warnings import RepeatedWarnings
from step_ros.ros.worker import Worker
from step_ros.stream.encoder import TorchEncoder, choose_device
from step_ros.stream.frame import Frame, FrameProblem
from step_ros.stream.hypothesis import Hypothesis
from step_ros.stream.recogniser import StreamingRecogniser

# Hypotheses are few and small: a subscriber that is slow for a moment should not lose any.
HYPOTHESIS_DEPTH = 10
DIAGNOSTICS_PERIOD = 1.0
# How soon the node notices that it is to end, in seconds.
SPIN_PERIOD = 0.2

SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE

Transition = Callable[['PerceptionNode', LifecycleState], TransitionCallbackReturn]


def reported(transition: Transition) -> Transition:
    """Say why a transition raised: rclpy turns the exception into an error and drops its text."""

    @functools.wraps(transition)
    def wrapped(node: 'PerceptionNode', state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:
            node.get_logger().error(f'{transition.__name__}: {type(error).__name__}: {error}')
            raise

    return wrapped


class PerceptionNode(LifecycleNode):
    """Tells what the person in front of the cameras does.

    Publishes `~/hypotheses` (`ActionHypothesis`) while active, `~/model_info` (`ModelInfo`,
    latched) on configuring, and `/diagnostics` once a second while active.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('perception', **options)
        self._bundle: Bundle | None = None
        self._device = torch.device('cpu')
        self._cameras: list[Camera] = []
        self._values: dict[str, Any] = {}
        self._worker: Worker | None = None
        self._image_subscriptions: ImageSubscriptions | None = None
        self._diagnostics_timer: Any = None
        declare_parameters(self, PARAMETERS, load_defaults(DEFAULTS_FILE))
        self._hypotheses = self.create_lifecycle_publisher(
            ActionHypothesis, '~/hypotheses', HYPOTHESIS_DEPTH
        )
        self._model_info = self.create_publisher(ModelInfo, '~/model_info', LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)

    @property
    def autostart(self) -> bool:
        """Whether the node configures and activates itself."""
        return bool(self.get_parameter('autostart').value)

    @reported
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the bundle, warm the model up and say what it decides."""
        self._values = parameter_values(self, PARAMETERS)
        try:
            self._cameras = choose_cameras(
                self._values['cameras'], self._values['image_topics'], self._values['transport']
            )
            self._device = choose_device(self._values['device'])
            if self._values['threads']:
                torch.set_num_threads(self._values['threads'])
            self._bundle = load_bundle(find_bundle(self._values['bundle']))
            self._warm_up()
        except (ValueError, FileNotFoundError, BundleError) as error:
            self.get_logger().error(f'{NOT_CONFIGURED}: {error}')
            self._bundle = None
            return FAILURE
        now_ns = self.get_clock().now().nanoseconds
        self._model_info.publish(
            model_info_message(self._bundle, stamp_ns=now_ns, device=str(self._device))
        )
        spec = self._bundle.spec
        self.get_logger().info(
            f'configured: {self._bundle.model_id} on {self._device}; tasks '
            + ', '.join(f'{task.name} ({len(task.labels)})' for task in spec.tasks)
            + f'; window of {spec.frames} frames, one every {spec.frame_period:g} s'
        )
        return super().on_configure(state)

    @reported
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras and start the worker."""
        result = super().on_activate(state)
        if result != SUCCESS:
            return result
        warnings = RepeatedWarnings(self.get_logger().warning, period=self._values['warn_period'])

        def on_problem(problem: FrameProblem) -> None:
            warnings.add(problem.camera, problem.cause, problem.detail)

        recogniser = self._recogniser()
        for camera in self._cameras:
            # All memory is taken now; none later, however long the node runs.
            recogniser.prepare(camera.name)
        self._worker = Worker(
            recogniser,
            queue_size=self._values['queue_size'],
            on_hypothesis=self._publish,
            on_problem=on_problem,
            on_failure=self._report_failure,
        )
        self._worker.start()
        self._image_subscriptions = ImageSubscriptions(
            self,
            self._cameras,
            reliability=self._values['reliability'],
            take=self._worker.put,
            refuse=self._worker.refuse,
        )
        self._diagnostics_timer = self.create_timer(DIAGNOSTICS_PERIOD, self._diagnose())
        self.get_logger().info(
            'active: ' + ', '.join(f'{camera.name} on {camera.topic}' for camera in self._cameras)
        )
        return SUCCESS

    @reported
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and stop the worker."""
        self._stop()
        return super().on_deactivate(state)

    @reported
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let the model go."""
        self._stop()
        self._bundle = None
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let everything go."""
        self._stop()
        self._bundle = None
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Recover from a transition that raised: back to unconfigured, ready to be configured."""
        self.get_logger().error('a transition failed; the node is unconfigured again')
        self._stop()
        self._bundle = None
        return SUCCESS

    def destroy_node(self) -> None:
        """Stop the worker before the publishers go."""
        self._stop()
        super().destroy_node()

    def _stop(self) -> None:
        if self._image_subscriptions is not None:
            self._image_subscriptions.close()
            self._image_subscriptions = None
        if self._diagnostics_timer is not None:
            self.destroy_timer(self._diagnostics_timer)
            self._diagnostics_timer = None
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def _recogniser(self) -> StreamingRecogniser:
        assert self._bundle is not None
        return StreamingRecogniser(
            self._bundle,
            TorchEncoder(self._bundle.model.backbone, device=self._device),
            order_tolerance=self._values['order_tolerance'],
            max_gap=self._values['max_gap'] or None,
            jump_back=self._values['jump_back'],
            order_evidence=self._values['order_evidence'],
            memory_budget=self._values['memory_budget'] * 2**20,
        )

    def _warm_up(self) -> None:
        """Run a whole window once, so that the first real one is not late."""
        assert self._bundle is not None
        spec = self._bundle.spec
        black_hw3 = np.zeros((spec.image.height, spec.image.width, 3), dtype=np.uint8)
        recogniser = self._recogniser()
        period_ns = recogniser.settings.frame_period_ns
        for index in range(spec.frames):
            recogniser.process(
                [Frame(camera='', stamp_ns=1 + index * period_ns, load=lambda: black_hw3)]
            )

    def _diagnose(self) -> Callable[[], None]:
        assert self._bundle is not None
        assert self._worker is not None
        diagnostics = Diagnostics(
            self.get_fully_qualified_name(),
            self._worker,
            cameras=[camera.name for camera in self._cameras],
            frames=self._bundle.spec.frames,
            about={'model_id': self._bundle.model_id, 'device': self._device},
        )
        return lambda: self._diagnostics.publish(
            diagnostics.message(self.get_clock().now().to_msg())
        )

    def _publish(self, hypothesis: Hypothesis) -> None:
        assert self._bundle is not None
        self._hypotheses.publish(
            hypothesis_message(
                hypothesis, model_id=self._bundle.model_id, top_k=self._values['top_k']
            )
        )

    def _report_failure(self, error: Exception) -> None:
        self.get_logger().error(
            f'the model failed on a batch, its frames are lost and the windows restart: '
            f'{type(error).__name__}: {error}',
            throttle_duration_sec=self._values['warn_period'],
        )


def _run(node: PerceptionNode, stop: threading.Event) -> None:
    executor, which = create_executor(node.get_parameter('executor').value)
    node.get_logger().info(f'executor: {which}')
    executor.add_node(node)
    if node.autostart and node.trigger_configure() == SUCCESS:
        node.trigger_activate()
    while not stop.is_set():
        executor.spin_once(timeout_sec=SPIN_PERIOD)


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted.

    Returns:
        0; or 1 after one line on what was wrong.
    """
    keep_freed_memory()
    return run_node('perception', PerceptionNode, _run, args=args, expected=(ExecutorError,))


if __name__ == '__main__':
    sys.exit(main())
