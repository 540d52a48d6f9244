# SPDX-License-Identifier: Apache-2.0
"""From videos and a CSV file to a bundle that streams, with the tabletop's encoder."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from step_ros.cli import app
from step_ros.datasets.registry import read_dataset
from step_ros.encoders.base import TorchEncoder
from step_ros.io.video import VideoWriter
from step_ros.model.bundle import load_bundle
from step_ros.streaming.frame import Frame
from step_ros.streaming.recogniser import StreamingRecogniser
from step_ros.training.feature_cache.cache import FeatureCache
from step_ros.training.sampler import Sampler

pytestmark = pytest.mark.slow

ACTIONS = ('brighten', 'darken', 'flicker')
PAIRS = {'brighten': 'darken', 'darken': 'brighten'}
COUNTS = {'train': 12, 'val': 3, 'test': 5}
STAMPS_NS = np.arange(20) * 100_000_000


def film(action, seed):
    """One scene that brightens, darkens or flickers: the same frames in other orders."""
    rng = np.random.default_rng(seed)
    scene = np.random.default_rng(0).integers(80, 256, (6, 8, 3)) - rng.integers(0, 20, (6, 8, 3))
    scene = scene.repeat(20, axis=0).repeat(20, axis=1)
    light = np.linspace(0.15, 1, 20) ** rng.uniform(0.7, 1.4)
    if action == 'darken':
        light = light[::-1]
    elif action == 'flicker':
        light = rng.permutation(light)
    return np.round(scene * light[:, None, None, None]).astype(np.uint8)


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    """A user's folder: videos of single actions and `annotations.csv`."""
    root = tmp_path_factory.mktemp('dataset')
    rows = []
    for part, (split, count) in enumerate(COUNTS.items()):
        for number in range(count):
            for place, action in enumerate(ACTIONS):
                name = f'{split}-{number}-{place}.mp4'
                with VideoWriter(root / name, size=(160, 120), rate=10.0) as writer:
                    images = film(action, 1000 * part + 10 * number + place)
                    for image, stamp_ns in zip(images, STAMPS_NS, strict=True):
                        writer.write(image, int(stamp_ns))
                rows.append([name, '', '', split, action])
    with (root / 'annotations.csv').open('w', newline='') as file:
        csv.writer(file).writerows([['video', 'start', 'end', 'split', 'action'], *rows])
    return root


def recipe(root, cache, **changes):
    return {
        'name': 'kitchen',
        'data': {'dataset': 'csv', 'root': str(root), 'counterparts': {'action': PAIRS}},
        'backbone': {'bundle': 'tabletop-tiny'},
        'sampling': {'frames': 8, 'interval': 2, 'train_views': 3, 'test_clips': 2},
        'heads': {
            'options': {'attention_heads': 4},
            'epochs': 60,
            'batch': 12,
            'learning_rate': 0.003,
        },
        'augmentation': {'smallest_crop': 1.0, 'flip': False},
        'cache': {'folder': str(cache), 'workers': 0},
        **changes,
    }


def train(path, content, output):
    path.write_text(yaml.safe_dump(content))
    return CliRunner().invoke(app, ['train', str(path), '--output', str(output)])


