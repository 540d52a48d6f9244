# SPDX-License-Identifier: Apache-2.0
"""The plots of a report: complete, small, reproducible, and equal to the predictions."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from step_ros.datasets.registry import read_dataset
from step_ros.experiments.plots import (
    has_shares,
    plot_attention,
    plot_labels,
    plot_shares,
    plot_tsne,
)
from step_ros.experiments.predictions import read_predictions
from step_ros.reporting.confusion import paired_order, plot_confusion, save_picture

MOST_BYTES = 150_000


@pytest.fixture(scope='module')
def dataset(light_ablation):
    data = light_ablation[0].spec.recipe.data
    return read_dataset(data.dataset, data.root, **data.options)


@pytest.fixture(scope='module')
def predictions(light_ablation, dataset):
    return [
        read_predictions(light_ablation[0], place, dataset)
        for place in ('probes/attentive', 'probes/step')
    ]


def check_picture(path):
    """Return a picture's pixels after checking that it is not blank and not too large."""
    assert path.stat().st_size < MOST_BYTES
    with Image.open(path) as image:
        image.load()
        pixels = np.asarray(image.convert('RGB'))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10
    return pixels


labelled = st.lists(st.sampled_from('abcdefgh'), unique=True, min_size=1)


@given(labelled)
def test_counterparts_are_neighbours_and_no_label_is_lost(labels):
    counterparts = {'a': 'b', 'b': 'a', 'c': 'h', 'h': 'c', 'e': 'f', 'f': 'e'}
    ordered, pairs = paired_order(labels, counterparts)
    assert sorted(ordered) == sorted(labels)
    assert [place for pair in pairs for place in pair] == list(range(2 * len(pairs)))
    for one, other in pairs:
        assert counterparts[ordered[one]] == ordered[other]
    rest = set(ordered[2 * len(pairs) :])
    assert not any(counterparts.get(label) in labels for label in rest)


def test_predictions_agree_with_the_metrics(light_ablation, predictions):
    for run, row in zip(predictions, ('attentive', 'step'), strict=True):
        metrics = light_ablation[0].run('probes', row).metrics['all']['correct']['action']
        assert run.labels == ('brighten', 'darken', 'flicker')
        assert run.pairs == ((0, 1),)
        np.testing.assert_allclose(run.confusion_kk.sum(axis=1), 1)
        for place, label in enumerate(run.labels):
            assert run.recall_k[place] == pytest.approx(metrics['labels'][label]['top1'], abs=1e-4)
        np.testing.assert_array_less(run.predicted_c, 3)


@pytest.mark.parametrize('plot', [plot_confusion, plot_tsne, plot_labels])
def test_pictures_are_small_and_reproducible(plot, predictions, tmp_path):
    plot(tmp_path / 'new' / 'one.png', predictions)
    check_picture(tmp_path / 'new' / 'one.png')
    plot(tmp_path / 'two.png', predictions)
    assert (tmp_path / 'new' / 'one.png').read_bytes() == (tmp_path / 'two.png').read_bytes()


def test_confusion_plot_shows_the_confusion(predictions, tmp_path):
    targets_c = predictions[1].targets_c
    correct = replace(predictions[1], predicted_c=targets_c)
    wrong = replace(predictions[1], predicted_c=(targets_c + 1) % 3)
    for name, run in (('correct', correct), ('wrong', wrong)):
        plot_confusion(tmp_path / f'{name}.png', [run])
    one, other = (check_picture(tmp_path / f'{name}.png') for name in ('correct', 'wrong'))
    assert (one != other).any()
    assert correct.recall_k.tolist() == [1, 1, 1]
    assert wrong.recall_k.tolist() == [0, 0, 0]
    assert wrong.confusion_kk[0].tolist() == [0, 1, 0, 0]


def test_share_plot_is_for_tables_whose_shares_differ(light_ablation, tmp_path):
    result, _ = light_ablation
    assert [name for name in result.spec.tables if has_shares(result, name)] == ['shares']
    plot_shares(tmp_path / 'shares.png', result, 'shares')
    check_picture(tmp_path / 'shares.png')


def test_attention_is_drawn_for_step_alone(light_ablation, predictions, dataset, tmp_path):
    result, _ = light_ablation
    caption = plot_attention(tmp_path / 'attention.png', result, predictions, dataset)
    assert caption is not None
    assert '*brighten*' in caption
    assert 'STEP (predicts *' in caption
    assert 'Attentive' not in caption
    pixels = check_picture(tmp_path / 'attention.png')
    # Four of eight frames, and below them the maps of one run, each with a margin.
    assert pixels.shape == (2 * 128, 4 * 168, 3)
    frames, maps = pixels[:128], pixels[128:]
    assert (frames != maps).any()


def test_runs_without_attention_get_no_picture(light_ablation, predictions, dataset, tmp_path):
    path = tmp_path / 'attention.png'
    assert plot_attention(path, light_ablation[0], predictions[:1], dataset) is None
    assert not path.exists()


def test_picture_keeps_its_colours(tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    image[:4] = (200, 30, 60)
    save_picture(tmp_path / 'a' / 'b.png', image)
    with Image.open(tmp_path / 'a' / 'b.png') as read:
        np.testing.assert_array_equal(np.asarray(read.convert('RGB')), image)
