# SPDX-License-Identifier: Apache-2.0
"""The action server over DDS: many clients, and every reason for which a goal ends."""

import contextlib
import math
import time

import numpy as np
import pytest

from step_ros.model.bundle_schema import TaskSpec
from step_ros.streaming.hypothesis import Hypothesis, TaskHypothesis
from step_ros.streaming.liveness import StaleCameraDetector
from step_ros.streaming.pipeline import PostprocessedHypothesis
from step_ros.streaming.postprocessing.event_goal import StartLimits
from step_ros.streaming.postprocessing.events import Event, EventType

SPEC = TaskSpec(name='action', labels=('idle', 'open', 'close'))
SECOND = 1_000_000_000
CAMERAS = ['front', 'side']


class Source:
    """A node with the server, and a source of hypotheses and events."""

    def __init__(self, side, server):
        self.side, self.server = side, server
        self.open, self.frames = [], 0

    def activate(self, timeout=0.0, **limits):
        self.server.activate(
            tasks=[SPEC],
            cameras=CAMERAS,
            open_events=lambda: self.open,
            watch=StaleCameraDetector(
                CAMERAS,
                received=lambda camera: self.frames if camera == 'side' else 7,
                timeout_ns=round(timeout * SECOND),
            ),
            limits=StartLimits(**limits),
        )

    def publish(self, label, *, stamp=3 * SECOND, started=None, camera='front', score=0.8):
        """Publish one hypothesis. If `started` is a stamp, the event of the label started then."""
        scores_k = np.array([score if each == label else (1 - score) / 2 for each in SPEC.labels])
        task = TaskHypothesis(spec=SPEC, scores_k=scores_k, order_evidence=0.5)
        event = None if started is None else self.event(label, started, camera)
        self.open = [] if event is None else [event]
        hypothesis = Hypothesis(
            camera=camera,
            frame_id='optical',
            stamp_ns=stamp,
            window_start_ns=stamp - SECOND,
            received_ns=0,
            tasks=(task,),
        )
        self.server.update(
            PostprocessedHypothesis(hypothesis=hypothesis, events=[], open_events=self.open)
        )

    @staticmethod
    def event(label, started, camera):
        return Event(
            camera=camera,
            frame_id='optical',
            task='action',
            label=label,
            type=EventType.START,
            stamp_ns=started,
            start_ns=started,
            score=0.75,
            order_evidence=0.5,
        )

    def wait_for_goals(self, count):
        self.side.wait_for(lambda: self.server.pending == count, f'{count} goals to wait')


@pytest.fixture
def source(node_side):
    from step_ros.ros.perception.wait_server import WaitServer

    side = node_side('perception')
    made = Source(side, WaitServer(side.node))
    made.activate()
    return made


class Client:
    """A client of the action."""

    def __init__(self, user):
        from rclpy.action import ActionClient

        from step_ros.action import WaitForAction

        self.user, self.kind = user, WaitForAction
        self.client = user.make(
            lambda: ActionClient(user.node, WaitForAction, '/perception/wait_for_action')
        )
        assert self.client.wait_for_server(20.0)
        self.feedback = []
        self._wait_for_server()

    def _wait_for_server(self):
        """Wait until results arrive: they are lost until the server has discovered the client."""
        for _ in range(4):
            with contextlib.suppress(AssertionError):
                sent = self.client.send_goal_async(self.kind.Goal(task='unknown'))
                self.user.wait_for(sent.done, 'the goal to be accepted', 5.0)
                result = sent.result().get_result_async()
                return self.user.wait_for(result.done, 'a result', 5.0)
        pytest.fail('no response from the server')

    def send(self, *, seconds=0.0, **fields):
        from step_ros.ros.conversion import to_duration

        goal = self.kind.Goal(timeout=to_duration(round(seconds * SECOND)), **fields)
        sent = self.client.send_goal_async(
            goal, feedback_callback=lambda message: self.feedback.append(message.feedback)
        )
        self.user.wait_for(sent.done, 'the goal to be accepted')
        return sent.result()

    def send_many(self, count):
        """Send goals without a timeout; return their handles.

        A few at a time: the queue of a client keeps ten responses.
        """
        handles = []
        while len(handles) < count:
            few = min(5, count - len(handles))
            sent = [self.client.send_goal_async(self.kind.Goal()) for _ in range(few)]
            self.user.wait_for(lambda s=sent: all(each.done() for each in s), 'responses')
            handles += [each.result() for each in sent]
        return handles

    def result(self, handle):
        future = handle.get_result_async()
        self.user.wait_for(future.done, 'a result')
        return future.result().status, future.result().result