@pytest.fixture(scope='module')
def trained(videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp('trained')
    content = recipe(
        videos,
        folder / 'cache',
        grid={'step': {}, 'still': {'learning_rate': 1e-9}},
    )
    result = train(folder / 'recipe.yaml', content, folder / 'bundle')
    assert result.exit_code == 0, result.output
    return folder, result.output


def test_reversed_frames_are_predicted_as_the_counterpart(trained):
    folder, output = trained
    metrics = json.loads((folder / 'bundle' / 'metrics.json').read_text())
    assert metrics['chosen_run'] == 'step'
    right = metrics['test']['correct']['action']
    assert right['clips'] == 15
    assert right['symmetric_top1'] >= 0.8
    assert metrics['test']['reversed']['action']['to_counterpart'] >= 0.8
    assert right['labels'].keys() == set(ACTIONS)
    assert 'test, frames reversed: action' in output


def test_the_bundle_predicts_well_in_the_stream(trained):
    folder, _ = trained
    bundle = load_bundle(folder / 'bundle')
    assert bundle.spec.frame_period == pytest.approx(0.2, abs=1e-3)
    assert bundle.spec.tasks[0].labels == tuple(sorted(ACTIONS))
    assert bundle.spec.tasks[0].counterparts == PAIRS
    recogniser = StreamingRecogniser(
        bundle, TorchEncoder(bundle.model.backbone, device=torch.device('cpu'))
    )
    right = []
    for action in ('brighten', 'darken'):
        for seed in range(3):
            recogniser.reset()
            hypotheses = [
                hypothesis
                for image, stamp_ns in zip(film(action, 9000 + seed), STAMPS_NS, strict=True)
                for hypothesis in recogniser.process(
                    [Frame(camera='c', stamp_ns=10**9 + int(stamp_ns), load=lambda i=image: i)]
                )
            ]
            scores_k = np.mean([each.tasks[0].scores_k for each in hypotheses], axis=0)
            right.append(bundle.spec.tasks[0].labels[int(scores_k.argmax())] == action)
    assert np.mean(right) >= 0.8


@pytest.fixture(scope='module')
def coarse(videos, tmp_path_factory):
    """Train on averages of 2 x 2 patches; return the folder."""
    folder = tmp_path_factory.mktemp('coarse')
    content = recipe(
        videos, folder / 'cache', backbone={'bundle': 'tabletop-tiny', 'token_grid': [3, 4]}
    )
    result = train(folder / 'recipe.yaml', content, folder / 'bundle')
    assert result.exit_code == 0, result.output
    return folder


def test_with_a_token_grid_the_stream_equals_training(coarse, videos):
    bundle = load_bundle(coarse / 'bundle')
    assert bundle.spec.backbone.token_grid == (3, 4)
    encoder = TorchEncoder(bundle.model.backbone, device=torch.device('cpu'))
    caches = [FeatureCache(path.parent) for path in (coarse / 'cache').glob('*/manifest.json')]
    assert {cache.spec.token_grid for cache in caches} == {(3, 4)}
    (held_out,) = (cache for cache in caches if cache.spec.views == 2)
    sampler = Sampler(
        frames=8, frame_period_ns=200_000_000, size=bundle.model.backbone.image_size, views=2
    )
    recogniser = StreamingRecogniser(bundle, encoder, order_evidence=False)
    assert not recogniser.not_streaming_reason
    right = []
    for record in read_dataset('csv', videos).records:
        if record.split != 'test':
            continue
        images = sampler(record, 1)
        kept_tnd = held_out.read(record.clip_id, 1)
        assert kept_tnd.shape == (8, 12, 128)
        # The cache holds half floats.
        torch.testing.assert_close(kept_tnd, encoder.encode(list(images)), rtol=2e-3, atol=2e-3)
        recogniser.reset()
        *_, latest = (
            hypothesis
            for place, image in enumerate(images)
            for hypothesis in recogniser.process(
                [Frame(camera='c', stamp_ns=(place + 5) * 200_000_000, load=lambda i=image: i)]
            )
        )
        with torch.inference_mode():
            logits_1k = bundle.model.predict(kept_tnd[None])['action']
        expected_k = (logits_1k / bundle.spec.tasks[0].temperature).softmax(dim=-1)[0].numpy()
        np.testing.assert_allclose(latest.tasks[0].scores_k, expected_k, atol=1e-2)
        label = bundle.spec.tasks[0].labels[int(latest.tasks[0].scores_k.argmax())]
        right.append(label == record.labels['action'])
    assert np.mean(right) >= 0.7


def test_with_a_token_grid_evaluate_and_teach_work(coarse, videos):
    scores = coarse / 'scores.json'
    given = [str(coarse / 'bundle'), 'csv', str(videos), '--json', str(scores)]
    result = CliRunner().invoke(app, ['evaluate', *given, '--cache', str(coarse / 'evaluated')])
    assert result.exit_code == 0, result.output
    found = json.loads(scores.read_text())['orders']['correct']['action']
    expected = load_bundle(coarse / 'bundle').spec.metrics['test']['correct']['action']
    assert found['top1'] == pytest.approx(expected['top1'], abs=0.1)
    given = [str(coarse / 'bundle'), str(videos), '--output', str(coarse / 'taught')]
    result = CliRunner().invoke(app, ['teach', *given])
    assert result.exit_code == 0, result.output
    extended = load_bundle(coarse / 'taught')
    assert extended.spec.backbone.token_grid == (3, 4)
    assert extended.model_id != load_bundle(coarse / 'bundle').model_id


def test_trained_again_it_reads_the_cache(trained, videos):
    folder, _ = trained
    before = {path: path.stat().st_mtime_ns for path in (folder / 'cache').rglob('*.bin')}
    digest = load_bundle(folder / 'bundle').spec.heads.digest
    result = CliRunner().invoke(
        app, ['train', str(folder / 'recipe.yaml'), '--output', str(folder / 'bundle')]
    )
    assert result.exit_code == 0, result.output
    assert {path: path.stat().st_mtime_ns for path in (folder / 'cache').rglob('*.bin')} == before
    assert load_bundle(folder / 'bundle').spec.heads.digest == digest


def test_heads_of_different_tokens_are_fitted_at_once(videos, tmp_path):
    content = recipe(
        videos,
        tmp_path / 'cache',
        grid={'linear': {'name': 'linear', 'options': {}}, 'step': {}},
        sampling={'frames': 8, 'interval': 2, 'train_views': 1, 'test_clips': 1},
    )
    content['heads']['epochs'] = 1
    result = train(tmp_path / 'recipe.yaml', content, tmp_path / 'bundle')
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / 'bundle' / 'metrics.json').read_text())
    assert metrics['validation_top1'].keys() == {'linear', 'step'}
    assert load_bundle(tmp_path / 'bundle').spec.heads.name == metrics['chosen_run']
    assert 'tensorboard --logdir' in result.output
    assert list((tmp_path / 'bundle.tensorboard').glob('events.out.*'))


