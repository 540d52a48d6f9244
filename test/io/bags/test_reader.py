"""Bags as recorders leave them: both storages, compressed, in several files, old, damaged."""

import os
import pickle
import shutil
import sqlite3
from io import BytesIO

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from rosbags.rosbag2 import storage_mcap as mcap

from step_ros.datasets.clip import ClipRecord, Span
from step_ros.datasets.frames import index_clip, read_frames, span_frames
from step_ros.images.encodings import PUBLISHED_ENCODINGS, ImageError
from step_ros.images.messages import pack, raw_to_rgb
from step_ros.io.bags.metadata import BagError
from step_ros.io.bags.reader import START, BagEvent, BagReader, index_bag
from step_ros.io.bags.storage import StorageFile, our_types
from step_ros.io.bags.writer import BagWriter
from step_ros.io.video import VideoError

RAW, PNG, EVENTS = '/camera/image_raw', '/other/image_raw/compressed', '/camera/truth'
LABELLED = [(0.1, 0.3, {'action': 'open'})]
FRAMES = 12


def stored(path):
    """Return connections and messages of a bag."""
    with Reader(path) as reader:
        return list(reader.connections), [
            (c.topic, log, data) for c, log, data in reader.messages()
        ]


def rewrite(source, target, plugin, mode):
    """Write a bag again as a recorder with compression would."""
    connections, messages = stored(source)
    writer = Writer(target, version=9, storage_plugin=plugin)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        added = {
            c.topic: writer.add_connection(c.topic, c.msgtype, typestore=our_types())
            for c in connections
        }
        for topic, log_ns, data in messages:
            writer.write(added[topic], log_ns, data)
    return target


def metadata_of(path):
    return yaml.safe_load((path / 'metadata.yaml').read_text())['rosbag2_bagfile_information']


def put_metadata(path, information):
    content = {'rosbag2_bagfile_information': information}
    (path / 'metadata.yaml').write_text(yaml.safe_dump(content))


def in_two_files(source, target, plugin):
    """Split a bag after half of its messages."""
    connections, messages = stored(source)
    target.mkdir()
    half = len(messages) // 2
    for number, part in enumerate((messages[:half], messages[half:])):
        folder = target / f'part_{number}'
        with Writer(folder, version=8, storage_plugin=plugin) as writer:
            added = {
                c.topic: writer.add_connection(c.topic, c.msgtype, typestore=our_types())
                for c in connections
            }
            for topic, log_ns, data in part:
                writer.write(added[topic], log_ns, data)
        information = metadata_of(folder)
        [name] = information['relative_file_paths']
        shutil.move(folder / name, target / name)
        shutil.rmtree(folder)
    counts = metadata_of(source)['topics_with_message_count']
    names = sorted(file.name for file in target.iterdir())
    information |= {'relative_file_paths': names, 'topics_with_message_count': counts}
    put_metadata(target, information)
    return target


def without_index(source, target):
    """Write an mcap file as the fastest recorder does: no chunks, no summary."""
    connections, messages = stored(source)
    with target.open('wb') as file:
        file.write(b'\x89MCAP0\r\n')
        header = BytesIO()
        mcap.write_string(header, 'ros2')
        mcap.write_string(header, 'test')
        mcap.write_record(file, 0x01, header)
        schemas = []
        for c in connections:
            schemas.append(mcap.Schema(len(schemas) + 1, c.msgtype, 'ros2msg', c.msgdef.data))
            mcap.write_schema(file, schemas[-1])
            channel = mcap.Channel(c.id, c.msgtype, c.topic, 'cdr', b'')
            mcap.write_channel(file, channel, [schemas[-1]])
        ids = {c.topic: c.id for c in connections}
        for topic, log_ns, data in messages:
            record = BytesIO()
            mcap.write_uint16(record, ids[topic])
            mcap.write_uint32(record, 0)
            mcap.write_uint64(record, log_ns)
            mcap.write_uint64(record, log_ns)
            record.write(data)
            mcap.write_record(file, 0x05, record)
        footer = BytesIO(bytes(20))
        footer.seek(20)
        mcap.write_record(file, 0x02, footer)
        file.write(b'\x89MCAP0\r\n')
    return target


