"""Fixtures for tests over real DDS: a domain of their own, a node to listen with, processes."""

import atexit
import contextlib
import functools
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

# Before any `rclpy.init`: nothing leaves this machine, and no other test run is heard. Domains
# above 101 may take ports that Linux gives to others.
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)

WAIT = 20.0
PROGRAM = 'step_ros.ros.node_program'
# Parameters with which a label begins as soon as it is the best one, and ends when it is not.
EAGER = {
    'on_threshold': 0.0,
    'off_threshold': 0.0,
    'minimum_duration': 0.0,
    'minimum_gap': 0.0,
    'ignored_labels': [''],
}


class Ros:
    """A ROS context with a node, and what tests do with it.

    Attributes:
        node: To subscribe, publish and call with.
    """

    def __init__(self, context):
        # Imported here: most tests in this folder need no ROS graph.
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node

        self.context = context
        self.node = Node('test', context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)

    def listen(self, kind, topic, qos):
        """Subscribe; the list returned grows with each message while spinning."""
        messages = []
        self.node.create_subscription(kind, topic, messages.append, qos)
        return messages

    def spin(self, seconds):
        """Take messages for some time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def spin_until(self, condition, timeout=WAIT):
        """Take messages until a condition holds; fail when it does not in time."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f'waited {timeout} s in vain'
            self._executor.spin_once(timeout_sec=0.05)

    def spin_for(self, future, timeout=WAIT):
        """Return the result of a future, for example of a service call."""
        self.spin_until(future.done, timeout)
        return future.result()

    def close(self):
        self._executor.shutdown()
        self.node.destroy_node()