def test_two_processes_make_the_same_model_as_one(videos, tmp_path):
    metrics, heads = [], []
    for processes in (1, 2):
        folder = tmp_path / f'{processes}'
        folder.mkdir()
        content = recipe(videos, folder / 'cache')
        content['heads']['epochs'] = 12
        (folder / 'recipe.yaml').write_text(yaml.safe_dump(content))
        subprocess.run(
            [
                *(sys.executable, '-m', 'torch.distributed.run', '--standalone'),
                *('--nproc-per-node', str(processes), '-m', 'step_ros.cli', 'train'),
                *(str(folder / 'recipe.yaml'), '--output', str(folder / 'bundle')),
            ],
            check=True,
            capture_output=True,
            timeout=250,
            env={**os.environ, 'CUDA_VISIBLE_DEVICES': ''},
        )
        metrics.append(json.loads((folder / 'bundle' / 'metrics.json').read_text()))
        heads.append(load_bundle(folder / 'bundle').model.heads.state_dict())
    assert metrics[0]['test'] == metrics[1]['test']
    assert metrics[0]['loss']['heads'] == pytest.approx(metrics[1]['loss']['heads'], abs=1e-3)
    for key, tensor in heads[0].items():
        torch.testing.assert_close(tensor, heads[1][key], atol=2e-3, rtol=1e-2)


@pytest.mark.parametrize(
    ('changes', 'why'),
    [
        ({'data': {'dataset': 'cvs', 'root': '.'}}, 'cvs'),
        ({'sampling': {'frames': 8, 'interval': None}}, 'give an interval or a frame_period'),
        ({'backbone': {}}, 'either a bundle or the name'),
        (
            {'backbone': {'bundle': 'tabletop-tiny', 'token_grid': [3, 5]}},
            'token grid 3 x 5 does not divide the grid of 6 x 8 tokens',
        ),
        ({'backbone': {'bundle': 'nothing'}}, "'nothing' is neither a folder nor one of"),
        ({'heads': {'name': 'stepp'}}, "head 'stepp' is unknown"),
        ({'heads': {'option': {}}}, 'heads.option'),
        ({'grid': {'one': {'rate': 1}}}, 'rate'),
    ],
)
def test_a_wrong_recipe_is_refused_without_a_traceback(changes, why, videos, tmp_path):
    content = recipe(videos, tmp_path / 'cache', **changes)
    if 'root' in changes.get('data', {}):
        content['data']['root'] = str(videos)
    result = train(tmp_path / 'recipe.yaml', content, tmp_path / 'bundle')
    assert result.exit_code == 1
    assert why in result.output
    assert 'Traceback' not in result.output
    assert not (tmp_path / 'bundle').exists()


def test_too_many_unusable_clips_stop_training(videos, tmp_path):
    broken = tmp_path / 'broken'
    broken.mkdir()
    for path in videos.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / 'train-0-0.mp4').write_bytes(b'no video')
    (broken / 'train-0-1.mp4').unlink()
    result = train(
        tmp_path / 'recipe.yaml', recipe(broken, tmp_path / 'cache'), tmp_path / 'bundle'
    )
    assert result.exit_code == 1
    assert '2 of 60 clips cannot be used' in result.output
    assert 'train-0-0' in result.output
    assert 'train-0-1' in result.output


def test_mixed_frame_rates_are_refused_with_the_mend(videos, tmp_path):
    mixed = tmp_path / 'mixed'
    mixed.mkdir()
    for path in videos.iterdir():
        (mixed / path.name).write_bytes(path.read_bytes())
    with VideoWriter(mixed / 'val-0-0.mp4', size=(160, 120), rate=25.0) as writer:
        for frame in range(40):
            writer.write(np.zeros((120, 160, 3), np.uint8), frame * 40_000_000)
    result = train(
        tmp_path / 'recipe.yaml', recipe(mixed, tmp_path / 'cache'), tmp_path / 'bundle'
    )
    assert result.exit_code == 1
    assert 'val-0-0.mp4' in result.output
    assert 'set sampling.frame_period, in seconds' in result.output