@pytest.fixture
def client(user):
    return Client(user)


def status(name):
    from action_msgs.msg import GoalStatus

    return getattr(GoalStatus, f'STATUS_{name}')


def test_each_client_gets_its_event(source, client):
    goals = [client.send(labels=[label]) for label in ('open', 'close', 'open')]
    assert all(goal.accepted for goal in goals)
    source.wait_for_goals(3)
    source.publish('idle')
    source.publish('open', started=SECOND)
    source.wait_for_goals(1)
    source.publish('close', started=2 * SECOND, camera='side')
    for goal, label, started, camera in zip(
        goals, ('open', 'close', 'open'), (1, 2, 1), ('front', 'side', 'front'), strict=True
    ):
        ended, result = client.result(goal)
        assert (ended, result.reason) == (status('SUCCEEDED'), result.FOUND)
        assert result.message == f'{label!r} on camera {camera!r}'
        event = result.event
        assert (event.task, event.label, event.camera) == ('action', label, camera)
        assert (event.type, event.header.stamp.sec, event.start_stamp.sec) == (1, started, started)
        assert (event.score, event.order_evidence) == (0.75, 0.5)
        assert event.header.frame_id == 'optical'


def test_feedback_holds_the_best_candidate(source, client, user):
    goal = client.send(labels=['open'])
    source.wait_for_goals(1)
    user.wait_for(lambda: client.feedback, 'feedback')
    assert client.feedback[0].camera == ''
    source.publish('open', started=None, score=0.75)
    user.wait_for(lambda: client.feedback[-1].label == 'open', 'feedback about the label')
    last = client.feedback[-1]
    assert (last.camera, last.task, last.score, last.held.sec) == ('front', 'action', 0.75, 0)
    assert last.waited.sec + last.waited.nanosec > 0
    source.publish('open', started=SECOND)
    assert client.result(goal)[0] == status('SUCCEEDED')


def test_canceled_goal_does_not_end_others(source, client, user):
    gone, stays = client.send(), client.send()
    source.wait_for_goals(2)
    user.wait_for(gone.cancel_goal_async().done, 'the cancellation')
    ended, result = client.result(gone)
    assert (ended, result.reason) == (status('CANCELED'), result.CANCELED)
    source.publish('open', started=SECOND)
    assert client.result(stays)[0] == status('SUCCEEDED')


def test_goal_times_out(source, client):
    ended, result = client.result(client.send(seconds=0.3))
    assert (ended, result.reason) == (status('ABORTED'), result.TIMEOUT)
    assert result.message == 'no event matched within 0.3 s'


def test_deactivation_ends_goals_and_rejects_new_ones(source, client):
    goals = [client.send(), client.send()]
    source.wait_for_goals(2)
    source.server.deactivate()
    for goal in goals:
        ended, result = client.result(goal)
        assert (ended, result.reason) == (status('ABORTED'), result.PREEMPTED)
    assert not client.send().accepted
    source.activate()
    assert client.send().accepted


def test_lost_camera_ends_only_goals_for_it(source, client):
    source.activate(timeout=0.5)
    front, anybody = client.send(camera='front'), client.send()
    # Only the side camera goes on sending.
    source.wait_for_goals(2)
    future = front.get_result_async()
    while not future.done():
        source.frames += 1
    assert future.result().result.reason == future.result().result.STREAM_LOST
    assert future.result().result.message == "no frame from camera 'front' for 0.5 s"
    assert source.server.pending == 1
    ended, result = client.result(anybody)
    assert (ended, result.message) == (status('ABORTED'), 'no frame from any camera for 0.5 s')


@pytest.mark.parametrize(
    ('fields', 'expected'),
    [
        ({'task': 'verb'}, "task='verb'; expected one of: action"),
        (
            {'labels': ['fly']},
            "labels=['fly'] are no labels of any task; expected some of: close,",
        ),
        ({'camera': 'back'}, "camera='back'; expected one of: front, side"),
        ({'minimum_score': 2.0}, 'minimum_score=2; expected 0 to 1'),
        ({'minimum_order_evidence': math.nan}, 'minimum_order_evidence=nan; expected 0 to 1'),
        ({'seconds': -0.5}, 'timeout of -0.5 s; expected 0 or more'),
        ({'seconds': -1.0}, 'timeout of -1 s; expected 0 or more'),
        ({'labels': ['']}, "labels=[''] are no labels of any task"),
    ],
)
def test_invalid_goal_ends_with_the_reason(source, client, fields, expected):
    ended, result = client.result(client.send(**fields))
    assert (ended, result.reason) == (status('ABORTED'), result.INVALID)
    assert result.message.startswith(expected)


