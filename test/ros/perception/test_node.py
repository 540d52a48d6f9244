# SPDX-License-Identifier: Apache-2.0
"""The perception node over real DDS: images in, hypotheses out, lifecycle."""

import signal
from itertools import count

import numpy as np
import pytest
from lifecycle_msgs.msg import State, Transition
from rclpy.qos import ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from step_ros.encoders.base import TorchEncoder
from step_ros.ros.conversion import to_nanoseconds, to_time
from step_ros.ros.images import from_rgb, to_compressed
from step_ros.streaming.frame import Frame
from step_ros.streaming.recogniser import StreamingRecogniser

TIMEOUT = 20.0
PERIOD_NS = 100_000_000  # of the tiny bundle
FRAMES = 4
BASE_NS = 1_700_000_000_000_000_000


def picture(index):
    """Return a picture that differs from slot to slot."""
    image = np.full((36, 54, 3), 40, np.uint8)
    image[:, (index * 7) % 54 :] = (200, 20 * (index % 10), 90)
    return image


def stamped(index, encoding='rgb8', *, frame_id='optical', stamp_ns=None):
    stamp = to_time(BASE_NS + index * PERIOD_NS if stamp_ns is None else stamp_ns)
    return from_rgb(picture(index), encoding, Header(stamp=stamp, frame_id=frame_id))


def publish_until_hypothesis(publisher, user):
    """Publish frames until a hypothesis arrives: frames sent during discovery are lost."""
    indices = count()

    def received():
        publisher.publish(stamped(next(indices)))
        return user.hypotheses

    user.wait_for(received, 'a hypothesis', 3 * TIMEOUT, interval=0.05)


def whole_clip(bundle, indices):
    """Return the hypotheses of the recogniser for these pictures, without ROS."""
    encoder = TorchEncoder(
        bundle.model.backbone, device=next(bundle.model.heads.parameters()).device
    )
    recogniser = StreamingRecogniser(bundle, encoder)
    hypotheses = []
    for index in indices:
        hypotheses += recogniser.process(
            [
                Frame(
                    camera='camera',
                    stamp_ns=BASE_NS + index * PERIOD_NS,
                    load=lambda index=index: picture(index),
                )
            ]
        )
    return hypotheses


@pytest.fixture
def camera(managed_node, user):
    """A publisher on `/camera/image_raw` to which an active node subscribes."""
    managed_node()
    publisher = user.publisher('/camera/image_raw')
    user.activate('/camera/image_raw')
    return publisher


def test_images_in_hypotheses_out(camera, user, tiny_bundle):
    for index in range(6):
        camera.publish(stamped(index))
    user.wait_for(lambda: len(user.hypotheses) == 3, 'three hypotheses')
    for received, expected in zip(user.hypotheses, whole_clip(tiny_bundle, range(6)), strict=True):
        assert to_nanoseconds(received.header.stamp) == expected.stamp_ns
        assert to_nanoseconds(received.window_start) == expected.window_start_ns
        assert received.header.frame_id == 'optical'
        assert received.model_id == tiny_bundle.model_id
        assert 0 < to_nanoseconds(received.latency) < TIMEOUT * 1e9
        for task, wanted in zip(received.tasks, expected.tasks, strict=True):
            assert list(task.labels) == [label for label, _ in wanted.top(3)]
            assert list(task.scores) == pytest.approx([s for _, s in wanted.top(3)], abs=1e-4)
            assert task.counterpart == wanted.counterpart
            assert task.order_evidence == pytest.approx(wanted.order_evidence, abs=1e-4)
    (model,) = user.models
    assert model.model_id == tiny_bundle.model_id
    assert model.frames == FRAMES


@pytest.mark.parametrize('head', ['linear', 'attentive', 'fusion-lstm'])
def test_bundle_alone_chooses_the_head(
    head, managed_node, user, tiny_model, save_tiny_bundle, tmp_path
):
    bundle = save_tiny_bundle(tmp_path, tiny_model(head=head))
    managed_node(bundle=str(tmp_path))
    publisher = user.publisher('/camera/image_raw')
    user.activate('/camera/image_raw')
    for index in range(FRAMES):
        publisher.publish(stamped(index))
    user.wait_for(lambda: user.hypotheses, 'a hypothesis')
    (expected,) = whole_clip(bundle, range(FRAMES))
    for task, wanted in zip(user.hypotheses[0].tasks, expected.tasks, strict=True):
        assert list(task.labels) == [label for label, _ in wanted.top(3)]
        assert list(task.scores) == pytest.approx([s for _, s in wanted.top(3)], abs=1e-4)


