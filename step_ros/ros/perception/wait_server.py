# SPDX-License-Identifier: Apache-2.0
"""The action server `~/wait_for_action`: each client waits for an event that matches its goal."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile

from step_ros.action import WaitForAction
from step_ros.model.bundle_schema import TaskSpec
from step_ros.ros.conversion import event_message, to_duration, to_nanoseconds
from step_ros.ros.executors import call_soon
from step_ros.ros.perception.goal_clients import ActionClients, GoalClients
from step_ros.streaming.liveness import StaleCameraDetector
from step_ros.streaming.pipeline import PostprocessedHypothesis
from step_ros.streaming.postprocessing.event_goal import ActionWait, StartLimits, WaitGoal
from step_ros.streaming.postprocessing.events import Event

ACTION = '~/wait_for_action'
# Seconds between two feedback messages, and between two checks of timeouts.
TICK = 0.1
# Goals that may wait at once. Each transition of a goal publishes the states of all goals, so
# that the cost of a burst grows with the square of its size.
MAX_GOALS = 100
# Requests that wait for the executor; the middleware drops the oldest beyond them.
REQUEST_DEPTH = 2000
# Feedback messages in a tick, for all goals together: many goals share them in turn.
FEEDBACK_PER_TICK = 5
# Goals that end in a tick. The queue of a client keeps ten results: others would be lost when one
# event ends many goals.
RESULTS_PER_TICK = 5
# Seconds between two feedback messages of a goal about which nothing is new.
FEEDBACK_PERIOD = 1.0
# Seconds between two checks for clients that are gone.
CLIENTS_PERIOD = 1.0
# Seconds between two warnings about rejected goals.
LOG_PERIOD = 1.0

Result = WaitForAction.Result


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    reason: int
    message: str
    event: Event | None = None


_DEACTIVATED = _Outcome(reason=Result.PREEMPTED, message='the node was deactivated')
_CLIENT_GONE = _Outcome(reason=Result.PREEMPTED, message='the client of the goal is gone')
_CROWDED_OUT = _Outcome(
    reason=Result.PREEMPTED,
    message=f'more than {MAX_GOALS} goals wait, and a client that may have sent this one is gone',
)


class _PendingGoal:
    """An accepted goal without a result.

    Attributes:
        handle: The goal in rclpy.
        wait: Finds the event that matches it.
        clients: The clients that may have sent it.
        accepted_ns: When it was accepted, by the node's clock.
        outcome: How the goal ends; None while it waits.
        feedback_at: When the last feedback was sent, in seconds of the monotonic clock.
    """

    def __init__(
        self,
        handle: ServerGoalHandle,
        wait: ActionWait,
        *,
        clients: GoalClients,
        accepted_ns: int,
        outcome: _Outcome | None,
    ) -> None:
        self.handle, self.wait, self.clients = handle, wait, clients
        self.accepted_ns, self.outcome = accepted_ns, outcome
        self.feedback_at = -FEEDBACK_PERIOD
        self._feedback_updates = 0

    def is_feedback_due(self, now: float) -> bool:
        """Return whether a hypothesis is new, or the last feedback is old."""
        is_new = self.wait.updates != self._feedback_updates
        return is_new or now - self.feedback_at >= FEEDBACK_PERIOD

    def publish_feedback(self, now: float, now_ns: int) -> None:
        """Publish the goal's best candidate."""
        self.feedback_at, self._feedback_updates = now, self.wait.updates
        self.handle.publish_feedback(_feedback(self, now_ns))


@dataclass(frozen=True, kw_only=True)
class _ActiveStream:
    """The tasks, cameras and events that goals may ask for while the node is active."""

    tasks: Sequence[TaskSpec]
    cameras: Sequence[str]
    open_events: Callable[[], list[Event]]
    watch: StaleCameraDetector
    limits: StartLimits


