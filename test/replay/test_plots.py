# SPDX-License-Identifier: Apache-2.0
"""Plots of a replay: their number, their size, and when there is none."""

import numpy as np
import pytest
from PIL import Image

from step_ros.evaluation.ground_truth import Truth, TruthSegment
from step_ros.model.bundle_schema import TaskSpec
from step_ros.replay.plots import (
    MOST_PARTS,
    PART_SECONDS,
    plot_replay_confusion,
    plot_replay_timeline,
    timeline_parts,
)
from step_ros.replay.results import CameraPredictions
from step_ros.replay.scores import Recording

SECOND = 10**9
TASK = TaskSpec(
    name='action',
    labels=('idle', 'open', 'close'),
    counterparts={'open': 'close', 'close': 'open'},
)


def recording(seconds, *, labelled=True, seed=0):
    stamps = np.arange(1, 5 * seconds) * SECOND // 5
    scores = np.random.default_rng(seed).dirichlet(np.ones(3), len(stamps))
    truth = Truth()
    if labelled:
        truth.segments['action'] = [
            TruthSegment(label='open', start_ns=0, end_ns=2 * SECOND),
            TruthSegment(label='close', start_ns=2 * SECOND, end_ns=None),
        ]
    return Recording(
        bag='bag',
        predictions=CameraPredictions(
            topic='/front',
            first_ns=0,
            last_ns=seconds * SECOND,
            counts={},
            stamps_ns_h=stamps,
            starts_ns_h=stamps - SECOND // 5,
            scores_hk={'action': scores},
            order_evidence_h={'action': np.zeros(len(stamps))},
            events=(),
        ),
        truth=truth,
    )


@pytest.mark.parametrize(
    ('seconds', 'parts'),
    [(1, 1), (PART_SECONDS, 1), (PART_SECONDS + 1, 2), (10_000, MOST_PARTS)],
)
def test_long_recording_is_drawn_in_parts(seconds, parts):
    assert timeline_parts(recording(int(seconds))) == parts


def test_timeline_grows_with_bundles_and_repeats_its_bytes(tmp_path):
    one, other = recording(6), recording(6, seed=1)
    sizes = []
    for name, recordings in (
        ('one', {'a': one}),
        ('again', {'a': one}),
        ('two', {'a': one, 'b': other}),
        ('unlabelled', {'a': recording(6, labelled=False)}),
    ):
        path = tmp_path / f'{name}.png'
        plot_replay_timeline(path, recordings, dict.fromkeys(recordings, (TASK,)))
        with Image.open(path) as image:
            sizes.append(image.size)
    assert sizes[2][1] > sizes[0][1]
    assert (tmp_path / 'one.png').read_bytes() == (tmp_path / 'again.png').read_bytes()


def test_confusion_needs_true_labels(tmp_path):
    path = tmp_path / 'confusion.png'
    assert not plot_replay_confusion(path, {'a': [recording(3, labelled=False)]}, {'a': TASK})
    assert not path.exists()
    assert plot_replay_confusion(path, {'a': [recording(3)], 'b': []}, {'a': TASK, 'b': TASK})
    assert path.exists()
