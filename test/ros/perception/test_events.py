# SPDX-License-Identifier: Apache-2.0
"""Events and goals that wait for them: the real node over real DDS."""

import contextlib
import signal
import time

import pytest
from action_msgs.msg import GoalStatus
from lifecycle_msgs.msg import State, Transition
from rclpy.action import ActionClient

from step_ros.action import WaitForAction
from step_ros.msg import ActionEvent
from step_ros.ros.conversion import to_duration, to_nanoseconds

TASKS = ['action', 'verb', 'object']
TOPIC = '/camera/image_raw'
SECOND = 10**9
# A process imports torch before its first event.
START_SECONDS = 120.0
START, END = ActionEvent.START, ActionEvent.END
Result = WaitForAction.Result


def tracks(events):
    """Return events by camera and task; check that each END belongs to the START before it."""
    found = {}
    for event in events:
        track = found.setdefault((event.camera, event.task), [])
        assert event.type == (END if len(track) % 2 else START), 'START and END alternate'
        if event.type == END:
            assert (event.label, event.start_stamp) == (track[-1].label, track[-1].start_stamp)
            assert to_nanoseconds(event.header.stamp) >= to_nanoseconds(event.start_stamp)
        else:
            assert event.header.stamp == event.start_stamp
        track.append(event)
    return found


def all_ended(events):
    found = tracks(events)
    return bool(found) and all(len(track) % 2 == 0 for track in found.values())


@pytest.fixture
def film(managed_node, user):
    """Start an active node with eager events; return its camera, which has shown nothing yet."""

    def start(**parameters):
        managed_node(eager=True, **parameters)
        film = user.film()
        user.activate(TOPIC)
        return film

    return start


def test_events_alternate_and_deactivation_ends_open_ones(film, user):
    film().show(8)
    user.wait_for(lambda: len(user.hypotheses) == 5, 'all hypotheses')
    user.wait_for(lambda: len(tracks(user.events)) == len(TASKS), 'an event of each task')
    assert not all_ended(user.events)
    first = user.events[0]
    assert (first.camera, first.header.frame_id) == ('camera', 'optical')
    assert first.header.stamp == user.hypotheses[0].header.stamp
    assert first.label == user.hypotheses[0].tasks[0].labels[0]
    assert first.score == pytest.approx(user.hypotheses[0].tasks[0].scores[0])
    assert user.change(Transition.TRANSITION_DEACTIVATE)
    user.wait_for(lambda: all_ended(user.events), 'the end of every event')
    # Between START and END the label was the best one in every hypothesis.
    for (_, task), track in tracks(user.events).items():
        index = TASKS.index(task)
        for started, ended in zip(track[::2], track[1::2], strict=True):
            held = [
                hypothesis
                for hypothesis in user.hypotheses
                if to_nanoseconds(started.header.stamp)
                <= to_nanoseconds(hypothesis.header.stamp)
                <= to_nanoseconds(ended.header.stamp)
            ]
            assert {hypothesis.tasks[index].labels[0] for hypothesis in held} == {started.label}


