# SPDX-License-Identifier: Apache-2.0
"""The action server `~/wait_for_action`: each client waits for an event that matches its goal."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from step_ros.action import WaitForAction
from step_ros.model.bundle_schema import TaskSpec
from step_ros.ros.conversion import event_message, to_duration, to_nanoseconds
from step_ros.ros.executors import call_soon
from step_ros.streaming.liveness import StaleCameraDetector
from step_ros.streaming.pipeline import PostprocessedHypothesis
from step_ros.streaming.postprocessing.event_goal import ActionWait, WaitGoal
from step_ros.streaming.postprocessing.events import Event

# Seconds between two feedback messages, and between two checks of timeouts.
TICK = 0.1

Result = WaitForAction.Result


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    reason: int
    message: str
    event: Event | None = None


_DEACTIVATED = _Outcome(reason=Result.PREEMPTED, message='the node was deactivated')


class _PendingGoal:
    """An accepted goal without a result.

    Attributes:
        handle: The goal in rclpy.
        wait: Finds the event that matches it.
        accepted_ns: When it was accepted, by the node's clock.
        timeout_ns: Longest time to wait; 0 for none.
        outcome: How the goal ends; None while it waits.
    """

    def __init__(self, handle: ServerGoalHandle, wait: ActionWait, *, accepted_ns: int) -> None:
        self.handle, self.wait, self.accepted_ns = handle, wait, accepted_ns
        self.timeout_ns = to_nanoseconds(handle.request.timeout)
        self.outcome: _Outcome | None = None


@dataclass(frozen=True, kw_only=True)
class _ActiveStream:
    """The tasks, cameras and events that goals may ask for while the node is active."""

    tasks: Sequence[TaskSpec]
    cameras: Sequence[str]
    open_events: Callable[[], list[Event]]
    watch: StaleCameraDetector


class WaitServer:
    """Serves `WaitForAction` for a node.

    The executor's thread accepts goals, sends feedback and ends goals. The publisher thread only
    looks for matches. A goal is executed once its outcome is known, so that no number of pending
    goals blocks the executor.

    Args:
        node: The node.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._pending: list[_PendingGoal] = []
        self._stream: _ActiveStream | None = None
        self._server = ActionServer(
            node,
            WaitForAction,
            '~/wait_for_action',
            execute_callback=self._no_outcome,
            goal_callback=self._on_goal,
            handle_accepted_callback=self._on_accepted,
            cancel_callback=self._on_cancel,
        )
        # By the steady clock: clients may cancel while simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(TICK, self._on_tick, clock=steady)

    def activate(
        self,
        *,
        tasks: Sequence[TaskSpec],
        cameras: Sequence[str],
        open_events: Callable[[], list[Event]],
        watch: StaleCameraDetector,
    ) -> None:
        """Start to accept goals.

        Args:
            tasks: The tasks of the bundle.
            cameras: Names of the cameras, as in the hypotheses.
            open_events: Returns the open events.
            watch: Finds lost cameras.
        """
        self._stream = _ActiveStream(
            tasks=tasks,
            cameras=cameras,
            open_events=open_events,
            watch=watch,
        )

    def deactivate(self) -> None:
        """Stop accepting goals, and end the pending ones."""
        self._stream = None
        with self._lock:
            for pending in self._pending:
                pending.outcome = pending.outcome or _DEACTIVATED
        self._end_goals()

    def update(self, processed: PostprocessedHypothesis) -> None:
        """Match a hypothesis and its events with the goals; called in the publisher thread."""
        found = False
        with self._lock:
            for pending in self._pending:
                event = pending.wait.add_hypothesis(processed.hypothesis, processed.open_events)
                if event is not None and pending.outcome is None:
                    pending.outcome = _Outcome(
                        reason=Result.FOUND,
                        message=f'{event.label!r} on camera {event.camera!r}',
                        event=event,
                    )
                    found = True
        if found:
            call_soon(self._node, self._end_goals)

    def close(self) -> None:
        """Destroy the action server and its timer."""
        self._node.destroy_timer(self._timer)
        self._server.destroy()

    @property
    def pending(self) -> int:
        """Number of pending goals."""
        return len(self._pending)

    def _on_goal(self, request: WaitForAction.Goal) -> GoalResponse:
        if self._stream is None:
            self._node.get_logger().warning(
                'wait_for_action: goal rejected, the node is not active'
            )
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _on_accepted(self, handle: ServerGoalHandle) -> None:
        stream = self._stream
        goal, outcome = WaitGoal(), None
        try:
            goal = _wait_goal(handle.request)
            if stream is not None:
                goal.check_names(stream.tasks, stream.cameras)
        except ValueError as error:
            # Accepted all the same: a rejection carries no reason, a result does.
            outcome = _Outcome(reason=Result.INVALID, message=str(error))
            self._node.get_logger().warning(f'wait_for_action: goal is invalid: {error}')
        if stream is None:
            outcome = _DEACTIVATED
        current = [] if stream is None else stream.open_events()
        pending = _PendingGoal(handle, ActionWait(goal, current), accepted_ns=self._now_ns())
        pending.outcome = outcome
        with self._lock:
            self._pending.append(pending)
        call_soon(self._node, self._end_goals)

    def _on_cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        # The next tick ends the goal, once its handle is in the state CANCELING.
        return CancelResponse.ACCEPT

    def _on_tick(self) -> None:
        now_ns = self._now_ns()
        stream = self._stream
        lost = frozenset() if stream is None else stream.watch.lost(now_ns)
        with self._lock:
            for pending in self._pending:
                pending.outcome = pending.outcome or self._outcome_by_clock(pending, now_ns, lost)
                if pending.outcome is None:
                    pending.handle.publish_feedback(_feedback(pending, now_ns))
        self._end_goals()

    def _outcome_by_clock(
        self, pending: _PendingGoal, now_ns: int, lost: frozenset[str]
    ) -> _Outcome | None:
        if pending.handle.is_cancel_requested:
            return _Outcome(reason=Result.CANCELED, message='canceled by the client')
        # The clock jumped back: a looped bag or a restarted simulation.
        pending.accepted_ns = min(pending.accepted_ns, now_ns)
        waited_ns = now_ns - pending.accepted_ns
        if 0 < pending.timeout_ns <= waited_ns:
            return _Outcome(
                reason=Result.TIMEOUT,
                message=f'no event matched within {pending.timeout_ns / 1e9:g} s',
            )
        stream, camera = self._stream, pending.wait.goal.camera
        if stream is None or not lost >= ({camera} if camera else set(stream.cameras)):
            return None
        # A goal accepted while the camera is already lost gets the whole stream_timeout, too.
        if waited_ns < stream.watch.timeout_ns:
            return None
        which = f'camera {camera!r}' if camera else 'any camera'
        return _Outcome(
            reason=Result.STREAM_LOST,
            message=f'no frame from {which} for {stream.watch.timeout_ns / 1e9:g} s',
        )

    def _end_goals(self) -> None:
        with self._lock:
            ended = [pending for pending in self._pending if pending.outcome is not None]
            self._pending = [pending for pending in self._pending if pending.outcome is None]
        for pending in ended:
            outcome = pending.outcome
            assert outcome is not None
            pending.handle.execute(lambda handle, outcome=outcome: _end(handle, outcome))

    def _no_outcome(self, handle: ServerGoalHandle) -> WaitForAction.Result:
        # `execute` is always called with the function that ends the goal.
        raise AssertionError('a goal was executed without its outcome')

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)


