# SPDX-License-Identifier: Apache-2.0
"""ROS 2 and other readers read the bags that BagWriter writes."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from rosbags.highlevel import AnyReader

from step_ros.images.encodings import ImageError
from step_ros.io.bags.reader import END, START, BagEvent, BagReader
from step_ros.io.bags.storage import (
    ACTION_EVENT,
    ACTION_HYPOTHESIS,
    COMPRESSED_IMAGE,
    IMAGE,
    TASK_HYPOTHESIS,
    our_types,
)
from step_ros.io.bags.writer import BagWriter
from step_ros.model.bundle_schema import TaskSpec
from step_ros.streaming.hypothesis import Hypothesis, TaskHypothesis

PAIR = {'open': 'close', 'close': 'open'}
HYPOTHESIS = Hypothesis(
    camera='front',
    frame_id='optical',
    stamp_ns=3_000_000_007,
    window_start_ns=1_000_000_001,
    received_ns=0,
    tasks=(
        TaskHypothesis(
            spec=TaskSpec(name='verb', labels=('open', 'close', 'idle'), counterparts=PAIR),
            scores_k=np.array([0.2, 0.5, 0.3]),
            order_evidence=0.75,
        ),
    ),
)
EVENT = BagEvent(
    type=END,
    stamp_ns=3_000_000_007,
    start_ns=1_000_000_001,
    task='verb',
    label='pick up cup',
    camera='front',
    frame_id='optical',
    score=0.5,
)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_written_frames_and_events_are_read_back(storage, tmp_path, bag_image):
    path = tmp_path / 'deep' / 'bag'
    with BagWriter(path, storage) as writer:
        for number in range(3):
            writer.image('/raw', bag_image(number), 10**9 + number, 'optical')
            writer.image('/jpeg', bag_image(number), 10**9 + number, encoding='jpeg')
        writer.event('/events', EVENT)
    reader = BagReader(path)
    frames = list(reader.frames(['/raw']))
    assert [(f.stamp_ns, f.frame_id) for f in frames] == [(10**9 + n, 'optical') for n in range(3)]
    for number, (raw, jpeg) in enumerate(zip(frames, reader.frames(['/jpeg']), strict=True)):
        assert np.array_equal(raw.load(), bag_image(number))
        assert np.abs(jpeg.load().astype(int) - bag_image(number)).max() < 8
    assert list(reader.events()) == [EVENT]


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_hypotheses_are_read_by_the_definitions_in_the_bag(storage, tmp_path):
    with BagWriter(tmp_path / 'bag', storage) as writer:
        writer.hypothesis('/hypotheses', HYPOTHESIS, model_id='tiny@0', top_k=2, log_ns=9)
    with AnyReader([tmp_path / 'bag']) as reader:
        ((connection, log_ns, data),) = reader.messages()
        message = reader.deserialize(data, connection.msgtype)
    assert (connection.topic, connection.msgtype, log_ns) == ('/hypotheses', ACTION_HYPOTHESIS, 9)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (3, 7)
    assert (message.window_start.sec, message.header.frame_id) == (1, 'optical')
    assert (message.camera, message.model_id) == ('front', 'tiny@0')
    (task,) = message.tasks
    assert (task.task, task.labels, task.counterpart) == ('verb', ['close', 'idle'], 'open')
    np.testing.assert_allclose(task.scores, [0.5, 0.3], rtol=1e-6)
    assert task.counterpart_score == pytest.approx(0.2)
    assert task.order_evidence == 0.75


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_bag_holds_metadata_and_definitions(storage, tmp_path, bag_image):
    with BagWriter(tmp_path / 'bag', storage) as writer:
        writer.image('/raw', bag_image(0), 5, log_ns=40)
        writer.event('/events', EVENT, log_ns=90)
    metadata = yaml.safe_load((tmp_path / 'bag' / 'metadata.yaml').read_text())
    information = metadata['rosbag2_bagfile_information']
    assert information['storage_identifier'] == storage
    assert information['starting_time'] == {'nanoseconds_since_epoch': 40}
    assert information['duration'] == {'nanoseconds': 50}
    # Another reader needs only the definitions in the bag.
    with AnyReader([tmp_path / 'bag']) as reader:
        kinds = {c.topic: (c.msgtype, len(c.ext.offered_qos_profiles)) for c in reader.connections}
        assert kinds == {'/raw': (IMAGE, 0), '/events': (ACTION_EVENT, 1)}
        [(_, _, data)] = [m for m in reader.messages() if m[0].topic == '/events']
        assert reader.deserialize(data, ACTION_EVENT).label == 'pick up cup'


def test_ros_reads_written_messages(tmp_path, bag_image):
    serialization = pytest.importorskip('rclpy.serialization')
    from sensor_msgs.msg import Image

    from step_ros.msg import ActionEvent

    with BagWriter(tmp_path / 'bag') as writer:
        writer.image('/raw', bag_image(3), 2_000_000_005, 'optical', encoding='bgr8')
        writer.event('/events', EVENT)
    with AnyReader([tmp_path / 'bag']) as reader:
        data = {connection.topic: data for connection, _, data in reader.messages()}
    image = serialization.deserialize_message(bytes(data['/raw']), Image)
    assert (image.header.stamp.sec, image.header.stamp.nanosec) == (2, 5)
    assert (image.encoding, image.width, image.height, image.step) == ('bgr8', 24, 16, 72)
    assert bytes(image.data) == bag_image(3)[:, :, ::-1].tobytes()
    event = serialization.deserialize_message(bytes(data['/events']), ActionEvent)
    assert (event.type, event.task, event.label) == (ActionEvent.END, 'verb', 'pick up cup')
    assert event.start_stamp.nanosec == 1
    assert (ActionEvent.START, ActionEvent.END) == (START, END)


def test_hypothesis_equals_the_message_of_the_node(tmp_path):
    serialization = pytest.importorskip('rclpy.serialization')
    from step_ros.msg import ActionHypothesis
    from step_ros.ros.conversion import hypothesis_message

    with BagWriter(tmp_path / 'bag') as writer:
        writer.hypothesis('/hypotheses', HYPOTHESIS, model_id='tiny@0', top_k=2)
    with AnyReader([tmp_path / 'bag']) as reader:
        ((_, _, data),) = reader.messages()
    message = serialization.deserialize_message(bytes(data), ActionHypothesis)
    published = hypothesis_message(HYPOTHESIS, model_id='tiny@0', top_k=2)
    published.latency = message.latency
    sent = serialization.serialize_message(published)
    assert message == serialization.deserialize_message(sent, ActionHypothesis)


@pytest.mark.parametrize(
    'kind', [ACTION_EVENT, ACTION_HYPOTHESIS, TASK_HYPOTHESIS, IMAGE, COMPRESSED_IMAGE]
)
def test_type_hashes_equal_those_of_ros(kind):
    prefixes = [*os.environ.get('AMENT_PREFIX_PATH', '').split(':'), sys.prefix]
    files = [Path(prefix, 'share', f'{kind}.json') for prefix in prefixes if prefix]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        pytest.skip('no ROS, or a version without hashes of types')
    [first, *_] = json.loads(file.read_text())['type_hashes']
    assert our_types().hash_rihs01(kind) == first['hash_string']


def test_error_keeps_the_messages_written_before(tmp_path, bag_image):
    def record():
        with BagWriter(tmp_path / 'bag') as writer:
            writer.image('/raw', bag_image(0), 5)
            raise RuntimeError('unplugged')

    with pytest.raises(RuntimeError, match='unplugged'):
        record()
    assert [frame.stamp_ns for frame in BagReader(tmp_path / 'bag').frames()] == [5]


def test_bad_message_is_refused_and_the_others_are_kept(tmp_path, bag_image):
    with BagWriter(tmp_path / 'bag') as writer:
        writer.image('/raw', bag_image(0), 5)
        with pytest.raises(ImageError):
            writer.image('/raw', bag_image(0)[:, :, 0], 6)
        with pytest.raises(ValueError, match='stamp -1 ns'):
            writer.image('/raw', bag_image(0), -1)
        with pytest.raises(ValueError, match='stamp 2147483648000000000 ns'):
            writer.image('/raw', bag_image(0), 2**31 * 10**9)
        with pytest.raises(ValueError, match=r"'/raw' has messages of sensor_msgs/msg/Image, not"):
            writer.event('/raw', EVENT)
        writer.image('/raw', bag_image(0), 7)
    assert [frame.stamp_ns for frame in BagReader(tmp_path / 'bag').frames()] == [5, 7]


def test_existing_bag_is_not_overwritten(tmp_path, put_bag):
    put_bag(tmp_path / 'bag', '/raw')
    before = (tmp_path / 'bag' / 'bag.mcap').read_bytes()
    with pytest.raises(FileExistsError, match='choose another name'):
        BagWriter(tmp_path / 'bag')
    assert (tmp_path / 'bag' / 'bag.mcap').read_bytes() == before
    with pytest.raises(ValueError, match="storage 'db': expected mcap or sqlite3"):
        BagWriter(tmp_path / 'other', 'db')
    assert not (tmp_path / 'other').exists()