def test_include_current_counts_open_events(source, client):
    source.publish('open', started=SECOND)
    patient, eager = client.send(), client.send(include_current=True)
    source.wait_for_goals(2)
    source.publish('open', started=SECOND)
    assert client.result(eager)[1].event.label == 'open'
    assert source.server.pending == 1
    source.publish('close', started=2 * SECOND)
    assert client.result(patient)[1].event.label == 'close'


def test_goal_that_no_event_can_meet_is_invalid(source, client):
    source.activate(ignored_labels=frozenset({'idle'}))
    ended, result = client.result(client.send(labels=['idle']))
    assert (ended, result.reason) == (status('ABORTED'), result.INVALID)
    assert result.message.startswith("labels=['idle'] never start an event; ")


def test_changed_parameters_end_goals_that_no_event_can_meet(source, client):
    front, anywhere = client.send(camera='front'), client.send()
    source.wait_for_goals(2)
    source.server.change(StartLimits(active_cameras=frozenset({'side'})))
    ended, result = client.result(front)
    assert (ended, result.reason) == (status('ABORTED'), result.INVALID)
    assert 'active_cameras holds: side' in result.message
    source.publish('open', started=SECOND, camera='side')
    assert client.result(anywhere)[0] == status('SUCCEEDED')


def test_goals_of_a_client_that_is_gone_end(source, node_side):
    user = node_side('dies')
    client = Client(user)
    client.send()
    source.wait_for_goals(1)
    user.make(client.client.destroy)
    source.wait_for_goals(0)


def test_goal_of_a_living_client_survives_the_death_of_another(source, client, node_side):
    goal = client.send()
    other = node_side('dies')
    dead = Client(other)
    dead.send()
    source.wait_for_goals(2)
    other.make(dead.client.destroy)
    # Both clients existed when the goals came, so either goal may be that of the living one.
    client.user.wait_for(
        lambda: client.feedback and client.feedback[-1].waited.sec >= 7, 'more feedback'
    )
    source.publish('open', started=SECOND)
    assert client.result(goal)[0] == status('SUCCEEDED')


def test_goals_beyond_the_limit_are_rejected(source, client):
    from step_ros.ros.perception.wait_server import MAX_GOALS

    accepted = [each for each in client.send_many(MAX_GOALS + 20) if each.accepted]
    assert len(accepted) == source.server.pending == MAX_GOALS
    source.publish('open', started=SECOND)
    for goal in accepted[:3]:
        assert client.result(goal)[0] == status('SUCCEEDED')
    assert client.send().accepted


def test_goals_of_dead_clients_give_way_to_new_ones(source, client, node_side):
    from step_ros.ros.perception.goal_clients import DISCOVERY_SECONDS
    from step_ros.ros.perception.wait_server import MAX_GOALS

    other = node_side('dies')
    dead = Client(other)
    assert all(each.accepted for each in dead.send_many(MAX_GOALS))
    assert not client.send().accepted
    other.make(dead.client.destroy)
    # The living client keeps the goals: each of them may be its own.
    client.user.wait_for(
        lambda: client.send().accepted, 'room for a goal', 4 * DISCOVERY_SECONDS, interval=0.5
    )
    source.wait_for_goals(MAX_GOALS)


def test_many_waiting_goals_share_the_feedback(source, client, user):
    for _ in range(40):
        client.send()
    source.wait_for_goals(40)
    client.feedback.clear()
    began = time.monotonic()
    user.wait_for(lambda: len(client.feedback) >= 60, 'feedback', interval=0.005)
    # Ten messages a second for each goal would be 400.
    assert len(client.feedback) / (time.monotonic() - began) < 100


def test_one_event_ends_many_goals_without_losing_a_result(source, client):
    goals = client.send_many(60)
    results = [goal.get_result_async() for goal in goals]
    source.publish('open', started=SECOND)
    client.user.wait_for(lambda: all(each.done() for each in results), 'all results')
    assert {each.result().result.event.label for each in results} == {'open'}