class WaitServer:
    """Serves `WaitForAction` for a node.

    The executor's thread accepts goals, sends feedback and ends goals. The publisher thread only
    looks for matches. A goal is executed once its outcome is known, so that pending goals do not
    block the executor. At most `MAX_GOALS` goals wait; the server rejects a goal beyond them.

    Args:
        node: The node.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._pending: list[_PendingGoal] = []
        self._results_left = RESULTS_PER_TICK
        self._stream: _ActiveStream | None = None
        self._clients = ActionClients(node, ACTION)
        self._present: frozenset[bytes] = frozenset()
        self._present_at = float('-inf')
        requests = QoSProfile(depth=REQUEST_DEPTH)
        self._server = ActionServer(
            node,
            WaitForAction,
            ACTION,
            goal_service_qos_profile=requests,
            result_service_qos_profile=requests,
            cancel_service_qos_profile=requests,
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
        limits: StartLimits = StartLimits(),  # noqa: B008 - immutable
    ) -> None:
        """Start to accept goals.

        Args:
            tasks: The tasks of the bundle.
            cameras: Names of the cameras, as in the hypotheses.
            open_events: Returns the open events.
            watch: Finds lost cameras.
            limits: The settings that keep some events from starting.
        """
        self._stream = _ActiveStream(
            tasks=tasks,
            cameras=cameras,
            open_events=open_events,
            watch=watch,
            limits=limits,
        )

    def change(self, limits: StartLimits) -> None:
        """Use other settings, and end the goals that no event can meet any more."""
        stream = self._stream
        if stream is None:
            return
        self._stream = replace(stream, limits=limits)
        with self._lock:
            for pending in self._pending:
                try:
                    pending.wait.goal.check_can_start(stream.tasks, limits)
                except ValueError as error:
                    invalid = _Outcome(reason=Result.INVALID, message=str(error))
                    pending.outcome = pending.outcome or invalid
        self._end_goals()

    def deactivate(self) -> None:
        """Stop accepting goals, and end the pending ones."""
        self._stream = None
        with self._lock:
            for pending in self._pending:
                pending.outcome = pending.outcome or _DEACTIVATED
            # All at once: the node may be about to exit.
            self._results_left = len(self._pending)
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
            self._refuse('the node is not active')
            return GoalResponse.REJECT
        if len(self._pending) >= MAX_GOALS and not self._make_room():
            self._refuse(f'{MAX_GOALS} goals wait already; cancel those that are not needed')
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _refuse(self, reason: str) -> None:
        self._node.get_logger().warning(
            f'wait_for_action: goal rejected, {reason}', throttle_duration_sec=LOG_PERIOD
        )

    def _make_room(self) -> bool:
        """End the oldest goal whose client may be gone; return whether there is one."""
        with self._lock:
            for pending in self._pending:
                if pending.outcome is None and pending.clients.some_gone:
                    pending.outcome = _CROWDED_OUT
                    break
            else:
                return False
        self._end_goals()
        return True

    def _on_accepted(self, handle: ServerGoalHandle) -> None:
        stream = self._stream
        goal, outcome = WaitGoal(), None
        try:
            goal = _wait_goal(handle.request)
            if stream is not None:
                goal.check_names(stream.tasks, stream.cameras)
                goal.check_can_start(stream.tasks, stream.limits)
        except ValueError as error:
            # Accepted all the same: a rejection carries no reason, a result does.
            outcome = _Outcome(reason=Result.INVALID, message=str(error))
            self._node.get_logger().warning(f'wait_for_action: goal is invalid: {error}')
        if stream is None:
            outcome = _DEACTIVATED
        now = time.monotonic()
        pending = _PendingGoal(
            handle,
            ActionWait(goal, [] if stream is None else stream.open_events()),
            clients=GoalClients(self._present_clients(now, TICK), now),
            accepted_ns=self._now_ns(),
            outcome=outcome,
        )
        with self._lock:
            self._pending.append(pending)
        call_soon(self._node, self._end_goals)

    def _on_cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        # The next tick ends the goal, once its handle is in the state CANCELING.
        return CancelResponse.ACCEPT

    def _on_tick(self) -> None:
        self._results_left = RESULTS_PER_TICK
        if not self._pending:
            return
        now, now_ns = time.monotonic(), self._now_ns()
        stream = self._stream
        lost = frozenset() if stream is None else stream.watch.lost(now_ns)
        present = self._present_clients(now, CLIENTS_PERIOD)
        with self._lock:
            for pending in self._pending:
                pending.clients.update(present, now)
                pending.outcome = pending.outcome or self._outcome_by_clock(pending, now_ns, lost)
            due = [
                pending
                for pending in self._pending
                if pending.outcome is None and pending.is_feedback_due(now)
            ]
            due.sort(key=lambda pending: pending.feedback_at)
            for pending in due[:FEEDBACK_PER_TICK]:
                pending.publish_feedback(now, now_ns)
        self._end_goals()

    def _present_clients(self, now: float, period: float) -> frozenset[bytes]:
        """Return the clients at present, or those of at most a period ago in seconds."""
        if now - self._present_at >= period:
            self._present, self._present_at = self._clients.present(), now
        return self._present

    def _outcome_by_clock(
        self, pending: _PendingGoal, now_ns: int, lost: frozenset[str]
    ) -> _Outcome | None:
        if pending.handle.is_cancel_requested:
            return _Outcome(reason=Result.CANCELED, message='canceled by the client')
        if pending.clients.all_gone:
            self._node.get_logger().info(
                'wait_for_action: a goal ends, because its client is gone'
            )
            return _CLIENT_GONE
        # The clock jumped back: a looped bag or a restarted simulation.
        pending.accepted_ns = min(pending.accepted_ns, now_ns)
        waited_ns = now_ns - pending.accepted_ns
        timeout_ns = pending.wait.goal.timeout_ns
        if 0 < timeout_ns <= waited_ns:
            return _Outcome(
                reason=Result.TIMEOUT,
                message=f'no event matched within {timeout_ns / 1e9:g} s',
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
            known = [pending for pending in self._pending if pending.outcome is not None]
            ended = known[: self._results_left]
            self._results_left -= len(ended)
            self._pending = [pending for pending in self._pending if pending not in ended]
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
        timeout_ns=to_nanoseconds(request.timeout),
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
