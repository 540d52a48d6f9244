"""The action server `~/wait_for_action`: many clients, each waiting for an event of its own."""

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

# How often feedback is sent and clocks are looked at, in seconds.
TICK = 0.1

Result = WaitForAction.Result


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    reason: int
    message: str
    event: Event | None = None


_DEACTIVATED = _Outcome(reason=Result.PREEMPTED, message='the node was deactivated')


class _Waiting:
    """A goal that has been accepted."""

    def __init__(self, handle: ServerGoalHandle, wait: ActionWait, *, accepted_ns: int) -> None:
        self.handle, self.wait, self.accepted_ns = handle, wait, accepted_ns
        self.timeout_ns = to_nanoseconds(handle.request.timeout)
        self.outcome: _Outcome | None = None


@dataclass(frozen=True, kw_only=True)
class _Stream:
    """What there is to wait for while the node is active."""

    tasks: Sequence[TaskSpec]
    cameras: Sequence[str]
    open_events: Callable[[], list[Event]]
    watch: StaleCameraDetector


class WaitServer:
    """Serves `WaitForAction` for a node.

    Goals are accepted, ended and given feedback in the executor's thread; the teller's thread
    only looks for matches. A goal is executed when its result is there, so that none blocks the
    executor, however many wait.

    Args:
        node: The node.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._stream: _Stream | None = None
        self._server = ActionServer(
            node,
            WaitForAction,
            '~/wait_for_action',
            execute_callback=self._result,
            goal_callback=self._accept,
            handle_accepted_callback=self._begin,
            cancel_callback=self._cancel,
        )
        # Clients may cancel while simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(TICK, self._tick, clock=steady)

    def activate(
        self,
        *,
        tasks: Sequence[TaskSpec],
        cameras: Sequence[str],
        open_events: Callable[[], list[Event]],
        watch: StaleCameraDetector,
    ) -> None:
        """Take goals from now on.

        Args:
            tasks: The tasks that are answered.
            cameras: The cameras that are looked at, by the names in the answers.
            open_events: Tells what is open.
            watch: Tells which cameras are lost.
        """
        self._stream = _Stream(
            tasks=tasks,
            cameras=cameras,
            open_events=open_events,
            watch=watch,
        )

    def deactivate(self) -> None:
        """Take no more goals, and end those that wait."""
        self._stream = None
        with self._lock:
            for waiting in self._waiting:
                waiting.outcome = waiting.outcome or _DEACTIVATED
        self._end_goals()

    def update(self, answer: PostprocessedHypothesis) -> None:
        """Look for matches; called in the teller's thread."""
        found = False
        with self._lock:
            for waiting in self._waiting:
                event = waiting.wait.add_hypothesis(answer.hypothesis, answer.open_events)
                if event is not None and waiting.outcome is None:
                    waiting.outcome = _Outcome(
                        reason=Result.FOUND,
                        message=f'{event.label!r} on camera {event.camera!r}',
                        event=event,
                    )
                    found = True
        if found:
            call_soon(self._node, self._end_goals)

    def close(self) -> None:
        """Leave the graph."""
        self._node.destroy_timer(self._timer)
        self._server.destroy()

    @property
    def waiting(self) -> int:
        """How many goals wait."""
        return len(self._waiting)

    def _accept(self, request: WaitForAction.Goal) -> GoalResponse:
        if self._stream is None:
            self._node.get_logger().warning('wait_for_action: rejected, the node is not active')
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _begin(self, handle: ServerGoalHandle) -> None:
        stream = self._stream
        goal, outcome = WaitGoal(), None
        try:
            goal = _goal(handle.request)
            if stream is not None:
                goal.check_names(stream.tasks, stream.cameras)
        except ValueError as error:
            # A rejected goal would not say why.
            outcome = _Outcome(reason=Result.INVALID, message=str(error))
            self._node.get_logger().warning(f'wait_for_action: {error}')
        if stream is None:
            outcome = _DEACTIVATED
        current = [] if stream is None else stream.open_events()
        waiting = _Waiting(handle, ActionWait(goal, current), accepted_ns=self._now_ns())
        waiting.outcome = outcome
        with self._lock:
            self._waiting.append(waiting)
        call_soon(self._node, self._end_goals)

    def _cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        # The goal is ended by the next tick, when it is known to be canceling.
        return CancelResponse.ACCEPT

    def _tick(self) -> None:
        now_ns = self._now_ns()
        stream = self._stream
        lost = frozenset() if stream is None else stream.watch.lost(now_ns)
        with self._lock:
            for waiting in self._waiting:
                waiting.outcome = waiting.outcome or self._ended_by_clock(waiting, now_ns, lost)
                if waiting.outcome is None:
                    waiting.handle.publish_feedback(_feedback(waiting, now_ns))
        self._end_goals()

    def _ended_by_clock(
        self, waiting: _Waiting, now_ns: int, lost: frozenset[str]
    ) -> _Outcome | None:
        if waiting.handle.is_cancel_requested:
            return _Outcome(reason=Result.CANCELED, message='canceled by the client')
        # Time may jump back: a looped bag, a simulation that begins anew.
        waiting.accepted_ns = min(waiting.accepted_ns, now_ns)
        waited_ns = now_ns - waiting.accepted_ns
        if 0 < waiting.timeout_ns <= waited_ns:
            return _Outcome(
                reason=Result.TIMEOUT,
                message=f'nothing matched for {waiting.timeout_ns / 1e9:g} s',
            )
        stream, camera = self._stream, waiting.wait.goal.camera
        if stream is None or not lost >= ({camera} if camera else set(stream.cameras)):
            return None
        # A goal that comes while the stream is lost waits as long as any other.
        if waited_ns < stream.watch.timeout_ns:
            return None
        which = f'camera {camera!r}' if camera else 'any camera'
        return _Outcome(
            reason=Result.STREAM_LOST,
            message=f'no frame of {which} for {stream.watch.timeout_ns / 1e9:g} s',
        )

    def _end_goals(self) -> None:
        with self._lock:
            ended = [waiting for waiting in self._waiting if waiting.outcome is not None]
            self._waiting = [waiting for waiting in self._waiting if waiting.outcome is None]
        for waiting in ended:
            outcome = waiting.outcome
            assert outcome is not None
            waiting.handle.execute(lambda handle, outcome=outcome: _end(handle, outcome))

    def _result(self, handle: ServerGoalHandle) -> WaitForAction.Result:
        raise AssertionError('a goal is executed with its outcome')

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)


def _goal(request: WaitForAction.Goal) -> WaitGoal:
    return WaitGoal(
        task=request.task,
        labels=frozenset(request.labels),
        camera=request.camera,
        minimum_score=request.minimum_score,
        minimum_order_evidence=request.minimum_order_evidence,
        minimum_duration_ns=to_nanoseconds(request.minimum_duration),
        include_current=request.include_current,
    )


def _feedback(waiting: _Waiting, now_ns: int) -> WaitForAction.Feedback:
    feedback = WaitForAction.Feedback(waited=to_duration(max(0, now_ns - waiting.accepted_ns)))
    best = waiting.wait.best
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
