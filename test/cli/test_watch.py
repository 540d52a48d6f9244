# SPDX-License-Identifier: Apache-2.0
"""`step_ros watch` as a user runs it, over real DDS; its tables and lines as functions."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading

import pytest
from rich.console import Console

from step_ros.cli.watch import event_line, hypothesis_line, watch_view

pytestmark = pytest.mark.ros

COMMAND = [sys.executable, '-c', 'from step_ros.cli import main; main()', 'watch']
DOMAIN = 1 + os.getpid() % 40


def hypothesis(second=7, camera='front'):
    from builtin_interfaces.msg import Duration, Time

    from step_ros.msg import ActionHypothesis, TaskHypothesis

    message = ActionHypothesis(
        camera=camera,
        model_id='tiny@0',
        latency=Duration(nanosec=12_000_000),
        tasks=[
            TaskHypothesis(
                task='action',
                labels=['lay down [cup]', 'pick up cup', 'wave'],
                scores=[0.75, 0.2, 0.05],
                counterpart='pick up cup',
                counterpart_score=0.2,
                order_evidence=0.5,
            ),
            TaskHypothesis(
                task='object', labels=['cup'], scores=[1.0], order_evidence=float('nan')
            ),
        ],
    )
    message.header.stamp = Time(sec=second, nanosec=250_000_000)
    return message


@pytest.fixture
def robot(monkeypatch):
    """Make nodes that publish hypotheses ten times a second: `robot('/perception', ...)`."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from step_ros.msg import ActionEvent, ActionHypothesis

    context = rclpy.Context()
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    rclpy.init(context=context, domain_id=DOMAIN)
    executor = SingleThreadedExecutor(context=context)
    stop = threading.Event()

    def start(*names, silent=False):
        for name in names:
            node = rclpy.create_node(name.strip('/'), context=context)
            hypotheses = node.create_publisher(ActionHypothesis, f'{name}/hypotheses', 10)
            events = node.create_publisher(ActionEvent, f'{name}/events', 10)
            event = ActionEvent(
                camera='front', type=ActionEvent.START, task='action', label='wave', score=0.9
            )

            def publish(hypotheses=hypotheses, events=events, event=event):
                events.publish(event)
                hypotheses.publish(hypothesis())

            if not silent:
                node.create_timer(0.1, publish)
            executor.add_node(node)

    def spin():
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=spin)
    thread.start()
    yield start
    stop.set()
    thread.join()
    executor.shutdown()
    for node in executor.get_nodes():
        node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.fixture
def run_watch():
    """Start the command: `run_watch(*arguments)`."""
    environment = {
        **os.environ,
        'ROS_DOMAIN_ID': str(DOMAIN),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
    }
    started = []

    def run(*arguments):
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_once_prints_one_hypothesis_of_the_only_node(robot, run_watch):
    robot('/perception')
    process = run_watch('--once', '--timeout', '30')
    output, remarks = process.communicate(timeout=60)
    assert process.returncode == 0, output + remarks
    assert output == (
        '7.250 front action: lay down [cup] 0.75 (vs pick up cup 0.20, order 0.50) | '
        'object: cup 1.00 | latency 12 ms\n'
    )


@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_lines_follow_until_it_is_interrupted(robot, run_watch, how):
    robot('/perception')
    process = run_watch('--task', 'object')
    lines = [process.stdout.readline() for _ in range(3)]
    process.send_signal(how)
    _, remarks = process.communicate(timeout=20)
    assert process.returncode == 0, remarks
    assert 'Traceback' not in remarks
    assert lines == ['7.250 front object: cup 1.00 | latency 12 ms\n'] * 3


def test_events_are_lines_of_their_own(robot, run_watch):
    robot('/perception')
    process = run_watch('--plain')
    lines = {process.stdout.readline() for _ in range(8)}
    assert '0.000 front START action: wave 0.90\n' in lines
    assert len(lines) == 2


def test_a_terminal_shows_it_live_until_it_is_interrupted(robot):
    robot('/perception')
    ours, its = pty.openpty()
    environment = {
        **os.environ,
        'ROS_DOMAIN_ID': str(DOMAIN),
        'COLUMNS': '140',
        'TERM': 'xterm',
    }
    process = subprocess.Popen(COMMAND, env=environment, stdout=its, stderr=its, stdin=its)
    os.close(its)
    shown = b''
    try:
        while b'wave' not in shown or b'hypotheses/s' not in shown:
            shown += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # the terminal has ended
            while more := os.read(ours, 4096):
                shown += more
        assert process.wait(20) == 0
    finally:
        process.kill()
        os.close(ours)
    assert b'/perception on /perception/hypotheses' in shown
    assert b'Traceback' not in shown


