# SPDX-License-Identifier: Apache-2.0
"""Replay end to end: bags of noise through a tiny bundle, and the files that it writes."""

import json
import re
import shutil
from itertools import chain

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from step_ros.encoders.base import TorchEncoder, choose_device
from step_ros.io.bags.metadata import SUFFIXES
from step_ros.io.bags.reader import BagEvent, BagReader
from step_ros.io.bags.storage import our_types
from step_ros.io.bags.writer import BagWriter
from step_ros.replay import run as module
from step_ros.replay.report import write_replay_report
from step_ros.replay.run import ReplayPlan, replay
from step_ros.resources import load_defaults
from step_ros.streaming.settings import StreamSettings

pytestmark = pytest.mark.slow

ZERO = 1_700_000_000 * 10**9
SECOND = 10**9
FRONT, SIDE = '/front/image_raw', '/side/image_raw/compressed'
LABELS = (('pick up', 'push'), ('lay down', 'pull'), ('idle', 'rest'))
# The scores of a tiny, untrained model are low.
LOW_THRESHOLDS = {
    'on_threshold': 0.2,
    'off_threshold': 0.1,
    'minimum_duration': 0.1,
    'minimum_gap': 0.1,
}


def plan(*, labels='', topics=(), **changes):
    values = {**load_defaults('perception.yaml'), **LOW_THRESHOLDS, **changes}
    return ReplayPlan(
        labels=labels,
        topics=topics,
        settings=StreamSettings.from_values(values),
        top_k=3,
        device=choose_device('cpu'),
    )