def _wait_goal(request: WaitForAction.Goal) -> WaitGoal:
    return WaitGoal(
        task=request.task,
        labels=frozenset(request.labels),
        camera=request.camera,
        minimum_score=request.minimum_score,
        minimum_order_evidence=request.minimum_order_evidence,
        minimum_duration_ns=to_nanoseconds(request.minimum_duration),
        include_current=request.include_current,
    )


def _feedback(pending: _PendingGoal, now_ns: int) -> WaitForAction.Feedback:
    feedback = WaitForAction.Feedback(waited=to_duration(max(0, now_ns - pending.accepted_ns)))
    best = pending.wait.best
    if best is not None:
        feedback.camera, feedback.task, feedback.label = best.camera, best.task, best.label
        feedback.score, feedback.order_evidence = best.score, best.order_evidence
        feedback.held = to_duration(best.held_ns)
    return feedback


def _end(handle: ServerGoalHandle, outcome: _Outcome) -> WaitForAction.Result:
    if outcome.reason == Result.FOUND:
        handle.succeed()
    elif handle.is_cancel_requested:
        handle.canceled()
    else:
        handle.abort()
    result = WaitForAction.Result(reason=outcome.reason, message=outcome.message)
    if outcome.event is not None:
        result.event = event_message(outcome.event)
    return result