def test_all_transitions(managed_node, user):
    managed_node()
    assert user.state == State.PRIMARY_STATE_UNCONFIGURED
    publisher = user.publisher('/camera/image_raw')
    for _ in range(2):
        assert user.change(Transition.TRANSITION_CONFIGURE)
        assert user.state == State.PRIMARY_STATE_INACTIVE
        assert user.change(Transition.TRANSITION_ACTIVATE)
        assert user.state == State.PRIMARY_STATE_ACTIVE
        user.wait_for(publisher.get_subscription_count, 'the subscription')
        user.hypotheses.clear()
        for index in range(FRAMES):
            publisher.publish(stamped(index))
        user.wait_for(lambda: len(user.hypotheses) == 1, 'a hypothesis of a fresh window')
        assert user.change(Transition.TRANSITION_DEACTIVATE)
        user.wait_for(
            lambda: not user.subscribed_as('/camera/image_raw'), 'the end of the subscription'
        )
        assert user.change(Transition.TRANSITION_CLEANUP)
        assert user.state == State.PRIMARY_STATE_UNCONFIGURED
    assert user.change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert user.state == State.PRIMARY_STATE_FINALIZED


def test_bad_images_are_counted_and_the_node_goes_on(camera, user):
    unknown = stamped(0)
    unknown.encoding = 'smell8'
    short = stamped(0)
    short.data = short.data[:-7]
    unstamped = stamped(0, stamp_ns=0)
    damaged = serialize_message(stamped(0))[:-3]
    # More nanoseconds than a second has, in the last second: no output message can hold this time.
    beyond = stamped(0, stamp_ns=(2**31 - 1) * 10**9)
    beyond.header.stamp.nanosec = 2**32 - 1
    for message in (unknown, short, unstamped, damaged, beyond):
        camera.publish(message)
    for index in range(FRAMES):
        camera.publish(stamped(index))
    user.wait_for(lambda: len(user.hypotheses) == 1, 'a hypothesis after bad images')
    user.wait_for(lambda: user.counts('camera').get('start') == 1, 'diagnostics')
    counts = user.counts('camera')
    causes = ('unknown_encoding', 'size_mismatch', 'zero_stamp', 'malformed', 'impossible_stamp')
    assert [counts[cause] for cause in causes] == [1] * len(causes)
    assert counts['received'] == counts['used'] + len(causes) == FRAMES + len(causes)


def test_jump_back_in_time_clears_the_window(camera, user):
    for index in [*range(50, 54), *range(FRAMES)]:
        camera.publish(stamped(index))
    user.wait_for(lambda: len(user.hypotheses) == 2, 'a hypothesis before and one after the jump')
    first, second = user.hypotheses
    assert to_nanoseconds(first.window_start) == BASE_NS + 50 * PERIOD_NS
    assert to_nanoseconds(second.window_start) == BASE_NS
    user.wait_for(lambda: user.counts('camera').get('jump') == 1, 'the jump in the diagnostics')


def test_two_cameras_raw_and_compressed(managed_node, user, tiny_bundle):
    managed_node(
        cameras=['left', 'right'], image_topics=['/left/image_raw', '/right/image_raw/compressed']
    )
    left = user.publisher('/left/image_raw')
    right = user.publisher('/right/image_raw/compressed', CompressedImage)
    user.activate('/left/image_raw', '/right/image_raw/compressed')
    for index in range(5):
        left.publish(stamped(index, 'bgr8', frame_id='left'))
        header = stamped(index, frame_id='right').header
        right.publish(to_compressed(picture(index + 20), header, format='png'))
    user.wait_for(lambda: len(user.hypotheses) == 4, 'two hypotheses of each camera')
    by_camera = {
        name: [received for received in user.hypotheses if received.camera == name]
        for name in ('left', 'right')
    }
    expected = whole_clip(tiny_bundle, range(5))
    for received, wanted in zip(by_camera['left'], expected, strict=True):
        assert received.header.frame_id == 'left'
        assert received.tasks[0].scores[0] == pytest.approx(
            max(wanted.tasks[0].scores_k), abs=1e-4
        )
    assert {received.header.frame_id for received in by_camera['right']} == {'right'}


@pytest.mark.parametrize(
    'reliability', [ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT]
)
def test_subscription_follows_the_offered_reliability(managed_node, user, reliability):
    managed_node()
    assert user.change(Transition.TRANSITION_CONFIGURE)
    assert user.change(Transition.TRANSITION_ACTIVATE)
    topic = '/camera/image_raw'
    publisher = user.publisher(topic, reliability=reliability)
    user.wait_for(lambda: user.subscribed_as(topic) == [reliability], f'{reliability.name}')
    publish_until_hypothesis(publisher, user)


@pytest.mark.parametrize(
    ('executor', 'how'), [('auto', signal.SIGINT), ('single', signal.SIGTERM)]
)
def test_process_starts_itself_and_ends_cleanly(executor, how, user, tiny_bundle, start_node):
    process = start_node(
        'perception_node',
        executor=executor,
        bundle=str(tiny_bundle.path),
        image_topics=['/camera/image_raw'],
        autostart=True,
    )
    publish_until_hypothesis(user.publisher('/camera/image_raw'), user)
    assert process.end(how) == 0, process.output
    assert 'Traceback' not in process.output
    assert 'executor: ' in process.output
