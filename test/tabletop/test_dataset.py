# SPDX-License-Identifier: Apache-2.0
"""The tabletop on disk: a dataset like any other."""

import numpy as np
import pytest

from step_ros.datasets.check import check_dataset
from step_ros.datasets.frames import index_video, read_frames
from step_ros.datasets.registry import read_dataset
from step_ros.datasets.schema import load_dataset_config
from step_ros.io.errors import DatasetError
from step_ros.tabletop.dataset import FIRST_SEED, Rendering, render_dataset
from step_ros.tabletop.simulator import COUNTERPARTS, TASKS, render_clip

pytestmark = pytest.mark.slow

SMALL = Rendering(clips={'train': 2, 'val': 1, 'test': 1}, views=('front', 'top'), rate=5.0)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tabletop')
    render_dataset(folder, SMALL)
    return folder


def frames_of(path):
    index = index_video(path)
    return read_frames(index, list(range(len(index)))).astype(int)


def test_configuration_matches_the_vocabulary():
    config = load_dataset_config('tabletop')
    assert {task.name: task.labels for task in config.tasks} == TASKS
    assert {task.name: task.counterparts for task in config.tasks} == COUNTERPARTS


def test_every_split_holds_every_action(root):
    found = check_dataset(read_dataset('tabletop', root), decode=True)
    assert found.clean
    assert found.decoded == 4 * len(TASKS['action'])
    for label, parts in found.counts['action'].items():
        by_split = {
            split: sum(n for key, n in parts.items() if key[0] == split) for split in SMALL.clips
        }
        assert by_split == SMALL.clips, label


def test_video_shows_the_rendered_frames(root):
    record = next(r for r in read_dataset('tabletop', root).records if r.view == 'top')
    action, number = record.labels['action'], int(record.video.name[:6])
    clip = render_clip(
        action,
        seed=FIRST_SEED + number,
        split=record.split,
        camera='top',
        size=SMALL.size,
        rate=SMALL.rate,
    )
    shown = frames_of(record.video)
    assert len(shown) == len(clip.frames_thwc)
    # H.264 halves the resolution of colours and smooths the sensor's noise.
    assert np.abs(shown - clip.frames_thwc).mean() < 8
    assert np.abs(shown - clip.frames_thwc[::-1]).max() > 100


def test_existing_videos_are_not_rendered_again(root):
    kept, lost = sorted(root.glob('train/*.mp4'))[:2]
    before, shown = kept.stat().st_mtime_ns, frames_of(lost)
    lost.unlink()
    totals = []
    render_dataset(root, SMALL, progress=lambda done, total: totals.append(total) or done)
    assert totals == [1]
    assert kept.stat().st_mtime_ns == before
    # The video encoder is not deterministic to the bit.
    np.testing.assert_allclose(frames_of(lost), shown, atol=16)


def test_folder_of_another_rendering_is_refused(root, tmp_path):
    with pytest.raises(DatasetError, match='choose another folder'):
        render_dataset(root, Rendering(clips=SMALL.clips, views=SMALL.views, rate=7.0))
    (tmp_path / 'mine.txt').write_text('keep')
    with pytest.raises(DatasetError, match='expected an empty folder'):
        render_dataset(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']


def test_unfinished_rendering_is_not_read(tmp_path):
    (tmp_path / 'rendering.json').write_text('{}')
    with pytest.raises(DatasetError, match=r'annotations\.csv'):
        read_dataset('tabletop', tmp_path)