def test_shutdown_ends_open_events(film, user):
    film().show(6)
    user.wait_for(lambda: len(user.events) >= len(TASKS), 'events')
    assert user.change(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert user.state == State.PRIMARY_STATE_FINALIZED
    user.wait_for(lambda: all_ended(user.events), 'the end of every event')


def test_time_jump_ends_open_events(film, user):
    film = film()
    film.show(4)
    user.wait_for(lambda: len(user.events) == len(TASKS), 'a START of each task')
    film.stamp_ns -= 50 * SECOND
    film.show(4)
    user.wait_for(lambda: len(user.events) == 3 * len(TASKS), 'an END and a START of each task')
    for before, ended, after in tracks(user.events).values():
        assert ended.header.stamp == before.header.stamp
        assert to_nanoseconds(after.header.stamp) < to_nanoseconds(before.header.stamp)


def test_lost_camera_ends_open_events(film, user):
    film = film(stream_timeout=0.3)
    film.show(4)
    user.wait_for(lambda: len(user.events) == len(TASKS), 'a START of each task')
    user.wait_for(lambda: all_ended(user.events), 'the end of every event')
    film.show(1)
    user.wait_for(lambda: len(user.events) == 3 * len(TASKS), 'a START of each task again')
    tracks(user.events)


def test_ignored_labels_start_no_event(film, user, tiny_bundle):
    action, *others = tiny_bundle.spec.tasks
    film(ignored_labels=list(action.labels)).show(8)
    user.wait_for(lambda: len(user.hypotheses) == 5, 'all hypotheses')
    user.wait_for(lambda: len(tracks(user.events)) == len(others), 'events of the other tasks')
    assert {event.task for event in user.events} == {task.name for task in others}


@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_process_ends_events_and_goals_before_it_exits(how, user, tiny_bundle, start_node):
    process = start_node(
        'perception_node',
        bundle=str(tiny_bundle.path),
        image_topics=[TOPIC],
        runtime='torch',
        device='cpu',
        on_threshold=0.0,
        off_threshold=0.0,
        minimum_duration=0.0,
        ignored_labels=[''],
    )
    film = user.film()

    def all_started():
        assert process.running, process.output
        film.show()
        return len(tracks(user.events)) == len(TASKS)

    user.wait_for(all_started, 'an event of each task', START_SECONDS, interval=0.05)
    goal = Waiter(user).send(minimum_duration=1000)
    future = goal.get_result_async()
    signalled = time.monotonic()
    assert process.end(how) == 0, process.output
    assert time.monotonic() - signalled < 10, 'a clean exit takes far less'
    assert 'Traceback' not in process.output
    user.wait_for(lambda: all_ended(user.events), 'the end of every event')
    user.wait_for(future.done, 'the result of the pending goal')
    assert future.result().result.reason == Result.PREEMPTED


# Goals.


class Waiter:
    """A client of `WaitForAction`."""

    def __init__(self, user):
        self.user = user
        self.client = user.make(
            lambda: ActionClient(user.node, WaitForAction, f'{user.name}/wait_for_action')
        )
        assert self.client.wait_for_server(20.0)

    def send(self, *, seconds=0.0, minimum_duration=0.0, **fields):
        goal = WaitForAction.Goal(
            timeout=to_duration(round(seconds * SECOND)),
            minimum_duration=to_duration(round(minimum_duration * SECOND)),
            **fields,
        )
        for _ in range(4):  # a goal sent during discovery is lost
            sent = self.client.send_goal_async(goal)
            with contextlib.suppress(AssertionError):
                self.user.wait_for(sent.done, 'the goal to be accepted', 5.0)
                return sent.result()
        pytest.fail('no response from the server')

    def result(self, handle):
        future = handle.get_result_async()
        self.user.wait_for(future.done, 'a result')
        return future.result().status, future.result().result


def test_several_clients_wait_for_different_tasks(film, user, managed_node):
    film = film()
    clients = [Waiter(user) for _ in TASKS]
    goals = [client.send(task=task) for client, task in zip(clients, TASKS, strict=True)]
    assert all(goal.accepted for goal in goals)
    film.show(5)
    for client, goal, task in zip(clients, goals, TASKS, strict=True):
        status, result = client.result(goal)
        assert (status, result.reason) == (GoalStatus.STATUS_SUCCEEDED, Result.FOUND)
        user.wait_for(lambda task=task: ('camera', task) in tracks(user.events), 'the event')
        published = tracks(user.events)['camera', task][0]
        assert result.event.task == task
        assert (result.event.label, result.event.start_stamp) == (
            published.label,
            published.start_stamp,
        )


def test_deactivation_preempts_pending_goals(film, user):
    film()
    client = Waiter(user)
    goals = [client.send(), client.send(labels=['open'], seconds=100)]
    assert user.change(Transition.TRANSITION_DEACTIVATE)
    for goal in goals:
        status, result = client.result(goal)
        assert (status, result.reason) == (GoalStatus.STATUS_ABORTED, Result.PREEMPTED)
    assert not client.send().accepted


def test_goals_end_by_timeout_and_by_a_lost_camera(film, user):
    film(stream_timeout=0.4)
    client = Waiter(user)
    short, long = client.send(seconds=0.1), client.send(seconds=100)
    assert client.result(short)[1].reason == Result.TIMEOUT
    assert client.result(long)[1].reason == Result.STREAM_LOST


def test_goal_for_an_unknown_camera_is_invalid(film, user):
    film()
    client = Waiter(user)
    status, result = client.result(client.send(camera='rear'))
    assert (status, result.reason) == (GoalStatus.STATUS_ABORTED, Result.INVALID)
    assert result.message == "camera='rear'; expected one of: camera"