def as_of_foxy(path):
    """Make a sqlite3 bag what recorders wrote before they stored definitions."""
    database = sqlite3.connect(path / f'{path.name}.db3')
    database.executescript(
        """
        DROP TABLE schema; DROP TABLE message_definitions; DROP TABLE metadata;
        ALTER TABLE topics DROP COLUMN type_description_hash;
        """
    )
    database.commit()
    database.close()
    return path


@pytest.fixture(scope='module')
def plain(tmp_path_factory, put_bag):
    """One bag in both storages, with two cameras and an event."""
    root = tmp_path_factory.mktemp('bags')
    for storage in ('mcap', 'sqlite3'):
        put_bag(root / storage, RAW, PNG, storage=storage, labelled=LABELLED)
    return root


def make(kind, root, plain):
    storage, _, how = kind.partition(' ')
    plugin = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}[storage]
    modes = {
        'files compressed': CompressionMode.FILE,
        'messages compressed': CompressionMode.MESSAGE,
        'chunks compressed': CompressionMode.STORAGE,
    }
    if how in modes:
        return rewrite(plain / storage, root / 'bag', plugin, modes[how])
    if how == 'two files':
        return in_two_files(plain / storage, root / 'bag', plugin)
    if how == 'bare file':
        suffix = {'mcap': '.mcap', 'sqlite3': '.db3'}[storage]
        return shutil.copy(plain / storage / f'{storage}{suffix}', root / f'bare{suffix}')
    if how == 'without index':
        return without_index(plain / storage, root / 'bare.mcap')
    path = shutil.copytree(plain / storage, root / storage)
    return as_of_foxy(path) if how == 'without definitions' else path


KINDS = (
    'mcap',
    'mcap chunks compressed',
    'mcap messages compressed',
    'mcap files compressed',
    'mcap two files',
    'mcap bare file',
    'mcap without index',
    'sqlite3',
    'sqlite3 messages compressed',
    'sqlite3 files compressed',
    'sqlite3 two files',
    'sqlite3 bare file',
    'sqlite3 without definitions',
)


@pytest.fixture(scope='module', params=KINDS)
def bag(request, tmp_path_factory, plain):
    return make(request.param, tmp_path_factory.mktemp('kind'), plain)


def test_topics(bag):
    reader = BagReader(bag)
    assert reader.image_topics == (RAW, PNG)
    assert reader.event_topics == (EVENTS,)
    assert [reader.topics[topic].messages for topic in (RAW, PNG, EVENTS)] == [FRAMES, FRAMES, 2]


