"""Bags of the tabletop: they carry their truth, and a seed gives the same messages."""

import pytest

from step_ros.datasets.registry import read_dataset
from step_ros.io.bags.reader import BagReader
from step_ros.io.bags.storage import StorageFile, read_contents
from step_ros.tabletop.bags import DemoCamera, record_tabletop
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
def test_truth_and_images_are_those_of_the_scene(storage, compressed, tmp_path):
    camera = DemoCamera(**SMALL, compressed=compressed)
    lasts = record_tabletop(
        tmp_path / 'bag', seed=4, split='test', seconds=3.0, storage=storage, camera=camera
    )
    tabletop = Tabletop(seed=4, split='test')
    assert lasts == tabletop.segment_at(3.0).end_s
    bag = BagReader(tmp_path / 'bag')
    assert bag.image_topics == ('/camera/image_raw' + '/compressed' * compressed,)
    frames = list(bag.frames())
    assert len(frames) == int(lasts * 5) + 1
    assert frames[3].load().shape == (24, 32, 3)
    events = list(bag.events(['/camera/truth']))
    zero_ns = frames[0].stamp_ns
    for start, end in zip(events[0::6], events[3::6], strict=True):
        segment = tabletop.segment_at((start.stamp_ns - zero_ns) / 1e9 + 0.01)
        assert (start.type, end.type, start.label) == (1, 2, segment.action)
        assert end.stamp_ns - zero_ns == pytest.approx(segment.end_s * 1e9, abs=2)


def test_a_seed_gives_the_same_messages_and_another_one_others(tmp_path):
    for name, seed in (('one', 0), ('again', 0), ('other', 1)):
        record_tabletop(
            tmp_path / name, seed=seed, split='train', seconds=1, camera=DemoCamera(**SMALL)
        )
    assert stored(tmp_path / 'one') == stored(tmp_path / 'again')
    assert stored(tmp_path / 'one') != stored(tmp_path / 'other')


def test_views_are_cameras_and_the_bags_are_a_dataset(tmp_path):
    camera = DemoCamera(**SMALL, views=('front', 'side'))
    for split in ('train', 'test'):
        record_tabletop(tmp_path / split / 'scene', seed=0, split=split, seconds=6, camera=camera)
    dataset = read_dataset('bag', tmp_path, topic='all')
    assert not dataset.problems
    assert {record.topic for record in dataset.records} == {'/front/image_raw', '/side/image_raw'}
    assert {record.split for record in dataset.records} == {'train', 'test'}


@pytest.mark.parametrize(
    ('change', 'named'),
    [({'views': ('back',)}, "view 'back'"), ({'rate': 0.0}, 'rate'), ({'views': ()}, 'a view')],
)
def test_a_camera_that_cannot_be_is_refused(change, named):
    with pytest.raises(ValueError, match=named):
        DemoCamera(**{**SMALL, **change})