def test_several_nodes_are_listed_and_one_can_be_chosen(robot, run_watch):
    robot('/left', '/right')
    process = run_watch('--timeout', '30')
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert '--node /left ' in output
    assert '--node /right ' in output
    process = run_watch('--node', '/right', '--once', '--timeout', '30')
    assert process.communicate(timeout=60)[0].startswith('7.250 front')


def test_without_a_node_it_remarks_and_gives_up_in_time(run_watch):
    process = run_watch('--node', '/perception', '--timeout', '4')
    output, remarks = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f'ROS_DOMAIN_ID={DOMAIN}; waiting' in remarks
    assert 'no publisher on /perception/hypotheses: is the node running?' in output


def test_silence_of_a_node_is_remarked(robot, run_watch):
    robot('/perception', silent=True)
    process = run_watch('--timeout', '5')
    output, remarks = process.communicate(timeout=60)
    assert process.returncode == 1
    assert 'nothing comes: the first window fills, or no image comes' in remarks
    assert 'nothing came for 5 s' in output


def test_an_unknown_task_is_refused_with_the_known_ones(robot, run_watch):
    robot('/perception')
    process = run_watch('--task', 'gait', '--timeout', '30')
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output == 'no task gait; the tasks of this node are action, object\n'


def rendered(view, width=140):
    """Return a view as text."""
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(view)
    return capture.get()


def camera_view(message, **about):
    from step_ros.ros.clients.watcher import CameraView

    return CameraView(newest=message, **about)


def test_the_view_shows_each_camera_and_the_diagnostics():
    from diagnostic_msgs.msg import DiagnosticStatus

    status = DiagnosticStatus(
        name='/perception: front', level=DiagnosticStatus.WARN, message='window 3/8'
    )
    cameras = {
        'front': camera_view(hypothesis(), open_events={'action': 'wave'}),
        'side': camera_view(hypothesis(9, 'side')),
    }
    text = rendered(watch_view(cameras, [status], title='/perception on /perception/hypotheses'))
    assert '/perception on /perception/hypotheses' in text
    assert 'front   7.250 s   0.0 hypotheses/s   latency 12 ms   tiny@0' in text
    assert 'side   9.250 s' in text
    row = next(line for line in text.splitlines() if 'lay down [cup]' in line)
    cells = [cell.strip() for cell in row.strip('│ ').split('│')]
    assert cells[:3] == ['action', 'lay down [cup]', '0.75']
    assert cells[4:] == ['pick up cup 0.20', '0.50', 'wave']
    assert 'warning /perception: front: window 3/8' in text
    assert 'nan' not in text


def test_the_view_shows_only_the_chosen_tasks():
    text = rendered(
        watch_view({'front': camera_view(hypothesis())}, [], title='', tasks=['object'])
    )
    assert 'object' in text
    assert 'action' not in text


def test_the_view_explains_silence():
    assert 'the first window fills' in rendered(watch_view({}, [], title='/perception'))
    view = watch_view({}, [], title='/perception', trouble='the node is inactive')
    assert 'the node is inactive' in rendered(view)


def test_event_lines_name_start_and_end():
    from step_ros.msg import ActionEvent

    message = ActionEvent(camera='front', task='verb', label='open', score=0.5)
    message.header.stamp.sec = 3
    message.type = ActionEvent.START
    assert event_line(message) == '3.000 front START verb: open 0.50'
    message.type = ActionEvent.END
    assert event_line(message) == '3.000 front END verb: open 0.50'


def test_a_hypothesis_without_labels_is_a_line():
    message = hypothesis()
    message.tasks[0].labels = []
    message.tasks[0].scores = []
    message.tasks[0].counterpart = ''
    assert hypothesis_line(message, ['action']) == (
        '7.250 front action: no label (order 0.50) | latency 12 ms'
    )


def test_a_label_cannot_command_the_terminal():
    message = hypothesis()
    message.tasks[0].labels[0] = 'lay\x1b[2Jdown'
    text = rendered(watch_view({'front': camera_view(message)}, [], title=''))
    assert 'lay?[2Jdown' in text
    assert '\x1b[2J' not in text