def test_frames_of_several_cameras_in_the_order_of_recording(bag, bag_image):
    frames = list(BagReader(bag).frames())
    assert [frame.camera for frame in frames[:4]] == [RAW, PNG, RAW, PNG]
    assert len(frames) == 2 * FRAMES
    for place, frame in enumerate(frames):
        assert np.array_equal(frame.load(), bag_image(place // 2))
        assert frame.load().flags.writeable
        assert frame.frame_id == 'optical'
        assert frame.received_ns - frame.stamp_ns == 7_000_000 - 1000 * (place % 2)


def test_events(bag):
    kinds = [(event.type, event.task, event.label) for event in BagReader(bag).events([EVENTS])]
    assert kinds == [(1, 'action', 'open'), (2, 'action', 'open')]
    first, last = BagReader(bag).events()
    assert last.stamp_ns - first.stamp_ns == 200_000_000
    assert last.start_ns == first.stamp_ns


@pytest.mark.parametrize('topic', [RAW, PNG])
@pytest.mark.parametrize('numbers', [[0], [11], [4, 5, 6], [9, 2, 2, 7], list(range(FRAMES))])
def test_frames_by_their_numbers(bag, topic, numbers, bag_image):
    index = index_bag(bag, topic)
    assert len(index) == FRAMES
    # By the headers: the first frame was recorded 7 ms after it was taken.
    assert index.stamps_ns.tolist() == [50_000_000 * number for number in range(FRAMES)]
    assert index.start_ns == 1_700_000_000 * 10**9 + (topic == PNG) * 1000
    images = read_frames(index, numbers)
    for number, image in zip(numbers, images, strict=True):
        assert np.array_equal(image, bag_image(number))


def test_an_index_goes_to_other_processes_and_keeps_nothing_open(bag, bag_image):
    before = os.listdir('/proc/self/fd')
    index = pickle.loads(pickle.dumps(index_bag(bag, RAW)))
    assert np.array_equal(read_frames(index, [3])[0], bag_image(3))
    next(BagReader(bag).frames()).load()
    assert len(os.listdir('/proc/self/fd')) == len(before)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_only_the_frames_wanted_are_looked_at(storage, plain, monkeypatch):
    index = index_bag(plain / storage, RAW)
    looked, real = [], StorageFile.deserialise
    monkeypatch.setattr(
        StorageFile, 'deserialise', lambda self, m: looked.append(m.topic) or real(self, m)
    )
    read_frames(index, [10, 2, 3])
    assert looked == [RAW] * 3


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_messages_recorded_at_the_same_time_are_told_apart(storage, tmp_path, bag_image):
    with BagWriter(tmp_path / 'bag', storage) as writer:
        for number in range(6):
            writer.image('/raw', bag_image(number), number, log_ns=number // 3)
    index = index_bag(tmp_path / 'bag', '/raw')
    for number in range(6):
        assert np.array_equal(read_frames(index, [number])[0], bag_image(number))


@pytest.mark.parametrize('encoding', [*PUBLISHED_ENCODINGS, 'png', 'jpeg'])
def test_every_encoding_that_the_node_understands(encoding, tmp_path):
    y, x = np.mgrid[0:32, 0:48]
    image = np.stack([100 + 2 * x, 120 + y, 200 - x - y], axis=-1).astype(np.uint8)
    with BagWriter(tmp_path / 'bag') as writer:
        writer.image('/image', image, 0, encoding=encoding)
    [found] = read_frames(index_bag(tmp_path / 'bag', '/image'), [0])
    if encoding in PUBLISHED_ENCODINGS:
        assert np.array_equal(found, raw_to_rgb(pack(image, encoding)))
    else:
        assert np.abs(found.astype(int) - image).max() <= (0 if encoding == 'png' else 12)


def test_a_clip_of_a_bag_is_read_as_one_of_a_video(plain, tmp_path, put_video, bag_image):
    put_video(tmp_path / 'a.mp4')
    common = {'split': 'train', 'labels': {'action': 'open'}}
    clip = ClipRecord(clip_id='a', video=plain / 'mcap', topic=PNG, **common)
    other = ClipRecord(clip_id='b', video=plain / 'mcap', topic=RAW, **common)
    video = ClipRecord(clip_id='c', video=tmp_path / 'a.mp4', **common)
    assert [len(index_clip(record)) for record in (clip, other, video)] == [12, 12, 10]
    assert index_clip(clip).topic == PNG
    assert index_clip(other).topic == RAW
    # Clips of one camera share its index.
    assert index_clip(clip) is index_clip(
        ClipRecord(clip_id='d', video=clip.video, topic=PNG, **common)
    )
    numbers = span_frames(index_clip(clip), Span(start=0.1, end=0.25, unit='seconds'))
    assert numbers.tolist() == [2, 3, 4]
    assert np.array_equal(read_frames(index_clip(clip), numbers)[2], bag_image(4))


@given(first_ns=st.integers(0, 2**31 * 10**9), start_ns=st.integers(0, 10**15))
def test_a_span_in_seconds_begins_with_the_frame_of_its_stamp(first_ns, start_ns):
    class Index:
        path, stamps_ns = None, np.array([start_ns - 1, start_ns, start_ns + 9, start_ns + 10])

        def __len__(self):
            return 4

    start = (first_ns + start_ns - first_ns) / 1e9
    span = Span(start=start, end=(start_ns + 10) / 1e9, unit='seconds')
    assert span_frames(Index(), span).tolist() == [1, 2]


def error_of(call, *arguments):
    with pytest.raises(BagError) as caught:
        call(*arguments)
    assert isinstance(caught.value, VideoError)
    return str(caught.value)


def test_errors_name_the_bag_and_what_it_holds(plain):
    path = plain / 'mcap'
    error = error_of(index_bag, path, '/gone')
    assert f'{path}: topic' in error
    assert f"'/gone': there is no such topic; topics with images: {RAW}, {PNG}" in error
    assert 'its type is step_ros/msg/ActionEvent; topics with images: /c' in error_of(
        index_bag, path, EVENTS
    )
    assert f'topics with action events: {EVENTS}' in error_of(BagReader(path).events, [RAW])


def test_what_is_no_bag(tmp_path):
    (tmp_path / 'old.bag').write_bytes(b'#ROSBAG V2.0\n')
    (tmp_path / 'text.mcap').write_text('no bag')
    (tmp_path / 'text.db3').write_text('no bag')
    (tmp_path / 'clip.mp4').write_text('no bag')
    (tmp_path / 'empty.mcap').touch()
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'killed').mkdir()
    (tmp_path / 'killed' / 'killed_0.mcap').touch()
    for name, words in (
        ('none', 'there is no such bag'),
        ('old.bag', 'a bag of ROS 1; convert it: rosbags-convert'),
        ('text.mcap', 'text.mcap is damaged or was cut short'),
        ('text.db3', 'text.db3 is damaged or was cut short'),
        ('clip.mp4', 'expected a folder with metadata.yaml, or a .mcap or .db3 file'),
        ('empty.mcap', 'empty.mcap is damaged or was cut short'),
        ('folder', 'metadata.yaml is missing'),
        ('killed', 'it holds killed_0.mcap: ros2 bag reindex'),
    ):
        error = error_of(BagReader, tmp_path / name)
        assert error.startswith(f'{tmp_path / name}: ')
        assert words in error


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'version': 10}, 'version 10 is not supported; at most 9 is'),
        ({'version': 'nine'}, 'rosbag2_bagfile_information.version'),
        (
            {'storage_identifier': 'rocksdb'},
            "storage_identifier 'rocksdb' is not supported; mcap or sqlite3 is",
        ),
        ({'relative_file_paths': ['gone.mcap']}, 'names gone.mcap, which is not there'),
        ({'relative_file_paths': None}, 'rosbag2_bagfile_information.relative_file_paths'),
        (
            {'compression_mode': 'FILE', 'compression_format': 'lz4'},
            "compression_format 'lz4' is not supported",
        ),
        ({'compression_mode': 'twice'}, "compression_mode 'twice' is not supported"),
    ],
)
def test_metadata_that_cannot_be_used(change, words, plain, tmp_path):
    path = shutil.copytree(plain / 'mcap', tmp_path / 'bag')
    put_metadata(path, {**metadata_of(path), **change})
    assert f'metadata.yaml{"" if "names" in words else ":"} {words}' in error_of(BagReader, path)


