"""Fixtures for ablations: videos of a light that goes up or down, and a grid of heads on them."""

import csv

import numpy as np
import pytest
import yaml

from step_ros.data.video_writer import VideoWriter
from step_ros.training.ablate import ablate
from step_ros.training.ablation_file import load_ablation

ACTIONS = ('brighten', 'darken', 'flicker')
COUNTS = {'train': 5, 'test': 3}
FRAMES, PERIOD_NS = 16, 100_000_000

ATTENTIVE = {'title': 'Attentive probing', 'heads': {'name': 'attentive'}}
# Positions that matter from the first step on: a few epochs are enough to tell orders apart.
STEP = {'title': 'STEP', 'options': {'position_std': 1.0}}
COLUMNS = [
    {'title': 'parameters', 'metric': 'parameters'},
    {'title': 'top-1', 'metric': 'top1', 'published': 'top1'},
    {'title': 'nearly symmetric', 'metric': 'symmetric_top1'},
    {'title': 'calibration error', 'metric': 'calibration_error'},
    {'title': 'top-1, reversed', 'metric': 'top1', 'order': 'reversed'},
    {'title': 'top-1, shuffled', 'metric': 'top1', 'order': 'shuffled'},
]


def _film(action, seed):
    """Return one scene whose light goes up, down or at random: the same frames, reordered."""
    rng = np.random.default_rng(seed)
    scene = np.random.default_rng(0).integers(80, 256, (6, 8, 3)) - rng.integers(0, 20, (6, 8, 3))
    scene = scene.repeat(20, axis=0).repeat(20, axis=1)
    light = np.linspace(0.15, 1, FRAMES) ** rng.uniform(0.7, 1.4)
    if action == 'darken':
        light = light[::-1]
    elif action == 'flicker':
        light = rng.permutation(light)
    return np.round(scene * light[:, None, None, None]).astype(np.uint8)


@pytest.fixture(scope='session')
def light_videos(tmp_path_factory):
    """Write 48 small videos of three actions in two views, and `annotations.csv`."""
    root = tmp_path_factory.mktemp('lights')
    rows = [['video', 'start', 'end', 'split', 'view', 'action']]
    for split, count in COUNTS.items():
        for view in ('front', 'top'):
            for number in range(count):
                for action in ACTIONS:
                    name = f'{split}-{view}-{number}-{action}.mp4'
                    with VideoWriter(root / name, size=(160, 120), rate=10.0) as writer:
                        for index, image in enumerate(_film(action, seed=len(rows))):
                            writer.write(image, index * PERIOD_NS)
                    rows.append([name, '', '', split, view, action])
    with (root / 'annotations.csv').open('w', newline='') as file:
        csv.writer(file).writerows(rows)
    return root


def _side(table, row, column):
    return {'table': table, 'row': row, 'column': column}


@pytest.fixture(scope='session')
def light_content(light_videos, tmp_path_factory):
    """Make the content of an ablation file: `light_content(**changes)`."""
    cache = tmp_path_factory.mktemp('cache')

    def content(**changes):
        return {
            'name': 'lights',
            'title': 'Lights',
            'intro': 'A grid for the tests.',
            'recipe': {
                'name': 'lights',
                'data': {
                    'dataset': 'csv',
                    'root': str(light_videos),
                    'counterparts': {'action': {'brighten': 'darken', 'darken': 'brighten'}},
                },
                'backbone': {'bundle': 'tabletop-tiny'},
                'sampling': {'frames': 8, 'interval': 2, 'train_views': 1, 'test_clips': 1},
                'augmentation': {'smallest_crop': 1.0, 'flip': False},
                'heads': {
                    'options': {'attention_heads': 4},
                    'epochs': 4,
                    'batch': 10,
                    'learning_rate': 0.003,
                },
                'cache': {'folder': str(cache), 'workers': 0},
            },
            'pictured': ['probes/attentive', 'probes/step'],
            'tables': {
                'probes': {
                    'title': 'Probing mechanisms',
                    'source': 'STEP (long) Table 1',
                    'published': ['step-long/Table 1'],
                    'task': 'action',
                    'columns': COLUMNS,
                    'rows': {
                        'linear': {'title': 'Linear probing', 'heads': {'name': 'linear'}},
                        'attentive': {**ATTENTIVE, 'published': 'attentive'},
                        'self-attention': {
                            'title': 'Self-attention probing',
                            'heads': {'name': 'self-attention'},
                        },
                        'step': {**STEP, 'published': 'step'},
                    },
                },
                'shares': {
                    'title': 'Little data',
                    'note': 'Shares of the clips of a label.',
                    'task': 'action',
                    'columns': COLUMNS[1:3],
                    'rows': {
                        'attentive-20': {
                            **ATTENTIVE,
                            'title': 'Attentive, 20 %',
                            'share': 0.2,
                        },
                        'step-20': {**STEP, 'title': 'STEP, 20 %', 'share': 0.2},
                        'attentive-100': {**ATTENTIVE, 'title': 'Attentive, 100 %'},
                        'step-100': STEP,
                    },
                },
                'views': {
                    'title': 'Views never seen',
                    'task': 'action',
                    'columns': [
                        {'title': 'trained', 'metric': 'top1', 'view': 'trained'},
                        {'title': 'unseen', 'metric': 'top1', 'view': 'unseen'},
                    ],
                    'rows': {'step': {**STEP, 'views': ['front']}},
                },
            },
            'findings': [
                {
                    'says': 'Attentive probing does not see order.',
                    'source': 'STEP (long) Table 2',
                    'figure': _side('probes', 'attentive', 'top-1'),
                    'against': _side('probes', 'attentive', 'top-1, reversed'),
                    'equal': True,
                },
                {
                    'says': 'STEP is more than perfect.',
                    'source': 'nowhere',
                    'figure': _side('probes', 'step', 'top-1'),
                    'against': _side('probes', 'attentive', 'top-1'),
                    'at_least': 101,
                },
            ],
            **changes,
        }

    return content


@pytest.fixture(scope='session')
def light_ablation(light_content, tmp_path_factory):
    """Run that ablation: its result, and its folder."""
    folder = tmp_path_factory.mktemp('ablation')
    path = folder / 'lights.yaml'
    path.write_text(yaml.safe_dump(light_content()))
    return ablate(load_ablation(path), folder / 'out'), folder / 'out'
