# SPDX-License-Identifier: Apache-2.0
"""Regions of interest: the model sees the region until it times out."""

import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import RegionOfInterest

from step_ros.encoders.base import TorchEncoder
from step_ros.ros.perception.image_input import RegionSubscriptions, choose_region_topics
from step_ros.streaming.frame import Frame
from step_ros.streaming.recogniser import StreamingRecogniser

SHAPE = (32, 48)  # input size of the tiny bundle's encoder
REGION = RegionOfInterest(x_offset=12, y_offset=8, width=24, height=16)
BOX = (8, 12, 16, 24)


@pytest.fixture
def clip():
    """Images of one window, whose middle and border differ."""
    generator = np.random.default_rng(5)
    return [generator.integers(0, 255, (36, 54, 3), dtype=np.uint8) for _ in range(4)]


def scores_of(bundle, images):
    encoder = TorchEncoder(
        bundle.model.backbone, device=next(bundle.model.heads.parameters()).device
    )
    frames = [
        Frame(camera='camera', stamp_ns=1 + index * 100_000_000, load=lambda image=image: image)
        for index, image in enumerate(images)
    ]
    (hypothesis,) = StreamingRecogniser(bundle, encoder).process(frames)
    return [dict(task.top(len(task.spec.labels))) for task in hypothesis.tasks]


def has_scores(message, expected):
    return all(
        dict(zip(task.labels, task.scores, strict=True)) == pytest.approx(wanted, abs=1e-3)
        for task, wanted in zip(message.tasks, expected, strict=True)
    )


def test_region_is_used_until_it_times_out(managed_node, user, tiny_bundle, clip):
    whole = scores_of(tiny_bundle, clip)
    top, left, height, width = BOX
    cut = scores_of(
        tiny_bundle, [image[top : top + height, left : left + width] for image in clip]
    )
    managed_node(
        region_topics=['/person'], region_margin=0.0, region_timeout=0.5, runtime='torch', top_k=9
    )
    film = user.film()
    # Best effort, as person detectors publish.
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    regions = user.node.create_publisher(RegionOfInterest, '/person', qos)
    user.activate('/camera/image_raw')
    user.wait_for(regions.get_subscription_count, 'the subscription to the region')

    def show_clip(expected, region=None):
        """Show the clip in a new window; return whether the scores are as expected."""
        count = len(user.hypotheses)
        if region is not None:
            regions.publish(region)
        film.stamp_ns += 10**9
        for image in clip:
            film.show(image=image)
        user.wait_for(lambda: len(user.hypotheses) > count, 'a hypothesis')
        return has_scores(user.hypotheses[-1], expected)

    assert show_clip(whole)
    assert not has_scores(user.hypotheses[-1], cut)
    # Regions and images are independent topics: some images may arrive before the region.
    user.wait_for(lambda: show_clip(cut, REGION), 'the region to be used')
    user.wait_for(lambda: show_clip(whole), 'the region to time out')
    user.wait_for(lambda: show_clip(cut, REGION), 'the region to be used')
    user.wait_for(lambda: show_clip(whole, RegionOfInterest()), 'an empty region: the whole image')


# The subscriptions alone.


@pytest.fixture
def watched(node_side):
    """Regions of one camera of two, and their publisher."""

    def start(timeout):
        node, other = node_side('perception').node, node_side('detector')
        regions = RegionSubscriptions(
            node, {'front': '/person'}, shape=SHAPE, margin=0.0, timeout=timeout
        )
        publisher = other.node.create_publisher(RegionOfInterest, '/person', 1)
        other.wait_for(publisher.get_subscription_count, 'the subscription')

        def publish():
            publisher.publish(REGION)
            return regions.crop('front') is not None

        return regions, lambda: other.wait_for(publish, 'the region'), other

    return start


def test_region_applies_to_its_own_camera_only(watched):
    regions, publish, _ = watched(timeout=100.0)
    assert regions.crop('front') is None
    publish()
    assert regions.crop('front')((36, 54)) == BOX
    assert regions.crop('rear') is None


def test_region_times_out(watched):
    regions, publish, other = watched(timeout=0.2)
    publish()
    other.wait_for(lambda: regions.crop('front') is None, 'the region to time out')


def test_region_topics_are_joined_to_cameras():
    assert choose_region_topics(['a', 'b'], ['']) == {}
    assert choose_region_topics(['a'], ['/x']) == {'a': '/x'}
    assert choose_region_topics(['a', 'b'], ['', 'y/z']) == {'b': 'y/z'}


@pytest.mark.parametrize(
    ('topics', 'reason'),
    [(['/x'], 'expected one topic for each camera'), (['/x', 'not one'], "'not one': Invalid")],
)
def test_bad_region_topics_are_rejected(topics, reason):
    with pytest.raises(ValueError, match=reason):
        choose_region_topics(['a', 'b'], topics)