def test_metadata_that_is_no_metadata(plain, tmp_path):
    path = shutil.copytree(plain / 'mcap', tmp_path / 'bag')
    for text in ('', '- 1', 'a: [', '\0'):
        (path / 'metadata.yaml').write_text(text)
        assert 'metadata.yaml' in error_of(BagReader, path)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('kept', [0.2, 0.6, 0.9])
def test_a_file_that_was_cut_short_is_refused(storage, kept, plain, tmp_path):
    path = shutil.copytree(plain / storage, tmp_path / 'bag')
    [name] = metadata_of(path)['relative_file_paths']
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: int(kept * len(content))])
    error = error_of(index_bag, path, RAW)
    assert f'{path}: {name} is damaged or was cut short' in error


def test_messages_that_are_missing_are_noticed(plain, tmp_path):
    path = shutil.copytree(plain / 'sqlite3', tmp_path / 'bag')
    database = sqlite3.connect(path / 'sqlite3.db3')
    database.execute('DELETE FROM messages WHERE id > 20')
    database.commit()
    database.close()
    words = f'{RAW}: 10 messages are there; expected 12: the bag is cut short'
    assert words in error_of(index_bag, path, RAW)
    # What came before is not lost.
    frames = BagReader(path).frames([RAW])
    assert len([next(frames) for _ in range(10)]) == 10
    assert words in error_of(next, frames)


def test_what_a_killed_recorder_has_not_written_is_noticed(plain, tmp_path):
    path = shutil.copytree(plain / 'sqlite3', tmp_path / 'bag')
    (path / 'sqlite3.db3-wal').write_bytes(b'pages')
    assert 'wal_checkpoint' in error_of(index_bag, path, RAW)


