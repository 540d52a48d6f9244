# SPDX-License-Identifier: Apache-2.0
"""The recipe of the shipped demonstrator, in miniature: from nothing to a bundle."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from step_ros.cli import app
from step_ros.model.bundle import load_bundle
from step_ros.model.weights import file_digest
from step_ros.resources import share_directory
from step_ros.training import pretrain
from step_ros.training.config import BackboneRecipe, load_recipe

pytestmark = pytest.mark.slow

SHIPPED = share_directory() / 'config' / 'training' / 'tabletop-tiny.yaml'
BACKBONE = {
    'name': 'vit_tiny_patch16_224',
    'arguments': {'patch_size': 20, 'embed_dim': 32, 'depth': 1, 'num_heads': 2},
    'image_height': 60,
    'image_width': 80,
    'token_grid': [3, 2],
    'pretraining': {
        'scenes': 2,
        'frames_per_scene': 4,
        'views': ['front'],
        'epochs': 1,
        'batch': 8,
        'learning_rate': 1e-3,
        'weight_decay': 0.05,
    },
}


def recipe(folder: Path):
    return {
        'name': 'miniature',
        'description': 'A miniature.',
        'license': 'Apache-2.0',
        'data': {
            'dataset': 'tabletop',
            'root': str(folder / 'tabletop'),
            'rendering': {
                'clips': {'train': 1, 'val': 1, 'test': 1},
                'views': ['front'],
                'width': 80,
                'height': 60,
            },
        },
        'backbone': BACKBONE,
        'sampling': {'frames': 4, 'frame_period': 0.2, 'train_views': 2, 'test_clips': 2},
        'augmentation': {'smallest_crop': 1.0, 'flip': False},
        'heads': {'options': {'attention_heads': 2}, 'epochs': 1, 'batch': 8},
        'grid': {
            'step': {},
            'without_positions': {'options': {'attention_heads': 2, 'positions': 'none'}},
        },
        'cache': {'folder': str(folder / 'cache'), 'workers': 0},
    }


def train(folder: Path):
    return CliRunner().invoke(
        app, ['train', str(folder / 'recipe.yaml'), '--output', str(folder / 'bundle')]
    )


@pytest.fixture(scope='module')
def miniature(tmp_path_factory):
    folder = tmp_path_factory.mktemp('miniature')
    (folder / 'recipe.yaml').write_text(yaml.safe_dump(recipe(folder)))
    result = train(folder)
    assert result.exit_code == 0, result.output
    return folder


def test_a_miniature_on_fewer_tokens_is_made_whole(miniature):
    bundle = load_bundle(miniature / 'bundle')
    assert bundle.spec.backbone.token_grid == (3, 2)
    assert bundle.model.backbone.grid_size == (3, 4)
    assert bundle.spec.backbone.weights == 'backbone.safetensors'
    assert (bundle.spec.description, bundle.spec.license) == ('A miniature.', 'Apache-2.0')
    assert len(bundle.spec.provenance['pretraining_loss']) == 1
    with torch.inference_mode():
        logits = bundle.model(torch.zeros(1, 4, 3, 60, 80))
    assert {task: logits_bk.shape[1] for task, logits_bk in logits.items()} == {
        'action': 16,
        'verb': 12,
        'object': 9,
    }


def test_metrics_and_card_cover_all_orders_and_runs(miniature):
    metrics = json.loads((miniature / 'bundle' / 'metrics.json').read_text())
    assert metrics == load_bundle(miniature / 'bundle').spec.metrics
    assert metrics['training_clips'] == 16
    assert metrics['test'].keys() == {'correct', 'reversed', 'shuffled'}
    assert metrics['test']['correct']['action']['clips'] == 16
    runs = {metrics['chosen_run'], *metrics['other_runs']}
    assert runs == {'step', 'without_positions'}
    card = (miniature / 'bundle' / 'README.md').read_text()
    assert '6 tokens of width' in card
    assert 'On 16 test clips' in card
    for run in metrics['other_runs']:
        assert f'| {run} | action |' in card
    for order in ('in order', 'reversed at test time', 'shuffled at test time'):
        assert f'| {metrics["chosen_run"]}, frames {order} | action |' in card


def test_trained_again_it_renders_and_pretrains_nothing(miniature, monkeypatch):
    digest = load_bundle(miniature / 'bundle').spec.heads.digest
    videos = {path: path.stat().st_mtime_ns for path in miniature.rglob('*.mp4')}
    assert len(videos) == 48

    def refuse(*_args, **_options):
        raise AssertionError('pre-trained again')

    monkeypatch.setattr(pretrain, 'pretrain_encoder', refuse)
    assert train(miniature).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in miniature.rglob('*.mp4')} == videos
    assert load_bundle(miniature / 'bundle').spec.heads.digest == digest


def test_a_checkpoint_of_another_encoder_is_refused(miniature, tmp_path):
    """The heads would belong to other tokens."""
    content = recipe(miniature)
    content['seed'] = 0
    content['backbone'] = {**BACKBONE, 'pretraining': {**BACKBONE['pretraining'], 'batch': 4}}
    path = tmp_path / 'recipe.yaml'
    path.write_text(yaml.safe_dump(content))
    result = CliRunner().invoke(app, ['train', str(path), '--output', str(miniature / 'bundle')])
    assert result.exit_code == 1
    assert 'of a fit with other settings' in result.output


def test_clips_rendered_in_another_way_are_refused(miniature, tmp_path):
    content = recipe(miniature)
    content['data']['rendering']['rate'] = 20.0
    path = tmp_path / 'recipe.yaml'
    path.write_text(yaml.safe_dump(content))
    result = CliRunner().invoke(app, ['train', str(path), '--output', str(tmp_path / 'bundle')])
    assert result.exit_code == 1
    assert 'choose another folder, or delete this one' in result.output.replace('\n', ' ')


def test_a_pretrained_encoder_depends_on_its_settings_alone(tmp_path):
    settings = BackboneRecipe.model_validate(BACKBONE)
    one = pretrain.pretrained_backbone(settings, tmp_path / 'one', seed=0)
    torch.rand(7)
    other = pretrain.pretrained_backbone(settings, tmp_path / 'other', seed=0)
    assert one.digest == other.digest
    assert not one.learns
    (path,) = (tmp_path / 'one').glob('*.safetensors')
    assert one.digest == file_digest(path)
    assert pretrain.pretrained_backbone(settings, tmp_path / 'one', seed=1).digest != one.digest
    (loss,) = pretrain.pretraining_losses(settings, tmp_path / 'one', seed=0)
    assert loss > 0


def test_the_shipped_recipe_makes_what_ships():
    """The shipped bundle was trained with these settings."""
    recipe = load_recipe(SHIPPED)
    spec = load_bundle(share_directory() / 'models' / 'tabletop-tiny').spec
    assert (recipe.sampling.frames, recipe.sampling.frame_period) == (
        spec.frames,
        spec.frame_period,
    )
    assert (recipe.backbone.image_height, recipe.backbone.image_width) == (
        spec.image.height,
        spec.image.width,
    )
    assert recipe.backbone.name == spec.backbone.name
    assert recipe.backbone.arguments == spec.backbone.arguments
    assert recipe.heads.options.items() <= spec.heads.options.items()
    assert recipe.description == spec.description
    before, pretraining = spec.provenance['recipe'], recipe.backbone.pretraining
    for key in ('scenes', 'frames_per_scene', 'epochs', 'batch', 'learning_rate', 'weight_decay'):
        assert getattr(pretraining, key) == before['encoder'][key]
    for key in ('epochs', 'batch', 'learning_rate', 'weight_decay'):
        assert getattr(recipe.heads, key) == before['heads'][key]
    assert recipe.data.rendering.clips == {
        'train': before['heads']['clips_per_action'],
        'val': before['evaluation']['validation_clips_per_action'],
        'test': before['evaluation']['test_clips_per_action'],
    }