class NodeProcess:
    """A node of this package in a process of its own, with its output."""

    def __init__(self, module, ros_arguments, environment):
        self._process = subprocess.Popen(
            [sys.executable, '-m', PROGRAM, module, '--ros-args', *ros_arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment},
        )
        self.output = ''

    @property
    def running(self):
        return self._process.poll() is None

    def end(self, how=signal.SIGINT, timeout=WAIT):
        """Send a signal and return the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(how)
        return self.wait(timeout)

    def wait(self, timeout=WAIT):
        """Return the exit code once it ends by itself; `output` then holds what it said."""
        try:
            self.output += self._process.communicate(timeout=timeout)[0] or ''
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.output += self._process.communicate()[0] or ''
            pytest.fail(f'did not end within {timeout} s; it said:\n{self.output}')
        return self._process.returncode


@functools.cache
def spare_what_is_loaded():
    """Let the collections of garbage to come pass over torch and all else that is loaded."""
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)


class Side:
    """A context with its own executor thread: one side of the conversation."""

    def __init__(self, make_node):
        import rclpy
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor

        spare_what_is_loaded()
        self.context = Context()
        rclpy.init(context=self.context)
        self.node = make_node(self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self._spin, daemon=True)
        self.thread.start()

    def _spin(self):
        from rclpy.executors import ExternalShutdownException

        with contextlib.suppress(ExternalShutdownException):
            self.executor.spin()

    @staticmethod
    def wait_for(done, what, timeout=WAIT):
        """Wait while the other threads work; fail when it does not come in time."""
        deadline = time.monotonic() + timeout
        while not done():
            assert time.monotonic() < deadline, f'waited {timeout} s for {what}'
            time.sleep(0.01)

    def make(self, entity):
        """Make something in the executor's thread.

        An action client of rclpy is shown to the executor before it is whole: one that spins
        meanwhile may end by that.
        """
        task = self.executor.create_task(entity)
        self.wait_for(task.done, 'the executor')
        return task.result()

    def close(self):
        """Leave the graph at once.

        A node's participant lives until its last entity is destroyed and the last cycle that
        holds it is collected, and its lingering services would make those of the next node look
        unready. Destroying a node spares its actions.
        """
        import rclpy

        self.executor.shutdown()
        self.thread.join()
        self.node.destroy_node()
        for waitable in list(self.node.waitables):
            waitable.destroy()
        rclpy.shutdown(context=self.context)
        self.context.destroy()
        del self.node, self.executor
        gc.collect()


class Film:
    """A camera whose pictures differ, one for each frame period of the tiny bundle.

    Attributes:
        stamp_ns: Stamp of the next frame.
    """

    PERIOD_NS = 100_000_000

    def __init__(self, publisher, *, begin_ns=1_700_000_000 * 10**9, seed=0):
        self.publisher, self.stamp_ns, self.seed = publisher, begin_ns, seed

    def picture(self, shape=(36, 54)):
        """Make the next picture."""
        index = self.seed + self.stamp_ns // self.PERIOD_NS % 1000
        image = np.full((*shape, 3), 40, np.uint8)
        image[:, (index * 7) % shape[1] :] = (200, 20 * (index % 10), 90)
        return image

    def show(self, count=1, image=None):
        """Publish some frames: the next pictures, or the same image again and again."""
        from sensor_msgs.msg import Image
        from std_msgs.msg import Header

        from step_ros.ros.conversion import to_time
        from step_ros.ros.images import from_rgb, to_compressed

        for _ in range(count):
            shown = self.picture() if image is None else image
            header = Header(stamp=to_time(self.stamp_ns), frame_id='optical')
            raw = self.publisher.msg_type is Image
            self.publisher.publish(
                from_rgb(shown, 'rgb8', header)
                if raw
                else to_compressed(shown, header, format='png')
            )
            self.stamp_ns += self.PERIOD_NS


class User(Side):
    """What a user of the node has: image publishers, subscriptions, clients."""

    def __init__(self, name='/perception'):
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from lifecycle_msgs.srv import ChangeState, GetState
        from rcl_interfaces.srv import SetParametersAtomically

        from step_ros.msg import ActionEvent, ActionHypothesis, ModelInfo
        from step_ros.ros.qos import LATCHED

        super().__init__(lambda context: rclpy.create_node('user', context=context))
        self.name = name
        self._publishers = []
        self.hypotheses, self.events, self.models, self.statuses = [], [], [], []
        node = self.node
        for kind, topic, messages, qos in (
            (ActionHypothesis, 'hypotheses', self.hypotheses, 50),
            (ActionEvent, 'events', self.events, 50),
            (ModelInfo, 'model_info', self.models, LATCHED),
        ):
            node.create_subscription(kind, f'{name}/{topic}', messages.append, qos)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        self._change = node.create_client(ChangeState, f'{name}/change_state')
        self._state = node.create_client(GetState, f'{name}/get_state')
        self._set = node.create_client(
            SetParametersAtomically, f'{name}/set_parameters_atomically'
        )

    def _on_diagnostics(self, message):
        if message.status[0].name.startswith(f'{self.name}: '):
            self.statuses = list(message.status)

    def set(self, **values):
        """Set parameters of the node, all or none; return the reason where they are refused."""
        from rcl_interfaces.srv import SetParametersAtomically
        from rclpy.parameter import Parameter

        parameters = [Parameter(name, value=value) for name, value in values.items()]
        request = SetParametersAtomically.Request(
            parameters=[parameter.to_parameter_msg() for parameter in parameters]
        )
        result = self.call(self._set, request).result
        assert result.successful or result.reason
        return '' if result.successful else result.reason

    def film(self, topic='/camera/image_raw', kind=None, **options):
        """Begin a film."""
        return Film(self.publisher(topic, kind), **options)

    def status(self, about):
        """Return what the newest diagnostics say of a camera, the `model` or the `node`."""
        name = f'{self.name}: {about}'
        return next((each for each in self.statuses if each.name == name), None)

    def wait_for_words(self, about, *words):
        """Wait until a status says something; return it."""

        def said():
            status = self.status(about)
            return status is not None and all(word in status.message for word in words)

        self.wait_for(said, f'{words} in the diagnostics of {about}')
        return self.status(about)

    def publisher(self, topic, kind=None, reliability=None):
        """Publish images, reliably, unless told otherwise."""
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import Image

        if reliability is None:
            reliability = ReliabilityPolicy.RELIABLE
        qos = QoSProfile(depth=50, reliability=reliability)
        publisher = self.node.create_publisher(kind or Image, topic, qos)
        self._publishers.append(publisher)
        return publisher

    def subscribed_as(self, topic):
        infos = self.node.get_subscriptions_info_by_topic(topic)
        return [info.qos_profile.reliability for info in infos]

    def activate(self, *topics):
        """Configure and activate; wait until the topics have a subscription that loses nothing."""
        from lifecycle_msgs.msg import Transition
        from rclpy.qos import ReliabilityPolicy

        assert self.change(Transition.TRANSITION_CONFIGURE)
        assert self.change(Transition.TRANSITION_ACTIVATE)
        for topic in topics:
            self.wait_for(
                lambda topic=topic: self.subscribed_as(topic) == [ReliabilityPolicy.RELIABLE],
                f'a reliable subscription of {topic}',
            )
        # The graph tells of a subscription before the publishers do, and what they send is lost.
        for publisher in self._publishers:
            if publisher.topic_name in topics:
                self.wait_for(publisher.get_subscription_count, 'the publisher to know of it')

    def call(self, client, request):
        """Call a service; ask again when the answer is lost, as it is before both sides know."""
        assert client.wait_for_service(WAIT)
        for patience in (1.5, 3.0, 6.0, WAIT):
            future = client.call_async(request)
            with contextlib.suppress(AssertionError):
                self.wait_for(future.done, client.srv_name, patience)
                return future.result()
        pytest.fail(f'no answer from {client.srv_name}')

    def change(self, transition):
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        before = self.state
        request = ChangeState.Request(transition=Transition(id=transition))
        # Asked again after a lost answer, a transition that was made is refused.
        return self.call(self._change, request).success or self.state != before

    @property
    def state(self):
        from lifecycle_msgs.srv import GetState

        return self.call(self._state, GetState.Request()).current_state.id

    def counts(self, camera):
        status = self.status(camera)
        values = [] if status is None else status.values
        return {each.key: int(each.value) for each in values if each.value.isdigit()}


@pytest.fixture
def ros():
    """Give a `Ros` in a context of its own."""
    import rclpy

    context = rclpy.Context()
    rclpy.init(context=context)
    helper = Ros(context)
    yield helper
    helper.close()
    rclpy.try_shutdown(context=context)


@pytest.fixture
def start_node():
    """Start nodes: `start_node(module, parameter=value, ...)`; all end with the test.

    `remap` takes remappings and `environment` extra variables, both as dictionaries.
    """
    import yaml

    started = []

    def start(module, *, remap=None, environment=None, **parameters):
        arguments = []
        for source, target in (remap or {}).items():
            arguments += ['-r', f'{source}:={target}']
        for name, value in parameters.items():
            text = yaml.safe_dump(value, default_flow_style=True, width=float('inf'))
            text = text.removesuffix('\n').removesuffix('...').strip()
            arguments += ['-p', f'{name}:={text}']
        started.append(NodeProcess(module, arguments, environment or {}))
        return started[-1]

    yield start
    for process in started:
        process.end(signal.SIGKILL)


@pytest.fixture
def user():
    """Give a `User` of the perception node."""
    side = User()
    yield side
    side.close()


@pytest.fixture
def user_of():
    """Give `User`s of perception nodes by other names: `user_of('/robot1/perception')`."""
    sides = []

    def start(name):
        sides.append(User(name))
        return sides[-1]

    yield start
    for side in sides:
        side.close()


@pytest.fixture
def node_side():
    """Run a bare node in a thread: `node_side(name)` gives its `Side`."""
    from rclpy.node import Node

    sides = []

    def start(name):
        sides.append(Side(lambda context: Node(name, context=context)))
        return sides[-1]

    yield start
    for side in sides:
        side.close()


@pytest.fixture
def managed_node(tiny_bundle):
    """Run a perception node in a thread: `managed_node(**parameters)`.

    `eager` makes events begin at once; `arguments` are ROS arguments, as for remapping.
    """
    from rclpy.parameter import Parameter

    from step_ros.ros.perception_node import PerceptionNode

    sides = []

    def start(*, arguments=(), eager=False, **parameters):
        values = {
            **(EAGER if eager else {}),
            'bundle': str(tiny_bundle.path),
            'image_topics': ['/camera/image_raw'],
            'autostart': False,
            'device': 'cpu',
            # Images are published at once, whatever their stamps say: that is no overload.
            'queue_size': 100,
            **parameters,
        }
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        side = Side(
            lambda context: PerceptionNode(
                context=context,
                parameter_overrides=overrides,
                cli_args=['--ros-args', *arguments] if arguments else None,
            )
        )
        sides.append(side)
        return side.node

    yield start
    for side in sides:
        side.close()