@pytest.mark.parametrize(
    ('stamps', 'words'),
    [
        ((1, 2, 2, 3), 'frame 2 of 4 is stamped 2.000000 s, the one before 2.000000 s (1 such'),
        ((1, 3, 2, 1), 'frame 2 of 4 is stamped 2.000000 s, the one before 3.000000 s (2 such'),
        ((), "topic '/raw' has no messages"),
    ],
)
def test_stamps_that_do_not_ascend_are_refused(stamps, words, tmp_path, bag_image):
    with BagWriter(tmp_path / 'bag') as writer:
        writer.event('/events', BagEvent(type=START, stamp_ns=1, start_ns=1, task='t', label='l'))
        for number, stamp in enumerate(stamps):
            writer.image('/raw', bag_image(number), stamp * 10**9, log_ns=number)
    if not stamps:
        information = metadata_of(tmp_path / 'bag')
        [topic] = information['topics_with_message_count']
        empty = {'topic_metadata': {**topic['topic_metadata'], 'name': '/raw'}, 'message_count': 0}
        empty['topic_metadata']['type'] = 'sensor_msgs/msg/Image'
        information['topics_with_message_count'].append(empty)
        put_metadata(tmp_path / 'bag', information)
    assert words in error_of(index_bag, tmp_path / 'bag', '/raw')
    # Who plays it gets them as they are.
    assert [f.stamp_ns // 10**9 for f in BagReader(tmp_path / 'bag').frames(['/raw'])] == [*stamps]


def test_a_frame_that_cannot_be_converted_or_differs_in_size(tmp_path, bag_image):
    types = our_types()
    with Writer(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        kind = 'sensor_msgs/msg/CompressedImage'
        connection = writer.add_connection('/jpeg', kind, typestore=types)
        for number in range(2):
            stamp = types.types['builtin_interfaces/msg/Time'](sec=number, nanosec=0)
            header = types.types['std_msgs/msg/Header'](stamp=stamp, frame_id='')
            data = np.frombuffer(b'no jpeg', np.uint8)
            message = types.types[kind](header=header, format='jpeg', data=data)
            writer.write(connection, number, types.serialize_cdr(message, kind))
    index = index_bag(tmp_path / 'bag', '/jpeg')
    error = error_of(read_frames, index, [1])
    assert '/jpeg: frame 1 of 2 cannot be converted: 7 bytes of format' in error
    with pytest.raises(ImageError, match='no whole image'):
        BagReader(tmp_path / 'bag').first_frame('/jpeg').load()
    with BagWriter(tmp_path / 'sizes') as writer:
        writer.image('/raw', bag_image(0), 0)
        writer.image('/raw', bag_image(1)[:8], 1)
    index = index_bag(tmp_path / 'sizes', '/raw')
    with pytest.raises(VideoError, match='frame 1 is 24 x 8, frame 0 24 x 16; expected one size'):
        read_frames(index, [0, 1])
    for numbers in ([2], [-1], []):
        with pytest.raises(VideoError, match='frames 0 to 1'):
            read_frames(index, numbers)


def test_a_bag_that_changed_after_it_was_indexed(tmp_path, put_bag, bag_image):
    put_bag(tmp_path / 'bag', RAW)
    index = index_bag(tmp_path / 'bag', RAW)
    shutil.rmtree(tmp_path / 'bag')
    with BagWriter(tmp_path / 'bag') as writer:
        writer.image(RAW, bag_image(0), 3, log_ns=int(index.log_ns_f[0]))
    assert 'frame 0 of 12 has another stamp than before' in error_of(read_frames, index, [0])
    assert 'frame 5 of 12 is not there any more' in error_of(read_frames, index, [5])


def test_messages_of_another_version(tmp_path):
    with Writer(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(
            '/events', 'step_ros/msg/ActionEvent', msgdef='string word\n', rihs01='RIHS01_0'
        )
        writer.write(connection, 5, b'\0\1\0\0\2\0\0\0a\0')
    error = error_of(list, BagReader(tmp_path / 'bag').events())
    assert "the stored definition of step_ros/msg/ActionEvent has no field 'header'" in error


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_damage_gives_frames_or_an_error(storage, data, plain, tmp_path):
    path = tmp_path / 'bag'
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(plain / storage, path)
    [name] = metadata_of(path)['relative_file_paths']
    content = bytearray((path / name).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at : at + 8] = data.draw(st.binary(min_size=1, max_size=8))
    (path / name).write_bytes(bytes(content))
    try:
        index = index_bag(path, RAW)
        images = read_frames(index, range(len(index)))
        list(BagReader(path).events([EVENTS]))
    except VideoError:
        return
    assert images.shape[0] == len(index) >= FRAMES
