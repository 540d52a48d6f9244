# SPDX-License-Identifier: Apache-2.0
"""From videos to cached tokens: frames, crops, mirrors, frame period and frame rates."""

import numpy as np
import pytest
import torch
from rich.filesize import decimal

from step_ros.datasets.clip import ClipRecord, Span
from step_ros.datasets.schema import load_dataset_config, names_a_side, shipped_datasets
from step_ros.encoders.base import TorchEncoder
from step_ros.io.video import VideoWriter
from step_ros.training import frame_rates as rates_module
from step_ros.training.augmentation import Augmentation
from step_ros.training.config import CacheRecipe, Recipe
from step_ros.training.dataset_tokens import cached_tokens, estimate_tokens
from step_ros.training.feature_cache.spec import CacheError, check_room
from step_ros.training.frame_rates import FILE, common_frame_period, frame_rates
from step_ros.training.sampler import Sampler, sided_clips

PERIOD_NS = 80_000_000


def put_film(path, frames, rate=25.0, size=(96, 48)):
    """Write a film with brightness 6 times the frame's number, plus 60 in the right half."""
    with VideoWriter(path, size=size, rate=rate) as writer:
        for number in range(frames):
            image = np.full((size[1], size[0], 3), 6 * number, np.uint8)
            image[:, size[0] // 2 :] += 60
            writer.write(image, round(number * 1e9 / rate))
    return path


@pytest.fixture(scope='module')
def films(tmp_path_factory):
    root = tmp_path_factory.mktemp('films')
    return {frames: put_film(root / f'{frames}.mp4', frames) for frames in (12, 20, 28)}


def clip(video, *, split='train', span=None, name=''):
    return ClipRecord(
        clip_id=name or video.stem, video=video, span=span, split=split, labels={'action': 'wave'}
    )


def sampler(**changes):
    return Sampler(
        **{'frames': 4, 'frame_period_ns': PERIOD_NS, 'size': (48, 48), 'views': 1, **changes}
    )


def shown(images):
    """Return the numbers of the frames, by the brightness of their left edge."""
    return [round(float(image[:, :10].mean()) / 6) for image in images]


def recipe(folder, **sampling):
    return Recipe(
        name='films',
        data={'dataset': 'csv', 'root': str(folder)},
        backbone={'name': 'vit_tiny_patch16_224'},
        sampling={'frames': 4, **sampling},
        cache={'folder': str(folder), 'workers': 0},
    )


# ---- frames


def test_evaluation_takes_the_middle_of_each_segment(films):
    segments = sampler(kind='segments')
    assert shown(segments(clip(films[20]), 0)) == [2, 7, 12, 17]
    span = Span(start=4, end=12, unit='frames')
    assert shown(segments(clip(films[20], span=span), 0)) == [5, 7, 9, 11]
    # Segments ignore the frame period.
    assert shown(sampler(kind='segments', frame_period_ns=1)(clip(films[20]), 0)) == [2, 7, 12, 17]


def test_training_takes_any_frame_of_each_segment(films):
    segments = sampler(
        kind='segments', views=40, augmentation=Augmentation(smallest_crop=1, flip=False)
    )
    windows = [shown(segments(clip(films[20]), view)) for view in range(40)]
    for window in windows:
        assert [number // 5 for number in window] == [0, 1, 2, 3]
    for place in range(4):
        assert len({window[place] for window in windows}) == 5
    assert windows[7] == shown(segments(clip(films[20]), 7))


def test_windows_of_an_interval_are_spread_over_the_clip(films):
    assert [shown(sampler(views=3)(clip(films[20]), view)) for view in range(3)] == [
        [0, 2, 4, 6],
        [6, 8, 10, 12],
        [13, 15, 17, 19],
    ]


# ---- crops


def test_three_crops_are_left_middle_and_right(films):
    """Of 96 x 48 pixels, three squares; the right half is brighter by 60."""
    images = [sampler(views=3, crops=3)(clip(films[12]), view) for view in range(3)]
    assert all(part.shape == (4, 48, 48, 3) for part in images)
    lefts = [part[0, :, :20].mean() for part in images]
    rights = [part[0, :, -20:].mean() for part in images]
    assert rights[0] - lefts[0] == pytest.approx(0, abs=6)
    assert rights[1] - lefts[1] == pytest.approx(60, abs=6)
    assert rights[2] - lefts[2] == pytest.approx(0, abs=6)
    assert lefts[2] - lefts[0] == pytest.approx(60, abs=6)
    # The middle crop is the stream's.
    assert (images[1] == sampler()(clip(films[12]), 0)).all()


def test_windows_and_crops_multiply(films):
    both = sampler(views=6, crops=2)
    views = [both(clip(films[20]), view) for view in range(6)]
    assert [shown(view)[0] for view in views[::2]] == [0, 6, 13]
    assert views[1][0].mean() == pytest.approx(views[0][0].mean() + 60, abs=6)


@pytest.mark.parametrize(
    ('changes', 'why'),
    [
        ({'views': 4, 'crops': 3}, 'views=4: expected a multiple of crops=3'),
        ({'kind': 'segments', 'views': 3}, 'segments give one window'),
        ({'crops': 3, 'views': 3, 'augmentation': Augmentation()}, 'training views are cut'),
    ],
)
def test_views_that_do_not_fit_crops_or_kind_are_refused(changes, why):
    with pytest.raises(ValueError, match=why):
        sampler(**changes)


# ---- mirrors


@pytest.mark.parametrize('name', shipped_datasets())
def test_labels_that_name_a_side_forbid_mirroring(name, tmp_path):
    config = load_dataset_config(name)
    records = [
        ClipRecord(clip_id=label, video=tmp_path, split='train', labels={task.name: label})
        for task in config.tasks
        for label in task.labels
    ]
    sided = sided_clips(config, records)
    for record in records:
        if names_a_side(record.clip_id):
            assert record.clip_id in sided
    expected = {
        label
        for task in config.tasks
        for label in task.labels
        if label in task.no_flip or any(label in pair for pair in task.mirrors)
    }
    assert sided == expected
    assert len(sided) < len(records) / 2


def test_a_sided_clip_is_never_mirrored(films):
    def flips(**options):
        views = sampler(
            views=30, size=(48, 96), augmentation=Augmentation(smallest_crop=1), **options
        )
        return [
            view[0, :, :20].mean() > view[0, :, -20:].mean()
            for view in (views(clip(films[12]), number) for number in range(30))
        ]

    assert 5 < sum(flips()) < 25
    assert not any(flips(sided=frozenset({'12'})))


# ---- the frame period


def test_an_interval_gives_the_frame_period(films, tmp_path):
    records = [clip(video) for video in films.values()]
    assert common_frame_period(records, recipe(tmp_path, interval=2)) == pytest.approx(0.08)
    assert common_frame_period(records, recipe(tmp_path, frame_period=0.3)) == 0.3


def test_period_of_segments_is_the_median_and_printed(films, tmp_path, capsys):
    """Clips of 0.48, 0.8 and 1.12 s, over four frames; test clips do not count."""
    records = [
        *(clip(video) for video in films.values()),
        clip(films[28], name='s', span=Span(start=0.1, end=0.9, unit='seconds')),
        clip(films[28], name='f', span=Span(start=2, end=22, unit='frames')),
        *(clip(films[12], name=str(number), split='test') for number in range(9)),
    ]
    period = common_frame_period(records, recipe(tmp_path, kind='segments'))
    assert period == pytest.approx(0.2, abs=1e-3)
    said = capsys.readouterr().out
    assert 'frame period of the stream: 0.2000 s' in said
    assert 'over 5 training clips of duration / 4' in said
    assert 'sampling.frame_period sets another' in said
    own = recipe(tmp_path, kind='segments', frame_period=0.5)
    assert common_frame_period(records, own) == 0.5


def test_one_video_of_another_rate_is_refused(films, tmp_path):
    odd = put_film(tmp_path / 'odd.mp4', 12, rate=10.0)
    records = [*(clip(video) for video in films.values()), clip(odd)]
    with pytest.raises(
        ValueError, match=r'means 0\.0800 s in .*\.mp4 and 0\.2000 s in .*odd\.mp4'
    ):
        common_frame_period(records, recipe(tmp_path, interval=2))
    # The kept rates give the same error.
    with pytest.raises(ValueError, match=r'odd\.mp4; set sampling\.frame_period'):
        common_frame_period(records, recipe(tmp_path, interval=2))


def test_no_clips_and_unreadable_videos_are_named(tmp_path):
    (tmp_path / 'no.mp4').write_bytes(b'no video')
    with pytest.raises(ValueError, match='there are no clips'):
        common_frame_period([], recipe(tmp_path, interval=2))
    with pytest.raises(RuntimeError, match=r'no\.mp4: neither this nor any other'):
        common_frame_period([clip(tmp_path / 'no.mp4')], recipe(tmp_path, interval=2))


# ---- frame rates


@pytest.fixture
def opened(monkeypatch):
    """Names of the videos that this process opens to measure them."""
    names = []
    original = rates_module.index_camera

    def noted(path, topic):
        names.append(path.name)
        return original(path, topic)

    monkeypatch.setattr(rates_module, 'index_camera', noted)
    return names


def test_a_video_is_measured_once_until_it_changes(films, tmp_path, opened):
    own = put_film(tmp_path / 'own.mp4', 12)
    records = [clip(films[12]), clip(films[20]), clip(films[20], name='again'), clip(own)]
    first = frame_rates(records, folder=tmp_path)
    assert sorted(opened) == ['12.mp4', '20.mp4', 'own.mp4']
    assert {path.name: rate.frames for (path, _), rate in first.items()} == {
        '12.mp4': 12,
        '20.mp4': 20,
        'own.mp4': 12,
    }
    assert {rate.step_ns for rate in first.values()} == {40_000_000}
    assert frame_rates(records, folder=tmp_path) == first
    assert len(opened) == 3
    put_film(own, 28, rate=10.0)
    again = frame_rates(records, folder=tmp_path)
    assert opened[3:] == ['own.mp4']
    assert (again[own, ''].frames, again[own, ''].step_ns) == (28, 100_000_000)


def test_rates_measured_before_a_kill_are_kept(films, tmp_path, opened):
    records = [clip(video) for video in films.values()]
    frame_rates(records[:2], folder=tmp_path)
    # The process died in the middle of a line.
    text = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(text.rstrip('\n')[:-4])
    opened.clear()
    assert len(frame_rates(records, folder=tmp_path)) == 3
    assert sorted(opened) == ['20.mp4', '28.mp4']
    opened.clear()
    assert len(frame_rates(records, folder=tmp_path)) == 3
    assert not opened


def test_worker_processes_measure_the_same(films, tmp_path):
    records = [clip(video) for video in films.values()]
    assert frame_rates(records, folder=tmp_path / 'a', workers=2) == frame_rates(
        records, folder=tmp_path / 'b'
    )


def test_unreadable_videos_are_left_out_and_tried_again(films, tmp_path, opened):
    (tmp_path / 'no.mp4').write_bytes(b'no video')
    one = put_film(tmp_path / 'one.mp4', 1)
    records = [clip(films[12]), clip(tmp_path / 'no.mp4'), clip(tmp_path / 'gone.mp4'), clip(one)]
    for _ in range(2):
        assert list(frame_rates(records, folder=tmp_path)) == [(films[12], '')]
    assert opened.count('12.mp4') == 1
    assert opened.count('no.mp4') == 2


def test_a_damaged_file_is_named(films, tmp_path):
    (tmp_path / FILE).write_bytes(b'\xff\xfe')
    with pytest.raises(CacheError, match=rf'{FILE}: not readable'):
        frame_rates([clip(films[12])], folder=tmp_path)


# ---- caching


def keys(tiny_model, folder, **changes):
    backbone = tiny_model().backbone
    expected = estimate_tokens(
        [], sampler(**changes), backbone, CacheRecipe(folder=folder), dataset='films'
    )
    return expected.folder.name


def test_every_setting_of_the_images_changes_the_key(tiny_model, tmp_path):
    training = {'augmentation': Augmentation()}
    strong = {'rand_augment': {'magnitude': 7}, 'random_erasing': {}}
    changes = [
        {},
        {'views': 3},
        {'views': 3, 'crops': 3},
        {'kind': 'segments'},
        {'frame_period_ns': 1},
        training,
        {**training, 'kind': 'segments'},
        {**training, 'seed': 1},
        {**training, 'sided': frozenset({'12'})},
        {'augmentation': Augmentation(rand_augment=strong['rand_augment'])},
        {'augmentation': Augmentation(rand_augment={'magnitude': 8})},
        {'augmentation': Augmentation(random_erasing=strong['random_erasing'])},
        {'augmentation': Augmentation(**strong)},
    ]
    found = [keys(tiny_model, tmp_path, **change) for change in changes]
    assert len(set(found)) == len(changes)
    # Segments ignore the period, and evaluation ignores the seed.
    assert keys(tiny_model, tmp_path, kind='segments', frame_period_ns=1) == found[3]
    assert keys(tiny_model, tmp_path, seed=1) == found[0]


def test_cached_tokens_equal_sampled_and_encoded_ones(tiny_model, films, tmp_path, capsys):
    backbone = tiny_model().backbone
    encoder = TorchEncoder(backbone, device=torch.device('cpu'))
    records = [clip(video) for video in films.values()]
    how = sampler(
        kind='segments',
        size=backbone.image_size,
        views=2,
        augmentation=Augmentation(rand_augment={}, random_erasing={'probability': 1}),
    )
    cache = CacheRecipe(folder=tmp_path, workers=2)
    before = estimate_tokens(records, how, backbone, cache, dataset='films')
    assert (before.clips, before.clips_left) == (3, 3)
    tokens = cached_tokens(records, how, backbone, encoder, cache, dataset='films')
    assert (
        f'3 of 3 clips to encode, {decimal(before.bytes_left)} of {decimal(before.bytes_left)}; '
        'the disk has room for' in capsys.readouterr().out
    )
    for record in records:
        for view in range(2):
            direct = encoder.encode(list(how(record, view)))
            torch.testing.assert_close(
                tokens.read(record.clip_id, view), direct, rtol=2e-3, atol=2e-3
            )
    after = estimate_tokens(records, how, backbone, cache, dataset='films')
    assert (after.clips_left, after.folder) == (0, before.folder)
    written = sum(path.stat().st_size for path in after.folder.glob('*.bin'))
    assert written == before.bytes_left
    check_room([after])


def test_exchanged_videos_are_encoded_again(tiny_model, tmp_path):
    """Path, names and spans are the same; only the content of the videos differs."""
    backbone = tiny_model().backbone
    encoder = TorchEncoder(backbone, device=torch.device('cpu'))
    videos = [put_film(tmp_path / '1.mp4', 12), put_film(tmp_path / '2.mp4', 28)]
    records = [clip(video, name=video.stem) for video in videos]
    how = sampler(size=backbone.image_size, views=1)
    cache = CacheRecipe(folder=tmp_path / 'cache', workers=0)
    before = cached_tokens(records, how, backbone, encoder, cache, dataset='films')
    contents = [video.read_bytes() for video in videos]
    for video, content in zip(videos, reversed(contents), strict=True):
        video.write_bytes(content)
    after = cached_tokens(records, how, backbone, encoder, cache, dataset='films')
    assert after.folder != before.folder
    assert torch.equal(after.read('1', 0), before.read('2', 0))
    assert torch.equal(after.read('2', 0), before.read('1', 0))
    assert not torch.equal(after.read('1', 0), before.read('1', 0))
