"""Cameras from parameters."""

import pytest

from step_ros.ros.subscriptions import Camera, choose_cameras


def test_transport_follows_the_topic_s_name_or_the_parameter():
    topics = ['/a/image_raw', '/b/image_raw/compressed']
    names = ['a', 'b']
    assert choose_cameras(names, topics, 'auto') == [
        Camera(name='a', topic=topics[0], compressed=False),
        Camera(name='b', topic=topics[1], compressed=True),
    ]
    assert [c.compressed for c in choose_cameras(names, topics, 'compressed')] == [True, True]
    assert [c.compressed for c in choose_cameras(names, topics, 'raw')] == [False, False]


@pytest.mark.parametrize(
    ('names', 'topics', 'said'),
    [
        ([], [], 'at least one'),
        (['a'], ['/x', '/y'], 'one topic for each camera'),
        (['a', 'a'], ['/x', '/y'], 'cameras='),
        (['a', 'b'], ['/x', '/x'], 'image_topics='),
        (['a', ''], ['/x', '/y'], 'cameras='),
    ],
)
def test_what_does_not_fit_is_refused(names, topics, said):
    with pytest.raises(ValueError, match=said):
        choose_cameras(names, topics, 'auto')
