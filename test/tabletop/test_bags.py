# SPDX-License-Identifier: Apache-2.0
"""Bags of the tabletop: they carry their true labels, and a seed gives the same messages."""

import pytest

from step_ros.datasets.registry import read_dataset
from step_ros.io.bags.reader import BagReader
from step_ros.io.bags.storage import StorageFile, read_contents
from step_ros.tabletop.bags import BagCameras, record_tabletop
from step_ros.tabletop.simulator import Tabletop

SMALL = {'width': 32, 'height': 24, 'rate': 5.0}


def stored(path):
    """Return every message of a bag: topic, time of recording, bytes."""
    contents = read_contents(path)
    messages = []
    for file in contents.files:
        with StorageFile(path, file) as opened:
            for message in opened.messages(opened.topics):
                messages.append((message.topic, message.log_ns, bytes(message.data)))
    return messages


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('compressed', [False, True])
def test_bag_holds_images_and_true_labels_of_the_scene(storage, compressed, tmp_path):
    camera = BagCameras(**SMALL, compressed=compressed)
    duration_s = record_tabletop(
        tmp_path / 'bag', seed=4, split='test', seconds=3.0, storage=storage, camera=camera
    )
    tabletop = Tabletop(seed=4, split='test')
    assert duration_s == tabletop.segment_at(3.0).end_s
    bag = BagReader(tmp_path / 'bag')
    assert bag.image_topics == ('/camera/image_raw' + '/compressed' * compressed,)
    frames = list(bag.frames())
    assert len(frames) == int(duration_s * 5) + 1
    assert frames[3].load().shape == (24, 32, 3)
    events = list(bag.events(['/camera/truth']))
    zero_ns = frames[0].stamp_ns
    for start, end in zip(events[0::6], events[3::6], strict=True):
        segment = tabletop.segment_at((start.stamp_ns - zero_ns) / 1e9 + 0.01)
        assert (start.type, end.type, start.label) == (1, 2, segment.action)
        assert end.stamp_ns - zero_ns == pytest.approx(segment.end_s * 1e9, abs=2)


def test_messages_depend_on_the_seed(tmp_path):
    for name, seed in (('one', 0), ('again', 0), ('other', 1)):
        record_tabletop(
            tmp_path / name, seed=seed, split='train', seconds=1, camera=BagCameras(**SMALL)
        )
    assert stored(tmp_path / 'one') == stored(tmp_path / 'again')
    assert stored(tmp_path / 'one') != stored(tmp_path / 'other')


def test_bags_with_two_views_are_a_dataset(tmp_path):
    camera = BagCameras(**SMALL, views=('front', 'side'))
    for split in ('train', 'test'):
        record_tabletop(tmp_path / split / 'scene', seed=0, split=split, seconds=6, camera=camera)
    dataset = read_dataset('bag', tmp_path, topic='all')
    assert not dataset.problems
    assert {record.topic for record in dataset.records} == {'/front/image_raw', '/side/image_raw'}
    assert {record.split for record in dataset.records} == {'train', 'test'}


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        ({'views': ('back',)}, "view 'back'"),
        ({'rate': 0.0}, 'rate'),
        ({'views': ()}, 'at least one view'),
    ],
)
def test_invalid_cameras_are_refused(change, named):
    with pytest.raises(ValueError, match=named):
        BagCameras(**{**SMALL, **change})
