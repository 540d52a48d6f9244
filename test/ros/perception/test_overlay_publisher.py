# SPDX-License-Identifier: Apache-2.0
"""`~/overlay` over real DDS: drawn only while it has subscribers."""

import numpy as np
import pytest
from lifecycle_msgs.msg import State
from sensor_msgs.msg import CompressedImage, Image

from step_ros.ros.conversion import to_nanoseconds
from step_ros.visualization.overlay import Overlay

TOPIC = '/camera/image_raw'
OVERLAY = '/perception/overlay'


def subscribe(user, topic):
    """Subscribe, and return a list that grows with each picture."""
    pictures = []
    user.node.create_subscription(Image, topic, pictures.append, 20)
    user.wait_for(
        lambda: [
            each
            for each in user.node.get_publishers_info_by_topic(topic)
            if each.node_name == 'perception'
        ],
        f'a publisher of {topic}',
    )
    return pictures


def show_until(user, film, pictures, count=1):
    """Show frames one by one until pictures arrive: nothing is drawn during discovery."""

    def seen():
        film.show()
        user.wait_for(lambda: user.hypotheses and has_hypothesis(user, film), 'its hypothesis')
        newest_ns = to_nanoseconds(pictures[-1].header.stamp) if pictures else 0
        return len(pictures) >= count and newest_ns == film.stamp_ns - film.PERIOD_NS

    user.wait_for(seen, 'pictures')


def has_hypothesis(user, film):
    newest_ns = to_nanoseconds(user.hypotheses[-1].header.stamp)
    return newest_ns == film.stamp_ns - film.PERIOD_NS


def array(picture):
    return np.frombuffer(picture.data, np.uint8).reshape(picture.height, picture.width, 3)


@pytest.mark.parametrize('compressed', [False, True])
def test_overlay_has_the_stamp_of_its_frame(managed_node, user, compressed):
    topic = TOPIC + '/compressed' * compressed
    managed_node(image_topics=[topic])
    film = user.film(topic, CompressedImage if compressed else None)
    user.activate(topic)
    film.show(4)
    pictures = subscribe(user, OVERLAY)
    user.wait_for(lambda: user.hypotheses, 'a hypothesis')
    show_until(user, film, pictures, count=3)
    stamps = [to_nanoseconds(each.header.stamp) for each in pictures]
    assert all((film.stamp_ns - stamp_ns) % film.PERIOD_NS == 0 for stamp_ns in stamps)
    assert stamps[-1] == film.stamp_ns - film.PERIOD_NS
    assert stamps == sorted(set(stamps))
    for picture in pictures:
        assert (picture.header.frame_id, picture.encoding) == ('optical', 'rgb8')
        # The frame is enlarged from 54 to 640 pixels in width, with a panel below it.
        assert picture.width == 640
        assert picture.height > round(36 * 640 / 54)
        assert picture.step == 3 * picture.width
        assert array(picture).std() > 10


def test_nothing_is_drawn_without_subscribers(managed_node, user, monkeypatch):
    managed_node()

    def draw(*arguments, **options):
        raise AssertionError('drawn without subscribers')

    film = user.film()
    user.activate(TOPIC)
    with monkeypatch.context() as patch:
        patch.setattr(Overlay, 'draw', draw)
        film.show(8)
        user.wait_for(
            lambda: user.hypotheses and has_hypothesis(user, film), 'the last hypothesis'
        )
        film.show()
        user.wait_for(lambda: has_hypothesis(user, film), 'a hypothesis after it')
    assert user.state == State.PRIMARY_STATE_ACTIVE
    show_until(user, film, subscribe(user, OVERLAY))


def test_each_camera_has_its_own_overlay(managed_node, user):
    topics = ['/left/image_raw', '/right/image_raw']
    managed_node(cameras=['left', 'right one'], image_topics=topics)
    left, right = (user.film(topic) for topic in topics)
    user.activate(*topics)
    of_left, of_right = (subscribe(user, f'{OVERLAY}/{part}') for part in ('left', 'right_one'))
    left.show(3)
    right.show(3)
    right.stamp_ns += 10**9
    show_until(user, left, of_left)
    right.show(3)
    show_until(user, right, of_right)
    assert not user.node.get_publishers_info_by_topic(OVERLAY)
    for pictures, film in ((of_left, left), (of_right, right)):
        assert to_nanoseconds(pictures[-1].header.stamp) == film.stamp_ns - film.PERIOD_NS


def test_attention_is_drawn_over_the_frame(managed_node, user):
    managed_node(overlay_attention='action')
    film = user.film()
    user.activate(TOPIC)
    pictures = subscribe(user, OVERLAY)
    grey = np.full((36, 54, 3), 90, np.uint8)
    grey[:18] = 91

    def seen():
        film.show(image=grey)
        return user.hypotheses and pictures and not even(pictures[-1])

    def even(picture):
        frame = array(picture)[: round(36 * 640 / 54)]
        return np.ptp(frame.astype(int), axis=2).max() == 0

    user.wait_for(seen, 'a coloured picture of a grey frame')
