"""Events and those who wait for them: the real node, over real DDS."""

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
START, END = ActionEvent.START, ActionEvent.END
Result = WaitForAction.Result


def tracks(events):
    """Sort events by camera and task; each END must be that of the START before it."""
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
    """What an active node with eager events sees; nothing yet."""

    def start(**parameters):
        managed_node(eager=True, **parameters)
        film = user.film()
        user.activate(TOPIC)
        return film

    return start


def test_starts_and_ends_alternate_and_deactivation_ends_what_is_open(film, user):
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
    # What each label held: from its first hypothesis to its last.
    for (_, task), track in tracks(user.events).items():
        index = TASKS.index(task)
        for begun, ended in zip(track[::2], track[1::2], strict=True):
            held = [
                said
                for said in user.hypotheses
                if to_nanoseconds(begun.header.stamp)
                <= to_nanoseconds(said.header.stamp)
                <= to_nanoseconds(ended.header.stamp)
            ]
            assert {said.tasks[index].labels[0] for said in held} == {begun.label}


def test_a_node_that_is_shut_down_while_active_ends_what_is_open(film, user):
    film().show(6)
    user.wait_for(lambda: len(user.events) >= len(TASKS), 'events')
    assert user.change(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert user.state == State.PRIMARY_STATE_FINALIZED
    user.wait_for(lambda: all_ended(user.events), 'the end of every event')


def test_a_jump_in_time_ends_what_is_open(film, user):
    film = film()
    film.show(4)
    user.wait_for(lambda: len(user.events) == len(TASKS), 'a START of each task')
    film.stamp_ns -= 50 * SECOND
    film.show(4)
    user.wait_for(lambda: len(user.events) == 3 * len(TASKS), 'an END and a START of each task')
    for before, ended, after in tracks(user.events).values():
        assert ended.header.stamp == before.header.stamp
        assert to_nanoseconds(after.header.stamp) < to_nanoseconds(before.header.stamp)


def test_a_lost_stream_ends_what_is_open(film, user):
    film = film(stream_timeout=0.3)
    film.show(4)
    user.wait_for(lambda: len(user.events) == len(TASKS), 'a START of each task')
    user.wait_for(lambda: all_ended(user.events), 'the end of every event')
    film.show(1)
    user.wait_for(lambda: len(user.events) == 3 * len(TASKS), 'a START of each task again')
    tracks(user.events)


def test_ignored_labels_start_nothing(film, user, tiny_bundle):
    action, *others = tiny_bundle.spec.tasks
    film(ignored_labels=list(action.labels)).show(8)
    user.wait_for(lambda: len(user.hypotheses) == 5, 'all hypotheses')
    user.wait_for(lambda: len(tracks(user.events)) == len(others), 'events of the other tasks')
    assert {event.task for event in user.events} == {task.name for task in others}


@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_a_process_says_what_ends_before_it_ends_itself(how, user, tiny_bundle, start_node):
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
    while len(tracks(user.events)) < len(TASKS):
        assert process.running, process.output
        film.show()
        time.sleep(0.05)
    goal = Waiter(user).send(minimum_duration=1000)
    future = goal.get_result_async()
    begun = time.monotonic()
    assert process.end(how) == 0, process.output
    assert time.monotonic() - begun < 10, 'far longer than it is to take'
    assert 'Traceback' not in process.output
    user.wait_for(lambda: all_ended(user.events), 'the end of every event')
    user.wait_for(future.done, 'the result of who waits')
    assert future.result().result.reason == Result.PREEMPTED


# ---- waiting


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
        for _ in range(4):  # a goal is lost until both sides know of each other
            sent = self.client.send_goal_async(goal)
            deadline = time.monotonic() + 5
            while not sent.done() and time.monotonic() < deadline:
                time.sleep(0.01)
            if sent.done():
                return sent.result()
        pytest.fail('the server does not answer')

    def result(self, handle):
        future = handle.get_result_async()
        self.user.wait_for(future.done, 'a result')
        return future.result().status, future.result().result


def test_several_clients_wait_each_for_an_event_of_its_own(film, user, managed_node):
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


def test_deactivation_preempts_those_who_wait(film, user):
    film()
    client = Waiter(user)
    goals = [client.send(), client.send(labels=['open'], seconds=100)]
    assert user.change(Transition.TRANSITION_DEACTIVATE)
    for goal in goals:
        status, result = client.result(goal)
        assert (status, result.reason) == (GoalStatus.STATUS_ABORTED, Result.PREEMPTED)
    assert not client.send().accepted


def test_waiting_ends_with_the_stream_and_with_time(film, user):
    film(stream_timeout=0.4)
    client = Waiter(user)
    short, long = client.send(seconds=0.1), client.send(seconds=100)
    assert client.result(short)[1].reason == Result.TIMEOUT
    assert client.result(long)[1].reason == Result.STREAM_LOST


def test_waiting_for_what_cannot_be_is_refused_with_the_reason(film, user):
    film()
    client = Waiter(user)
    status, result = client.result(client.send(camera='rear'))
    assert (status, result.reason) == (GoalStatus.STATUS_ABORTED, Result.INVALID)
    assert result.message == "camera='rear'; expected one of: camera"