@pytest.fixture(scope='module')
def put_noise():
    """Write a bag of noise at 20 Hz, labelled: `put_noise(path, FRONT, seconds=3)`."""

    def put(
        path,
        *topics,
        seconds=3,
        storage='mcap',
        seed=0,
        labels=LABELS,
        stamps_ns=None,
        labels_topic='/truth',
    ):
        random = np.random.default_rng(seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        stamps_ns = stamps_ns or [ZERO + n * SECOND // 20 for n in range(20 * seconds)]
        with BagWriter(path, storage) as writer:
            for number, stamp_ns in enumerate(stamps_ns):
                for topic in topics:
                    image = random.integers(0, 256, (32, 48, 3), np.uint8)
                    encoding = 'png' if topic.endswith('compressed') else 'rgb8'
                    log_ns = ZERO + number * SECOND // 20 + 1000
                    writer.image(topic, image, stamp_ns, encoding=encoding, log_ns=log_ns)
            for number, (action, verb) in enumerate(labels):
                for kind, at in ((1, number), (2, number + 1)):
                    for task, label in (('action', action), ('verb', verb)):
                        event = BagEvent(
                            type=kind,
                            stamp_ns=ZERO + at * SECOND,
                            start_ns=ZERO + number * SECOND,
                            task=task,
                            label=label,
                        )
                        writer.event(labels_topic, event)
        return path

    return put


@pytest.fixture(scope='module')
def bags(put_noise, tmp_path_factory):
    """Write two good bags into a folder, one of one camera and one of two."""
    folder = tmp_path_factory.mktemp('bags')
    put_noise(folder / 'one', FRONT)
    put_noise(folder / 'two', FRONT, SIDE, storage='sqlite3', seed=1)
    return folder


def run(paths, bundles, output, **changes):
    return replay(paths, [each.path for each in bundles], plan(**changes), output=output)


def recognise(bundle, bag, topics, batch):
    """Return the hypotheses of the recogniser, called with `batch` frames at a time."""
    settings = plan().settings
    encoder = TorchEncoder(bundle.model.backbone, device=choose_device('cpu'))
    recogniser = settings.recogniser(bundle, encoder)
    frames = list(BagReader(bag).frames(topics))
    batches = [frames[at : at + batch] for at in range(0, len(frames), batch)]
    return list(chain.from_iterable(recogniser.process(batch) for batch in batches))


# ---- predictions


@pytest.mark.parametrize('name', ['one', 'two'])
def test_predictions_equal_the_recogniser_frame_by_frame(name, bags, tiny_bundle, tmp_path):
    result = run([bags / name], [tiny_bundle], tmp_path)
    assert not result.failures
    topics = BagReader(bags / name).image_topics
    expected = recognise(tiny_bundle, bags / name, topics, batch=1)
    recordings = result.recordings['tiny']
    assert [each.predictions.topic for each in recordings] == list(topics)
    for recording in recordings:
        predictions = recording.predictions
        of_camera = [each for each in expected if each.camera == predictions.topic]
        assert predictions.stamps_ns_h.tolist() == [each.stamp_ns for each in of_camera]
        assert predictions.starts_ns_h.tolist() == [each.window_start_ns for each in of_camera]
        for place, spec in enumerate(tiny_bundle.spec.tasks):
            np.testing.assert_allclose(
                predictions.scores_hk[spec.name],
                np.stack([each.tasks[place].scores_k for each in of_camera]),
                atol=1e-5,
            )
        assert predictions.counts['received'] == 60
        assert predictions.events


def test_hypotheses_and_events_are_written_to_a_bag(bags, tiny_bundle, tmp_path):
    result = run([bags / 'two'], [tiny_bundle], tmp_path)
    (metadata,) = tmp_path.glob('bags/**/metadata.yaml')
    written = BagReader(metadata.parent)
    events = list(written.events())
    published = [each for one in result.recordings['tiny'] for each in one.predictions.events]
    assert sorted(map(about, events)) == sorted(about(each.event) for each in published)
    for camera in (FRONT, SIDE):
        for task in ('action', 'verb', 'object'):
            types = [e.type for e in events if (e.camera, e.task) == (camera, task)]
            assert types == [1, 2] * (len(types) // 2)
    with AnyReader([metadata.parent], default_typestore=our_types()) as reader:
        messages = [
            reader.deserialize(data, connection.msgtype)
            for connection, _, data in reader.messages()
            if connection.topic == '/perception/hypotheses'
        ]
    assert len(messages) == sum(len(e.predictions.stamps_ns_h) for e in result.recordings['tiny'])
    assert {message.camera for message in messages} == {FRONT, SIDE}
    assert messages[0].model_id == tiny_bundle.model_id
    assert [task.task for task in messages[0].tasks] == ['action', 'verb', 'object']


def about(event):
    return event.camera, event.task, event.stamp_ns, event.type


# ---- the report


def test_two_runs_write_the_same_report_bytes(bags, tiny_bundle, tmp_path):
    texts = []
    for name in ('first', 'second'):
        output = tmp_path / name
        content = write_replay_report(run([bags], [tiny_bundle], output), output)
        texts.append((output / 'report.json').read_bytes())
        assert json.loads(texts[-1]) == content
    assert texts[0] == texts[1]
    folder = bags.name
    assert [each['bag'] for each in content['recordings']] == [
        f'{folder}/one',
        *2 * [f'{folder}/two'],
    ]
    assert str(bags) not in texts[0].decode()
    timing = json.loads((tmp_path / 'first' / 'timing.json').read_text())
    assert [each['path'] for each in timing['replays']] == [str(bags / 'one'), str(bags / 'two')]


def test_report_shows_two_bundles_side_by_side(bags, tiny_bundle, orderless_bundle, tmp_path):
    result = run([bags / 'one'], [tiny_bundle, orderless_bundle], tmp_path)
    content = write_replay_report(result, tmp_path)
    titles = [tiny_bundle.model_id, orderless_bundle.model_id]
    assert list(content['bundles']) == list(content['overall']) == titles
    ordered, orderless = (content['overall'][title]['action'] for title in titles)
    assert ordered['judged'] == orderless['judged'] > 10
    assert ordered['newest']['top1'] != orderless['newest']['top1'] or (
        ordered['order_evidence'] != orderless['order_evidence']
    )
    for name in ('p50', 'mean'):
        # Without positions the reversed window gives the same scores.
        assert orderless['order_evidence']['wrong'][name] in (None, 0.0)
    assert content['overall'][titles[0]]['object']['newest'] is None
    assert 0.5 < content['recordings'][0]['bundles'][titles[0]]['coverage'] < 1
    text = (tmp_path / 'report.md').read_text()
    for title in (
        *('accuracy, %', 'balanced accuracy, %', 'symmetric accuracy, %', 'F1@10', 'F1@25'),
        *('F1@50', 'edit score', 'detection delay, median', '95th percentile', 'false events'),
        *('covered, %', 'order evidence of correct', 'order evidence of wrong', *titles),
    ):
        assert title in text
    page = (tmp_path / 'report.html').read_text()
    assert page.count('data:image/png;base64,') == len(list((tmp_path / 'images').iterdir())) == 3


def test_bag_without_labels_gets_no_scores(put_noise, tiny_bundle, tmp_path):
    put_noise(tmp_path / 'bag', FRONT, labels=())
    result = run([tmp_path / 'bag'], [tiny_bundle], tmp_path / 'out')
    content = write_replay_report(result, tmp_path / 'out')
    assert content['overall']['tiny']['action']['judged'] == 0
    assert content['recordings'][0]['bundles']['tiny']['hypotheses'] > 10


def test_every_report_begins_with_its_label_source(put_noise, tiny_bundle, tmp_path):
    put_noise(tmp_path / 'bags' / 'true', FRONT)
    put_noise(tmp_path / 'bags' / 'own', FRONT, labels_topic='/perception/events')
    result = run([tmp_path / 'bags'], [tiny_bundle], tmp_path / 'out')
    content = write_replay_report(result, tmp_path / 'out')
    assert not content['failures']
    assert next(iter(content)) == 'labels'
    labels = content['labels']
    assert labels['bags/true'] == {'source': '/truth', 'left_out': {}, 'outside_the_images': 0}
    assert labels['bags/own']['source'] is None
    assert list(labels['bags/own']['left_out']) == ['/perception/events']
    lines = [line for line in (tmp_path / 'out' / 'report.md').read_text().splitlines() if line]
    assert lines[1:4] == [
        'True labels: none in bags/own, so there are no scores.',
        'True labels: /truth in bags/true.',
        '/perception/events is no truth, as a perception node published it: its name is that of '
        'a perception node (in bags/own).',
    ]
    assert 'True labels: /truth' in (tmp_path / 'out' / 'report.html').read_text()
    own = content['recordings'][0]
    assert own['bag'] == 'bags/own'
    assert own['bundles']['tiny']['tasks']['action']['judged'] == 0


def test_bag_begun_late_is_scored_from_start_stamps(tiny_bundle, tmp_path, bag_image):
    # The recorder received a latched pair from before the images, and an END without its START.
    with BagWriter(tmp_path / 'late') as writer:
        for number in range(40):
            writer.image(FRONT, bag_image(number), ZERO + number * SECOND // 20)
        for kind, label, stamp_s, start_s in (
            *((1, 'open', -5, -5), (2, 'open', -3, -5)),
            *((2, 'pick up', 1, -3), (1, 'lay down', 1, 1)),
        ):
            event = BagEvent(
                type=kind,
                stamp_ns=ZERO + stamp_s * SECOND,
                start_ns=ZERO + start_s * SECOND,
                task='action',
                label=label,
            )
            writer.event('/truth', event, log_ns=ZERO + max(0, stamp_s) * SECOND)
    result = run([tmp_path / 'late'], [tiny_bundle], tmp_path / 'out')
    content = write_replay_report(result, tmp_path / 'out')
    assert not content['failures']
    assert content['labels']['late']['outside_the_images'] == 1
    assert content['recordings'][0]['segments'] == {'action': 2}
    assert (
        '1 labels in late lie outside the images' in (tmp_path / 'out' / 'report.md').read_text()
    )


def test_smoothing_equals_an_exponential_mean(bags, tiny_bundle, tmp_path):
    raw = run([bags / 'one'], [tiny_bundle], tmp_path / 'raw')
    smooth = run([bags / 'one'], [tiny_bundle], tmp_path / 'smooth', smoothing=0.3)
    one, other = (
        each.recordings['tiny'][0].predictions.scores_hk['action'] for each in (raw, smooth)
    )
    expected = [one[0]]
    for scores_k in one[1:]:
        expected.append(expected[-1] - np.expm1(-0.1 / 0.3) * (scores_k - expected[-1]))
    np.testing.assert_allclose(other, expected, atol=1e-6)


# ---- resuming


def test_finished_bags_are_reused(bags, tiny_bundle, tmp_path, monkeypatch):
    first = write_replay_report(run([bags], [tiny_bundle], tmp_path), tmp_path)

    def refuse(*_, **__):
        raise AssertionError('replayed again')

    monkeypatch.setattr(module, 'replay_bag', refuse)
    again = run([bags], [tiny_bundle], tmp_path)
    assert write_replay_report(again, tmp_path) == first
    assert [each.resumed for each in again.times] == [True, True]
    with pytest.raises(AssertionError, match='replayed again'):
        run([bags], [tiny_bundle], tmp_path, on_threshold=0.3)


def test_interrupted_run_continues(bags, tiny_bundle, tmp_path, monkeypatch):
    do, done = module.replay_bag, []

    def interrupt(bag, *arguments, **options):
        if done:
            raise KeyboardInterrupt
        done.append(bag.path.name)
        return do(bag, *arguments, **options)

    monkeypatch.setattr(module, 'replay_bag', interrupt)
    with pytest.raises(KeyboardInterrupt):
        run([bags], [tiny_bundle], tmp_path)
    assert not list(tmp_path.glob('**/*.partial'))
    monkeypatch.setattr(module, 'replay_bag', do)
    result = run([bags], [tiny_bundle], tmp_path)
    assert [each.resumed for each in result.times] == [True, False]


def test_damaged_results_and_changed_bags_are_replayed_again(put_noise, tiny_bundle, tmp_path):
    bag, output = tmp_path / 'bag', tmp_path / 'out'
    put_noise(bag, FRONT)
    first = run([bag], [tiny_bundle], output)
    (facts,) = output.glob('bags/**/answers.json')
    facts.write_text('{')
    assert not run([bag], [tiny_bundle], output).times[0].resumed
    assert run([bag], [tiny_bundle], output).times[0].resumed
    shutil.rmtree(bag)
    put_noise(bag, FRONT, seed=5)
    other = run([bag], [tiny_bundle], output)
    assert not other.times[0].resumed
    one, two = (
        each.recordings['tiny'][0].predictions.scores_hk['verb'] for each in (first, other)
    )
    assert not np.array_equal(one, two)


# ---- bad bags


def _cut(path):
    (file,) = (file for file in path.iterdir() if file.suffix in SUFFIXES)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


BACK = [ZERO + n * SECOND // 20 for n in (*range(30), *range(20, 50))]
ELSEWHEN = [ZERO + (99 * 20 + n) * SECOND // 20 for n in range(30)]
FEW = {'stamps_ns': BACK[:3], 'labels': LABELS[:1]}
BAD = {
    'cut mcap': ({}, _cut, 'bad.mcap is damaged or was cut short.*mcap recover'),
    'cut sqlite3': ({'storage': 'sqlite3'}, _cut, 'bad.db3 is damaged or was cut short'),
    'stamps': ({'stamps_ns': BACK}, None, f'{FRONT}: stamps do not ascend.*order_tolerance'),
    'unknown label': ({'labels': [('juggle', 'push')]}, None, "action 'juggle'.*does not know"),
    'labels outside': ({'stamps_ns': ELSEWHEN}, None, 'outside the images of'),
    'too short': (FEW, None, 'no window of 4 frames.*frames: 1 new, 1 off_grid, 3 received'),
}


@pytest.fixture
def fail(tiny_bundle, tmp_path):
    """Replay a folder and return the reasons of failures: `fail(folder, good=[...], **plan)`."""

    def check(folder, *, good, **changes):
        output = tmp_path / 'out'
        result = run([folder], [tiny_bundle], output, **changes)
        replayed = {each.bag for each in result.recordings['tiny']}
        assert replayed == {f'{folder.name}/{name}' for name in good}
        content = write_replay_report(result, output)
        assert content['failures'] == result.failures
        text = (output / 'report.md').read_text()
        assert all(name in text for name in result.failures)
        assert str(folder) not in text
        assert not list(output.glob('**/*.partial'))
        failures = result.failures.items()
        return {name.removeprefix(f'{folder.name}/'): reason for name, reason in failures}

    return check


@pytest.mark.parametrize('kind', BAD)
def test_bad_bag_is_reported_and_others_continue(kind, put_noise, fail, tmp_path):
    options, spoil, reason = BAD[kind]
    folder = tmp_path / 'bags'
    put_noise(folder / 'good', FRONT)
    put_noise(folder / 'bad', FRONT, **options)
    if spoil is not None:
        spoil(folder / 'bad')
    failures = fail(folder, good=['good'])
    assert list(failures) == ['bad']
    assert re.search(reason, failures['bad']), failures


def test_missing_image_topic_is_refused_with_a_list(put_noise, fail, tmp_path):
    folder = tmp_path / 'bags'
    put_noise(folder / 'one', FRONT)
    put_noise(folder / 'two', FRONT, SIDE)
    failures = fail(folder, good=['two'], topics=(SIDE,))
    assert re.search(f"'{SIDE}': there is no such topic.*{FRONT}", failures['one'])
    failures = fail(folder, good=[], topics=('/truth',))
    assert re.search("'/truth': its type is step_ros/msg/ActionEvent.*images", failures['one'])


def test_missing_label_topic_is_refused_with_a_list(put_noise, fail, tmp_path):
    put_noise(tmp_path / 'bags' / 'one', FRONT)
    failures = fail(tmp_path / 'bags', good=[], labels='/nothing')
    assert re.search("'/nothing': there is no such topic.*action events: /truth", failures['one'])


def test_bag_without_images_is_refused_with_its_topics(put_noise, fail, tmp_path):
    put_noise(tmp_path / 'bags' / 'one')
    failures = fail(tmp_path / 'bags', good=[])
    assert 'no topic with images; it holds /truth (step_ros/msg/ActionEvent)' in failures['one']


def test_paths_that_are_no_bags_are_reported(tiny_bundle, tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'notes.txt').write_text('no bag')
    paths = [tmp_path / name for name in ('empty', 'notes.txt', 'nowhere')]
    failures = run(paths, [tiny_bundle], tmp_path / 'out').failures
    assert 'metadata.yaml is missing' in failures['empty']
    assert 'no bag; expected a folder' in failures['notes.txt']
    assert 'there is no such bag' in failures['nowhere']


def test_unknown_encoding_is_counted_and_named(fail, tmp_path, bag_image):
    folder = tmp_path / 'bags'
    folder.mkdir()
    with BagWriter(folder / 'odd', 'sqlite3') as writer:
        for number in range(30):
            writer.image(FRONT, bag_image(number), ZERO + number * SECOND // 20, encoding='yuv422')
    file = folder / 'odd' / 'odd.db3'
    file.write_bytes(file.read_bytes().replace(b'yuv422', b'yuv999'))
    failures = fail(folder, good=[])
    assert re.search("30 unknown_encoding; .*'yuv999'", failures['odd']), failures


def test_same_bundle_twice_is_refused(bags, tiny_bundle, tmp_path):
    with pytest.raises(ValueError, match='is given 2 times'):
        run([bags], [tiny_bundle, tiny_bundle], tmp_path)
